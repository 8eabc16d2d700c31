"""Runs that scored the same samples, each beside the first, by a paired bootstrap."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from mammoprep.core.errors import ConfigError
from mammotrain import bootstrap, finished, thresholds
from mammotrain.report.page import fill

Json = dict[str, Any]
MAIN = (
    "auroc", "macro_auroc", "average_precision", "f1", "macro_f1", "balanced_accuracy",
    "accuracy", "pf1",
)  # fmt: skip


def compare(runs: Sequence[Path], draws: int = bootstrap.DRAWS, seed: int = 0) -> Json:
    """Return how much better each run is than the first, with paired 95 % intervals.

    Args:
        runs: Folders of two or more finished runs that scored the same samples.
        draws: Resamples of whole groups.
        seed: Decides them.

    Returns:
        ``reference``, ``n``, ``groups``, and ``runs``: for each ``run``, ``metrics`` (values with
        intervals) and ``gains`` (see ``bootstrap.compare``; None for the reference).

    Raises:
        ConfigError: one is no finished run, or they scored other samples.
    """
    judged = [finished.open_run(run).judged() for run in runs]
    drawn = [bootstrap.draw(each.scores, thresholds.of(each), draws, seed) for each in judged]
    first = drawn[0]
    found = []
    for place, (run, each) in enumerate(zip(runs, drawn, strict=True)):
        try:
            gains = bootstrap.differences(each, first) if place else None
        except ConfigError as error:
            raise ConfigError(f"{runs[0]} and {run}: {error}") from None
        values = {name: estimate.to_json() for name, estimate in each.estimates().items()}
        found.append({"run": str(run), "metrics": values, "gains": gains})
    return {
        "reference": str(runs[0]),
        "n": len(first.scores),
        "groups": len(set(first.scores.group.tolist())),
        "runs": found,
    }


def table(found: Json) -> Table:
    """Return what ``compare`` found as a table for people: a row a metric, a column a run."""
    shown = Table(
        title=f"{found['n']:,} samples of {found['groups']:,} groups, each beside "
        f"{found['reference']}; 95 % intervals by drawing groups"
    )
    shown.add_column("metric")
    for run in found["runs"]:
        shown.add_column(Path(run["run"]).name, justify="right")
    for name in found["runs"][0]["metrics"]:
        cells = [
            _cell(run["metrics"][name], (run["gains"] or {}).get(name)) for run in found["runs"]
        ]
        shown.add_row(name, *cells)
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
    context = {"found": found, "title": title, "metrics": metrics, "rows": rows}
    return fill("compared.html.j2", context)


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
