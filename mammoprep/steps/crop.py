"""Cut the image to the breast, a little wider than its mask."""

from math import ceil

import numpy as np

from mammoprep.core.errors import ConfigError
from mammoprep.image import MammoImage
from mammoprep.steps import _fold, _kept

REGIONS = ("breast", "tight", "none")
LATERAL = frozenset({"MLO", "ML", "LM", "LMO"})  # views whose outline shows the fold
# 10 mm, and what a fold is found too high: at most 2.7 mm on phantoms that tell where theirs is.
GAP_MM = 13.0
# Where the file does not tell its spacing: 10 mm of every breast box that is at least 143 mm high,
# and 13 mm from 186 mm on; of 240 films of mini-MIAS, at 0.2 mm, the lowest box has 157 mm.
GAP_SHARE = 0.07
LEAST_SHARE = 0.03  # 13 mm of a box of 433 mm, higher than any detector: else the spacing is wrong
PixelBox = tuple[int, int, int, int]


def _mask_box(image: MammoImage) -> PixelBox | None:
    """Return the box of the breast mask, None where there is none or an empty one."""
    if image.breast is None or not image.breast.any():
        return None
    down = np.flatnonzero(image.breast.any(axis=1))
    across = np.flatnonzero(image.breast.any(axis=0))
    return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1


def breast_box(image: MammoImage, margin: float, bottom: int | None = None) -> PixelBox:
    """Return the box (x0, y0, x1, y1) of the breast mask, widened and kept inside the frame.

    Args:
        image: With a breast mask; without one, or with an empty one, the box is the whole frame.
        margin: How much to add on each side, as a share of the box's side.
        bottom: The row at which the box ends, before the margin, where the mask goes on below it.
    """
    rows, columns = image.geometry.size
    box = _mask_box(image)
    if box is None:
        return 0, 0, columns, rows
    x0, y0, x1, y1 = box
    y1 = y1 if bottom is None else min(y1, bottom)
    wide, high = ceil(margin * (x1 - x0)), ceil(margin * (y1 - y0))
    return max(x0 - wide, 0), max(y0 - high, 0), min(x1 + wide, columns), min(y1 + high, rows)


def _gap(image: MammoImage, height: int) -> float:
    """Return how many rows of breast box to keep below the fold."""
    spacing = image.geometry.spacing_mm
    if spacing is None:
        return GAP_SHARE * height
    return max(GAP_MM / spacing[0], LEAST_SHARE * height)


def _unsought(image: MammoImage) -> str | None:
    """Return why no fold is looked for: one word, or None where it is."""
    views = {image.acquisition.view, image.record.view} - {None}
    if not views:
        return "view_unknown"
    if not views <= LATERAL:
        return "other_view"
    return "upside_down" if image.acquisition.column_direction == "H" else None


def below_fold(image: MammoImage) -> tuple[MammoImage, int | None]:
    """Return the image, told where its fold is, and the row that a tight box ends at, or None.

    The row is at least 10 mm below the inframammary fold, 7 % of the box's height where the spacing
    is unknown. There is none in other than lateral views, where the header says that the feet are
    at the top, and where no fold is found with confidence. Notes: ``fold`` (row in stored pixels,
    confidence), or None; ``fold_reason``, one word.

    Args:
        image: With its breast mask.
    """
    box, reason = _mask_box(image), _unsought(image)
    if reason == "view_unknown":
        image = image.warn("view_unknown")
    if reason is not None or box is None or image.breast is None:
        return image.note(fold=None, fold_reason=reason or "no_breast"), None
    fold = _fold.find(image.breast, box)
    if fold is None:
        return image.note(fold=None, fold_reason="no_outline"), None
    ((_, row),) = image.geometry.to_stored([(0.0, fold.row)])
    told = image.note(fold=[round(row), round(fold.confidence, 3)], fold_reason=fold.reason)
    if fold.confidence < _fold.TRUSTED:
        return told, None
    return told, ceil(fold.row + _gap(image, box[3] - box[1]))


def apply(image: MammoImage, *, region: str = "breast", margin: float = 0.02) -> MammoImage:
    """Return the part of the image around its breast; all arrays and the geometry as one.

    Pixels outside the breast keep their values. Where lesions lie is not asked; what was cut off
    them is told (warning ``lesion_cut``).

    Args:
        image: Best after ``find_breast``; without a breast mask the whole frame is kept.
        region: ``breast``; ``tight``, which leaves out what lies well below the inframammary fold
            of a lateral view (see ``below_fold``) and is ``breast`` otherwise; or ``none`` to keep
            the frame and everything in it.
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
    bottom = None
    if region == "tight":
        image, bottom = below_fold(image)
    x0, y0, x1, y1 = breast_box(image, margin, bottom)
    down, across = slice(y0, y1), slice(x0, x1)
    geometry = image.geometry.cropped((x0, y0, x1, y1))
    cut = image.moved(lambda array: array[down, across], geometry)
    return _kept.note(image, cut, breast_box(image, 0.0, bottom))
