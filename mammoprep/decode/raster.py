"""PNG, JPEG, PGM, PPM and BMP -> presentation values: pictures that are grey levels already.

Pillow reads them; a size is checked before anything is decoded.
"""

import io
import re
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammoprep.core.errors import RecordError
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.core.stages import stage
from mammoprep.decode import gate
from mammoprep.decode._codestream import read_codestream
from mammoprep.decode._plausible import is_blank
from mammoprep.decode._stored import Stored
from mammoprep.image import Acquisition, MammoImage

MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"P2", b"P3", b"P5", b"P6", b"BM")
FORMATS = ("PNG", "JPEG", "PPM", "BMP")
ERRORS = (OSError, ValueError, SyntaxError, EOFError)
_DEEP = ("I;16", "I;16B", "I")
_ORIENTATION = 0x0112
_WIDE = 16


def is_picture(data: bytes) -> bool:
    """Return whether a file begins like one of the pictures that are read here."""
    return data[128:132] != b"DICM" and data.startswith(MAGIC)


def open_image(data: bytes, record: Record, *, colour: bool = False) -> MammoImage:
    """Read a picture.

    Args:
        data: The whole file, or pixels without any header where ``record.raw`` says so.
        record: What the dataset's table says about it.
        colour: Keep three channels (red, green, blue). Otherwise equal channels become one, and
            others their luma (ITU-R BT.601) with the warning ``colour_discarded``.

    Returns:
        float32 pixels in [0, 1] of shape (rows, columns), or (rows, columns, 3) with ``colour``;
        0 is black. No pixel is padding, and there is no physical spacing.

    Raises:
        RecordError: ``unreadable``, ``header_bounds``, ``decode_error``, ``blank_image`` or
            ``pixel_length_mismatch``.
    """
    with stage("decode"):
        values, top, odd = _bare_values(data, record.raw) if record.raw else read_values(data)
    with stage("gray"):
        if not colour and values.ndim == 3:
            values, more = _grey(values)
            odd += more
        if colour and values.ndim == 2:
            values = np.repeat(values[..., None], 3, axis=2)
        pixels = values.astype(np.float32) / np.float32(top)
    if is_blank(pixels):
        raise RecordError("blank_image", "every pixel has about the same value")
    size = (pixels.shape[0], pixels.shape[1])
    image = MammoImage(
        pixels=pixels,
        geometry=Geometry.of_stored(size, None),
        record=record,
        acquisition=Acquisition(bits_stored=top.bit_length(), voi="none"),
    )
    return image.warn(*odd)


def bare(data: bytes, rows: int, columns: int) -> NDArray[np.uint8]:
    """Return headerless 8-bit pixels, (rows, columns).

    Raises:
        RecordError: ``header_bounds`` or ``pixel_length_mismatch``.
    """
    gate.check_size(rows, columns)
    if len(data) != rows * columns:
        needed = f"{rows} x {columns} pixels need {rows * columns}"
        raise RecordError("pixel_length_mismatch", f"{len(data)} bytes, {needed}")
    return np.frombuffer(data, np.uint8).reshape(rows, columns)


def read_values(data: bytes) -> tuple[NDArray[Any], int, tuple[str, ...]]:
    """Return the values of a picture, the largest possible one, and warnings.

    Returns:
        uint8 or uint16, (rows, columns) or (rows, columns, 3): red, green, blue.

    Raises:
        RecordError: as ``open_image`` does.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            gate.check_size(picture.height, picture.width)
            odd = _oddities(picture)
            return *_values(picture), odd
    except Image.DecompressionBombError:
        raise RecordError("header_bounds", "the picture has too many pixels") from None
    except ERRORS as error:
        code = "decode_error" if read_codestream(data) or data[:4] == b"\x89PNG" else "unreadable"
        raise RecordError(code, f"{type(error).__name__} while reading the picture") from None


def read_stored(data: bytes) -> Stored:
    """Return a picture's own numbers, neither scaled nor shown: of a palette the indices.

    Raises:
        RecordError: as ``open_image`` does.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            gate.check_size(picture.height, picture.width)
            return _stored(picture, data)
    except Image.DecompressionBombError:
        raise RecordError("header_bounds", "the picture has too many pixels") from None
    except ERRORS as error:
        code = "decode_error" if read_codestream(data) or data[:4] == b"\x89PNG" else "unreadable"
        raise RecordError(code, f"{type(error).__name__} while reading the picture") from None


def _stored(picture: Image.Image, data: bytes) -> Stored:
    lossy, mode = picture.format == "JPEG", picture.mode
    if picture.format == "PNG" and data[24] == _WIDE and mode not in _DEEP:
        return _deep_colours(imagecodecs.png_decode(data))  # Pillow keeps their upper halves
    if picture.format == "PPM" and mode == "RGB" and _most(data) > 255:
        raise RecordError("decode_error", "a PPM of more than 8 bits a colour")
    if mode in _DEEP or mode == "L":
        values = np.asarray(picture).astype(np.uint16 if mode in _DEEP else np.uint8)
        return Stored(*_unscaled(values, picture.format, data), lossy)
    if mode == "1":
        return Stored(np.asarray(picture).astype(np.uint8), 1)
    if mode == "P":
        palette = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return Stored(np.asarray(picture), 255, palette=palette)
    shown = np.asarray(picture.convert("RGBA" if "A" in mode else "RGB"))
    colours, top = _unscaled(shown[..., :3], picture.format, data)
    return Stored(colours, top, lossy, alpha=shown[..., 3] if "A" in mode else None)


def _deep_colours(values: NDArray[Any]) -> Stored:
    """Return a PNG of 16 bits a channel: grey or colours, with or without opacity."""
    count = values.shape[2]
    alpha = values[..., -1] if count in (2, 4) else None
    colours = values[..., 0] if count == 2 else values[..., :3]
    return Stored(colours, 65535, alpha=alpha)


def _unscaled(values: NDArray[Any], format: str | None, data: bytes) -> tuple[NDArray[Any], int]:
    """Return the numbers of a file whose depth the reader has filled up, and the largest one."""
    full = 255 if values.dtype == np.uint8 else 65535
    top = full
    if format == "PPM":
        top = min(_most(data), full)
    elif format == "PNG" and values.ndim == 2 and data[24] < 8:
        top = (1 << data[24]) - 1
    if top == full:
        return values, top
    # Rounding the other way is exact, because no two numbers were rounded to one.
    lower = (values.astype(np.uint32) * top + full // 2) // full
    return lower.astype(values.dtype), top


def _most(data: bytes) -> int:
    """Return the largest value that a PGM or PPM states: the fourth word of its header."""
    words = re.sub(rb"#[^\r\n]*", b"", data[:4096]).split(None, 4)
    return int(words[3])


def _bare_values(data: bytes, size: tuple[int, int]) -> tuple[NDArray[Any], int, tuple[str, ...]]:
    return bare(data, *size), 255, ()


def _oddities(picture: Image.Image) -> tuple[str, ...]:
    turned = picture.format == "JPEG" and picture.getexif().get(_ORIENTATION, 1) != 1
    return ("exif_orientation_ignored",) if turned else ()


def _values(picture: Image.Image) -> tuple[NDArray[Any], int]:
    if picture.mode in _DEEP:
        values = np.asarray(picture).astype(np.uint16)
        return values, 65535
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L")), 255
    # Alpha says what to show on a page; the colours below it are the picture.
    return np.asarray(picture.convert("RGBA" if "A" in picture.mode else "RGB"))[..., :3], 255


def _grey(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    red = values[..., 0]
    if np.array_equal(red, values[..., 1]) and np.array_equal(red, values[..., 2]):
        return red, ()
    return np.asarray(Image.fromarray(values).convert("L")), ("colour_discarded",)
