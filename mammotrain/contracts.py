"""The types that data, models, tasks and the trainer share; nobody asks for a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


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


class Task(Protocol):
    """What is learned: targets, loss, and how logits become scores."""

    outputs: int
    score_names: Sequence[str]

    def targets(self, rows: NDArray[np.int64]) -> Tensor:
        """Return what the samples in these places of the table should give, on the CPU."""
        ...

    def loss(self, output: Output, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar; the model's penalty is not in it."""
        ...

    def scores(self, output: Output) -> Tensor:
        """Return (B, len(score_names)) probabilities, float32."""
        ...
