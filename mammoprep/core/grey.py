"""The one rounding rule from presentation values to stored grey levels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16  # values at a time: they stay in the processor's cache


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
    flat = np.ascontiguousarray(values).reshape(-1)
    out = np.empty(flat.shape, np.uint8 if bits == 8 else np.uint16)
    levels = np.empty(min(_BLOCK, flat.size), np.float64)
    for first in range(0, flat.size, _BLOCK):
        part = flat[first : first + _BLOCK]
        block = levels[: part.size]
        block[:] = part
        block *= top
        block += 0.5
        np.clip(block, 0, top, out=block)  # the cast below is then the floor
        out[first : first + _BLOCK] = block
    return out.reshape(values.shape)
