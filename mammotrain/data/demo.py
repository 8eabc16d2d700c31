"""``--data demo``: phantoms in the form that a recipe needs, made once and built by mammoprep."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mammoprep
from mammotrain.config import DemoConfig


def provide(demo: DemoConfig, folder: Path, tell: Callable[[str], None]) -> Path:
    """Return the folder of the recipe's demo shards; what is there already is kept.

    Args:
        demo: Which phantom, and the options of its build.
        folder: Where it may lie: ``raw`` and ``shards`` in it.
        tell: Is told, a line each, what is going on.

    Raises:
        ConfigError: the recipe's ``[demo]`` names an unknown layout or option.
    """
    raw, part, shards = folder / "raw", folder / "raw.part", folder / "shards"
    if not raw.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        tell(f"Making {demo.patients} phantom patients in the layout of {demo.layout} in {raw}.")
        mammoprep.phantom(
            demo.layout,
            part,
            patients=demo.patients,
            size_scale=demo.size_scale,
            prevalence=demo.prevalence,
            workers=2,
        )
        part.rename(raw)
    options = {name.replace("-", "_"): value for name, value in demo.build.items()}
    result = mammoprep.build(source=demo.layout, input=raw, out=shards, **options)
    tell(f"{result.summary['counts']['samples']:,} samples of phantoms are in {shards}.")
    return shards
