"""Everything about a run that can be refused, looked at before anything is written."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import evaluate, measures, metrics, monitors, optim, scores, setup, trainer
from mammotrain.config import RunConfig
from mammotrain.data.shards import Table
from mammotrain.data.splits import Side
from mammotrain.distributed import World
from mammotrain.evaluate import Scored
from mammotrain.setup import Setup


def samples(config: RunConfig, table: Table, side: Side, world: World) -> Setup:
    """Return what a run is made of, its samples looked at: roles, labels, sampling, sizes, members.

    Raises:
        ConfigError: a setting does not suit the data.
        DamageError: a group is on two sides, or a picture is damaged.
    """
    trainer.check(config.train, world)
    made = setup.prepare(config, table, side, world)
    made.loader(made.taught, training=True)
    for rows in (made.roles.validate, *made.roles.tables.values()):
        if rows.size:
            made.loader(rows, training=False)
    _check_level(made)
    return made


def rehearse(config: RunConfig, table: Table, side: Side, world: World) -> tuple[Setup, nn.Module]:
    """Return what a run is made of, and its model with initial weights; nothing is written.

    Raises:
        ConfigError: a setting does not suit the data or the model, or there is no such metric to
            monitor.
        DamageError: as ``samples`` does.
    """
    with naming_sources(config, table):
        made = samples(config, table, side, world)
    model = made.model()
    optim.optimiser(model, config.train)
    _check_monitor(made, model)
    return made, model


def validation(
    made: Setup, model: nn.Module, rows: NDArray[np.int64]
) -> tuple[Scored, Mapping[str, float]]:
    """Return what a model says of some samples, and the metrics that can be monitored."""
    found = evaluate.score(made, model, rows)
    values = monitors.of_images(found.scores)
    asked = monitors.measure(found.scores, made.config.train.monitor)
    measured = measures.values(found.measures)
    return found, {"loss": found.loss, **values, **measured, **found.stats, **asked}


@contextmanager
def naming_sources(config: RunConfig, table: Table) -> Iterator[None]:
    """Say with what is refused when the shards are of another source than the recipe is made for.

    Raises:
        ConfigError: what was refused, with that.
    """
    sources = sorted({str(each["source"]) for each in table.summaries})
    try:
        yield
    except ConfigError as error:
        if sources == [config.dataset]:
            raise
        raise ConfigError(
            f"{error} Recipe {config.recipe} is made for {config.dataset or 'no source by name'}; "
            f"these shards are of {' and '.join(sources)}."
        ) from None


def _check_monitor(made: Setup, model: nn.Module) -> None:
    """Refuse a metric that no validation will have; raises ConfigError."""
    name, classes = made.config.train.monitor, len(made.task.score_names)
    undecided = metrics.THRESHOLDED if classes == 2 else set()
    known = {"loss", *monitors.names(classes)}
    if name in known:
        return
    some = made.roles.validate if made.roles.validate.size else made.roles.train
    # a task's measures and what a model tells are known once it has seen a picture
    _, found = validation(made, model, some[: made.world.size])
    known |= set(found) - undecided
    if name in known:
        return
    why = f"there is no such metric.{plugins.suggest(name, sorted(known))}"
    if instead := monitors.undecided(name, classes):
        why = (
            "it needs a threshold, which is chosen when training is over. "
            f"train.monitor={instead} is of the best decisions on the validation samples."
        )
    raise ConfigError(f"train.monitor {name!r}: {why} Known: {monitors.listed(known)}.")


def _check_level(made: Setup) -> None:
    """Refuse a metric of a level that the validation samples do not have; raises ConfigError."""
    name, names, rows = made.config.train.monitor, made.task.score_names, made.roles.validate
    values = np.full((len(rows), len(names)), 1 / len(names))
    found = scores.from_columns(made.columns, rows, made.task.classes[rows], values, names)
    if reason := monitors.why_not(found, name) if len(rows) else "":
        raise ConfigError(f"train.monitor {name!r}: of the validation samples {reason}.")
