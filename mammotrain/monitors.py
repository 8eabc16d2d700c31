"""What a validation can be judged by beside the metrics of images: levels, and best decisions.

Only what is asked for is computed, since a validation comes every epoch. It is read off the
validation samples themselves and so is too good for a report: it ranks checkpoints, nothing else.
Probabilities are as the model gives them, not corrected for the prevalence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan, nan

from mammotrain import levels, metrics, thresholds
from mammotrain.scores import Scores

AUROC, MACRO = "auroc", "macro_auroc"
# By the threshold of the highest F1 among the validation samples themselves. The pF1 of decisions
# is their F1; it has the name by which the challenge of 2022 was scored.
BEST = {"best_f1": "f1", "best_pf1": "pf1_binarised"}
IMAGE = levels.LEVELS[0]


@dataclass(frozen=True)
class Monitor:
    """A metric of a level.

    Attributes:
        level: One of ``levels.LEVELS``.
        metric: Of ``metrics.names``, ``auroc``, or one of ``BEST``.
    """

    level: str
    metric: str


def parse(name: str, classes: int) -> Monitor | None:
    """Return what a name of ``train.monitor`` stands for; None where it is of another kind.

    Args:
        name: Such as ``auroc``, ``breast_auroc``, ``exam_best_f1``.
        classes: How many there are.
    """
    level, _, rest = name.partition("_")
    known = measurable(classes)
    if level in levels.LEVELS[1:] and rest in known:
        return Monitor(level, rest)
    return Monitor(IMAGE, name) if name in known else None


def measurable(classes: int) -> set[str]:
    """Return which metrics need no threshold that was chosen before."""
    if classes > 2:
        return {AUROC, *metrics.names(classes)}
    return {*metrics.names(classes), *BEST} - metrics.THRESHOLDED


def names(classes: int) -> set[str]:
    """Return every name that ``parse`` knows."""
    return {
        f"{prefix}{metric}"
        for prefix in ("", *(f"{level}_" for level in levels.LEVELS[1:]))
        for metric in measurable(classes)
    }


def undecided(name: str, classes: int) -> str:
    """Return what to monitor instead of a metric that needs a threshold; empty for others."""
    if classes > 2:
        return ""
    prefixes = ("", *(f"{level}_" for level in levels.LEVELS[1:]))
    for prefix in prefixes:
        if name.startswith(prefix) and name.removeprefix(prefix) in metrics.THRESHOLDED:
            return f"{prefix}best_f1"
    return ""


def why_not(scores: Scores, name: str) -> str:
    """Return why validation samples would never have what a name asks for, or an empty text.

    Args:
        scores: Of these samples; what is said of them does not matter.
        name: Of ``train.monitor``; what ``measure`` does not know is not looked at.
    """
    if not (value := measure(scores, name)):
        return ""
    found = parse(name, len(scores.names))
    level = IMAGE if found is None else found.level
    if reason := levels.why_not(scores.labelled(), level):
        return f"there is no {level} level: {reason}"
    return f"all at {level} level are of one class" if isnan(value[name]) else ""


def measure(scores: Scores, name: str) -> dict[str, float]:
    """Return what a name asks for beside the metrics of images; nothing where it is one of these.

    Args:
        scores: Of the validation samples.
        name: Of ``train.monitor``.

    Returns:
        NaN where it is not defined: one class only, or no such level among these samples.
    """
    found = parse(name, len(scores.names))
    if found is None or (found.level == IMAGE and found.metric not in BEST):
        return {}
    known = scores.labelled()
    if not len(known) or levels.why_not(known, found.level):
        return {name: nan}
    return {name: _value(levels.aggregate(known, found.level), found.metric)}


def of_images(scores: Scores) -> dict[str, float]:
    """Return every metric of images that needs no threshold; others are NaN."""
    known = scores.labelled()
    found = metrics.point(known.label, known.values, None, known.strata)
    if MACRO in found:  # what a recipe's monitor `auroc` means with several classes
        found[AUROC] = found[MACRO]
    return found


def _value(scores: Scores, metric: str) -> float:
    if metric not in BEST:
        return of_images(scores)[metric]
    best = thresholds.choose(scores.label == 1, scores.values[:, 1])
    if best is None:
        return nan
    return metrics.point(scores.label, scores.values, best, scores.strata)[BEST[metric]]


def listed(known: Iterable[str]) -> str:
    """Return names for people: those of images, and which levels they exist at."""
    prefixes = tuple(f"{level}_" for level in levels.LEVELS[1:])
    plain = sorted(name for name in known if not name.startswith(prefixes))
    return f"{', '.join(plain)}; and metrics of {', '.join(levels.LEVELS[1:])}, as breast_auroc"
