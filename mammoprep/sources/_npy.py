"""NumPy's ``.npy`` files: the header alone says where each item lies; no object is made of it."""

import re
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.parts import Part
from mammoprep.core.tree import Tree

LONGEST_HEADER = 10_000
# Magic and version, the header's length, and the header as every version of NumPy writes it.
_STARTS = {b"\x93NUMPY\x01\x00": struct.Struct("<H"), b"\x93NUMPY\x02\x00": struct.Struct("<I")}
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[|<>=][a-zA-Z][0-9]{0,4})', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:[0-9]{1,15},? ?){0,8})\),? *\} *\n"
)


@dataclass(frozen=True)
class Layout:
    """What a header says.

    Attributes:
        file: Path of the file.
        shape: Of the array.
        dtype: Of the array.
        start: Offset of the first value.
    """

    file: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    start: int

    def item(self, place: int) -> Part:
        """Return where the values of one index of the first axis lie."""
        length = int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize
        return Part(self.file, self.start + place * length, length)


def layout(tree: Tree, file: str) -> Layout:
    """Return what a file's header says.

    Raises:
        ConfigError: no ``.npy`` file, one of Python objects, one in Fortran order, or the file has
            another size than its header says; or it lies compressed in a zip file.
    """
    size = tree.stamp(file)[0]
    try:
        head = tree.read_part(Part(file, 0, min(size, LONGEST_HEADER)))
        match, start = _header(head)
        dtype = np.dtype(match["dtype"].decode())
    except (ValueError, TypeError, RecordError) as error:
        raise ConfigError(f"{file} is no readable .npy file: {error}.") from None
    if dtype.kind not in "iuf" or match["fortran"] == b"True":
        raise ConfigError(f"{file}: expected numbers in C order, not {dtype}.")
    shape = tuple(int(side) for side in re.findall(rb"[0-9]+", match["shape"]))
    found = Layout(file, shape, dtype, start)
    needed = found.item(shape[0] if shape else 0).offset
    if needed != size:
        raise ConfigError(f"{file}: {size} bytes, its header says {needed}. Download it again.")
    return found


def _header(head: bytes) -> tuple[re.Match[bytes], int]:
    """Return the header and the offset of the first value."""
    length = _STARTS.get(head[:8])
    if length is None or len(head) < 8 + length.size:
        raise ValueError("it does not begin as one of version 1 or 2")
    first = 8 + length.size
    last = first + int(length.unpack_from(head, 8)[0])
    match = _HEADER.fullmatch(head[first:last])
    if match is None or last > len(head):
        raise ValueError("its header is not as NumPy writes it")
    return match, last


def integers(tree: Tree, file: str, most: int) -> NDArray[np.int64]:
    """Return the numbers of a file with one axis.

    Raises:
        ConfigError: as ``layout``; not whole numbers, more than one axis, or more than ``most``.
    """
    found = layout(tree, file)
    if found.dtype.kind not in "iu" or len(found.shape) != 1 or found.shape[0] > most:
        raise ConfigError(
            f"{file}: expected at most {most:,} whole numbers, "
            f"found {found.dtype} of shape {found.shape}."
        )
    length = found.shape[0] * found.dtype.itemsize
    try:
        data = tree.read_part(Part(file, found.start, length))
    except RecordError as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from None
    return np.frombuffer(data, found.dtype).astype(np.int64)
