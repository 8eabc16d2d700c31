"""A mask -> the part of the picture around it."""

import cv2
import numpy as np
from numpy.typing import NDArray

MARGIN = 0.25  # of the mask's box, on each side: a lesion is judged by its edge, too
Slices = tuple[slice, slice]


def around(mask: NDArray[np.uint8], shape: tuple[int, int], margin: float = MARGIN) -> Slices:
    """Return the rows and columns of the box around all that a mask sets.

    The box has a margin, then the proportions of ``shape`` (what it will be resized to), and lies
    within the picture: it is moved there, and cut where it is larger. An empty mask gives the whole
    picture.

    Args:
        mask: (rows, columns), set where it is not 0.
        shape: (rows, columns) that the part will be resized to.
        margin: Share of the box's height and width that is added on each side.
    """
    rows, columns = mask.shape
    left, top, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))
    if not width:
        return slice(0, rows), slice(0, columns)
    high, wide = height * (1 + 2 * margin), width * (1 + 2 * margin)
    proportion = shape[1] / shape[0]
    high, wide = max(high, wide / proportion), max(wide, high * proportion)
    return _within(top + height / 2, high, rows), _within(left + width / 2, wide, columns)


def _within(middle: float, length: float, limit: int) -> slice:
    whole = min(max(round(length), 1), limit)
    first = min(max(round(middle - whole / 2), 0), limit - whole)
    return slice(first, first + whole)
