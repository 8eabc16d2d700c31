"""AUROC, average precision and sensitivities for many resamples at once, by sorting only once."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

SLACK = 1e-9  # so that 10 % of 50 negatives are 5 and not 4.999


@dataclass(frozen=True)
class Ranking:
    """Samples in the order of their scores, the highest first.

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


class Ranked(NamedTuple):
    """Metrics of every resample; NaN where a class has no sample.

    Attributes:
        auroc: (draws,); a tie counts half.
        average_precision: (draws,); the sum of precision times gain in recall, no interpolation.
        sensitivity: One (draws,) a wanted specificity: the highest sensitivity of any threshold
            whose specificity is as high.
    """

    auroc: Floats
    average_precision: Floats
    sensitivity: tuple[Floats, ...]


def rank(positive: NDArray[np.bool_], score: Floats, group: Places) -> Ranking:
    """Return the ranking of ``n`` samples.

    Args:
        positive: (n,) which samples are.
        score: (n,) higher is more likely positive.
        group: (n,) group numbers, from 0.
    """
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


def measure(
    ranking: Ranking, counts: NDArray[np.int32], specificities: tuple[float, ...] = ()
) -> Ranked:
    """Return the metrics of several resamples.

    Args:
        ranking: Of all samples.
        counts: (draws, groups) how often each group was drawn.
        specificities: At which the sensitivity is wanted.
    """
    total = _summed(counts, ranking.group)  # (draws, n + 1)
    found = _summed(counts, ranking.group[ranking.positive])  # (draws, m + 1)
    weight = np.diff(found, axis=1)  # (draws, m)
    positives = found[:, -1].astype(np.float64)
    negatives = total[:, -1] - positives
    true, said = found[:, ranking.positives_upto], total[:, ranking.upto]
    false = said - true
    earlier = total[:, ranking.before] - found[:, ranking.positives_before]
    beaten = (weight * (2.0 * negatives[:, None] - false - earlier)).sum(axis=1) / 2
    gained = (weight * (true / np.maximum(said, 1))).sum(axis=1)
    return Ranked(
        _ratio(beaten, positives * negatives),
        _ratio(gained, positives),
        tuple(_sensitivity(true, false, positives, negatives, at) for at in specificities),
    )


def _summed(counts: NDArray[np.int32], group: Places) -> NDArray[np.int32]:
    """Return (draws, samples + 1): how much was drawn of the samples before each place."""
    sums = np.zeros((len(counts), len(group) + 1), np.int32)
    np.cumsum(counts[:, group], axis=1, out=sums[:, 1:])
    return sums


def _sensitivity(
    true: NDArray[np.int32],
    false: NDArray[np.int32],
    positives: Floats,
    negatives: Floats,
    specificity: float,
) -> Floats:
    allowed = false <= ((1 - specificity) * negatives + SLACK)[:, None]
    best = np.where(allowed, true, 0).max(axis=1, initial=0)
    return np.where(negatives > 0, _ratio(best, positives), np.nan)


def _ratio(above: NDArray[np.number], below: Floats) -> Floats:
    out = np.full(below.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out
