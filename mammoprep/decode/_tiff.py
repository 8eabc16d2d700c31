"""TIFF and BigTIFF -> stored values: the directory is read here first, then libtiff decodes.

TIFF 6.0; the 64-bit variant as libtiff documents it. What is not one picture of 1, 8 or 16 unsigned
bits is refused by name, before anything is allocated.
"""

import struct
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.core.text import by
from mammoprep.decode import gate

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
# Baseline and extended tags that decide how a picture is read: name -> number.
_TAGS = {
    "subfile": 254, "columns": 256, "rows": 257, "bits": 258, "compression": 259,
    "photometric": 262, "orientation": ORIENTATION, "samples": 277, "low": 280, "high": 281,
    "planar": 284, "tile_columns": 322, "tile_rows": 323, "format": 339,
}  # fmt: skip
_NAMES = {number: name for name, number in _TAGS.items()}
_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # unsigned types by their number
_MOST_ENTRIES, _MOST_PAGES, _MOST_VALUES = 4096, 64, 8
_REDUCED, _MASK = 1, 4
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_PHOTOMETRIC = {5: "CMYK", 8: "CIE L*a*b*", 32803: "a colour filter array"}
_FORMATS = {2: "signed", 3: "floating point", 4: "untyped", 5: "complex", 6: "complex"}
_JPEGS = (6, 7)


@dataclass(frozen=True)
class Tiff:
    """What the one picture's directory says.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        bits: Of a sample: 1, 8 or 16.
        inverted: 0 is white.
        palette: Values are places in a table of colours.
        orientation: 1, or how the picture should be shown turned.
        highest: MaxSampleValue, or None.
    """

    rows: int
    columns: int
    bits: int
    inverted: bool
    palette: bool
    orientation: int
    highest: int | None


def is_tiff(data: bytes) -> bool:
    """Return whether a file begins like a TIFF."""
    return data[:4] in MAGIC


def read_header(data: bytes) -> Tiff:
    """Return the header of the picture that a file holds.

    Raises:
        RecordError: ``unreadable``, ``header_bounds``, ``multiframe`` or ``picture_unsupported``.
    """
    try:
        pages = _Reader(data).pages()
    except (struct.error, OverflowError):  # the latter for places beyond 63 bits
        raise RecordError("unreadable", "the TIFF ends inside its directory") from None
    pictures = [page for page in pages if not page.get("subfile", [0])[0] & (_REDUCED | _MASK)]
    if len(pictures) > 1:
        more = " or more" if len(pages) == _MOST_PAGES else ""
        raise RecordError("multiframe", f"a TIFF of {len(pictures)}{more} pages")
    if not pages or pages[0] not in pictures or not {"rows", "columns"} <= pages[0].keys():
        raise RecordError("unreadable", "the TIFF has no picture in its first directory")
    return _checked(pages[0])


def decode(data: bytes, header: Tiff) -> NDArray[Any]:
    """Return the stored values: uint8 or uint16, (rows, columns) or (rows, columns, samples).

    Raises:
        RecordError: ``decode_error`` or ``size_mismatch``.
    """
    try:
        values = imagecodecs.tiff_decode(data)
    except (imagecodecs.TiffError, ValueError, RuntimeError, IndexError) as error:
        raise RecordError("decode_error", f"{type(error).__name__} in a TIFF") from None
    values = values.astype(np.uint8) if values.dtype == bool else values
    if values.shape[:2] != (header.rows, header.columns) or values.ndim not in (2, 3):
        found = by(*values.shape[:2]) if values.ndim >= 2 else "a line"
        told = by(header.rows, header.columns)
        raise RecordError("size_mismatch", f"TIFF of {told}, got {found}, {values.ndim} axes")
    if values.dtype not in (np.uint8, np.uint16):
        raise RecordError("picture_unsupported", f"a TIFF of type {values.dtype}")
    return values


def _checked(page: dict[str, list[int]]) -> Tiff:
    def first(name: str, otherwise: int) -> int:
        return page.get(name, [otherwise])[0]

    rows, columns = first("rows", 0), first("columns", 0)
    gate.check_size(rows, columns)
    for name in ("tile_rows", "tile_columns"):
        if first(name, 0) > gate.SIDE_LIMITS[1]:
            raise RecordError("header_bounds", f"TIFF tiles of {first(name, 0)} pixels a side")
    bits = first("bits", 1)
    _check_kind(page, bits)
    photometric = first("photometric", _BLACK_IS_ZERO)
    return Tiff(
        rows=rows,
        columns=columns,
        bits=bits,
        inverted=photometric == _WHITE_IS_ZERO,
        palette=photometric == _PALETTE,
        orientation=first("orientation", 1),
        highest=first("high", 0) or None,
    )


def _check_kind(page: dict[str, list[int]], bits: int) -> None:
    kinds = [kind for kind in page.get("format", [1]) if kind != 1]
    if kinds:
        what = _FORMATS.get(kinds[0], "unknown")
        raise RecordError("picture_unsupported", f"a TIFF of {what} samples, {bits} bits")
    if bits not in (1, 8, 16) or set(page.get("bits", [bits])) != {bits}:
        raise RecordError("picture_unsupported", f"a TIFF of {bits} bits a sample")
    samples = page.get("samples", [1])[0]
    if not 1 <= samples <= 4:
        raise RecordError("picture_unsupported", f"a TIFF of {samples} samples a pixel")
    photometric = page.get("photometric", [_BLACK_IS_ZERO])[0]
    jpeg = page.get("compression", [1])[0] in _JPEGS
    # libtiff gives YCbCr as red, green and blue only where it decodes the JPEG itself.
    known = photometric <= _PALETTE or (photometric == _YCBCR and jpeg)
    if not known or (samples > 2 and photometric <= _BLACK_IS_ZERO):
        what = _PHOTOMETRIC.get(photometric, f"photometric interpretation {photometric}")
        raise RecordError("picture_unsupported", f"a TIFF of {what}, {samples} samples a pixel")


class _Reader:
    """Reads directories and bounded values; everything out of bounds is ``struct.error``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        self._big = 43 in data[2:4]

    def pages(self) -> list[dict[str, list[int]]]:
        """Return the directories in their order, each tag by its name."""
        at = self._one("Q", 8) if self._big else self._one("I", 4)
        found: list[dict[str, list[int]]] = []
        seen = set()
        while at and at not in seen and len(found) < _MOST_PAGES:
            seen.add(at)
            page, at = self._page(at)
            found.append(page)
        return found

    def _page(self, at: int) -> tuple[dict[str, list[int]], int]:
        count = self._one("Q" if self._big else "H", at)
        if count > _MOST_ENTRIES:
            raise RecordError("header_bounds", f"a TIFF directory of {count} entries")
        step, at = (20, at + 8) if self._big else (12, at + 2)
        page = {}
        for entry in range(at, at + count * step, step):
            name = _NAMES.get(self._one("H", entry))
            if name is not None and (values := self._values(entry)):
                page[name] = values
        after = at + count * step
        return page, self._one("Q" if self._big else "I", after)

    def _values(self, entry: int) -> list[int]:
        """Return an entry's first whole numbers; none for another type."""
        code = _SIZES.get(self._one("H", entry + 2))
        if code is None:
            return []
        wide = "Q" if self._big else "I"
        count = self._one(wide, entry + 4)
        place, room = (entry + 12, 8) if self._big else (entry + 8, 4)
        if count * struct.calcsize(code) > room:
            place = self._one(wide, place)
        form = f"{self._order}{min(count, _MOST_VALUES)}{code}"
        return list(struct.unpack_from(form, self._data, place))

    def _one(self, code: str, at: int) -> int:
        return int(struct.unpack_from(f"{self._order}{code}", self._data, at)[0])
