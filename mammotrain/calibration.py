"""Whether a probability is one: too high or low at large, too bold or timid, and bin by bin.

Slope and intercept are those of a logistic regression of the truth on the logit of the probability,
fitted on validation samples. The scored samples are then looked at before and after: what another
model's samples would need says nothing of this one's, so each fold of a cv has its own line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from mammoprep.stats.ranking import ratio
from mammotrain import bootstrap, resampled
from mammotrain.resampled import Draws
from mammotrain.scores import Scores
from mammotrain.thresholds import NOBODY, Judged

Floats = NDArray[np.float64]
Json = dict[str, Any]

BINS = 10
A_BIN = 20  # samples at least, with two bins or more: a share of fewer says nothing
# Single precision gives probabilities of exactly 0 and 1, whose logits are infinite.
EDGE = 1e-6
Z = 1.959964  # of a 95 % interval
MORE_CLASSES = "slope and intercept are of two classes"


@dataclass(frozen=True)
class Line:
    """What the logit of a probability is multiplied by, and what is then added; 1 and 0 are best.

    Attributes:
        slope: Below 1 where the model is too sure of itself, above 1 where it is not sure enough.
        intercept: Below 0 where probabilities are too high.
    """

    slope: float
    intercept: float

    def applied(self, probability: Floats) -> Floats:
        """Return probabilities that are recalibrated."""
        return _expit(self.intercept + self.slope * logit(probability))


Lines = Line | Mapping[str, Line]


def logit(probability: Floats) -> Floats:
    """Return log(p / (1 - p)), of probabilities of 1e-6 to 1 - 1e-6."""
    inside = np.clip(probability, EDGE, 1 - EDGE)
    return np.asarray(np.log(inside / (1 - inside)))


def fit(scores: Scores) -> Line | str:
    """Return slope and intercept by some samples of two classes, or why there are none."""
    scores = scores.labelled()
    if not len(scores):
        return NOBODY
    if reason := bootstrap.few_groups(scores):
        return f"the validation samples do not tell: {reason}"
    x, positive = logit(scores.values[:, 1]), scores.label == 1
    if np.ptp(x) == 0:
        return "all validation samples have the same score"
    if x[positive].min() >= x[~positive].max() or x[positive].max() <= x[~positive].min():
        return "the validation samples are told apart without fault, which leaves the slope open"
    middle, spread = float(x.mean()), float(x.std())
    regression = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    regression.fit((x[:, None] - middle) / spread, positive)
    slope = float(regression.coef_[0, 0]) / spread
    intercept = float(regression.intercept_[0]) - slope * middle
    if slope <= 0:
        return "the model ranks the validation samples no better than chance"
    # As report.json has them, so that whoever reads it there applies the very same.
    return Line(round(slope, resampled.DIGITS), round(intercept, resampled.DIGITS))


def of(
    judged: Judged, level: str = "image", lines: Lines | None = None, draws: Draws | None = None
) -> Json:
    """Return how well the probabilities of the scored samples are calibrated, as JSON values.

    ``large``: class -> ``predicted``, ``observed`` (means) and ``difference`` (``value``,
    ``ci95``); of two classes only the second. ``bins``: see ``bins``. ``brier``, with interval.
    ``line``: slope and intercept, by fold where every fold has its own, or None with ``reason``.
    ``recalibrated``: ``large``, ``brier`` and ``gain`` (by how much the Brier score fell), or None.

    Args:
        judged: Scores and validation samples of one level.
        level: Which.
        lines: What was fitted before, one by fold for scores of several folds; None for fitting it
            on the validation samples.
        draws: The resamples.
    """
    draws, scores = draws or Draws(), judged.scores.labelled()
    found = _line(judged) if lines is None else lines or judged.reason or NOBODY
    again = _applied(scores, found)
    columns = [_columns(scores)] + ([] if again is None else [_columns(again)])
    sums = resampled.sums_of(scores, np.concatenate(columns, axis=1), draws)
    classes = _classes(scores)

    def figures(total: Floats) -> dict[str, Floats]:
        return _figures(total, len(classes))

    told = {name: resampled.plain(each) for name, each in sums.estimates(figures).items()}
    return {
        "level": level,
        "n": len(scores),
        "large": _large(scores, told, "difference"),
        "brier": told["brier"],
        "bins": bins(scores),
        "line": _told(found),
        "reason": _reason(scores, found),
        "recalibrated": None
        if again is None
        else {
            "large": _large(again, told, "again"),
            "brier": told["brier_again"],
            "gain": told["gain"],
        },
    }


def line_of(found: Mapping[str, Any]) -> Lines | None:
    """Return slope and intercept of what ``of`` returned, or None."""
    line = found["line"]
    if line is None:
        return None
    if "slope" in line:
        return Line(float(line["slope"]), float(line["intercept"]))
    return {fold: Line(each["slope"], each["intercept"]) for fold, each in line.items()}


def by_fold(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Line]:
    """Return fold -> its line, by what ``of`` returned for every fold's run."""
    each = {fold: line_of(found) for fold, found in parts.items()}
    return {fold: line for fold, line in each.items() if isinstance(line, Line)}


def bins(scores: Scores) -> list[Json]:
    """Return bins of about as many samples each: ``n``, ``predicted``, ``observed``, ``ci95``.

    Of two classes by the probability of the second, of more by that of the most probable class,
    and ``observed`` is how often that was right. Samples of the same score share a bin. There are
    at most 10, of 20 samples or more. The interval is Wilson's, of as many samples as the bin is
    worth: those of one patient are no independent ones.
    """
    scores = scores.labelled()
    if not len(scores):
        return []
    said, right = _said(scores)
    count = int(np.clip(len(said) // A_BIN, 2, BINS))
    ordered = np.sort(said)
    borders = ordered[(np.arange(1, count) * len(said)) // count]
    place = np.searchsorted(np.unique(borders), said, side="right")
    return [
        _bin(said[place == number], right[place == number], scores.group[place == number])
        for number in np.unique(place)
    ]


def _bin(said: Floats, right: Floats, group: NDArray[np.str_]) -> Json:
    share = float(right.mean())
    low, high = wilson(share, worth(right, group))
    return {
        "n": len(said),
        "predicted": resampled.number(float(said.mean())),
        "observed": resampled.number(share),
        "ci95": [resampled.number(low), resampled.number(high)],
    }


def worth(right: Floats, group: NDArray[np.str_]) -> float:
    """Return how many independent samples (n,) zeros and ones of some groups are worth.

    By the design effect: the variance of the share with groups as the units, over that without; at
    most n. Where all are alike nothing tells it, and it is the number of groups.
    """
    share = right.mean()
    places = np.unique(group, return_inverse=True)[1]
    groups = int(places.max()) + 1
    if not 0 < share < 1 or groups == 1:
        return float(groups)
    apart = np.square(np.bincount(places, right - share)).sum() * groups / (groups - 1)
    most = len(right) * share * (1 - share)  # of as many independent ones
    # where every group has the same share, the groups are worth more than that
    return float(len(right) * min(1.0, most / max(apart, most)))


def wilson(share: float, count: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of ``count``: wide for few, even if all agree."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * np.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _said(scores: Scores) -> tuple[Floats, Floats]:
    """Return the probabilities that are binned, and whether they were right, (n,) each."""
    if len(scores.names) == 2:
        return scores.values[:, 1], (scores.label == 1).astype(np.float64)
    right = scores.values.argmax(axis=1) == scores.label
    return scores.values.max(axis=1), right.astype(np.float64)


def _classes(scores: Scores) -> list[int]:
    return [1] if len(scores.names) == 2 else list(range(len(scores.names)))


def _columns(scores: Scores) -> Floats:
    """Return (n, 2 + classes): one, squared error, and of each class probability minus truth."""
    truth = np.eye(len(scores.names))[scores.label]
    apart = (scores.values - truth)[:, _classes(scores)]
    return np.column_stack([np.ones(len(scores)), np.square(apart).sum(axis=1), apart])


def _figures(total: Floats, classes: int) -> dict[str, Floats]:
    """Return what sums of ``_columns`` come to, before and, where there are, after."""
    found = {}
    names = ("", "_again")[: total.shape[1] // (2 + classes)]
    for part, end in enumerate(names):
        n, squares, *apart = total[:, part * (2 + classes) :][:, : 2 + classes].T
        found["brier" + end] = ratio(squares, n)
        for number, each in enumerate(apart):
            found[f"{'again' if end else 'difference'}_{number}"] = ratio(each, n)
    if len(names) == 2:
        found["gain"] = found["brier"] - found["brier_again"]
    return found


def _large(scores: Scores, told: Mapping[str, Json], name: str) -> Json:
    shares = np.bincount(scores.label, minlength=len(scores.names)) / max(len(scores), 1)
    return {
        scores.names[place]: {
            "predicted": resampled.number(float(scores.values[:, place].mean())),
            "observed": resampled.number(float(shares[place])),
            "difference": told[f"{name}_{number}"],
        }
        for number, place in enumerate(_classes(scores))
    }


def _line(judged: Judged) -> Line | str:
    if len(judged.scores.names) != 2:
        return MORE_CLASSES
    if judged.validation is None or not len(judged.validation):
        return judged.reason or NOBODY
    return fit(judged.validation)


def _reason(scores: Scores, found: Lines | str) -> str:
    """Return why the scored samples are not recalibrated, or an empty text."""
    if isinstance(found, str):
        return found
    if isinstance(found, Line):
        return ""
    if scores.fold is None:
        return "lines by fold, and the scores do not tell folds"
    missing = [str(fold) for fold in np.unique(scores.fold) if str(fold) not in found]
    return f"{', '.join(missing)}: no slope and intercept" if missing else ""


def _applied(scores: Scores, found: Lines | str) -> Scores | None:
    """Return the same samples recalibrated, each by the line of its fold; None without."""
    if isinstance(found, str) or _reason(scores, found):
        return None
    if isinstance(found, Line):
        return _with_positive(scores, found.applied(scores.values[:, 1]))
    positive = scores.values[:, 1].copy()
    for fold, line in found.items():
        inside = scores.fold == fold
        positive[inside] = line.applied(positive[inside])
    return _with_positive(scores, positive)


def _with_positive(scores: Scores, positive: Floats) -> Scores:
    return scores.with_values(np.stack([1 - positive, positive], axis=1))


def _told(found: Lines | str) -> Json | None:
    if isinstance(found, str) or not found:
        return None
    if isinstance(found, Line):
        return {"slope": found.slope, "intercept": found.intercept}
    return {fold: {"slope": e.slope, "intercept": e.intercept} for fold, e in found.items()}


def _expit(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -500, 500))))
