"""The folds of a cv: each model's own figures, how far they lie apart, and all pooled."""

from collections.abc import Mapping
from typing import Any

from mammotrain import folds

Json = Mapping[str, Any]
SHOWN = (
    "auroc", "macro_auroc", "average_precision", "f1", "macro_f1", "sensitivity", "specificity",
    "balanced_accuracy", "brier",
)  # fmt: skip


def table(report: Json) -> dict[str, Any] | None:
    """Return a row a fold, and below mean ways to look at them all; None for one model."""
    parts = report.get("folds")
    if not parts:
        return None
    names = [name for name in SHOWN if name in report["metrics"]]
    rows = [
        {
            "name": name,
            "n": found["n"],
            "groups": found["groups"],
            "cells": [_number(found["metrics"].get(metric)) for metric in names],
        }
        for name, found in parts.items()
    ]
    spread, pooled = report["spread"], report["pooled"]
    below = [
        ("within folds", [_number(report["metrics"][name]["value"]) for name in names]),
        ("spread (standard deviation)", [_number(spread[name]["sd"]) for name in names]),
        ("pooled, as if one model", [_number(pooled.get(name)) for name in names]),
    ]
    return {"names": names, "rows": rows, "below": below, "alarms": alarms(report)}


def alarms(report: Json) -> list[str]:
    """Return what a reader of a cv must know: models on different scales, folds of one class."""
    found = []
    name = _main(report)
    if name is not None and folds.parted(dict(report), name):
        found.append(
            f"The models of the folds score on different scales: ranked within folds the "
            f"{name.replace('_', ' ')} is {report['metrics'][name]['value']:.3f}, all folds pooled "
            f"{report['pooled'][name]:.3f}. What counts is within folds."
        )
    if single := report.get("one_class"):
        found.append(
            f"{', '.join(single)}: scored samples of one class only; they add nothing to AUROC "
            "and its like."
        )
    return found


def lines(report: Json) -> list[str]:
    """Return what the terminal says of folds: how far they lie apart, and what is not covered."""
    if not report.get("folds"):
        return []
    name = _main(report)
    found = list(alarms(report))
    spread = report["spread"].get(name) or {}
    if name is not None and spread.get("sd") is not None:
        found.append(
            f"{name} of the {spread['folds']} folds: {spread['low']:.3f} to {spread['high']:.3f}, "
            f"standard deviation {spread['sd']:.3f}."
        )
    return [*found, f"Intervals cover {report['bootstrap']['covers']}."]


def _main(report: Json) -> str | None:
    return next((each for each in folds.RANKED if each in report["metrics"]), None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
