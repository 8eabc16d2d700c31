"""Pixels that the device never measured (PS3.3 C.7.5.1.1.2)."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
MOST_SHARE = 0.98
MOST_INSIDE = 0.001


def find_padding(
    stored: NDArray[Any], limits: tuple[int, int] | None
) -> tuple[Mask | None, tuple[str, ...], dict[str, Any]]:
    """Return the padding that touches the picture's border, warnings, and notes.

    Values in the padding range that lie enclosed in the picture are anatomy or print, whatever the
    header says: they stay. Neighbours are the eight around a pixel.

    Args:
        stored: (rows, columns) stored values, before any transform.
        limits: Lowest and highest padding value, both inclusive; None when there is none.
    """
    candidates = None if limits is None else _in_range(stored, limits)
    count = 0 if candidates is None else int(np.count_nonzero(candidates))
    if candidates is None or count == 0:
        return None, (), {"padding_share": 0.0}
    mask = candidates if _rows_reach_border(candidates, count) else _connected(candidates)
    kept = int(np.count_nonzero(mask))
    share = kept / stored.size
    odd = (("padding_inside",) if count - kept > MOST_INSIDE * stored.size else ()) + (
        ("padding_excessive",) if share > MOST_SHARE else ()
    )
    notes = {"padding_share": round(share, 6), "padding_inside_pixels": count - kept}
    return (mask if kept else None), odd, notes


def _in_range(stored: NDArray[Any], limits: tuple[int, int]) -> Mask | None:
    info = np.iinfo(stored.dtype)
    low, high = max(limits[0], int(info.min)), min(limits[1], int(info.max))
    if low > high:
        return None
    if low == high:
        equal: Mask = stored == stored.dtype.type(low)
        return equal
    if low == info.min:
        below: Mask = stored <= stored.dtype.type(high)
        return below
    inside: Mask = (stored >= stored.dtype.type(low)) & (stored <= stored.dtype.type(high))
    return inside


def _rows_reach_border(candidates: Mask, count: int) -> bool:
    """Return whether every candidate lies in a run from a left or right end: the usual case."""
    left = candidates.argmin(axis=1)
    right = candidates[:, ::-1].argmin(axis=1)
    whole = np.count_nonzero(candidates[:, 0] & (left == 0)) * candidates.shape[1]
    return int(left.sum() + right.sum() + whole) == count


def _connected(candidates: Mask) -> Mask:
    framed: Any = cv2.copyMakeBorder(
        candidates.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1
    )
    cv2.floodFill(framed, None, (0, 0), 2, flags=8)
    reached: Mask = framed[1:-1, 1:-1] == 2
    return reached
