"""Resampling by area and by lines, one axis at a time; exact, and the same for any threads."""

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Span = tuple[Fraction, Fraction]


_BLOCK_BYTES = 1 << 18  # of the output at a time: stays in the processor's cache


def weights(count: int, span: Span) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the first row that each output row touches, and the share of each from there on.

    Whole numbers until the last division, so that no row is lost to rounding.

    Returns:
        (count,) row numbers and (most rows touched, count) shares that sum to 1 over axis 0.
    """
    length = span[1] - span[0]
    whole = span[0].denominator * length.denominator
    parts, begin, reach = whole * count, int(span[0] * whole) * count, int(length * whole)
    edges = begin + np.arange(count + 1, dtype=np.int64) * reach
    low, high = edges[:-1], edges[1:]
    first = low // parts
    rows = first + np.arange(int((-(-high // parts) - first).max()), dtype=np.int64)[:, None]
    covered = np.minimum(high, (rows + 1) * parts) - np.maximum(low, rows * parts)
    return first, (np.maximum(covered, 0) / reach).astype(np.float32)


def _mean_rows(values: NDArray[Any], count: int, span: Span) -> NDArray[np.float32]:
    """Average rows by the exact area each output row covers; ``count`` is at most the span."""
    first, shares = weights(count, span)
    columns = values.reshape(values.shape[0], -1).astype(np.float32, copy=False)
    total = np.empty((count, columns.shape[1]), np.float32)
    places = np.minimum(first + np.arange(len(shares))[:, None], values.shape[0] - 1)
    block = max(1, _BLOCK_BYTES // (4 * columns.shape[1]))
    buffer = np.empty((min(block, count), columns.shape[1]), np.float32)
    for top in range(0, count, block):
        part = slice(top, top + block)
        out = total[part]
        for step, share in enumerate(shares):
            rows = buffer[: len(out)] if step else out
            # mode: "raise" would copy through a buffer of its own; no place is out of range
            columns.take(places[step, part], axis=0, out=rows, mode="clip")
            rows *= share[part, None]
            if step:
                out += rows
    return total.reshape(count, *values.shape[1:])


def rows_at(values: NDArray[Any], centres: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate rows linearly between pixel centres; beyond the first and last they are held.

    Args:
        values: (rows, ...) of any real type.
        centres: Where to read, in rows; the centre of row *i* is *i + 0.5*.
    """
    places = centres - 0.5
    below = np.clip(np.floor(places), 0, values.shape[0] - 1).astype(np.int64)
    above = np.minimum(below + 1, values.shape[0] - 1)
    share = np.clip(places - below, 0, 1).astype(np.float32)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    values = values.astype(np.float32, copy=False)
    out = np.empty((centres.size, *values.shape[1:]), np.float32)
    block = max(1, _BLOCK_BYTES // (4 * max(1, values[0].size)))
    buffer = np.empty((min(block, centres.size), *values.shape[1:]), np.float32)
    for top in range(0, centres.size, block):
        part = slice(top, top + block)
        lower, upper = out[part], buffer[: len(out[part])]
        values.take(below[part], axis=0, out=lower, mode="clip")  # as in _mean_rows
        values.take(above[part], axis=0, out=upper, mode="clip")
        lower *= 1 - share[part]
        upper *= share[part]
        lower += upper
    return out


def _centres(span: Span, count: int) -> NDArray[np.float64]:
    """Return where the centres of ``count`` output rows lie, in input rows."""
    places = np.arange(count, dtype=np.float64) + 0.5
    return float(span[0]) + places * (float(span[1] - span[0]) / count)


def _scale_rows(values: NDArray[Any], count: int, span: Span) -> NDArray[np.float32]:
    length = span[1] - span[0]
    if span == (Fraction(0), Fraction(count)) and values.shape[0] == count:
        return values.astype(np.float32, copy=False)
    if count <= length:
        return _mean_rows(values, count, span)
    return rows_at(values, _centres(span, count))


def turned(values: NDArray[Any]) -> NDArray[Any]:
    """Return ``values`` with rows and columns exchanged, contiguous."""
    out: NDArray[Any] = cv2.transpose(values)  # 10 x numpy's
    return out


def scale(
    values: NDArray[Any], size: tuple[int, int], spans: tuple[Span, Span] | None = None
) -> NDArray[np.float32]:
    """Return ``values``, or a part of them, at ``size`` (rows, columns) as float32.

    An axis that shrinks is averaged over the exact area of each output pixel, one that grows is
    interpolated linearly between pixel centres.

    Args:
        values: (rows, columns) or (rows, columns, channels), any real type.
        size: Rows and columns to make, each at least 1.
        spans: From where to where, (start, stop) in rows and in columns, each at least 0; a stop
            less than a pixel beyond the end holds the last row or column. None is everything.
    """
    down, across = spans or tuple((Fraction(0), Fraction(side)) for side in values.shape[:2])
    rows = _scale_rows(values, size[0], down)
    return np.asarray(turned(_scale_rows(turned(rows), size[1], across)))


def at_centres(
    mask: NDArray[np.bool_], size: tuple[int, int], spans: tuple[Span, Span] | None = None
) -> NDArray[np.bool_]:
    """Return the mask at ``size``, each pixel as it is at the pixel's centre.

    Args:
        mask: bool (rows, columns).
        size: Rows and columns to make.
        spans: As for ``scale``.
    """
    down, across = spans or tuple((Fraction(0), Fraction(side)) for side in mask.shape)
    rows, columns = (
        np.minimum(_centres(span, count).astype(np.int64), side - 1)
        for span, count, side in zip((down, across), size, mask.shape, strict=True)
    )
    turned_rows = turned(mask.view(np.uint8).take(rows, axis=0))  # whole rows are quick to take
    return turned(turned_rows.take(columns, axis=0)).view(np.bool_)


def _any_rows(mask: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Combine the rows each output row touches; whole-number edges, so that no corner is lost."""
    length = mask.shape[0]
    edges = np.arange(count + 1, dtype=np.int64) * length
    low, high = edges[:-1] // count, -(-edges[1:] // count)
    out = np.empty((count, mask.shape[1]), mask.dtype)
    for row in range(count):
        np.maximum.reduce(mask[low[row] : high[row]], axis=0, out=out[row])
    return out


def cover(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a mask in which every pixel that overlaps a set input pixel, however little, is set.

    Args:
        mask: uint8 (rows, columns).
        size: Rows and columns to make.
    """
    return turned(_any_rows(turned(_any_rows(mask, size[0])), size[1]))
