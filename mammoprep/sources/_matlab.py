"""Matrices of real numbers in MATLAB files of level 5, read without trusting any length.

SciPy's reader is not used: damaged files make it end the whole process (see the tests). The format
is MathWorks' "MAT-File Format", chapter 1.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADER = 128
ORDERS = {b"IM": "<", b"MI": ">"}
LEVEL = 0x0100
MATRIX, COMPRESSED = 14, 15
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
REAL_CLASSES = range(6, 16)  # double to uint64
COMPLEX = 0x0800
MOST_ELEMENTS = 64
MOST_INFLATED = 1 << 24


@dataclass(frozen=True)
class _Element:
    """A piece of a file.

    Attributes:
        kind: Number of its data type.
        data: Its content, without padding.
    """

    kind: int
    data: bytes


def matrices(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Return name -> matrix of every variable that is a matrix of real numbers.

    Raises:
        ValueError: no such file, or a damaged one.
    """
    if len(data) < HEADER or data[126:128] not in ORDERS:
        raise ValueError("not a MATLAB file")
    order = ORDERS[data[126:128]]
    if struct.unpack(f"{order}H", data[124:126])[0] != LEVEL:
        raise ValueError("not a MATLAB file of level 5; HDF5 ones (7.3) are not read")
    found: dict[str, NDArray[np.generic]] = {}
    for outer in _elements(data[HEADER:], order):
        inner = _inflated(outer.data, order) if outer.kind == COMPRESSED else [outer]
        for element in inner:
            if element.kind == MATRIX:
                found |= _matrix(element.data, order)
    return found


def _inflated(data: bytes, order: str) -> list[_Element]:
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(data, MOST_INFLATED)
    except zlib.error:
        raise ValueError("a compressed part is damaged") from None
    if unpack.unconsumed_tail or not unpack.eof:
        raise ValueError("a compressed part is cut off or too large")
    return [*_elements(content, order)]


def _elements(data: bytes, order: str) -> Iterator[_Element]:
    at = 0
    for _ in range(MOST_ELEMENTS):
        if at >= len(data):
            return
        if at + 8 > len(data):
            raise ValueError("a tag is cut off")
        kind, length = struct.unpack_from(f"{order}2I", data, at)
        start = at + 8
        if kind >> 16:  # up to four bytes in the tag itself
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
            end = at + 8
        else:
            end = start + (length if kind == COMPRESSED else -(-length // 8) * 8)
        if start + length > min(end, len(data)):
            raise ValueError("an element is longer than the file")
        yield _Element(kind, data[start : start + length])
        at = end
    if at < len(data):
        raise ValueError(f"more than {MOST_ELEMENTS} elements")


def _matrix(data: bytes, order: str) -> dict[str, NDArray[np.generic]]:
    """Return name -> values, or nothing for a variable of another kind."""
    parts = [*_elements(data, order)]
    if len(parts) < 3:
        raise ValueError("a variable without flags, sizes or name")
    flags = _values(parts[0], order)
    if not len(flags) or int(flags[0]) & 0xFF not in REAL_CLASSES or int(flags[0]) & COMPLEX:
        return {}
    if len(parts) != 4:
        raise ValueError("a matrix of real numbers without values")
    shape = [int(side) for side in _values(parts[1], order)]
    values = _values(parts[3], order)
    if len(shape) != 2 or min(shape) < 0 or shape[0] * shape[1] != len(values):
        raise ValueError(f"{len(values)} numbers for {len(shape)} sizes that do not fit")
    name = parts[2].data.decode("ascii", errors="replace")
    return {name: values.reshape(shape, order="F")}


def _values(element: _Element, order: str) -> NDArray[np.generic]:
    dtype = NUMBERS.get(element.kind)
    if dtype is None:
        raise ValueError(f"numbers of the unknown type {element.kind}")
    kind = np.dtype(f"{order}{dtype}")
    if len(element.data) % kind.itemsize:
        raise ValueError("a number is cut off")
    return np.frombuffer(element.data, kind)
