"""What a crop cut off the annotated lesions, and which margin would have kept all of them.

The crop itself must not know: one that makes room for a lesion tells by its shape who has one.
"""

from collections.abc import Sequence
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.schema import Lesion
from mammoprep.image import MammoImage

PixelBox = tuple[int, int, int, int]
DIGITS, _PARTS = 4, 10_000
# A lesion is drawn at most so large to measure its area: 1 of 4 million pixels is exact enough.
_LARGEST = 2048


def note(before: MammoImage, after: MammoImage, breast: PixelBox) -> MammoImage:
    """Return ``after`` with the warning ``lesion_cut`` where the crop cut off some of a lesion.

    Notes, only then: ``lesion_lost``, the share of the lesions' area that is not shown, above 0 to
    1; ``margin_needed``, the smallest ``--crop-margin`` that would have shown all of it.

    Args:
        before: The image before the crop.
        after: The same image after it.
        breast: Box (x0, y0, x1, y1) on the grid of ``before`` that the margin is added to.
    """
    lesions = before.record.lesions
    if not lesions or all(_is_shown(lesion, after) for lesion in lesions):
        return after
    whole = sum(_area(lesion, before.geometry.crop) for lesion in lesions)
    shown = sum(_area(lesion, after.geometry.crop) for lesion in lesions)
    lost = 1 - shown / whole if whole else 1.0  # a point has no area
    if lost <= 0:
        return after
    return after.warn("lesion_cut").note(
        lesion_lost=max(round(lost, DIGITS), 1 / _PARTS),
        margin_needed=_margin(before, lesions, breast),
    )


def _is_shown(lesion: Lesion, image: MammoImage) -> bool:
    x0, y0, x1, y1 = image.geometry.crop
    points = np.asarray(lesion.polygon)
    return bool((points >= (x0, y0)).all() and (points <= (x1, y1)).all())


def _area(lesion: Lesion, box: PixelBox) -> float:
    """Return the stored pixels of a lesion inside a box, as the mask draws them."""
    points = np.asarray(lesion.polygon, np.float64)
    low, high = np.floor(points.min(0)), np.ceil(points.max(0))
    scale = min(1.0, _LARGEST / max(float((high - low).max()), 1.0))
    size = np.ceil((high - low) * scale).astype(int) + 1
    drawn = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(
        drawn, [np.round(((points - low) * scale - 0.5) * 16).astype(np.int32)], 1, shift=4
    )
    x0, y0 = (floor(v) for v in np.clip((box[:2] - low) * scale, 0, size))
    x1, y1 = (ceil(v) for v in np.clip((box[2:] - low) * scale, 0, size))
    return float(np.count_nonzero(drawn[y0:y1, x0:x1])) / scale**2


def _margin(image: MammoImage, lesions: Sequence[Lesion], breast: PixelBox) -> float:
    """Return the margin that reaches every lesion, as a share of the breast's box, rounded up."""
    points: NDArray[np.float64] = image.geometry.from_stored(
        np.concatenate([np.asarray(lesion.polygon) for lesion in lesions])
    )
    low, high = np.floor(points.min(0)), np.ceil(points.max(0))
    x0, y0, x1, y1 = breast
    missing = (
        (x0 - low[0]) / (x1 - x0), (high[0] - x1) / (x1 - x0),
        (y0 - low[1]) / (y1 - y0), (high[1] - y1) / (y1 - y0),
    )  # fmt: skip
    return ceil(max(0.0, *(float(share) for share in missing)) * _PARTS) / _PARTS
