"""One frame of pixel data -> stored values, through a table of decoders.

To add a decoder, add one line to ``DECODERS``. A decoder takes one frame and its format, returns
whole numbers of shape (rows, columns), and may raise any of ``DECODE_ERRORS``; the next in the row
is tried then.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import imagecodecs
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import get_frame
from rle import decode_pixel_data  # type: ignore[attr-defined]

from mammoprep.core.errors import RecordError
from mammoprep.decode import gate
from mammoprep.decode._codestream import read_codestream
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode._values import PYDICOM_ERRORS, quiet

Decode = Callable[[bytes, PixelFormat], NDArray[Any]]
DECODE_ERRORS = (*PYDICOM_ERRORS, ArithmeticError, SyntaxError, Image.DecompressionBombError)

_LITTLE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", gate.DEFLATED)
BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = (*_LITTLE, BIG_ENDIAN)
RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True)
class Decoder:
    """A way to decode a frame.

    Attributes:
        name: Library and, where it matters, its codec.
        version: Version of the library.
        decode: The function.
    """

    name: str
    version: str
    decode: Decode


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


def _dtype(pixels: PixelFormat, order: str) -> np.dtype[Any]:
    return np.dtype("u1" if pixels.bits_allocated == 8 else f"{order}u2")


def _shape(pixels: PixelFormat) -> tuple[int, int]:
    return pixels.rows or 0, pixels.columns or 0


def _native(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    order = ">" if pixels.transfer_syntax == BIG_ENDIAN else "<"
    words = np.frombuffer(data, _dtype(pixels, order)).reshape(_shape(pixels))
    return words if words.dtype.isnative else words.astype(words.dtype.newbyteorder("="))


def _rle(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    rows, columns = _shape(pixels)
    layout = {"rows": rows, "columns": columns, "bits_allocated": pixels.bits_allocated}
    words = decode_pixel_data(data, version=2, **layout)
    return np.frombuffer(words, _dtype(pixels, "<")).reshape(rows, columns)


def _imagecodecs(function: str, data: bytes, _: PixelFormat) -> NDArray[Any]:
    decode: Callable[[bytes], NDArray[Any]] = getattr(imagecodecs, function)
    return decode(data)


def _pillow(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    with Image.open(io.BytesIO(data), formats=("JPEG2000",)) as picture:
        values = np.asarray(picture)
    found = read_codestream(data)
    if found is None or found.signed or values.dtype.itemsize * 8 < found.precision:
        raise ValueError("Pillow reads neither signed nor 9-bit samples as they are")
    # Pillow widens samples of 10 to 15 bits to the full 16.
    return values >> (16 - found.precision) if values.dtype.itemsize == 2 else values


def _of_imagecodecs(function: str) -> Decoder:
    decode = partial(_imagecodecs, function)
    return Decoder(f"imagecodecs {function}", imagecodecs.__version__, decode)


_NATIVE = (Decoder("native", np.__version__, _native),)
_PILLOW = Decoder("pillow", PIL.__version__, _pillow)
_JPEG = (_of_imagecodecs("jpeg8_decode"),)
_JPEG_LOSSLESS = (_of_imagecodecs("jpegsof3_decode"), _of_imagecodecs("jpeg8_decode"))
_JPEG_LS = (_of_imagecodecs("jpegls_decode"),)
_JPEG2000 = (_of_imagecodecs("jpeg2k_decode"), _PILLOW)

DECODERS: dict[str, tuple[Decoder, ...]] = {
    **dict.fromkeys(NATIVE, _NATIVE),
    # Not imagecodecs' dicomrle_decode: damaged frames make it crash.
    RLE: (Decoder("pylibjpeg-rle", version("pylibjpeg-rle"), _rle),),
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.70": _JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": _JPEG2000,
    "1.2.840.10008.1.2.4.91": _JPEG2000,
    # Not imagecodecs' htj2k_decode: on a damaged frame it returns memory that nobody has written.
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
LOSSY = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91, 203))


@dataclass(frozen=True)
class Frame:
    """One frame of Pixel Data, before decoding.

    Attributes:
        data: Native words, or one codestream.
        pixels: A format that ``gate.check_pixels`` has accepted.
        precision: Bits of a sample by the codestream, None for native and RLE data.
    """

    data: bytes
    pixels: PixelFormat
    precision: int | None = None


def read_frame(data: bytes, pixels: PixelFormat, frames: int = 1) -> Frame:
    """Return the first frame of Pixel Data (7FE0,0010), held to the header's size and depth.

    Args:
        data: Value of the element: native words, or encapsulated fragments.
        pixels: A format that ``gate.check_pixels`` has accepted.
        frames: Number of Frames.

    Raises:
        RecordError: ``unsupported_syntax``, ``pixel_length_mismatch``, ``decode_error``, or one of
            ``gate.check_codestream``.
    """
    syntax = pixels.transfer_syntax
    if syntax not in DECODERS:
        raise RecordError("unsupported_syntax", "no decoder for this transfer syntax")
    if syntax in NATIVE:
        return Frame(_native_frame(data, pixels, frames), pixels)
    frame = _encapsulated_frame(data, frames)
    if families := _FAMILIES.get(syntax):
        return Frame(frame, pixels, gate.check_codestream(frame, pixels, families).precision)
    return Frame(frame, pixels)


def decode(frame: Frame) -> Decoded:
    """Return the stored values of a frame, by the first of its syntax's decoders that reads it.

    Returns:
        Stored values: bits Bits Stored below High Bit, with their sign, in the smallest usual type.

    Raises:
        RecordError: ``decode_error`` or ``bits_exceed_stored``.
    """
    return settle(*_try_decoders(frame.data, frame.pixels), frame)


def settle(words: NDArray[Any], decoder: str, frame: Frame) -> Decoded:
    """Return what a decoder gave for a frame, or for a part of it, as stored values.

    Args:
        words: Whole numbers of 8 or 16 bits, any shape.
        decoder: Name and version of the decoder.
        frame: Where they come from.

    Raises:
        RecordError: ``bits_exceed_stored``.
    """
    pixels, precision = frame.pixels, frame.precision
    odd = ("precision_below_stored",) if precision and precision < (pixels.bits_stored or 0) else ()
    if pixels.transfer_syntax in LOSSY and _exceeds(words, pixels):
        # Coding noise may carry the largest values over the top: that is no sign of a wrong header.
        words = np.minimum(words, (1 << (pixels.bits_stored or 0)) - 1)
        odd = (*odd, "lossy_clipped")
    return Decoded(stored_values(words, pixels), decoder, odd, precision)


def _exceeds(words: NDArray[Any], pixels: PixelFormat) -> bool:
    return not pixels.signed and int(words.max()) >= 1 << (pixels.bits_stored or 0)


def _native_frame(data: bytes, pixels: PixelFormat, frames: int) -> bytes:
    rows, columns = _shape(pixels)
    size = rows * columns * (pixels.bits_allocated or 0) // 8
    if not 0 <= len(data) - size * frames <= 1:
        raise RecordError(
            "pixel_length_mismatch", f"{len(data)} bytes of pixels, {size * frames} expected"
        )
    if pixels.bits_allocated == 8 and _swapped_bytes(pixels):
        data = np.frombuffer(data, ">u2", count=len(data) // 2).astype("<u2").tobytes()
        data += b"\0" * (len(data) % 2)
    return data[:size]


def _swapped_bytes(pixels: PixelFormat) -> bool:
    return pixels.transfer_syntax == BIG_ENDIAN and pixels.word_vr == "OW"


def _encapsulated_frame(data: bytes, frames: int) -> bytes:
    try:
        with quiet():
            frame: bytes = get_frame(data, 0, number_of_frames=frames)
            return frame
    except PYDICOM_ERRORS as error:
        raise RecordError(
            "decode_error", f"{type(error).__name__} while reading fragments"
        ) from None


def _try_decoders(frame: bytes, pixels: PixelFormat) -> tuple[NDArray[Any], str]:
    seen = []
    for decoder in DECODERS[pixels.transfer_syntax]:
        try:
            with quiet():
                words = decoder.decode(frame, pixels)
        except DECODE_ERRORS as error:
            seen.append(f"{type(error).__name__} in {decoder.name}")
            continue
        if words.shape == _shape(pixels) and words.dtype.kind in "ui" and words.dtype.itemsize <= 2:
            return words, f"{decoder.name} {decoder.version}"
        seen.append(f"{decoder.name} returned {words.ndim} dimensions of {words.dtype}")
    raise RecordError("decode_error", "; ".join(seen))


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
