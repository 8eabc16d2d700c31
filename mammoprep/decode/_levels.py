"""Resolutions of an image: which serves as the overview, where its samples lie, how to make one.

Level *r* has a sample every ``2**r`` stored pixels.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

OVERVIEW_SIDE = 320


def overview_level(shape: tuple[int, int]) -> int:
    """Return the last level at which the longer side still has 320 samples."""
    return max(0, (max(shape) // OVERVIEW_SIDE).bit_length() - 1)


def origin(first: tuple[int, int], level: int) -> tuple[float, float]:
    """Return (y, x) in stored coordinates of the outer corner of a level's sample."""
    step = 1 << level
    return (first[0] - 0.5) * step + 0.5, (first[1] - 0.5) * step + 0.5


def covering(span: tuple[int, int], level: int, side: int) -> tuple[int, int]:
    """Return the samples (first, end) of a level that touch a span of stored pixels."""
    step = 1 << level
    first = (2 * span[0] - 1 + step) // (2 * step)
    end = -(-(2 * span[1] - 1 + step) // (2 * step))
    return max(first, 0), min(end, side)


def block_means(stored: NDArray[Any], step: int) -> NDArray[Any]:
    """Return the mean of every ``step`` x ``step`` pixels; the last ones of less, where it ends.

    Args:
        stored: (rows, columns), 8 or 16 bits.
        step: Side of a block.
    """
    values = stored.astype(np.int16) if stored.dtype == np.int8 else stored  # cv2 has no int8 here
    cuts = [side // step * step for side in values.shape]
    parts = [
        [
            cv2.resize(part, _blocks(part.shape, step), interpolation=cv2.INTER_AREA)
            for part in np.split(band, cuts[1:], axis=1)
            if part.size
        ]
        for band in np.split(values, cuts[:1], axis=0)
        if band.size
    ]
    return np.block(parts).astype(stored.dtype)


def _blocks(shape: tuple[int, ...], step: int) -> tuple[int, int]:
    return -(-shape[1] // step), -(-shape[0] // step)
