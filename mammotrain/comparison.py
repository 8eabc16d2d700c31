"""Runs that scored the same samples, each beside the first, by a paired bootstrap."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from mammoprep.core.errors import ConfigError
from mammotrain import bootstrap, finished, same_pictures, thresholds
from mammotrain.baselines import MASK
from mammotrain.finished import Reported
from mammotrain.report.page import fill

Json = dict[str, Any]
MAIN = (
    "auroc", "macro_auroc", "average_precision", "f1", "macro_f1", "balanced_accuracy",
    "accuracy", "pf1",
)  # fmt: skip


def compare(runs: Sequence[Path], draws: int = bootstrap.DRAWS, seed: int = 0) -> Json:
    """Return how much better each run is than the first, with paired 95 % intervals.

    Args:
        runs: Folders of two or more runs, cv or eval that scored the same samples.
        draws: Resamples of whole groups.
        seed: Decides them.

    Returns:
        ``reference``, ``n``, ``groups``, and ``runs``: for each ``run``, ``metrics`` (values with
        intervals) and ``gains`` (see ``bootstrap.compare``; None for the reference). ``baselines``:
        name -> metrics, of the first run that has it; one that looks at masks has the run's name,
        because runs may have other masks. ``pictures``: what is to be said of pictures that runs
        have learned from and are asked about.

    Raises:
        ConfigError: one holds no scores, or they scored other samples.
        DamageError: some have learned from scored pictures, and not all from the same.
    """
    opened = [finished.open_report(run) for run in runs]
    judged = [each.judged() for each in opened]
    drawn = [bootstrap.draw(each.scores, thresholds.of(each), draws, seed) for each in judged]
    first = drawn[0]
    found = []
    for place, (run, each) in enumerate(zip(runs, drawn, strict=True)):
        try:
            bootstrap.check_same(first.scores, each.scores)
        except ConfigError as error:
            raise ConfigError(f"{runs[0]} and {run}: {error}") from None
        gains = bootstrap.differences(each, first) if place else None
        values = {name: estimate.to_json() for name, estimate in each.estimates().items()}
        found.append({"run": str(run), "metrics": values, "gains": gains})
    return {
        "reference": str(runs[0]),
        "n": len(first.scores),
        "groups": len(set(first.scores.group.tolist())),
        "runs": found,
        "baselines": _baselines(opened),
        "pictures": same_pictures.compared(runs),
    }


def _baselines(runs: Sequence[Reported]) -> Json:
    found: Json = {}
    for run in runs:
        for kind, other in sorted(run.report["baselines"].items()):
            if other["metrics"]:
                name = f"{kind} of {run.place.name}" if kind == MASK else kind
                found.setdefault(name, other["metrics"])
    return found


def table(found: Json, notes: Mapping[str, str] | None = None) -> Table:
    """Return what ``compare`` found as a table for people: a row a metric, a column a run.

    Args:
        found: What ``compare`` returns.
        notes: As of ``page``; they stand below.
    """
    told = [
        *found.get("pictures", ()),
        *(f"{name}: {note}" for name, note in (notes or {}).items() if note),
    ]
    shown = Table(
        title=f"{found['n']:,} samples of {found['groups']:,} groups, each beside "
        f"{found['reference']}; 95 % intervals by drawing groups",
        caption=Text("\n".join(told)) if told else None,
        caption_justify="left",
    )
    shown.add_column("metric", overflow="fold")
    for run in found["runs"]:
        shown.add_column(Path(run["run"]).name, justify="right", overflow="fold")
    for name in found["runs"][0]["metrics"]:
        cells = [
            _cell(run["metrics"][name], (run["gains"] or {}).get(name)) for run in found["runs"]
        ]
        shown.add_row(name.replace("_", " "), *cells)  # wrapped between words
    return shown


def page(found: Json, title: str, notes: Mapping[str, str] | None = None) -> str:
    """Return what ``compare`` found as a self-contained HTML document.

    Args:
        found: What ``compare`` returns.
        title: Its headline.
        notes: Name of a run's folder -> what is said of it, such as the settings that it changes.
    """
    runs = found["runs"]
    metrics = [name for name in MAIN if name in runs[0]["metrics"]]
    rows = [
        {
            "name": Path(run["run"]).name,
            "note": (notes or {}).get(Path(run["run"]).name, ""),
            "cells": [
                _cell(run["metrics"][name], (run["gains"] or {}).get(name)).split("\n")
                for name in metrics
            ],
        }
        for run in runs
    ]
    others = [
        {"name": kind, "cells": [_alone(values.get(name)) for name in metrics]}
        for kind, values in found["baselines"].items()
    ]
    context = {"found": found, "title": title, "metrics": metrics, "rows": rows, "others": others}
    return fill("compared.html.j2", context)


def _alone(estimate: Json | None) -> list[str]:
    """Return a value and its own interval."""
    if estimate is None or estimate["value"] is None:
        return ["-"]
    low, high = estimate.get("ci95") or (None, None)
    value = f"{estimate['value']:.3f}"
    return [value] if low is None else [value, f"{low:.3f} to {high:.3f}"]


def _cell(estimate: Json, gain: Json | None) -> str:
    if estimate["value"] is None:
        return "-"
    value = f"{estimate['value']:.3f}"
    if gain is None or gain["difference"] is None:
        return value
    if gain["ci95"] is None:
        return f"{value}\n{gain['difference']:+.3f}"
    low, high = gain["ci95"]
    return f"{value}\n{gain['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
