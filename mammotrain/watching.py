"""What training tells while it works, and when: a step's figures, once the device has them."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mammoprep.core.errors import DivergedError
from mammotrain import checkpoint, distributed
from mammotrain.distributed import World

SCALE = "loss_scale"
SMALLEST_SCALE = 2.0**-24  # 40 steps in a row without a usable gradient
Line = dict[str, Any]


class Watcher:
    """What training tells while it works; this one says nothing."""

    def start(self, step: int, total: int, batch_size: int) -> None:
        """Take where training begins, how many steps there are in all, and of how many samples."""

    def step(self, line: Line) -> None:
        """Take what a step came to: a line of log.jsonl."""

    def validated(self, line: Line) -> None:
        """Take the metrics of a validation: a line of log.jsonl."""

    def count(self, what: str, done: int, total: int) -> None:
        """Take how far long work is that goes before training."""

    def warn(self, message: str) -> None:
        """Take one line for the user."""


@dataclass(frozen=True)
class Done:
    """A step, as far as the host knows it.

    Attributes:
        line: Of log.jsonl.
        keys: Of its batch.
        waited: Seconds for the batch.
        asked: When it was asked for.
    """

    line: Line
    keys: tuple[str, ...]
    waited: float
    asked: float


@dataclass(frozen=True)
class _Coming:
    """A step's figures on their way from the device.

    Attributes:
        done: The step.
        names: Of the last of ``values``.
        values: On the CPU: the mean loss; with several ranks whether one is told to stop, and this
            rank's loss; what the model tells.
        arrived: When ``values`` can be read; None for at once.
    """

    done: Done
    names: tuple[str, ...]
    values: Tensor
    arrived: torch.cuda.Event | None


class Pending:
    """The last step's figures, read when the next one is under way, so that a GPU need not wait.

    With several ranks the question whether one is told to stop travels with the loss, so that all
    stop after the same step.

    Attributes:
        stop: Whether to stop after this step.
    """

    def __init__(
        self, world: World, watcher: Watcher, folder: Path, told: Callable[[], bool]
    ) -> None:
        """Remember who is told, where checkpoints lie, and whom to ask whether to stop."""
        self.stop = False
        self._world, self._watcher, self._folder, self._told = world, watcher, folder, told
        self._last: _Coming | None = None

    def add(self, done: Done, loss: Tensor, stats: Mapping[str, Tensor]) -> None:
        """Remember a step and tell about the one before; ``loss`` and ``stats`` are scalars."""
        self.flush()
        seconds = time.perf_counter() - done.asked
        speed = len(done.keys) * self._world.size / seconds
        done.line["images_per_second"] = round(speed, 2)
        done.line["data_wait"] = round(done.waited / seconds, 4)
        values = [loss]
        if self._world.size > 1:
            flag = loss.new_full((), float(self._told()))
            values = [*distributed.mean(torch.stack([loss, flag]), self._world), loss]
        else:
            self.stop = self._told()
        there = torch.stack([*values, *stats.values()]).to("cpu", non_blocking=True)
        arrived = None
        if loss.is_cuda:
            arrived = torch.cuda.Event()
            arrived.record()
        self._last = _Coming(done, tuple(stats), there, arrived)

    def flush(self) -> None:
        """Tell about the last step.

        Raises:
            DivergedError: its loss is no number, or fp16 finds no scale for its gradients.
        """
        if self._last is None:
            return
        coming, self._last = self._last, None
        if coming.arrived is not None:
            coming.arrived.synchronize()
        values = coming.values.tolist()
        own = len(values) - len(coming.names)
        loss, line = values[0], coming.done.line
        if own > 1:
            self.stop = values[1] > 0
        if not math.isfinite(loss):
            raise DivergedError(self._diverged(coming.done, loss, values[own - 1]))
        # a model says NaN for what there is not, such as the steps of a solver that it does not use
        told = {
            name: value
            for name, value in zip(coming.names, values[own:], strict=True)
            if math.isfinite(value)
        }
        if told.get(SCALE, 1.0) < SMALLEST_SCALE:
            raise DivergedError(
                f"In fp16 no gradient up to step {line['step']} was a number. train.amp=bf16 has "
                f"a wider range. {advice(self._folder)}"
            )
        if coming.arrived is not None:
            told["gpu_gib"] = torch.cuda.max_memory_allocated() / (1 << 30)
        self._watcher.step({**line, "loss": loss, "loss_hex": loss.hex(), **told})

    def _diverged(self, done: Done, loss: float, own: float) -> str:
        """Return what to say of a loss that is no number, with the batches that had it."""
        mine = () if math.isfinite(own) else done.keys
        keys = [key for each in distributed.gathered(mine, self._world) for key in each]
        shown = ", ".join(keys[:8]) + (" ..." if len(keys) > 8 else "")
        step = done.line["step"]
        return f"The loss of step {step} is {loss}. Its batch: {shown}. {advice(self._folder)}"


def advice(folder: Path) -> str:
    """Return how to go on after a divergence; to resume would end in the same way."""
    good = checkpoint.steps(folder)
    where = f" The last checkpoint, {good[-1].name}, is good." if good else ""
    return f"A new run with a lower train.lr, or train.clip_norm=1, may do better.{where}"
