"""From images to breasts, exams and patients.

A breast is one side in one examination: a normal one of 2013 is not averaged with the cancer of
2018. What is drawn in a bootstrap are patients, at every level.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammotrain.exams import UNTOLD
from mammotrain.scores import Scores

LEVELS = ("image", "breast", "exam", "patient")
HOW = ("mean", "max")
FIRST = {"rsna": "breast"}  # source -> what its challenge was scored by; of others the image
Floats = NDArray[np.float64]
Places = NDArray[np.intp]


def aggregate(scores: Scores, level: str, how: str = "mean") -> Scores:
    """Return one row a breast, exam or patient; the image level is returned as it is.

    ``mean``: the mean of the images of a view, then of the breast's views, within an examination.
    Of two classes an exam is as suspicious as its more suspicious breast, and a patient as the most
    suspicious exam; of more classes the mean of the breasts, then of the exams counts.
    ``max``: the highest score of each class; of more than two classes normalised to sum 1. A
    breast, exam or patient is positive when one of its images is. Images without a laterality are
    one more breast of their examination. Keys are ``GROUP/EXAM/LATERALITY``, ``GROUP/EXAM`` or
    ``GROUP``, without ``EXAM`` where no image of the group has one; the result is sorted by group,
    examination and laterality.

    Args:
        scores: One row an image, all labelled.
        level: One of ``LEVELS``.
        how: ``mean`` or ``max``.

    Raises:
        ConfigError: the level has no meaning here, with the reason.
    """
    if level not in LEVELS or how not in HOW:
        raise ConfigError(f"No such level {level!r} by {how!r}: {LEVELS} by {HOW}.")
    if level == "image":
        return scores
    if reason := why_not(scores, level, how):
        raise ConfigError(f"There is no {level} level: {reason}.")
    place, keys = _places(scores, level), _keys(scores, level)
    values = _highest(scores.values, place) if how == "max" else _means(scores, level)
    first = _first(place)
    nothing = np.full(len(first), "")
    return Scores(
        keys[first],
        scores.group[first],
        scores.laterality[first] if level == "breast" else nothing,
        nothing,
        _highest(scores.label[:, None], place)[:, 0].astype(np.int64),
        values,
        scores.names,
        None if scores.fold is None else scores.fold[first],
        exam=None if scores.exam is None or level == "patient" else scores.exam[first],
        source=None if scores.source is None else scores.source[first],
    )


def first_of(sources: Sequence[str]) -> str:
    """Return the level that a report on these sources begins with."""
    found = {FIRST.get(source, "image") for source in sources}
    return found.pop() if len(found) == 1 else "image"


def why_not(scores: Scores, level: str, how: str = "mean") -> str:
    """Return why there is no such level, or an empty text.

    Args:
        scores: One row an image, all labelled.
        level: One of ``LEVELS``.
        how: ``mean`` or ``max``: the highest score of a patient needs no examinations.
    """
    if level == "image":
        return ""
    if level == "breast" and (missing := int((scores.laterality == "").sum())):
        return f"{missing:,} of {len(scores):,} images have no laterality"
    if (level != "patient" or how == "mean") and (reason := _mixed_exams(scores)):
        return reason
    return "" if len(scores.names) == 2 else _mixed_classes(scores, level)


def assumed(scores: Scores) -> int:
    """Return how many groups tell no examination, and so are taken to have one each."""
    if scores.exam is None:
        return len(np.unique(scores.group))
    return len(np.unique(scores.group[scores.exam == ""]))


def _mixed_exams(scores: Scores) -> str:
    """Return why it is not known which images are of one examination, or an empty text."""
    if scores.exam is None:
        return ""
    told = scores.exam != ""
    half = np.intersect1d(scores.group[told], scores.group[~told])
    torn = np.union1d(half, scores.group[scores.exam == UNTOLD])
    if not torn.size:
        return ""
    return (
        f"{torn.size:,} of {len(np.unique(scores.group)):,} groups may have several exams, and "
        "their images do not all tell which (exam_id or study_id)"
    )


def _mixed_classes(scores: Scores, level: str) -> str:
    place = _places(scores, level)
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
    view = _numbers(_with(breast.astype(np.str_), views))
    return _mean(_mean(values, view), breast[_first(view)])


def _with(names: NDArray[np.str_], more: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.char.add(np.char.add(names, "/"), more)


def _keys(scores: Scores, level: str) -> NDArray[np.str_]:
    """Return what each image's breast, exam or patient is called, (n,)."""
    if level == "patient":
        return scores.group
    exam = scores.group
    if scores.exam is not None:
        exam = np.where(scores.exam == "", exam, _with(exam, scores.exam))
    return exam if level == "exam" else _with(exam, scores.laterality)


def _places(scores: Scores, level: str) -> Places:
    """Return the number of each image's breast, exam or patient, (n,), from 0 without a gap.

    Not by the keys: a group ``a`` with an exam ``b`` and a group ``a/b`` are two.
    """
    told = [scores.group]
    if level != "patient" and scores.exam is not None:
        told.append(scores.exam)
    if level == "breast":
        told.append(scores.laterality)
    parts = np.stack([_numbers(each) for each in told])
    return np.asarray(np.unique(parts, axis=1, return_inverse=True)[1]).ravel()


def _means(scores: Scores, level: str) -> Floats:
    """Return the scores of breasts, of exams by their breasts, or of patients by their exams."""
    breast, exam, patient = (_places(scores, each) for each in LEVELS[1:])
    values = by_views(scores.values, scores.view, breast)
    if level == "breast":
        return values
    combine: Callable[[Floats, Places], Floats] = _highest if values.shape[1] == 2 else _mean
    values = combine(values, exam[_first(breast)])
    return values if level == "exam" else combine(values, patient[_first(exam)])


def _numbers(names: NDArray[np.str_]) -> Places:
    """Return the number of each name in their order, (n,), from 0 without a gap."""
    return np.asarray(np.unique(names, return_inverse=True)[1])


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
