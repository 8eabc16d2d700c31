"""One run: a recipe and shards -> a folder with checkpoints, scores and a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mammoprep.core.errors import ConfigError
from mammotrain import checkpoint, distributed, evaluate, folder, metrics, optim, setup, trainer
from mammotrain.config import RunConfig
from mammotrain.data import demo
from mammotrain.distributed import World
from mammotrain.report.page import render
from mammotrain.setup import Setup
from mammotrain.trainer import Job, Progress, Watcher

SHARDS, DEMO = Path("data/shards"), Path("data/demo")
SHOWN = ("auroc", "average_precision", "macro_auroc", "f1", "macro_f1", "accuracy")


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Attributes:
        config: The recipe.
        data: Datasets, or ``demo``; empty for ``data/shards/NAME`` of the recipe's dataset.
        out: The run's folder.
        fold: Which fold is scored.
        resume: Go on in ``out``.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    config: RunConfig
    data: tuple[str, ...]
    out: Path
    fold: int = 0
    resume: bool = False
    device: str = "auto"


class Logging(Watcher):
    """Writes log.jsonl, and passes everything on."""

    def __init__(self, out: Path, inner: Watcher) -> None:
        """Remember where and to whom."""
        self._out, self._inner = out, inner

    def start(self, step: int, total: int, batch_size: int) -> None:
        """Pass it on."""
        self._inner.start(step, total, batch_size)

    def step(self, line: dict[str, Any]) -> None:
        """Log a step."""
        folder.add_to_log(self._out, line)
        self._inner.step(line)

    def validated(self, line: dict[str, Any]) -> None:
        """Log a validation."""
        found = {n: v if isfinite(v) else None for n, v in line["validation"].items()}
        folder.add_to_log(self._out, {**line, "validation": found})
        self._inner.validated(line)

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
        if not world.leads:
            return _run(request, Watcher(), world)
        with folder.held(request.out, resume=request.resume):
            return _run(request, Logging(request.out, watcher), world)


def find_data(request: Request, tell: Watcher) -> tuple[str, ...]:
    """Return the folders of the shards; ``demo`` makes its own.

    Raises:
        ConfigError: no shards, with how to build them.
    """
    name = request.config.dataset
    if request.data == ("demo",):
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


def _run(request: Request, watcher: Watcher, world: World) -> dict[str, Any]:
    config, out = request.config, request.out
    data = find_data(request, watcher) if world.leads else ()
    data = distributed.gathered(data, world)[0]
    cache = out / "cache" if config.data.cache else None
    made = setup.prepare(config, data, request.fold, world, cache=cache, tell=watcher.warn)
    if world.leads:
        table = {**config.to_table(), "fold": request.fold}
        folder.write_config(out, table, resume=request.resume)
        folder.write_env(out, world.device, world.size)
    job = _job(made, out, watcher)
    progress = _resumed(job, made, out, request, watcher)
    if not progress.ended:
        trainer.fit(job, progress)
    return _finish(made, job, progress, out)


def _job(made: Setup, out: Path, watcher: Watcher) -> Job:
    config = made.config.train
    model = made.model()
    _pretrained(model, config.pretrained)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = made.loader(made.roles.train, training=True)
    return Job(
        model=model,
        task=made.task,
        optimiser=optim.optimiser(model, config),
        average=optim.average(model, config),
        batches=loader.epoch,
        steps_per_epoch=len(loader),
        prepare=made.images,
        validate=lambda scored: _validate(made, scored),
        config=config,
        world=made.world,
        folder=out / folder.CHECKPOINTS,
        watcher=watcher,
        about=made.about(),
    )


def _pretrained(model: nn.Module, where: str) -> None:
    """Load weights from a safetensors file, where a recipe names one.

    Raises:
        ConfigError: no such file, or it does not fit.
    """
    if where == "none":
        return
    if where == "timm":
        raise ConfigError(
            "train.pretrained = 'timm': this model has no weights there. Use a file, or 'none'."
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(where))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"train.pretrained: {where} cannot be read ({error}).") from None
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise ConfigError(f"train.pretrained: {where} does not fit the model: {first}") from None


def _validate(made: Setup, model: nn.Module) -> Mapping[str, float]:
    scored, loss = evaluate.score(made, model, made.roles.validate)
    known = scored.labelled()
    found = metrics.point(known.label, known.values, None)
    if "macro_auroc" in found:
        found["auroc"] = found["macro_auroc"]
    return {"loss": loss, **found}


def _resumed(job: Job, made: Setup, out: Path, request: Request, watcher: Watcher) -> Progress:
    """Return where to begin: at 0, or at the newest whole checkpoint."""
    saved, damaged = checkpoint.newest(job.folder) if request.resume else (None, [])
    for line in damaged:
        watcher.warn(line)
    if saved is None:
        progress = Progress()
    else:
        setup.check_same_data(saved.state["about"], made)
        progress = trainer.restore(job, saved)
        if saved.state["threads"] != torch.get_num_threads():
            watcher.warn(
                f"The run had {saved.state['threads']} threads, now there are "
                f"{torch.get_num_threads()}: losses will differ in their last bits. "
                "OMP_NUM_THREADS sets their number."
            )
        progress.ended &= progress.step >= job.total_steps or bool(progress.worse)
    if made.world.leads:
        folder.cut_log(out, progress.step)
    return progress


def _finish(made: Setup, job: Job, progress: Progress, out: Path) -> dict[str, Any]:
    """Score with the best weights, and write what a person looks at."""
    best = job.folder / f"{checkpoint.PREFIX}{progress.best_step or progress.step:08d}"
    saved = checkpoint.load(best)
    trainer.restore(job, saved)
    model = job.scored_model
    scored, _ = evaluate.score(made, model, made.roles.score)
    validation, _ = evaluate.score(made, model, made.roles.validate)
    found = evaluate.report(
        made, scored, validation, evaluate.prior_of(made), split=made.roles.name
    )
    if made.world.leads:
        evaluate.write(out, found, scored)
        page = render(found, folder.read_log(out), scored, lambda key: evaluate.picture(made, key))
        (out / "report.html").write_text(page, encoding="utf-8")
    distributed.wait(made.world)
    return found


def summary(report: Mapping[str, Any], out: Path) -> str:
    """Return what the command line prints at the end: scores, baselines, and where to look."""
    lines = [f"Scored {report['n']:,} samples of {report['groups']:,} groups ({report['split']})."]
    for name in SHOWN:
        if (own := report["metrics"].get(name)) is None or own["value"] is None:
            continue
        others = [
            f"{kind} {other['metrics'][name]['value']:.3f}"
            for kind, other in report["baselines"].items()
            if other.get("metrics", {}).get(name, {}).get("value") is not None
        ]
        low, high = own.get("ci95") or (None, None)
        interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
        lines.append(f"{name:<18}{own['value']:.3f}{interval}   beside: {', '.join(others) or '-'}")
    return "\n".join([*lines, f"Look at: {out / 'report.html'}"])
