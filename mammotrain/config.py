"""A recipe (TOML) and ``--set`` -> one frozen RunConfig, complete before any work starts.

A recipe has the tables ``[data]``, ``[model]``, ``[task]``, ``[train]`` and ``[demo]``, perhaps
``[first]``, ``[tune]`` and ``[ablate]``; model and task name their plug-in, whose own ``Config``
says which other keys there are.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import twins
from mammotrain.checks import one_of
from mammotrain.data.splits import SHARE, WAYS

MODELS, TASKS = "mammotrain.models", "mammotrain.tasks"
SECTIONS = ("first", "data", "model", "task", "train", "demo", "tune", "ablate")
OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")
AMP = ("none", "bf16", "fp16")
FALLBACKS = ("stop", "none")
MASKS = ("predicted", "truth")
MOST_WARMUP = 0.1
DEMO = ("demo",)  # the name of the data that a recipe makes itself
EXAMPLES = {int: "[364, 728]", float: "[0.5, 1.5]", str: '["one", "another"]'}  # lists of TOML
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
T = TypeVar("T")


@dataclass(frozen=True)
class DataConfig:
    """What is read, and how it is shown to the model.

    Attributes:
        size: (width, height) of the model's input; empty for that of the shards.
        sampling: ``natural``, ``balanced``, ``undersampled``, ``per-patient``, or
            ``positives=1/7``.
        normalise: ``none``, ``machine`` or ``breast``.
        member: ``image``; ``intersection.png``, the picture where the mask is set and else 0; or
            ``crop``, the picture around its mask, the whole one where the mask is empty.
        augment_on: ``cpu``, ``device`` or ``auto``.
        cache: Keep copies at ``size`` when the shards hold larger pictures.
        workers: Threads that read and decode.
        tolerate_bad_shards: How many damaged shards may be left out.
        look_alikes: What to do when one picture is in two roles: ``refuse``, ``say``, or ``off``,
            which looks for equal files only.
        augmentation: Fields of ``data.augment.Augmentation``; empty for none.
    """

    size: tuple[int, ...] = ()
    sampling: str = "natural"
    normalise: str = "none"
    member: str = "image"
    augment_on: str = "auto"
    cache: bool = True
    workers: int = 2
    tolerate_bad_shards: int = 0
    look_alikes: str = "refuse"
    augmentation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the names; raises ConfigError."""
        one_of("data.look_alikes", self.look_alikes, twins.MODES)


@dataclass(frozen=True)
class FirstConfig:
    """Whose masks the pictures are shown by, when ``data.member`` is not the image; see ``first``.

    Attributes:
        recipe: A recipe that predicts masks; it is cross-validated first. Empty for none.
        mask: ``predicted``; or ``truth``, the annotator's, which tell that there is a lesion.
        set: Changes to that recipe.
    """

    recipe: str = ""
    mask: str = "predicted"
    set: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the names; raises ConfigError."""
        one_of("first.mask", self.mask, MASKS)

    @property
    def predicts(self) -> bool:
        """Whether masks are predicted before the run."""
        return bool(self.recipe) and self.mask == "predicted"


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained.

    Attributes:
        seed: Decides initial weights, order and augmentation.
        epochs: How often every training sample is seen, as ``data.sampling`` counts an epoch.
        max_steps: Stop after so many steps, 0 for no limit.
        batch_size: Samples a step, over all ranks.
        accumulate: Into how many parts a rank cuts its part of a batch.
        optimiser: ``adam``, ``adamw`` or ``sgd``.
        lr: Highest learning rate.
        min_lr: Last learning rate of the cosine.
        schedule: ``constant`` or ``cosine``.
        warmup: Share of all steps in which the rate rises from 0; at most a tenth.
        weight_decay: Of the optimiser.
        momentum: Of SGD.
        layer_decay: Factor on the rate from one layer to the one below; 0 for none.
        clip_norm: Largest norm of the gradient; 0 for no limit.
        ema: Decay of the averaged weights that are scored; 0 for none.
        amp: ``none``, ``bf16`` or ``fp16``.
        channels_last: Memory format of pictures.
        compile: Whether to compile the model.
        sync_batchnorm: One batch norm over all ranks.
        validate: ``share``: an eighth to a quarter of the training groups, of every class; or
            ``next-fold``: the fold after the one that is scored.
        validate_every: Epochs from one validation to the next.
        monitor: Validation metric that decides which checkpoint is best.
        patience: Validations without a better one after which training ends; 0 for never.
        checkpoint_every: Steps from one checkpoint to the next; 0 for the end of epochs only.
        keep: Checkpoints kept, besides the best.
        pretrained: ``none``, ``timm``, or the path of a safetensors file.
        pretrained_fallback: What to do when timm's weights cannot be had: ``stop``, or ``none`` to
            go on without any, which is said.
        track: Who is told besides log.jsonl: ``tensorboard``, ``mlflow``, ``wandb``.
    """

    seed: int = 0
    epochs: int = 10
    max_steps: int = 0
    batch_size: int = 32
    accumulate: int = 1
    optimiser: str = "adamw"
    lr: float = 1e-3
    min_lr: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.9
    layer_decay: float = 0.0
    clip_norm: float = 0.0
    ema: float = 0.0
    amp: str = "none"
    channels_last: bool = False
    compile: bool = False
    sync_batchnorm: bool = False
    validate: str = SHARE
    validate_every: int = 1
    monitor: str = "auroc"
    patience: int = 0
    checkpoint_every: int = 0
    keep: int = 2
    pretrained: str = "none"
    pretrained_fallback: str = "stop"
    track: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what has limits; raises ConfigError."""
        one_of("train.optimiser", self.optimiser, OPTIMISERS)
        one_of("train.schedule", self.schedule, SCHEDULES)
        one_of("train.amp", self.amp, AMP)
        one_of("train.pretrained_fallback", self.pretrained_fallback, FALLBACKS)
        one_of("train.validate", self.validate, WAYS)
        if not 0 <= self.warmup <= MOST_WARMUP:
            raise ConfigError(
                f"train.warmup is a share of all steps, 0 to {MOST_WARMUP:g}, got {self.warmup:g}: "
                "a longer one would leave no time at the rate that was asked for."
            )
        for name in ("epochs", "batch_size", "accumulate", "validate_every", "keep"):
            _at_least(f"train.{name}", getattr(self, name), 1)
        for name in ("max_steps", "patience", "checkpoint_every", "seed"):
            _at_least(f"train.{name}", getattr(self, name), 0)
        if not 0 <= self.layer_decay <= 1 or not 0 <= self.ema < 1:
            raise ConfigError(
                "train.layer_decay must be 0 to 1 and train.ema 0 to below 1; got "
                f"{self.layer_decay:g} and {self.ema:g}."
            )
        if not self.lr > 0:
            raise ConfigError(f"train.lr must be above 0, got {self.lr:g}.")


@dataclass(frozen=True)
class DemoConfig:
    """The phantom that ``--data demo`` makes.

    Attributes:
        layout: Phantom layout, which is the source too.
        patients: How many.
        size_scale: Factor on rows and columns.
        prevalence: Share of patients with a cancer.
        build: Options of ``mammoprep build`` by name.
        set: Changes to the recipe, so that a run on the phantom takes minutes on a small machine.
    """

    layout: str = "rsna"
    patients: int = 24
    size_scale: float = 0.25
    prevalence: float = 0.3
    build: Mapping[str, Any] = field(default_factory=dict)
    set: tuple[str, ...] = ()


@dataclass(frozen=True)
class Space:
    """What ``mammotrain tune`` tries for one setting.

    Attributes:
        low: Lowest number.
        high: Highest number.
        log: Whether numbers are drawn by their order of magnitude.
        choices: Values to choose from, instead of a range.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        """Check the range; raises ConfigError."""
        if not self.choices and not (self.low < self.high and (self.low > 0 or not self.log)):
            raise ConfigError(
                "tune: a setting needs choices, or low below high (above 0 with log); got "
                f"low {self.low:g}, high {self.high:g}."
            )


@dataclass(frozen=True)
class RunConfig:
    """Everything that shapes a run.

    Attributes:
        recipe: Its name.
        dataset: Name of the mammoprep source that it is made for.
        data: As of ``DataConfig``.
        model_name: Plug-in in ``mammotrain.models``.
        model: Its own ``Config``.
        task_name: Plug-in in ``mammotrain.tasks``.
        task: Its own ``Config``.
        train: As of ``TrainConfig``.
        demo: As of ``DemoConfig``.
        first: As of ``FirstConfig``.
        tune: Setting -> what ``tune`` tries; shapes no run.
        ablate: Name -> changes to the recipe that ``cv --ablate`` makes; shapes no run.
    """

    recipe: str
    dataset: str
    data: DataConfig
    model_name: str
    model: Any
    task_name: str
    task: Any
    train: TrainConfig
    demo: DemoConfig
    first: FirstConfig = FirstConfig()
    tune: Mapping[str, Space] = field(default_factory=dict)
    ablate: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_table(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values, as ``config.toml`` holds it."""
        return {
            "recipe": self.recipe,
            "dataset": self.dataset,
            **({"first": asdict(self.first)} if self.first.recipe else {}),
            "data": asdict(self.data),
            "model": {"name": self.model_name, **asdict(self.model)},
            "task": {"name": self.task_name, **asdict(self.task)},
            "train": asdict(self.train),
            "demo": asdict(self.demo),
        }


def recipe_names() -> list[str]:
    """Return the recipes that the package has, sorted."""
    folder = files("mammotrain") / "recipes"
    return sorted(
        item.name.removesuffix(".toml") for item in folder.iterdir() if "toml" in item.name
    )


def recipe_text(name: str) -> str:
    """Return a recipe's text: of the package by name, or of a file by its path.

    Raises:
        ConfigError: there is none, with the nearest name.
    """
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name} cannot be read ({type(error).__name__}).") from None
    known = recipe_names()
    if name not in known:
        raise ConfigError(
            f"Unknown recipe {name!r}.{plugins.suggest(name, known)} Available: "
            f"{', '.join(known)}; or give the path of a .toml file."
        )
    return (files("mammotrain") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def load(name: str, changes: tuple[str, ...] = ()) -> RunConfig:
    """Return a recipe with ``--set section.key=value`` applied.

    Its name is that of its file, or the one that it gives itself with ``recipe = "NAME"``.

    Raises:
        ConfigError: unknown recipe, section or key (with the nearest name), or a wrong value.
    """
    try:
        table = tomllib.loads(recipe_text(name))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"Recipe {name} is not valid TOML: {error}.") from None
    for change in changes:
        _apply(table, change)
    return from_table(_own_name(table, Path(name).stem), table)


def _own_name(table: Mapping[str, Any], stem: str) -> str:
    """Return what a recipe calls itself, which becomes a folder's name; else its file's name."""
    name = table.get("recipe", stem)
    if not isinstance(name, str) or Path(f"{name}.toml").stem != name or name.startswith("."):
        raise ConfigError(f"recipe must be a name that a folder can have, got {name!r}.")
    return name


def changes_for(data: Sequence[str], name: str, changes: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the changes to a recipe for some data: on ``demo`` its ``demo.set`` and then others.

    Raises:
        ConfigError: as ``load`` does.
    """
    return (*load(name, changes).demo.set, *changes) if tuple(data) == DEMO else changes


def from_table(recipe: str, table: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that a recipe's table describes.

    Raises:
        ConfigError: as ``load`` does.
    """
    known = ("recipe", "dataset", *SECTIONS)
    for key in table:
        if key not in known:
            raise ConfigError(
                f"Recipe {recipe}: unknown key {key!r}.{plugins.suggest(key, list(known))} "
                f"Known: {', '.join(known)}."
            )
    model_name, model = _plugin(MODELS, "model", table)
    task_name, task = _plugin(TASKS, "task", table)
    return RunConfig(
        recipe=recipe,
        dataset=str(table.get("dataset", "")),
        data=build(DataConfig, table.get("data", {}), "data"),
        model_name=model_name,
        model=model,
        task_name=task_name,
        task=task,
        train=build(TrainConfig, table.get("train", {}), "train"),
        demo=build(DemoConfig, table.get("demo", {}), "demo"),
        first=build(FirstConfig, table.get("first", {}), "first"),
        tune=_spaces(table.get("tune", {}), "tune"),
        ablate=_ablations(table.get("ablate", {})),
    )


def _spaces(table: Mapping[str, Any], where: str) -> dict[str, Space]:
    """Return dotted settings and what is tried for them."""
    found: dict[str, Space] = {}
    for name, value in table.items():
        place = f"{where}.{name}"
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place} must be {{ low = ..., high = ... }}, got {value!r}.")
        if set(value) & {"low", "high", "choices"}:
            found[place.removeprefix("tune.")] = build(Space, value, place)
        else:
            found |= _spaces(value, place)
    return found


def _ablations(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    for name, changes in table.items():
        texts = isinstance(changes, list) and all(isinstance(each, str) for each in changes)
        if not texts or not SLUG.fullmatch(name):
            raise ConfigError(
                f"ablate.{name} must be a name of a-z, 0-9 and - with a list of changes, such as "
                'no-ema = ["train.ema=0"].'
            )
    return {name: tuple(changes) for name, changes in table.items()}


def _plugin(package: str, section: str, table: Mapping[str, Any]) -> tuple[str, Any]:
    options = dict(table.get(section, {}))
    name = options.pop("name", None)
    if not isinstance(name, str):
        known = ", ".join(plugins.names(package))
        raise ConfigError(f"{section}.name is missing. Available: {known}.")
    module = plugins.load(package, name, needs=("Config", "build"))
    return name, build(module.Config, options, section)


def build(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Return a dataclass filled from a table; every key must be a field and of its type.

    Raises:
        ConfigError: an unknown key, with the nearest name, or a value of another type.
    """
    types = get_type_hints(kind)
    known = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        if key not in known:
            hint = plugins.suggest(key, known)
            raise ConfigError(f"{where}.{key}: unknown key.{hint} Known: {', '.join(known)}.")
        values[key] = _typed(f"{where}.{key}", value, types[key])
    return kind(**values)


def _typed(where: str, value: Any, kind: Any) -> Any:
    """Return a TOML value as a field's type; a whole number may stand for a float."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _typed(where, value, inner[0])
    if is_dataclass(kind) and isinstance(value, Mapping):
        return build(kind, value, where)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(where, item, inner[0]) for item in value)
    plain = origin or kind
    if plain is Any:
        return value
    if plain is float and type(value) is int:
        return float(value)
    wanted = Mapping if plain not in (int, float, str, bool, tuple) else plain
    if not isinstance(value, wanted) or (isinstance(value, bool) and plain is not bool):
        raise ConfigError(f"{where} must be {_expected(wanted, inner)}, got {value!r}.")
    return value


def _expected(wanted: type, inner: tuple[Any, ...]) -> str:
    """Return what a value of a type is called in TOML."""
    if wanted is tuple:
        return f"a list such as {EXAMPLES.get(inner[0], '[...]')}"
    return "a table such as { key = 1 }" if wanted is Mapping else wanted.__name__


def _apply(table: dict[str, Any], change: str) -> None:
    """Put ``section.key=value`` into a recipe's table; values are TOML, or else text."""
    place, sign, text = change.partition("=")
    *path, key = place.strip().split(".")
    if not sign or not path:
        raise ConfigError(f"--set must be section.key=value such as train.lr=1e-4, got {change!r}.")
    value = value_of(text)
    for name in path:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {place.strip()}: {name!r} is no section.")
    table[key] = value


def value_of(text: str) -> Any:
    """Return what a text means in TOML, or else the text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _at_least(where: str, value: int, low: int) -> None:
    if value < low:
        raise ConfigError(f"{where} must be at least {low}, got {value}.")
