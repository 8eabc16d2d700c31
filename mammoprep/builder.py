"""The whole build: table, plan, lock, resume, run, finish."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mammoprep import (
    engine,
    finish,
    kinds,
    manifest,
    patches,
    plan,
    private,
    quotas,
    splits,
    state,
    survey,
)
from mammoprep.config import BuildConfig, Settings, allowed_failures, difference
from mammoprep.core import plugins
from mammoprep.core.errors import EXIT_FAILURES, EXIT_OK, ConfigError
from mammoprep.core.schema import FORMAT_VERSION, Record
from mammoprep.core.tree import Tree
from mammoprep.inputs import Inputs, count_warnings, load_source, read_inputs, what_is_there
from mammoprep.run import Run, is_done
from mammoprep.worker import COMMAND, Child

ABSENT_SHOWN = 3
LOOKAHEAD = 7  # with the record itself a GPU's batch of 8: 0.4 GB of the largest pictures


class Watcher:
    """What a build tells while it works; this one says nothing."""

    def warn(self, message: str) -> None:
        """Take one line for the user."""

    def survey(self, done: int, total: int) -> None:
        """Take how many of the files to be seen before planning were seen; first 0."""

    def start(self, total: int, kept: int) -> None:
        """Take the number of inputs to do and of inputs in shards that were kept."""

    def step(self, code: str | None) -> None:
        """Take one finished input: its failure code, or None when it was built."""

    def stop(self) -> None:
        """Take the end of the work, also when it ends early."""


@dataclass(frozen=True)
class Result:
    """What a finished build returns.

    Attributes:
        out: The dataset's folder.
        summary: The content of dataset.json.
        local: The content of build.json.
        exit_code: 0, or 3 when more inputs failed than allowed.
    """

    out: Path
    summary: dict[str, Any]
    local: dict[str, Any]
    exit_code: int


def build(
    config: BuildConfig, watcher: Watcher | None = None, command: tuple[str, ...] = COMMAND
) -> Result:
    """Build, resume, repair or extend a dataset: all four are this one function.

    Args:
        config: What to build, from where, to where.
        watcher: Is told about warnings and progress.
        command: How to start a child process.

    Raises:
        ConfigError: options, table or output folder are wrong; nothing was done.
        ResourceError: interrupted, disk full, or the folder is in use; run again to go on.
    """
    watcher = watcher or Watcher()
    started = time.monotonic()
    state.check_is_output(config.out)
    settings = resolve(config)
    settings, inputs = _chosen(settings, _read(config, settings))
    known = splits.read_split_file(config.split_file) if config.split_file else None
    planned = _planned(settings, inputs, known, settled=not survey.is_needed(config.source))
    for line in _beforehand(config, inputs, planned):
        watcher.warn(line)
    with state.output_errors(config.out), state.hold(config.out) as output:
        claim(output, config, settings)
        output.prepare_folders()
        job = survey.Job(config, settings, inputs, output, command, watcher.survey)
        inputs, found = survey.settle(job)
        if inputs is not job.inputs:
            planned = _planned(settings, inputs, known, settled=True)
        private.write_id_map(config.id_map, inputs.records)
        for line in (*found, *planned.warnings):
            watcher.warn(line)
        running = time.monotonic()
        todo, device = _run(_Job(config, settings, inputs, planned, output, watcher, command))
        local = _local(config, planned, todo, time.monotonic() - running)
        local["device"] = {"asked": config.device, **device}
        summary = finish.finish(config.source, settings, inputs, planned, output)
        local["seconds_in_all"] = round(time.monotonic() - started, 3)
        local["stamps"] = {**_known_stamps(output), **finish.collect_stamps(output)}
        finish.publish(output, summary, local)
    for line in _afterwards(planned, summary, inputs):
        watcher.warn(line)
    failed = sum(summary["counts"]["failed"].values())
    allowed = allowed_failures(config.max_failures, planned.inputs)
    code = EXIT_FAILURES if failed > allowed else EXIT_OK
    return Result(config.out, summary, local, code)


def _planned(
    settings: Settings, inputs: Inputs, known: dict[str, str] | None, *, settled: bool
) -> plan.Plan:
    """Return the plan; ``settled`` says that no survey will change the groups any more."""
    if settled:
        splits.check_known(known or {}, inputs.records)
    return plan.make(inputs.records, inputs.sizes, settings, known)


def _beforehand(config: BuildConfig, inputs: Inputs, planned: plan.Plan) -> list[str]:
    """Return what a user should know before anything is done; raise ConfigError to do nothing."""
    _check_present(config, inputs, planned)
    return [*private.warnings(config), *count_warnings(config.source, inputs)]


def _check_present(config: BuildConfig, inputs: Inputs, planned: plan.Plan) -> None:
    """Refuse to begin where most files are absent and the user has not said what that means.

    Raises:
        ConfigError: more than half are; with what was looked for, and what is there.
    """
    if config.settings.missing:
        return
    asked = [item for shard in planned.shards if not shard.augmented for item in shard.inputs]
    absent = {item.record.name for item in asked if item.size is None}
    if 2 * len(absent) <= len(asked):
        _check_masks(config, inputs, [item.record for item in asked if item.size is not None])
        return
    names = [record.name for record in inputs.records if record.name in absent]
    raise ConfigError(
        f"{len(absent):,} of {len(asked):,} images that the table names are not in {config.input}, "
        f"{_such_as(inputs.tree, names)} If the folder and the paths are "
        "right, --missing skip builds what is there; --missing fail counts each absent image as a "
        "failure."
    )


def _such_as(tree: Tree, absent: Sequence[str]) -> str:
    """Return the first absent names and what is in their place, for a message."""
    shown = absent[:ABSENT_SHOWN]
    cased = [name for name in shown if tree.exists_in_other_case(name)]
    case = f" The name of {cased[0]} differs in case only from a file there." if cased else ""
    return f"such as {', '.join(shown)}. {what_is_there(tree, absent[0])}{case}"


def _check_masks(config: BuildConfig, inputs: Inputs, records: Sequence[Record]) -> None:
    """Refuse to begin where images are there and most of their mask files are not.

    Raises:
        ConfigError: more than half are absent; with what was looked for, and what is there.
    """
    asked = sorted({name for record in records for name in record.files[1:]})
    absent = [name for name in asked if not inputs.tree.exists(name)]
    if 2 * len(absent) > len(asked):
        less = ", --columns mask= builds without masks" if config.source == "table" else ""
        raise ConfigError(
            f"{len(absent):,} of {len(asked):,} mask files of images that are there are not in "
            f"{config.input}, {_such_as(inputs.tree, absent)} If the folder and the paths are "
            f"right{less}, --missing fail counts each image without "
            "its mask as a failure (mask_missing)."
        )


def _afterwards(planned: plan.Plan, summary: dict[str, Any], inputs: Inputs) -> list[str]:
    """Return what a user should know of a finished build, and was not told before it."""
    lines = [line for line in summary["notices"] if line not in inputs.remarks]
    if not planned.shards:
        lines.append("Nothing was left to build: a rule leaves out every input; see the counts.")
    asked = sum(i.tiles for shard in planned.shards if not shard.augmented for i in shard.inputs)
    made = summary["counts"].get("tiles", 0)
    if made < asked:
        lines.append(
            f"{asked:,} background tiles were asked for and {made:,} had room in lesion-free "
            "tissue. A smaller --roi or --roi-shrink makes room for more."
        )
    return lines


def resolve(config: BuildConfig) -> Settings:
    """Return the settings with the source's own defaults filled in.

    Raises:
        ConfigError: unknown source, target or split file.
    """
    card = load_source(config.source)[1]
    settings = config.settings
    targets = patches.TARGETS if settings.roi else card.targets
    if settings.target not in ("", *targets):
        known = ", ".join(sorted(targets))
        what = "--roi" if settings.roi else f"source {config.source}"
        raise ConfigError(f"--target {settings.target!r}: {what} has the targets {known}.")
    digest = None
    if config.split_file is not None:
        if not config.split_file.is_file():
            raise ConfigError(f"--split-file {config.split_file} does not exist.")
        digest = state.hash_file(config.split_file)[1]
    own_table(config)
    key = private.check_value(private.own_key(config).get("secret", ""))
    target = settings.target or ("" if settings.roi else card.target)
    missing = settings.missing or "fail"
    return replace(settings, target=target, split_file=digest, key_file=key, missing=missing)


def _read(config: BuildConfig, settings: Settings) -> Inputs:
    target = "" if settings.roi else settings.target
    own = {**own_table(config), **private.own_key(config)}
    inputs = read_inputs(config.source, config.input, target, own)
    kinds.check(settings, inputs.records, inputs.tree)
    return inputs


def _chosen(settings: Settings, inputs: Inputs) -> tuple[Settings, Inputs]:
    """Return both with what only the table decides: the classes of patches, what to balance."""
    if settings.roi is not None:
        card, records = patches.settle(inputs.card, inputs.records, settings.target)
        settings = replace(settings, target=card.target)
        inputs = replace(inputs, card=card, records=records)
    if settings.mask_values != "instances" and not any(r.masks for r in inputs.records):
        raise ConfigError("--mask-values: no image of this dataset has a mask file; leave it out.")
    return quotas.check_balance(settings, inputs.card, inputs.records), inputs


def own_table(config: BuildConfig) -> dict[str, Any]:
    """Return what the user says about a table of their own, as fields of the source's card.

    The table's content is no setting: each of its rows is part of the plan, so that a row more or
    a mended one builds its own shard again and no other.

    Raises:
        ConfigError: the source has a table of its own, or ``--columns`` names an unknown meaning.
    """
    card, settings = load_source(config.source)[1], config.settings
    given = {
        "--table": config.table,
        "--columns": settings.columns,
        "--label-names": settings.label_names,
        "--label-map": settings.label_map,
        "--encoding": settings.encoding,
        "--sheet": settings.sheet,
        "--header-row": settings.header_row,
    }
    if not card.columns:
        if wrong := [option for option, value in given.items() if value]:
            raise ConfigError(f"{wrong[0]} is for --source table; {config.source} has its own.")
        return {}
    for meaning in settings.columns:
        if meaning not in card.columns:
            hint = plugins.suggest(meaning, list(card.columns))
            known = ", ".join(card.columns)
            raise ConfigError(f"--columns: unknown meaning {meaning!r}.{hint} Known: {known}.")
    return {
        "table": str(config.table or ""),
        "columns": {**card.columns, **settings.columns},
        "targets": {card.target: list(settings.label_names)},
        "encoding": settings.encoding,
        "sheet": settings.sheet,
        "header_row": settings.header_row,
        "label_map": settings.label_map,
    }


def claim(output: state.Output, config: BuildConfig, settings: Settings) -> None:
    """Check that the folder holds this same build, or make it hold it.

    Raises:
        ConfigError: it holds a build with other settings or versions; the message lists them.
    """
    if config.fresh:
        output.clear()
    path = output.root / state.STATE / "settings.json"
    mine: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "source": config.source,
        "settings": settings.to_json(),
        "versions": manifest.versions(),
    }
    theirs = state.read_json(path)
    if theirs is not None:
        changed = [
            *difference({"source": theirs["source"]}, {"source": mine["source"]}),
            *difference(theirs["settings"], mine["settings"]),
            *difference(theirs["versions"], mine["versions"]),
        ]
        if changed or theirs["format_version"] != FORMAT_VERSION:
            raise ConfigError(
                f"{output.root} holds a build with other settings: {'; '.join(changed)}. "
                "Give another --out, or --fresh to start over there."
            )
    output.write(path, state.to_bytes(mine))


@dataclass(frozen=True)
class _Job:
    """What a locked and planned build consists of."""

    config: BuildConfig
    settings: Settings
    inputs: Inputs
    plan: plan.Plan
    output: state.Output
    watcher: Watcher
    command: tuple[str, ...]


def _run(job: _Job) -> tuple[list[plan.Shard], dict[str, int]]:
    """Build what is not there as planned; return what was built, and what a GPU did for it."""
    config, settings, inputs = job.config, job.settings, job.inputs
    run = Run(
        job.output,
        inputs.tree,
        manifest.settings_hash(config.source, settings),
        report=job.watcher.step,
        lookahead=0 if config.device == "cpu" else LOOKAHEAD,
        notice=job.watcher.warn,
        secret=inputs.card.secret,
    )
    todo = _outstanding(job.plan, run, config)
    if todo:
        (job.output.root / "dataset.json").unlink(missing_ok=True)
    _remove_strays(job.plan, job.output)
    total = sum(len(shard.inputs) for shard in todo)
    kept = sum(len(shard.inputs) for shard in job.plan.shards) - total
    job.watcher.start(total, kept)
    hello = {
        "settings": settings.to_json(),
        "label_names": inputs.card.targets[settings.target],
        "locator": inputs.tree.locator(),
        "device": config.device,
        "colour": inputs.card.colour,
    }
    workers = min(config.workers, len(todo))
    children = [Child(hello, config.limits, run.stop, job.command) for _ in range(workers)]
    try:
        engine.build_all(todo, run, children)
    finally:
        job.watcher.stop()
    return todo, dict(sorted(run.device.items()))


def _outstanding(planned: plan.Plan, run: Run, config: BuildConfig) -> list[plan.Shard]:
    """Return the shards that are not on disk exactly as planned."""
    stamps = {**_known_stamps(run.output), **finish.collect_stamps(run.output)}

    def check(shard: plan.Shard) -> bool:
        stamp = stamps.get(shard.name)
        return is_done(shard, run, known_stamp=stamp, retry_failed=config.retry_failed)

    done = engine.check_all(planned.shards, check, config.workers)
    return [shard for shard, is_there in zip(planned.shards, done, strict=True) if not is_there]


def _known_stamps(output: state.Output) -> dict[str, str]:
    local = state.read_json(output.root / "build.json")
    return dict(local.get("stamps", {})) if isinstance(local, dict) else {}


def _remove_strays(planned: plan.Plan, output: state.Output) -> None:
    """Remove shards and sidecars that the plan no longer has."""
    names = {shard.name for shard in planned.shards}
    for folder in (output.shards, output.root / state.STATE / "shards"):
        for path in folder.iterdir():
            if path.stem not in names:
                (output.root / "dataset.json").unlink(missing_ok=True)
                path.unlink()


def _local(
    config: BuildConfig, planned: plan.Plan, todo: list[plan.Shard], seconds: float
) -> dict[str, Any]:
    inputs = sum(len(shard.inputs) for shard in todo)
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "workers": config.workers,
        "input": None if config.key_file else str(config.input),
        "seconds": round(seconds, 3),
        "images_per_second": round(inputs / seconds, 3),
        "inputs_done": inputs,
        "shards_built": [shard.name for shard in todo],
        "shards_kept": len(planned.shards) - len(todo),
    }
