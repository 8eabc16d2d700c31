"""Picture files made byte by byte in code; nothing here shares code with the readers."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np


def png(
    values: np.ndarray, depth: int, colour: int = 0, *, sbit: Sequence[int] = (), extra: bytes = b""
) -> bytes:
    """Return a PNG of (rows, columns) or (rows, columns, channels) with whole rows, no filter."""
    rows, columns = values.shape[:2]
    flat = values.reshape(rows, -1)
    if depth < 8:
        each = 8 // depth
        groups = np.pad(flat, ((0, 0), (0, -flat.shape[1] % each))).reshape(rows, -1, each)
        shifts = 8 - depth * (np.arange(each) + 1)
        flat = (groups.astype(np.int64) << shifts).sum(axis=2)
    packed = flat.astype(">u2" if depth == 16 else "u1")
    body = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    if sbit:
        chunks.insert(1, (b"sBIT", bytes(sbit)))
    if extra:
        chunks.insert(1, (extra[:4], extra[4:]))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, body: bytes) -> bytes:
    check = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)


def pgm(values: np.ndarray, top: int, *, digits: bool = False) -> bytes:
    """Return a PGM or PPM with a comment in its header."""
    kind = (3 if values.ndim == 3 else 2) + (0 if digits else 3)
    head = f"P{kind} # made here\n{values.shape[1]} {values.shape[0]}\n{top}\n".encode()
    if digits:
        return head + b"\n".join(str(value).encode() for value in values.ravel())
    return head + values.astype(">u2" if top > 255 else "u1").tobytes()


def tiff(
    values: np.ndarray,
    *,
    order: str = "<",
    big: bool = False,
    tile: int = 0,
    deflate: bool = False,
    pages: int = 1,
    **tags: int | Sequence[int],
) -> bytes:
    """Return a TIFF; ``tags`` are ``t258=...``, and None leaves one out."""
    rows, columns = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    bits = 8 * values.dtype.itemsize
    stored = values.astype(values.dtype.newbyteorder(order))
    parts = _tiles(stored, tile) if tile else [stored]
    strips = [zlib.compress(part.tobytes()) if deflate else part.tobytes() for part in parts]
    start = 16 if big else 8
    places = [start + sum(map(len, strips[:n])) for n in range(len(strips))]
    found: dict[int, Sequence[int]] = {
        256: [columns], 257: [rows], 258: [bits] * channels, 259: [8 if deflate else 1],
        262: [2 if channels > 1 else 1], 277: [channels],
        339: [{"u": 1, "i": 2, "f": 3}[values.dtype.kind]] * channels,
    }  # fmt: skip
    where = {322: [tile], 323: [tile], 324: places, 325: [len(s) for s in strips]}
    whole = {273: places, 278: [rows], 279: [len(strip) for strip in strips]}
    found |= where if tile else whole
    for name, value in tags.items():
        found[int(name[1:])] = [value] if isinstance(value, int) else value
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    for page in range(pages):
        body += _directory(found, order, start + len(body), big=big, last=page == pages - 1)
    first = start + sum(map(len, strips)) + sum(map(len, strips)) % 2
    mark = b"II" if order == "<" else b"MM"
    head = (
        struct.pack(f"{order}HHHQ", 43, 8, 0, first)
        if big
        else struct.pack(f"{order}HI", 42, first)
    )
    return mark + head + body


def _tiles(values: np.ndarray, side: int) -> list[np.ndarray]:
    rows, columns = values.shape[:2]
    edge = ((0, -rows % side), (0, -columns % side), *[(0, 0)] * (values.ndim - 2))
    full = np.pad(values, edge)
    return [
        full[y : y + side, x : x + side]
        for y in range(0, full.shape[0], side)
        for x in range(0, full.shape[1], side)
    ]


def _directory(
    tags: dict[int, Sequence[int]], order: str, at: int, *, big: bool, last: bool
) -> bytes:
    """Return a directory with its longer values behind it; all values are LONG or SHORT."""
    word, count, room = ("Q", "Q", 8) if big else ("I", "H", 4)
    step = 20 if big else 12
    size = struct.calcsize(f"={count}") + step * len(tags) + struct.calcsize(f"={word}")
    entries, behind = b"", b""
    for tag, values in sorted(tags.items()):
        kind, code = (3, "H") if max(values) < 1 << 16 and tag in (258, 339) else (4, "I")
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(packed) > room:
            place = struct.pack(f"{order}{word}", at + size + len(behind))
            behind += packed + b"\0" * (len(packed) % 2)
            packed = place
        entries += struct.pack(f"{order}HH{word}", tag, kind, len(values))
        entries += packed.ljust(room, b"\0")
    following = 0 if last else at + size + len(behind)
    head = struct.pack(f"{order}{count}", len(tags))
    return head + entries + struct.pack(f"{order}{word}", following) + behind
