"""A model that is asked about each picture in several positions, as if it were asked once."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mammotrain.checks import one_of
from mammotrain.contracts import Output, Shown, Task
from mammotrain.predicting import voices


@dataclass(frozen=True)
class Together(Output):
    """What a model says of a batch in all positions.

    The logits are those of the mean probabilities of pixels, or the mean logits of a picture, so
    that masks are measured and drawn as ``mammotrain predict`` writes them.

    Attributes:
        views: What it says of each position, pictures turned back.
    """

    views: tuple[Output, ...] = ()


class Flipped(nn.Module):
    """A model that looks at each picture in several positions."""

    def __init__(self, model: nn.Module, tta: str) -> None:
        """Take the model.

        Args:
            model: Whose outputs are those of pictures as they lie.
            tta: Name in ``voices.VIEWS``.

        Raises:
            ConfigError: another name.
        """
        super().__init__()
        one_of("--tta", tta, voices.VIEWS)
        self.model, self._views = model, voices.VIEWS[tta]

    def forward(self, images: Tensor, *told: Tensor) -> Together:
        """Return what it says of all positions of (B, C, H, W) pictures."""
        views = tuple(
            _back(self.model(images.flip(axes) if axes else images, *told), axes)
            for axes in self._views
        )
        stats = {name: _mean([view.stats[name] for view in views]) for name in views[0].stats}
        return Together(_logits([view.logits.float() for view in views]), None, stats, views)


def mean_scores(task: Task) -> Task:
    """Return a task whose scores of a ``Together`` are the mean of its views' probabilities."""
    found = copy(task)

    def scores(output: Output, shown: Shown) -> Tensor:
        views: Sequence[Output] = output.views if isinstance(output, Together) else (output,)
        return _mean([task.scores(view, shown) for view in views])

    members: dict[str, Any] = vars(found)  # a task may be frozen; its copy is nobody else's
    members["scores"] = scores
    return found


def _back(output: Output, axes: tuple[int, ...]) -> Output:
    """Return what was said of a flipped picture as said of the picture."""
    if not axes or output.logits.ndim != 4:
        return output
    return replace(output, logits=output.logits.flip(axes))


def _logits(views: Sequence[Tensor]) -> Tensor:
    if views[0].ndim != 4:
        return _mean(views)
    mean = _mean([view.sigmoid() for view in views])
    return torch.logit(mean, eps=torch.finfo(mean.dtype).eps)  # sure of a pixel, and still finite


def _mean(each: Sequence[Tensor]) -> Tensor:
    return torch.stack([one.double() for one in each]).mean(dim=0).float()
