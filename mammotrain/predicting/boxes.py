"""Maps over a picture -> boxes of its lesions, in the picture's and in stored pixels.

Coordinates are continuous (x, y), (0, 0) at the outer corner of the first pixel; boxes are
(x0, y0, x1, y1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.geometry import Geometry

Box = tuple[float, float, float, float]
MOST = 20  # boxes of a picture, the strongest first


@dataclass(frozen=True)
class Found:
    """A connected part of a map.

    Attributes:
        box: Around its pixels.
        peak: Highest value in it.
        area: Pixels.
    """

    box: Box
    peak: float
    area: int


def on_picture(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a map on the grid of the stored picture, (rows, columns); both span the same area."""
    if values.shape == size:
        return values
    return np.asarray(
        cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32
    )


def without_specks(flags: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Return what is set without connected parts (8 neighbours) of fewer than ``least`` pixels."""
    if least <= 1:
        return flags
    _, labels, stats, _ = cv2.connectedComponentsWithStats(flags.view(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= least
    kept[0] = False
    return np.asarray(kept[labels], np.bool_)


def parts(flags: NDArray[np.bool_], values: NDArray[np.float32], least: float = 0.0) -> list[Found]:
    """Return the connected parts (8 neighbours) of what is set, the highest peak first.

    Args:
        flags: (rows, columns) what is set.
        values: The map that tells how strong each part is.
        least: Pixels of a box; one that holds fewer is left out.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(flags.view(np.uint8), connectivity=8)
    found = []
    for label in range(1, count):
        x, y, width, height, area = (int(v) for v in stats[label])
        if width * height < least:
            continue
        inside = (slice(y, y + height), slice(x, x + width))
        peak = float(values[inside][labels[inside] == label].max())
        box = (float(x), float(y), float(x + width), float(y + height))
        found.append(Found(box, peak, area))
    return sorted(found, key=lambda each: (-each.peak, each.box))[:MOST]


def smallest(grid: tuple[int, int], size: tuple[int, int], share: float) -> float:
    """Return the area of the smallest box that a map on a coarse grid can mean, in pixels.

    A lone cell of full heat is a cell wide at half of its height, and less at a higher share.
    Anything smaller is where a weaker cell just reaches the share.

    Args:
        grid: (rows, columns) of cells.
        size: (rows, columns) of the picture.
        share: Of the highest value, from which a place belongs to a box.
    """
    cell = (size[0] / grid[0]) * (size[1] / grid[1])
    return cell * min(1.0, 2 * (1 - share)) ** 2


def on_flat(box: Box, picture: NDArray[Any], size: tuple[int, int]) -> bool:
    """Return whether a picture has one value throughout a box: padding, or air that is 0.

    Args:
        box: On a grid of ``size``.
        picture: (..., h, w) of the same area.
        size: (rows, columns).
    """
    down, across = picture.shape[-2] / size[0], picture.shape[-1] / size[1]
    left, top = int(box[0] * across), int(box[1] * down)
    right, bottom = ceil(box[2] * across), ceil(box[3] * down)
    inside = picture[..., top:bottom, left:right]
    return bool((inside == inside[..., :1, :1]).all())


def to_stored(box: Box, geometry: Geometry) -> Box:
    """Return a box of the picture in stored pixels, inside of the stored image."""
    x0, y0, x1, y1 = box
    corners = geometry.to_stored([(x0, y0), (x1, y0), (x0, y1), (x1, y1)])
    rows, columns = geometry.stored_size
    low = np.clip(corners.min(0), 0, (columns, rows))
    high = np.clip(corners.max(0), 0, (columns, rows))
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def geometry_of(columns: Mapping[str, Any], row: int) -> Geometry:
    """Return how a sample's picture lies on the stored image."""
    names = ("stored_size", "size", "matrix", "crop", "spacing_mm")
    return Geometry.from_json({name: columns[f"geometry.{name}"][row] for name in names})
