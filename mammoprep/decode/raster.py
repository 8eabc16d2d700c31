"""PNG, JPEG, TIFF, JPEG 2000, PGM, PPM and BMP -> presentation values.

A size is checked before anything is decoded. Each kind gives the values that its file holds; which
of them are black and white is decided in ``_range``.
"""

import io
import struct
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammoprep.core.errors import RecordError
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.core.stages import stage
from mammoprep.core.text import by
from mammoprep.decode import _exposure, _levels, _pnm, _range, _tiff, gate
from mammoprep.decode._codestream import JP2_SIGNATURE, Codestream, read_codestream
from mammoprep.decode._flaws import find_flaw
from mammoprep.decode._plausible import TWO_LEVELS, check_picture, has_two_levels, is_blank
from mammoprep.decode._range import Range, Scale, Stored
from mammoprep.decode.grayscale import Voi, parse_voi
from mammoprep.image import Acquisition, MammoImage

PNG, JPEG, J2K = b"\x89PNG", b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
MAGIC = (PNG, JPEG, J2K, JP2_SIGNATURE, *_tiff.MAGIC)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
ERRORS = (OSError, ValueError, SyntaxError, EOFError, imagecodecs.PngError)
_ORIENTATION = _tiff.ORIENTATION
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # lengths of all headers that BMP has had
_MOST_CHUNKS = 1000
_PALETTE_PNG, _COLOUR_PNG = 3, (2, 6)
_CHANNELS = {1: 1, 2: 1, 3: 3, 4: 3}  # channels -> those of them that are no alpha
_ALL = "all that a value has room for"


def is_picture(data: bytes) -> bool:
    """Return whether a file begins like one of the pictures that are read here."""
    if data[128:132] == b"DICM":
        return False
    return data.startswith(MAGIC) or _pnm.is_pnm(data) or _is_bmp(data)


def open_image(
    data: bytes,
    record: Record,
    *,
    colour: bool = False,
    scale: Range | str = "auto",
    window: str = "auto",
    mammogram: bool = False,
) -> MammoImage:
    """Read a picture.

    Args:
        data: The whole file, or pixels without any header where ``record.raw`` says so.
        record: What the dataset's table says about it.
        colour: Keep three channels (red, green, blue). Otherwise equal channels become one, and
            others their luma (ITU-R BT.601) with the warning ``colour_discarded``.
        scale: Which values are black and white where the record does not say: a range, ``auto``
            (what the file says) or ``percentile``.
        window: ``auto`` or ``full`` for that range, or ``CENTRE,WIDTH`` in the file's values.
        mammogram: Somebody says that the picture is one: what looks like noise, a negative or a
            part is a failure, and not a warning.

    Returns:
        float32 pixels in [0, 1] of shape (rows, columns), or (rows, columns, 3) with ``colour``;
        0 is black. No pixel is padding, and there is no physical spacing.

    Raises:
        RecordError: ``unreadable``, ``header_bounds``, ``decode_error``, ``picture_unsupported``,
            ``multiframe``, ``size_mismatch``, ``pixel_length_mismatch``, ``window_not_applicable``,
            ``blank_image``, or with ``mammogram`` those of ``check_picture``.
        ConfigError: ``window`` is none of the above.
    """
    wanted = parse_voi(window)
    with stage("decode"):
        stored = _bare_values(data, record.raw) if record.raw else read_stored(data)
    with stage("gray"):
        stored = _channels(stored, colour=colour)
        chosen = _range.choose(stored, record.range, scale)
        pixels = _range.render(stored, chosen, wanted)
    used = None if wanted.mode == "window" else _range.used_bits(stored, chosen)
    odd = stored.warnings
    odd += ("range_clipped",) if _range.beyond(stored, chosen) else ()
    odd += ("range_unused",) if used is not None else ()
    # A picture that uses a part of its range is judged by that part: it is dark, and not blank.
    share = np.float32(_range.used_share(chosen, used))
    judged = 1 - (1 - pixels) / share if stored.inverted else pixels / share
    # A tile of a picture has no border, and photographs no polarity: neither is looked at so.
    overview = None if record.raw or judged.ndim == 3 else _overview(judged)
    if overview is not None and (chosen.voi != "none" or wanted.mode == "window"):
        odd += _exposure.doubts(overview, None, windowed=True)
    doubts, figures = _weighed(judged, overview, stored, mammogram=mammogram)
    image = MammoImage(
        pixels=pixels,
        geometry=Geometry.of_stored((pixels.shape[0], pixels.shape[1]), None),
        record=record,
        acquisition=_acquisition(stored, chosen, wanted, used),
    )
    return image.warn(*odd, *doubts).note(**_notes(stored, chosen), **figures)


def bare(data: bytes, rows: int, columns: int) -> NDArray[np.uint8]:
    """Return headerless 8-bit pixels, (rows, columns).

    Raises:
        RecordError: ``header_bounds`` or ``pixel_length_mismatch``.
    """
    gate.check_size(rows, columns)
    if len(data) != rows * columns:
        needed = f"{by(rows, columns)} pixels need {rows * columns}"
        raise RecordError("pixel_length_mismatch", f"{len(data)} bytes, {needed}")
    return np.frombuffer(data, np.uint8).reshape(rows, columns)


def read_values(data: bytes) -> tuple[NDArray[Any], int, tuple[str, ...]]:
    """Return the values of a picture, the largest possible one, and warnings.

    Returns:
        uint8 or uint16, (rows, columns) or (rows, columns, 3): red, green, blue. Values are those
        of the file; where 0 is white there (TIFF), they are taken from the largest one.

    Raises:
        RecordError: as ``open_image`` does.
    """
    stored = read_stored(data)
    return stored.upright, stored.top, stored.warnings


def read_stored(data: bytes) -> Stored:
    """Return a picture as its file holds it.

    Raises:
        RecordError: as ``open_image`` does.
    """
    if _pnm.is_pnm(data):
        return _of_pnm(data)
    if data.startswith((J2K, JP2_SIGNATURE)):
        return _of_jpeg2000(data)
    if _tiff.is_tiff(data):
        return _of_tiff(data)
    return _of_pillow(data)


def _is_bmp(data: bytes) -> bool:
    return data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS


def _bare_values(data: bytes, size: tuple[int, int]) -> Stored:
    return Stored(bare(data, *size), 8, None, _ALL)


def _of_pnm(data: bytes) -> Stored:
    values, top = _pnm.read(data)
    depth = 8 * values.itemsize
    return Stored(values, depth, None if top == (1 << depth) - 1 else top, "maxval")


def _of_tiff(data: bytes) -> Stored:
    header = _tiff.read_header(data)
    odd = _turned(header.orientation)
    if header.palette:
        return _of_pillow(data)
    values = _colours(_tiff.decode(data, header))
    highest, full = header.highest, (1 << header.bits) - 1
    # The tag is meant for statistics (TIFF 6.0): a picture's own maximum would stretch it.
    depth_of_writer = highest is not None and highest & (highest + 1) == 0
    if not depth_of_writer or highest == full or values.max() > (highest or 0):
        return Stored(values, header.bits, None, _ALL, header.inverted, odd)
    return Stored(values, header.bits, highest, "MaxSampleValue", header.inverted, odd)


def _of_jpeg2000(data: bytes) -> Stored:
    header = read_codestream(data)
    if header is None:
        raise RecordError("unreadable", "no JPEG 2000 codestream that is read")
    _check_jpeg2000(header)
    if flaw := find_flaw(data, header):
        raise RecordError(*flaw)
    try:
        values = imagecodecs.jpeg2k_decode(data)
    except (imagecodecs.Jpeg2kError, ValueError, RuntimeError) as error:
        raise RecordError("decode_error", f"{type(error).__name__} in a JPEG 2000") from None
    if values.shape[:2] != (header.rows, header.columns):
        needed = f"JPEG 2000 of {by(header.rows, header.columns)}"
        raise RecordError("size_mismatch", f"{needed}, got {by(*values.shape[:2])}")
    return Stored(_colours(values), header.precision, None, "the codestream's precision")


def _check_jpeg2000(header: Codestream) -> None:
    gate.check_size(header.rows, header.columns)
    if header.signed or not 1 <= header.precision <= 16 or not 1 <= header.components <= 4:
        kind = "signed" if header.signed else "unsigned"
        found = f"{header.components} components of {header.precision} bits, {kind}"
        raise RecordError("picture_unsupported", f"a JPEG 2000 of {found}")


def _of_pillow(data: bytes) -> Stored:
    _check_jpeg(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            gate.check_size(picture.height, picture.width)
            frames = getattr(picture, "n_frames", 1) if picture.format == "PNG" else 1
            if frames > 1:
                raise RecordError("multiframe", f"an animated PNG of {frames} frames")
            if picture.mode in ("CMYK", "F", "LAB"):
                raise RecordError("picture_unsupported", f"a picture of mode {picture.mode}")
            odd = _turned(picture.getexif().get(_ORIENTATION, 1))
            return _of_png(data, picture, odd) if picture.format == "PNG" else _of(picture, odd)
    except Image.DecompressionBombError:
        raise RecordError("header_bounds", "the picture has too many pixels") from None
    except ERRORS as error:
        code = "decode_error" if read_codestream(data) or data[:4] == PNG else "unreadable"
        raise RecordError(code, f"{type(error).__name__} while reading the picture") from None


def _check_jpeg(data: bytes) -> None:
    found = read_codestream(data) if data.startswith(JPEG) else None
    if found is not None and (found.family != "jpeg" or found.precision != 8):
        name = {"jpegls": "JPEG-LS"}.get(found.family, "JPEG")
        raise RecordError("picture_unsupported", f"a {name} of {found.precision} bits a sample")


def _turned(orientation: Any) -> tuple[str, ...]:
    return () if orientation == 1 else ("exif_orientation_ignored",)


def _of_png(data: bytes, picture: Image.Image, odd: tuple[str, ...]) -> Stored:
    """Return a PNG with the values of its own depth; Pillow spreads fewer bits over eight."""
    depth, colour = data[24], data[25]
    if colour == _PALETTE_PNG:
        return _of(picture, odd)
    if depth == 16 and colour:  # Pillow keeps 8 bits of these
        values = _colours(imagecodecs.png_decode(data))
    else:
        values = _of(picture, odd).values
        values = values // np.uint8(255 // ((1 << depth) - 1)) if depth < 8 else values
    return _significant(Stored(values, depth, None, _ALL, warnings=odd), data, colour)


def _significant(stored: Stored, data: bytes, colour: int) -> Stored:
    """Return the picture with the range that its sBIT chunk states, if it does (PNG 11.3.2.7)."""
    stated = _sbit(data)
    bits = set(stated[:3] if colour in _COLOUR_PNG else stated[:1])
    if len(bits) != 1 or not 0 < min(bits) < stored.depth:
        return stored
    (few,) = bits
    if _range.is_scaled(stored.values, few, stored.depth):
        return replace(stored, highest=(1 << stored.depth) - 1, why="sBIT, scaled up")
    return replace(stored, highest=(1 << few) - 1, why="sBIT")


def _sbit(data: bytes) -> bytes:
    at = 8
    for _ in range(_MOST_CHUNKS):
        if at + 12 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"sBIT":
            return data[at + 8 : at + 8 + min(length, 4)]
        if name == b"IDAT":
            break
        at += 12 + length
    return b""


def _of(picture: Image.Image, odd: tuple[str, ...]) -> Stored:
    if picture.mode in ("I;16", "I;16B", "I"):
        return Stored(np.asarray(picture).astype(np.uint16), 16, None, _ALL, warnings=odd)
    if picture.mode in ("1", "L"):
        return Stored(np.asarray(picture.convert("L")), 8, None, _ALL, warnings=odd)
    # Alpha says what to show on a page; the colours below it are the picture.
    pixels = np.asarray(picture.convert("RGBA" if "A" in picture.mode else "RGB"))[..., :3]
    return Stored(pixels, 8, None, _ALL, warnings=odd)


def _colours(values: NDArray[Any]) -> NDArray[Any]:
    """Return one or three channels, without alpha."""
    if values.ndim == 2:
        return values
    kept = _CHANNELS[values.shape[2]]
    return values[..., 0] if kept == 1 else values[..., :kept]


def _channels(stored: Stored, *, colour: bool) -> Stored:
    """Return a picture of three channels with ``colour``, else of one."""
    values, odd = stored.values, stored.warnings
    if not colour and values.ndim == 3:
        values, more = _grey(values)
        odd += more
    if colour and values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    return replace(stored, values=values, warnings=odd)


def _grey(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    red = values[..., 0]
    if np.array_equal(red, values[..., 1]) and np.array_equal(red, values[..., 2]):
        return red, ()
    if values.dtype == np.uint8:
        return np.asarray(Image.fromarray(values).convert("L")), ("colour_discarded",)
    # What Pillow does for 8 bits: weights in 16 fractional bits, rounded.
    luma = np.full(red.shape, 1 << 15, np.uint64)
    for channel, weight in enumerate((19595, 38470, 7471)):
        luma += values[..., channel].astype(np.uint64) * np.uint64(weight)
    return (luma >> np.uint64(16)).astype(values.dtype), ("colour_discarded",)


def _weighed(
    pixels: NDArray[np.float32],
    overview: NDArray[np.float32] | None,
    stored: Stored,
    *,
    mammogram: bool,
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Return doubts about a picture as warnings, and their figures; raise what is a failure.

    Without an overview it is only asked to show something.
    """
    if overview is None:
        if is_blank(pixels):
            raise RecordError("blank_image", "every pixel has about the same value")
        return (), {}
    doubt, figures = check_picture(overview, None)
    if (doubt is None or doubt[0] != "blank_image") and has_two_levels(stored.values):
        doubt = TWO_LEVELS
    if doubt is None:
        return (), figures
    if mammogram or doubt[0] == "blank_image":
        raise RecordError(*doubt)
    return (doubt[0],), figures


def _overview(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    level = _levels.overview_level((pixels.shape[0], pixels.shape[1]))
    small: NDArray[np.float32] = np.clip(_levels.block_means(pixels, 1 << level), 0.0, 1.0)
    return small


def _acquisition(stored: Stored, scale: Scale, window: Voi, used: int | None) -> Acquisition:
    photometric = "MONOCHROME1" if stored.inverted else None
    top = scale.high if scale.explicit else stored.top
    bits = max(1, int(top).bit_length()) if used is None else used
    if window.mode == "window":
        return Acquisition(
            photometric, bits, voi="fixed", voi_function="LINEAR", window=window.window
        )
    shown = None if scale.voi == "none" else ((scale.low + scale.high) / 2, scale.high - scale.low)
    return Acquisition(photometric, bits, voi=scale.voi, window=shown)


def _notes(stored: Stored, scale: Scale) -> dict[str, Any]:
    values = stored.values
    return {
        "bits": f"{stored.top.bit_length()} of {8 * values.itemsize}",
        "values": [int(values.min()), int(values.max())],
        "range": [scale.low, scale.high],
        "range_from": scale.why,
        "polarity": "inverted once: 0 is white" if stored.inverted else "kept",
    }
