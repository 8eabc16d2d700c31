"""JPEG 2000 at a lower resolution: the wavelet levels above it are not decoded at all.

Sample *i* of level *r* lies at stored pixel ``i * 2**r`` (ISO/IEC 15444-1 annex F: the low-pass
band keeps the even samples), so its area is ``2**r`` wide around ``i * 2**r + 0.5``.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammoprep.core.errors import RecordError
from mammoprep.decode._codestream import resolutions
from mammoprep.decode._values import quiet
from mammoprep.decode.codecs import DECODE_ERRORS, Frame

SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
_OVERSHOOT = 0.25


def levels(frame: Frame) -> int:
    """Return how many lower resolutions of a frame can be decoded and are plain averages.

    0 for other syntaxes, for signed samples and such of 7 or 9 bits (Pillow alters them), and where
    overlays share the words with the values.
    """
    pixels = frame.pixels
    if pixels.transfer_syntax not in SYNTAXES or pixels.signed or pixels.overlay_bits:
        return 0
    readable = frame.precision is not None and (frame.precision == 8 or frame.precision > 9)
    return resolutions(frame.data) if readable else 0


def size_at(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """Return (rows, columns) of an image of ``shape`` at a level (ISO/IEC 15444-1 B-15)."""
    return -(-shape[0] >> level), -(-shape[1] >> level)


def decode_level(frame: Frame, level: int) -> NDArray[Any]:
    """Return the stored values of a frame at a level, at least 1 and at most ``levels(frame)``.

    Returns:
        uint8 or uint16 (rows, columns) of ``size_at``. The wavelet's overshoot beyond Bits Stored
        is cut.

    Raises:
        RecordError: ``decode_error``; ``bits_exceed_stored`` where values lie so far beyond Bits
            Stored that it is no overshoot.
    """
    pixels = frame.pixels
    size = size_at((pixels.rows or 0, pixels.columns or 0), level)
    try:
        with quiet():
            words = _decode(frame.data, level, size)
    except DECODE_ERRORS as error:
        detail = f"{type(error).__name__} in pillow at level {level}"
        raise RecordError("decode_error", detail) from None
    if words.shape != size or words.dtype.kind != "u":
        raise RecordError("decode_error", f"pillow returned {words.ndim} dimensions")
    if words.dtype.itemsize == 2:
        words = words >> (16 - (frame.precision or 16))  # Pillow widens 10 to 15 bits to 16
    return _within(words, pixels.bits_stored or 0)


def _decode(data: bytes, level: int, size: tuple[int, int]) -> NDArray[Any]:
    words: NDArray[Any]
    with Image.open(io.BytesIO(data), formats=("JPEG2000",)) as picture:
        tile = picture.tile[0]
        codec = tile.args[0] if isinstance(tile.args, tuple) else None
        extents = (0, 0, size[1], size[0])
        # Pillow's own `reduce` rounds the size where the codestream takes the ceiling.
        picture.tile = [tile._replace(extents=extents, args=(codec, level, 0, -1, len(data)))]
        picture._size = (size[1], size[0])
        words = np.asarray(picture)  # decodes
    return words


def _within(words: NDArray[Any], bits_stored: int) -> NDArray[Any]:
    top = (1 << bits_stored) - 1
    highest = int(words.max())
    if highest > top * (1 + _OVERSHOOT):
        detail = f"values far beyond the {bits_stored} stored bits"
        raise RecordError("bits_exceed_stored", detail)
    return words if highest <= top else np.minimum(words, words.dtype.type(top))
