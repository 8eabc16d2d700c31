"""The contact sheet: what it can be filtered by, and the outlines drawn over its pictures.

The page holds no script: a choice in a list hides, by CSS alone, the tiles that lack its class. A
class is a letter and a number, so that no text of a dataset ever stands in a selector.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.report.values import Row, label_of, natural, number, sequence, text, warnings_of

ROIS = 64
POINTS = 4000
TOLERANCE = 0.3  # pixels of the thumbnail


class Option(NamedTuple):
    """One line of a list: ``mark`` is the class of the ``tiles`` it keeps."""

    mark: str
    name: str
    tiles: int


class Filter(NamedTuple):
    """One list to choose from; it is left out of the page when there is nothing to choose."""

    name: str
    options: list[Option]


class Filters(NamedTuple):
    """The lists, and for every tile its classes."""

    lists: list[Filter]
    marks: list[str]


def filters(rows: Sequence[Row]) -> Filters:
    """Return the lists by label, split, warning and augmentation for the tiles of ``rows``."""
    kinds = [
        _by("Label", "l", [(label_of(row) or "(no label)",) for row in rows]),
        _by("Split", "s", [(text(row.get("split")) or "(no split)",) for row in rows]),
        _by("Warning", "w", [warnings_of(row) or ("no warning",) for row in rows]),
        _by("Kind", "a", [(_kind(row),) for row in rows]),
    ]
    marks = [
        " ".join(" ".join(each) for each in tile)
        for tile in zip(*(m for _, m in kinds), strict=True)
    ]
    return Filters([each for each, _ in kinds if len(each.options) > 1], marks)


def _by(name: str, letter: str, values: Sequence[Sequence[str]]) -> tuple[Filter, list[list[str]]]:
    counts = Counter(value for tile in values for value in tile)
    names = sorted(counts, key=natural)
    mark = {value: f"{letter}{place}" for place, value in enumerate(names)}
    options = [Option(mark[value], value, counts[value]) for value in names]
    return Filter(name, options), [[mark[value] for value in tile] for tile in values]


def _kind(row: Row) -> str:
    return "augmented copy" if row.get("augmented") is True else "original"


def outlines(row: Row, size: tuple[int, int], shown: tuple[int, int]) -> str:
    """Return the outlines of a sample's findings as the ``d`` of an SVG path; numbers only.

    Args:
        row: Its ``rois`` have a ``polygon`` each, (x, y) in pixels of the finished picture.
        size: (rows, columns) of the finished picture.
        shown: (rows, columns) of the thumbnail, the units of the result.
    """
    if not all(size):
        return ""
    scale = np.array([shown[1] / size[1], shown[0] / size[0]])
    found = [_points(roi) for roi in list(sequence(row.get("rois")))[:ROIS]]
    return "".join(_path(points * scale) for points in found if len(points))


def _points(roi: Any) -> NDArray[np.float64]:
    """Corners of a finding; none when a single one is not two finite numbers."""
    polygon = sequence(roi.get("polygon")) if isinstance(roi, dict) else ()
    corners = [[number(part) for part in sequence(point)] for point in list(polygon)[:POINTS]]
    if any(len(corner) != 2 or None in corner for corner in corners):
        return np.zeros((0, 2))
    return np.clip(np.array(corners, np.float64).reshape(-1, 2), -1e5, 1e5)


def _path(points: NDArray[np.float64]) -> str:
    """A closed line through the corners that matter at this size."""
    kept = cv2.approxPolyDP(points.astype(np.float32), TOLERANCE, True).reshape(-1, 2)
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in kept.tolist()) + "Z"
