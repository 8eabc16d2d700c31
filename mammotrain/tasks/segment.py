"""Where lesions are: one logit a pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import UNOUTLINED
from mammotrain import losses, outlines
from mammotrain.checks import one_of
from mammotrain.contracts import Output, Shown
from mammotrain.outlines import Outlines
from mammotrain.tasks import _masks
from mammotrain.tasks._labels import UNKNOWN

LOSSES = ("dice-bce", "dice-focal")
NONE, LESION = "none", "lesion"


@dataclass(frozen=True)
class Config:
    """What is learned, and how a mask is judged.

    Attributes:
        loss: ``dice-bce`` or ``dice-focal``: batch Dice and a loss of each pixel, added.
        gamma: Of the focal loss.
        dice_weight: What the Dice loss counts beside that of the pixels.
        threshold: Probability from which a pixel belongs to a lesion.
        smallest: Pixels; a smaller part of a mask that the model says is dropped.
        overlap: IoU above which a part that the model says is the lesion that it overlaps.
        filter: Side in pixels of the square whose mean probability, at its highest, is the
            picture's score; one pixel alone cannot call a picture abnormal then.
    """

    loss: str = "dice-bce"
    gamma: float = 2.0
    dice_weight: float = 1.0
    threshold: float = 0.5
    smallest: int = 0
    overlap: float = 0.1
    filter: int = 5

    def __post_init__(self) -> None:
        """Check names and ranges; raises ConfigError."""
        one_of("task.loss", self.loss, LOSSES)
        for name, low, high in (("threshold", 0, 1), ("overlap", 0, 1)):
            value = getattr(self, name)
            if not low < value < high:
                raise ConfigError(f"task.{name} must be between {low} and {high}, got {value:g}.")
        for name, least in (("dice_weight", 0), ("gamma", 0), ("smallest", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"task.{name} must be at least {least}.")
        if self.filter < 1 or self.filter % 2 == 0:
            raise ConfigError(f"task.filter must be an odd number of pixels, got {self.filter}.")


class Segment:
    """The task for one table; see ``contracts.Task``."""

    outputs = 1
    score_names = (NONE, LESION)
    wants_masks = True
    specificity = None
    uncorrected = "the highest mean of a mask's pixels is no probability that a lesion is there"

    def __init__(self, config: Config, classes: NDArray[np.int64]) -> None:
        """Remember which pictures have a lesion, (table,): 1, 0, or -1 where nobody looked."""
        self.config = config
        self.classes = classes

    def learns_from(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return all."""
        return rows

    def conditions(self, rows: NDArray[np.int64]) -> None:
        """Return nothing."""

    def targets(self, shown: Shown) -> Tensor:
        """Return the true masks, (B, 1, H, W) of 0 and 1."""
        return _true(shown)

    def loss(self, output: Output, targets: Tensor) -> Tensor:
        """Return the mean loss of the pixels and the Dice loss of the batch, added."""
        logits = output.logits.float()
        if self.config.loss == "dice-focal":
            each = losses.focal(logits, targets, self.config.gamma)
        else:
            each = losses.bce(logits, targets)
        return each.mean() + self.config.dice_weight * dice_loss(logits, targets)

    def scores(self, output: Output, shown: Shown) -> Tensor:
        """Return the probabilities that there is nothing and that there is a lesion, (B, 2)."""
        side = self.config.filter
        smooth = functional.avg_pool2d(
            probabilities(output), side, 1, side // 2, count_include_pad=False
        )
        lesion = smooth.amax((1, 2, 3))
        return torch.stack([1 - lesion, lesion], dim=1)

    def masks(self, output: Output) -> NDArray[np.bool_]:
        """Return what the model says is lesion, (B, H, W)."""
        said = (probabilities(output)[:, 0] >= self.config.threshold).cpu().numpy()
        if self.config.smallest:
            return np.stack([_masks.without_specks(each, self.config.smallest) for each in said])
        return np.asarray(said)

    def measures(self, output: Output, shown: Shown) -> dict[str, Tensor]:
        """Return Dice, IoU, lesions found, false positives, and whether masks have collapsed."""
        true = _true(shown)[:, 0].cpu().numpy() > 0
        pairs = zip(true, self.masks(output), strict=True)
        rows = [_masks.measured(*pair, self.config.overlap) for pair in pairs]
        return {name: torch.tensor([row[name] for row in rows]).float() for name in rows[0]}

    def outlines(self, output: Output, shown: Shown) -> list[Outlines]:
        """Return what to draw on each picture for people."""
        true = _true(shown)[:, 0].cpu().numpy() > 0
        pairs = zip(true, self.masks(output), strict=True)
        return [outlines.of_masks(*pair) for pair in pairs]


def probabilities(output: Output) -> Tensor:
    """Return the probability of every pixel, float32 (B, 1, H, W)."""
    return output.logits.float().sigmoid()


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - Dice of all pixels of a batch together; 0 where no picture of it has a lesion.

    Taken picture by picture, one without a lesion would have a loss that only says nothing when
    nothing is said, and small lesions would weigh as much as large ones: all background is then
    a place from which there is no way down.

    Args:
        logits: (B, 1, H, W).
        targets: (B, 1, H, W) of 0 and 1.
    """
    said = logits.sigmoid()
    both, sizes = (said * targets).sum(), said.sum() + targets.sum()
    dice = 2 * both / sizes.clamp_min(torch.finfo(sizes.dtype).eps)
    return (1 - dice) * (targets.sum() > 0)


def build(
    config: Config,
    columns: Mapping[str, Sequence[Any]],
    label_names: Sequence[str],
    training: NDArray[np.int64],
) -> Segment:
    """Return the task for a table.

    Args:
        config: What is learned.
        columns: Of every sample: ``annotation`` and ``rois``; of ``quality.mask_area`` where it is.
        label_names: Not looked at.
        training: Places in the table that are learned from; empty when nothing is learned.

    Raises:
        ConfigError: no training sample has a lesion.
    """
    looked_at, there = known(columns, config), _with_lesion(columns)
    classes = np.where(looked_at, there.astype(np.int64), UNKNOWN)
    if training.size and not (classes[training] == 1).any():
        raise ConfigError(
            f"None of {training.size:,} training samples has a lesion in its mask: there is "
            "nothing to learn."
        )
    return Segment(config, classes)


def known(columns: Mapping[str, Sequence[Any]], config: Config) -> NDArray[np.bool_]:
    """Return which samples have a mask; an empty one says that nothing is there.

    One that was annotated in part, and of which nothing is outlined, has none.
    """
    pairs = zip(columns["annotation"], columns["rois"], strict=True)
    return np.array(
        [
            told not in (None, *UNOUTLINED) and (told != "partial" or len(rois) > 0)
            for told, rois in pairs
        ],
        bool,
    )


def _with_lesion(columns: Mapping[str, Sequence[Any]]) -> NDArray[np.bool_]:
    """Return in whose mask a pixel is set; where the table does not tell, which have outlines."""
    outlined = [bool(value) for value in columns["rois"]]
    areas = columns.get("quality.mask_area", [None] * len(outlined))
    pairs = zip(areas, outlined, strict=True)
    return np.array([there if area is None else area > 0 for area, there in pairs], bool)


def _true(shown: Shown) -> Tensor:
    if shown.masks is None:
        raise ConfigError("These samples have no masks; they can be segmented, but not judged.")
    return shown.masks
