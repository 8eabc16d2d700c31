"""Auxiliary targets: what a table knows of a sample besides the main target, and how it is learned.

A head has columns in the model's output, one number a sample as its target (NaN where unknown), a
loss and, where one can be said in plain words, a measure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mammotrain import losses

# Fixed, so that a trained model's output means the same on any other table.
AGE_CENTRE, AGE_SPREAD = 60.0, 10.0  # years
DENSITIES = ("A", "B", "C", "D")
BIRADS = ("0", "1", "2", "3", "4", "5", "6")  # 4a, 4b and 4c are 4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Kind:
    """What is the same for every sample of a head.

    Attributes:
        width: Columns of the output.
        number: Value of the table -> target; None where it is none.
        loss: (n, width) and targets (n,) -> each sample's own loss.
        measure: Name of what is measured, after the head's own: ``error``, ``accuracy``, ``loss``.
        wrong: (n, width) and targets (n,) -> what is summed for the measure.
    """

    width: int
    number: Callable[[Any], float | None]
    loss: Callable[[Tensor, Tensor], Tensor]
    measure: str
    wrong: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Head:
    """An auxiliary target of one table.

    Attributes:
        name: Of the label, without ``labels.``.
        weight: Factor on its loss.
        kind: How it is learned.
        values: (table,) float32 targets, NaN where unknown.
    """

    name: str
    weight: float
    kind: Kind
    values: Floats

    def loss(self, columns: Tensor, targets: Tensor) -> Tensor:
        """Return each sample's own loss, (B,); 0 without a gradient where the label is unknown."""
        return _masked(self.kind.loss, columns, targets)

    def measured(self, columns: Tensor, targets: Tensor) -> Tensor:
        """Return (B, 2): what is summed, and 1 where the label is known."""
        found = _masked(self.kind.wrong, columns, targets)
        return torch.stack([found, (~targets.isnan()).float()], dim=1)


def _masked(what: Callable[[Tensor, Tensor], Tensor], columns: Tensor, targets: Tensor) -> Tensor:
    known = ~targets.isnan()
    # An unknown target is replaced before and not only after: 0 times NaN is NaN.
    found = what(columns, targets.nan_to_num(0.0))
    return torch.where(known, found, torch.zeros_like(found))


def _years(columns: Tensor, targets: Tensor) -> Tensor:
    return AGE_SPREAD * (columns[:, 0] - targets).abs()


def _regression(columns: Tensor, targets: Tensor) -> Tensor:
    return functional.smooth_l1_loss(columns[:, 0], targets, reduction="none")


def _yes_or_no(columns: Tensor, targets: Tensor) -> Tensor:
    return losses.bce(columns[:, 0], targets)


def _one_of(columns: Tensor, targets: Tensor) -> Tensor:
    return losses.cross_entropy(columns, targets.long())


def _right(columns: Tensor, targets: Tensor) -> Tensor:
    return (columns.argmax(dim=1) == targets.long()).float()


def _scaled_age(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and np.isfinite(value)
    return (value - AGE_CENTRE) / AGE_SPREAD if is_number else None


def _binary(value: Any) -> float | None:
    return float(value) if value in (0, 1) else None


def _place(names: Sequence[str], length: int | None = None) -> Callable[[Any], float | None]:
    """Return what finds a text, or its first characters; one that is no name is as unknown."""

    def find(value: Any) -> float | None:
        text = str(value).strip().upper()[:length]
        return float(names.index(text)) if text in names else None

    return find


KINDS: Mapping[str, Kind] = {
    "age": Kind(1, _scaled_age, _regression, "error", _years),
    "density": Kind(len(DENSITIES), _place(DENSITIES), _one_of, "accuracy", _right),
    "biopsy": Kind(1, _binary, _yes_or_no, "loss", _yes_or_no),
    "invasive": Kind(1, _binary, _yes_or_no, "loss", _yes_or_no),
    "birads": Kind(len(BIRADS), _place(BIRADS, 1), _one_of, "accuracy", _right),
}


def values_of(name: str, columns: Mapping[str, Sequence[Any]], count: int) -> Floats:
    """Return a head's targets for every sample of a table, (count,); NaN where unknown."""
    found = columns.get(f"labels.{name}", [None] * count)
    numbers = [None if value is None else KINDS[name].number(value) for value in found]
    return np.array([np.nan if number is None else number for number in numbers], np.float32)
