"""Everything about a run that can be refused, looked at before anything is written."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import evaluate, measures, metrics, optim, setup, trainer
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
    known = found.scores.labelled()
    values = metrics.point(known.label, known.values, None)
    if "macro_auroc" in values:  # what a recipe's monitor `auroc` means with several classes
        values["auroc"] = values["macro_auroc"]
    told = {"loss": found.loss, **values, **measures.values(found.measures), **found.stats}
    return found, told


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
    known = {"loss", "auroc", *metrics.names(classes)} - undecided
    if name in known:
        return
    some = made.roles.validate if made.roles.validate.size else made.roles.train
    # a task's measures and what a model tells are known once it has seen a picture
    _, found = validation(made, model, some[: made.world.size])
    known |= set(found) - undecided
    if name in known:
        return
    why = "there is no such metric."
    if name in undecided:
        why = "it needs a threshold, which is chosen when training is over."
    raise ConfigError(
        f"train.monitor {name!r}: {why}{plugins.suggest(name, sorted(known))} "
        f"Known: {', '.join(sorted(known))}."
    )
