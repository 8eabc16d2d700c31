"""What is said of scores that several models gave: by fold, their spread, and all pooled."""

from typing import Any

import numpy as np

from mammotrain import metrics
from mammotrain.bootstrap import Drawn
from mammotrain.resampled import number
from mammotrain.scores import Scores

APART = (
    0.02  # pooled and within folds: from here on the scales of the models differ, and it is said
)
RANKED = ("auroc", "macro_auroc", "average_precision")
RETRAINING = (
    "what another training would have given is not in it (arXiv:2104.00673, arXiv:2307.00260)"
)

Json = dict[str, Any]


def described(drawn: Drawn) -> Json:
    """Return ``folds``, ``spread``, ``pooled`` and ``one_class`` of scores of several folds.

    ``folds`` has every metric of every fold, by its own threshold; ``spread`` the standard
    deviation and the ends over the folds that have it; ``pooled`` what ranking all folds as if one
    model had scored them would give, which is no headline; ``one_class`` the folds that have no
    pair of two classes and so add nothing to a ranking. Nothing at all for one model.
    """
    scores = drawn.scores
    if scores.fold is None:
        return {}
    each = {str(fold): _fold(drawn, scores.fold == fold) for fold in np.unique(scores.fold)}
    single = [name for name, found in each.items() if found["classes"] < 2]
    figures = [found["metrics"] for found in each.values()]
    names = list(drawn.values)
    whole = metrics.point(scores.label, scores.values, drawn.threshold.each)
    return {
        "folds": each,
        "spread": {name: _spread([found[name] for found in figures]) for name in names},
        "pooled": {name: number(whole[name]) for name in RANKED if name in whole},
        "one_class": single,
    }


def covers(scores: Scores) -> str:
    """Return what an interval of these scores covers, and what it does not, in words."""
    count = 1 if scores.fold is None else len(np.unique(scores.fold))
    models = "this one model" if count == 1 else f"these {count} models"
    return f"other patients for {models}; {RETRAINING}"


def parted(report: Json, name: str) -> bool:
    """Return whether a pooled ranking would tell something else than that within folds."""
    pooled = report.get("pooled", {}).get(name)
    value = report["metrics"][name]["value"]
    return pooled is not None and value is not None and abs(pooled - value) > APART


def _fold(drawn: Drawn, inside: Any) -> Json:
    part = drawn.scores.take(inside)
    each = None if drawn.threshold.each is None else drawn.threshold.each[inside]
    found = metrics.point(part.label, part.values, each, part.strata)
    counts = {
        "n": len(part),
        "groups": len(np.unique(part.group)),
        "classes": len(np.unique(part.label)),
    }
    return {**counts, "metrics": {name: number(value) for name, value in found.items()}}


def _spread(values: list[float | None]) -> Json:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return {"sd": None, "low": None, "high": None, "folds": len(known)}
    ends = {"low": number(min(known)), "high": number(max(known))}
    return {"sd": number(float(np.std(known, ddof=1))), **ends, "folds": len(known)}
