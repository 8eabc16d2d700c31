"""Do two patches show the same place? Their small dark and bright spots, laid upon each other.

A patch becomes the positions of its most distinct spots. Two cut-outs of one place, at one scale,
have the same spots, shifted, turned by quarters or mirrored: under the right one of eight turns
many pairs of spots have the same difference. Patches of different places have few, by chance.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.decode import raster
from mammoprep.decode._plausible import is_blank

SPOTS = 96
SMOOTH, RATIO = 2.0, 1.6  # a spot: difference of two blurs, in pixels
APART = 15  # pixels; also how far a spot is from the border
LEAST = 0.25  # grey levels
CELL = 2  # pixels; differences are counted in squares of two cells a side
# Measured on cut-outs of mini-MIAS (see docs/sources/ddsm.md): different films at most 15; one
# place, 20 % to 100 % in common, at least 20.
SAME = 18

Spots = NDArray[np.int64]


def fingerprint(data: bytes, shape: tuple[int, int]) -> dict[str, Any]:
    """Return what is compared of a patch, as plain JSON values.

    Args:
        data: Its pixels, one byte each, row by row.
        shape: (rows, columns).

    Returns:
        ``spots``: (row, column) of each spot as two little-endian 16-bit numbers, in Base64;
        ``mean``: grey level; ``blank``: whether it shows nothing.

    Raises:
        RecordError: ``pixel_length_mismatch``.
    """
    grey = raster.bare(data, *shape)
    spots = find(grey).astype("<u2").tobytes()
    return {
        "spots": base64.b64encode(spots).decode(),
        "mean": round(float(grey.mean()), 2),
        "blank": is_blank(grey.astype(np.float32) / np.float32(255)),
    }


def find(grey: NDArray[np.uint8]) -> Spots:
    """Return the most distinct bright spots, (n, 2) as (row, column), the strongest first."""
    values = grey.astype(np.float32)
    fine: Any = cv2.GaussianBlur(values, (0, 0), SMOOTH)
    fine = fine - cv2.GaussianBlur(values, (0, 0), SMOOTH * RATIO)
    highest: Any = cv2.dilate(fine, np.ones((APART, APART), np.uint8))
    peak = (fine == highest) & (fine > LEAST)
    margin = APART // 2
    inside = np.zeros_like(peak)
    inside[margin:-margin, margin:-margin] = peak[margin:-margin, margin:-margin]
    places = np.argwhere(inside)
    strongest = np.argsort(-fine[inside], kind="stable")[:SPOTS]
    found: Spots = places[strongest].astype(np.int64)
    return found


def likeness(one: Mapping[str, Any], other: Mapping[str, Any], side: int) -> int:
    """Return how many spots of two patches fall upon each other under the best turn and shift.

    Args:
        one: What ``fingerprint`` returned.
        other: The same of the other patch.
        side: Rows and columns of both.
    """
    first, second = _spots(one), _spots(other)
    if not len(first) or not len(second):
        return 0
    return max(_most_alike(first, turned, side) for turned in _turns(second, side - 1))


def _spots(item: Mapping[str, Any]) -> Spots:
    data = np.frombuffer(base64.b64decode(item["spots"]), "<u2")
    return data.reshape(-1, 2).astype(np.int64)


def _turns(spots: Spots, last: int) -> Iterator[Spots]:
    """Yield the spots as a patch turned by quarters, mirrored or both would have them."""
    for swapped in (spots, spots[:, ::-1]):
        for row in (swapped[:, 0], last - swapped[:, 0]):
            for column in (swapped[:, 1], last - swapped[:, 1]):
                yield np.stack([row, column], axis=1)


def _most_alike(first: Spots, second: Spots, side: int) -> int:
    """Return the largest number of pairs with about the same difference."""
    width = 2 * side // CELL + 2
    cells = (first[:, None] - second[None] + side) // CELL
    count = np.bincount((cells[..., 0] * width + cells[..., 1]).ravel(), minlength=width * width)
    if 4 * int(count.max()) < SAME:
        return 0
    grid = count.reshape(width, width)
    rows = grid[:-1] + grid[1:]
    return int((rows[:, :-1] + rows[:, 1:]).max())
