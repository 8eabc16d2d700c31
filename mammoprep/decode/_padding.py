"""Pixels that the device never measured (PS3.3 C.7.5.1.1.2)."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Limits = tuple[int, int]
MOST_SHARE = 0.98
MOST_INSIDE = 0.001


def find_padding(stored: NDArray[Any], limits: Limits | None) -> Mask | None:
    """Return the padding in a picture or a part of it, or None when there is none.

    Args:
        stored: (rows, columns) stored values, before any transform.
        limits: Lowest and highest padding value, both inclusive; None when there is none.
    """
    candidates = None if limits is None else in_range(stored, limits)
    return None if candidates is None else touching_border(candidates)


def touching_border(candidates: Mask) -> Mask | None:
    """Return the candidates that touch the border, or None when none does.

    Values in the padding range that lie enclosed in the picture are anatomy or print, whatever the
    header says: they stay. Neighbours are the eight around a pixel.

    Args:
        candidates: bool (rows, columns), values in the padding range.
    """
    count = int(np.count_nonzero(candidates))
    if count == 0:
        return None
    mask = candidates if _rows_reach_border(candidates, count) else _connected(candidates)
    return mask if mask.any() else None


def judge(candidates: Mask, padding: Mask | None) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return warnings and notes about the padding of a whole picture.

    Args:
        candidates: bool (rows, columns), values in the padding range.
        padding: Those that touch the border, or None.
    """
    kept = 0 if padding is None else int(np.count_nonzero(padding & candidates))
    share = kept / candidates.size
    inside = (int(np.count_nonzero(candidates)) - kept) / candidates.size
    odd = (("padding_inside",) if inside > MOST_INSIDE else ()) + (
        ("padding_excessive",) if share > MOST_SHARE else ()
    )
    return odd, {"padding_share": round(share, 6), "padding_inside_share": round(inside, 6)}


def in_range(stored: NDArray[Any], limits: Limits) -> Mask:
    """Return where stored values are padding values.

    Args:
        stored: Any shape, 8 or 16 bits.
        limits: Lowest and highest padding value, both inclusive.
    """
    info = np.iinfo(stored.dtype)
    low, high = max(limits[0], int(info.min)), min(limits[1], int(info.max))
    if low > high:
        return np.zeros(stored.shape, bool)
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
    right = cv2.flip(candidates.view(np.uint8), 1).argmin(axis=1)  # backwards, argmin is slow
    whole = np.count_nonzero(candidates[:, 0] & (left == 0)) * candidates.shape[1]
    return int(left.sum() + right.sum() + whole) == count


def _connected(candidates: Mask) -> Mask:
    framed: Any = cv2.copyMakeBorder(
        candidates.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1
    )
    cv2.floodFill(framed, None, (0, 0), 2, flags=8)
    reached: Mask = framed[1:-1, 1:-1] == 2
    return reached
