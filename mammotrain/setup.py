"""A RunConfig and shards -> data, task and model, checked before any work."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import config as configs
from mammotrain.config import RunConfig
from mammotrain.contracts import Batch
from mammotrain.data import augment, loader, normalise, splits
from mammotrain.data.augment import NONE, Augmentation
from mammotrain.data.shards import Table, difference, open_table
from mammotrain.data.splits import Roles
from mammotrain.distributed import World
from mammotrain.trainer import seed_all

Rows = NDArray[np.int64]
INITIAL = -1  # the "step" whose random numbers make the initial weights


@dataclass
class Setup:
    """Everything that a run is made of, but for the optimiser.

    Attributes:
        config: The recipe.
        table: The samples.
        roles: Who trains, validates, is scored.
        task: What is learned.
        labels: Class of every sample, -1 where unknown.
        normaliser: Fitted on the training samples.
        world: Who this process is.
        cache: Folder of reduced-size copies, or None.
    """

    config: RunConfig
    table: Table
    roles: Roles
    task: Any
    labels: Rows
    normaliser: normalise.Normaliser
    world: World
    cache: Path | None

    def __post_init__(self) -> None:
        """Set up what does not change from batch to batch."""
        everyone = np.concatenate([self.roles.train, self.roles.validate, self.roles.score])
        self.curves = self.normaliser.prepare(self.columns, everyone)
        self.policy = configs.build(
            Augmentation, self.config.data.augmentation, "data.augmentation"
        )
        self.where = augment.choose(self.config.data.augment_on, self.world.device)

    @property
    def columns(self) -> Mapping[str, Any]:
        """What is known of every sample, by name; see ``Table.columns``."""
        return self.table.columns

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Key -> place in the table."""
        return {key: row for row, key in enumerate(self.table.keys)}

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the model's input; None for that of the shards."""
        given = self.config.data.size
        return (given[0], given[1]) if given else None

    def loader(self, rows: Rows, *, training: bool) -> loader.Loader:
        """Return the batches of some samples."""
        data, train = self.config.data, self.config.train
        options = loader.Options(
            batch_size=train.batch_size,
            seed=train.seed,
            rank=self.world.rank,
            world=self.world.size,
            workers=data.workers,
            training=training,
            sampling=data.sampling if training else "natural",
            size=self.size,
            pin=self.world.device.type == "cuda",
            cache_dir=self.cache,
        )
        return loader.Loader(self.table, rows, options, labels=self.labels)

    def images(self, batch: Batch, epoch: int | None) -> Tensor:
        """Return a batch on the device: augmented in ``epoch``, plain where it is None."""
        height, width = batch.images.shape[-2:]
        out = None if self.size is None else (self.size[1], self.size[0])
        drawn = augment.draw(
            NONE if epoch is None else self.policy,
            seed=self.config.train.seed,
            epoch=epoch or 0,
            keys=batch.keys,
            size=(height, width),
            out=out,
        )
        curves = self.curves.curves(batch.rows)
        if self.where == "cpu":
            pictures, _ = augment.apply_cpu(batch.images.numpy(), None, drawn, curves=curves)
            return torch.from_numpy(pictures).to(self.world.device, non_blocking=True)
        there = batch.images.to(self.world.device, non_blocking=True)
        return augment.apply(there, None, drawn, curves=curves)[0]

    def plain(self, rows: Rows) -> Iterator[tuple[Tensor, Batch]]:
        """Yield this rank's batches of some samples, each sample once, nothing augmented."""
        for batch in self.loader(rows, training=False).epoch(0):
            yield self.images(batch, None), batch

    def model(self) -> nn.Module:
        """Return the model with its initial weights, on the device."""
        seed_all(self.config.train.seed, INITIAL, 0)
        module = plugins.load(configs.MODELS, self.config.model_name, needs=("Config", "build"))
        height, width, channels = self.input_shape()
        found: nn.Module = module.build(
            self.config.model, channels=channels, outputs=self.task.outputs, size=(height, width)
        )
        return found.to(self.world.device)

    def input_shape(self) -> tuple[int, int, int]:
        """Return (rows, columns, channels) of the model's input."""
        shape = self.loader(self.roles.score[:1], training=False).shape
        rows, columns = (self.size[1], self.size[0]) if self.size else (shape.rows, shape.columns)
        return rows, columns, shape.channels

    def about(self) -> dict[str, Any]:
        """Return what a checkpoint remembers of its data."""
        return {
            "preparation": self.table.preparation,
            "label_names": list(self.table.label_names),
            "score_names": list(self.task.score_names),
            "normaliser": self.normaliser.to_json(),
            "content": self.table.content,
        }


def prepare(
    config: RunConfig,
    data: tuple[str, ...],
    fold: int,
    world: World,
    *,
    cache: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Setup:
    """Open the shards and choose who trains, validates and is scored.

    Raises:
        ConfigError: a setting does not suit the data.
        DamageError: damaged shards, or a group on two sides.
    """
    bad = config.data.tolerate_bad_shards
    table = open_table(data, tolerate_bad_shards=bad)
    columns: Mapping[str, Any] = table.columns
    for shard, samples in table.lost.items():
        tell(f"{shard} is damaged: {samples:,} samples are left out.")
    module = plugins.load(configs.TASKS, config.task_name, needs=("Config", "build", "known"))
    known = module.known(columns, config.task)
    roles = splits.choose(_with_label(columns, known), fold)
    names = table.label_names
    task = module.build(config.task, columns, names, roles.train)
    normaliser = normalise.fit(config.data.normalise, columns, roles.train)
    return Setup(config, table, roles, task, task.classes, normaliser, world, cache)


def _with_label(columns: Mapping[str, Any], known: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what the choice of roles looks at; a sample counts when it has the target."""
    label = [0 if is_known else None for is_known in known]
    return {**{name: columns[name] for name in ("split", "group", "augmented")}, "label": label}


def check_same_data(about: Mapping[str, Any], setup: Setup) -> None:
    """Refuse to show a model what it was not trained for.

    Raises:
        ConfigError: the shards were prepared otherwise or have other classes, with the difference.
    """
    now = setup.about()
    names = ("label_names", "score_names")
    pairs = {"preparation": (about["preparation"], now["preparation"])}
    pairs |= {name: ({name: about[name]}, {name: now[name]}) for name in names}
    for name, (then, here) in pairs.items():
        if changed := difference(then, here):
            raise ConfigError(
                f"The model was trained on shards with other {name.replace('_', ' ')}: "
                f"{'; '.join(changed)}. Build the shards as they were then."
            )
