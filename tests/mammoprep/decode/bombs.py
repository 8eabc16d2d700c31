"""Small files that ask for much: more than forty, each made in code, each with the code it ends in.

No file is larger than a few megabytes, and most have a few kilobytes. ``Bomb.refused`` says that
the gate stops the file before any decoder sees a byte of it.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from dicoms import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HTJ2K,
    HTJ2K_LOSSY,
    HTJ2K_RPCL,
    IMPLICIT,
    JPEG,
    JPEG2000,
    JPEG2000_LOSSY,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_LOSSY,
    RLE,
    breast,
    dataset,
    dicom,
    encode,
    lut,
    write,
)

COMPRESSED = {
    "rle": RLE,
    "50": JPEG,
    "51": JPEG_EXTENDED,
    "57": JPEG_LOSSLESS,
    "70": JPEG_LOSSLESS_SV1,
    "80": JPEG_LS,
    "81": JPEG_LS_LOSSY,
    "90": JPEG2000,
    "91": JPEG2000_LOSSY,
    "201": HTJ2K,
    "202": HTJ2K_RPCL,
    "203": HTJ2K_LOSSY,
}
JPEG_FAMILY = {name: COMPRESSED[name] for name in ("50", "51", "57", "70")}
NATIVE = {
    "implicit": IMPLICIT,
    "explicit": EXPLICIT,
    "deflated": DEFLATED,
    "big endian": BIG_ENDIAN,
}
JPEG2000_FAMILY = {name: COMPRESSED[name] for name in ("90", "91", "201", "202", "203")}
LARGEST = (10_000, 10_000)  # what the gate lets through
# How a file may end that the gate cannot refuse: by the decoder, by a limit, by the plain picture.
ANY = ("decode_error", "decode_oom", "decode_timeout", "blank_image", "bits_exceed_stored")
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
FAR = 0xFFFFFFF0
UNDEFINED = b"\xff\xff\xff\xff"
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
PIXEL_DATA = b"\xe0\x7f\x10\x00"


@dataclass(frozen=True)
class Bomb:
    """A hostile file.

    Attributes:
        make: Returns its bytes.
        codes: The codes it may end in; ``built`` where the lie is harmless.
        refused: Whether the gate must refuse it before a decoder is called.
    """

    make: Callable[[], bytes]
    codes: tuple[str, ...]
    refused: bool = True


# Files around raw elements


def element(tag: bytes, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return an explicit element with a 32-bit length, which may be a lie."""
    stated = len(value) if length is None else length
    return tag + vr + b"\0\0" + struct.pack("<I", stated) + value


def header(syntax: str = EXPLICIT, bits: int = 12, **attributes: Any) -> bytes:
    """Return a mammogram's file up to its pixel data."""
    return write(dataset(breast(bits), bits, **attributes), syntax)


def encapsulated(value: bytes, syntax: str, bits: int = 12, **attributes: Any) -> bytes:
    """Return a file around finished items, offset table and all, true or not."""
    pixels = element(PIXEL_DATA, b"OB", value + SEQUENCE_END + bytes(4), 0xFFFFFFFF)
    return header(syntax, bits, **attributes) + pixels


def fragment(data: bytes, length: int | None = None) -> bytes:
    """Return an item of encapsulated pixel data, with a length that may be a lie."""
    data += b"\0" * (len(data) % 2)
    return ITEM + struct.pack("<I", len(data) if length is None else length) + data


def framed(frame: bytes, syntax: str, shape: tuple[int, int], bits: int = 12) -> bytes:
    """Return a file whose header agrees with its codestream."""
    value = fragment(b"") + fragment(frame)
    return encapsulated(value, syntax, bits, Rows=shape[0], Columns=shape[1])


def with_elements(elements: bytes) -> bytes:
    """Return a good native file with raw elements before its pixels."""
    pixels = element(PIXEL_DATA, b"OW", breast().tobytes())
    return header() + elements + pixels


def nested(depth: int, tag: bytes = b"\x40\x00\x75\x02") -> bytes:
    """Return a sequence of undefined length in itself ``depth`` times."""
    opening = tag + b"SQ\0\0" + UNDEFINED + ITEM + UNDEFINED
    closing = ITEM_END + bytes(4) + SEQUENCE_END + bytes(4)
    return opening * depth + closing * depth


def deflated(start: bytes, block: bytes, times: int) -> bytes:
    """Return a deflated file of ``start`` and then a block very often, without making it whole."""
    whole = header(DEFLATED)
    meta = whole[: 144 + struct.unpack_from("<I", whole, 140)[0]]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    # A block between two full flushes refers to nothing before it: it may be repeated as it is.
    again = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
    return meta + first + again * times + deflate.flush()


# Codestreams


def siz(
    shape: tuple[int, int], tile: tuple[int, int] | None = None, components: int = 1, bits: int = 12
) -> bytes:
    """Return SOC and SIZ (ISO/IEC 15444-1 A.5.1)."""
    (rows, columns), (height, width) = shape, tile or shape
    sizes = (columns, rows, 0, 0, width, height, 0, 0)
    length = 38 + 3 * components
    body = struct.pack(">HHIIIIIIIIH", length & 0xFFFF, 0, *sizes, components & 0xFFFF)
    return b"\xff\x4f\xff\x51" + body + bytes([bits - 1, 1, 1]) * components


def j2k(
    shape: tuple[int, int],
    *,
    tile: tuple[int, int] | None = None,
    levels: int = 0,
    block: int = 4,
    layers: int = 1,
    precinct: int | None = None,
    more: bytes = b"",
    parts: int = 1,
    same: bool = False,
    packets: bytes = b"",
) -> bytes:
    """Return a JPEG 2000 codestream of nothing: a header, tile-parts and empty packets."""
    sizes = b"" if precinct is None else bytes([precinct]) * (levels + 1)
    cod = (
        struct.pack(">BBHB", bool(sizes), 0, layers, 0)
        + bytes([levels, block, block, 0, 1])
        + sizes
    )
    qcd = bytes([0x40]) + bytes([12 << 3]) * (3 * levels + 1)
    main = siz(shape, tile) + b"".join(
        marker(code, body) for code, body in ((0xFF52, cod), (0xFF5C, qcd))
    )
    body = b"".join(
        b"\xff\x90"
        + struct.pack(">HHIBB", 10, 0 if same else part, 14 + len(packets), 0, 1)
        + b"\xff\x93" + packets
        for part in range(parts)
    )  # fmt: skip
    return main + more + body + b"\xff\xd9"


def marker(code: int, body: bytes) -> bytes:
    """Return a marker segment."""
    return struct.pack(">HH", code, len(body) + 2) + body


def jp2(codestream: bytes, shape: tuple[int, int]) -> bytes:
    """Return a JP2 file around a codestream, with the size of its own header."""
    ihdr = struct.pack(">I4sIIHBBBB", 22, b"ihdr", *shape, 1, 11, 7, 0, 0)
    colr = struct.pack(">I4sBBBI", 15, b"colr", 1, 0, 0, 17)
    boxes = (
        (b"jP  ", b"\r\n\x87\n"),
        (b"ftyp", b"jp2 \0\0\0\0jp2 "),
        (b"jp2h", ihdr + colr),
        (b"jp2c", codestream),
    )
    return b"".join(struct.pack(">I4s", len(body) + 8, kind) + body for kind, body in boxes)


def resized(syntax: str, shape: tuple[int, int], bits: int = 12) -> bytes:
    """Return the codestream of a small picture with another size in its SOF marker."""
    frame = encode(breast(bits), syntax, bits)
    small, large = struct.pack(">HH", *breast().shape), struct.pack(">HH", *shape)
    if small not in frame:
        raise ValueError("the encoder wrote no size")
    return frame.replace(small, large, 1)


def headed(frame: bytes, second: bytes) -> bytes:
    """Return a JPEG with a segment before its scan."""
    at = frame.index(b"\xff\xda")
    return frame[:at] + second + frame[at:]


def sof(marker: int, shape: tuple[int, int], bits: int) -> bytes:
    """Return a SOF segment of one component."""
    return struct.pack(">BBHBHHB", 0xFF, marker, 11, bits, *shape, 1) + bytes([1, 0x11, 0])


def scans(shape: tuple[int, int], count: int) -> bytes:
    """Return a progressive JPEG of ``count`` nearly empty scans, each over the whole picture."""
    table = b"\xff\xdb\x00\x43\x00" + bytes([1]) * 64
    code = b"\xff\xc4\x00\x14\x10" + bytes([1]) + bytes(15) + bytes([0])
    first = b"\xff\xc4\x00\x14\x00" + bytes([1]) + bytes(15) + bytes([0])
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00" + b"\0"
    start = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + b"\0"
    head = b"\xff\xd8" + table + sof(0xC2, shape, 8) + first + code
    return head + start + scan * count + b"\xff\xd9"


def segments(count: int, *starts: int, data: bytes = b"") -> bytes:
    """Return an RLE frame with any number of segments at any place (PS3.5 G.5)."""
    return struct.pack("<16I", count, *starts, *[0] * (15 - len(starts))) + data


# The list

EOI = b"\xff\xd9"
EMPTY = b"\0"  # an empty packet of JPEG 2000
HUGE = (60_000, 60_000)
SMALL = (128, 96)  # what ``breast`` makes


def _bits(syntax: str) -> int:
    return 8 if syntax == JPEG else 12


def plain(syntax: str = EXPLICIT, **attributes: Any) -> bytes:
    """Return a good file but for some attributes."""
    return dicom(breast(_bits(syntax)), _bits(syntax), syntax=syntax, **attributes)


def lying(syntax: str, frame: bytes) -> bytes:
    """Return a file with a small header around another codestream."""
    return dicom(breast(_bits(syntax)), _bits(syntax), syntax=syntax, frame=frame)


def short(tag: int, vr: bytes, value: bytes) -> bytes:
    """Return an explicit element with a 16-bit length."""
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def long_text(tag: int, vr: bytes, value: bytes) -> bytes:
    """Return an explicit element with a 32-bit length."""
    return element(struct.pack("<HH", tag >> 16, tag & 0xFFFF), vr, value)


def sequence(tag: int, items: bytes) -> bytes:
    """Return an explicit sequence of finished items."""
    return element(struct.pack("<HH", tag >> 16, tag & 0xFFFF), b"SQ", items)


def _sizes() -> dict[str, Bomb]:
    """Sizes in the header, in the codestream, and in both."""
    found = {}
    for name, syntax in {**NATIVE, **COMPRESSED}.items():
        found[f"{name}: header of 65535 x 65535"] = Bomb(
            partial(plain, syntax, Rows=65535, Columns=65535), ("header_bounds",)
        )
    for name, syntax in {**JPEG_FAMILY, "80": JPEG_LS, "81": JPEG_LS_LOSSY}.items():
        found[f"{name}: codestream of 65500 x 65500"] = Bomb(
            lambda syntax=syntax: lying(syntax, resized(syntax, (65500, 65500), _bits(syntax))),
            ("size_mismatch",),
        )
    for name, syntax in JPEG2000_FAMILY.items():
        found[f"{name}: codestream of 60000 x 60000"] = Bomb(
            lambda syntax=syntax: lying(syntax, j2k(HUGE)), ("size_mismatch",)
        )
        found[f"{name}: codestream and header of 60000 x 60000"] = Bomb(
            lambda syntax=syntax: framed(j2k(HUGE), syntax, HUGE), ("header_bounds",)
        )
    found["70: codestream and header of 60000 x 60000"] = Bomb(
        lambda: framed(resized(JPEG_LOSSLESS_SV1, HUGE), JPEG_LOSSLESS_SV1, HUGE),
        ("header_bounds",),
    )
    return found


def _jpeg2000() -> dict[str, Bomb]:
    small, box = partial(lying, JPEG2000), JP2_SIGNATURE

    def boxed(length: int, more: bytes = b"") -> bytes:
        return lying(JPEG2000, box + struct.pack(">I4s", length, b"jp2h") + more + j2k(SMALL))

    return {
        "boxes of length 0": Bomb(partial(boxed, 0), ("decode_error",)),
        "boxes of length 1 and 0": Bomb(partial(boxed, 1, bytes(8)), ("decode_error",)),
        "boxes of length 2^64 - 1": Bomb(partial(boxed, 1, b"\xff" * 8), ("decode_error",)),
        "boxes of length 2^32 - 16": Bomb(partial(boxed, FAR), ("decode_error",)),
        "a box header of 60000 x 60000": Bomb(
            lambda: small(jp2(encode(breast(), JPEG2000, 12), HUGE)), ("built", *ANY), refused=False
        ),
        "a box around 60000 x 60000": Bomb(
            lambda: small(jp2(j2k(HUGE), SMALL)), ("size_mismatch",)
        ),
        "tiles of 1 x 1, 100 million": Bomb(
            lambda: framed(j2k(LARGEST, tile=(1, 1)), JPEG2000, LARGEST), ("header_bounds",)
        ),
        "tiles of 1 x 1, most missing": Bomb(
            lambda: small(j2k(SMALL, tile=(1, 1))), ("decode_error",)
        ),
        "tiles of 1 x 1, all there": Bomb(
            lambda: small(j2k(SMALL, tile=(1, 1), parts=128 * 96, packets=EMPTY)),
            ("built", *ANY),
            refused=False,
        ),
        "tiles of 0 x 0": Bomb(lambda: small(j2k(SMALL, tile=(0, 0))), ("header_bounds",)),
        "a million tile-parts": Bomb(
            lambda: small(j2k(SMALL, parts=100_000, same=True)), ("header_bounds",)
        ),
        "a tile-part longer than the file": Bomb(
            lambda: small(j2k(SMALL).replace(struct.pack(">I", 14), struct.pack(">I", FAR), 1)),
            ("decode_error",),
        ),
        "33 levels": Bomb(lambda: small(j2k(SMALL, levels=33)), ANY, refused=False),
        "32 levels of empty packets": Bomb(
            lambda: small(j2k(SMALL, levels=32, packets=EMPTY * 33)), ANY, refused=False
        ),
        "65535 layers": Bomb(
            lambda: framed(
                j2k(LARGEST, levels=5, layers=65535, packets=EMPTY * 65535 * 6), JPEG2000, LARGEST
            ),
            ANY,
            refused=False,
        ),
        "precincts of 2 x 2": Bomb(
            lambda: framed(j2k(LARGEST, levels=5, precinct=0x11), JPEG2000, LARGEST),
            ("header_bounds",),
        ),
        "code-blocks of 4 x 4": Bomb(
            lambda: framed(j2k(LARGEST, levels=5, block=0), JPEG2000, LARGEST), ("header_bounds",)
        ),
        "code-blocks of 16 x 16": Bomb(
            lambda: framed(j2k(LARGEST, levels=5, block=2, packets=EMPTY * 6), JPEG2000, LARGEST),
            ANY,
            refused=False,
        ),
        "precincts of 2 x 2 in a tile-part": Bomb(
            lambda: framed(
                j2k(LARGEST, levels=5)
                .replace(
                    b"\xff\x93",
                    marker(0xFF52, bytes([1, 0, 0, 1, 0, 5, 4, 4, 0, 1]) + b"\x11" * 6)
                    + b"\xff\x93",
                )
                .replace(struct.pack(">I", 14), struct.pack(">I", 34)),
                JPEG2000,
                LARGEST,
            ),
            ("header_bounds",),
        ),
        "precincts of 1 x 1": Bomb(
            lambda: framed(j2k(LARGEST, levels=5, precinct=0), JPEG2000, LARGEST),
            ("header_bounds",),
        ),
        "an order change for every packet": Bomb(
            lambda: small(
                j2k(
                    SMALL,
                    levels=5,
                    more=marker(0xFF5F, struct.pack(">BBHBBB", 0, 0, 9, 6, 1, 4) * 9000),
                )
            ),
            ANY,
            refused=False,
        ),
        "a component that is not there": Bomb(
            lambda: small(j2k(SMALL, more=marker(0xFF53, bytes([255, 0, 32, 4, 4, 0, 1])))),
            ANY,
            refused=False,
        ),
        "2000 segments": Bomb(
            lambda: small(j2k(SMALL, more=marker(0xFF64, b"\0\1") * 2000)), ("decode_error",)
        ),
        "the largest picture from nothing": Bomb(
            lambda: framed(j2k(LARGEST), JPEG2000, LARGEST), ANY, refused=False
        ),
        "the largest picture from nothing, HTJ2K": Bomb(
            lambda: framed(j2k(LARGEST, levels=5), HTJ2K, LARGEST), ANY, refused=False
        ),
    }


def _jpeg() -> dict[str, Bomb]:
    def of(frame: Callable[[bytes], bytes], syntax: str = JPEG) -> Callable[[], bytes]:
        return lambda: lying(syntax, frame(encode(breast(_bits(syntax)), syntax, _bits(syntax))))

    late = struct.pack(">HHHH", 0xFFDC, 4, 65535, 0)[:6]
    return {
        "height told late": Bomb(
            lambda: lying(JPEG, resized(JPEG, (0, 96), 8).replace(EOI, late + EOI)),
            ("size_mismatch",),
        ),
        "a second frame header": Bomb(
            of(lambda f: headed(f, sof(0xC0, (65500, 65500), 8))), ("decode_error",)
        ),
        "a second lossless frame header": Bomb(
            of(lambda f: headed(f, sof(0xC3, (65500, 65500), 12)), JPEG_LOSSLESS), ("decode_error",)
        ),
        "a frame header after the scan": Bomb(
            of(lambda f: f.replace(EOI, sof(0xC0, (65500, 65500), 8) + EOI)), ("decode_error",)
        ),
        "20,000 scans": Bomb(
            lambda: framed(scans(LARGEST, 20_000), JPEG, LARGEST, 8), ("header_bounds",)
        ),
        "60 scans": Bomb(
            lambda: framed(scans((4000, 4000), 60), JPEG, (4000, 4000), 8), ANY, refused=False
        ),
        "no end": Bomb(of(lambda f: f[:-2]), ("decode_error",)),
        "no end of JPEG-LS": Bomb(of(lambda f: f[: len(f) // 2], JPEG_LS), ("decode_error",)),
        "no scan": Bomb(of(lambda f: f[: f.index(b"\xff\xda")] + EOI), ("decode_error",)),
        "2000 comments": Bomb(
            of(lambda f: f[:2] + b"\xff\xfe\0\4xx" * 2000 + f[2:]), ("decode_error",)
        ),
        "255 components": Bomb(
            of(lambda f: f.replace(b"\x00\x60\x01", b"\x00\x60\xff", 1)), ("not_monochrome",)
        ),
        "16 bits in 8": Bomb(
            lambda: lying(JPEG, encode(breast(16), JPEG_LOSSLESS, 16)), ("precision_mismatch",)
        ),
        "the largest lossless picture from nothing": Bomb(
            lambda: framed(resized(JPEG_LOSSLESS, LARGEST), JPEG_LOSSLESS, LARGEST),
            ANY,
            refused=False,
        ),
        "the largest JPEG-LS picture from nothing": Bomb(
            lambda: framed(resized(JPEG_LS, LARGEST), JPEG_LS, LARGEST), ANY, refused=False
        ),
    }


def _rle() -> dict[str, Bomb]:
    def of(frame: bytes, shape: tuple[int, int] = SMALL) -> Bomb:
        return Bomb(
            lambda: framed(frame, RLE, shape), ("decode_error", "blank_image"), refused=False
        )

    runs = b"\x81\0" * (4000 * 4000 // 128)
    return {
        "2^31 segments": of(segments(1 << 31, 64, data=bytes(64))),
        "segments beyond the frame": of(segments(2, 64, FAR, data=bytes(64))),
        "segments in the header": of(segments(2, 0, 0, data=bytes(64))),
        "segments backwards": of(segments(2, 128, 64, data=bytes(200))),
        "15 segments": of(segments(15, *[64] * 15, data=bytes(64))),
        "runs of 4000 x 4000": of(
            segments(2, 64, 64 + len(runs), data=runs * 2), shape=(4000, 4000)
        ),
    }


def _structure() -> dict[str, Bomb]:
    zeros = long_text(0x00110010, b"OB", b"")[:8]
    opening = b"\x40\x00\x75\x02SQ\0\0" + UNDEFINED + ITEM + UNDEFINED
    unknown = b"\x40\x00\x75\x02UN\0\0" + UNDEFINED + ITEM + UNDEFINED
    many = b"".join(
        struct.pack("<HH2sH", 0x0011 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0) for n in range(200_000)
    )
    creators = b"".join(
        short((group << 16) | block, b"LO", b"X")
        for group in range(0x0011, 0x00F1, 2)
        for block in range(0x10, 0x100)
    )
    return {
        "deflate 1000:1": Bomb(
            lambda: deflated(zeros + struct.pack("<I", 300 << 20), bytes(1 << 20), 300),
            ("header_bounds",),
        ),
        "deflate in deflate": Bomb(
            lambda: deflated(b"", zlib.compress(bytes(64 << 20), 9), 1),
            ("header_bounds", "unreadable"),
        ),
        "deflate of random pixels that lie": Bomb(
            lambda: deflated(
                element(PIXEL_DATA, b"OW", b"", FAR), np.random.default_rng(0).bytes(1 << 18), 20
            ),
            ("not_an_image", "header_missing", "unreadable"),
        ),
        "100,000 sequences in each other": Bomb(
            lambda: with_elements(nested(100_000)), ("header_bounds",)
        ),
        "100,000 sequences never closed": Bomb(
            lambda: with_elements(opening * 100_000), ("header_bounds",)
        ),
        "30 sequences never closed": Bomb(
            lambda: with_elements(opening * 30), ("unreadable", "header_bounds")
        ),
        "100,000 unknown sequences": Bomb(
            lambda: with_elements(unknown * 100_000), ("header_bounds", "unreadable")
        ),
        "an element of 4 GiB": Bomb(
            lambda: with_elements(element(b"\x11\x00\x10\x00", b"OB", b"", FAR)), ("unreadable",)
        ),
        "pixels of 4 GiB": Bomb(
            lambda: header() + element(PIXEL_DATA, b"OW", bytes(64), FAR),
            ("pixel_length_mismatch",),
        ),
        "200,000 elements": Bomb(lambda: with_elements(many), ("built",), refused=False),
        "26,880 private creators": Bomb(lambda: with_elements(creators), ("built",), refused=False),
    }


def _fragments() -> dict[str, Bomb]:
    good = encode(breast(), JPEG2000, 12)
    table = fragment(np.arange(1_000_000, dtype="<u4").tobytes())
    extended = long_text(0x7FE00001, b"OV", np.full(500_000, 2**63, "<u8").tobytes())
    lengths = long_text(0x7FE00002, b"OV", np.full(500_000, 2**64 - 1, "<u8").tobytes())
    body = fragment(b"") + fragment(good)
    pixels = element(PIXEL_DATA, b"OB", body + SEQUENCE_END + bytes(4), 0xFFFFFFFF)

    def of(value: bytes, *codes: str, refused: bool = True) -> Bomb:
        return Bomb(lambda: encapsulated(value, JPEG2000), codes, refused=refused)

    return {
        "an offset table of a million": of(
            table + fragment(good), "built", "decode_error", refused=False
        ),
        "an offset beyond the file": of(
            fragment(b"\xf0\xff\xff\xff") + fragment(good), "built", "decode_error", refused=False
        ),
        "an extended offset table of 500,000": Bomb(
            lambda: header(JPEG2000) + extended + lengths + pixels, ("built",), refused=False
        ),
        "a fragment of 4 GiB": of(
            fragment(b"") + fragment(good, FAR), "built", "decode_error", refused=False
        ),
        "an offset table of 4 GiB": of(
            fragment(b"", FAR) + fragment(good), "decode_error", "unreadable"
        ),
        "no fragment": of(fragment(b""), "decode_error"),
        "200,000 empty fragments": of(fragment(b"") * 200_000, "decode_error"),
        "a picture in fragments of 2 bytes": of(
            fragment(b"") + b"".join(fragment(good[n : n + 2]) for n in range(0, len(good), 2)),
            "built",
            refused=False,
        ),
    }


def _frames() -> dict[str, Bomb]:
    counts = (b"2147483647", b"0", b"-1", b"1e9", b"1e308", b"9" * 400, b"1.5", b"nan", b"0x10")
    stated = {
        f"{count[:12].decode()} frames": Bomb(
            lambda count=count: with_elements(short(0x00280008, b"IS", count)), ("header_bounds",)
        )
        for count in counts
    }
    most = with_elements(short(0x00280008, b"IS", b"10000"))
    return {**stated, "10,000 frames of one": Bomb(lambda: most, ("multiframe",))}


def _values() -> dict[str, Bomb]:
    digits = b"1" * (4 << 20)
    windows = ("nan", "inf", "-inf", "1e308", "-1e308", "1e-308", "1e999", "0", "-1")

    def windowed(value: str) -> Callable[[], bytes]:
        raw = value.encode()
        return lambda: with_elements(short(0x00281050, b"DS", raw) + short(0x00281051, b"DS", raw))

    def made(**attributes: Any) -> Callable[[], bytes]:
        return lambda: plain(**attributes)

    def harmless(make: Callable[[], bytes], *more: str) -> Bomb:
        return Bomb(make, ("built", *more), refused=False)

    odd = ("voi_invalid", "blank_image", "polarity_suspect", "nonsense_image")
    item = fragment(short(0x00280010, b"US", b"\0\0"))
    return {
        **{f"a window of {value}": harmless(windowed(value), *odd) for value in windows},
        "a window of 4 MiB": harmless(
            lambda: with_elements(
                long_text(0x00281050, b"UN", digits) + long_text(0x00281051, b"UN", digits)
            ),
            *odd,
        ),
        "a slope of 1e308": harmless(
            lambda: with_elements(
                short(0x00281052, b"DS", b"-1e308") + short(0x00281053, b"DS", b"1e308")
            ),
            *odd,
        ),
        "a table of 65536 with 10": harmless(
            made(VOILUTSequence=[lut(range(10), 0, 16, count=0)]), *odd
        ),
        "a table of 4 MiB": harmless(
            made(VOILUTSequence=[lut(np.zeros(2 << 20) + 9, 0, 16, count=0)]), *odd
        ),
        "a table that begins at 65535": harmless(
            made(VOILUTSequence=[lut(range(4096), 65535, 16)]), *odd
        ),
        "a table of depth 65535": harmless(made(VOILUTSequence=[lut(range(4096), 0, 65535)]), *odd),
        "a descriptor of 2 MiB": harmless(
            lambda: with_elements(
                sequence(
                    0x00283010,
                    fragment(
                        long_text(0x00283002, b"UN", b"\xff" * (2 << 20))
                        + long_text(0x00283006, b"OW", bytes(20))
                    ),
                )
            ),
            *odd,
        ),
        "10,000 tables": harmless(lambda: with_elements(sequence(0x00283010, item * 10_000)), *odd),
        "100,000 views": harmless(lambda: with_elements(sequence(0x00540220, item * 100_000))),
        "a character set of 1 MiB": harmless(
            lambda: with_elements(long_text(0x00080005, b"UN", b"ISO_IR 100\\" * 100_000)),
            "unreadable",
        ),
        "a pixel aspect ratio of 16 MiB": harmless(
            lambda: with_elements(long_text(0x00280034, b"UN", b"1\\" * (8 << 20)))
        ),
        "an image type of a million": harmless(
            lambda: with_elements(long_text(0x00080008, b"UN", b"A\\" * 1_000_000))
        ),
        "rows in a text": Bomb(
            lambda: with_elements(short(0x00280010, b"IS", b"1e300")),
            ("header_bounds", "header_missing"),
        ),
        "rows that are no number": Bomb(
            lambda: with_elements(short(0x00280010, b"FD", struct.pack("<d", float("nan")))),
            ("header_bounds", "header_missing", "not_an_image"),
        ),
    }


BOMBS: dict[str, Bomb] = {
    **_sizes(),
    **_jpeg2000(),
    **_jpeg(),
    **_rle(),
    **_structure(),
    **_fragments(),
    **_frames(),
    **_values(),
}
