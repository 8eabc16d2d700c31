"""Two thumbnails laid upon each other: is it one picture?

Small squares of one are searched for in the other; the affine map that most of them agree on lays
one upon the other; then both are compared where both show the body. What the map cannot bring
together (another breast) stays unlike, however alike the outlines are.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.fingerprints import SIDE, WINDOWS, Field, Grey, evened

Map = NDArray[np.float64]  # 3 x 3, from the second thumbnail's (x, y) to the first one's

SQUARE = 24  # of SIDE, as all lengths here
REACHES = (8, 4)
SEARCHED = (1.0, 5.0)
COMPARED = (0.8, 3.5)
TOLERANCE = 1.5
FEWEST = 4
LEAST_MATCH = 0.2
STIFF = (40.0, 40.0, 0.05)  # against turning and scaling, and against moving
ROUNDS = 6
LEAST_COMMON = 0.5
_LOOK_UP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def likeness(one: Grey, other: Grey, view: int) -> float:
    """Return the correlation of two thumbnails after one was laid upon the other.

    Args:
        one: Its view ``view`` looks like ``other`` from afar.
        other: A thumbnail of the same longer side.
        view: As of ``fingerprints.views``.

    Returns:
        1 for the same picture; 0 when less than half of the smaller one is in the other.
    """
    scale = max(other.shape) / SIDE
    place = start(view, one.shape, other.shape)
    for size, reach in [(scale, reach) for reach in REACHES] + [(1.0, REACHES[-1])]:
        place = place @ _correction(one, other, place, size, reach)
    return _compared(one, other, place)


def _correction(one: Grey, other: Grey, place: Map, size: float, reach: int) -> Map:
    """Return the map by which ``place`` is off, seen in details of ``size``."""
    found, counts = evened(other, *(size * blur for blur in SEARCHED))
    given, _ = evened(one, *(size * blur for blur in SEARCHED))
    moved = _moved(given, place, other.shape)
    matches = _matches(moved, found, counts, round(reach * size), round(SQUARE * size))
    return np.eye(3) if len(matches) < FEWEST else _agreed(matches, TOLERANCE * size)


def start(view: int, one: tuple[int, ...], other: tuple[int, ...]) -> Map:
    """Return the map that a view stands for.

    Args:
        view: As of ``fingerprints.views``.
        one: (rows, columns) of the thumbnail that was viewed.
        other: (rows, columns) of the one that it looks like.
    """
    top, bottom, left, right, turn = WINDOWS[view % len(WINDOWS)]
    across = one[1] * (1 - left - right) / other[1]
    down = one[0] * (1 - top - bottom) / other[0]
    place = np.array([[across, 0, left * one[1]], [0, down, top * one[0]], [0, 0, 1.0]])
    if view >= len(WINDOWS):
        place = place @ np.array([[-1, 0, other[1]], [0, 1, 0], [0, 0, 1.0]])
    if turn:
        turned = cv2.getRotationMatrix2D((one[1] / 2, one[0] / 2), turn, 1.0)
        place = np.linalg.inv(np.vstack([turned, [0, 0, 1]])) @ place
    return place


def _moved(field: Field, place: Map, shape: tuple[int, ...]) -> Field:
    moved: Any = cv2.warpAffine(field, place[:2], (shape[1], shape[0]), flags=_LOOK_UP)
    return moved  # type: ignore[no-any-return]


def _matches(
    moved: Field, found: Field, counts: Field, reach: int, square: int
) -> NDArray[np.float64]:
    """Return where the squares of ``found`` are in ``moved``: x, y, x there, y there, weight."""
    rows, columns = found.shape
    wide = cv2.copyMakeBorder(moved, reach, reach, reach, reach, cv2.BORDER_CONSTANT)
    matches = []
    for y in range(0, max(rows - square, 0) + 1, square // 2):
        for x in range(0, max(columns - square, 0) + 1, square // 2):
            part = np.s_[y : y + square, x : x + square]
            if counts[part].mean() < LEAST_COMMON:
                continue
            area = wide[y : y + square + 2 * reach, x : x + square + 2 * reach]
            alike = cv2.matchTemplate(area, found[part], cv2.TM_CCORR_NORMED)
            down, across = divmod(int(alike.argmax()), alike.shape[1])
            best = float(alike[down, across])
            if best > LEAST_MATCH:
                u, v = x + square / 2 - 0.5, y + square / 2 - 0.5
                matches.append((u, v, u + across - reach, v + down - reach, best**2))
    return np.array(matches, np.float64).reshape(-1, 5)


def _agreed(matches: NDArray[np.float64], tolerance: float) -> Map:
    """Return the affine map that most matches agree on; strays lose their weight."""
    points = np.column_stack([matches[:, :2], np.ones(len(matches))])
    targets, given = matches[:, 2:4], matches[:, 4]
    still = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    stiff = np.diag(STIFF)
    weights = given
    for _ in range(ROUNDS):
        left = points.T @ (points * weights[:, None]) + stiff
        right = points.T @ (targets * weights[:, None]) + stiff @ still
        solved = np.linalg.solve(left, right)
        off = np.linalg.norm(points @ solved - targets, axis=1)
        weights = given / (1 + (off / tolerance) ** 2) ** 2
    agreed: Map = np.vstack([solved.T, [0.0, 0.0, 1.0]])
    return agreed


def _compared(one: Grey, other: Grey, place: Map) -> float:
    # Evened after it was moved: a picture that was squeezed has other blurs before.
    there_is = _moved(one.astype(np.float32), place, other.shape)
    moved, there = evened(there_is, *COMPARED)
    fixed, here = evened(other, *COMPARED)
    frame = _moved(np.ones(one.shape, np.float32), place, other.shape)
    both = (there > 0) & (here > 0) & (frame > 0.9)
    shrunk = max(abs(float(np.linalg.det(place[:2, :2]))), 1e-6)
    area = float((evened(one, *COMPARED)[1] > 0).sum()) / shrunk
    if both.sum() < LEAST_COMMON * max(min(float(here.sum()), area), 1.0):
        return 0.0
    first, second = (field[both] - field[both].mean() for field in (moved, fixed))
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / max(length, 1e-6)
