"""Set burned-in labels to black where they are not breast."""

from dataclasses import replace
from math import ceil, floor

from mammoprep.image import MammoImage


def apply(image: MammoImage) -> MammoImage:
    """Return the image with its labels set to 0: their text would tell the side or the hospital.

    The boxes are those that ``find_breast`` noted under ``labels``, in stored pixels. A pixel of
    the breast mask is never touched. Warning ``label_removed`` when a label was there.

    Args:
        image: Any image; without noted labels or without a breast mask it is returned as it is.
    """
    rows, columns = image.geometry.size
    if image.breast is None:
        return image
    pixels = None
    for box in image.notes.get("labels", ()):
        x0, y0, x1, y1 = image.geometry.box_from_stored(box)
        down = slice(max(floor(y0), 0), max(min(ceil(y1), rows), 0))
        across = slice(max(floor(x0), 0), max(min(ceil(x1), columns), 0))
        blank = ~image.breast[down, across]
        if not blank.any():
            continue
        pixels = image.pixels.copy() if pixels is None else pixels
        pixels[down, across][blank] = 0
    return image if pixels is None else replace(image, pixels=pixels).warn("label_removed")
