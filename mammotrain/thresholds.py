"""Where a probability becomes a decision: chosen on samples other than those that are scored."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mammotrain.scores import Scores

Floats = NDArray[np.float64]
Fixed = float | Mapping[str, float]
NOBODY = "no validation samples to choose a threshold on"
SLACK = 1e-9  # so that 90 % of 10 negatives are 9 and not 9.0000001


@dataclass(frozen=True)
class Judged:
    """Samples to score, and the others that may choose a threshold.

    Attributes:
        scores: What is scored.
        validation: Scores of samples of other groups, or None.
        fixed: A threshold that needs no choosing, one by fold for scores of several folds, or None.
        fixed_above: The same for breasts, exams and patients, by level.
        specificity: At which the threshold lies; None for that of the highest F1.
        reason: Why there are no validation samples, where somebody knows it.
    """

    scores: Scores
    validation: Scores | None = None
    fixed: Fixed | None = None
    fixed_above: Mapping[str, Fixed] = field(default_factory=dict)
    specificity: float | None = None
    reason: str = ""

    def choose(self, others: Scores) -> float | None:
        """Return the threshold by other samples; None when these do not tell."""
        known = others.labelled()
        positive, score = known.label == 1, known.values[:, 1]
        if self.specificity is None:
            return choose(positive, score)
        return at_specificity(score[~positive], self.specificity)


@dataclass(frozen=True)
class Threshold:
    """A threshold, or why there is none.

    Attributes:
        each: One a sample of ``Judged.scores``, (n,); None when there is none.
        shown: The number; by fold where every fold has its own.
        reason: Why there is none, or an empty text.
    """

    each: Floats | None
    shown: float | dict[str, float] | None
    reason: str = ""


def choose(positive: NDArray[np.bool_], score: Floats) -> float | None:
    """Return the threshold of the highest F1; None when one class is missing.

    It lies midway between the last score that counts as positive and the next lower one. Of several
    with the same F1 the highest is taken.

    Args:
        positive: (n,) which samples are.
        score: (n,) probabilities.
    """
    if not positive.any() or positive.all():
        return None
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    last = np.flatnonzero(np.append(np.diff(falling) != 0, True))
    true = np.cumsum(positive[order])[last]
    f1 = 2 * true / (last + 1 + positive.sum())
    place = int(np.argmax(f1))
    cut = float(falling[last[place]])
    if place + 1 == len(last):
        return cut
    return between(cut, float(falling[last[place + 1]]))


def between(upper: float, lower: float) -> float:
    """Return the middle of two scores: from there on ``upper`` counts and ``lower`` does not."""
    middle = (upper + lower) / 2
    # Between neighbouring floats there is no middle: it rounds to one of the two.
    return middle if middle > lower else upper


def at_specificity(score: Floats, specificity: float) -> float | None:
    """Return the lowest threshold at which so many negatives are below it; None without any.

    Args:
        score: (n,) probabilities of negatives.
        specificity: Share of them, 0-1.
    """
    if not score.size:
        return None
    below = int(np.ceil(specificity * score.size - SLACK))
    ordered = np.sort(score)
    return float(np.nextafter(ordered[below - 1], np.inf) if below else ordered[0])


def of(judged: Judged) -> Threshold:
    """Return the threshold for the samples that are scored, chosen on none of them.

    Two classes only; with more the most probable class is said and no threshold is needed. Each
    fold has its own, by the validation samples of its own model: what another model makes of its
    samples says nothing about this one's scale.
    """
    scores = judged.scores
    if len(scores.names) > 2:
        return Threshold(None, None, "the most probable class is said")
    if isinstance(judged.fixed, Mapping):
        return _by_fold(scores, judged.fixed)
    if judged.fixed is not None:
        return Threshold(np.full(len(scores), judged.fixed), judged.fixed)
    if judged.validation is None or not len(judged.validation):
        return Threshold(None, None, judged.reason or NOBODY)
    found = judged.choose(judged.validation)
    if found is None:
        return Threshold(None, None, "the validation samples hold only one class")
    return Threshold(np.full(len(scores), found), found)


def _by_fold(scores: Scores, fixed: Mapping[str, float]) -> Threshold:
    if scores.fold is None:
        return Threshold(None, None, "thresholds by fold, and the scores do not tell folds")
    folds = [str(fold) for fold in np.unique(scores.fold)]
    if missing := [fold for fold in folds if fold not in fixed]:
        return Threshold(None, None, f"{', '.join(missing)}: {NOBODY}")
    each = np.array([fixed[str(fold)] for fold in scores.fold], np.float64)
    return Threshold(each, {fold: fixed[fold] for fold in folds})
