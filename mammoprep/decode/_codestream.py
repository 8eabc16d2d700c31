"""Reads the size that a compressed image says it has, without decoding anything.

JPEG and JPEG-LS: the first SOF marker segment (ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2). JPEG 2000 and
HTJ2K: the SIZ marker segment (ISO/IEC 15444-1 A.5.1), found through the boxes when there is a JP2
wrapper (annex I).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
MOST_SEGMENTS = 1000
SOF = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_LS_SOF, SOS = 0xF7, 0xDA
COD, COC, SOT, SOD, EOC = 0xFF52, 0xFF53, 0xFF90, 0xFF93, b"\xff\xd9"
_MOST_TRAILING = 4
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))


@dataclass(frozen=True)
class Codestream:
    """What a codestream's own header says.

    Attributes:
        family: ``jpeg``, ``jpegls`` or ``jpeg2000``.
        rows: Height in pixels.
        columns: Width in pixels.
        components: Number of components.
        precision: Bits of a sample.
        signed: Whether samples have a sign; None where the format cannot say (JPEG).
        excess: Whether bytes that are no filling follow it in its frame.
    """

    family: str
    rows: int
    columns: int
    components: int
    precision: int
    signed: bool | None
    excess: bool = False


def read_codestream(data: bytes) -> Codestream | None:
    """Return the header of a JPEG, JPEG-LS or JPEG 2000 codestream, or None when it has none."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        start = jp2_codestream(data) if data[:12] == JP2_SIGNATURE else 0
        return None if start is None else _jpeg2000(data, start)
    except struct.error:
        return None


def _jpeg(data: bytes) -> Codestream | None:
    for marker, at in jpeg_segments(data):
        if marker in SOF:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            family = "jpegls" if marker == _LS_SOF else "jpeg"
            return Codestream(family, rows, columns, components, precision, None)
    return None


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, its offset) of the segments before the first scan, the scan's own included."""
    at = 2
    for _ in range(MOST_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        lead, marker, length = struct.unpack_from(">BBH", data, at)
        if lead != 0xFF:
            return
        yield marker, at
        if marker == SOS:
            return
        at += 2 if marker in _BARE else 2 + max(length, 2)


def jp2_codestream(data: bytes) -> int | None:
    at = 0
    for _ in range(MOST_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        if kind == b"jp2c":
            return at + header
        if not header <= length <= len(data) - at:
            return None
        at += length
    return None


def _jpeg2000(data: bytes, start: int) -> Codestream | None:
    if data[start : start + 4] != b"\xff\x4f\xff\x51":
        return None
    size = struct.unpack_from(">HHIIIIIIIIH", data, start + 4)
    _, _, right, bottom, left, top, *_, components = size
    depth, step_x, step_y = struct.unpack_from(">BBB", data, start + 42)
    if step_x != 1 or step_y != 1:
        return None
    return Codestream(
        "jpeg2000", bottom - top, right - left, components, (depth & 0x7F) + 1, bool(depth & 0x80)
    )


def resolutions(data: bytes) -> int:
    """Return how often a JPEG 2000 codestream can be halved by leaving wavelet levels out.

    0 for what is no JPEG 2000, and where halving would not be plain: several tiles, an offset
    image, no end of codestream (the file may be cut off), or headers that change between parts.

    Args:
        data: One frame, a raw codestream or a JP2 file.
    """
    try:
        start = jp2_codestream(data) if data[:12] == JP2_SIGNATURE else 0
        if start is None or _jpeg2000(data, start) is None or not _one_plain_tile(data, start):
            return 0
        return _levels(data, start) if EOC in data[-_MOST_TRAILING:] else 0
    except struct.error:
        return 0


def _one_plain_tile(data: bytes, start: int) -> bool:
    _, _, right, bottom, left, top, width, height, tile_x, tile_y, _ = struct.unpack_from(
        ">HHIIIIIIIIH", data, start + 4
    )
    return not (left or top or tile_x or tile_y) and width >= right and height >= bottom


def _levels(data: bytes, start: int) -> int:
    """Return the decomposition levels of the main header (ISO/IEC 15444-1 A.6.1), when it rules."""
    at, levels, in_tile = start + 2, 0, False
    for _ in range(MOST_SEGMENTS):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == SOD:
            return levels
        if marker == COC or (in_tile and marker == COD):
            return 0
        if marker == COD:
            (levels,) = struct.unpack_from(">B", data, at + 9)
        in_tile = in_tile or marker == SOT
        at += 2 + length
    return 0
