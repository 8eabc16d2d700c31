"""One class a sample: binary by one logit, or one logit a class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import losses
from mammotrain.checks import one_of
from mammotrain.contracts import Output, Shown

LOSSES = ("cross-entropy", "focal")
WEIGHTS = ("none", "balanced")
UNKNOWN = -1


@dataclass(frozen=True)
class Config:
    """What is learned.

    Attributes:
        target: ``label`` (the dataset's classes), or one of its labels, such as ``cancer``.
        loss: ``cross-entropy``, or ``focal`` for two classes.
        gamma: Of the focal loss.
        smoothing: Label smoothing, 0 to 1.
        class_weights: ``none``, or ``balanced``: classes weigh alike, by the training samples.
    """

    target: str = "label"
    loss: str = "cross-entropy"
    gamma: float = 2.0
    smoothing: float = 0.0
    class_weights: str = "none"

    def __post_init__(self) -> None:
        """Check the names; raises ConfigError."""
        one_of("task.loss", self.loss, LOSSES)
        one_of("task.class_weights", self.class_weights, WEIGHTS)
        if self.gamma < 0:
            raise ConfigError(f"task.gamma must be at least 0, got {self.gamma:g}.")
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"task.smoothing must be 0 to 1, got {self.smoothing:g}.")


class Classify:
    """The task for one table; see ``contracts.Task``."""

    wants_masks = False
    specificity = None

    def __init__(
        self, config: Config, classes: NDArray[np.int64], names: Sequence[str], weights: Tensor
    ) -> None:
        """Remember each sample's class and what the classes are called and weigh."""
        self.config = config
        self.classes = classes
        self.score_names = tuple(names)
        self.weights = weights
        self.outputs = 1 if len(names) == 2 else len(names)

    def learns_from(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return all."""
        return rows

    def conditions(self, rows: NDArray[np.int64]) -> None:
        """Return nothing."""

    def targets(self, shown: Shown) -> Tensor:
        """Return the classes of these samples, int64 (B,)."""
        return torch.from_numpy(self.classes[shown.rows]).to(shown.images.device, non_blocking=True)

    def loss(self, output: Output, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch; each sample counts by its class's weight."""
        logits = output.logits.float()
        if self.outputs > 1:
            each = losses.cross_entropy(logits, targets, self.config.smoothing)
        else:
            wanted = losses.smoothed(targets.float(), self.config.smoothing)
            focal = self.config.loss == "focal"
            each = (
                losses.focal(logits[:, 0], wanted, self.config.gamma)
                if focal
                else losses.bce(logits[:, 0], wanted)
            )
        return (each * self.weights.to(each.device)[targets]).mean()

    def scores(self, output: Output, shown: Shown) -> Tensor:
        """Return the probability of every class, float32 (B, classes)."""
        logits = output.logits.float()
        if self.outputs > 1:
            return logits.softmax(dim=1)
        positive = torch.sigmoid(logits)
        return torch.cat([1 - positive, positive], dim=1)

    def measures(self, output: Output, shown: Shown) -> dict[str, Tensor]:
        """Return nothing: the scores say all."""
        return {}


def build(
    config: Config,
    columns: Mapping[str, Sequence[Any]],
    label_names: Sequence[str],
    training: NDArray[np.int64],
) -> Classify:
    """Return the task for a table.

    Args:
        config: What is learned.
        columns: Of every sample: ``label`` and ``labels.NAME``.
        label_names: Classes of ``label``.
        training: Places in the table that are learned from; they decide the classes' weights. Empty
            when nothing is learned.

    Raises:
        ConfigError: no such target, it is no class, or the training samples hold only one.
    """
    values, names = _values(config.target, columns, label_names)
    classes = np.array([UNKNOWN if value is None else int(value) for value in values], np.int64)
    if config.loss == "focal" and len(names) != 2:
        raise ConfigError(
            f"task.loss focal is for two classes, {config.target!r} has {len(names)}."
        )
    weights = (
        _weights(config, classes[training], names) if training.size else torch.ones(len(names))
    )
    return Classify(config, classes, names, weights)


def _weights(config: Config, classes: NDArray[np.int64], names: Sequence[str]) -> Tensor:
    """Return what each class weighs in the loss, by the classes of the training samples."""
    counts = np.bincount(classes[classes >= 0], minlength=len(names))
    if np.count_nonzero(counts) < 2:
        raise ConfigError(
            f"task.target {config.target!r}: the training samples hold fewer than two classes "
            f"({', '.join(f'{n} {c}' for n, c in zip(names, counts, strict=True))})."
        )
    if config.class_weights == "none":
        return torch.ones(len(names))
    share = counts / counts.sum()
    return torch.tensor(1 / (np.maximum(share, 1e-9) * np.count_nonzero(counts))).float()


def known(columns: Mapping[str, Sequence[Any]], config: Config) -> NDArray[np.bool_]:
    """Return which samples have the target."""
    return np.array([value is not None for value in columns[_column(config.target, columns)]], bool)


def _column(target: str, columns: Mapping[str, Sequence[Any]]) -> str:
    name = "label" if target == "label" else f"labels.{target}"
    if name not in columns:
        have = ["label", *(c.removeprefix("labels.") for c in columns if c.startswith("labels."))]
        hint = plugins.suggest(target, have)
        raise ConfigError(f"task.target: no label {target!r}.{hint} Known: {', '.join(have)}.")
    return name


def _values(
    target: str, columns: Mapping[str, Sequence[Any]], label_names: Sequence[str]
) -> tuple[Sequence[Any], list[str]]:
    """Return the target of every sample as class number or None, and the classes' names."""
    values = columns[_column(target, columns)]
    if target == "label":
        return values, list(label_names)
    found = sorted({value for value in values if value is not None})
    if not set(found) <= {0, 1}:
        raise ConfigError(
            f"task.target {target!r} is no yes or no (values such as {found[:4]}). "
            "Build the shards with --target to make it `label`."
        )
    return values, [f"not_{target}", target]
