"""The types that data, models, tasks and the trainer share; nobody asks for a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from mammotrain.outlines import Outlines


@dataclass(frozen=True)
class Batch:
    """Samples as they were stored; or augmented, where another thread did that already.

    Attributes:
        images: (B, C, H, W), uint8 or uint16, integers until they are on the device; float32 once
            they are augmented.
        masks: (B, 1, H, W), uint8, 0 or 255; None when the run needs none.
        rows: (B,) int64, places in the table.
        keys: The samples' keys.
    """

    images: Tensor
    masks: Tensor | None
    rows: NDArray[np.int64]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """A batch as the model sees it, on its device.

    Attributes:
        images: (B, C, H, W) float32, 0-1, augmented and normalised.
        masks: (B, 1, H, W) float32, 0 or 1, moved as the images; None when the task needs none.
        rows: (B,) int64, places in the table.
        conditions: (B, n) float32 that the model is told besides; None for nothing.
    """

    images: Tensor
    masks: Tensor | None
    rows: NDArray[np.int64]
    conditions: Tensor | None = None

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.rows)

    def parts(self, count: int) -> "list[Shown]":
        """Return it cut into so many parts, as even as can be."""
        nothing = (None,) * count
        columns = (
            self.images.tensor_split(count),
            nothing if self.masks is None else self.masks.tensor_split(count),
            np.array_split(self.rows, count),
            nothing if self.conditions is None else self.conditions.tensor_split(count),
        )
        return [Shown(*each) for each in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Output:
    """What a model returns.

    Attributes:
        logits: (B, outputs), or (B, outputs, H, W) for pictures.
        penalty: Scalar that is added to the loss, already weighted; or None.
        stats: Name -> scalar or (n,) tensor without gradient, whose mean is logged: solver steps.
    """

    logits: Tensor
    penalty: Tensor | None = None
    stats: Mapping[str, Tensor] = field(default_factory=dict)


def ask(model: nn.Module, shown: Shown) -> Output:
    """Return what a model says of a batch."""
    told = () if shown.conditions is None else (shown.conditions,)
    output: Output = model(shown.images, *told)
    return output


class Task(Protocol):
    """What is learned: targets, loss, and how a model's output becomes scores.

    What only some tasks have is named by ``Weighs``, ``Corrects`` and ``Draws``.

    Attributes:
        outputs: Columns, or channels, of the logits.
        score_names: Classes that scores are given for, two or more.
        classes: (table,) class of every sample, -1 where unknown: what scores are judged by.
        wants_masks: Whether batches need lesion masks.
        specificity: On the validation samples, at which the threshold lies; None for that of the
            highest F1.
    """

    outputs: int
    score_names: Sequence[str]
    classes: NDArray[np.int64]
    wants_masks: bool
    specificity: float | None

    def learns_from(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of the training samples are learned from; mostly all."""
        ...

    def conditions(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Return what the model is told besides the picture, float32 (B, n) on the CPU, or None."""
        ...

    def targets(self, shown: Shown) -> Tensor:
        """Return what the samples should give, on the device of the images."""
        ...

    def loss(self, output: Output, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar; the model's penalty is not in it."""
        ...

    def scores(self, output: Output, shown: Shown) -> Tensor:
        """Return (B, len(score_names)) probabilities, float32."""
        ...

    def measures(self, output: Output, shown: Shown) -> Mapping[str, Tensor]:
        """Return what scores do not say, such as Dice: name -> (B, 2) float32.

        The first column summed over samples, by the second summed, is the measure.
        """
        ...


@runtime_checkable
class Weighs(Protocol):
    """A task in which a sample counts by its class.

    Attributes:
        weights: (classes,) float32, what a sample of each class counts in the loss: one of weight 2
            is as good as seen twice, and probabilities are corrected for that.
    """

    weights: Tensor


@runtime_checkable
class Corrects(Protocol):
    """A task that says whether its scores may be corrected for the prevalence; see ``priors``.

    They may where they are probabilities at the prevalence of what was trained on, as the lowest
    cross-entropy makes them. A task that does not say it is not corrected.

    Attributes:
        uncorrected: Why they may not, in words; an empty text where they may.
    """

    uncorrected: str


@runtime_checkable
class Draws(Protocol):
    """A task whose output can be drawn on the picture."""

    def outlines(self, output: Output, shown: Shown) -> Sequence[Outlines]:
        """Return what to draw on each picture for people, (B,); needs the true masks."""
        ...
