"""Pictures that show the same frame: saved again, scaled, cropped or drawn upon.

A thumbnail is evened out (its own blur taken away, contrast made alike), because the depth gradient
of ultrasound alone makes any two pictures correlate by 0.7. Pairs whose coarse views correlate are
then laid upon each other in several scales and compared at every place.
"""

import base64
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.decode import raster

Field = NDArray[np.float32]

SIDE = 96  # of a thumbnail's longer side
LEAST_SIDE = 8
SMOOTH, EVEN, FLOOR = 1.0, 5.0, 4.0
GRID = 24
CROPS = (0.0, 0.08, 0.16, 0.24, 0.32)  # shares of the width that a view may lack on one side
FLAT_CROPS = CROPS[:3]  # the same for the height
MOST_CROPPED = 0.5
MIDDLE = 0.7  # the share of one thumbnail's sides that is searched for in the other one
SCALES = np.geomspace(0.66, 1.5, 29)
# Measured on half of BUSI (see docs/sources/busi.md): one frame 0.83 to 1, neighbouring frames of
# one lesion 0.65 to 0.81, all others at most 0.61.
CANDIDATE = 0.45
SAME = 0.66


def fingerprint(data: bytes) -> dict[str, Any]:
    """Return what is compared of a picture: a grey thumbnail, as plain JSON values.

    Args:
        data: A whole picture file, of any kind that ``raster`` reads.

    Returns:
        ``size``: (rows, columns) of the thumbnail, the longer of 96, and ``grey``: its bytes, row
        by row, in Base64.

    Raises:
        RecordError: the picture cannot be read.
    """
    values, top, _ = raster.read_values(data)
    grey: Any = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY) if values.ndim == 3 else values
    if top != 255:  # of another depth: spread over eight bits, or the upper eight of more
        bits = top.bit_length()
        grey = (grey >> (bits - 8) if bits > 8 else grey * (255 // top)).astype(np.uint8)
    scale = SIDE / max(grey.shape)
    rows, columns = (max(LEAST_SIDE, round(side * scale)) for side in grey.shape)
    small = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
    return {"size": [rows, columns], "grey": base64.b64encode(small.tobytes()).decode()}


def clusters(fingerprints: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Return the names of pictures that belong together, directly or through others.

    Args:
        fingerprints: Name -> what ``fingerprint`` returned.

    Returns:
        Every cluster of two or more, its names and the clusters in the order of ``fingerprints``.
    """
    names = list(fingerprints)
    parent = list(range(len(names)))

    def root(place: int) -> int:
        while parent[place] != place:
            place = parent[place]
        return place

    for one, other, _ in pairs(list(fingerprints.values())):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    found: dict[int, list[str]] = {}
    for place, name in enumerate(names):
        found.setdefault(root(place), []).append(name)
    return [members for members in found.values() if len(members) > 1]


def pairs(
    fingerprints: Sequence[Mapping[str, Any]], least: float = SAME
) -> list[tuple[int, int, float]]:
    """Return (place, later place, likeness) of every two pictures that are at least so alike.

    Likeness is a normalised correlation: 1 for the same picture.
    """
    fields = [_evened(_thumbnail(item)) for item in fingerprints]
    found = ((i, j, _likeness(fields[i], fields[j])) for i, j in _candidates(fields))
    return [pair for pair in found if pair[2] >= least]


def _thumbnail(item: Mapping[str, Any]) -> NDArray[np.uint8]:
    grey = np.frombuffer(base64.b64decode(item["grey"]), np.uint8)
    return grey.reshape(item["size"])


def _evened(thumbnail: NDArray[np.uint8]) -> Field:
    """Return what is finer than the blur, with about the same contrast everywhere."""
    smooth: Any = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), SMOOTH)
    fine = smooth - cv2.GaussianBlur(smooth, (0, 0), EVEN)
    contrast = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), EVEN))
    evened: Field = fine / (contrast + np.float32(FLOOR))
    return evened


def _candidates(fields: Sequence[Field]) -> list[tuple[int, int]]:
    """Return the pairs of which one, or a part of it, looks like the other from afar."""
    if not fields:
        return []
    whole = np.stack([_coarse(field) for field in fields])
    best = np.stack([(_views(field) @ whole.T).max(axis=0) for field in fields])
    best = np.triu(np.maximum(best, best.T), 1)
    return [(int(i), int(j)) for i, j in np.argwhere(best >= CANDIDATE)]


def _views(field: Field) -> Field:
    """Return the coarse view of the whole and of many parts, (views, GRID * GRID)."""
    rows, columns = field.shape
    down = [_cut(rows, *ends) for ends in _ends(FLAT_CROPS)]
    across = [_cut(columns, *ends) for ends in _ends(CROPS)]
    return np.stack([_coarse(field[y, x]) for y in down for x in across])


def _ends(crops: Iterable[float]) -> list[tuple[float, float]]:
    both = itertools.product(crops, repeat=2)
    return [(low, high) for low, high in both if low + high <= MOST_CROPPED]


def _cut(length: int, low: float, high: float) -> slice:
    return slice(int(low * length), int(np.ceil((1 - high) * length)))


def _coarse(field: Field) -> Field:
    """Return a part as a vector of length 1 and mean 0, whatever its shape."""
    small: Any = cv2.resize(field, (GRID, GRID), interpolation=cv2.INTER_AREA)
    vector = small.ravel() - small.mean()
    unit: Field = vector / max(float(np.linalg.norm(vector)), 1e-6)
    return unit


def _likeness(one: Field, other: Field) -> float:
    return max(_best_match(one, other), _best_match(other, one))


def _best_match(field: Field, other: Field) -> float:
    """Return the best correlation of the middle of ``other`` with a place of ``field``."""
    margin = (1 - MIDDLE) / 2
    y, x = (_cut(side, margin, margin) for side in other.shape)
    middle = other[y, x]
    best = -1.0
    for scale in SCALES:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled: Any = cv2.resize(field, None, fx=scale, fy=scale, interpolation=way)
        if all(a >= b for a, b in zip(scaled.shape, middle.shape, strict=True)):
            match = cv2.matchTemplate(scaled, middle, cv2.TM_CCOEFF_NORMED)
            best = max(best, float(match.max()))
    return best
