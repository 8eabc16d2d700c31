"""What a score is: one definition each, from sums over samples, so that a bootstrap can use it too.

Everything here takes decisions as given: who chooses the threshold is ``thresholds.choose``, and
it never sees the samples that are scored.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mammoprep.stats import ranking
from mammoprep.stats.ranking import Ranked, Ranking, Wanted, ratio

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Places = NDArray[np.intp]

BINS = 15  # of equal width, for the calibration error
# Points of the curve of the scored samples: no threshold that anybody could have chosen before.
SPECIFICITIES = {"sensitivity_at_specificity_90": 0.90, "sensitivity_at_specificity_95": 0.95}
RECALLS = {f"sensitivity_at_recall_{share}": share / 100 for share in (3, 5, 10)}
SENSITIVITIES = {"specificity_at_sensitivity_90": 0.90}
WANTED = Wanted(
    tuple(SPECIFICITIES.values()), tuple(RECALLS.values()), tuple(SENSITIVITIES.values())
)
BINARY = (
    "auroc",
    "average_precision",
    "f1",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    *SPECIFICITIES,
    *RECALLS,
    *SENSITIVITIES,
    "pf1",
    "pf1_binarised",
    "brier",
    "ece",
)
MULTICLASS = ("macro_auroc", "macro_f1", "accuracy", "balanced_accuracy", "brier", "ece")
THRESHOLDED = {
    "f1", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "pf1_binarised",
}  # fmt: skip
_COSTS = ("brier", "ece", "loss", "error", "kl", "cost", "false_positives", "collapsed", "residual",
          "steps", "unconverged", "radius")  # fmt: skip
_LOWER_IS_BETTER = re.compile(rf"(^|_)({'|'.join(_COSTS)})(_|$)")


def lower_is_better(name: str) -> bool:
    """Return whether a metric, a task's measure or what a model tells is the better the lower.

    By the words of its name: ``squared_error_normal`` is an error.
    """
    return _LOWER_IS_BETTER.search(name) is not None


def names(classes: int) -> tuple[str, ...]:
    """Return which metrics there are for so many classes."""
    return BINARY if classes == 2 else MULTICLASS


def decide(values: Floats, threshold: float | Floats | None) -> Labels | None:
    """Return the class that each sample is said to be of, (n,).

    Two classes: the second from ``threshold`` on, a number or one a sample; None without one.
    More: the most probable.
    """
    if values.shape[1] > 2:
        return np.asarray(values.argmax(axis=1), np.int64)
    return None if threshold is None else np.asarray(values[:, 1] >= threshold, np.int64)


def point(
    label: Labels,
    values: Floats,
    threshold: float | Floats | None,
    strata: Places | None = None,
) -> dict[str, float]:
    """Return every metric of some samples; NaN where it is not defined.

    Args:
        label: (n,) classes, all known.
        values: (n, classes) probabilities.
        threshold: See ``decide``. Not chosen on these samples.
        strata: (n,) see ``Scores.strata``; None for all together.
    """
    said = decide(values, threshold)
    sums = {name: part.sum(axis=0)[None] for name, part in parts(label, values, said).items()}
    found = from_sums(sums)
    group = np.zeros(len(label), np.intp)
    found |= from_rankings(rankings(label, values, group, strata), np.ones((1, 1), np.int32))
    return {
        name: float(found[name][0]) if name in found else np.nan for name in names(values.shape[1])
    }


def rankings(
    label: Labels, values: Floats, group: Places, strata: Places | None = None
) -> list[list[Ranking]]:
    """Return the rankings of each class against the rest; of two classes only the second's."""
    classes = range(values.shape[1]) if values.shape[1] > 2 else (1,)
    return [ranking.rank(label == c, values[:, c], group, strata) for c in classes]


def from_rankings(
    orders: Sequence[Sequence[Ranking]], counts: NDArray[np.int32]
) -> dict[str, Floats]:
    """Return the metrics of the order alone, (draws,) each.

    Args:
        orders: Of ``rankings``.
        counts: (draws, groups) how often each group was drawn.
    """
    if len(orders) > 1:
        each = np.stack([ranking.measure(order, counts).auroc for order in orders], axis=1)
        return {"macro_auroc": mean(each)}
    return _of_curve(ranking.measure(orders[0], counts, WANTED))


def _of_curve(ranked: Ranked) -> dict[str, Floats]:
    return {
        "auroc": ranked.auroc,
        "average_precision": ranked.average_precision,
        **dict(zip(SPECIFICITIES, ranked.at_specificity, strict=True)),
        **dict(zip(RECALLS, ranked.at_recall, strict=True)),
        **dict(zip(SENSITIVITIES, ranked.at_sensitivity, strict=True)),
    }


def pf1(positive: NDArray[np.bool_], score: Floats) -> float:
    """Return the probabilistic F1 (beta 1) by which the RSNA 2022 screening challenge was judged.

    A sample counts as a true or false positive by as much as its score, 0-1; of 0 and 1 as scores
    it is the F1.
    """
    said = float(np.clip(score, 0, 1).sum() + positive.sum())
    return 2 * float(np.clip(score, 0, 1)[positive].sum()) / said if positive.any() else np.nan


def parts(label: Labels, values: Floats, said: Labels | None) -> dict[str, Floats]:
    """Return what each sample adds to the sums that ``from_sums`` needs, (n, ...) each."""
    classes = values.shape[1]
    truth = np.eye(classes)[label]
    found = {"true": truth}
    if said is not None:
        decision = np.eye(classes)[said]
        found |= {"said": decision, "hits": decision * truth}
    if classes == 2:
        score, right = values[:, 1], truth[:, 1]
        found |= {"soft": np.stack([score * right, score + right], axis=1)}
        found |= {"squares": np.square(score - right)[:, None]}
    else:
        score, right = values.max(axis=1), (values.argmax(axis=1) == label).astype(np.float64)
        found |= {"squares": np.square(values - truth).sum(axis=1)[:, None]}
    place = np.eye(BINS)[bins(score)]
    return found | {"gaps": place * (score - right)[:, None]}


def bins(score: Floats) -> NDArray[np.intp]:
    """Return which of ``BINS`` parts of 0-1 a probability lies in; a border belongs above."""
    return np.clip((score * BINS).astype(np.intp), 0, BINS - 1)


def from_sums(sums: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the metrics that follow from sums over samples, (draws,) each.

    Args:
        sums: Name of a part -> (draws, columns), weighted sums of ``parts`` over samples.
    """
    true = sums["true"]
    count = true.sum(axis=1)
    found = {
        "brier": ratio(sums["squares"][:, 0], count),
        "ece": ratio(np.abs(sums["gaps"]).sum(axis=1), count),
    }
    binary = true.shape[1] == 2
    if binary:
        found["pf1"] = np.where(
            true[:, 1] > 0, ratio(2 * sums["soft"][:, 0], sums["soft"][:, 1]), np.nan
        )
    if "said" in sums:
        found |= _of_decisions(true, sums["said"], sums["hits"], binary=binary)
    return found


def _of_decisions(true: Floats, said: Floats, hits: Floats, *, binary: bool) -> dict[str, Floats]:
    recall = ratio(hits, true)
    f1 = ratio(2 * hits, said + true)
    found = {
        "accuracy": ratio(hits.sum(axis=1), true.sum(axis=1)),
        "balanced_accuracy": mean(recall),
    }
    if not binary:
        return found | {"macro_f1": mean(f1)}
    defined = np.where(true[:, 1] > 0, f1[:, 1], np.nan)
    return found | {
        "f1": defined,
        "pf1_binarised": defined,
        "sensitivity": recall[:, 1],
        "specificity": recall[:, 0],
    }


def confusion(label: Labels, said: Labels, classes: int) -> NDArray[np.int64]:
    """Return (classes, classes) counts: rows are the truth, columns what was said."""
    table = np.bincount(label * classes + said, minlength=classes * classes)
    return table.reshape(classes, classes).astype(np.int64)


def mean(each: Floats) -> Floats:
    """Return the mean over the last axis of what is finite; NaN where nothing is."""
    known = np.isfinite(each)
    return ratio(np.where(known, each, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))
