"""The samples a person gets to see: those that a model was surest of, rightly and wrongly."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mammotrain.scores import Scores

HEIGHT, WIDTH = 220, 330
JPEG_QUALITY = 85
EACH = 6  # tiles of a class
ZOOMED = 2.0  # times; from here on smoothing would hide what the pixels are

Picture = Callable[[str], NDArray[np.uint8] | None]


class Tile(NamedTuple):
    """One sample, ready to be put into a page.

    Attributes:
        key: Of the sample.
        facts: Side, view and true class.
        said: What the model said.
        uri: ``data:image/jpeg;base64,...``, or empty without a picture.
        width: Columns on the page; a small picture is shown larger, as the tile allows.
        height: Rows on the page.
        zoomed: Whether it is shown so large that its pixels are shown as they are.
    """

    key: str
    facts: list[str]
    said: str
    uri: Markup
    width: int
    height: int
    zoomed: bool


class Sheet(NamedTuple):
    """Some tiles under one heading."""

    title: str
    tiles: list[Tile]


def sheets(scores: Scores, picture: Picture) -> list[Sheet]:
    """Return the samples whose own class got the lowest and the highest probability.

    Two classes have a sheet each; with more, all classes share one. A group appears once on a
    sheet.

    Args:
        scores: All labelled.
        picture: Gives a sample's picture by its key, uint8, (rows, columns) grey or
            (rows, columns, 3) red, green, blue; None when there is none. Called only for what is
            shown.
    """
    own = scores.values[np.arange(len(scores)), scores.label]
    classes = [(np.full(len(scores), True), "", 2 * EACH)]
    if len(scores.names) == 2:
        classes = [
            (scores.label == place, scores.names[place], EACH)
            for place in (1, 0)
        ]  # fmt: skip
    found = []
    for sign, words in ((1, "Worst"), (-1, "Best")):
        for inside, name, limit in classes:
            rows = _chosen(scores, sign * own, inside, limit)
            title = f"{words}: {name}" if name else words
            found.append(Sheet(title, [_tile(scores, row, picture) for row in rows]))
    return [sheet for sheet in found if sheet.tiles]


def _chosen(
    scores: Scores, rank: NDArray[np.float64], inside: NDArray[np.bool_], limit: int
) -> list[int]:
    """Return the samples of the lowest rank, one a group; equal ones by key."""
    order = np.lexsort((scores.key, rank))
    seen: set[str] = set()
    found: list[int] = []
    for row in (int(place) for place in order if inside[place]):
        if len(found) == limit:
            break
        if (group := str(scores.group[row])) not in seen:
            seen.add(group)
            found.append(row)
    return found


def _tile(scores: Scores, row: int, picture: Picture) -> Tile:
    place = f"{scores.laterality[row]} {scores.view[row]}".strip()
    facts = [fact for fact in (place, scores.names[scores.label[row]]) if fact]
    values = scores.values[row]
    shown = 1 if len(values) == 2 else int(values.argmax())
    said = f"{scores.names[shown]} {values[shown]:.3f}"
    return Tile(str(scores.key[row]), facts, said, *thumbnail(picture(str(scores.key[row]))))


def thumbnail(large: NDArray[np.uint8] | None) -> tuple[Markup, int, int, bool]:
    """Return a picture as a ``Tile`` has it: uri, width, height, and whether pixels are shown."""
    if large is None or not large.size:
        return Markup(""), 0, 0, False
    rows, columns = large.shape[:2]
    scale = min(HEIGHT / rows, WIDTH / columns)
    size = tuple(max(1, round(side * min(scale, 1.0))) for side in (columns, rows))
    small: NDArray[Any] = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
    ordered = small[..., ::-1] if small.ndim == 3 else small
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(ordered), options)
    # Markup: base64 holds no mark that HTML reads, and the cut for long texts must not apply.
    uri = Markup("data:image/jpeg;base64,") + b64encode(encoded.tobytes()).decode("ascii")
    return uri, max(1, round(columns * scale)), max(1, round(rows * scale)), scale >= ZOOMED
