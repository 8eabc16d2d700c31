"""What scores do not say, such as Dice: ratios of sums over samples, with intervals by patient."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammoprep.stats import resampling
from mammotrain import bootstrap
from mammotrain.bootstrap import Estimate

Floats = NDArray[np.float64]
SUM, OF = "_sum", "_of"  # endings of the two columns of a measure


def join(parts: Sequence[Mapping[str, Floats]], order: NDArray[Any]) -> dict[str, Floats]:
    """Return the measures of several parts as one table, its rows in another order."""
    names = sorted({name for part in parts for name in part})
    return {name: np.concatenate([p[name] for p in parts if name in p])[order] for name in names}


def write(path: Path, key: NDArray[np.str_], pairs: Mapping[str, Floats]) -> None:
    """Write ``measures.csv``, whole or not at all: of each sample what is above and below."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", *(name + side for name in pairs for side in (SUM, OF))])
        columns = np.concatenate(list(pairs.values()), axis=1)
        writer.writerows([k, *map(repr, row)] for k, row in zip(key, columns.tolist(), strict=True))
    partial.replace(path)


def values(pairs: Mapping[str, Floats]) -> dict[str, float]:
    """Return each measure of (n, 2) sums above and below; NaN where there is nothing below."""
    return {name: _ratio(pair.sum(axis=0)) for name, pair in pairs.items()}


def read(path: Path) -> tuple[NDArray[np.str_], dict[str, Floats]]:
    """Read what ``write`` wrote: keys, and the pairs by name; nothing where there is no file.

    Raises:
        ConfigError: the file cannot be read, or it holds something else.
    """
    if not path.is_file():
        return np.zeros(0, np.str_), {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file))
        names = [name.removesuffix(SUM) for name in header[1::2]]
        if header != ["key", *(name + side for name in names for side in (SUM, OF))]:
            raise ValueError("its columns are not those of measures.csv")
        cells = [[float(cell) for cell in line[1:]] for line in lines]
        columns = np.array(cells, np.float64).reshape(len(lines), len(names), 2)
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read ({error}).") from None
    keys = np.array([line[0] for line in lines], np.str_)
    return keys, {name: columns[:, place] for place, name in enumerate(names)}


@dataclass(frozen=True)
class Drawn:
    """A measure of some samples, and of every resample of them.

    Attributes:
        value: NaN where there is nothing below.
        replicates: (number,); None when nothing was drawn.
        reason: Why nothing was drawn, or an empty text.
    """

    value: float
    replicates: Floats | None
    reason: str = ""

    def estimate(self) -> Estimate:
        """Return the measure with its 95 % interval."""
        if self.replicates is None:
            return Estimate(self.value, reason=self.reason)
        ends = resampling.interval(self.replicates)
        if ends is None:
            return Estimate(self.value, reason=bootstrap.UNDEFINED)
        return Estimate(self.value, *ends)


def estimates(
    pairs: Mapping[str, Floats],
    group: NDArray[Any],
    number: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return each measure with its 95 % interval; see ``draw``."""
    return {name: each.estimate() for name, each in draw(pairs, group, number, seed).items()}


def draw(
    pairs: Mapping[str, Floats],
    group: NDArray[Any],
    number: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Drawn]:
    """Return each measure and its resamples: the same for the same groups, number and seed.

    Args:
        pairs: Name -> (n, 2), a row a sample; see ``contracts.Task.measures``.
        group: (n,) what is drawn as a whole: the patient.
        number: Resamples; 0 for none.
        seed: Decides them.
    """
    if not pairs:
        return {}
    if not number:
        return {
            n: Drawn(_ratio(p.sum(axis=0)), None, bootstrap.NOT_DRAWN) for n, p in pairs.items()
        }
    owners, places = np.unique(group, return_inverse=True)
    counts = np.concatenate(list(resampling.draws(len(owners), number, seed, number)))
    return {name: _drawn(pair, places, counts) for name, pair in pairs.items()}


def _drawn(pair: Floats, places: NDArray[np.intp], counts: resampling.Counts) -> Drawn:
    value = _ratio(pair.sum(axis=0))
    sums = np.zeros((counts.shape[1], 2))
    np.add.at(sums, places, pair)
    bearing = int(np.count_nonzero(sums[:, 1]))
    if bearing < bootstrap.FEWEST_GROUPS:
        few = f"fewer than {bootstrap.FEWEST_GROUPS} groups have it ({bearing})"
        return Drawn(value, None, few)
    above, below = (counts @ sums).T
    drawn = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return Drawn(value, drawn)


def _ratio(pair: Floats) -> float:
    return float(pair[0] / pair[1]) if pair[1] > 0 else float("nan")
