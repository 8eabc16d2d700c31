"""PGM and PPM, binary or in digits (netpbm's own definition) -> values as they stand in the file.

Pillow scales values to 8 or 16 bits and cuts colours to 8; here they stay, because ``--range``
speaks of the file's own numbers.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.decode import gate

MAGIC = (b"P2", b"P3", b"P5", b"P6")
_MOST_HEADER = 4096
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P([2356])" + 3 * (_GAP + rb"(\d{1,10})") + rb"\s")
_COMMENT = re.compile(rb"#[^\r\n]*")


def is_pnm(data: bytes) -> bool:
    """Return whether a file begins like a PGM or PPM."""
    return data[:2] in MAGIC and data[2:3].isspace()


def read(data: bytes) -> tuple[NDArray[Any], int]:
    """Return the values and the largest that the file says it may hold (maxval).

    Returns:
        uint8 or uint16, (rows, columns) or (rows, columns, 3).

    Raises:
        RecordError: ``unreadable``, ``header_bounds``, ``pixel_length_mismatch`` or ``multiframe``.
    """
    head = _HEADER.match(data[:_MOST_HEADER])
    if head is None:
        raise RecordError("unreadable", "no width, height and largest value after P2, P3, P5 or P6")
    kind, columns, rows, top = (int(part) for part in head.groups())
    gate.check_size(rows, columns)
    if not 1 <= top <= 65535:
        raise RecordError("header_bounds", f"maxval {top}, 1 to 65535 allowed")
    shape = (rows, columns, 3) if kind in (3, 6) else (rows, columns)
    count, wide = int(np.prod(shape)), top > 255
    if kind in (5, 6):
        return _binary(data, head.end(), count, wide=wide).reshape(shape), top
    return _digits(data[head.end() :], count, wide=wide).reshape(shape), top


def _binary(data: bytes, start: int, count: int, *, wide: bool) -> NDArray[Any]:
    size = count * (1 + wide)
    if len(data) - start < size:
        found = f"{len(data) - start} bytes of pixels, {size} needed"
        raise RecordError("pixel_length_mismatch", found)
    if data[start + size : start + size + 2] in MAGIC:
        raise RecordError("multiframe", "a file of several PGM or PPM pictures")
    values = np.frombuffer(data, ">u2" if wide else "u1", count, start)
    return values.astype(np.uint16) if wide else values


def _digits(text: bytes, count: int, *, wide: bool) -> NDArray[Any]:
    words = _COMMENT.sub(b" ", text).split()
    if len(words) < count:
        found = f"{len(words)} numbers, {count} needed"
        raise RecordError("pixel_length_mismatch", found)
    most = 65535 if wide else 255
    try:
        values = np.array([int(word) for word in words[:count]], np.int64)
    except (ValueError, OverflowError):
        raise RecordError("unreadable", "a pixel that is no number") from None
    if values.min() < 0 or values.max() > most:
        raise RecordError("unreadable", f"a pixel that is not 0 to {most}")
    return values.astype(np.uint16 if wide else np.uint8)
