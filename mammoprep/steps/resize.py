"""Bring an image to its exact output size: area averaging down, linear up, axis by axis."""

from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammoprep.image import MammoImage
from mammoprep.steps._area import scale, turned

FITS = ("pad", "stretch")


def _any_rows(mask: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Combine the rows each output row touches; whole-number edges, so that no corner is lost."""
    length = mask.shape[0]
    edges = np.arange(count + 1, dtype=np.int64) * length
    low, high = edges[:-1] // count, -(-edges[1:] // count)
    out = np.empty((count, mask.shape[1]), mask.dtype)
    for row in range(count):
        np.maximum.reduce(mask[low[row] : high[row]], axis=0, out=out[row])
    return out


def cover(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a mask in which every pixel that overlaps a set input pixel, however little, is set.

    Args:
        mask: uint8 (rows, columns).
        size: Rows and columns to make.
    """
    return turned(_any_rows(turned(_any_rows(mask, size[0])), size[1]))


def majority(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask in which a pixel is set when at least half of its area is.

    Args:
        mask: bool (rows, columns).
        size: Rows and columns to make.
    """
    half = np.float32(0.5 - 1e-6)  # a tie is "at least half" whatever float32 made of it
    return np.asarray(scale(mask.view(np.uint8), size) >= half)


def content_size(grid: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size of ``grid``'s shape inside ``frame``, whole pixels, half up.

    Args:
        grid: (rows, columns) of the image.
        frame: (rows, columns) to fit into.
    """
    ratio = min(Fraction(frame[0], grid[0]), Fraction(frame[1], grid[1]))
    rows, columns = (max(1, floor(side * ratio + Fraction(1, 2))) for side in grid)
    return rows, columns


def _lay(values: NDArray[Any], frame: tuple[int, int], corner: tuple[int, int]) -> NDArray[Any]:
    if values.shape[:2] == frame:
        return values
    top, left = corner
    out = np.zeros((*frame, *values.shape[2:]), values.dtype)
    out[top : top + values.shape[0], left : left + values.shape[1]] = values
    return out


def _unmeasured(
    padding: NDArray[np.bool_] | None,
    content: tuple[int, int],
    frame: tuple[int, int],
    corner: tuple[int, int],
) -> NDArray[np.bool_] | None:
    if padding is None and content == frame:
        return None
    measured = np.ones(content, bool) if padding is None else ~majority(padding, content)
    return ~_lay(measured, frame, corner)


def apply(
    image: MammoImage, *, size: tuple[int, int], fit: str = "pad", centred: bool = False
) -> MammoImage:
    """Return the image at exactly ``size``, with padding, breast, mask and geometry.

    Pixels become float32. Lesions are kept by any overlap, the breast and the padding by half a
    pixel's area. Added pixels are 0 and count as padding.

    Args:
        image: Pixels (rows, columns), or with channels last.
        size: (width, height) in pixels.
        fit: ``pad`` keeps the aspect ratio: all padding on the right, or half above and half
            below; ``stretch`` fills the frame.
        centred: Pad half left and half right instead, for images whose chest wall is not known to
            be at the left edge.

    Raises:
        ConfigError: ``fit`` is unknown or ``size`` is not two positive numbers.
    """
    if fit not in FITS:
        raise ConfigError(f"fit is one of {', '.join(FITS)}, got {fit!r}.")
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"size is (width, height), both at least 1, got {size!r}.")
    frame = (int(size[1]), int(size[0]))
    content = frame if fit == "stretch" else content_size(image.geometry.size, frame)
    top = (frame[0] - content[0]) // 2
    left = (frame[1] - content[1]) // 2 if centred else 0
    corner = (top, left)
    breast, mask = image.breast, image.mask
    return replace(
        image,
        pixels=_lay(scale(image.pixels, content), frame, corner),
        geometry=image.geometry.resized(content).padded(frame, left=left, top=top),
        padding=_unmeasured(image.padding, content, frame, corner),
        breast=None if breast is None else _lay(majority(breast, content), frame, corner),
        mask=None if mask is None else _lay(cover(mask, content), frame, corner),
    )
