"""What scores do not say, such as Dice: ratios of sums over samples, with intervals by patient."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.stats import resampling
from mammotrain import bootstrap
from mammotrain.bootstrap import Estimate

Floats = NDArray[np.float64]


def join(parts: Sequence[Mapping[str, Floats]], order: NDArray[Any]) -> dict[str, Floats]:
    """Return the measures of several parts as one table, its rows in another order."""
    names = sorted({name for part in parts for name in part})
    return {name: np.concatenate([p[name] for p in parts if name in p])[order] for name in names}


def write(path: Path, key: NDArray[np.str_], pairs: Mapping[str, Floats]) -> None:
    """Write ``measures.csv``, whole or not at all: of each sample what is above and below."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", *(f"{name}_{side}" for name in pairs for side in ("sum", "of"))])
        columns = np.concatenate(list(pairs.values()), axis=1)
        writer.writerows([k, *map(repr, row)] for k, row in zip(key, columns.tolist(), strict=True))
    partial.replace(path)


def values(pairs: Mapping[str, Floats]) -> dict[str, float]:
    """Return each measure of (n, 2) sums above and below; NaN where there is nothing below."""
    return {name: _ratio(pair.sum(axis=0)) for name, pair in pairs.items()}


def estimates(
    pairs: Mapping[str, Floats],
    group: NDArray[Any],
    number: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return each measure with its 95 % interval.

    Args:
        pairs: Name -> (n, 2), a row a sample; see ``contracts.Task.measures``.
        group: (n,) what is drawn as a whole: the patient.
        number: Resamples.
        seed: Decides them.
    """
    if not pairs:
        return {}
    owners, places = np.unique(group, return_inverse=True)
    counts = np.concatenate(list(resampling.draws(len(owners), number, seed, number)))
    return {name: _estimate(pair, places, counts) for name, pair in pairs.items()}


def _estimate(pair: Floats, places: NDArray[np.intp], counts: resampling.Counts) -> Estimate:
    sums = np.zeros((counts.shape[1], 2))
    np.add.at(sums, places, pair)
    bearing = int(np.count_nonzero(sums[:, 1]))
    if bearing < bootstrap.FEWEST_GROUPS:
        few = f"fewer than {bootstrap.FEWEST_GROUPS} groups have it ({bearing})"
        return Estimate(_ratio(pair.sum(axis=0)), reason=few)
    above, below = (counts @ sums).T
    drawn = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    ends = resampling.interval(drawn)
    value = _ratio(pair.sum(axis=0))
    return Estimate(value, reason=bootstrap.UNDEFINED) if ends is None else Estimate(value, *ends)


def _ratio(pair: Floats) -> float:
    return float(pair[0] / pair[1]) if pair[1] > 0 else float("nan")
