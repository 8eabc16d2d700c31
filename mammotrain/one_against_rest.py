"""Reports of several classes: how well each is told from all others together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.stats import ranking
from mammoprep.stats.ranking import Ranked, Wanted
from mammotrain import metrics, resampled
from mammotrain.bootstrap import FEWEST_GROUPS, ONE_CLASS
from mammotrain.resampled import Draws
from mammotrain.scores import Scores

Json = dict[str, Any]
Floats = NDArray[np.float64]

# What a screening has to find: where a class is called so, it against the rest comes first.
HEADLINES = ("malignant", "cancer")
SENSITIVITY = "sensitivity_at_specificity_90"
METRICS = ("auroc", "average_precision", SENSITIVITY)
_WANTED = Wanted(specificities=(0.9,))


def of(scores: Scores, draws: Draws | None = None) -> Json | None:
    """Return each class against the rest, as JSON values; None of two classes.

    ``headline`` is the class called malignant or cancer, or None; ``classes`` has class -> ``n``
    and metric -> ``value``, ``ci95``, ``reason``, the headline first. The resamples are those of
    the metrics, and ranks stay within strata.

    Args:
        scores: What is scored; samples without a label are left out.
        draws: The resamples.
    """
    scores, draws = scores.labelled(), draws or Draws()
    if len(scores.names) == 2 or not len(scores):
        return None
    headline = next((n for n in scores.names if n.strip().lower() in HEADLINES), None)
    found = _estimates(scores, draws)
    ordered = sorted(scores.names, key=lambda name: name != headline)
    return {"headline": headline, "classes": {name: found[name] for name in ordered}}


def _estimates(scores: Scores, draws: Draws) -> dict[str, Json]:
    owners, group = np.unique(scores.group, return_inverse=True)
    orders = metrics.rankings(scores.label, scores.values, group, scores.strata)
    once = np.ones((1, len(owners)), np.int32)
    blocks = [
        [_figures(ranking.measure(order, counts, _WANTED)) for order in orders]
        for counts in (draws.tables(scores) if draws.number else ())
    ]
    found = {}
    for place, name in enumerate(scores.names):
        value = _figures(ranking.measure(orders[place], once, _WANTED))
        reason = _why_none(scores, place, draws)
        drawn = None if reason else np.concatenate([block[place] for block in blocks], axis=1)
        each = [
            resampled.estimate(v, None if drawn is None else drawn[number], reason)
            for number, v in enumerate(value[:, 0].tolist())
        ]
        count = int((scores.label == place).sum())
        found[name] = {"n": count, **dict(zip(METRICS, map(resampled.plain, each), strict=True))}
    return found


def _figures(ranked: Ranked) -> Floats:
    """Return (metrics, draws)."""
    return np.stack([ranked.auroc, ranked.average_precision, ranked.at_specificity[0]])


def _why_none(scores: Scores, place: int, draws: Draws) -> str:
    """Return why a class has no intervals, or an empty text."""
    if not draws.number:
        return resampled.why_none(scores, draws)
    sides = [
        len(np.unique(scores.group[(scores.label == place) == side])) for side in (True, False)
    ]
    if not min(sides):
        return ONE_CLASS
    few = f"fewer than {FEWEST_GROUPS} groups of the class or of the rest ({min(sides)})"
    return few if min(sides) < FEWEST_GROUPS else ""
