"""What is kept of a picture to find it again among many, and the pairs worth a closer look.

Mammograms look alike: a dark ground, one outline, the chest wall on one side. So a fingerprint
begins at the box of what is not ground, is evened out (its own blur taken away, contrast made
alike, nothing counted across the outline), and of all fingerprints of a dataset the mean is taken
away: what every picture shares says nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Grey = NDArray[np.uint8]
Window = tuple[float, float, float, float, float]

SIDE = 112  # of a thumbnail's longer side
LOOK = 256  # where the box is looked for
LEAST = 16  # rows and columns of a box, of LOOK
NOISE = 1.5
GROUND = 0.14  # what is darker, of the evened range, is no part of the body
GRID = 24
COARSE = (1.5, 6.0)
FLOOR = 3.0
EDGE = 5
CUT = 0.07
TURN = 3.0
# How a picture may be cut (top, bottom, left, right, as shares) or turned (degrees) to look like
# another: the whole comes first.
WINDOWS: tuple[Window, ...] = (
    (0, 0, 0, 0, 0), (CUT, 0, 0, 0, 0), (0, CUT, 0, 0, 0), (0, 0, CUT, 0, 0), (0, 0, 0, CUT, 0),
    (CUT / 2, CUT / 2, CUT / 2, CUT / 2, 0), (0, 0, 0, 0, TURN), (0, 0, 0, 0, -TURN),
)  # fmt: skip
VIEWS = 2 * len(WINDOWS)  # each, then each mirrored
FEW = 10  # pictures whose mean is not worth more than nothing
AT_ONCE = 1 << 24  # numbers of one product
TIE = 1e-4  # a hundred times what rounding makes of a correlation
CANDIDATE = 0.4
CLOSEST = 8


@dataclass(frozen=True)
class Candidate:
    """Two pictures that may be one.

    Attributes:
        one: Place of the first.
        other: Place of the second.
        view: Which view of the first looks like the whole second, of ``VIEWS``.
    """

    one: int
    other: int
    view: int


def thumbnail(pixels: NDArray[Any], side: int = SIDE) -> Grey | None:
    """Return what a picture shows, without the ground around it, in few pixels.

    Brightness, contrast and gamma are made alike first, so that the box does not depend on them.

    Args:
        pixels: (rows, columns) or (rows, columns, 3), uint8 or uint16.
        side: Pixels of the longer side of the result.

    Returns:
        uint8, or None for a picture that shows nothing, or next to nothing.
    """
    grey: Any = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) if pixels.ndim == 3 else pixels
    grey = _scaled(grey.astype(np.float32), max(LOOK, side))
    smooth: Any = cv2.GaussianBlur(grey, (0, 0), NOISE)
    low, high = np.percentile(smooth, [1, 99.5])
    if high - low < 1:
        return None
    level = np.clip((grey - low) / (high - low), 0, 1)
    body = level[level > GROUND / 2]
    middle = float(np.clip(np.median(body), 0.02, 0.98)) if body.size else 0.5
    level = level ** np.clip(np.log(0.5) / np.log(middle), 0.25, 4)
    shown = cv2.GaussianBlur(level, (0, 0), NOISE * max(LOOK, side) / LOOK) > GROUND
    rows, columns = (np.flatnonzero(shown.mean(axis) > 0.03) for axis in (1, 0))
    if min(rows.size, columns.size) < LEAST:
        return None
    box = level[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small: Grey = np.round(np.clip(_scaled(box, side), 0, 1) * 255).astype(np.uint8)
    return small


def _scaled(values: Field, side: int) -> Field:
    scale = side / max(values.shape)
    rows, columns = (max(8, round(length * scale)) for length in values.shape)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small: Any = cv2.resize(values, (columns, rows), interpolation=way)
    return small  # type: ignore[no-any-return]


def evened(grey: NDArray[Any], fine: float, even: float) -> tuple[Field, Field]:
    """Return what is finer than the blur ``even``, contrast made alike, and where it counts.

    Args:
        grey: A thumbnail.
        fine: Blur that takes the noise away, in pixels.
        even: Blur that is taken away, in pixels.

    Returns:
        The evened values, 0 outside, and 1 inside the outline, else 0.
    """
    values = grey.astype(np.float32)
    inside = (cv2.GaussianBlur(values, (0, 0), NOISE) > GROUND * 255).astype(np.float32)
    weights = {size: cv2.GaussianBlur(inside, (0, 0), size) for size in (fine, even)}

    def blurred(field: Any, size: float) -> Any:
        return cv2.GaussianBlur(field * inside, (0, 0), size) / np.maximum(weights[size], 1e-3)

    detail = (blurred(values, fine) - blurred(values, even)) * inside
    contrast = np.sqrt(blurred(detail * detail, even))
    kernel = np.ones((EDGE, EDGE), np.uint8)
    counts: Any = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return detail / (contrast + np.float32(FLOOR)) * counts, counts


def views(grey: Grey, windows: Sequence[Window] = WINDOWS) -> Field:
    """Return the coarse views of a thumbnail, then their mirror images, each of length 1.

    Returns:
        (2 x windows, GRID x GRID)
    """
    field, counts = evened(grey, *COARSE)
    grids = [_grid(field, counts, window) for window in windows]
    both = np.stack([*grids, *(grid[:, ::-1] for grid in grids)])
    return unit(both.reshape(len(both), -1))


def _grid(field: Field, counts: Field, window: Window) -> Field:
    rows, columns = field.shape
    top, bottom, left, right, turn = window
    if turn:
        matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), turn, 1.0)
        field, counts = (cv2.warpAffine(x, matrix, (columns, rows)) for x in (field, counts))  # type: ignore[assignment]
    part = np.s_[
        int(top * rows) : rows - int(bottom * rows),
        int(left * columns) : columns - int(right * columns),
    ]
    small, weight = (
        cv2.resize(x[part], (GRID, GRID), interpolation=cv2.INTER_AREA) for x in (field, counts)
    )
    grid: Field = small - (small * weight).sum() / max(float(weight.sum()), 1e-6) * weight
    return grid


def unit(vectors: Field) -> Field:
    """Return the vectors of the last axis with length 1."""
    scaled: Field = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return scaled


def candidates(
    thumbnails: Sequence[Grey],
    forbidden: Callable[[int], NDArray[np.bool_]],
    step: Callable[[int], None] = lambda _: None,
    run: Callable[..., Iterable[Any]] = map,
) -> list[Candidate]:
    """Return the pairs that look alike from afar, for each picture the closest ones at most.

    Every view of each picture is correlated with every whole picture, in blocks: the memory does
    not grow with the square of their number.

    Args:
        thumbnails: Of all pictures.
        forbidden: Place of a picture -> which others it is not compared with, itself among them.
        step: Called with the number of pictures that are done.
        run: ``map``, or one that works in parallel and keeps the order.
    """
    if len(thumbnails) < 2:
        return []
    wholes = np.stack([view[0] for view in run(_whole, thumbnails)])
    shared = wholes.mean(axis=0) * (len(wholes) / (len(wholes) + FEW))
    wholes = unit(wholes - shared)
    found: dict[tuple[int, int], tuple[float, Candidate]] = {}
    at_once = max(1, AT_ONCE // (VIEWS * len(wholes)))
    for first in range(0, len(wholes), at_once):
        block = np.stack(list(run(views, thumbnails[first : first + at_once])))
        alike = unit(block - shared).reshape(-1, wholes.shape[1]) @ wholes.T
        for place, rows in enumerate(alike.reshape(len(block), VIEWS, -1), first):
            for likeness, pair in _closest(place, rows, forbidden(place)):
                name = (min(pair.one, pair.other), max(pair.one, pair.other))
                found[name] = max(found.get(name, (-1.0, pair)), (likeness, pair), key=_likeness)
        step(min(first + at_once, len(wholes)))
    return [found[name][1] for name in sorted(found)]


def _likeness(item: tuple[float, Candidate]) -> float:
    """Return what the better of the two ways to compare a pair is chosen by.

    Both can be equally good, and then rounding in a matrix product, which depends on its size and
    on the processor, must not choose: the picture that comes first is the one that is turned.
    """
    likeness, pair = item
    return likeness + (TIE if pair.one < pair.other else 0.0)


def _whole(grey: Grey) -> Field:
    return views(grey, WINDOWS[:1])


def _closest(
    place: int, alike: Field, forbidden: NDArray[np.bool_]
) -> Iterator[tuple[float, Candidate]]:
    best = np.where(forbidden, -1, alike.max(axis=0))
    few = np.argpartition(best, -min(CLOSEST, len(best)))[-CLOSEST:]
    for other in few.tolist():
        if best[other] >= CANDIDATE:
            view = int((alike[:, other] >= best[other] - TIE).argmax())
            yield float(best[other]), Candidate(place, other, view)
