"""A recipe without one of its ingredients after the other: what ``mammotrain cv --ablate`` does."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mammoprep.core.errors import ConfigError
from mammotrain import comparison, cross, distributed, first, folder, setup
from mammotrain import config as configs
from mammotrain.config import RunConfig
from mammotrain.data.pictures import IMAGE
from mammotrain.report import page, written_tables
from mammotrain.run import Request, find_data
from mammotrain.watching import Watcher

FULL = "full"


@dataclass(frozen=True)
class Ablation:
    """What is to be run.

    Attributes:
        recipe: Its name, or the path of a .toml file, with an ``[ablate]`` table.
        changes: ``section.key=value`` for all of them.
        request: What to run; its ``config`` is the whole recipe with the changes.
    """

    recipe: str
    changes: tuple[str, ...]
    request: Request


def ablate(asked: Ablation, watcher: Watcher) -> dict[str, Any]:
    """Cross-validate the whole recipe and every variant of it; return how they compare.

    Every variant lies in a folder of its name, the whole recipe in ``full``; the samples, folds and
    reduced-size copies are the same for all.

    Raises:
        ConfigError: the recipe names no variants, or one changes what does not exist.
        MammoError: as ``cross`` does; with ``resume`` what is finished is not done again.
    """
    request = asked.request
    variants: dict[str, tuple[str, ...]] = {FULL: (), **request.config.ablate}
    if len(variants) == 1:
        raise ConfigError(
            f"Recipe {asked.recipe} has no [ablate] table. A copy with lines such as "
            'no-ema = ["train.ema=0"] is a recipe too.'
        )
    made = {name: configs.load(asked.recipe, (*asked.changes, *v)) for name, v in variants.items()}
    with distributed.joined(request.device) as world:
        data = find_data(request, watcher) if world.leads else ()
        data = distributed.gathered(data, world)[0]
        for name, config in made.items():  # what would be refused later is refused before any work
            folder.check_free(request.out / name, resume=request.resume)
            variant = replace(request, config=config, data=data)
            if not first.check(variant):
                cross.check(variant, setup.open_shards(config, data), world)
        for number, (name, config) in enumerate(made.items()):
            watcher.warn(f"{name}: {number + 1} of {len(made)}.")
            out = request.out / name
            resume = request.resume and out.exists()
            one = replace(request, config=config, data=data, out=out, resume=resume)
            one = first.ready(one, watcher, place=request.out / first.STAGE)
            cross.cross_in(replace(one, cache=request.out / "cache"), watcher, world)
        found = comparison.compare([request.out / name for name in made])
        found["changes"] = {k: _note(made[k], v) for k, v in variants.items()}
        if world.leads:
            _write(request.out, asked.recipe, found)
    return found


def _note(config: RunConfig, changes: tuple[str, ...]) -> str:
    told = config.data.member != IMAGE and not config.first.predicts
    return ", ".join([*changes, *(["true masks, which tell the label"] if told else [])])


def _write(out: Path, recipe: str, found: dict[str, Any]) -> None:
    (out / "ablation.json").write_text(json.dumps(found, indent=1) + "\n")
    title = f"{Path(recipe).stem}: one ingredient left out at a time"
    page.write(out / "report.html", comparison.page(found, title, found["changes"]))
    written_tables.write_comparison(out, found, title, found["changes"])
