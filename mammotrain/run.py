"""One run: a recipe and shards -> a folder with checkpoints, scores and a report."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mammoprep.core.errors import ConfigError
from mammotrain import (
    checkpoint,
    collapse,
    distributed,
    evaluate,
    folder,
    interruption,
    lengths,
    optim,
    placement,
    planned,
    pretrained,
    priors,
    rehearsal,
    same_pictures,
    setup,
    trackers,
    trainer,
)
from mammotrain.checkpoint import Checkpoint
from mammotrain.config import DEMO as DATA_DEMO
from mammotrain.config import RunConfig
from mammotrain.data import demo
from mammotrain.data.augment import Where
from mammotrain.data.loader import Loader
from mammotrain.data.splits import Side
from mammotrain.distributed import World
from mammotrain.evaluate import Scored, Terms
from mammotrain.screening import Asked
from mammotrain.setup import Setup
from mammotrain.trainer import Job, Progress
from mammotrain.watching import Watcher

SHARDS, DEMO = Path("data/shards"), Path("data/demo")
SCORING = "Stopped while scoring; training is saved. Go on with --resume."


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Attributes:
        config: The recipe.
        data: Datasets, or ``demo``; empty for ``data/shards/NAME`` of the recipe's dataset.
        out: The run's folder.
        side: Which samples are scored.
        resume: Go on in ``out``.
        device: ``auto``, ``cpu`` or ``cuda``.
        cache: Where reduced-size copies lie; None for ``out``.
        epochs_from: Of a run that leaves nothing out: whose epochs; see ``lengths.planned``.
        prevalence: Level -> share of positives among those screened, as somebody stated it.
    """

    config: RunConfig
    data: tuple[str, ...]
    out: Path
    side: Side = Side()  # noqa: RUF009 - frozen
    resume: bool = False
    device: str = "auto"
    cache: Path | None = None
    epochs_from: str = ""
    prevalence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """What is said of one table of samples.

    Attributes:
        scored: What the model says of them, corrected for the prevalence.
        report: The content of a report on them.
    """

    scored: Scored
    report: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        setup: What it was made of.
        tables: Name -> what was scored, the headline first: see ``Roles.tables``.
        report: The content of report.json.
    """

    setup: Setup
    tables: Mapping[str, Told]
    report: dict[str, Any]


class Logging(Watcher):
    """Writes log.jsonl, and passes everything on."""

    def __init__(self, log: folder.Log, inner: Watcher) -> None:
        """Remember where and to whom."""
        self._log, self._inner = log, inner

    def start(self, step: int, total: int, batch_size: int) -> None:
        """Pass it on."""
        self._inner.start(step, total, batch_size)

    def step(self, line: dict[str, Any]) -> None:
        """Log a step."""
        self._log.add(line)
        self._inner.step(line)

    def validated(self, line: dict[str, Any]) -> None:
        """Log a validation."""
        found = {n: v if isfinite(v) else None for n, v in line["validation"].items()}
        self._log.add({**line, "validation": found})
        self._inner.validated(line)

    def count(self, what: str, done: int, total: int) -> None:
        """Pass it on."""
        self._inner.count(what, done, total)

    def warn(self, message: str) -> None:
        """Pass a line on."""
        self._inner.warn(message)


def run(request: Request, watcher: Watcher) -> dict[str, Any]:
    """Train, score, report; return the content of report.json.

    Raises:
        ConfigError: a setting, the data or the folder is wrong; nothing was done.
        DamageError: damaged shards, or a group on two sides.
        DivergedError: the loss became no number.
        ResourceError: told to stop (``resume`` goes on), no space, or the folder is in use.
    """
    with distributed.joined(request.device) as world:
        return run_in(request, watcher, world).report


def run_in(request: Request, watcher: Watcher, world: World) -> Outcome:
    """Do what ``run`` does, as one of the processes that train together."""
    if request.side.everything:
        asked, resume = request.epochs_from, request.resume
        config = lengths.planned(request.config, request.out, asked, watcher, resume=resume)
        request = replace(request, config=config)
    with _at_work(request, watcher, world) as told:
        made, job, _ = _trained(request, told, world)
        with interruption.ending(SCORING):
            return _finish(made, job, request)


def train(request: Request, watcher: Watcher) -> Progress:
    """Train and validate, and score nothing; raises what ``run`` raises."""
    with (
        distributed.joined(request.device) as world,
        _at_work(request, watcher, world) as told,
    ):
        return _trained(request, told, world)[2]


def check_validates(made: Setup) -> None:
    """Refuse samples of which none validate where something is to be chosen by them.

    Raises:
        ConfigError: none do, with the reason and the way out.
    """
    if not made.roles.validate.size:
        raise ConfigError(
            f"Nothing validates, so there is nothing to choose by: {made.roles.fixed}. "
            "--set train.validate=next-fold validates on the fold after the one that is scored."
        )


@contextmanager
def _at_work(request: Request, watcher: Watcher, world: World) -> Iterator[Watcher]:
    """Hold the run's folder, and lend who is to be told."""
    if not world.leads:
        yield Watcher()
        return
    table = {**request.config.to_table(), **request.side.to_table()}
    trackers.check(request.config.train.track)
    with (
        folder.held(request.out, resume=request.resume),
        trackers.opened(request.config.train.track, request.out, table, watcher) as told,
        closing(folder.Log(request.out)) as log,
    ):
        yield Logging(log, told)


def find_data(request: Request, tell: Watcher) -> tuple[str, ...]:
    """Return the folders of the shards; ``demo`` makes its own.

    Raises:
        ConfigError: no shards, with how to build them.
    """
    name = request.config.dataset
    if request.data == DATA_DEMO:
        return (str(demo.provide(request.config.demo, DEMO / request.config.recipe, tell.warn)),)
    if request.data:
        return request.data
    if (SHARDS / name / "dataset.json").is_file():
        return (str(SHARDS / name),)
    width, height = request.config.data.size or (728, 1456)
    raise ConfigError(
        f"No shards in {SHARDS / name}. Build them with: mammoprep build --source {name} --size "
        f"{width}x{height}; or give --data DIR; or --data demo, which trains on phantoms."
    )


def _trained(request: Request, watcher: Watcher, world: World) -> tuple[Setup, Job, Progress]:
    """Train to the end, from the newest checkpoint where the request says so."""
    config, out = request.config, request.out
    data = find_data(request, watcher) if world.leads else ()
    data = distributed.gathered(data, world)[0]
    table = setup.open_shards(config, data, watcher.warn)
    made, model = rehearsal.rehearse(config, table, request.side, world)
    saved = _saved(request, watcher)
    where = config.train.pretrained if saved is None else "none"  # a checkpoint has all weights
    pretrained.load(model, where, watcher.warn, fallback=config.train.pretrained_fallback)
    same_pictures.guard(made, request.cache or out / "cache", watcher, out)
    made.cache = (request.cache or out / "cache") if config.data.cache else None
    made.copying = partial(watcher.count, "reduced-size copies")
    loader = made.loader(made.taught, training=True)
    made.where = _augmented_where(made, model, request)
    if world.leads:
        _say_longer(request, watcher)
        _describe(made, request)
    job = _job(made, model, loader, out, watcher)
    progress = _resumed(job, made, saved, watcher)
    if not progress.step:
        for line in planned.lines(made, job):
            watcher.warn(line)
    if world.leads:
        folder.cut_log(out, progress.step)
    if not progress.ended:
        trainer.fit(job, progress)
    return made, job, progress


def _say_longer(request: Request, watcher: Watcher) -> None:
    """Say where a run goes on for another number of steps than its learning rates were made for."""
    then = folder.read_config(request.out).get("train", {}) if request.resume else {}
    now = request.config.train
    changed = then and (then["epochs"], then["max_steps"]) != (now.epochs, now.max_steps)
    if changed and (now.warmup or now.schedule != "constant"):
        watcher.warn(
            "The run began with another number of steps: learning rates follow the new one from "
            "here on, so the losses are not those of a run that had it from the beginning."
        )


def _augmented_where(made: Setup, model: nn.Module, request: Request) -> Where:
    """Return where pictures are augmented: as the run began, or as is measured now."""
    if made.config.data.augment_on != "auto":
        return made.where
    found = made.where
    if made.world.leads:
        known = folder.read_config(request.out) if request.resume else {}
        found = known["data"]["augment_on"] if known else placement.settle(made, model)
    chosen: Where = distributed.gathered(found, made.world)[0]
    return chosen


def _describe(made: Setup, request: Request) -> None:
    """Write what is run, where, and who is on which side."""
    table = {**request.config.to_table(), **request.side.to_table()}
    table["data"]["augment_on"] = made.where
    folder.write_config(request.out, table, resume=request.resume)
    folder.write_env(request.out, made.world.device, made.world.size)
    folder.write_groups(request.out, made.columns, made.roles)


def _job(made: Setup, model: nn.Module, loader: Loader, out: Path, watcher: Watcher) -> Job:
    config = made.config.train
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Job(
        model=model,
        task=made.task,
        optimiser=optim.optimiser(model, config),
        average=optim.average(model, config),
        batches=lambda epoch, position: made.stream(loader, epoch, position),
        steps_per_epoch=len(loader),
        prepare=made.shown,
        validate=partial(_validate, made, collapse.Warner(watcher.warn))
        if made.roles.validate.size
        else None,
        config=config,
        world=made.world,
        folder=out / folder.CHECKPOINTS,
        watcher=watcher,
        about=made.about(),
    )


def _validate(made: Setup, warner: collapse.Warner, model: nn.Module) -> Mapping[str, float]:
    """Return the metrics of the validation samples, and the means of what the model tells."""
    found, values = rehearsal.validation(made, model, made.roles.validate)
    warner.look(found.scores, found.measures)
    return values


def _saved(request: Request, watcher: Watcher) -> Checkpoint | None:
    """Return the newest whole checkpoint of a run that goes on."""
    if not request.resume:
        return None
    saved, damaged = checkpoint.newest(request.out / folder.CHECKPOINTS)
    for line in damaged:
        watcher.warn(line)
    return saved


def _resumed(job: Job, made: Setup, saved: Checkpoint | None, watcher: Watcher) -> Progress:
    """Return where to begin: at 0, or where a checkpoint stands, which is put into the job."""
    if saved is None:
        return Progress()
    setup.check_same_data(saved.state["about"], made)
    progress = trainer.restore(job, saved)
    if saved.state["threads"] != torch.get_num_threads():
        watcher.warn(
            f"The run had {saved.state['threads']} threads, now there are "
            f"{torch.get_num_threads()}: losses will differ in their last bits. "
            "OMP_NUM_THREADS sets their number."
        )
    progress.ended &= progress.step >= job.total_steps or bool(progress.worse)
    return progress


def _finish(made: Setup, job: Job, request: Request) -> Outcome:
    """Score with the best weights, each table apart, and write what a person looks at."""
    trainer.restore(job, checkpoint.best(job.folder))
    model, prior = job.scored_model, evaluate.prior_of(made)
    validation = evaluate.none_of(made)
    if made.roles.validate.size:
        validation = evaluate.score(made, model, made.roles.validate).scores
    validation = priors.corrected(validation, prior)
    terms = Terms("", prior, Asked(request.prevalence))
    tables = {
        name: Told(scored, evaluate.report(made, scored, validation, replace(terms, split=name)))
        for name, scored in evaluate.tables_of(made, model, prior)
    }
    told = {name: each.report for name, each in tables.items()}
    found = evaluate.together(made, told, prior)
    if made.world.leads:
        evaluate.write_all(request.out, found, {n: t.scored for n, t in tables.items()}, made)
    distributed.wait(made.world)
    return Outcome(made, tables, found)
