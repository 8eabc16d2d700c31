"""The one rounding rule from presentation values to stored grey levels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def quantise(values: NDArray[np.floating[Any]], bits: int) -> NDArray[Any]:
    """Return ``floor(v * (2**bits - 1) + 0.5)`` as uint8 or uint16, clipped to range.

    Rounding half up is stated because the bytes of a sample depend on it; numpy's own rounding is
    half to even.

    Args:
        values: Presentation values in [0, 1], 0 is black; any shape.
        bits: 8 or 16.

    Raises:
        ValueError: ``bits`` is neither 8 nor 16.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits is 8 or 16, got {bits}")
    top = (1 << bits) - 1
    levels = values * np.float64(top)
    levels += 0.5
    np.clip(levels, 0, top, out=levels)  # the cast below is then the floor
    return levels.astype(np.uint8 if bits == 8 else np.uint16)
