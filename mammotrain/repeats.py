"""Trainings of the same recipe: what another seed would have changed, told apart from patients.

The bootstrap draws patients and leaves the trained models as they are. How far a recipe's scores
move when it is trained again is seen only by training it again.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mammoprep.core.errors import ConfigError
from mammotrain import folder

Json = dict[str, Any]

FEWEST = 3  # trainings of each recipe: of two nobody can say how far they spread
SEED = "train.seed"
# Where and with whose help a run computes: it may differ between trainings of one recipe.
APART = {SEED, "repeat", "repeats", "train.track", "train.pretrained_fallback", "data.workers",
         "data.augment_on", "data.cache"}  # fmt: skip
SHARE = 0.975
COVERED = (
    "The intervals say how far other patients would move these figures, for these trained models; "
    "training again is not in them."
)
SOURCES = "arXiv:2104.00673, arXiv:2307.00260"


@dataclass(frozen=True)
class Training:
    """One training of a recipe, or one repeat of a cv.

    Attributes:
        place: Its folder.
        recipe: Everything that its config.toml says but the seed; the folder where there is none.
        seed: Of its config.toml; the folder's name where there is none.
        name: Of the recipe in config.toml, or an empty text.
        is_cv: Whether it is a cv.
    """

    place: Path
    recipe: str
    seed: str
    name: str
    is_cv: bool


def members(place: Path) -> list[Path]:
    """Return the folders of the repeats of a cv, in order; the folder itself where it has none."""
    found = [path.parent for path in place.glob("repeat*/report.json")]
    numbered = [path for path in found if path.name.removeprefix("repeat").isdecimal()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix("repeat"))) or [place]


def training(place: Path, repeat: str = "") -> Training:
    """Return what a folder was trained by.

    Args:
        place: A run, a cv, or an eval inside a run's folder.
        repeat: Of a repeated cv, which repeat; its seed is then no part of the recipe.

    Raises:
        ConfigError: its config.toml cannot be read.
    """
    try:
        table = folder.read_config(place)
        if not table and place.name.startswith("eval"):
            table = folder.read_config(place.parent)
    except ValueError as error:
        raise ConfigError(f"{place / folder.CONFIG} cannot be read ({error}).") from None
    if not table:
        return Training(place, str(place.resolve()), repeat or place.name, "", is_cv=False)
    plain = folder.flat(table)
    kept = sorted((name, repr(value)) for name, value in plain.items() if name not in APART)
    seed = f"{repeat}/{plain.get(SEED)}"
    is_cv = bool(table.get("by")) and not table.get("left_out")
    return Training(place, repr(kept), seed, str(table.get("recipe", "")), is_cv)


def by_recipe(trainings: Sequence[Training]) -> list[list[Training]]:
    """Return the trainings of each recipe, in order; those of one seed count once."""
    found: dict[str, dict[str, Training]] = {}
    for each in trainings:
        found.setdefault(each.recipe, {}).setdefault(each.seed, each)
    return [list(seeds.values()) for seeds in found.values()]


def advice(recipes: Sequence[Sequence[Training]]) -> str:
    """Return what is missing to say that a recipe is better, with the command; or nothing.

    Args:
        recipes: As ``by_recipe`` returns them; of one alone nothing is missing.
    """
    few = [each for each in recipes if len(each) < FEWEST]
    if len(recipes) < 2 or not few:
        return ""
    one = few[0][0]
    name = shlex.quote(one.name or "RECIPE")
    again = f"mammotrain run {name} --set {SEED}=1 --out OUT"
    again += " (and =2), with the same options, and compare all of them"
    if one.is_cv:
        again = f"mammotrain cv {name} --repeats {FEWEST} --out OUT, with the same options"
    return (
        f"To say that a recipe is better than another, train each at least {FEWEST} times "
        f"({SOURCES}); here {len(few)} of {len(recipes)} have fewer: {again}."
    )


def spread(values: Mapping[str, Sequence[float]]) -> dict[str, Json]:
    """Return the mean and the spread of metrics over trainings.

    Args:
        values: Metric -> its value in each training; NaN where it is not defined.

    Returns:
        Metric -> ``mean``, ``sd`` (of the sample), ``lowest``, ``highest`` and ``values``; metrics
        that are not defined in all trainings are left out.
    """
    return {
        name: {
            "mean": float(np.mean(each)),
            "sd": float(np.std(each, ddof=1)),
            "lowest": float(np.min(each)),
            "highest": float(np.max(each)),
            "values": [float(value) for value in each],
        }
        for name, each in values.items()
        if np.isfinite(each).all()
    }


def differences(one: Mapping[str, Json], other: Mapping[str, Json]) -> dict[str, Json]:
    """Return how much higher the means of ``one`` are, and how sure the trainings make that.

    The interval is Welch's: it covers training again, on the same patients, and nothing else.

    Args:
        one: As ``spread`` returns it.
        other: The same of another recipe.

    Returns:
        Metric -> ``difference``, ``error`` (its standard error) and ``ci95`` (None where no
        training differs from another: of so few values that shows nothing).
    """
    return {name: _difference(each, other[name]) for name, each in one.items() if name in other}


def _difference(one: Json, other: Json) -> Json:
    parts = [each["sd"] ** 2 / len(each["values"]) for each in (one, other)]
    error, gap = float(np.sqrt(sum(parts))), one["mean"] - other["mean"]
    if error == 0:
        return {"difference": gap, "error": error, "ci95": None}
    below = sum(
        part**2 / (len(each["values"]) - 1) for part, each in zip(parts, (one, other), strict=True)
    )
    width = float(stats.t.ppf(SHARE, error**4 / below)) * error
    return {"difference": gap, "error": error, "ci95": [gap - width, gap + width]}
