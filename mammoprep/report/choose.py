"""Which samples a person gets to see: a fair cross-section, and those most likely to be wrong."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mammoprep.report.values import (
    Row,
    digest,
    intensity_of,
    label_of,
    machine_of,
    natural,
    number,
    text,
    warnings_of,
)

LOW_CONFIDENCE = 0.9
EXTREME = 3.5  # the usual limit for a robust z-score
FEWEST_PEERS = 8
PER_WARNING = 4
_WARNINGS = ("lesion_cut", "roi_outside", "orientation_conflict", "crop_fallback")


class Suspect(NamedTuple):
    """A sample worth a look.

    Attributes:
        row: The row of the table of samples.
        reasons: Why, in words; at least one.
    """

    row: Row
    reasons: tuple[str, ...]


def _stratum(row: Row) -> tuple[str, str, str]:
    return text(row.get("split")), label_of(row), machine_of(row)


def choose_contact(samples: Sequence[Row], limit: int) -> list[Row]:
    """Return at most ``limit`` samples spread evenly over splits, labels and machines.

    One sample after the other is taken from the combination of split, label and machine whose three
    parts, and whose split and label together, were shown least so far; inside a combination, and
    where combinations are equal, the SHA-256 of the key decides. So the choice does not depend on
    the order of the rows, and rare labels, small splits and rare machines are seen. The result is
    sorted by split, label, machine and key.
    """
    pools: dict[tuple[str, str, str], list[tuple[str, int]]] = defaultdict(list)
    for index, row in enumerate(samples):
        pools[_stratum(row)].append((digest(row), index))
    for pool in pools.values():
        pool.sort(reverse=True)
    strata = sorted(pools, key=lambda stratum: pools[stratum][-1][0])
    chosen = [samples[pools[strata[place]].pop()[1]] for place in _turns(strata, pools, limit)]
    return in_order(chosen)


def choose_warned(samples: Sequence[Row], chosen: Sequence[Row], limit: int) -> list[Row]:
    """Return at most ``limit`` more samples, so that each warning is seen ``PER_WARNING`` times.

    Codes take turns, the rarest first, and of each the samples with the smallest SHA-256 of the
    key; what ``chosen`` shows counts.
    """
    shown = {digest(row) for row in chosen}
    queues: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for row in samples:
        for code in warnings_of(row):
            queues[code].append((digest(row), row))
    order = sorted(queues, key=lambda code: (len(queues[code]), code))
    lacking = [
        nsmallest(PER_WARNING, queues[code], key=lambda each: (each[0] not in shown, each[0]))
        for code in order
    ]
    turns = (each for turn in zip_longest(*lacking) for each in turn if each is not None)
    found = {name: row for name, row in turns if name not in shown}
    return list(found.values())[:limit]


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return the samples sorted by split, label, machine and the SHA-256 of the key."""
    return sorted(rows, key=lambda row: ([natural(part) for part in _stratum(row)], digest(row)))


def _turns(
    strata: list[tuple[str, str, str]],
    pools: dict[tuple[str, str, str], list[tuple[str, int]]],
    limit: int,
) -> Iterator[int]:
    parts = [(*stratum, "\n".join(stratum[:2])) for stratum in strata]
    axes = [_numbered(names) for names in zip(*parts, strict=True)]
    shown = [np.zeros(axis.max() + 1) for axis in axes]
    left = np.array([len(pools[stratum]) for stratum in strata])
    for _ in range(min(limit, int(left.sum()))):
        # An even spread gives each value of an axis 1/len of the tiles; hence the weight.
        burden = sum(count[axis] * len(count) for count, axis in zip(shown, axes, strict=True))
        place = int(np.argmin(np.where(left > 0, burden, np.inf)))
        left[place] -= 1
        for count, axis in zip(shown, axes, strict=True):
            count[axis[place]] += 1
        yield place


def _numbered(names: Sequence[str]) -> NDArray[np.intp]:
    numbers = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def choose_suspicious(samples: Sequence[Row], limit: int) -> list[Suspect]:
    """Return at most ``limit`` samples that are most likely wrong, the most suspicious first.

    Six queues take turns, so that none crowds out the others: the lowest
    ``quality.crop_confidence`` (below 0.9), ``lesion_cut`` (the most lost first), ``roi_outside``,
    ``orientation_conflict``, ``crop_fallback``, and breast medians that are extreme for their
    machine (robust z-score above 3.5). A sample appears once, with all its reasons; one without a
    reason never appears, so the list may be empty.
    """
    scores = _extremes(samples)
    order = sorted(range(len(samples)), key=lambda index: _rank(samples[index]))
    lost = sorted(order, key=lambda index: -_lost(samples[index]))
    queues = [
        [index for index in order if _confidence(samples[index]) < LOW_CONFIDENCE],
        *([i for i in lost if code in warnings_of(samples[i])] for code in _WARNINGS),
        sorted(
            (index for index in order if abs(scores[index]) > EXTREME),
            key=lambda index: -abs(scores[index]),
        ),
    ]
    turns = (index for turn in zip_longest(*queues) for index in turn if index is not None)
    chosen = list(dict.fromkeys(turns))[:limit]
    return [
        Suspect(samples[index], _reasons(samples[index], float(scores[index]))) for index in chosen
    ]


def _confidence(row: Row) -> float:
    value = number(row.get("quality.crop_confidence"))
    return 1.0 if value is None else value


def _lost(row: Row) -> float:
    """Return which share of its lesions the crop cut off a sample, 0-1."""
    return number(row.get("quality.lesion_lost")) or 0.0


def _rank(row: Row) -> tuple[float, str]:
    return _confidence(row), digest(row)


def _reasons(row: Row, score: float) -> tuple[str, ...]:
    reasons = []
    if _confidence(row) < LOW_CONFIDENCE:
        reasons.append(f"crop confidence {_confidence(row):.2f}")
    reasons += [code for code in _WARNINGS if code in warnings_of(row)]
    if _lost(row):
        reasons.append(f"{_lost(row):.1%} of the lesions lost to the crop")
    quantiles = intensity_of(row)
    if quantiles is not None and abs(score) > EXTREME:
        side = "brighter" if score > 0 else "darker"
        reasons.append(f"much {side} than its machine: median {quantiles[2]:.2f}")
    return tuple(reasons)


def _extremes(samples: Sequence[Row]) -> NDArray[np.float64]:
    """Robust z-score of each breast median among the samples of its machine; 0 where unknown."""
    machines: dict[str, list[int]] = defaultdict(list)
    medians = np.full(len(samples), np.nan)
    for index, row in enumerate(samples):
        quantiles = intensity_of(row)
        if quantiles is not None:
            medians[index] = quantiles[2]
            machines[machine_of(row)].append(index)
    scores = np.zeros(len(samples))
    for peers in machines.values():
        if len(peers) >= FEWEST_PEERS:
            values = medians[peers]
            away = values - np.median(values)
            scores[peers] = away / max(1.4826 * float(np.median(np.abs(away))), 0.01)
    return scores
