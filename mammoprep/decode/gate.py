"""Every bound that is checked before anything is allocated, inflated or decoded.

A compressed file of a few kilobytes can ask for gigabytes. So the file's own claims are read with
small parsers, compared with fixed limits and with each other, and only then handed on.
"""

import struct
import zlib
from dataclasses import dataclass

from mammoprep.core.errors import RecordError
from mammoprep.decode import _formats
from mammoprep.decode._codestream import Codestream, read_codestream
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode._flaws import find_flaw

MOST_FILE_BYTES = 1 << 30
MOST_INFLATED_BYTES = 1 << 30
MOST_INFLATION = 200
SIDE_LIMITS = (64, 16384)
MOST_PIXELS = 100_000_000
MOST_FRAMES = 10_000
MOST_NESTING = 32
STORED_BITS = (6, 16)

DEFLATED = "1.2.840.10008.1.2.1.99"
_CHUNK = 1 << 20
LONG_VRS = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UN", b"UR", b"UT"))
_MOST_META_ELEMENTS = 100


@dataclass(frozen=True)
class FileMeta:
    """What the file meta information says (PS3.10 section 7.1).

    Attributes:
        transfer_syntax: UID of the encoding.
        sop_class: Media Storage SOP Class UID, or None.
        end: Offset of the data set.
    """

    transfer_syntax: str
    sop_class: str | None
    end: int


def check_file(data: bytes) -> FileMeta:
    """Check that ``data`` is a DICOM file of bounded size, also after inflating.

    Raises:
        RecordError: ``header_bounds``, ``not_dicom``, ``unreadable`` or ``no_transfer_syntax``.
    """
    if len(data) > MOST_FILE_BYTES:
        raise RecordError("header_bounds", f"{len(data)} bytes, the limit is {MOST_FILE_BYTES}")
    if data[128:132] != b"DICM":
        raise RecordError("not_dicom", _formats.describe(data))
    meta = _file_meta(data)
    if meta.transfer_syntax == DEFLATED:
        check_inflation(memoryview(data)[meta.end :])
    return meta


def _file_meta(data: bytes) -> FileMeta:
    try:
        values, end = _meta_elements(data)
    except struct.error:
        raise RecordError("unreadable", "file meta information is cut off") from None
    syntax = values.get(0x0010)
    if not syntax:
        raise RecordError(
            "no_transfer_syntax", "Transfer Syntax UID (0002,0010) is absent or empty"
        )
    return FileMeta(syntax, values.get(0x0002) or None, end)


def _meta_elements(data: bytes) -> tuple[dict[int, str], int]:
    values: dict[int, str] = {}
    at, stop = 132, len(data)
    for _ in range(_MOST_META_ELEMENTS):
        if at >= stop:
            break
        group, tag, vr, length = struct.unpack_from("<HH2sH", data, at)
        if group != 2:
            break
        start = at + 8
        if vr in LONG_VRS:
            (length,) = struct.unpack_from("<I", data, start)
            start += 4
        at = start + length
        if tag == 0 and length == 4:
            stop = at + struct.unpack_from("<I", data, start)[0]
        elif tag in (0x0002, 0x0010):
            values[tag] = data[start:at].decode("ascii", "replace").strip(" \0")
    return values, at


def check_inflation(deflated: memoryview) -> None:
    """Inflate in small pieces, keeping none, and stop at the limits.

    Raises:
        RecordError: ``header_bounds`` above 1 GiB or 200:1, ``unreadable`` for a damaged stream.
    """
    most = min(MOST_INFLATED_BYTES, MOST_INFLATION * max(len(deflated), 1))
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    pending, total = bytes(deflated), 0
    while pending and not inflate.eof:
        try:
            total += len(inflate.decompress(pending, _CHUNK))
        except zlib.error:
            raise RecordError("unreadable", "the deflated data set is damaged") from None
        if total > most:
            raise RecordError("header_bounds", f"inflates to more than {most} bytes")
        pending = inflate.unconsumed_tail


def check_nesting(depth: int) -> None:
    """Check how deep sequences lie in each other.

    Raises:
        RecordError: ``header_bounds``.
    """
    if depth > MOST_NESTING:
        raise RecordError("header_bounds", f"sequences are nested deeper than {MOST_NESTING}")


def check_frames(frames: int | None) -> int:
    """Return Number of Frames when it is usable.

    Raises:
        RecordError: ``header_bounds``.
    """
    if frames is None or not 1 <= frames <= MOST_FRAMES:
        raise RecordError(
            "header_bounds", f"Number of Frames is {frames}, 1 to {MOST_FRAMES} allowed"
        )
    return frames


def check_pixels(pixels: PixelFormat) -> None:
    """Check size, bits and photometric interpretation before memory is asked for.

    Raises:
        RecordError: ``header_missing``, ``header_bounds`` or ``not_monochrome``.
    """
    needed = {
        "Rows": pixels.rows,
        "Columns": pixels.columns,
        "Bits Allocated": pixels.bits_allocated,
        "Bits Stored": pixels.bits_stored,
        "Photometric Interpretation": pixels.photometric,
    }
    if missing := [name for name, value in needed.items() if value is None]:
        raise RecordError("header_missing", f"no usable {', '.join(missing)}")
    if pixels.samples != 1 or pixels.photometric == "other":
        raise RecordError("not_monochrome", f"{pixels.samples} samples a pixel, or a colour space")
    check_size(pixels.rows or 0, pixels.columns or 0)
    _check_bits(pixels.bits_allocated or 0, pixels.bits_stored or 0, pixels.high_bit or 0)


def check_size(rows: int, columns: int) -> None:
    """Check rows and columns against the fixed limits.

    Raises:
        RecordError: ``header_bounds``.
    """
    low, high = SIDE_LIMITS
    if not (low <= rows <= high and low <= columns <= high and rows * columns <= MOST_PIXELS):
        raise RecordError(
            "header_bounds",
            f"{rows} x {columns} pixels, {low} to {high} a side and {MOST_PIXELS} in all allowed",
        )


def _check_bits(allocated: int, stored: int, high: int) -> None:
    low, top = STORED_BITS
    if allocated not in (8, 16) or not low <= stored <= min(top, allocated):
        raise RecordError("header_bounds", f"{stored} bits stored of {allocated} allocated")
    if not stored - 1 <= high < allocated:
        raise RecordError(
            "header_bounds", f"High Bit {high} with {stored} bits stored of {allocated} allocated"
        )


def check_codestream(data: bytes, pixels: PixelFormat, families: tuple[str, ...]) -> Codestream:
    """Check that a compressed frame is what the header says, before a decoder sees it.

    Args:
        data: One frame.
        pixels: A format that ``check_pixels`` has accepted.
        families: Codestream families that the transfer syntax allows.

    Raises:
        RecordError: ``decode_error`` (no such codestream, or one that is cut off),
            ``size_mismatch``, ``not_monochrome``, ``precision_mismatch`` or ``header_bounds``.
    """
    found = read_codestream(data)
    if found is None or found.family not in families:
        raise RecordError("decode_error", f"no {' or '.join(families)} header in the frame")
    if (found.rows, found.columns) != (pixels.rows, pixels.columns):
        raise RecordError(
            "size_mismatch",
            f"codestream {found.rows} x {found.columns}, header {pixels.rows} x {pixels.columns}",
        )
    if found.components != 1:
        raise RecordError("not_monochrome", f"codestream has {found.components} components")
    _check_precision(found, pixels)
    if flaw := find_flaw(data, found):
        raise RecordError(*flaw)
    return found


def _check_precision(found: Codestream, pixels: PixelFormat) -> None:
    if found.precision > (pixels.bits_allocated or 0):
        raise RecordError(
            "precision_mismatch",
            f"codestream has {found.precision} bits, {pixels.bits_allocated} are allocated",
        )
    if found.signed not in (None, pixels.signed):
        raise RecordError(
            "precision_mismatch",
            f"codestream signed: {found.signed}, Pixel Representation signed: {pixels.signed}",
        )
    if pixels.high_bit != (pixels.bits_stored or 0) - 1:
        raise RecordError(
            "header_bounds",
            f"High Bit {pixels.high_bit} with {pixels.bits_stored} bits, compressed",
        )
