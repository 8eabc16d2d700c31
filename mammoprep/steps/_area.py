"""Resampling by area and by lines, one axis at a time; exact, and the same for any threads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def _mean_rows(values: NDArray[Any], count: int) -> NDArray[np.float32]:
    """Average rows by the exact area each output row covers, ``count <= len(values)``."""
    length = values.shape[0]
    edges = np.arange(count + 1, dtype=np.int64) * length
    first = edges // count
    cut = ((edges % count) / count).astype(np.float32)
    total = np.empty((count, *values.shape[1:]), np.float32)
    for row in range(count):
        whole = values[first[row] : first[row + 1]]
        np.add.reduce(whole, axis=0, dtype=np.float32, out=total[row])
    for row in np.flatnonzero(cut).tolist():  # a row that an edge cuts belongs to both sides
        shared = values[first[row]] * cut[row]
        total[row] -= shared
        total[row - 1] += shared
    total *= np.float32(count / length)
    return total


def _linear_rows(values: NDArray[Any], count: int) -> NDArray[np.float32]:
    """Interpolate rows between pixel centres, ``count >= len(values)``; edges are held."""
    length = values.shape[0]
    centres = (np.arange(count) + 0.5) * (length / count) - 0.5
    below = np.clip(np.floor(centres), 0, length - 1).astype(np.int64)
    above = np.minimum(below + 1, length - 1)
    share = np.clip(centres - below, 0, 1).astype(np.float32)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values[below] * (1 - share) + values[above] * share, dtype=np.float32)


def _scale_rows(values: NDArray[Any], count: int) -> NDArray[np.float32]:
    if count == values.shape[0]:
        return values.astype(np.float32, copy=False)
    return _mean_rows(values, count) if count < values.shape[0] else _linear_rows(values, count)


def turned(values: NDArray[Any]) -> NDArray[Any]:
    """Return ``values`` with rows and columns exchanged, contiguous."""
    return np.ascontiguousarray(np.swapaxes(values, 0, 1))


def scale(values: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return ``values`` at ``size`` (rows, columns) as float32.

    An axis that shrinks is averaged over the exact area of each output pixel, one that grows is
    interpolated linearly between pixel centres.

    Args:
        values: (rows, columns) or (rows, columns, channels), any real type.
        size: Rows and columns to make, each at least 1.
    """
    rows = _scale_rows(values, size[0])
    return np.asarray(turned(_scale_rows(turned(rows), size[1])))
