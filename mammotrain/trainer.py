"""The training loop: plain torch that reads top to bottom and knows no model and no task by name.

Where a run stands is ``Progress``: everything else is a function of it. Order, augmentation and
random numbers follow from seed, epoch, step and key, so that going on from a checkpoint gives the
same losses, bit for bit, as if nothing had happened.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from mammoprep.core.errors import ConfigError, DivergedError, ResourceError
from mammotrain import checkpoint, distributed, interruption, optim
from mammotrain.checkpoint import Checkpoint
from mammotrain.config import TrainConfig
from mammotrain.contracts import Batch, Output, Shown, Task, ask
from mammotrain.distributed import World
from mammotrain.metrics import lower_is_better
from mammotrain.watching import SCALE, Done, Pending, Watcher, advice

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
        due: Whether a validation has to be done before it goes on.
        ended: Whether training is over.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    best: float | None = None
    best_step: int | None = None
    worse: int = 0
    due: bool = False
    ended: bool = False


@dataclass
class Job:
    """Everything that is trained and with what.

    Attributes:
        model: On its device; while it trains, as several ranks and the compiler wrap it.
        task: What is learned.
        optimiser: Of the model's parameters.
        average: Averaged copy (timm's ModelEmaV3), or None.
        batches: ``(epoch, position)`` -> this rank's parts of the remaining batches.
        steps_per_epoch: Batches of an epoch.
        prepare: ``(batch, epoch)`` -> what the model is shown, on the device.
        validate: Model -> metrics by name; None where nothing validates: then training goes on for
            all its steps, and the last weights are the best.
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
    prepare: Callable[[Batch, int], Shown]
    validate: Callable[[nn.Module], Mapping[str, float]] | None
    config: TrainConfig
    world: World
    folder: Path
    watcher: Watcher = field(default_factory=Watcher)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Set up what several ranks and mixed precision need; raises ConfigError."""
        check(self.config, self.world)
        self.device = self.world.device
        if self.world.size > 1 and self.config.sync_batchnorm:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.bare = self.model
        self.parallel: nn.parallel.DistributedDataParallel | None = None
        fp16 = self.config.amp == "fp16"
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


def check(config: TrainConfig, world: World) -> None:
    """Look before any work whether these processes can do what is asked for.

    Raises:
        ConfigError: they cannot.
    """
    if config.sync_batchnorm and world.size > 1 and world.device.type != "cuda":
        raise ConfigError(
            "train.sync_batchnorm needs GPUs: torch has no SyncBatchNorm for the CPU. Leave it "
            "out, or train with one process."
        )
    most = config.batch_size // world.size
    if config.accumulate > most:
        each = f" on each of {world.size} ranks" if world.size > 1 else ""
        raise ConfigError(
            f"train.accumulate is {config.accumulate}, but a batch has only {most} samples{each}: "
            "give at most so many, or a larger train.batch_size."
        )


def fit(job: Job, progress: Progress) -> Progress:
    """Train to the end, from where ``progress`` stands.

    Raises:
        ResourceError: told to stop; a checkpoint was written, ``--resume`` goes on.
        DivergedError: the loss is no number; the last checkpoint is good.
    """
    job.watcher.start(progress.step, job.total_steps, job.config.batch_size)
    with _together(job), interruption.told() as told:
        while not progress.ended:
            if not progress.due:
                _epoch(job, progress, told)
            last = progress.step >= job.total_steps
            progress.due = last or progress.epoch % job.config.validate_every == 0
            if progress.due:
                _validate(job, progress, told)
            progress.due, progress.ended = False, progress.ended or last
            save(job, progress)
    return progress


@contextmanager
def _together(job: Job) -> Iterator[None]:
    """Wrap the model for several ranks, and compile it, for as long as it trains.

    No longer: DistributedDataParallel keeps gloo's threads alive, and a process that ends while
    one of them lets go of a tensor is aborted (seen with torch 2.13).
    """
    if job.world.size > 1:
        ids = [job.device.index] if job.device.type == "cuda" else None
        job.parallel = nn.parallel.DistributedDataParallel(job.bare, device_ids=ids)
        job.model = job.parallel
    if job.config.compile:
        job.model = torch.compile(job.model)  # type: ignore[assignment]
    try:
        yield
    finally:
        job.model, job.parallel = job.bare, None


def _epoch(job: Job, progress: Progress, told: Callable[[], bool]) -> None:
    """Train on what is left of an epoch, and move ``progress`` on."""
    config = job.config
    pending = Pending(job.world, job.watcher, job.folder, told)
    job.model.train()
    asked = time.perf_counter()
    for batch in job.batches(progress.epoch, progress.position):
        waited = time.perf_counter() - asked
        rate = optim.rate(config, progress.step, job.total_steps)
        optim.set_rate(job.optimiser.param_groups, rate)
        loss, stats = _step(job, batch, progress)
        progress.step += 1
        progress.position += 1
        line = {"step": progress.step, "epoch": progress.epoch, "lr": rate}
        pending.add(Done(line, batch.keys, waited, asked), loss, stats)
        asked = time.perf_counter()
        if progress.step >= job.total_steps:
            break
        if pending.stop:
            pending.flush()
            _stop(job, progress)
        if config.checkpoint_every and progress.step % config.checkpoint_every == 0:
            pending.flush()
            save(job, progress)
    pending.flush()
    if progress.position >= job.steps_per_epoch:  # else ended by max_steps: the rest can follow
        progress.epoch += 1
        progress.position = 0


def _step(job: Job, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
    """Take one step of the optimiser; return the loss and the means of what the model tells.

    All of it stays on the device: nothing here waits for a GPU.
    """
    config = job.config
    seed_all(config.seed, progress.step, job.world.rank)
    shown = in_format(config, job.prepare(batch, progress.epoch))
    job.optimiser.zero_grad(set_to_none=True)
    if config.accumulate == 1:
        loss, stats = _backward(job, shown)
    else:
        loss, stats = _by_parts(job, shown)
    if config.clip_norm:
        job.scaler.unscale_(job.optimiser)
        nn.utils.clip_grad_norm_(job.bare.parameters(), config.clip_norm)
    job.scaler.step(job.optimiser)
    job.scaler.update()
    if job.scaler.is_enabled():
        stats[SCALE] = job.scaler.scale(torch.ones_like(loss))
    if job.average is not None:
        job.average.update(job.bare, step=progress.step)
    return loss, stats


def _by_parts(job: Job, shown: Shown) -> tuple[Tensor, dict[str, Tensor]]:
    """Do ``_backward`` part by part; every sample counts alike."""
    parts = shown.parts(job.config.accumulate)
    total, means = torch.zeros((), device=job.device), dict[str, Tensor]()
    for place, part in enumerate(parts):
        share = len(part) / len(shown)
        with _unsynced(job, last=place + 1 == len(parts)):
            loss, stats = _backward(job, part, share)
        total = total + loss
        for name, value in stats.items():
            means[name] = means.get(name, 0.0) + value * share
    return total, means


def _backward(job: Job, shown: Shown, share: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradients of ``share`` of the loss; return it, and means of what the model tells."""
    loss, output = forward(job, job.model, shown)
    if share != 1:
        loss = loss * share
    job.scaler.scale(loss).backward()
    stats = {name: value.detach().float().mean() for name, value in output.stats.items()}
    return loss.detach().float(), stats


def forward(job: Job, model: nn.Module, shown: Shown) -> tuple[Tensor, Output]:
    """Return the loss of a batch, its penalty added, and what the model says of it."""
    with autocast(job.config, job.device):
        output = ask(model, shown)
        loss = job.task.loss(output, job.task.targets(shown))
        if output.penalty is not None:
            loss = loss + output.penalty
    return loss, output


def in_format(config: TrainConfig, shown: Shown) -> Shown:
    """Return a batch in the memory format of the model's weights."""
    if not config.channels_last:
        return shown
    return replace(shown, images=shown.images.to(memory_format=torch.channels_last))


def _unsynced(job: Job, *, last: bool) -> Any:
    """Return a context in which gradients stay on this rank, but for the last part of a batch."""
    return nullcontext() if last or job.parallel is None else job.parallel.no_sync()


def autocast(config: TrainConfig, device: torch.device) -> Any:
    """Return the context of mixed precision that a run asks for."""
    kind = TYPES.get(config.amp)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def seed_all(seed: int, step: int, rank: int) -> None:
    """Set torch's random numbers (dropout, initial weights) for one step of one rank."""
    digest = sha256(f"{seed}/{step}/{rank}".encode()).digest()
    number = int.from_bytes(digest[:7], "big")
    # torch.manual_seed does the same, and 0.2 ms of looking for devices that are not there
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


def _stop(job: Job, progress: Progress) -> NoReturn:
    """Save, and end the training as it was told to."""
    save(job, progress)
    raise ResourceError("Stopped; a checkpoint was written. Go on with --resume.")


def _validate(job: Job, progress: Progress, told: Callable[[], bool]) -> None:
    """Score the validation set, where there is one; remember whether it is the best so far."""
    config, model = job.config, job.scored_model
    if distributed.agreed(told(), job.world):
        _stop(job, progress)
    distributed.level(model.buffers(), job.world)  # each rank's batch norm has seen other samples
    if (validate := job.validate) is None:
        return
    try:
        with _stopping(model, told, job.world):
            metrics = dict(validate(model))
    except _StoppedError:
        _stop(job, progress)
    value = metrics.get(config.monitor)
    if value is None:
        known = ", ".join(sorted(metrics))
        raise ConfigError(f"train.monitor {config.monitor!r} is not among the metrics: {known}.")
    better = progress.best is None or not math.isfinite(progress.best)
    if progress.best is not None and not better:
        lower = lower_is_better(config.monitor)
        better = value < progress.best if lower else value > progress.best
    if better:
        progress.best, progress.best_step, progress.worse = value, progress.step, 0
    else:
        progress.worse += 1
    line = {name: getattr(progress, name) for name in ("step", "epoch", "position")}
    job.watcher.validated(
        {**line, "validation": metrics, "monitor": config.monitor, "best": better}
    )
    if config.patience and progress.worse >= config.patience:
        _run_out(job, progress)


def _run_out(job: Job, progress: Progress) -> None:
    """End the training whose patience is at an end, and say so where it would have gone on."""
    progress.ended = True
    if progress.step < job.total_steps:
        times = "1 validation" if progress.worse == 1 else f"{progress.worse} validations"
        job.watcher.warn(
            f"Stopped after epoch {progress.epoch}: no better {job.config.monitor} for {times}."
        )


def save(job: Job, progress: Progress) -> None:
    """Write a checkpoint; all ranks come here, the first one writes.

    Raises:
        DivergedError: a weight is no number; the checkpoints before stay as they are.
    """
    # the loss is that of the weights before the step: it may be a number when these are none
    good = torch.stack([value.isfinite().all() for value in job.bare.parameters()]).all()
    if not good:
        raise DivergedError(f"Weights of step {progress.step} are no numbers. {advice(job.folder)}")
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


@torch.no_grad()  # not inference_mode: a model may look at its own Jacobian
def predict(
    model: nn.Module,
    batches: Iterator[Shown],
    context: Callable[[], Any] = nullcontext,
) -> Iterator[tuple[Shown, Output]]:
    """Yield each batch with the model's output.

    Args:
        model: On its device; put into evaluation mode.
        batches: Ready for the model.
        context: Mixed precision.
    """
    model.eval()
    for shown in batches:
        with context():
            output = ask(model, shown)
        yield shown, output


class _StoppedError(Exception):
    """Leaves a validation."""


@contextmanager
def _stopping(model: nn.Module, told: Callable[[], bool], world: World) -> Iterator[None]:
    """Leave a validation before the next batch once a process that is alone is told to stop.

    Several would have to agree before every batch, and have not all as many: they stop after it.
    """

    def look(*_: Any) -> None:
        if world.size == 1 and told():
            raise _StoppedError

    handle = model.register_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()
