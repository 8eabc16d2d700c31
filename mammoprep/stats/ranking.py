"""AUROC and its like for many resamples at once, by sorting only once; pairs stay within strata.

Scores of several models have no common scale: a sample of one fold must not be ranked against one
of another. So everything is counted stratum by stratum and then added up: the AUROC is the share
of concordant pairs among all pairs of two classes within a stratum. A stratum of one class has no
pairs and adds nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

SLACK = 1e-9  # so that 10 % of 50 negatives are 5 and not 4.999


@dataclass(frozen=True)
class Ranking:
    """Samples of one stratum in the order of their scores, the highest first.

    Attributes:
        group: (n,) number of each sample's group.
        positive: (m,) places of the positives.
        before: (m,) how many samples score higher than this positive.
        upto: (m,) how many score as high or higher.
        positives_before: (m,) how many positives score higher.
        positives_upto: (m,) how many positives score as high or higher.
    """

    group: Places
    positive: Places
    before: Places
    upto: Places
    positives_before: Places
    positives_upto: Places


@dataclass(frozen=True)
class Wanted:
    """Which points of the ROC curve are asked for; shares, 0-1.

    Attributes:
        specificities: At which the sensitivity is wanted.
        recalls: Shares of all samples that may be called positive, at which it is wanted too.
        sensitivities: At which the specificity is wanted.
    """

    specificities: tuple[float, ...] = ()
    recalls: tuple[float, ...] = ()
    sensitivities: tuple[float, ...] = ()


class Ranked(NamedTuple):
    """Metrics of every resample, (draws,) each; NaN where no stratum has both classes.

    Attributes:
        auroc: Concordant pairs over all pairs within strata; a tie counts half.
        average_precision: The sum of precision times gain in recall, no interpolation; strata weigh
            by their positives.
        at_specificity: One a wanted specificity: the highest sensitivity of any threshold whose
            specificity is as high; each stratum has its own threshold.
        at_recall: One a wanted recall rate: the highest sensitivity at which no more are called
            positive.
        at_sensitivity: One a wanted sensitivity: the highest specificity at which the sensitivity
            is as high.
        pairs: How many pairs there are.
    """

    auroc: Floats
    average_precision: Floats
    at_specificity: tuple[Floats, ...]
    at_recall: tuple[Floats, ...]
    at_sensitivity: tuple[Floats, ...]
    pairs: Floats


def rank(
    positive: NDArray[np.bool_], score: Floats, group: Places, stratum: Places | None = None
) -> list[Ranking]:
    """Return the ranking of ``n`` samples, one a stratum.

    Args:
        positive: (n,) which samples are.
        score: (n,) higher is more likely positive.
        group: (n,) group numbers, from 0.
        stratum: (n,) numbers of what is ranked apart; None for all together.
    """
    if stratum is None:
        return [_rank(positive, score, group)]
    inside = [stratum == number for number in np.unique(stratum)]
    return [_rank(positive[rows], score[rows], group[rows]) for rows in inside]


def _rank(positive: NDArray[np.bool_], score: Floats, group: Places) -> Ranking:
    order = np.argsort(-score, kind="stable")
    falling, places = -score[order], np.flatnonzero(positive[order])
    before = np.searchsorted(falling, falling[places], side="left")
    upto = np.searchsorted(falling, falling[places], side="right")
    return Ranking(
        group[order],
        places,
        before,
        upto,
        np.searchsorted(places, before),
        np.searchsorted(places, upto),
    )


@dataclass
class _Sums:
    """What the strata add up to, (draws,) each."""

    pairs: Floats
    beaten: Floats
    positives: Floats
    negatives: Floats
    gained: Floats
    points: list[list[Floats]] = field(default_factory=list)


def measure(
    rankings: Sequence[Ranking], counts: NDArray[np.int32], wanted: Wanted | None = None
) -> Ranked:
    """Return the metrics of several resamples.

    Args:
        rankings: Of all samples, one a stratum.
        counts: (draws, groups) how often each group was drawn.
        wanted: Points of the curve; None for none.
    """
    wanted = wanted or Wanted()
    zero = np.zeros(len(counts))
    sums = _Sums(zero, zero, zero, zero, zero)
    sums.points = [[zero] * len(each) for each in _asked(wanted)]
    for ranking in rankings:
        _add(sums, ranking, counts, wanted)
    specificity, recall, sensitivity = sums.points
    return Ranked(
        ratio(sums.beaten, sums.pairs),
        ratio(sums.gained, sums.positives),
        tuple(ratio(each, sums.positives) for each in specificity),
        tuple(ratio(each, sums.positives) for each in recall),
        tuple(ratio(each, sums.negatives) for each in sensitivity),
        sums.pairs,
    )


def _asked(wanted: Wanted) -> tuple[tuple[float, ...], ...]:
    return wanted.specificities, wanted.recalls, wanted.sensitivities


def _add(sums: _Sums, ranking: Ranking, counts: NDArray[np.int32], wanted: Wanted) -> None:
    """Add what one stratum has; nothing where a resample has only one of its classes."""
    total = summed(counts, ranking.group)  # (draws, n + 1)
    found = summed(counts, ranking.group[ranking.positive])  # (draws, m + 1)
    weight = np.diff(found, axis=1)  # (draws, m)
    positives = found[:, -1].astype(np.float64)
    negatives = total[:, -1] - positives
    both = (positives > 0) & (negatives > 0)
    true, said = found[:, ranking.positives_upto], total[:, ranking.upto]
    false = said - true
    earlier = total[:, ranking.before] - found[:, ranking.positives_before]
    beaten = (weight * (2.0 * negatives[:, None] - false - earlier)).sum(axis=1) / 2
    gained = (weight * (true / np.maximum(said, 1))).sum(axis=1)
    sums.pairs = sums.pairs + positives * negatives
    sums.beaten = sums.beaten + beaten
    sums.positives = sums.positives + np.where(both, positives, 0)
    sums.negatives = sums.negatives + np.where(both, negatives, 0)
    sums.gained = sums.gained + np.where(both, gained, 0)
    sensitive = [_border(at * positives, -1) for at in wanted.sensitivities]
    limits: list[list[NDArray[Any]]] = [
        [_most(true, false <= _border((1 - at) * negatives)) for at in wanted.specificities],
        [_most(true, said <= _border(at * (positives + negatives))) for at in wanted.recalls],
        [negatives - _fewest(false, true >= border, negatives) for border in sensitive],
    ]
    for points, each in zip(sums.points, limits, strict=True):
        for place, value in enumerate(each):
            points[place] = points[place] + np.where(both, value, 0)


def _border(values: Floats, sign: int = 1) -> Floats:
    return (values + sign * SLACK)[:, None]


def _most(true: NDArray[np.int32], allowed: NDArray[np.bool_]) -> NDArray[np.int32]:
    found: NDArray[np.int32] = np.where(allowed, true, 0).max(axis=1, initial=0)
    return found


def _fewest(false: NDArray[np.int32], allowed: NDArray[np.bool_], most: Floats) -> Floats:
    found: Floats = np.where(allowed, false, most[:, None]).min(axis=1, initial=np.inf)
    return np.minimum(found, most)


def summed(counts: NDArray[np.int32], group: Places) -> NDArray[np.int32]:
    """Return (draws, samples + 1): how much was drawn of the samples before each place."""
    sums = np.zeros((len(counts), len(group) + 1), np.int32)
    np.cumsum(counts[:, group], axis=1, out=sums[:, 1:])
    return sums


def ratio(above: NDArray[np.number], below: Floats) -> Floats:
    """Divide arrays of one shape; NaN where the denominator is not above 0."""
    out = np.full(below.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out
