"""Cut the image to the breast, a little wider than its mask."""

from math import ceil

import numpy as np

from mammoprep.core.errors import ConfigError
from mammoprep.image import MammoImage
from mammoprep.steps import _kept

REGIONS = ("breast", "tight", "none")
PixelBox = tuple[int, int, int, int]


def breast_box(image: MammoImage, margin: float) -> PixelBox:
    """Return the box (x0, y0, x1, y1) of the breast mask, widened and kept inside the frame.

    Args:
        image: With a breast mask; without one, or with an empty one, the box is the whole frame.
        margin: How much to add on each side, as a share of the box's side.
    """
    rows, columns = image.geometry.size
    if image.breast is None or not image.breast.any():
        return 0, 0, columns, rows
    down = np.flatnonzero(image.breast.any(axis=1))
    across = np.flatnonzero(image.breast.any(axis=0))
    x0, y0, x1, y1 = int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1
    wide, high = ceil(margin * (x1 - x0)), ceil(margin * (y1 - y0))
    return max(x0 - wide, 0), max(y0 - high, 0), min(x1 + wide, columns), min(y1 + high, rows)


def apply(image: MammoImage, *, region: str = "breast", margin: float = 0.02) -> MammoImage:
    """Return the part of the image around its breast; all arrays and the geometry as one.

    Pixels outside the breast keep their values. Where lesions lie is not asked; what was cut off
    them is told (warning ``lesion_cut``).

    Args:
        image: Best after ``find_breast``; without a breast mask the whole frame is kept.
        region: ``breast``, or ``none`` to keep the frame and everything in it.
        margin: Added on each side, as a share of the box's width and height, at least 0.

    Raises:
        ConfigError: ``region`` is unknown or ``margin`` is negative.
    """
    if region not in REGIONS:
        raise ConfigError(f"crop is one of {', '.join(REGIONS)}, got {region!r}.")
    if margin < 0:
        raise ConfigError(f"margin is at least 0, got {margin!r}.")
    if region == "none":
        return image
    x0, y0, x1, y1 = breast_box(image, margin)
    down, across = slice(y0, y1), slice(x0, x1)
    geometry = image.geometry.cropped((x0, y0, x1, y1))
    cut = image.moved(lambda array: array[down, across], geometry)
    return _kept.note(image, cut, breast_box(image, 0.0))
