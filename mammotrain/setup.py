"""A RunConfig and shards -> data, task and model, checked before any work."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import UNOUTLINED
from mammoprep.core.text import visible
from mammotrain import config as configs
from mammotrain import slices
from mammotrain.config import RunConfig
from mammotrain.contracts import Batch, Shown, Task
from mammotrain.data import augment, loader, normalise, splits
from mammotrain.data.ahead import ahead
from mammotrain.data.augment import NONE, Augmentation, Parameters, Where
from mammotrain.data.cache import Progress
from mammotrain.data.loader import Loader
from mammotrain.data.normalise import Normaliser
from mammotrain.data.pictures import IMAGE
from mammotrain.data.shards import Table, difference, open_table
from mammotrain.data.splits import Roles, Side
from mammotrain.distributed import World
from mammotrain.trainer import autocast, seed_all

Rows = NDArray[np.int64]
PREDICTED = "predicted_masks"  # of dataset.json
INITIAL = -1  # the "step" whose random numbers make the initial weights


@dataclass
class Setup:
    """Everything that a run is made of, but for the optimiser.

    Attributes:
        config: The recipe.
        table: The samples.
        roles: Who trains, validates, is scored.
        task: What is learned.
        normaliser: Fitted on the training samples.
        world: Who this process is.
        cache: Folder of reduced-size copies; None for none, or while nothing is to be written.
        where: Where pictures are augmented, ``cpu`` or ``device``; see ``placement``.
        copying: Is told how many reduced-size copies are made, and of how many.
    """

    config: RunConfig
    table: Table
    roles: Roles
    task: Task
    normaliser: Normaliser
    world: World
    cache: Path | None = None
    copying: Progress | None = None

    def __post_init__(self) -> None:
        """Set up what does not change from batch to batch."""
        everyone = np.concatenate([self.roles.train, self.roles.validate, self.roles.scored])
        self.curves = self.normaliser.prepare(self.columns, everyone)
        self.policy = configs.build(
            Augmentation, self.config.data.augmentation, "data.augmentation"
        )
        self.where: Where = augment.choose(self.config.data.augment_on, self.world.device)

    @property
    def columns(self) -> Mapping[str, Any]:
        """What is known of every sample, by name; see ``Table.columns``."""
        return self.table.columns

    @cached_property
    def taught(self) -> Rows:
        """Places of the samples that are learned from: those who train, or some of them."""
        return self.task.learns_from(self.roles.train)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Key -> place in the table."""
        return {key: row for row, key in enumerate(self.table.keys)}

    @property
    def masks_shown(self) -> str:
        """Whose masks the pictures are shown by, or empty.

        ``truth``, ``predicted``; ``taught``: predicted by who has learned from these samples.
        """
        if self.config.data.member == IMAGE:
            return ""
        made_by = [each.get(PREDICTED) or {} for each in self.table.summaries]
        if not all(made_by):
            return "truth"
        return "taught" if any(each.get("learned_from") for each in made_by) else "predicted"

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the model's input; None for that of the shards."""
        given = self.config.data.size
        return (given[0], given[1]) if given else None

    def loader(self, rows: Rows, *, training: bool, workers: int | None = None) -> Loader:
        """Return the batches of some samples; ``workers`` other than the recipe's where given."""
        data, train = self.config.data, self.config.train
        options = loader.Options(
            batch_size=train.batch_size,
            seed=train.seed,
            rank=self.world.rank,
            world=self.world.size,
            workers=data.workers if workers is None else workers,
            training=training,
            sampling=data.sampling if training else "natural",
            size=self.size,
            pin=self.world.device.type == "cuda",
            cache_dir=self.cache,
            member=data.member,
            masks=self.task.wants_masks,
        )
        return Loader(self.table, rows, options, labels=self.task.classes, progress=self.copying)

    def stream(self, source: Loader, epoch: int | None, position: int = 0) -> Iterator[Batch]:
        """Yield what is left of an epoch; augmented already, in other threads, where that is cv2's.

        Args:
            source: Of ``loader``.
            epoch: Decides order and augmentation; None for none of both.
            position: Batches that are done.
        """
        batches = source.epoch(epoch or 0, position)
        if self.where == "device":
            return batches
        work = partial(self._by_cpu, epoch=epoch)
        return ahead(work, batches, self.config.data.workers)

    def shown(self, batch: Batch, epoch: int | None) -> Shown:
        """Return a batch on the device: augmented in ``epoch``, plain where it is None."""
        if self.where == "cpu" and not batch.images.is_floating_point():
            batch = self._by_cpu(batch, epoch)
        images, masks = self._moved(batch.images), batch.masks
        masks = None if masks is None else self._moved(masks)
        if not images.is_floating_point():
            curves = self.curves.curves(batch.rows)
            images, masks = augment.apply(images, masks, self.drawn(batch, epoch), curves=curves)
        told = self.task.conditions(batch.rows)
        return Shown(images, masks, batch.rows, None if told is None else self._moved(told))

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.world.device, non_blocking=True)

    def _by_cpu(self, batch: Batch, epoch: int | None) -> Batch:
        curves = self.curves.curves(batch.rows)
        masks = None if batch.masks is None else batch.masks.numpy()
        pictures, flags = augment.apply_cpu(
            batch.images.numpy(), masks, self.drawn(batch, epoch), curves=curves
        )
        moved = None if flags is None else torch.from_numpy(flags)
        return replace(batch, images=torch.from_numpy(pictures), masks=moved)

    def drawn(self, batch: Batch, epoch: int | None) -> Parameters:
        """Return how a batch is augmented in ``epoch``; not at all where it is None."""
        height, width = batch.images.shape[-2:]
        found = augment.draw(
            NONE if epoch is None else self.policy,
            seed=self.config.train.seed,
            epoch=epoch or 0,
            keys=batch.keys,
            size=(height, width),
            out=None if self.size is None else (self.size[1], self.size[0]),
        )
        return found if batch.masks is None else augment.on_lesions(found, batch.masks.numpy())

    def plain(self, rows: Rows) -> Iterator[Shown]:
        """Yield this rank's batches of some samples, each sample once, nothing augmented."""
        for batch in self.stream(self.loader(rows, training=False), None):
            yield self.shown(batch, None)

    def autocast(self) -> Any:
        """Return the context of mixed precision that the recipe asks for."""
        return autocast(self.config.train, self.world.device)

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
        some = self.roles.scored if self.roles.scored.size else self.roles.train
        shape = self.loader(some[:1], training=False).shape
        rows, columns = (self.size[1], self.size[0]) if self.size else (shape.rows, shape.columns)
        return rows, columns, shape.channels

    def about(self) -> dict[str, Any]:
        """Return what a checkpoint remembers of its data."""
        prepared = dict(self.table.preparation)
        if self.config.data.member != IMAGE:  # true masks are another picture than predicted ones
            prepared[PREDICTED] = bool(self.table.summary.get(PREDICTED))
        return {
            "preparation": prepared,
            "sources": sorted({str(each["source"]) for each in self.table.summaries}),
            "score_names": list(self.task.score_names),
            "normaliser": self.normaliser.to_json(),
            "content": self.table.content,
        }


def prepare(config: RunConfig, table: Table, side: Side, world: World) -> Setup:
    """Choose who trains, validates and is scored, and fit what is fitted on who trains.

    Raises:
        ConfigError: a setting does not suit the data.
        DamageError: a group is on two sides.
    """
    if config.first.predicts and not all(each.get(PREDICTED) for each in table.summaries):
        raise ConfigError(
            f"Recipe {config.recipe} sees masks that {config.first.recipe} predicts, and these "
            "shards have none such. mammotrain.first.ready makes them of a request."
        )
    columns: Mapping[str, Any] = table.columns
    roles = _roles(config, table, side)
    normaliser = normalise.fit(config.data.normalise, columns, roles.train)
    return _made(config, table, roles, normaliser, world)


def _roles(config: RunConfig, table: Table, side: Side) -> Roles:
    task, known = _with_label(config, table)
    if not any(label is not None for label in known["label"]):
        raise ConfigError(_nobody_known(config, table))
    names = tuple(task.score_names)
    if side.by:
        parts = slices.parts_by(table.columns, side.by).tolist()
        return splits.leave_out(known, parts, side, names)
    return splits.choose(known, side, config.train.validate, names)


def known_of(config: RunConfig, table: Table) -> dict[str, Any]:
    """Return what the choice of roles looks at; see ``splits.choose``."""
    return _with_label(config, table)[1]


def described(made: Setup) -> dict[str, Any]:
    """Return how many samples and groups of each dataset have which role; see ``splits.counts``."""
    return splits.counts(_with_label(made.config, made.table)[1], made.roles)


def _nobody_known(config: RunConfig, table: Table) -> str:
    """Return what to say of samples of which none has what is learned, and what they do have."""
    columns = table.columns
    names = [name for name in columns if name == "label" or name.startswith("labels.")]
    counts = {
        name.removeprefix("labels."): sum(value is not None for value in columns[name])
        for name in sorted(names)
    }
    counts["lesion masks"] = sum(
        value not in (None, *UNOUTLINED) for value in columns["annotation"]
    )
    have = [f"{name} ({count:,})" for name, count in counts.items() if count]
    target = getattr(config.task, "target", None)
    wanted = f"task.target {target!r}" if target else f"what task {config.task_name} learns"
    known = ", ".join(have) or "nothing"
    return f"None of {len(table):,} samples has {wanted}. Known of them: {known}."


def prepare_scoring(
    config: RunConfig, table: Table, roles: Roles, fitted: Mapping[str, Any], world: World
) -> Setup:
    """Return what scores samples with a model that was trained before.

    Args:
        config: Of the run.
        table: The samples.
        roles: Of which only ``score`` is used.
        fitted: The run's ``Normaliser``, as its checkpoint holds it.
        world: Who this process is.

    Raises:
        ConfigError: the samples do not have the run's target.
    """
    return _made(config, table, roles, Normaliser.from_json(fitted), world)


def labelled(config: RunConfig, table: Table) -> Roles:
    """Return roles in which every sample with the run's target is scored; raises ConfigError."""
    return splits.everything(_with_label(config, table)[1])


def open_shards(
    config: RunConfig, data: tuple[str, ...], tell: Callable[[str], None] = lambda _: None
) -> Table:
    """Return the samples of one or several datasets.

    Raises:
        ConfigError: they are no datasets, or were prepared differently.
        DamageError: a shard is damaged.
    """
    table = open_table(data, tolerate_bad_shards=config.data.tolerate_bad_shards)
    for shard, samples in table.lost.items():
        tell(f"{shard} is damaged: {samples:,} samples are left out.")
    for summary in table.summaries:
        for line in summary.get("notices", ()):  # said by their build, which may be years ago
            tell(f"{summary['source']}: {visible(str(line))}")
    return table


def _made(
    config: RunConfig,
    table: Table,
    roles: Roles,
    normaliser: Normaliser,
    world: World,
) -> Setup:
    task: Task = _task(config).build(config.task, table.columns, table.label_names, roles.train)
    return Setup(config, table, roles, task, normaliser, world)


def _task(config: RunConfig) -> ModuleType:
    return plugins.load(configs.TASKS, config.task_name, needs=("Config", "build", "known"))


def _with_label(config: RunConfig, table: Table) -> tuple[Task, dict[str, Any]]:
    """Return the task as nobody has learned it, and what the choice of roles looks at.

    A sample counts when it has the target; its class is what a share is stratified by.
    """
    columns: Mapping[str, Any] = table.columns
    known: NDArray[np.bool_] = _task(config).known(columns, config.task)
    nobody = np.zeros(0, np.int64)
    task: Task = _task(config).build(config.task, columns, table.label_names, nobody)
    classes = task.classes.tolist()
    label = [code if yes else None for code, yes in zip(classes, known.tolist(), strict=True)]
    told = {name: columns[name] for name in ("split", "group", "augmented")}
    return task, {**told, "label": label, "dataset": table.datasets}


def check_same_data(about: Mapping[str, Any], setup: Setup) -> None:
    """Refuse to show a model what it was not trained for.

    Other names of the dataset's own classes matter only to a model that was trained on these, or on
    the same source: ``cancer`` and ``abnormal`` mean the same everywhere.

    Raises:
        ConfigError: the shards were prepared otherwise or have other classes, with the difference.
    """
    now = setup.about()
    then, here = dict(about["preparation"]), dict(now["preparation"])
    if about["sources"] != now["sources"]:
        del then["label_names"], here["label_names"]
    changed = difference(then, here)
    changed += difference({"classes": about["score_names"]}, {"classes": now["score_names"]})
    if changed:
        alike = all(line.startswith(f"{PREDICTED}:") for line in changed)
        raise ConfigError(
            f"The model was trained on shards that were prepared differently: {'; '.join(changed)} "
            f"(then -> now). {_way_back(then.get(PREDICTED), here.get(PREDICTED), alike=alike)}"
        )


def _way_back(then: bool | None, here: bool | None, *, alike: bool) -> str:
    """Return what to do about shards with other masks, and about those that are not ``alike``."""
    advice = [] if alike else ["Build the shards as they were then."]
    if then and not here:
        advice.append(
            "Give shards with predicted masks, such as those that mammotrain predict --masks "
            "writes; a run with a first stage keeps its own in RUN-first/predicted/dataset."
        )
    if here and not then:
        advice.append("Give the shards that these masks were predicted for.")
    return " ".join(advice)
