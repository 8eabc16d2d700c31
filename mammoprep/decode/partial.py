"""A part of a JPEG 2000 image, or a lower resolution of it: the rest is not decoded at all.

Sample *i* of level *r* lies at stored pixel ``i * 2**r`` (ISO/IEC 15444-1 annex F: the low-pass
band keeps the even samples), so its area is ``2**r`` wide around ``i * 2**r + 0.5``.
"""

import io
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from mammoprep.core.errors import RecordError
from mammoprep.decode import openjpeg
from mammoprep.decode._codestream import resolutions
from mammoprep.decode._decoders import DECODE_ERRORS
from mammoprep.decode._values import quiet
from mammoprep.decode.codecs import Decoded, Frame, settle

SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91))
_SIZE_MARKERS, _MORE_CAPABILITIES = b"\xff\x4f\xff\x51", 0x4000
_OVERSHOOT = 0.25

Span = tuple[int, int]


def levels(frame: Frame) -> int:
    """Return how many lower resolutions of a frame can be decoded and are plain averages.

    0 for other syntaxes, for signed samples and such of 7 or 9 bits (Pillow alters them), where
    overlays share the words with the values, for HTJ2K (OpenJPEG 2.5.4 returns a constant for a
    region of it, without an error), and where only all values tell whether the sign is agreed on.
    """
    pixels, bits = frame.pixels, frame.precision
    if frame.agreed is not None:
        return 0
    if pixels.transfer_syntax not in SYNTAXES or pixels.signed or pixels.overlay_bits:
        return 0
    if _is_high_throughput(frame.data):
        return 0
    return resolutions(frame.data) if bits is not None and (bits == 8 or bits > 9) else 0


def _is_high_throughput(data: bytes) -> bool:
    """Return whether Rsiz announces capabilities beyond part 1 (ISO/IEC 15444-15 annex A)."""
    start = data.find(_SIZE_MARKERS) + len(_SIZE_MARKERS) + 2
    return bool(int.from_bytes(data[start : start + 2], "big") & _MORE_CAPABILITIES)


def size_at(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """Return (rows, columns) of an image of ``shape`` at a level (ISO/IEC 15444-1 B-15)."""
    return -(-shape[0] >> level), -(-shape[1] >> level)


def name() -> str:
    """Return the name and version of what decodes parts."""
    version = openjpeg.version()
    return f"pillow {PIL.__version__}" if version is None else f"openjpeg {version}"


def decode_part(frame: Frame, level: int, rows: Span, columns: Span) -> Decoded:
    """Return the stored values of some samples of a level.

    Args:
        frame: One of which ``levels`` is not 0.
        level: 0 to ``levels(frame)``.
        rows: First sample and the one after the last, on this level.
        columns: The same across.

    Returns:
        The same values as decoding everything gives. Above level 0 the wavelet's overshoot beyond
        Bits Stored is cut.

    Raises:
        RecordError: ``decode_error``; ``bits_exceed_stored``, above level 0 where values lie so far
            beyond Bits Stored that it is no overshoot.
    """
    read = by_pillow if openjpeg.library() is None else by_openjpeg
    try:
        with quiet():
            words = read(frame, level, rows, columns)
    except DECODE_ERRORS as error:
        detail = f"{type(error).__name__} in {name()} at level {level}"
        raise RecordError("decode_error", detail) from None
    if words.shape != (rows[1] - rows[0], columns[1] - columns[0]):
        raise RecordError("decode_error", f"{name()} returned another size")
    return settle(_without_overshoot(words, frame) if level else words, name(), frame)


def _shape(frame: Frame) -> tuple[int, int]:
    return frame.pixels.rows or 0, frame.pixels.columns or 0


def by_openjpeg(frame: Frame, level: int, rows: Span, columns: Span) -> NDArray[Any]:
    """Return words of a part, decoded by OpenJPEG itself; arguments as of ``decode_part``."""
    high, wide = _shape(frame)
    (y0, y1), (x0, x1) = (
        (span[0] << level, min(((span[1] - 1) << level) + 1, side))
        for span, side in ((rows, high), (columns, wide))
    )
    kind = np.uint8 if frame.precision == 8 else np.uint16
    return openjpeg.decode(frame.data, level, (x0, y0, x1, y1), kind)


def by_pillow(frame: Frame, level: int, rows: Span, columns: Span) -> NDArray[Any]:
    """Return words of a part, cut from the whole level that Pillow decodes."""
    size = size_at(_shape(frame), level)
    with Image.open(io.BytesIO(frame.data), formats=("JPEG2000",)) as picture:
        tile = picture.tile[0]
        codec = tile.args[0] if isinstance(tile.args, tuple) else None
        extents, length = (0, 0, size[1], size[0]), len(frame.data)
        # Pillow's own `reduce` rounds the size where the codestream takes the ceiling.
        picture.tile = [tile._replace(extents=extents, args=(codec, level, 0, -1, length))]
        picture._size = (size[1], size[0])
        words = np.asarray(picture)  # decodes
    if words.dtype.itemsize == 2:
        words = words >> (16 - (frame.precision or 16))  # Pillow widens 10 to 15 bits to 16
    part: NDArray[Any] = words[rows[0] : rows[1], columns[0] : columns[1]]
    return part


def _without_overshoot(words: NDArray[Any], frame: Frame) -> NDArray[Any]:
    bits = frame.pixels.bits_stored or 0
    top, highest = (1 << bits) - 1, int(words.max())
    if highest > top * (1 + _OVERSHOOT):
        raise RecordError("bits_exceed_stored", f"values far beyond the {bits} stored bits")
    return words if highest <= top else np.minimum(words, words.dtype.type(top))
