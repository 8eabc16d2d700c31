"""Grey levels that mean the same on every machine: curves fitted on training samples only.

A curve runs through (0, 0) and (1, 1) and maps five quantiles of the breast (1, 25, 50, 75, 99 %,
the shards' ``intensity``) onto the training samples' usual ones; between these it is linear, and it
rises everywhere. See docs/augmentation.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoprep.core.errors import ConfigError
from mammotrain.checks import one_of
from mammotrain.data import _warp

MODES = ("none", "machine", "breast")
FEWEST = 10  # training samples of a machine below which its medians say little
GAP = 1 / 1024  # smallest distance of two knots: a flat curve could not be undone
_QUANTILES = 5
COLUMNS = ("intensity", "source", "labels.machine_id", "acquisition.manufacturer")
Columns = Mapping[str, Sequence[Any]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Normaliser:
    """What was learned from the training samples.

    Attributes:
        mode: ``none``, ``machine`` or ``breast``.
        target: The usual quantiles, medians over all training samples; empty for ``none``.
        machines: Name -> its usual quantiles; only with ``machine``.
    """

    mode: str
    target: tuple[float, ...] = ()
    machines: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the checkpoint."""
        machines = {name: list(values) for name, values in sorted(self.machines.items())}
        return {"mode": self.mode, "target": list(self.target), "machines": machines}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Normaliser":
        """Return what ``to_json`` wrote."""
        machines = {name: tuple(values) for name, values in value["machines"].items()}
        return cls(str(value["mode"]), tuple(value["target"]), machines)

    def prepare(self, columns: Columns, rows: Sequence[int] | NDArray[np.int64]) -> "Prepared":
        """Return the curves of some samples; which curve each gets is decided here, and counted.

        ``machine``: a sample of a machine that training did not see (or saw fewer than ``FEWEST``
        times) goes by its own quantiles, as under ``breast``: ``unknown_machine``. In both modes a
        sample without quantiles stays as it is: ``no_quantiles``.

        Args:
            columns: ``COLUMNS`` of samples.parquet; all but ``intensity`` may be missing.
            rows: Places in the table, of any role.
        """
        if self.mode == "none":
            return Prepared({}, (), Counter())
        places: dict[int, int] = {}
        curves: dict[tuple[float, ...] | None, int] = {}
        counts: Counter[str] = Counter()
        for row in rows:
            given, how = self._quantiles(columns, int(row))
            counts[how] += 1
            places[int(row)] = curves.setdefault(given, len(curves))
        return Prepared(places, tuple(self.curve(given) for given in curves), counts)

    def _quantiles(self, columns: Columns, row: int) -> tuple[tuple[float, ...] | None, str]:
        """Return the quantiles that a sample's curve starts from, and which rule gave them."""
        if self.mode == "machine":
            name = machine_of(columns, row)
            if name is not None and name in self.machines:
                return self.machines[name], "machine"
        own = _valid(columns["intensity"][row])
        if own is None:
            return None, "no_quantiles"
        return own, "unknown_machine" if self.mode == "machine" else "breast"

    def curve(self, given: Sequence[float] | None) -> Floats:
        """Return (2, 7) strictly ascending positions and values; None gives the straight line.

        Args:
            given: Five quantiles, of an image or a machine.
        """
        if given is None:
            line = np.linspace(0, 1, _QUANTILES + 2)
            return np.stack([line, line])
        return np.stack([_knots(given), _knots(self.target)])


@dataclass(frozen=True)
class Prepared:
    """Curves of some samples, ready for batches.

    Attributes:
        places: Row -> place in ``distinct``.
        distinct: (2, 7) curves.
        counts: How many samples went by which rule: ``machine``, ``breast``, ``unknown_machine``,
            ``no_quantiles``.
    """

    places: Mapping[int, int]
    distinct: tuple[Floats, ...]
    counts: Mapping[str, int]

    def curves(self, rows: Sequence[int] | NDArray[np.int64]) -> Floats | None:
        """Return (B, 2, 7) for ``augment.apply``; None when nothing is to be changed."""
        if not self.distinct:
            return None
        return np.stack([self.distinct[self.places[int(row)]] for row in rows])


def fit(mode: str, columns: Columns, rows: Sequence[int] | NDArray[np.int64]) -> Normaliser:
    """Return what the training samples say; no other row is looked at.

    Args:
        mode: ``none``, ``machine`` or ``breast``.
        columns: ``COLUMNS`` of samples.parquet; all but ``intensity`` may be missing.
        rows: Places of the training samples in the table.

    Raises:
        ConfigError: another mode, or no training sample has quantiles.
    """
    one_of("data.normalise", mode, MODES)
    if mode == "none":
        return Normaliser(mode)
    known = [(int(row), _valid(columns["intensity"][row])) for row in rows]
    found = [(row, quantiles) for row, quantiles in known if quantiles is not None]
    if not found:
        raise ConfigError(
            f"data.normalise = {mode!r} needs the breast's quantiles, and none of the {len(known)} "
            "training samples has any. Use data.normalise = 'none'."
        )
    target = _median([quantiles for _, quantiles in found])
    if mode == "breast":
        return Normaliser(mode, target)
    groups: dict[str, list[tuple[float, ...]]] = {}
    for row, quantiles in found:
        if (name := machine_of(columns, row)) is not None:
            groups.setdefault(name, []).append(quantiles)
    usual = {name: _median(all_) for name, all_ in groups.items() if len(all_) >= FEWEST}
    return Normaliser(mode, target, usual)


def apply(images: Tensor, curves: Floats | None) -> Tensor:
    """Return stored levels as float32 in [0, 1] through each sample's curve, on their device.

    ``augment.apply`` does the same in the one table that it makes of curve and tone; this is for
    pictures that are not augmented or resized.

    Args:
        images: (B, C, H, W), uint8 or uint16.
        curves: (B, 2, n) of ``Prepared.curves``, or None.
    """
    if curves is None:
        return _warp.to_float(images, None)
    grey = np.arange(_warp.levels_of(images) + 1) / _warp.levels_of(images)
    table = np.stack([np.interp(grey, xs, ys) for xs, ys in curves]).astype(np.float32)
    with torch.no_grad():
        return _warp.to_float(images, table)


def machine_of(columns: Columns, row: int) -> str | None:
    """Return the machine that made a sample: its number, else its maker; None when unknown.

    Numbers are a dataset's own, so that its name is part of it.
    """
    for name in ("labels.machine_id", "acquisition.manufacturer"):
        value = columns[name][row] if name in columns else None
        if value is not None and value == value and str(value).strip():
            source = columns["source"][row] if "source" in columns else ""
            scope = f"{source}/" if name == "labels.machine_id" else "maker/"
            return f"{scope}{_plain(value)}"
    return None


def _plain(value: Any) -> str:
    """Return a number alike, whether the table holds it as 29 or as 29.0."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _valid(quantiles: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return a sample's quantiles when they are five ascending numbers in [0, 1]."""
    if quantiles is None or len(quantiles) != _QUANTILES or any(q is None for q in quantiles):
        return None
    values = np.asarray(quantiles, np.float64)
    ascending = bool((np.diff(values) >= 0).all() and values[0] >= 0 and values[-1] <= 1)
    return tuple(float(value) for value in values) if ascending else None


def _median(all_: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.median(np.asarray(all_), axis=0))


def _knots(quantiles: Sequence[float]) -> Floats:
    """Return 0, the quantiles and 1, moved apart to at least ``GAP``."""
    steps = np.arange(1, _QUANTILES + 1)
    apart = np.maximum.accumulate(np.asarray(quantiles) - GAP * steps) + GAP * steps
    inside = np.clip(apart, GAP * steps, 1 - GAP * steps[::-1])
    return np.concatenate([[0.0], inside, [1.0]])
