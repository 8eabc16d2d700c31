"""Annotated outlines -> one mask, on whatever grid the image has by now."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.schema import UNOUTLINED
from mammoprep.image import MammoImage
from mammoprep.steps._area import cover

_SHIFT = 4  # cv2 takes polygon corners in sixteenths of a pixel


def apply(image: MammoImage) -> MammoImage:
    """Return the image with ``mask``: 255 where any lesion is; 0 everywhere when there is none.

    Lesions are drawn on the stored pixels of the image's box and keep every pixel of the image's
    own grid that they touch. An image that nobody annotated keeps ``mask`` None, and so does one
    that was annotated in part, and of which nothing is outlined: an empty mask would say that
    nothing is there.
    """
    found = bool(image.record.lesions) or image.stored_mask is not None
    told = image.record.annotation
    if told in UNOUTLINED or (told == "partial" and not found):
        return image
    mask = np.zeros(image.geometry.size, np.uint8)
    if not found:
        return replace(image, mask=mask)
    x0, y0, x1, y1 = (round(v) for v in image.geometry.box_from_stored(image.geometry.crop))
    mask[y0:y1, x0:x1] = cover(_drawn(image), (y1 - y0, x1 - x0))
    return replace(image, mask=mask)


def _drawn(image: MammoImage) -> NDArray[np.uint8]:
    """Return the lesions in the stored pixels of the image's box, flipped when the image is.

    cv2 puts whole coordinates at pixel centres, so the continuous ones move by half a pixel.
    """
    grid = image.geometry.at_stored_pixels()
    mask = np.zeros(grid.size, np.uint8)
    if image.stored_mask is not None:
        x0, y0, x1, y1 = (round(v) for v in grid.crop)
        part = image.stored_mask[y0:y1, x0:x1]
        mask[:] = part[:, ::-1] if grid.flipped else part
    for lesion in image.record.lesions:
        points = grid.from_stored(lesion.polygon) - 0.5
        corners = np.round(points * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, shift=_SHIFT)
    return mask
