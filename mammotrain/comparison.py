"""Runs that scored the same samples, each beside the first, by a paired bootstrap."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from mammoprep.core.errors import ConfigError
from mammotrain import bootstrap, finished, levels, measures, repeats, same_pictures, thresholds
from mammotrain.baselines import MASK
from mammotrain.bootstrap import Drawn
from mammotrain.finished import Reported
from mammotrain.repeats import Training
from mammotrain.report.page import fill

Json = dict[str, Any]
IMAGE = levels.LEVELS[0]
MAIN = (
    "auroc", "macro_auroc", "average_precision", "f1", "macro_f1", "balanced_accuracy",
    "accuracy", "pf1", "dice", "iou", "lesion_recall", "false_positives",
)  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One of the runs that are compared: a run, a cv, an eval, or the repeats of a cv.

    Attributes:
        place: Its folder, as it was given.
        parts: Its repeats; itself where there are none.
        trainings: What each of the parts was trained by.
    """

    place: Path
    parts: tuple[Reported, ...]
    trainings: tuple[Training, ...]


@dataclass(frozen=True)
class _Taken:
    """What a side comes to at a level, the mean of its repeats.

    Attributes:
        whole: Metrics of its scores.
        measured: Measures of its masks or pictures, by name; of images only.
        each: Metric -> the value in each repeat.
    """

    whole: Drawn
    measured: Mapping[str, measures.Drawn]
    each: Mapping[str, Sequence[float]]

    def estimates(self) -> Json:
        found = {**self.whole.estimates(), **{n: m.estimate() for n, m in self.measured.items()}}
        return {name: each.to_json() for name, each in found.items()}

    def above(self, other: "_Taken") -> Json:
        """Return how much higher this is, metric by metric, in the same resamples."""
        found = bootstrap.differences(self.whole, other.whole)
        for name in self.measured:
            if name in other.measured:
                mine, theirs = (
                    _as_metric(side.whole, name, side.measured[name]) for side in (self, other)
                )
                found |= bootstrap.differences(mine, theirs)
        return found


def opened(runs: Sequence[Path]) -> list[Side]:
    """Read folders of runs, cv or eval; of a cv with repeats all of them.

    Raises:
        ConfigError: one holds no scores.
    """
    return [_side(Path(run)) for run in runs]


def _side(place: Path) -> Side:
    parts = repeats.members(place)
    names = [part.name if len(parts) > 1 else "" for part in parts]
    found = [repeats.training(part, name) for part, name in zip(parts, names, strict=True)]
    # repeats of one cv are of one recipe, whatever else their settings say
    found = [replace(each, recipe=found[0].recipe) for each in found]
    return Side(place, tuple(map(finished.open_report, parts)), tuple(found))


def compare(runs: Sequence[Path | Side], draws: int = bootstrap.DRAWS, seed: int = 0) -> Json:
    """Return how much better each run is than the first, with paired 95 % intervals.

    Args:
        runs: Folders of two or more runs, cv or eval that scored the same samples, or what
            ``opened`` made of them. A cv with repeats counts as the mean of these.
        draws: Resamples of whole groups.
        seed: Decides them.

    Returns:
        ``reference``, ``n``, ``groups``, and ``runs``: for each ``run``, ``metrics`` (values with
        intervals, with measures such as Dice), ``gains`` (see ``bootstrap.compare``; None for the
        reference), and the same of ``levels`` above the image. ``baselines``: name -> metrics, of
        the first run that has it; one that looks at masks has the run's name, because runs may have
        other masks; ``baseline_gains``: how much higher than the reference they are.
        ``recipes`` and ``recipe_differences``: means and spread over trainings, where there are at
        least ``repeats.FEWEST`` of a recipe. ``advice``: what is missing to compare recipes.
        ``pictures``: what is to be said of pictures that runs have learned from and are asked
        about.

    Raises:
        ConfigError: one holds no scores, or they scored other samples.
        DamageError: some have learned from scored pictures, and not all from the same.
    """
    sides = [run if isinstance(run, Side) else _side(Path(run)) for run in runs]
    taken = _levels(sides, draws, seed)
    first = taken[IMAGE][0].whole
    trained = repeats.by_recipe([each for side in sides for each in side.trainings])
    return {
        "reference": str(sides[0].place),
        "n": len(first.scores),
        "groups": len(np.unique(first.scores.group)),
        "runs": [_run(side, place, taken) for place, side in enumerate(sides)],
        **_baselines([part for side in sides for part in side.parts]),
        **_over_trainings(trained, _values(sides, taken)),
        "advice": repeats.advice(trained),
        "pictures": same_pictures.compared([part.place for side in sides for part in side.parts]),
    }


def _levels(sides: Sequence[Side], draws: int, seed: int) -> dict[str, list[_Taken]]:
    """Return what all sides come to at each level that all of them have.

    Raises:
        ConfigError: they scored other samples.
    """
    found = {}
    for level in levels.LEVELS:
        taken = [_take(side, level, draws, seed) for side in sides]
        there = [each for each in taken if each is not None]
        if len(there) == len(taken):
            _check_same(sides, there)
            found[level] = there
    return found


def _take(side: Side, level: str, draws: int, seed: int) -> _Taken | None:
    """Return what a side comes to at a level; None where it has none such."""
    drawn = []
    for part in side.parts:
        judged = at_level(part, level)
        if judged is None:
            return None
        drawn.append(bootstrap.draw(judged.scores, thresholds.of(judged), draws, seed))
    for each in drawn[1:]:
        bootstrap.check_same(drawn[0].scores, each.scores)
    measured = [_measured(part, draws, seed) if level == IMAGE else {} for part in side.parts]
    values = {name: [one.values[name] for one in drawn] for name in drawn[0].values}
    values |= {name: [one[name].value for one in measured] for name in _common(measured)}
    return _Taken(_mean(drawn), _mean_measures(measured), values)


def at_level(part: Reported, level: str) -> thresholds.Judged | None:
    """Return a run's scores at a level, with that level's threshold; None where there is none."""
    judged = part.judged()
    if level == IMAGE:
        return judged
    told, scores = part.report.get("levels", {}), judged.scores.labelled()
    # what a report of before does not tell of has no threshold either
    if level not in told or not len(scores) or levels.why_not(scores, level):
        return None
    how = str(told.get("combine", levels.HOW[0]))
    upper = levels.aggregate(scores, level, how)
    return replace(judged, scores=upper, fixed=part.thresholds_above.get(level))


def _mean(drawn: Sequence[Drawn]) -> Drawn:
    """Return the mean of repeats, resample by resample: patients move it, trainings do not."""
    if len(drawn) == 1:
        return drawn[0]
    tables = [each.replicates for each in drawn]
    values = {n: float(np.mean([each.values[n] for each in drawn])) for n in drawn[0].values}
    means = None
    if all(table is not None for table in tables):
        known = [table for table in tables if table is not None]
        means = {name: np.mean([table[name] for table in known], axis=0) for name in known[0]}
    return replace(drawn[0], values=values, replicates=means)


def _measured(part: Reported, draws: int, seed: int) -> dict[str, measures.Drawn]:
    """Return the measures of a run, such as Dice, on its scored samples."""
    keys, pairs = measures.read(part.place / "measures.csv")
    if not pairs:
        return {}
    scores = part.judged().scores
    groups = dict(zip(scores.key.tolist(), scores.group.tolist(), strict=True))
    if set(groups) != set(keys.tolist()):
        raise ConfigError(f"{part.place}: measures.csv and scores.csv hold other samples.")
    group = np.array([groups[key] for key in keys.tolist()], np.str_)
    return measures.draw(pairs, group, draws, seed)


def _common(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in tables[0] if all(name in table for table in tables)]


def _mean_measures(tables: Sequence[Mapping[str, measures.Drawn]]) -> dict[str, measures.Drawn]:
    found = {}
    for name in _common(tables):
        each = [table[name] for table in tables]
        known = [one.replicates for one in each if one.replicates is not None]
        whole = np.mean(known, axis=0) if len(known) == len(each) else None
        found[name] = measures.Drawn(
            float(np.mean([one.value for one in each])), whole, each[0].reason
        )
    return found


def _as_metric(whole: Drawn, name: str, measured: measures.Drawn) -> Drawn:
    """Return a measure as the only metric of the same samples."""
    drawn = None if measured.replicates is None else {name: measured.replicates}
    return replace(whole, values={name: measured.value}, replicates=drawn, reason=measured.reason)


def _check_same(sides: Sequence[Side], taken: Sequence[_Taken]) -> None:
    for side, each in zip(sides[1:], taken[1:], strict=True):
        try:
            bootstrap.check_same(taken[0].whole.scores, each.whole.scores)
        except ConfigError as error:
            raise ConfigError(f"{sides[0].place} and {side.place}: {error}") from None


def _run(side: Side, place: int, taken: Mapping[str, Sequence[_Taken]]) -> Json:
    """Return a run's metrics and gains: of images, and of the levels above."""
    found: dict[str, Json] = {}
    for level, sides in taken.items():
        scores = sides[place].whole.scores
        found[level] = {
            "n": len(scores),
            "groups": len(np.unique(scores.group)),
            "metrics": sides[place].estimates(),
            "gains": sides[place].above(sides[0]) if place else None,
        }
    images = found.pop(IMAGE)
    return {
        "run": str(side.place),
        "trainings": len(side.parts),
        "metrics": images["metrics"],
        "gains": images["gains"],
        "levels": found,
    }


def _baselines(runs: Sequence[Reported]) -> Json:
    """Return the baselines, and how much higher than the reference those of its own are."""
    found: Json = {}
    gains: Json = {}
    for run in runs:
        for kind, other in sorted(run.report.get("baselines", {}).items()):
            name = f"{kind} of {run.place.name}" if kind == MASK else kind
            if not other["metrics"] or name in found:
                continue
            found[name] = other["metrics"]
            if run is runs[0] and other.get("gain"):
                gains[name] = {metric: _negated(each) for metric, each in other["gain"].items()}
    return {"baselines": found, "baseline_gains": gains}


def _negated(gain: Json) -> Json:
    """Return by how much a baseline is above a run, of how much the run is above it."""
    ends, gap = gain["ci95"], gain["difference"]
    return {
        **gain,
        "difference": None if gap is None else -gap,
        "ci95": None if ends is None else [-ends[1], -ends[0]],
    }


def _values(
    sides: Sequence[Side], taken: Mapping[str, Sequence[_Taken]]
) -> dict[Path, dict[str, dict[str, float]]]:
    """Return folder of a training -> level -> metric -> value."""
    found: dict[Path, dict[str, dict[str, float]]] = {}
    for place, side in enumerate(sides):
        for part, training in enumerate(side.trainings):
            found[training.place] = {
                level: {name: each[part] for name, each in of_all[place].each.items()}
                for level, of_all in taken.items()
            }
    return found


def _over_trainings(
    recipes: Sequence[Sequence[Training]], values: Mapping[Path, Mapping[str, Mapping[str, float]]]
) -> Json:
    """Return the spread of recipes that were trained often enough, and what that makes of means."""
    found: list[Json] = []
    for trainings in recipes:
        if len(trainings) < repeats.FEWEST:
            continue
        tables = [values[each.place] for each in trainings]
        spread = {
            level: repeats.spread(
                {
                    n: [t[level][n] for t in tables]
                    for n in _common([table[level] for table in tables])
                }
            )
            for level in tables[0]
        }
        places = [str(each.place) for each in trainings]
        found.append({"recipe": trainings[0].name, "runs": places, "levels": spread})
    return {
        "recipes": found,
        "recipe_differences": [
            {level: repeats.differences(of, found[0]["levels"][level])
             for level, of in each["levels"].items()}
            for each in found[1:]
        ],
    }  # fmt: skip


def recipe_name(recipe: Mapping[str, Any]) -> str:
    """Return what the trainings of a recipe are called: by their folders, which nobody shares."""
    places = [Path(place) for place in recipe["runs"]]
    first = places[0]
    if first.name.startswith("repeat") and all(p.parent == first.parent for p in places):
        return f"{first.parent.name} ({len(places)} repeats)"
    return f"{first.name} and {len(places) - 1} more"


def told(found: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know of the intervals, and what is missing to compare recipes."""
    covered = [repeats.COVERED] if len(found["runs"]) > 1 else []
    advice = [found["advice"]] if found.get("advice") else []
    return [*found.get("pictures", ()), *covered, *advice]


def seeds(
    found: Mapping[str, Any], level: str = IMAGE
) -> Iterator[tuple[str, int, str, Json, Json | None]]:
    """Yield recipe, trainings, metric, spread and difference to the first recipe, or None."""
    for place, recipe in enumerate(found.get("recipes", [])):
        gaps = found["recipe_differences"][place - 1].get(level, {}) if place else {}
        for name, each in recipe["levels"].get(level, {}).items():
            yield recipe_name(recipe), len(recipe["runs"]), name, each, gaps.get(name)


def table(found: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> Table:
    """Return what ``compare`` found as a table for people: a row a metric, a column a run.

    Args:
        found: What ``compare`` returns.
        notes: As of ``page``; they stand below.
    """
    below = [f"{name}: {note}" for name, note in (notes or {}).items() if note]
    below += [*_seed_lines(found), *told(found)]
    shown = Table(
        title=f"{found['n']:,} samples of {found['groups']:,} groups, each beside "
        f"{found['reference']}; 95 % intervals by drawing groups: a run's own, and below it that "
        "of its difference to the first",
        caption=Text("\n".join(below)) if below else None,
        caption_justify="left",
    )
    shown.add_column("metric", overflow="fold")
    for run in found["runs"]:
        shown.add_column(Path(run["run"]).name, justify="right", overflow="fold")
    for name in dict.fromkeys(name for run in found["runs"] for name in run["metrics"]):
        cells = [
            "\n".join(_cell(run["metrics"].get(name), (run["gains"] or {}).get(name)))
            for run in found["runs"]
        ]
        shown.add_row(name.replace("_", " "), *cells)  # wrapped between words
    return shown


def _seed_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the main metrics over trainings, a line each."""
    lines = [
        f"{recipe}, {name.replace('_', ' ')} over {number} trainings: {each['mean']:.3f}, standard "
        f"deviation {each['sd']:.3f} ({each['lowest']:.3f} to {each['highest']:.3f}){_gap(gap)}"
        for recipe, number, name, each, gap in seeds(found)
        if name in MAIN
    ]
    about = "Over trainings, on the same patients; these intervals are of training again:"
    return [about, *lines] if lines else []


def _gap(gap: Json | None) -> str:
    if gap is None:
        return ""
    return f"; {' '.join(_signed(gap))} from the first recipe"


def page(found: Mapping[str, Any], title: str, notes: Mapping[str, str] | None = None) -> str:
    """Return what ``compare`` found as a self-contained HTML document.

    Args:
        found: What ``compare`` returns.
        title: Its headline.
        notes: Name of a run's folder -> what is said of it, such as the settings that it changes.
    """
    runs = found["runs"]
    there = {name for run in runs for name in run["metrics"]}
    names = [name for name in MAIN if name in there]
    rows = [
        {
            "name": Path(run["run"]).name,
            "note": (notes or {}).get(Path(run["run"]).name, ""),
            "cells": [
                _cell(run["metrics"].get(name), (run["gains"] or {}).get(name)) for name in names
            ],
        }
        for run in runs
    ]
    gains = found.get("baseline_gains", {})
    others = [
        {
            "name": kind,
            "cells": [_cell(values.get(n), gains.get(kind, {}).get(n)) for n in names],
        }
        for kind, values in found["baselines"].items()
    ]
    spread = [
        {
            "recipe": recipe,
            "number": number,
            "metric": name,
            "mean": f"{each['mean']:.3f}",
            "sd": f"{each['sd']:.3f}",
            "range": f"{each['lowest']:.3f} to {each['highest']:.3f}",
            "gap": "" if gap is None else " ".join(_signed(gap)),
        }
        for recipe, number, name, each, gap in seeds(found)
        if name in MAIN
    ]
    context = {
        "found": found, "title": title, "metrics": names, "rows": rows, "others": others,
        "spread": spread, "told": told(found),
    }  # fmt: skip
    return fill("compared.html.j2", context)


def _cell(estimate: Json | None, gain: Json | None) -> list[str]:
    """Return a value, its own interval, and how much it is above the first with that interval."""
    if estimate is None or estimate["value"] is None:
        return ["-"]
    found = [f"{estimate['value']:.3f}"]
    if ends := estimate.get("ci95"):
        found.append(f"{ends[0]:.3f} to {ends[1]:.3f}")
    if gain is not None and gain["difference"] is not None:
        found.append(" ".join(_signed(gain)))
    return found


def _signed(gain: Json) -> list[str]:
    ends = [] if gain["ci95"] is None else [f"({gain['ci95'][0]:+.3f} to {gain['ci95'][1]:+.3f})"]
    return [f"{gain['difference']:+.3f}", *ends]
