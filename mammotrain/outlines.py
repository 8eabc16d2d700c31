"""Outlines of masks, the true one and the one that a model says, as few numbers to be drawn."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Polygons = tuple[NDArray[np.int32], ...]


@dataclass(frozen=True)
class Outlines:
    """What is drawn on one picture.

    Attributes:
        size: (rows, columns) of the grid that the points are on.
        true: Of each lesion (n, 2) points (x, y), at the centres of the pixels along its edge.
        said: The same of each part that the model says.
    """

    size: tuple[int, int]
    true: Polygons
    said: Polygons


def of_masks(true: Flags, said: Flags) -> Outlines:
    """Return the outlines of two masks (rows, columns); holes have outlines too."""
    rows, columns = true.shape
    return Outlines((rows, columns), _polygons(true), _polygons(said))


def _polygons(mask: Flags) -> Polygons:
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return tuple(np.asarray(each[:, 0], np.int32) for each in found)
