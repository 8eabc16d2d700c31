"""A picture that is a mask -> the numbers in its file: of a palette the indices, with opacity."""

import io
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammoprep.decode import _tiff, raster
from mammoprep.decode._stored import Stored

_WIDE = 16
_MAY_HAVE_PALETTE = (raster.PNG, b"BM", *_tiff.MAGIC)
_GREY_ALPHA, _COLOUR_ALPHA = 4, 6  # colour types of PNG


def read(data: bytes) -> Stored:
    """Return a picture's own numbers, neither scaled nor shown.

    Raises:
        RecordError: as ``raster.open_image`` does.
    """
    found = raster.read_stored(data)  # whose checks come before anything else is decoded
    stored = Stored(found.upright, found.top, lossy=data.startswith(raster.JPEG))
    if data.startswith(raster.PNG) and data[25] in (_GREY_ALPHA, _COLOUR_ALPHA):
        return replace(stored, alpha=_alpha(data))
    indices = _indices(data)
    return stored if indices is None else indices


def _alpha(data: bytes) -> NDArray[Any]:
    if data[24] == _WIDE:  # Pillow keeps the upper halves of these
        return np.asarray(imagecodecs.png_decode(data))[..., -1]
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        return np.asarray(picture.convert("RGBA"))[..., 3]


def _indices(data: bytes) -> Stored | None:
    """Return what a file with a palette holds, or None where there is none."""
    if not data.startswith(_MAY_HAVE_PALETTE):
        return None
    with Image.open(io.BytesIO(data), formats=("PNG", "BMP", "TIFF")) as picture:
        if picture.mode != "P":
            return None
        palette = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        shown = picture.convert("RGBA") if "transparency" in picture.info else None
        alpha = None if shown is None else np.asarray(shown)[..., 3]
        return Stored(np.asarray(picture), 255, palette=palette, alpha=alpha)
