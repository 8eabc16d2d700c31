"""Samples of which nobody knows the truth, as a run's own setup sees its samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import config as configs
from mammotrain import finished
from mammotrain.contracts import Task
from mammotrain.data import loader
from mammotrain.data.loader import Loader
from mammotrain.data.normalise import Normaliser
from mammotrain.data.shards import Table, difference
from mammotrain.data.splits import Roles
from mammotrain.distributed import World
from mammotrain.predicting.panel import Member
from mammotrain.setup import PREDICTED, Setup

Rows = NDArray[np.int64]


class Known(Mapping[str, NDArray[Any]]):
    """Columns of a table; one that it lacks is there, and unknown throughout."""

    def __init__(self, columns: Mapping[str, Any], count: int, hidden: tuple[str, ...]) -> None:
        """Take the columns of ``count`` samples; ``hidden`` ones count as unknown."""
        self._columns, self._hidden = columns, hidden
        self._unknown = np.full(count, None, object)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column, (n,) of plain values or None."""
        if name in self._hidden or name not in self._columns:
            return self._unknown
        found: NDArray[Any] = self._columns[name]
        return found

    def __iter__(self) -> Iterator[str]:
        """Return the names of the columns that are there."""
        return iter(self._columns)

    def __len__(self) -> int:
        """Return how many are there."""
        return len(self._columns)


class Asking(Setup):
    """A run's setup for samples that may lack labels and masks."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """What is known of every sample; the rest is unknown, and no error."""
        return known_of(self.table)

    def loader(self, rows: Rows, *, training: bool, workers: int | None = None) -> Loader:
        """Return the batches of some samples; without masks, which only the truth has."""
        data, train = self.config.data, self.config.train
        options = loader.Options(
            batch_size=train.batch_size,
            workers=data.workers if workers is None else workers,
            training=training,
            size=self.size,
            pin=self.world.device.type == "cuda",
            member=data.member,
        )
        return Loader(self.table, rows, options, labels=self.task.classes)


def known_of(table: Table, label_names: tuple[str, ...] | None = None) -> Known:
    """Return a table's columns; its ``label`` only where its classes have these names."""
    same = label_names is None or table.label_names == label_names
    return Known(table.columns, len(table), () if same else ("label", "label_name"))


def asking(member: Member, table: Table, rows: Rows, world: World) -> Asking:
    """Return what shows some samples of a table to a model; raises ConfigError as ``task_of``."""
    nobody = np.zeros(0, np.int64)
    task = task_of(member, known_of(table, names_of(member)))
    roles = Roles(nobody, nobody, rows, "all")
    fitted = Normaliser.from_json(member.about["normaliser"])
    return Asking(member.run.config, table, roles, task, fitted, world, None)


def task_of(member: Member, columns: Mapping[str, Any]) -> Task:
    """Return a member's task for samples that nothing is learned from.

    Raises:
        ConfigError: the run was made for other classes than its task says now.
    """
    config, about = member.run.config, member.about
    module = plugins.load(configs.TASKS, config.task_name, needs=("Config", "build"))
    nobody = np.zeros(0, np.int64)
    task: Task = module.build(config.task, columns, names_of(member), nobody)
    if tuple(task.score_names) != tuple(about["score_names"]):
        raise ConfigError(
            f"{member.run.place} was trained on the classes {', '.join(about['score_names'])}; its "
            f"task now has {', '.join(task.score_names)}."
        )
    return task


def check_prepared(member: Member, table: Table) -> None:
    """Refuse pictures that look otherwise than those that a member was trained on.

    Raises:
        ConfigError: they were prepared differently, with the difference, or are shown by masks of
            another kind.
    """
    finished.check_masks(member.run, member.about, table)
    then, now = dict(member.about["preparation"]), dict(table.preparation)
    then.pop(PREDICTED, None)
    del then["label_names"], now["label_names"]  # what somebody calls the classes is not looked at
    if changed := difference(then, now):
        raise ConfigError(
            f"The model was trained on shards that were prepared differently: {'; '.join(changed)} "
            "(then -> now). Build the shards as they were then."
        )


def names_of(member: Member) -> tuple[str, ...]:
    """Return the classes of ``label`` in the shards that a member was trained on."""
    return tuple(member.about["preparation"]["label_names"])


def live(member: Member, made: Setup) -> nn.Module:
    """Return a member's model with the weights that are scored, ready to be asked.

    Raises:
        ConfigError: the weights are of a model for other pictures.
    """
    model = made.model()
    try:
        model.load_state_dict(dict(member.weights))
    except RuntimeError:
        height, width, channels = made.input_shape()
        raise ConfigError(
            f"The weights of {member.run.place} do not fit {channels}-channel pictures of "
            f"{width} x {height}: it was trained on others."
        ) from None
    return model.eval()
