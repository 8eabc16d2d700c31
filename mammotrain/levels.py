"""From images to breasts and patients."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammotrain.scores import Scores

LEVELS = ("image", "breast", "patient")
HOW = ("mean", "max")
FIRST = {"rsna": "breast"}  # source -> what its challenge was scored by; of others the image
Floats = NDArray[np.float64]
Places = NDArray[np.intp]


def aggregate(scores: Scores, level: str, how: str = "mean") -> Scores:
    """Return one row a breast or patient; the image level is returned as it is.

    ``mean``: the mean of the images of a view, then of the breast's views. A patient of two classes
    is as suspicious as the more suspicious breast; of more classes the breasts' mean counts.
    ``max``: the highest score of each class; of more than two classes normalised to sum 1. A breast
    or patient is positive when one of its images is. The result is sorted by key,
    ``GROUP/LATERALITY`` or ``GROUP``.

    Args:
        scores: One row an image, all labelled.
        level: ``image``, ``breast`` or ``patient``.
        how: ``mean`` or ``max``.

    Raises:
        ConfigError: the level has no meaning here, with the reason.
    """
    if level not in LEVELS or how not in HOW:
        raise ConfigError(f"No such level {level!r} by {how!r}: {LEVELS} by {HOW}.")
    if level == "image":
        return scores
    if reason := why_not(scores, level):
        raise ConfigError(f"There is no {level} level: {reason}.")
    _, breast = np.unique(_breasts(scores), return_inverse=True)
    _, patient = np.unique(scores.group, return_inverse=True)
    place = breast if level == "breast" else patient
    if how == "max":
        values = _highest(scores.values, place)
    elif level == "breast":
        values = by_views(scores.values, scores.view, breast)
    else:
        values = _by_breasts(scores, breast, patient)
    first = _first(place)
    keys = _breasts(scores) if level == "breast" else scores.group
    return Scores(
        keys[first],
        scores.group[first],
        scores.laterality[first] if level == "breast" else np.full(len(first), ""),
        np.full(len(first), ""),
        _highest(scores.label[:, None], place)[:, 0].astype(np.int64),
        values,
        scores.names,
        None if scores.fold is None else scores.fold[first],
        source=None if scores.source is None else scores.source[first],
    )


def first_of(sources: Sequence[str]) -> str:
    """Return the level that a report on these sources begins with."""
    found = {FIRST.get(source, "image") for source in sources}
    return found.pop() if len(found) == 1 else "image"


def why_not(scores: Scores, level: str) -> str:
    """Return why there is no such level, or an empty text."""
    if level == "image":
        return ""
    if level == "breast" and (missing := int((scores.laterality == "").sum())):
        return f"{missing:,} of {len(scores):,} images have no laterality"
    if len(scores.names) == 2:
        return ""
    names = _breasts(scores) if level == "breast" else scores.group
    _, place = np.unique(names, return_inverse=True)
    torn = _highest(scores.label[:, None], place) != -_highest(-scores.label[:, None], place)
    count = int(torn.sum())
    return f"the images of {count:,} have different classes" if count else ""


def by_views(values: Floats, views: NDArray[np.str_], breast: Places) -> Floats:
    """Return the scores of breasts: the mean of the images of a view, then of the breast's views.

    Args:
        values: (n, classes) scores of images.
        views: (n,) their views; an empty text is a view too.
        breast: (n,) number of each image's breast, from 0 without a gap.
    """
    names = np.char.add(np.char.add(breast.astype(np.str_), "/"), views)
    _, view = np.unique(names, return_inverse=True)
    return _mean(_mean(values, view), breast[_first(view)])


def _breasts(scores: Scores) -> NDArray[np.str_]:
    return np.char.add(np.char.add(scores.group, "/"), scores.laterality)


def _by_breasts(scores: Scores, breast: Places, patient: Places) -> Floats:
    """Scores of patients, by those of their breasts."""
    values = by_views(scores.values, scores.view, breast)
    owner = patient[_first(breast)]
    combine: Callable[[Floats, Places], Floats] = _highest if values.shape[1] == 2 else _mean
    return combine(values, owner)


def _first(place: Places) -> Places:
    return np.unique(place, return_index=True)[1]


def _mean(values: Floats, place: Places) -> Floats:
    sums = np.zeros((int(place.max()) + 1, values.shape[1]))
    np.add.at(sums, place, values)
    return sums / np.bincount(place)[:, None]


def _highest(values: NDArray[np.number], place: Places) -> Floats:
    """Return the highest of each column by place; two probabilities still sum to 1."""
    best = np.full((int(place.max()) + 1, values.shape[1]), -np.inf)
    np.maximum.at(best, place, values)
    if values.shape[1] == 2:
        best[:, 0] = 1 - best[:, 1]
    if values.shape[1] > 2:
        best /= best.sum(axis=1, keepdims=True)
    return best
