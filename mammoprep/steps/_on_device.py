"""``_area.scale`` for an array on a GPU: the same weights, the same order, the same bits."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.device import DeviceArray
from mammoprep.steps._area import Span, weights


def shrink(
    values: DeviceArray, size: tuple[int, int], spans: tuple[Span, Span]
) -> NDArray[np.float32] | None:
    """Return a part of float32 ``values`` at ``size`` by area means, in main memory.

    None where an axis would have to grow: that is rare and left to ``_area.scale``.

    Args:
        values: (rows, columns).
        size: Rows and columns to make, each at least 1.
        spans: From where to where, in rows and in columns, as for ``_area.scale``.
    """
    lengths = (span[1] - span[0] for span in spans)
    if any(count > length for count, length in zip(size, lengths, strict=True)):
        return None
    xp = values.xp
    rows = _mean_rows(values, values.values, size[0], spans[0])
    turned = _mean_rows(values, xp.permute_dims(rows, (1, 0)), size[1], spans[1])
    return np.ascontiguousarray(values.fetch(turned).T)


def _mean_rows(device: DeviceArray, rows: Any, count: int, span: Span) -> Any:
    if span == (Fraction(0), Fraction(count)) and rows.shape[0] == count:
        return rows
    xp, (first, shares) = device.xp, weights(count, span)
    last = rows.shape[0] - 1
    total: Any = None
    for step, share in enumerate(shares):
        places = device.place(np.minimum(first + step, last))
        term = xp.take(rows, places, axis=0) * device.place(share[:, None])
        total = term if total is None else total + term
    return total
