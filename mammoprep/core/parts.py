"""Parts of files that hold many images: the name ``FILE!OFFSET+LENGTH`` means some bytes of one."""

import os
import re
from dataclasses import dataclass

from mammoprep.core.errors import RecordError

FILE_LIMIT = 1 << 30  # bytes of one input file; the largest uncompressed mammograms are near 60 MB

_PART = re.compile(r"(?P<file>.+)!(?P<offset>[0-9]{1,15})\+(?P<length>[0-9]{1,15})", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """Some bytes in the middle of a file.

    Attributes:
        file: Path of the file.
        offset: Of the first byte.
        length: How many bytes.
    """

    file: str
    offset: int
    length: int

    @property
    def name(self) -> str:
        """``FILE!OFFSET+LENGTH``."""
        return f"{self.file}!{self.offset}+{self.length}"

    def inside(self, size: int) -> bool:
        """Return whether a file of ``size`` bytes holds every byte."""
        return self.offset + self.length <= size


def part_of(name: str) -> Part | None:
    """Return the part that ``name`` means, or None when it is the name of a whole file."""
    match = _PART.fullmatch(name)
    if match is None:
        return None
    return Part(match["file"], int(match["offset"]), int(match["length"]))


def check_part(part: Part, size: int, limit: int) -> None:
    """Check a part against the size of its file.

    Raises:
        RecordError: ``unreadable``, not all inside of the file; ``header_bounds``, over ``limit``.
    """
    if not part.inside(size):
        end = part.offset + part.length
        raise RecordError("unreadable", f"bytes up to {end} wanted of a file of {size}")
    if part.length > limit:
        raise RecordError("header_bounds", f"part of {part.length} bytes, limit {limit}")


def read_at(handle: int, offset: int, length: int) -> bytes:
    """Return ``length`` bytes from ``offset`` on of an open file.

    Raises:
        RecordError: ``unreadable``, the file ends before.
        OSError: the system cannot read it.
    """
    found = bytearray()
    while len(found) < length:
        more = os.pread(handle, length - len(found), offset + len(found))
        if not more:
            raise RecordError("unreadable", f"{length} bytes wanted, {len(found)} read")
        found += more
    return bytes(found)
