"""Reconstruction: learned from the usual alone, so that the unusual comes back worse.

How badly a picture is reconstructed is its score. It is no probability of a cancer, only a rank:
what it finds is what looks like nothing in training, and a lesion is a small part of a picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import losses
from mammotrain.contracts import Output, Shown
from mammotrain.tasks import _labels

KL, KL_COST = "kl", "kl_cost"
SILENT = 0.1  # nats below which a latent vector tells nothing of its picture
OTHER = "other"
# Every condition has one more category, for what is not known.
CONDITIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "view": ("view", ("CC", "MLO", OTHER)),
    "density": ("labels.density", ("A", "B", "C", "D")),
}


@dataclass(frozen=True)
class Config:
    """What is learned.

    Attributes:
        target: What is not learned from, and what scores are judged by: ``label`` (of two classes),
            or a label that is yes or no, such as ``cancer``.
        channels: Of the pictures.
        ssim: Share of the structural dissimilarity (1 - SSIM) / 2 in loss and score; the rest is
            the mean squared error.
        conditions: What the model is told besides the picture: ``view``, ``density``.
        specificity: Share of the validation samples without the target that lie below the
            threshold.
        scale: Error at which the score is one half.
    """

    target: str = "cancer"
    channels: int = 1
    ssim: float = 0.0
    conditions: tuple[str, ...] = ()
    specificity: float = 0.95
    scale: float = 0.01

    def __post_init__(self) -> None:
        """Check names and limits; raises ConfigError."""
        for name in self.conditions:
            if name not in CONDITIONS:
                hint = plugins.suggest(name, list(CONDITIONS))
                listed = ", ".join(CONDITIONS)
                raise ConfigError(f"task.conditions may hold {listed}; got {name!r}.{hint}")
        if not 0 <= self.ssim <= 1:
            raise ConfigError(f"task.ssim must be 0 to 1, got {self.ssim:g}.")
        if not 0 < self.specificity < 1:
            raise ConfigError(
                f"task.specificity must be between 0 and 1, got {self.specificity:g}."
            )
        if not 0 < self.scale < float("inf"):
            raise ConfigError(f"task.scale must be above 0, got {self.scale:g}.")
        if self.channels < 1:
            raise ConfigError(f"task.channels must be at least 1, got {self.channels}.")


class Reconstruct:
    """The task for one table; see ``contracts.Task``.

    The model's logits are pictures (B, channels, H, W) whose sigmoid is the reconstruction. A
    sample's ``kl_cost`` among the model's ``stats``, where there is one, is part of its score.
    """

    wants_masks = False
    uncorrected = "an error of reconstruction is no probability"

    def __init__(
        self,
        config: Config,
        classes: NDArray[np.int64],
        names: Sequence[str],
        told: Tensor | None,
    ) -> None:
        """Remember each sample's class, what the classes are called, and what is told of each."""
        self.config = config
        self.classes = classes
        self.score_names = tuple(names)
        self.outputs = config.channels
        self.specificity: float | None = config.specificity
        self._told = told

    def learns_from(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the samples without the target; raises ConfigError when there are none."""
        usual: NDArray[np.int64] = rows[self.classes[rows] == 0]
        if rows.size and not usual.size:
            raise ConfigError(
                f"task.target {self.config.target!r}: every training sample has it, and "
                "reconstruct learns from the others."
            )
        return usual

    def conditions(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Return one column a category, 1 for the sample's own: float32 (B, n), or None."""
        return None if self._told is None else self._told[torch.from_numpy(rows)]

    def targets(self, shown: Shown) -> Tensor:
        """Return the pictures themselves."""
        return shown.images

    def loss(self, output: Output, targets: Tensor) -> Tensor:
        """Return the mean error of a batch, without the Kullback-Leibler term."""
        return self._errors(output, targets).mean()

    def scores(self, output: Output, shown: Shown) -> Tensor:
        """Return how unusual a picture is, float32 (B, 2): cost / (cost + scale), and the rest.

        The cost is the error of the picture plus its Kullback-Leibler term.
        """
        cost = self._errors(output, shown.images)
        if KL_COST in output.stats:
            cost = cost + output.stats[KL_COST].float()
        unusual = cost / (cost + self.config.scale)  # unlike 1 - exp, no ties where costs are high
        return torch.stack([1 - unusual, unusual], dim=1)

    def measures(self, output: Output, shown: Shown) -> dict[str, Tensor]:
        """Return the mean squared error of each class, and how many pictures are no pictures.

        ``collapsed`` is the share of pictures that came back no better than one flat grey, or of
        which the latent vector tells nothing, so that all come back the same.
        """
        error = losses.squared_error(shown.images, picture(output, shown.images))
        classes = torch.from_numpy(self.classes[shown.rows]).to(error.device)
        empty = self._empty(output, shown, error)
        found = {"collapsed": torch.stack([empty, torch.ones_like(empty)], dim=1)}
        for place, name in enumerate(self.score_names):
            here = (classes == place).float()
            found[f"squared_error_{name}"] = torch.stack([error * here, here], dim=1)
        return found

    def error_map(self, output: Output, shown: Shown) -> Tensor:
        """Return where a picture came back otherwise: squared differences, float32 (B, 1, H, W).

        The mean of a map is the picture's mean squared error.
        """
        return (shown.images - picture(output, shown.images)).square().mean(dim=1, keepdim=True)

    def _errors(self, output: Output, images: Tensor) -> Tensor:
        made, share = picture(output, images), self.config.ssim
        error = losses.squared_error(images, made)
        if not share:
            return error
        return (1 - share) * error + share * (1 - losses.ssim(images, made)) / 2

    @staticmethod
    def _empty(output: Output, shown: Shown, error: Tensor) -> Tensor:
        """Return 1 for pictures of which the output tells nothing, else 0, (B,)."""
        flat = shown.images.mean(dim=(1, 2, 3), keepdim=True)
        empty = error >= losses.squared_error(shown.images, flat)
        if KL in output.stats:
            empty |= output.stats[KL] < SILENT
        return empty.float()


def picture(output: Output, images: Tensor) -> Tensor:
    """Return the reconstruction of images, float32 (B, C, H, W), 0-1.

    Raises:
        ConfigError: the model returns no pictures of this kind.
    """
    logits = output.logits
    if logits.ndim != 4:
        raise ConfigError("task reconstruct needs a model that returns pictures: model.name=cvae.")
    if logits.shape != images.shape:
        raise ConfigError(
            f"The pictures have {images.shape[1]} channels, the reconstruction {logits.shape[1]}: "
            f"--set task.channels={images.shape[1]}."
        )
    return functional.sigmoid(logits.float())


def build(
    config: Config,
    columns: Mapping[str, Sequence[Any]],
    label_names: Sequence[str],
    training: NDArray[np.int64],
) -> Reconstruct:
    """Return the task for a table.

    Args:
        config: What is learned.
        columns: Of every sample: ``label``, ``labels.NAME``, ``view`` and ``labels.density``.
        label_names: Classes of ``label``.
        training: Places in the table that may be learned from; not looked at.

    Raises:
        ConfigError: no such target, or it is not yes or no.
    """
    classes, names = _labels.classes_of(config.target, columns, label_names)
    _labels.check_two(
        config.target,
        names,
        "reconstruct tells the usual from the rest: a label that is yes or no, such as cancer.",
    )
    parts = [_one_hot(name, columns, len(classes)) for name in config.conditions]
    told = torch.cat(parts, dim=1) if parts else None
    return Reconstruct(config, classes, names, told)


def known(columns: Mapping[str, Sequence[Any]], config: Config) -> NDArray[np.bool_]:
    """Return which samples have the target."""
    return _labels.known(columns, config.target)


def _one_hot(name: str, columns: Mapping[str, Sequence[Any]], count: int) -> Tensor:
    """Return one column a category, and a last one for samples of which it is not known."""
    column, categories = CONDITIONS[name]
    unknown = len(categories)
    place: dict[Any, int] = {value: number for number, value in enumerate(categories)}
    other = place.get(OTHER, unknown)
    values = columns.get(column, [None] * count)
    places = [unknown if value is None else place.get(value, other) for value in values]
    return functional.one_hot(torch.tensor(places), unknown + 1).float()
