"""Figures that follow from sums over samples, with 95 % intervals by the report's resamples."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.stats import resampling
from mammotrain import bootstrap
from mammotrain.bootstrap import Estimate
from mammotrain.scores import Scores

Floats = NDArray[np.float64]
Figures = Callable[[Floats], Mapping[str, Floats]]
DIGITS = 6


@dataclass(frozen=True)
class Draws:
    """How resamples are drawn.

    Attributes:
        number: How many; 0 for no intervals.
        seed: Decides them; the same as of the metrics gives the same resamples.
    """

    number: int = bootstrap.DRAWS
    seed: int = 0

    def tables(self, scores: Scores) -> Iterator[resampling.Counts]:
        """Yield tables of how often each group is drawn; see ``bootstrap.tables``."""
        yield from bootstrap.tables(scores, self.number, self.seed)


def why_none(scores: Scores, draws: Draws) -> str:
    """Return why there are no intervals, or an empty text."""
    return bootstrap.few_groups(scores) if draws.number else bootstrap.NOT_DRAWN


@dataclass(frozen=True)
class Sums:
    """Sums of some columns over samples.

    Attributes:
        whole: (k,) of all samples.
        drawn: (number, k) of every resample; None where nothing was drawn.
        reason: Why nothing was drawn, or an empty text.
    """

    whole: Floats
    drawn: Floats | None
    reason: str = ""

    def take(self, columns: slice) -> "Sums":
        """Return some of the columns."""
        drawn = None if self.drawn is None else self.drawn[:, columns]
        return Sums(self.whole[columns], drawn, self.reason)

    def estimates(self, figures: Figures) -> dict[str, Estimate]:
        """Return figures with intervals.

        Args:
            figures: (rows, k) sums -> name -> (rows,) figures, NaN where one is not defined.
        """
        again = {} if self.drawn is None else figures(self.drawn)
        return {
            name: estimate(float(value[0]), again.get(name), self.reason)
            for name, value in figures(self.whole[None]).items()
        }


def sums_of(scores: Scores, columns: Floats, draws: Draws) -> Sums:
    """Return sums of columns over samples.

    Args:
        scores: (n,) all labelled.
        columns: (n, k) what each sample adds.
        draws: The resamples.
    """
    owners, group = np.unique(scores.group, return_inverse=True)
    sums = bootstrap.by_group(columns, group, len(owners))
    if reason := why_none(scores, draws):
        return Sums(columns.sum(axis=0), None, reason)
    drawn = [counts.astype(np.float64) @ sums for counts in draws.tables(scores)]
    return Sums(columns.sum(axis=0), np.concatenate(drawn))


def estimate(value: float, drawn: Floats | None, reason: str) -> Estimate:
    """Return a value with the interval of its (draws,) resamples; None of these without any."""
    if not np.isfinite(value):
        return Estimate(np.nan, reason=reason or "not defined")
    if drawn is None:
        return Estimate(value, reason=reason)
    ends = resampling.interval(drawn)
    return Estimate(value, reason=bootstrap.UNDEFINED) if ends is None else Estimate(value, *ends)


def plain(estimate: Estimate) -> dict[str, Any]:
    """Return ``value``, ``ci95`` and, where one is missing, ``reason`` as JSON values."""
    ends = None
    if estimate.low is not None and estimate.high is not None:
        ends = [number(estimate.low), number(estimate.high)]
    found = {"value": number(estimate.value), "ci95": ends}
    return {**found, "reason": estimate.reason} if estimate.reason else found


def number(value: float) -> float | None:
    """Six decimals, so that the last bits of another machine's sums do not show; None for NaN."""
    return round(float(value), DIGITS) if np.isfinite(value) else None
