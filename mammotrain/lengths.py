"""How long a run trains that leaves nothing out: as long as was best in a cv of its recipe."""

from dataclasses import replace
from pathlib import Path
from statistics import median

from mammoprep.core.errors import ConfigError
from mammotrain import finished, folder
from mammotrain.config import RunConfig
from mammotrain.watching import Watcher

RECIPE = "recipe"  # --epochs-from recipe


def planned(
    config: RunConfig, out: Path, asked: str, watcher: Watcher, *, resume: bool
) -> RunConfig:
    """Return a recipe with the number of epochs that a cv of it has found, which is said.

    It is the median of the folds' best epochs; a fold that nothing validated counts with the epochs
    it was trained for. A run that goes on has the epochs that it began with, unless told otherwise.

    Args:
        config: The recipe.
        out: The run's folder.
        asked: The cv's folder; ``recipe`` for the recipe's own epochs; empty for
            ``runs/RECIPE-cv``, and the recipe's own where there is none.
        watcher: Is told.
        resume: Whether it goes on in ``out``.

    Raises:
        ConfigError: ``asked`` is no finished cv of this recipe.
    """
    begun = folder.read_config(out) if resume and not asked else {}
    if begun:
        return _lasting(config, int(begun["train"]["epochs"]))
    place = Path(asked) if asked else Path("runs") / f"{config.recipe}-cv"
    if asked == RECIPE or (not asked and not place.is_dir()):
        why = "" if asked else f"; there is no {place} to take them from (--epochs-from DIR)"
        watcher.warn(f"Training for {config.train.epochs:,} epochs, as the recipe says{why}.")
        return config
    found = best_epochs(place, config.recipe)
    epochs = int(median(found.values()) + 0.5)
    each = ", ".join(f"{name} {count:,}" for name, count in found.items())
    watcher.warn(f"Training for {epochs:,} epochs, the median of {place}: {each}.")
    return _lasting(config, epochs)


def _lasting(config: RunConfig, epochs: int) -> RunConfig:
    return replace(config, train=replace(config.train, epochs=epochs))


def best_epochs(place: Path, recipe: str) -> dict[str, int]:
    """Return part of a cv -> its best number of epochs; raises ConfigError as ``planned``."""
    runs = finished.parts_of(place)
    if not runs or not (place / "report.json").is_file():
        raise ConfigError(
            f"{place} is no finished cv, whose folds tell for how many epochs to train. Give the "
            f"folder of one with --epochs-from, or --epochs-from {RECIPE} for those of the recipe."
        )
    tables = {path: folder.read_config(path) for path in runs}
    for path, table in tables.items():
        if table.get("recipe") != recipe:
            raise ConfigError(
                f"{path} is a run of recipe {table.get('recipe')}, not of {recipe}: its epochs "
                f"say nothing here. Give another --epochs-from, or {RECIPE}."
            )
    return {path.name: _best(path, table["train"]["epochs"]) for path, table in tables.items()}


def _best(path: Path, trained: int) -> int:
    """Return after how many epochs a run's weights were best; an epoch that was begun counts."""
    best = [line for line in folder.read_log(path) if "validation" in line and line["best"]]
    if not best:
        return trained
    epochs: int = best[-1]["epoch"] + (best[-1]["position"] > 0)
    return max(1, epochs)
