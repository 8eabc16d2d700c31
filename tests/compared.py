"""Folders of runs, made up without any training, for tests of what compares them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mammotrain import folder, measures, scores
from mammotrain.report import assemble
from mammotrain.report.assemble import About
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged

ABOUT = About("deq", "demo", "fold0", draws=40)


def run_of(
    place: Path,
    table: Scores,
    settings: dict[str, Any] | None = None,
    pairs: dict[str, np.ndarray] | None = None,
    others: dict[str, Judged | str] | None = None,
) -> Path:
    """Write a run's folder with a whole report; ``settings`` are those of config.toml."""
    place.mkdir(parents=True)
    scores.write(place / "scores.csv", table)
    judged = Judged(table, fixed=0.5, fixed_above={"breast": 0.4, "patient": 0.6})
    found = assemble.assemble(judged, ABOUT, others)
    if pairs is not None:
        measures.write(place / "measures.csv", table.key, pairs)
        each = measures.estimates(pairs, table.group)
        found["measures"] = {n: e.to_json() | {"level": "image"} for n, e in each.items()}
    (place / "report.json").write_text(json.dumps(found))
    if settings is not None:
        folder.write_config(place, settings, resume=False)
    return place


def recipe(seed: int = 0, name: str = "deq", lr: float = 1e-3, **more: Any) -> dict[str, Any]:
    return {"recipe": name, **more, "train": {"seed": seed, "lr": lr}}


def noisy(table: Scores, seed: int, size: float = 0.2, lift: float = 0.0) -> Scores:
    """Return other scores of the same samples, the better the higher ``lift`` is."""
    rng = np.random.default_rng(seed)
    inside = np.clip(table.values, 1e-6, 1 - 1e-6)
    logits = np.log(inside) + rng.normal(0, size, table.values.shape)
    logits[np.arange(len(table)), table.label] += lift
    odds = np.exp(logits)
    return table.with_values(odds / odds.sum(axis=1, keepdims=True))
