"""Has a model collapsed: does it say the same of every picture, or nothing that the picture tells?

A collapsed classifier can have any accuracy: that of a data set's most frequent class.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammotrain import bootstrap, measures, metrics
from mammotrain.scores import Scores

CONSTANT, ONE_CLASS, UNTRAINED = "constant", "one-class", "untrained"
MASKS, PICTURES = "masks", "pictures"
MEASURE = "collapsed"  # of the tasks that can tell it of each picture
SPREAD = 0.02  # of the logits; docs/metrics.md has what was measured
SHARE = 0.99  # of the samples that are said to be of one class
PICTURES_SHARE = 0.9
ERRORS = 2.0  # standard errors of an AUROC by chance
SMALLEST = 1e-12  # probability

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Collapse:
    """What was found.

    Attributes:
        kind: ``constant``, ``one-class``, ``untrained``, ``masks``, ``pictures``; None for none.
        reason: A sentence for people; empty for none.
        spread: Standard deviation of the logits of the class that varies most; None for tasks that
            look at pictures.
        share: Of the samples that the most frequent decision is made of, or of pictures that are
            collapsed.
    """

    kind: str | None
    reason: str
    spread: float | None
    share: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, and whether it has collapsed as ``found``."""
        return {"found": self.kind is not None, **asdict(self)}


def of_scores(scores: Scores, said: NDArray[np.int64] | None = None) -> Collapse:
    """Return whether a classifier has collapsed on the labelled ones of some samples.

    ``constant``: the logits of no class vary by more than ``SPREAD``. ``one-class``: of at least
    ``SHARE`` of the samples the same is said, by decision or as the most probable, though there are
    several classes, and the AUROC is no better than chance. ``untrained``: it is no better than
    chance, and the probabilities are no better than the share of each class, said of everybody.

    Chance is half of the area, and ``ERRORS`` standard errors of a ranking by chance, with patients
    counted and not images. Where there are too few patients for an interval, it is not looked at.

    Args:
        scores: Probabilities.
        said: (n,) decisions; None where there is no threshold.
    """
    known = scores.label >= 0
    labelled = scores.take(known)
    if len(labelled) < 2:
        return Collapse(None, "", None, 0.0)
    spread, (name, share) = _spread(labelled), _said(labelled, said, known)
    kind, reason = None, ""
    if spread < SPREAD:
        kind = CONSTANT
        reason = (
            f"The model has collapsed: it gives all {len(labelled):,} samples the same "
            f"probabilities, whatever the picture (logits vary by {spread:.2g}). All "
            "its scores are those of a constant."
        )
    elif not bootstrap.few_groups(labelled):
        kind, reason = _by_chance(labelled, name, share)
    return Collapse(kind, reason, round(spread, 6), round(share, 6))


def _by_chance(scores: Scores, name: str, share: float) -> tuple[str | None, str]:
    found = metrics.point(scores.label, scores.values, None, scores.strata)
    auroc = found["auroc" if "auroc" in found else "macro_auroc"]
    highest = 0.5 + ERRORS * _error(scores)
    if not auroc <= highest:
        return None, ""
    chance = f"its AUROC of {auroc:.3f} is no better than chance (up to {highest:.3f})"
    if share >= SHARE:
        return ONE_CLASS, (
            f"The model has collapsed: it says {name} of {100 * share:.0f} % of the samples, and "
            f"{chance}. Its accuracy is the share of that class."
        )
    if found["brier"] >= _brier_of_shares(scores):
        return UNTRAINED, (
            f"The model is as good as untrained: {chance}, and its probabilities are no better "
            "than the share of each class, said of everybody."
        )
    return None, ""


def _spread(scores: Scores) -> float:
    """Return how logits vary within strata: models that are constants differ from each other."""
    inside = np.clip(scores.values, SMALLEST, 1 - SMALLEST)
    logits = np.log(inside / (1 - inside))
    for rows in _strata(scores):
        logits[rows] -= logits[rows].mean(axis=0)
    return float(logits.std(axis=0).max())


def _strata(scores: Scores) -> list[NDArray[np.bool_]]:
    numbers = scores.strata
    if numbers is None:
        return [np.full(len(scores), True)]
    return [numbers == number for number in np.unique(numbers)]


def _said(
    scores: Scores, said: NDArray[np.int64] | None, known: NDArray[np.bool_]
) -> tuple[str, float]:
    """Return what is said most often, by decision or as the most probable class, and its share."""
    kinds = [scores.values.argmax(axis=1)]
    if said is not None:
        kinds.append(said[known])
    counts = [np.bincount(kind, minlength=len(scores.names)) for kind in kinds]
    most = max(counts, key=lambda each: int(each.max()))
    return scores.names[int(most.argmax())], float(most.max() / len(scores))


def _error(scores: Scores) -> float:
    """Return the standard error of the AUROC of a ranking by chance, the mean of the classes.

    That of the Mann-Whitney statistic, with groups as samples; of strata by their pairs.
    """
    classes = range(len(scores.names)) if len(scores.names) > 2 else (1,)
    errors = []
    for place in classes:
        inside = scores.label == place
        each = [_of_pairs(scores.group[rows], inside[rows]) for rows in _strata(scores)]
        pairs = sum(own * other for own, other in each)
        if pairs:
            squares = sum(own * other * (own + other + 1) / 12 for own, other in each)
            errors.append(np.sqrt(squares) / pairs)
    return float(np.mean(errors))


def _of_pairs(group: NDArray[np.str_], inside: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many groups have a sample of the class, and how many one of the others."""
    own, other = (len(np.unique(group[rows])) for rows in (inside, ~inside))
    return own, other


def _brier_of_shares(scores: Scores) -> float:
    shares = np.bincount(scores.label, minlength=len(scores.names)) / len(scores)
    return float(shares[1] * shares[0] if len(shares) == 2 else 1 - np.square(shares).sum())


def of_measures(found: Mapping[str, float]) -> Collapse | None:
    """Return whether masks or reconstructions have collapsed; None for tasks that have neither.

    Args:
        found: Values of ``contracts.Task.measures`` by name.
    """
    if MEASURE not in found:
        return None
    share, masks = found[MEASURE], "dice" in found
    if not share >= PICTURES_SHARE:
        return Collapse(None, "", None, round(share, 6) if np.isfinite(share) else 0.0)
    what = (
        "in {share} of the images with a lesion its mask is all background or all lesion. It has "
        "not learned to segment, however low its loss is, and images without a lesion make it look "
        "right."
        if masks
        else "{share} of the pictures come back no better than one flat grey, or all alike. It has "
        "not learned to reconstruct, whatever its AUROC is."
    )
    reason = f"The model has collapsed: {what.format(share=f'{100 * share:.0f} %')}"
    return Collapse(MASKS if masks else PICTURES, reason, None, round(share, 6))


class Warner:
    """Tells of a collapse when validations begin to show it, and not at every one."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Remember who is told."""
        self._tell, self._last = tell, ""

    def look(self, scores: Scores, measured: Mapping[str, Floats]) -> None:
        """Take what a validation came to."""
        found = of_measures(measures.values(measured)) or of_scores(scores)
        if found.kind and found.kind != self._last:
            self._tell(f"Validation: {found.reason} Early in a training this can pass.")
        if self._last and not found.kind:
            self._tell("Validation: the model has not collapsed any more.")
        self._last = found.kind or ""
