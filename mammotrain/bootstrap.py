"""95 % intervals by drawing patients, not images: the images of one patient are no new evidence.

Samples are sorted once, and every resample is one row of a table of counts; see
``mammoprep.stats.resampling``. Where folds were scored by several models, or datasets were pooled,
ranks are compared within each, and each one's patients of each class are drawn apart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammoprep.stats import resampling
from mammoprep.stats.ranking import Ranking
from mammoprep.stats.resampling import draws, interval
from mammotrain import metrics
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged, Threshold, of

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]

DRAWS = 1000
FEWEST_GROUPS = 5  # of each class: with fewer, resamples say little of patients not seen
# Resamples repeat samples, which no calibration survives: their errors are all too high.
NO_INTERVAL = {"ece": "resampling inflates a calibration error"}
ONE_CLASS = "needs samples of two classes"
UNDEFINED = "undefined in too many resamples"
NOT_DRAWN = "no resamples were asked for"
BLOCK = 2_000_000  # samples x draws at a time: 8 MB a table


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval.

    Attributes:
        value: Of all samples; NaN where it is not defined.
        low: Lower end of the 95 % interval, or None.
        high: Upper end, or None.
        reason: Why there is no value or no interval, or an empty text.
    """

    value: float
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return ``value``, ``ci95`` and ``reason`` as plain values, None for what is missing."""
        value = self.value if np.isfinite(self.value) else None
        ends = None if self.low is None else [self.low, self.high]
        return {"value": value, "ci95": ends, "reason": self.reason}


def replicates(
    scores: Scores, threshold: Floats | None, number: int = DRAWS, seed: int = 0
) -> dict[str, Floats]:
    """Return every metric of every resample, (number,) each; NaN where it is not defined.

    Args:
        scores: All labelled.
        threshold: One a sample, (n,), or None.
        number: Resamples.
        seed: Decides them; the same groups and seed give the same resamples.
    """
    owners, group = np.unique(scores.group, return_inverse=True)
    said = metrics.decide(scores.values, threshold)
    parts = metrics.parts(scores.label, scores.values, said)
    sums = {name: by_group(part, group, len(owners)) for name, part in parts.items()}
    orders = metrics.rankings(scores.label, scores.values, group, scores.strata)
    blocks = [_of_block(counts, sums, orders) for counts in tables(scores, number, seed)]
    names = metrics.names(len(scores.names))
    nothing = np.full(number, np.nan)
    return {
        name: np.concatenate([found[name] for found in blocks]) if name in blocks[0] else nothing
        for name in names
    }


def tables(scores: Scores, number: int, seed: int) -> Iterator[Counts]:
    """Yield (block or fewer, groups) tables of how often each group of some samples is drawn.

    Groups are in the order of their names, and drawn by fold, source and class.
    """
    block = max(1, BLOCK // max(len(scores), 1))
    yield from draws(len(np.unique(scores.group)), number, seed, block, strata(scores))


def strata(scores: Scores) -> NDArray[np.intp] | None:
    """Return which groups are drawn apart, in the order of their names; None for all together."""
    parts = scores.strata
    if parts is None:
        return None
    group = np.unique(scores.group, return_inverse=True)[1]
    return resampling.strata_of(group, scores.label, parts)


def by_group(part: Floats, group: NDArray[np.intp], groups: int) -> Floats:
    """Return (groups, columns) sums of (n, columns) over the samples of each group."""
    sums = np.zeros((groups, part.shape[1]))
    np.add.at(sums, group, part)
    return sums


def _of_block(
    counts: Counts, sums: Mapping[str, Floats], orders: Sequence[Sequence[Ranking]]
) -> dict[str, Floats]:
    weights = counts.astype(np.float64)
    found = metrics.from_sums({name: weights @ each for name, each in sums.items()})
    return found | metrics.from_rankings(orders, counts)


@dataclass(frozen=True)
class Drawn:
    """The metrics of some samples, and of every resample of them.

    Attributes:
        scores: The labelled samples.
        threshold: How decisions were made, one a labelled sample; or why there are none.
        values: Metric -> its value; NaN where it is not defined.
        replicates: Metric -> (number,); None when nothing was drawn.
        reason: Why nothing was drawn, or an empty text.
    """

    scores: Scores
    threshold: Threshold
    values: dict[str, float]
    replicates: dict[str, Floats] | None
    reason: str

    def estimates(self, only: tuple[str, ...] = ()) -> dict[str, Estimate]:
        """Return these metrics, or all of them, with their intervals."""
        return {name: self._estimate(name) for name in self.values if not only or name in only}

    def _estimate(self, name: str) -> Estimate:
        value = self.values[name]
        if not np.isfinite(value):
            decided = name not in metrics.THRESHOLDED or not self.threshold.reason
            return Estimate(np.nan, reason=ONE_CLASS if decided else self.threshold.reason)
        if self.replicates is None or name in NO_INTERVAL:
            return Estimate(value, reason=self.reason or NO_INTERVAL[name])
        ends = interval(self.replicates[name])
        return Estimate(value, reason=UNDEFINED) if ends is None else Estimate(value, *ends)


def draw(scores: Scores, threshold: Threshold, number: int = DRAWS, seed: int = 0) -> Drawn:
    """Return the metrics of the labelled samples and of ``number`` resamples, 0 for none.

    Args:
        scores: What is scored; samples without a label are left out.
        threshold: One a sample of ``scores``; it is the same in every resample.
        number: Resamples.
        seed: Decides them.

    Raises:
        ConfigError: no sample has a label.
    """
    labelled = scores.labelled()
    if not len(labelled):
        raise ConfigError("Nothing can be scored: no sample has a label.")
    each = None if threshold.each is None else threshold.each[scores.label >= 0]
    values = metrics.point(labelled.label, labelled.values, each, labelled.strata)
    reason = few_groups(labelled) if number else NOT_DRAWN
    drawn = None if reason else replicates(labelled, each, number, seed)
    return Drawn(labelled, replace(threshold, each=each), values, drawn, reason)


def evaluate(
    judged: Judged, number: int = DRAWS, seed: int = 0, only: tuple[str, ...] = ()
) -> dict[str, Estimate]:
    """Return every metric of the scored samples with its interval.

    The threshold is chosen once, on the other samples, and is the same in every resample.

    Args:
        judged: What is scored; samples without a label are left out.
        number: Resamples; 0 for values without intervals.
        seed: Decides them.
        only: Which metrics, or nothing for all.

    Raises:
        ConfigError: no sample has a label.
    """
    return draw(judged.scores, of(judged), number, seed).estimates(only)


def few_groups(scores: Scores) -> str:
    """Return why intervals would not be believable, or an empty text."""
    counts = [len(np.unique(scores.group[scores.label == c])) for c in range(len(scores.names))]
    present = sorted(count for count in counts if count)
    if len(present) < 2:
        return ONE_CLASS
    fewest = present[0] if len(scores.names) == 2 else len(np.unique(scores.group)) // 2
    if fewest >= FEWEST_GROUPS:
        return ""
    return f"fewer than {FEWEST_GROUPS} groups of a class ({fewest})"


def compare(
    first: Judged,
    second: Judged,
    number: int = DRAWS,
    seed: int = 0,
    only: tuple[str, ...] = (),
) -> dict[str, dict[str, Any]]:
    """Return, for each metric, how much higher ``first`` is, by a paired bootstrap.

    Both are scored in the same resamples, so that what makes a resample easy cancels out.

    Args:
        first: Scores of one run.
        second: Scores of the other, of the same samples in any order.
        number: Resamples; 0 for differences without intervals.
        seed: Decides them.
        only: Which metrics, or nothing for all.

    Returns:
        Metric -> ``difference``, ``ci95`` (or None), ``p`` (two-sided: how often the difference has
        the other sign, doubled, at least 2 / (number + 1)) and ``reason``, where something is None.

    Raises:
        ConfigError: the samples, labels or classes differ.
    """
    sides = [draw(judged.scores, of(judged), number, seed) for judged in (first, second)]
    return differences(sides[0], sides[1], only)


def differences(first: Drawn, second: Drawn, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what ``compare`` does, of what was drawn before with the same number and seed."""
    check_same(first.scores, second.scores)
    # The order of samples does not matter: resamples are drawn of the sorted groups.
    drawn: dict[str, Floats] = {}
    if first.replicates is not None and second.replicates is not None:
        drawn = {n: first.replicates[n] - second.replicates[n] for n in first.values}
    return {
        name: _difference(value - second.values[name], drawn.get(name), first.reason)
        for name, value in first.values.items()
        if not only or name in only
    }


def check_same(one: Scores, other: Scores) -> None:
    """Check that two runs scored the same samples; raises ConfigError, in the order given."""
    if one.names != other.names:
        raise ConfigError(
            f"The runs have different classes: {', '.join(one.names)}; and "
            f"{', '.join(other.names)}."
        )
    common = np.intersect1d(one.key, other.key, assume_unique=True)
    if not len(common) == len(one) == len(other):
        raise ConfigError(
            f"Only runs that scored the same samples can be compared: of {len(one):,} and "
            f"{len(other):,} samples {len(common):,} are common. Score both on the same data and "
            "fold."
        )
    mine, theirs = np.argsort(one.key), np.argsort(other.key)
    same = (one.label[mine] == other.label[theirs]) & (one.group[mine] == other.group[theirs])
    if not same.all():
        raise ConfigError("The runs have different labels or groups for the same keys.")


def _difference(value: float, drawn: Floats | None, few: str) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"difference": None, "ci95": None, "p": None, "reason": few or "not defined"}
    ends = None if drawn is None else interval(drawn)
    if drawn is None or ends is None:
        reason = few or UNDEFINED
        return {"difference": value, "ci95": None, "p": None, "reason": reason}
    known = drawn[np.isfinite(drawn)]
    tail = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    p = min(1.0, 2 * (tail + 1) / (known.size + 1))
    return {"difference": value, "ci95": list(ends), "p": p}
