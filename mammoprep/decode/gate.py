"""Every bound that is checked before anything is allocated, inflated or decoded.

A compressed file of a few kilobytes can ask for gigabytes. So the file's own claims are read with
small parsers, compared with fixed limits and with each other, and only then handed on.
"""

import zlib
from dataclasses import replace

from mammoprep.core.errors import RecordError
from mammoprep.core.text import by
from mammoprep.decode._beginning import DEFLATED, FileMeta, read_meta
from mammoprep.decode._codestream import JP2_SIGNATURE, Codestream, read_codestream
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode._flaws import find_end

MOST_FILE_BYTES = 1 << 30
MOST_INFLATED_BYTES = 1 << 30
MOST_INFLATION = 200
SIDE_LIMITS = (64, 16384)
MOST_PIXELS = 100_000_000
MOST_FRAMES = 10_000
MOST_NESTING = 32
STORED_BITS = (6, 16)
ALLOCATED_BITS = (8, 16)

_CHUNK = 1 << 20
_FILL = b"\0\xff"


def check_file(data: bytes) -> FileMeta:
    """Check that ``data`` is a DICOM file of bounded size, also after inflating.

    Raises:
        RecordError: ``header_bounds``, ``unreadable``, or one of ``read_meta``.
    """
    if len(data) > MOST_FILE_BYTES:
        raise RecordError("header_bounds", f"{len(data)} bytes, the limit is {MOST_FILE_BYTES}")
    meta = read_meta(data)
    if meta.transfer_syntax == DEFLATED:
        check_inflation(memoryview(data)[meta.end :])
    return meta


def is_dicom(data: bytes) -> bool:
    """Return whether a file is DICOM, or so nearly that a message should speak of DICOM."""
    try:
        read_meta(data)
    except RecordError as error:
        return error.code != "not_dicom"
    return True


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
        RecordError: ``header_missing``, ``bits_unsupported``, ``header_bounds`` or
            ``not_monochrome``.
    """
    needed = {
        "Rows": pixels.rows,
        "Columns": pixels.columns,
        "Bits Allocated": pixels.bits_allocated,
        "Bits Stored": pixels.bits_stored,
        "Photometric Interpretation": pixels.photometric,
        "Pixel Representation": None if pixels.sign_stated is False else pixels.signed,
    }
    if missing := [name for name, value in needed.items() if value is None]:
        raise RecordError("header_missing", f"no usable {', '.join(missing)}")
    if pixels.samples != 1 or pixels.photometric == "other":
        told = "neither" if pixels.photometric == "other" else pixels.photometric
        found = f"Photometric Interpretation is {told} of MONOCHROME1 and MONOCHROME2"
        many = f"{pixels.samples} samples a pixel"
        raise RecordError("not_monochrome", many if pixels.samples != 1 else found)
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
            f"{by(rows, columns)} pixels, {low} to {high} a side and {MOST_PIXELS} in all allowed",
        )


def _check_bits(allocated: int, stored: int, high: int) -> None:
    low, top = STORED_BITS
    if allocated not in ALLOCATED_BITS:
        raise RecordError("bits_unsupported", f"{allocated} bits allocated; 8 and 16 are read")
    if 0 < stored < low:
        raise RecordError("bits_unsupported", f"{stored} bits stored; {low} to {top} are read")
    if not low <= stored <= min(top, allocated):
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
        RecordError: ``decode_error`` (no codestream, or one that is cut off), ``syntax_mismatch``,
            ``size_mismatch``, ``not_monochrome``, ``precision_mismatch``, ``frames_mismatch`` or
            ``header_bounds``.
    """
    found = read_codestream(data)
    if found is None:
        raise RecordError("decode_error", f"no {' or '.join(families)} header in the frame")
    check_family(found, families)
    if (found.rows, found.columns) != (pixels.rows, pixels.columns):
        raise RecordError(
            "size_mismatch",
            f"codestream {by(found.rows, found.columns)}, "
            f"header {by(pixels.rows or 0, pixels.columns or 0)}",
        )
    if found.components != 1:
        raise RecordError("not_monochrome", f"codestream has {found.components} components")
    _check_precision(found, pixels)
    end = find_end(data, found)
    if isinstance(end, tuple):
        raise RecordError(*end)
    # Boxes may follow in a JP2 file; other writers fill up to an even length, or more.
    boxed = data.startswith(JP2_SIGNATURE)
    return replace(found, excess=not boxed and bool(data[end:].strip(_FILL)))


def check_family(found: Codestream | None, families: tuple[str, ...]) -> None:
    """Check that a codestream, where there is one, is of a kind that the transfer syntax names.

    Raises:
        RecordError: ``syntax_mismatch``.
    """
    if found is not None and found.family not in families:
        raise RecordError(
            "syntax_mismatch",
            f"the frame is {found.family}, the transfer syntax says {' or '.join(families)}",
        )


def _check_precision(found: Codestream, pixels: PixelFormat) -> None:
    if found.precision > (pixels.bits_allocated or 0):
        raise RecordError(
            "precision_mismatch",
            f"codestream has {found.precision} bits, {pixels.bits_allocated} are allocated",
        )
    if pixels.high_bit != (pixels.bits_stored or 0) - 1:
        raise RecordError(
            "header_bounds",
            f"High Bit {pixels.high_bit} with {pixels.bits_stored} bits, compressed",
        )
