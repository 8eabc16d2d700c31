"""What is missing from a compressed frame, or too much in it, as far as its own markers tell.

Walks the parts that the codestream says it has; no sample is decoded.
"""

import re
import struct

from mammoprep.decode._codestream import (
    COC,
    COD,
    EOC,
    JP2_SIGNATURE,
    MOST_SEGMENTS,
    SOD,
    SOF,
    SOS,
    SOT,
    Codestream,
    jp2_codestream,
    jpeg_segments,
)

# Entropy-coded data has none of these: a byte after 0xFF is stuffed (10918-1 F.1.2.3, 14495-1 A.1).
_AFTER_SCAN = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7\xd9\xda]")
_MOST_PART_SEGMENTS = 300
_MOST_SCANS = 100
_MOST_TILES = 65535
_MOST_LEVELS = 32
_MOST_TILE_PARTS = 1 << 16
_MOST_BLOCKS = 1 << 20  # 16 x 16 pixels each in the largest picture; usual are 64 x 64
_SOT_BYTES = b"\xff\x90"
_STARTS = {"jpeg2000": b"\xff\x4f\xff\x51"}  # of JPEG and JPEG-LS: SOI and the next marker
_JPEG_START = b"\xff\xd8\xff"


def find_flaw(data: bytes, found: Codestream) -> tuple[str, str] | None:
    """Return (failure code, detail) when a codestream is cut off or asks for too many parts.

    What is checked is what the standards demand of every codestream: JPEG and JPEG-LS have one
    frame header and an end of image (10918-1 B.2.1); JPEG 2000 has tile-parts as long as they say,
    at least one for each tile, and an end of codestream (15444-1 A.4). Damage inside the coded
    samples shows in none of these. A second codestream behind the first is a second picture, which
    every decoder would pass over.

    Args:
        data: One frame.
        found: What ``read_codestream`` returned for it.
    """
    end = find_end(data, found)
    return end if isinstance(end, tuple) else None


def find_end(data: bytes, found: Codestream) -> tuple[str, str] | int:
    """Return the offset after a codestream's last marker, or what ``find_flaw`` returns."""
    try:
        end = _jpeg2000_end(data) if found.family == "jpeg2000" else _jpeg_end(data)
    except struct.error:
        return "decode_error", "the codestream ends inside its headers"
    if isinstance(end, int) and data.find(_STARTS.get(found.family, _JPEG_START), end) >= 0:
        return "frames_mismatch", "a second codestream follows the first one in its frame"
    return end


def _jpeg_end(data: bytes) -> tuple[str, str] | int:
    """Return the offset after the end of image, or what is wrong before it."""
    headers = list(jpeg_segments(data))
    if sum(marker in SOF for marker, _ in headers) != 1 or headers[-1][0] != SOS:
        return "decode_error", "the codestream has not one frame header and then a scan"
    scans = 1
    for match in _AFTER_SCAN.finditer(data, headers[-1][1] + 2):
        marker = data[match.start() + 1]
        if marker == EOC[1]:
            return match.end()
        if marker != SOS:
            return "decode_error", "the codestream has a second frame header"
        scans += 1
        if scans > _MOST_SCANS:
            return "header_bounds", f"the codestream has more than {_MOST_SCANS} scans"
    return "decode_error", "the codestream has no end: it was cut off"


def _jpeg2000_end(data: bytes) -> tuple[str, str] | int:
    """Return the offset after the end of codestream, or what is wrong before it."""
    start = (jp2_codestream(data) if data[:12] == JP2_SIGNATURE else 0) or 0
    tiles = _tiles(data, start)
    if not 1 <= tiles <= _MOST_TILES:
        return "header_bounds", f"the codestream has not 1 to {_MOST_TILES} tiles"
    main, first = _headers(data, start + 2)
    seen, inner, end = _tile_parts(data, first)
    if data[end : end + 2] == _SOT_BYTES:
        return "header_bounds", f"the codestream has more than {_MOST_TILE_PARTS} tile-parts"
    last = data.find(EOC, end)
    if last < 0:
        return "decode_error", "the codestream has no end: it was cut off"
    if len(seen) < tiles:
        return "decode_error", f"the codestream has {len(seen)} of its {tiles} tiles"
    if any(tiles * _blocks(data, start, coding) > _MOST_BLOCKS for coding in {*main, *inner}):
        return "header_bounds", f"the codestream has more than {_MOST_BLOCKS} code-blocks"
    return last + len(EOC)


def _tiles(data: bytes, start: int) -> int:
    """Return the number of tiles (ISO/IEC 15444-1 B.3); 0 when their size is impossible."""
    right, bottom, _, _, width, height, x, y = struct.unpack_from(">8I", data, start + 8)
    if not (width and height and x < right and y < bottom):
        return 0
    across, down = -(-(right - x) // width), -(-(bottom - y) // height)
    return int(across * down)


def _headers(data: bytes, at: int, most: int = MOST_SEGMENTS) -> tuple[set[bytes], int]:
    """Return the coding styles of a main or tile-part header, and the offset of its end."""
    styles = set()
    for _ in range(most):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker in (SOT, SOD):
            break
        if marker == COD:
            styles.add(data[at + 4 : at + 5] + data[at + 9 : at + 2 + length])
        elif marker == COC:  # its component number has one byte: there are fewer than 257
            styles.add(data[at + 5 : at + 2 + length])
        at += 2 + length
    return styles, at


def _blocks(data: bytes, start: int, style: bytes) -> int:
    """Return how many code-blocks a tile has at least (ISO/IEC 15444-1 A.6.1, B.6, B.7)."""
    right, bottom, _, _, width, height = struct.unpack_from(">6I", data, start + 8)
    sides = min(width, right), min(height, bottom)
    own, levels, *sizes = struct.unpack_from(">BBBB", style)
    levels = min(levels, _MOST_LEVELS)
    sides_log = [(size & 15) + 2 for size in sizes]
    # Precincts are listed from the lowest resolution up, the same ones serve where none is listed.
    precincts = (style[6:] if own & 1 else b"") or b"\xff"
    total = 0
    for level in range(levels + 1):
        size = precincts[min(max(levels - level, 0), len(precincts) - 1)]
        bands, grow = (1, 0) if level == levels else (3, 1)
        steps = [
            min(log + grow, limit)
            for log, limit in zip(sides_log, (size & 15, size >> 4), strict=True)
        ]
        across, down = (-(-side >> level + step) for side, step in zip(sides, steps, strict=True))
        total += bands * across * down
    return total


def _tile_parts(data: bytes, at: int) -> tuple[set[int], set[bytes], int]:
    """Return the tiles that have a part, their coding styles, and the offset after the last."""
    seen: set[int] = set()
    styles: set[bytes] = set()
    for _ in range(_MOST_TILE_PARTS):
        if data[at : at + 2] != _SOT_BYTES:
            break
        tile, length = struct.unpack_from(">HI", data, at + 4)
        seen.add(tile)
        styles |= _headers(data, at + 12, _MOST_PART_SEGMENTS)[0]
        if length == 0:  # the last part reaches to the end (A.4.2)
            return seen, styles, at + 12
        at += max(length, 12)
    return seen, styles, at
