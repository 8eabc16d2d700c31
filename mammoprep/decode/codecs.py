"""One frame of pixel data -> stored values, through a table of decoders.

To add a decoder, add one line to ``DECODERS``. A decoder takes one frame and its format, returns
whole numbers of shape (rows, columns), and may raise any of ``DECODE_ERRORS``; the next in the row
is tried then. The fastest stands first; those that only check (``--crosscheck``) stand last. The
measurements behind each choice are in ``docs/decoders.md``.
"""

import io
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import features
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets

from mammoprep.core.errors import RecordError
from mammoprep.decode import gate, openjpeg
from mammoprep.decode._beginning import DEFLATED
from mammoprep.decode._codestream import Codestream, read_codestream
from mammoprep.decode._decoders import (
    BIG_ENDIAN,
    DECODE_ERRORS,
    RLE,
    Decoder,
    library,
    ljpeg,
    native,
    of_imagecodecs,
    of_pillow,
    pillow_jpeg,
    pillow_jpeg2000,
    pydicom_rle,
    rle,
    shape_of,
)
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode._values import PYDICOM_ERRORS, quiet

_LITTLE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", DEFLATED)
NATIVE = (*_LITTLE, BIG_ENDIAN)


@dataclass(frozen=True)
class Decoded:
    """Stored values and how they were read.

    Attributes:
        stored: (rows, columns), uint8, uint16, int8 or int16.
        decoder: Name and version of the decoder.
        warnings: Codes of what was odd.
        precision: Bits of a sample by the codestream, None for native and RLE data.
    """

    stored: NDArray[Any]
    decoder: str
    warnings: tuple[str, ...] = ()
    precision: int | None = None


_JPEG8, _JPEG_2K = of_imagecodecs("jpeg8"), of_imagecodecs("jpeg2k")
_NATIVE = (Decoder("native", np.__version__, native),)
_RLE = (
    # Not imagecodecs' dicomrle_decode: damaged frames make it crash.
    Decoder("pylibjpeg-rle", version("pylibjpeg-rle"), rle),
    Decoder("pydicom rle", version("pydicom"), pydicom_rle, only_checks=True),
)
_JPEG = (_JPEG8, of_pillow("libjpeg_turbo", pillow_jpeg, only_checks=True))
_JPEG_EXTENDED = (_JPEG8,)
_JPEG_LOSSLESS = (
    # Not jpegsof3: it ignores point transforms, and damaged frames make it crash.
    _JPEG8,
    replace(of_imagecodecs("ljpeg"), decode=ljpeg, only_checks=True),
)
_JPEG_LS = (of_imagecodecs("jpegls"),)
# Not imagecodecs' htj2k_decode: on a damaged frame it returns memory that nobody has written.
_JPEG2000 = (_JPEG_2K, of_pillow("jpg_2000", pillow_jpeg2000))

DECODERS: dict[str, tuple[Decoder, ...]] = {
    **dict.fromkeys(NATIVE, _NATIVE),
    RLE: _RLE,
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG_EXTENDED,
    "1.2.840.10008.1.2.4.57": _JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.70": _JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": _JPEG2000,
    "1.2.840.10008.1.2.4.91": _JPEG2000,
    "1.2.840.10008.1.2.4.201": _JPEG2000,
    "1.2.840.10008.1.2.4.202": _JPEG2000,
    "1.2.840.10008.1.2.4.203": _JPEG2000,
}
# Native data has no codestream and RLE no size of its own; both are held to the header's size.
_FAMILIES = {
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70)), ("jpeg",)),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)), ("jpegls",)),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)), ("jpeg2000",)),
}
ITEM = b"\xfe\xff\x00\xe0"
_RLE_HEADER = 64
LOSSY = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91, 203))


def libraries() -> dict[str, str]:
    """Return the versions of the C libraries that decode, by short names."""
    codecs = {"libjpeg-turbo": "jpeg8", "charls": "jpegls"}
    return {
        **{name: library(codec).split(" ", 1)[-1] for name, codec in codecs.items()},
        "openjpeg": openjpeg.version() or library("jpeg2k").split(" ", 1)[-1],
        "openjpeg of pillow": str(features.version("jpg_2000")),
    }


@dataclass(frozen=True)
class Frame:
    """One frame of Pixel Data, before decoding.

    Attributes:
        data: Native words, or one codestream.
        pixels: A format that ``gate.check_pixels`` has accepted.
        precision: Bits of a sample by the codestream, None for native and RLE data.
        odd: Warning codes of what was found before decoding.
        agreed: Where header and codestream differ about the sign: all values have to lie in 0 to
            ``agreed`` - 1, which both read alike. None where they do not differ.
    """

    data: bytes
    pixels: PixelFormat
    precision: int | None = None
    odd: tuple[str, ...] = ()
    agreed: int | None = None


def read_frame(data: bytes, pixels: PixelFormat, frames: int = 1, index: int = 0) -> Frame:
    """Return a frame of Pixel Data (7FE0,0010), held to the header's size and depth.

    Args:
        data: Value of the element: native words, or encapsulated fragments.
        pixels: A format that ``gate.check_pixels`` has accepted.
        frames: Number of Frames.
        index: Which of them, from 0.

    Raises:
        RecordError: ``unsupported_syntax``, ``header_bounds``, ``pixel_length_mismatch``,
            ``syntax_mismatch``, ``frames_mismatch``, ``decode_error``, or one of
            ``gate.check_codestream``.
    """
    syntax = pixels.transfer_syntax
    if not 0 <= index < frames:
        raise RecordError("header_bounds", f"frame {index} of {frames}")
    if syntax not in DECODERS:
        raise RecordError("unsupported_syntax", "no decoder for this transfer syntax")
    if syntax in NATIVE:
        return _native_frame(data, pixels, frames, index)
    frame = _encapsulated_frame(data, syntax, frames, index)
    if families := _FAMILIES.get(syntax):
        return _compressed(frame, pixels, gate.check_codestream(frame, pixels, families))
    gate.check_family(read_codestream(frame), ("rle",))
    return Frame(frame, pixels)


def _compressed(data: bytes, pixels: PixelFormat, found: Codestream) -> Frame:
    """Return a frame whose codestream has been checked.

    Where it differs from the header about the sign, the codestream decides (PS3.5 8.2.4). Other
    readers take the header's word instead, so that only values which both read alike are safe:
    ``settle`` looks at them. They are never negative, so they are taken as unsigned ones.
    """
    odd = ("excess_bytes",) if found.excess else ()
    if found.signed in (None, pixels.signed):
        return Frame(data, pixels, found.precision, odd)
    stored = pixels.bits_stored or 0
    # An unsigned sample with its highest bit set is negative for whoever believes the header; some
    # count that bit by the codestream's precision.
    agreed = 1 << (stored if found.signed else min(stored, found.precision) - 1)
    unsigned = replace(pixels, signed=False)
    return Frame(data, unsigned, found.precision, (*odd, "sign_mismatch"), agreed)


def decode(frame: Frame) -> Decoded:
    """Return the stored values of a frame, by the first of its syntax's decoders that reads it.

    Returns:
        Stored values: bits Bits Stored below High Bit, with their sign, in the smallest usual type.

    Raises:
        RecordError: ``decode_error``, ``precision_mismatch`` or ``bits_exceed_stored``.
    """
    seen = []
    for decoder in DECODERS[frame.pixels.transfer_syntax]:
        if decoder.only_checks:
            continue
        try:
            words = words_by(decoder, frame)
        except RecordError as error:
            seen.append(error.detail)
            continue
        return settle(words, decoder.label, frame)
    raise RecordError("decode_error", "; ".join(seen))


def words_by(decoder: Decoder, frame: Frame) -> NDArray[Any]:
    """Return what one decoder gives for a frame: words for ``settle``.

    Raises:
        RecordError: ``decode_error``: it refuses the frame, or returns something else.
    """
    try:
        with quiet():
            words = decoder.decode(frame.data, frame.pixels)
    except DECODE_ERRORS as error:
        detail = f"{type(error).__name__} in {decoder.name}"
        raise RecordError("decode_error", detail) from None
    size = shape_of(frame.pixels)
    if words.shape == size and words.dtype.kind in "ui" and words.dtype.itemsize <= 2:
        return words
    detail = f"{decoder.name} returned {words.ndim} dimensions of {words.dtype}"
    raise RecordError("decode_error", detail)


def settle(words: NDArray[Any], decoder: str, frame: Frame) -> Decoded:
    """Return what a decoder gave for a frame, or for a part of it, as stored values.

    Args:
        words: Whole numbers of 8 or 16 bits, any shape.
        decoder: Name and version of the decoder.
        frame: Where they come from.

    Raises:
        RecordError: ``precision_mismatch`` or ``bits_exceed_stored``.
    """
    _check_sign(words, frame)
    pixels, odd = frame.pixels, oddities(frame)
    if pixels.transfer_syntax in LOSSY and _exceeds(words, pixels):
        # Coding noise may carry the largest values over the top: that is no sign of a wrong header.
        words = np.minimum(words, (1 << (pixels.bits_stored or 0)) - 1)
        odd = (*odd, "lossy_clipped")
    return Decoded(stored_values(words, pixels), decoder, odd, frame.precision)


def _check_sign(words: NDArray[Any], frame: Frame) -> None:
    if frame.agreed is None:
        return
    low, high = int(words.min()), int(words.max())
    if low < 0 or high >= frame.agreed:
        raise RecordError(
            "precision_mismatch",
            f"codestream and Pixel Representation differ about the sign, and values from {low} to "
            f"{high} are not all in 0 to {frame.agreed - 1}, where both mean the same",
        )


def oddities(frame: Frame) -> tuple[str, ...]:
    """Return warning codes about pixel data that differ from their header and can be read."""
    stored = frame.pixels.bits_stored or 0
    below = frame.precision is not None and frame.precision < stored
    return (*frame.odd, *(("precision_below_stored",) if below else ()))


def _exceeds(words: NDArray[Any], pixels: PixelFormat) -> bool:
    return not pixels.signed and int(words.max()) >= 1 << (pixels.bits_stored or 0)


def _native_frame(data: bytes, pixels: PixelFormat, frames: int, index: int) -> Frame:
    rows, columns = shape_of(pixels)
    size = rows * columns * (pixels.bits_allocated or 0) // 8
    excess = len(data) - size * frames
    if excess and (kind := _disguised(data)):
        raise RecordError("syntax_mismatch", f"{kind} under an uncompressed transfer syntax")
    # As much as a frame may be one more picture, or words twice as wide as the header says.
    if not 0 <= excess < size:
        raise RecordError(
            "pixel_length_mismatch", f"{len(data)} bytes of pixels, {size * frames} expected"
        )
    if pixels.bits_allocated == 8 and _swapped_bytes(pixels):
        data = np.frombuffer(data, ">u2", count=len(data) // 2).astype("<u2").tobytes()
        data += b"\0" * (len(data) % 2)
    odd = ("excess_bytes",) if excess > 1 else ()
    return Frame(data[size * index : size * (index + 1)], pixels, odd=odd)


def _disguised(data: bytes) -> str | None:
    """Return what data are, by their first bytes, that should be uncompressed words."""
    if data[: len(ITEM)] == ITEM:
        return "fragments of compressed pixels"
    found = read_codestream(data)
    return None if found is None else f"a bare {found.family} codestream"


def _swapped_bytes(pixels: PixelFormat) -> bool:
    return pixels.transfer_syntax == BIG_ENDIAN and pixels.word_vr == "OW"


def _encapsulated_frame(data: bytes, syntax: str, frames: int, index: int) -> bytes:
    if data[: len(ITEM)] != ITEM:
        found = read_codestream(data)
        kind = "uncompressed data" if found is None else f"a {found.family} codestream"
        raise RecordError(
            "syntax_mismatch", f"{kind} without fragments under a compressed transfer syntax"
        )
    try:
        with quiet():
            if frames > 1:
                frame: bytes = get_frame(data, index, number_of_frames=frames)
                return frame
            source = io.BytesIO(data)
            parse_basic_offsets(source)
            fragments = list(generate_fragments(source))
    except PYDICOM_ERRORS as error:
        raise RecordError(
            "decode_error", f"{type(error).__name__} while reading fragments"
        ) from None
    return _joined(fragments, syntax)


def _joined(fragments: list[bytes], syntax: str) -> bytes:
    """Return all fragments as the one frame that they are said to be, whatever offsets say.

    A second codestream shows when the frame is walked through; RLE has no end that could be found,
    but its frames are never split (PS3.5 A.4.2).
    """
    begun = sum(_begins_rle(fragment) for fragment in fragments) if syntax == RLE else 1
    if begun > 1:
        raise RecordError("frames_mismatch", f"{begun} RLE frames, Number of Frames is 1")
    return b"".join(fragments)


def _begins_rle(fragment: bytes) -> bool:
    """Return whether a fragment begins with an RLE header (PS3.5 G.5)."""
    if len(fragment) < _RLE_HEADER:
        return False
    count, first, *rest = np.frombuffer(fragment, "<u4", count=_RLE_HEADER // 4).tolist()
    used = [first, *rest[: count - 1]]
    return (
        1 <= count <= 15
        and first == _RLE_HEADER
        and used == sorted(used)
        and not any(rest[count - 1 :])
    )


def stored_values(words: NDArray[Any], pixels: PixelFormat) -> NDArray[Any]:
    """Return the stored values in ``words``: shifted to bit 0, masked, with sign (PS3.5 8.1.1).

    Args:
        words: Decoded words, any integer type of 8 or 16 bits.
        pixels: A format that ``gate.check_pixels`` has accepted.

    Raises:
        RecordError: ``bits_exceed_stored``: a bit is set that neither values nor overlays own.
    """
    stored, high = pixels.bits_stored or 0, pixels.high_bit or 0
    if words.dtype.itemsize * 8 < stored:
        words = words.astype(np.int16 if words.dtype.kind == "i" else np.uint16)
    raw = words.view(f"u{words.dtype.itemsize}")
    width, shift = raw.dtype.itemsize * 8, high - stored + 1
    field = ((1 << stored) - 1) << shift
    outside = int(np.bitwise_or.reduce(raw, axis=None)) & ~field
    if not outside and not shift and not pixels.signed:
        return raw
    values = (raw >> shift) & ((1 << stored) - 1)
    if pixels.signed:
        spare = width - stored
        values = (values << spare).view(f"i{raw.dtype.itemsize}") >> spare
    if outside & ~pixels.overlay_bits and not _only_sign_bits(raw, values, pixels):
        raise RecordError(
            "bits_exceed_stored", f"bits outside the {stored} stored below High Bit {high} are set"
        )
    return values


def _only_sign_bits(raw: NDArray[Any], values: NDArray[Any], pixels: PixelFormat) -> bool:
    # Many writers fill the unused high bits of a negative value with its sign.
    if not pixels.signed or pixels.high_bit != (pixels.bits_stored or 0) - 1:
        return False
    return bool(np.all((raw == values.view(raw.dtype)) | (raw >> (pixels.bits_stored or 0) == 0)))
