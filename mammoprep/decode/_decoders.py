"""The functions that turn one frame into words, each from another library.

A function takes one frame and its format and returns whole numbers of shape (rows, columns); it may
raise any of ``DECODE_ERRORS``.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import UID
from rle import decode_pixel_data  # type: ignore[attr-defined]

from mammoprep.decode._codestream import read_codestream
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode._values import PYDICOM_ERRORS

BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
_MARKER, _DRI, _SOS = 0xFF, 0xDD, 0xDA

Decode = Callable[[bytes, PixelFormat], NDArray[Any]]
DECODE_ERRORS = (
    *PYDICOM_ERRORS,
    ArithmeticError,
    ImportError,  # a package that was built without the codec
    SyntaxError,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Decoder:
    """A way to decode a frame.

    Attributes:
        name: Package and, where it matters, its codec.
        version: Version of the package and of the C library in it.
        decode: The function.
        only_checks: Whether it is only asked for a second opinion: it reads less than the others,
            or reads damaged frames that they refuse.
    """

    name: str
    version: str
    decode: Decode
    only_checks: bool = False

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def _dtype(pixels: PixelFormat, order: str) -> np.dtype[Any]:
    return np.dtype("u1" if pixels.bits_allocated == 8 else f"{order}u2")


def shape_of(pixels: PixelFormat) -> tuple[int, int]:
    """Return (rows, columns)."""
    return pixels.rows or 0, pixels.columns or 0


def native(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    """Read words that are not compressed (PS3.5 8.1.1)."""
    order = ">" if pixels.transfer_syntax == BIG_ENDIAN else "<"
    words = np.frombuffer(data, _dtype(pixels, order)).reshape(shape_of(pixels))
    return words if words.dtype.isnative else words.astype(words.dtype.newbyteorder("="))


def rle(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    """Read RLE Lossless (PS3.5 annex G) by pylibjpeg-rle."""
    rows, columns = shape_of(pixels)
    layout = {"rows": rows, "columns": columns, "bits_allocated": pixels.bits_allocated}
    try:
        words = decode_pixel_data(data, version=2, **layout)
    except BaseException as error:  # a panic of the library's Rust code is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError("the decoder panicked") from None
    return np.frombuffer(words, _dtype(pixels, "<")).reshape(rows, columns)


def pydicom_rle(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    """Read RLE Lossless by pydicom's own decoder, which mends damaged frames silently."""
    words, _ = get_decoder(UID(RLE)).as_buffer(
        encapsulate([data]),
        index=0,
        raw=True,
        decoding_plugin="pydicom",
        transfer_syntax_uid=UID(RLE),
        rows=pixels.rows,
        columns=pixels.columns,
        bits_allocated=pixels.bits_allocated,
        bits_stored=pixels.bits_stored,
        pixel_representation=int(pixels.signed),
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
        pixel_keyword="PixelData",
    )
    return np.frombuffer(words, _dtype(pixels, "<")).reshape(shape_of(pixels))


def _imagecodecs(function: str, data: bytes, _: PixelFormat) -> NDArray[Any]:
    decode: Callable[[bytes], NDArray[Any]] = getattr(imagecodecs, function)
    return decode(data)


def ljpeg(data: bytes, _: PixelFormat) -> NDArray[Any]:
    """Read the plain kind of JPEG Lossless by liblj92, which crashes on some damaged frames.

    To be asked only for frames that another decoder has read.
    """
    if not _plain_scan(data):
        raise ValueError("ljpeg reads restart intervals and point transforms wrongly")
    words: NDArray[Any] = imagecodecs.ljpeg_decode(data)
    return words


def _plain_scan(data: bytes) -> bool:
    """Return whether a JPEG has neither a restart interval nor a point transform."""
    at, restarts = 2, 0
    while True:
        lead, marker, length = struct.unpack_from(">BBH", data, at)
        if lead != _MARKER:
            return False
        if marker == _DRI:
            (restarts,) = struct.unpack_from(">H", data, at + 4)
        if marker == _SOS:
            return not restarts and not data[at + 1 + length] & 0x0F
        at += 1 if marker == _MARKER else 2 + length


def pillow_jpeg(data: bytes, _: PixelFormat) -> NDArray[Any]:
    """Read 8-bit JPEG by Pillow."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        return np.asarray(picture)


def pillow_jpeg2000(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    """Read JPEG 2000 and HTJ2K of unsigned samples by Pillow."""
    with Image.open(io.BytesIO(data), formats=("JPEG2000",)) as picture:
        values = np.asarray(picture)
    found = read_codestream(data)
    if found is None or found.signed or values.dtype.itemsize * 8 < found.precision:
        raise ValueError("Pillow reads neither signed nor 9-bit samples as they are")
    # Pillow widens samples of 10 to 15 bits to the full 16.
    return values >> (16 - found.precision) if values.dtype.itemsize == 2 else values


def of_imagecodecs(codec: str) -> Decoder:
    """Return one of imagecodecs' decoders."""
    version = f"{imagecodecs.__version__} ({library(codec)})"
    return Decoder(f"imagecodecs {codec}", version, partial(_imagecodecs, f"{codec}_decode"))


def library(codec: str) -> str:
    """Return name and version of the C library behind a codec of imagecodecs."""
    found: str = getattr(imagecodecs, f"{codec}_version")()
    return found


def of_pillow(feature: str, decode: Decode, *, only_checks: bool = False) -> Decoder:
    """Return one of Pillow's decoders; ``feature`` is Pillow's name of the library behind it."""
    found = features.version(feature)
    name = {"jpg_2000": "openjpeg", "libjpeg_turbo": "libjpeg_turbo"}[feature]
    return Decoder("pillow", f"{PIL.__version__} ({name} {found})", decode, only_checks)
