"""Masks for people: pictures with the outlines of what is there and of what the model says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mammotrain.outlines import Outlines, Polygons
from mammotrain.report.pictures import EACH, Picture, thumbnail
from mammotrain.scores import Scores

DICE, WRONG = "dice", "false_positives"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Masks:
    """What a run knows of masks.

    Attributes:
        measures: Name -> (n, 2), a row a sample; see ``contracts.Task.measures``.
        outlines: Key of a sample -> what is drawn on its picture.
    """

    measures: Mapping[str, Floats] = field(default_factory=dict)
    outlines: Mapping[str, Outlines] = field(default_factory=dict)


NO_MASKS = Masks()


class Tile(NamedTuple):
    """One sample, ready to be put into a page.

    Attributes:
        key: Of the sample.
        facts: Side, view, and how many lesions are outlined.
        said: Its Dice, or how many false positives it has.
        uri: As of ``pictures.Tile``.
        width: Columns on the page.
        height: Rows on the page.
        zoomed: As of ``pictures.Tile``.
        box: ``viewBox`` of the paths.
        true: Path of the true outlines.
        model: Path of those that the model says.
    """

    key: str
    facts: list[str]
    said: str
    uri: Markup
    width: int
    height: int
    zoomed: bool
    box: str
    true: str
    model: str


class Sheet(NamedTuple):
    """Some tiles under one heading."""

    title: str
    tiles: list[Tile]


def sheets(scores: Scores, masks: Masks, picture: Picture) -> list[Sheet]:
    """Return the pictures of the lowest and highest Dice and of the most false positives.

    A group appears once on a sheet.

    Args:
        scores: Of the same samples, in the same order as the measures.
        masks: Measures and outlines; without outlines there are no sheets.
        picture: Gives a sample's picture by its key, of the grid that the outlines are on.
    """
    if not masks.outlines or DICE not in masks.measures:
        return []
    dice, positive = masks.measures[DICE].T
    wrong = masks.measures[WRONG][:, 0]
    chosen: tuple[tuple[str, Floats, NDArray[np.bool_], Callable[[int], str]], ...] = (
        ("Lowest Dice", dice, positive > 0, lambda row: f"Dice {dice[row]:.3f}"),
        ("Highest Dice", -dice, dice > 0, lambda row: f"Dice {dice[row]:.3f}"),
        ("Most false positives", -wrong, wrong > 0, lambda row: _wrong(int(wrong[row]))),
    )
    found = []
    for title, rank, inside, said in chosen:
        rows = _first(scores, rank, inside & np.isin(scores.key, list(masks.outlines)))
        tiles = [_tile(scores, row, said(row), masks, picture) for row in rows]
        found.append(Sheet(title, tiles))
    return [sheet for sheet in found if sheet.tiles]


def path(polygons: Polygons) -> str:
    """Return closed outlines as the data of an SVG path; a pixel's centre is at its half."""
    points = (" ".join(f"{x + 0.5:g},{y + 0.5:g}" for x, y in polygon) for polygon in polygons)
    return " ".join(f"M{each}Z" for each in points)


def _first(scores: Scores, rank: Floats, inside: NDArray[np.bool_]) -> list[int]:
    """Return the samples of the lowest rank, one a group; equal ones by key."""
    seen: set[str] = set()
    found: list[int] = []
    for row in (int(place) for place in np.lexsort((scores.key, rank)) if inside[place]):
        group = str(scores.group[row])
        if group not in seen and len(found) < EACH:
            seen.add(group)
            found.append(row)
    return found


def _tile(scores: Scores, row: int, said: str, masks: Masks, picture: Picture) -> Tile:
    key = str(scores.key[row])
    drawn = masks.outlines[key]
    place = f"{scores.laterality[row]} {scores.view[row]}".strip()
    lesions = len(drawn.true)
    outlined = f"{lesions} outline{'' if lesions == 1 else 's'}" if lesions else "no lesion"
    facts = [fact for fact in (place, outlined) if fact]
    box = f"0 0 {drawn.size[1]} {drawn.size[0]}"
    paths = path(drawn.true), path(drawn.said)
    return Tile(key, facts, said, *thumbnail(picture(key)), box, *paths)


def _wrong(count: int) -> str:
    return f"{count} false positive{'' if count == 1 else 's'}"
