"""The training loop: plain torch that reads top to bottom and knows no model and no task by name.

Where a run stands is ``Progress``: everything else is a function of it. Order, augmentation and
random numbers follow from seed, epoch, step and key, so that going on from a checkpoint gives the
same losses, bit for bit, as if nothing had happened.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mammoprep.core.errors import DivergedError, ResourceError
from mammotrain import checkpoint, distributed, optim
from mammotrain.checkpoint import Checkpoint
from mammotrain.config import TrainConfig
from mammotrain.contracts import Batch, Output, Task
from mammotrain.distributed import World

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Line = dict[str, Any]


@dataclass
class Progress:
    """Where a run stands, in plain values.

    Attributes:
        step: Batches trained on, in all.
        epoch: The one that is going on, from 0.
        position: Batches of it that are done.
        best: The best value of the monitored metric, or None.
        best_step: Where it was.
        worse: Validations since then.
        ended: Whether training is over.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    best: float | None = None
    best_step: int | None = None
    worse: int = 0
    ended: bool = False


class Watcher:
    """What training tells while it works; this one says nothing."""

    def start(self, step: int, total: int, batch_size: int) -> None:
        """Take where training begins, how many steps there are in all, and of how many samples."""

    def step(self, line: Line) -> None:
        """Take what a step came to: a line of log.jsonl."""

    def validated(self, line: Line) -> None:
        """Take the metrics of a validation: a line of log.jsonl."""

    def warn(self, message: str) -> None:
        """Take one line for the user."""


@dataclass
class Job:
    """Everything that is trained and with what.

    Attributes:
        model: On its device.
        task: What is learned.
        optimiser: Of the model's parameters.
        average: Averaged copy (timm's ModelEmaV3), or None.
        batches: ``(epoch, position)`` -> this rank's parts of the remaining batches.
        steps_per_epoch: Batches of an epoch.
        prepare: ``(batch, epoch)`` -> images on the device, float32, augmented and normalised.
        validate: Model -> metrics by name.
        config: How it is trained.
        world: Who this process is.
        folder: Where checkpoints lie.
        watcher: Is told.
        about: Plain values that a checkpoint remembers: recipe, shards, label names.
    """

    model: nn.Module
    task: Task
    optimiser: torch.optim.Optimizer
    average: Any
    batches: Callable[[int, int], Iterator[Batch]]
    steps_per_epoch: int
    prepare: Callable[[Batch, int], Tensor]
    validate: Callable[[nn.Module], Mapping[str, float]]
    config: TrainConfig
    world: World
    folder: Path
    watcher: Watcher = field(default_factory=Watcher)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Wrap the model for several ranks and set up mixed precision."""
        self.device = self.world.device
        self.bare = self.model
        if self.world.size > 1:
            if self.config.sync_batchnorm:
                self.bare = nn.SyncBatchNorm.convert_sync_batchnorm(self.bare)
            ids = [self.device.index] if self.device.type == "cuda" else None
            self.model = nn.parallel.DistributedDataParallel(self.bare, device_ids=ids)
        if self.config.compile:
            self.model = torch.compile(self.model)  # type: ignore[assignment]
        fp16 = self.config.amp == "fp16" and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        planned = self.config.epochs * self.steps_per_epoch
        return min(planned, self.config.max_steps) if self.config.max_steps else planned

    @property
    def scored_model(self) -> nn.Module:
        """The averaged copy where there is one, else the model itself."""
        return self.bare if self.average is None else self.average.module


def fit(job: Job, progress: Progress) -> Progress:
    """Train to the end, from where ``progress`` stands.

    Raises:
        ResourceError: told to stop; a checkpoint was written, ``--resume`` goes on.
        DivergedError: the loss is no number; the last checkpoint is good.
    """
    job.watcher.start(progress.step, job.total_steps, job.config.batch_size)
    with _told_to_stop() as told:
        while not progress.ended:
            _epoch(job, progress, told)
            if progress.step >= job.total_steps:
                progress.ended = True
            done = progress.epoch
            if progress.ended or done % job.config.validate_every == 0:
                _validate(job, progress)
            save(job, progress)
    return progress


def _epoch(job: Job, progress: Progress, told: Callable[[], bool]) -> None:
    """Train on what is left of an epoch, and move ``progress`` to the next one's beginning."""
    config, pending = job.config, _Pending(job)
    job.model.train()
    asked = time.perf_counter()
    for batch in job.batches(progress.epoch, progress.position):
        waited = time.perf_counter() - asked
        rate = optim.rate(config, progress.step, job.total_steps)
        optim.set_rate(job.optimiser.param_groups, rate)
        loss, stats = _step(job, batch, progress)
        progress.step += 1
        progress.position += 1
        pending.add(progress, batch, loss, stats, {"lr": rate, "waited": waited, "asked": asked})
        asked = time.perf_counter()
        if progress.step >= job.total_steps:
            break
        if distributed.agreed(told(), job.world):
            pending.flush()
            save(job, progress)
            raise ResourceError("Stopped; a checkpoint was written. Go on with --resume.")
        if config.checkpoint_every and progress.step % config.checkpoint_every == 0:
            pending.flush()
            save(job, progress)
    pending.flush()
    progress.epoch += 1
    progress.position = 0


def _step(job: Job, batch: Batch, progress: Progress) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Take one step of the optimiser; return the loss, and what the model tells, on the device."""
    config = job.config
    seed_all(config.seed, progress.step, job.world.rank)
    images = job.prepare(batch, progress.epoch)
    targets = job.task.targets(batch.rows).to(job.device, non_blocking=True)
    if config.channels_last:
        images = images.to(memory_format=torch.channels_last)
    job.optimiser.zero_grad(set_to_none=True)
    total, output = torch.zeros((), device=job.device), None
    parts = list(
        zip(images.chunk(config.accumulate), targets.chunk(config.accumulate), strict=True)
    )
    for place, (part, wanted) in enumerate(parts):
        last = place == len(parts) - 1
        with _unsynced(job, last), autocast(config, job.device):
            output = job.model(part)
            loss = job.task.loss(output, wanted)
            if output.penalty is not None:
                loss = loss + output.penalty
            loss = loss * (len(part) / len(images))
            job.scaler.scale(loss).backward()
        total += loss.detach()
    if config.clip_norm:
        job.scaler.unscale_(job.optimiser)
        nn.utils.clip_grad_norm_(job.bare.parameters(), config.clip_norm)
    job.scaler.step(job.optimiser)
    job.scaler.update()
    if job.average is not None:
        job.average.update(job.bare, step=progress.step)
    return distributed.mean(total, job.world), output.stats if output is not None else {}


def _unsynced(job: Job, last: bool) -> Any:
    """Return a context in which gradients stay on this rank, but for the last part of a batch."""
    several = isinstance(job.model, nn.parallel.DistributedDataParallel)
    return nullcontext() if last or not several else job.model.no_sync()  # type: ignore[operator]


def autocast(config: TrainConfig, device: torch.device) -> Any:
    """Return the context of mixed precision that a run asks for."""
    kind = TYPES.get(config.amp)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def seed_all(seed: int, step: int, rank: int) -> None:
    """Set torch's random numbers (dropout, initial weights) for one step of one rank."""
    digest = sha256(f"{seed}/{step}/{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "big"))


class _Pending:
    """The last step's loss, read when the next one is under way, so that a GPU need not wait."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._last: tuple[Line, Batch, Tensor, Mapping[str, Tensor]] | None = None

    def add(
        self,
        progress: Progress,
        batch: Batch,
        loss: Tensor,
        stats: Mapping[str, Tensor],
        times: Mapping[str, float],
    ) -> None:
        """Remember a step and tell about the one before."""
        self.flush()
        seconds = time.perf_counter() - times["asked"]
        line = {
            "step": progress.step,
            "epoch": progress.epoch,
            "lr": times["lr"],
            "images_per_second": round(len(batch.keys) * self._job.world.size / seconds, 2),
            "data_wait": round(times["waited"] / seconds, 4),
        }
        self._last = (line, batch, loss, stats)

    def flush(self) -> None:
        """Tell about the last step, unless its loss is no number."""
        if self._last is None:
            return
        line, batch, loss, stats = self._last
        self._last = None
        value = float(loss)
        if not math.isfinite(value):
            shown = ", ".join(batch.keys[:8])
            raise DivergedError(
                f"The loss of step {line['step']} is {value}. Its batch: {shown}"
                f"{' ...' if len(batch.keys) > 8 else ''}. The last checkpoint is good; a lower "
                "train.lr, or train.clip_norm=1, may help."
            )
        told = {name: float(item.detach().float().mean()) for name, item in stats.items()}
        if self._job.device.type == "cuda":
            told["gpu_gib"] = torch.cuda.max_memory_allocated(self._job.device) / (1 << 30)
        self._job.watcher.step({**line, "loss": value, "loss_hex": value.hex(), **told})


def _validate(job: Job, progress: Progress) -> None:
    """Score the validation set; remember whether it is the best so far."""
    config = job.config
    metrics = dict(job.validate(job.scored_model))
    value = metrics.get(config.monitor)
    if value is None:
        known = ", ".join(sorted(metrics))
        raise ResourceError(f"train.monitor {config.monitor!r} is not among the metrics: {known}.")
    lower_is_better = config.monitor in ("loss", "brier", "ece")
    better = progress.best is None or not math.isfinite(progress.best)
    if progress.best is not None and not better:
        better = value < progress.best if lower_is_better else value > progress.best
    if better:
        progress.best, progress.best_step, progress.worse = value, progress.step, 0
    else:
        progress.worse += 1
        progress.ended |= bool(config.patience) and progress.worse >= config.patience
    job.watcher.validated(
        {"step": progress.step, "epoch": progress.epoch, "validation": metrics, "best": better}
    )


def save(job: Job, progress: Progress) -> None:
    """Write a checkpoint; all ranks come here, the first one writes."""
    if job.world.leads:
        average = None if job.average is None else job.average.module.state_dict()
        state = {
            "progress": asdict(progress),
            "optimiser": job.optimiser.state_dict(),
            "scaler": job.scaler.state_dict(),
            "threads": torch.get_num_threads(),
            "about": dict(job.about),
        }
        found = Checkpoint(job.bare.state_dict(), average, state)
        checkpoint.save(job.folder, progress.step, found)
        checkpoint.tidy(job.folder, job.config.keep, progress.best_step)
    distributed.wait(job.world)


def restore(job: Job, saved: Checkpoint) -> Progress:
    """Put a checkpoint into the job; return where it stands."""
    job.bare.load_state_dict(dict(saved.weights))
    if job.average is not None and saved.average is not None:
        job.average.module.load_state_dict(dict(saved.average))
    job.optimiser.load_state_dict(saved.state["optimiser"])
    job.scaler.load_state_dict(saved.state["scaler"])
    return Progress(**saved.state["progress"])


@torch.inference_mode()
def predict(
    model: nn.Module,
    task: Task,
    batches: Iterator[tuple[Tensor, Batch]],
    context: Callable[[], Any] = nullcontext,
) -> Iterator[tuple[Batch, Tensor, Output]]:
    """Yield each batch with its scores (B, classes) on the CPU and the model's output.

    Args:
        model: On its device; put into evaluation mode.
        task: Makes scores of logits.
        batches: Images on the device, ready for the model, and the batch they come from.
        context: Mixed precision.
    """
    model.eval()
    for images, batch in batches:
        with context():
            output = model(images)
        yield batch, task.scores(output).float().cpu(), output


@contextmanager
def _told_to_stop() -> Iterator[Callable[[], bool]]:
    """Lend a question whether SIGTERM or SIGINT came; the old handlers come back in the end."""
    told: list[int] = []
    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, lambda number, _: told.append(number)) for name in names}
    try:
        yield lambda: bool(told)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
