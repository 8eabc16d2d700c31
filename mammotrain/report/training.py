"""What log.jsonl tells: loss, rate, speed, waiting, validations, and what the model itself logs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammotrain.report.plots import Axis, Line, Plot, bucketed, draw, fitted
from mammotrain.report.tables import title

Floats = NDArray[np.float64]
Log = Sequence[Mapping[str, Any]]

KNOWN = {
    "loss": ("Loss", "loss, mean of a batch"),
    "lr": ("Learning rate", "rate"),
    "images_per_second": ("Speed", "images/s"),
    "data_wait": ("Waiting for data", "share of the step"),
}
FROM_ZERO = {"lr", "images_per_second", "data_wait"}
NO_CURVE = {"step", "epoch", "loss_hex", "best"}
MOST = 24  # curves of one section


def curves(log: Log) -> list[Plot]:
    """Return the plots of the figures that every run logs at each step."""
    return [_curve(log, name, *KNOWN[name]) for name in KNOWN if _known(_series(log, name)[1])]


def statistics(log: Log) -> list[Plot]:
    """Return the plots of what the model itself logs at each step, such as solver steps."""
    return [
        _curve(log, name, name.replace("_", " ").capitalize(), name.replace("_", " "))
        for name in _own(log)
        if _known(_series(log, name)[1])
    ][:MOST]


def validations(log: Log) -> list[Plot]:
    """Return one plot a metric of the validation samples; the best checkpoint is marked."""
    rows = [row for row in log if isinstance(row.get("validation"), Mapping)]
    names = list(dict.fromkeys(name for row in rows for name in row["validation"]))
    return [plot for name in names[:MOST] if (plot := _validated(rows, name)) is not None]


def summary(log: Log) -> list[tuple[str, str]]:
    """Return how training went, as (name, text) pairs; empty without a log."""
    steps, loss = _series(log, "loss")
    if not _known(loss):
        return []
    found = [("Steps", f"{int(steps.max()):,}"), ("Last loss", f"{loss[-1]:.4g}")]
    speed, wait = _series(log, "images_per_second")[1], _series(log, "data_wait")[1]
    if _known(speed):
        found.append(("Median speed", f"{np.nanmedian(speed):,.1f} images/s"))
    if _known(wait):
        found.append(
            ("Mean share of a step spent waiting for data", f"{100 * np.nanmean(wait):.1f} %")
        )
    best = [row for row in log if row.get("best") is True]
    if best:
        found.append(("Best checkpoint", f"step {int(best[-1]['step']):,}"))
    return found


def _own(log: Log) -> list[str]:
    names = dict.fromkeys(
        name for row in log for name, value in row.items() if isinstance(value, int | float)
    )
    return sorted(name for name in names if name not in KNOWN and name not in NO_CURVE)


def _series(log: Log, name: str) -> tuple[Floats, Floats]:
    """Return steps and values of one figure; a row without a step or a number is left out."""
    pairs = [
        (row["step"], row[name])
        for row in log
        if isinstance(row.get(name), int | float) and isinstance(row.get("step"), int)
    ]
    steps, values = np.array(pairs, np.float64).reshape(len(pairs), 2).T
    return steps, values


def _known(values: Floats) -> bool:
    return bool(np.isfinite(values).any())


def _curve(log: Log, name: str, title: str, label: str) -> Plot:
    steps, values = _series(log, name)
    kept = np.isfinite(values)
    middle, mean, low, high = bucketed(steps[kept], values[kept])
    lines = [Line(middle, mean, dots=len(middle) < 2)]
    if np.any(high > low):
        lines.insert(0, Line(middle, low, "band", "", high))
    vertical = fitted(np.concatenate([low, high]), label, zero=name in FROM_ZERO)
    return draw(title, _steps(steps), vertical, lines)


def _validated(rows: Log, name: str) -> Plot | None:
    chosen = [row for row in rows if isinstance(row["validation"].get(name), int | float)]
    steps = np.array([row["step"] for row in chosen], np.float64)
    values = np.array([row["validation"][name] for row in chosen], np.float64)
    if not _known(values):
        return None
    best = np.array([row.get("best") is True for row in chosen])
    lines = [Line(steps, values, dots=True)]
    if best.any():
        place = np.flatnonzero(best)[-1:]
        lines.append(Line(steps[place], values[place], "mark", "best checkpoint", dots=True))
    label = title(name)
    shown = label[:1].upper() + label[1:]
    return draw(shown, _steps(steps), fitted(values, label), lines, f"Validation: {label} by step")


def _steps(steps: Floats) -> Axis:
    low, high = float(steps.min()), float(steps.max())
    return Axis(low, high, "step") if high > low else Axis(low - 1, high + 1, "step")
