"""Does a rendered picture have greys, or is it nearly black, nearly white or burnt out?

Whatever made the grey values: a header's window, an option, or none at all.
"""

import numpy as np
from numpy.typing import NDArray

from mammoprep.decode._range import DARK, DARK_QUANTILE, LEAST_OF_SIXTEEN

UNUSED, SATURATED = "range_unused", "voi_saturated"
WHITE = 1 - 1 / 512  # what 8 bits round to white
# Of what is brighter than a quarter, which is the tissue and not the air around it. In six real
# mammograms the share is 0.000, in a frame of noise 0.40, in a radiograph on white 0.55, and 1.0
# where no grey is left: a wide gap, on few files.
MOST_WHITE = 2 / 3


def doubts(
    pixels: NDArray[np.float32],
    padding: NDArray[np.bool_] | None,
    *,
    windowed: bool,
    deep: bool = False,
) -> tuple[str, ...]:
    """Return a warning where presentation values leave most of the greys out.

    Args:
        pixels: (rows, columns) in [0, 1], a whole picture at any resolution.
        padding: Pixels that take part in nothing, or None.
        windowed: A window, a table or a range made the values, and not all that can be stored.
        deep: They are all that 16 bits can store, which values of fewer bits do not reach.
    """
    seen = pixels.ravel() if padding is None else pixels[~padding]
    if seen.size == 0:
        return ()
    if _narrow(seen, deep=deep):
        return (UNUSED,)
    lit = seen[seen > DARK]
    burnt = windowed and np.count_nonzero(lit >= WHITE) >= MOST_WHITE * lit.size
    return (SATURATED,) if burnt else ()


def _narrow(seen: NDArray[np.float32], *, deep: bool) -> bool:
    """Return whether values stay at the black end, or at the white one: the same, inverted."""
    low, high = np.quantile(seen, (1 - DARK_QUANTILE, DARK_QUANTILE))
    if high < DARK or 1 - low < DARK:
        return True
    return deep and bool(seen.max() < LEAST_OF_SIXTEEN or 1 - seen.min() < LEAST_OF_SIXTEEN)
