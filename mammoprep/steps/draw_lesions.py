"""Annotated outlines -> one mask on the stored grid, before anything moves."""

from dataclasses import replace

import cv2
import numpy as np

from mammoprep.image import MammoImage

_SHIFT = 4  # cv2 takes polygon corners in sixteenths of a pixel


def apply(image: MammoImage) -> MammoImage:
    """Return the image with ``mask``: 255 inside any lesion; 0 everywhere when there is none.

    An image that nobody annotated keeps ``mask`` None. cv2 puts integer coordinates at pixel
    centres, so the continuous coordinates move by half a pixel.
    """
    if image.record.annotation == "none":
        return image
    mask = np.zeros(image.geometry.size, np.uint8)
    for lesion in image.record.lesions:
        points = image.geometry.from_stored(lesion.polygon) - 0.5
        corners = np.round(points * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, shift=_SHIFT)
    return replace(image, mask=mask)
