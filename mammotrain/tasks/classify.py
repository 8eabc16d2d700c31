"""One class a sample: binary by one logit, or one logit a class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoprep.core.errors import ConfigError
from mammotrain import losses
from mammotrain.checks import one_of
from mammotrain.contracts import Output, Shown
from mammotrain.tasks import _labels

LOSSES = ("cross-entropy", "focal")


@dataclass(frozen=True)
class Config:
    """What is learned.

    Attributes:
        target: ``label`` (the dataset's classes), or one of its labels, such as ``cancer``.
        loss: ``cross-entropy``, or ``focal``.
        gamma: Of the focal loss.
        smoothing: Label smoothing, 0 to 1.
        class_weights: ``none``; ``balanced``: classes weigh alike, by the training samples;
            ``effective``: by their effective number.
        beta: Of the effective number.
    """

    target: str = "label"
    loss: str = "cross-entropy"
    gamma: float = 2.0
    smoothing: float = 0.0
    class_weights: str = "none"
    beta: float = 0.9999

    def __post_init__(self) -> None:
        """Check the names; raises ConfigError."""
        one_of("task.loss", self.loss, LOSSES)
        one_of("task.class_weights", self.class_weights, losses.WEIGHTS)
        if not 0 <= self.gamma < float("inf"):
            raise ConfigError(f"task.gamma must be at least 0, got {self.gamma:g}.")
        for name in ("smoothing", "beta"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"task.{name} must be at least 0 and below 1, got {getattr(self, name):g}."
                )


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
        self.uncorrected = losses.uncorrected(config.loss, config.smoothing)
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
        each = self._each(output.logits.float(), targets)
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

    def _each(self, logits: Tensor, targets: Tensor) -> Tensor:
        kind, gamma, smoothing = self.config.loss, self.config.gamma, self.config.smoothing
        if self.outputs == 1:
            return losses.binary(logits[:, 0], targets.float(), kind, gamma, smoothing)
        if kind == "focal":
            return losses.focal_cross_entropy(logits, targets, gamma, smoothing)
        return losses.cross_entropy(logits, targets, smoothing)


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
    classes, names = _labels.classes_of(config.target, columns, label_names)
    weights = torch.ones(len(names))
    if training.size:
        counts = _labels.counts_of(config.target, classes[training], names)
        weights = losses.class_weights(counts, config.class_weights, config.beta)
    return Classify(config, classes, names, weights)


def known(columns: Mapping[str, Sequence[Any]], config: Config) -> NDArray[np.bool_]:
    """Return which samples have the target."""
    return _labels.known(columns, config.target)
