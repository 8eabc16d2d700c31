"""Screening: is there a cancer; and, while it learns, what else the table knows of the picture.

The auxiliary targets are more columns of the same output, so that any classifier can learn them.
Biopsy, invasiveness and BI-RADS are known only after the fact: they are targets, never inputs, and
no score looks at their columns.
"""

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
from mammotrain.tasks import _heads, _labels
from mammotrain.tasks._heads import Head

LOSSES = ("bce", "focal")
SITE = "labels.site_id"


@dataclass(frozen=True)
class Config:
    """What is learned.

    Attributes:
        target: Label that is yes or no, such as ``cancer``; or ``label`` of a dataset of two
            classes.
        loss: ``bce``, or ``focal``.
        gamma: Of the focal loss.
        smoothing: Label smoothing of the target, 0 to 1.
        class_weights: ``none``; ``balanced``: the two classes weigh alike, by the training samples;
            ``effective``: by their effective number.
        beta: Of the effective number.
        auxiliary: Factor on the weights of all heads; 0 for none.
        age: Weight of the age in years.
        density: Weight of the density, A to D.
        biopsy: Weight of whether there was a biopsy.
        invasive: Weight of whether there is an invasive cancer.
        birads: Weight of the BI-RADS category.
        birads_sites: Sites whose BI-RADS is learned; empty for all.
    """

    target: str = "cancer"
    loss: str = "bce"
    gamma: float = 2.0
    smoothing: float = 0.0
    class_weights: str = "none"
    beta: float = 0.9999
    auxiliary: float = 1.0
    age: float = 0.0
    density: float = 0.0
    biopsy: float = 0.0
    invasive: float = 0.0
    birads: float = 0.0
    birads_sites: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        """Check names and limits; raises ConfigError."""
        one_of("task.loss", self.loss, LOSSES)
        one_of("task.class_weights", self.class_weights, losses.WEIGHTS)
        for name in ("smoothing", "beta"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"task.{name} must be at least 0 and below 1, got {getattr(self, name):g}."
                )
        for name in ("gamma", "auxiliary", *_heads.KINDS):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"task.{name} must be at least 0, got {getattr(self, name):g}.")

    def weight(self, head: str) -> float:
        """Return the factor on a head's loss."""
        return self.auxiliary * float(getattr(self, head))


class Screen:
    """The task for one table; see ``contracts.Task``.

    Column 0 of the logits is the target's, the others are the heads', in their order.
    """

    wants_masks = False
    specificity = None

    def __init__(
        self,
        config: Config,
        classes: NDArray[np.int64],
        names: Sequence[str],
        weights: Tensor,
        heads: Sequence[Head],
    ) -> None:
        """Remember each sample's targets and what the classes are called and weigh."""
        self.config = config
        self.classes = classes
        self.score_names = tuple(names)
        self.weights = weights
        self.uncorrected = losses.uncorrected(config.loss, config.smoothing)
        self.heads = tuple(heads)
        self.outputs = 1 + sum(head.kind.width for head in heads)
        main = np.where(classes == _labels.UNKNOWN, np.nan, classes).astype(np.float32)
        self._wanted = np.stack([main, *(head.values for head in heads)], axis=1)

    def learns_from(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return all."""
        return rows

    def conditions(self, rows: NDArray[np.int64]) -> None:
        """Return nothing: the model sees the picture alone."""

    def targets(self, shown: Shown) -> Tensor:
        """Return float32 (B, 1 + heads), NaN where unknown: class, then one number a head."""
        wanted = torch.from_numpy(self._wanted[shown.rows])
        return wanted.to(shown.images.device, non_blocking=True)

    def loss(self, output: Output, targets: Tensor) -> Tensor:
        """Return the mean over samples of the target's loss and the weighted losses of the heads.

        All are divided by the number of samples, and not of those with the label: so a label counts
        alike whatever else its batch holds, and parts of a batch add up to the whole.
        """
        each = self._main(output.logits[:, 0].float(), targets[:, 0])
        for place, (head, columns) in enumerate(self._columns(output), start=1):
            each = each + head.weight * head.loss(columns, targets[:, place])
        return each.mean()

    def scores(self, output: Output, shown: Shown) -> Tensor:
        """Return the probability of both classes, float32 (B, 2), by the first column alone."""
        positive = torch.sigmoid(output.logits[:, :1].float())
        return torch.cat([1 - positive, positive], dim=1)

    def measures(self, output: Output, shown: Shown) -> dict[str, Tensor]:
        """Return what the heads come to, on the samples whose label is known.

        ``age_error`` is the mean absolute error in years, ``..._accuracy`` a share, ``..._loss``
        the mean cross-entropy in nats.
        """
        targets = self.targets(shown)
        return {
            f"{head.name}_{head.kind.measure}": head.measured(columns, targets[:, place])
            for place, (head, columns) in enumerate(self._columns(output), start=1)
        }

    def _main(self, logits: Tensor, targets: Tensor) -> Tensor:
        known = ~targets.isnan()
        plain = targets.nan_to_num(0.0)
        given = self.config
        each = losses.binary(logits, plain, given.loss, given.gamma, given.smoothing)
        return each * self.weights.to(each.device)[plain.long()] * known

    def _columns(self, output: Output) -> list[tuple[Head, Tensor]]:
        widths = [1, *(head.kind.width for head in self.heads)]
        parts = output.logits.float().split(widths, dim=1)[1:]
        return list(zip(self.heads, parts, strict=True))


def build(
    config: Config,
    columns: Mapping[str, Sequence[Any]],
    label_names: Sequence[str],
    training: NDArray[np.int64],
) -> Screen:
    """Return the task for a table.

    Args:
        config: What is learned.
        columns: Of every sample: ``label``, ``labels.NAME`` and ``labels.site_id``.
        label_names: Classes of ``label``.
        training: Places in the table that are learned from; they decide the classes' weights. Empty
            when nothing is learned.

    Raises:
        ConfigError: no such target, it is not yes or no, the training samples hold only one class,
            or no sample has a head's label.
    """
    classes, names = _labels.classes_of(config.target, columns, label_names)
    _labels.check_two(
        config.target, names, "screen tells two apart. task.name=classify takes more."
    )
    weights = torch.ones(len(names))
    if training.size:
        counts = _labels.counts_of(config.target, classes[training], names)
        weights = losses.class_weights(counts, config.class_weights, config.beta)
    heads = [
        _head(name, config, columns, training) for name in _heads.KINDS if config.weight(name) > 0
    ]
    return Screen(config, classes, names, weights, heads)


def known(columns: Mapping[str, Sequence[Any]], config: Config) -> NDArray[np.bool_]:
    """Return which samples have the target."""
    return _labels.known(columns, config.target)


def _head(
    name: str,
    config: Config,
    columns: Mapping[str, Sequence[Any]],
    training: NDArray[np.int64],
) -> Head:
    count = len(columns["label"])
    values = _heads.values_of(name, columns, count)
    where = ""
    if name == "birads" and config.birads_sites:
        sites = columns.get(SITE, [None] * count)
        inside = np.array([site in config.birads_sites for site in sites], bool)
        values = np.where(inside, values, np.float32(np.nan))
        where = f" of site {', '.join(map(str, config.birads_sites))} (task.birads_sites)"
    if training.size and np.isnan(values).all():
        raise ConfigError(
            f"task.{name} is {getattr(config, name):g}, but no sample{where} has labels.{name}. "
            f"Leave it out: --set task.{name}=0, or all heads: --set task.auxiliary=0."
        )
    return Head(name, config.weight(name), _heads.KINDS[name], values)
