"""Presentation values to stored grey levels, once and last, with the breast's intensity noted."""

from dataclasses import replace

import numpy as np

from mammoprep.core.errors import ConfigError
from mammoprep.core.grey import quantise
from mammoprep.image import MammoImage

QUANTILES = (0.01, 0.25, 0.50, 0.75, 0.99)
DIGITS = 4


def intensity(image: MammoImage) -> list[float]:
    """Return the 1, 25, 50, 75 and 99 % quantiles inside the breast, rounded to 4 digits.

    Padding never counts. Without a breast mask, or when nothing of it is left, every measured
    pixel counts; without any measured pixel, every pixel.

    Args:
        image: An image whose pixels are presentation values in [0, 1], not yet quantised.
    """
    inside = np.ones(image.pixels.shape[:2], bool) if image.breast is None else image.breast
    measured = inside if image.padding is None else inside & ~image.padding
    if not measured.any():
        measured = np.ones_like(inside) if image.padding is None else ~image.padding
    values = image.pixels[measured] if measured.any() else image.pixels
    counts = np.bincount(quantise(values, 16).ravel(), minlength=1 << 16)  # far finer than 4 digits
    reached = np.cumsum(counts)
    places = np.searchsorted(reached, np.array(QUANTILES) * reached[-1])
    return [round(float(v), DIGITS) for v in places / 65535]


def apply(image: MammoImage, *, bits: int = 8) -> MammoImage:
    """Return the image as uint8 or uint16, rounded half up; ``notes["intensity"]`` tells its range.

    Args:
        image: Pixels are float32 presentation values in [0, 1]; values outside are clipped.
        bits: 8 or 16.

    Raises:
        ConfigError: ``bits`` is neither 8 nor 16.
    """
    if bits not in (8, 16):
        raise ConfigError(f"bits is 8 or 16, got {bits!r}.")
    noted = image.note(intensity=intensity(image))
    return replace(noted, pixels=quantise(image.pixels, bits))
