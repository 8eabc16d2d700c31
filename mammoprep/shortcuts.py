"""How much of the label a classifier gets right that never looks for a disease.

Logistic regressions see only the grey level, only sharpness and size, only what the table says, or
only the mask, and are asked about groups that they were not fitted to. docs/shortcuts.md says what
the figures mean.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.stats import ranking, resampling
from mammoprep.stats.ranking import Ranking
from mammoprep.stats.shortcuts import KINDS, Kind, fit_predict

Row = Mapping[str, Any]
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

FOLDS = 5
MOST_FOLDS = 10
FEWEST_SAMPLES = 20
FEWEST_GROUPS = 5  # of a class: one for each fold
LEAK = 0.55  # chance is 0.5; the lower bound must be above this
DRAWS = (100, 1000)
BUDGET = 2e8  # samples x classes x draws of the bootstrap
BLOCK = 2_000_000  # samples x draws at a time: 8 MB a table

WORDS = {
    "intensity": "the grey level (mean, spread, maximum, percentiles)",
    "sharpness and size": "sharpness and stored size",
    "metadata": "age, view, side, machine and site",
    "mask": "the mask (its shape, and the grey level inside)",
}


@dataclass(frozen=True)
class _Task:
    """Who is asked: one entry a sample, sorted by key.

    Attributes:
        rows: The samples.
        label: Place of each one's class in ``names``.
        group: Number of each one's group.
        fold: Which fold it is left out with.
        names: The classes.
    """

    rows: list[Row]
    label: Whole
    group: Whole
    fold: Whole
    names: list[str]

    @property
    def majority(self) -> int:
        """The class that most samples are of."""
        return int(np.argmax(np.bincount(self.label)))


def check(rows: Sequence[Row], label_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what each kind of shortcut reaches, as plain JSON values.

    Augmented samples, samples of an official test split and such without a label are left out, and
    so is a class of fewer than ``FEWEST_GROUPS`` groups. The folds are the dataset's own, where it
    has between 2 and ``MOST_FOLDS``, else ``FOLDS`` of whole groups. Samples are ranked within
    their fold, since each fold is judged by a regression of its own.

    Args:
        rows: Rows of ``samples.parquet``, flat, keys with dots; the order does not matter.
        label_names: Class names by code.

    Returns:
        One a kind (``KINDS``): ``features``, ``leak``, ``says`` (a sentence), ``auroc`` (of each
        class against the rest, the share of concordant pairs among all pairs within folds, mean
        over classes) with ``auroc_low`` and ``auroc_high`` (95 %, by a bootstrap over groups, of
        each fold and class as many as there are; None where too few draws have a value),
        ``accuracy``, ``majority`` (accuracy of always saying the largest class), ``samples``,
        ``groups`` and ``classes``. What could not be checked has None for the five figures, and
        ``says`` tells why.
    """
    task, reason = _task(rows, label_names)
    return [_checked(kind, task, reason) for kind in KINDS]


def leaks(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sentences of the kinds that give the label away."""
    return [str(each["says"]) for each in found if each["leak"]]


def _task(rows: Sequence[Row], label_names: Sequence[str]) -> tuple[_Task, str]:
    """The samples that are asked, and why they are too few, or nothing."""
    usable = [row for row in rows if _is_usable(row)]
    members: dict[int, set[str]] = defaultdict(set)
    for row in usable:
        members[int(row["label"])].add(_group(row))
    codes = sorted(code for code, groups in members.items() if len(groups) >= FEWEST_GROUPS)
    kept = sorted((row for row in usable if row["label"] in codes), key=lambda row: str(row["key"]))
    groups = sorted({_group(row) for row in kept})
    place = {name: number for number, name in enumerate(groups)}
    task = _Task(
        kept,
        np.array([codes.index(int(row["label"])) for row in kept], np.int64),
        np.array([place[_group(row)] for row in kept], np.int64),
        _folds(kept),
        [str(label_names[code]) if code < len(label_names) else str(code) for code in codes],
    )
    if len(codes) < 2:
        few = f"{len(codes)} of {len(members)} classes with at least {FEWEST_GROUPS} groups"
        return task, f"too few to check: {few}, 2 are needed"
    if len(kept) < FEWEST_SAMPLES:
        return task, f"too few to check: {len(kept)} samples, {FEWEST_SAMPLES} are needed"
    return task, ""


def _is_usable(row: Row) -> bool:
    held_out = row.get("split") == "test" or bool(row.get("augmented"))
    return row.get("label") is not None and not held_out


def _group(row: Row) -> str:
    return str(row.get("group") or row["key"])


def _folds(rows: Sequence[Row]) -> Whole:
    names = sorted({str(row.get("split")) for row in rows})
    if 2 <= len(names) <= MOST_FOLDS and all(name.startswith("fold") for name in names):
        return np.array([names.index(str(row["split"])) for row in rows], np.int64)
    top: dict[str, int] = {}
    for row in rows:
        top[_group(row)] = max(top.get(_group(row), 0), int(row["label"]))
    order = sorted(top, key=lambda name: (top[name], sha256(name.encode()).hexdigest()))
    fold = {name: number % FOLDS for number, name in enumerate(order)}
    return np.array([fold[_group(row)] for row in rows], np.int64)


def _checked(kind: Kind, task: _Task, reason: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "features": kind.name,
        "leak": False,
        "says": "",
        **dict.fromkeys(("auroc", "auroc_low", "auroc_high", "accuracy", "majority")),
        "samples": len(task.rows),
        "groups": len(set(task.group.tolist())),
        "classes": task.names,
    }
    figures = None
    if not reason:
        figures, reason = _judged(kind, task)
    if figures is None:
        return entry | {"says": f"{kind.name.capitalize()}: {reason}."}
    entry |= figures
    leak = entry["auroc_low"] is not None and entry["auroc_low"] > LEAK
    return entry | {"leak": leak, "says": _sentence(kind, entry, leak, task.names[task.majority])}


def _judged(kind: Kind, task: _Task) -> tuple[dict[str, float | None] | None, str]:
    """Return the five figures, or why there are none."""
    chances = _predicted(kind, task)
    if chances is None:
        nothing = "no sample has a mask" if kind.name == "mask" else "it is the same for all"
        return None, f"not checked: {nothing}, or it was not recorded"
    figures = _figures(chances, task)
    return figures, "" if figures else "not checked: no fold holds samples of two classes"


def _sentence(kind: Kind, entry: Row, leak: bool, largest: str) -> str:
    grades = ((0.9, "it gives the label away"), (0.7, "it tells much of the label"))
    verdict = next((words for least, words in grades if entry["auroc"] >= least), "")
    verdict = verdict or "it tells something of the label"
    ends = "no interval: too few draws have a value"
    if entry["auroc_low"] is not None:
        ends = f"{entry['auroc_low']:.2f} to {entry['auroc_high']:.2f}"
    return (
        f"A classifier that sees only {WORDS[kind.name]} reaches an AUROC of {entry['auroc']:.2f} "
        f"({ends}, chance is 0.50) and an accuracy "
        f"of {entry['accuracy']:.2f}, where always saying {largest} reaches "
        f"{entry['majority']:.2f}: "
        f"{verdict if leak else 'no shortcut found'}."
    )


def _predicted(kind: Kind, task: _Task) -> Floats | None:
    """Return (samples, classes) probabilities by regressions fitted to the other folds, or None.

    Where nothing varies among the other folds of one, it is told how frequent their classes are.
    """
    columns = {name: [row.get(name) for row in task.rows] for name in kind.columns}
    classes = len(task.names)
    result = np.zeros((len(task.rows), classes))
    said = False
    for fold in np.unique(task.fold):
        fitted, wanted = np.flatnonzero(task.fold != fold), np.flatnonzero(task.fold == fold)
        found = fit_predict(kind.name, columns, task.label, fitted, wanted, classes)
        said |= found is not None
        counts = np.bincount(task.label[fitted], minlength=classes)
        result[wanted] = counts / counts.sum() if found is None else found
    return result if said else None


def _figures(chances: Floats, task: _Task) -> dict[str, float | None] | None:
    """Return the five figures, interval ends of None where too few draws have a value."""
    classes = range(1, 2) if len(task.names) == 2 else range(len(task.names))
    orders = [
        ranking.rank(task.label == code, chances[:, code], task.group, task.fold)
        for code in classes
    ]
    count = int(task.group.max()) + 1
    value = float(_areas(orders, np.ones((1, count), np.int32))[0])
    if not np.isfinite(value):
        return None
    number = int(min(max(BUDGET // (len(chances) * len(orders)), DRAWS[0]), DRAWS[1]))
    strata = resampling.strata_of(task.group, task.label, task.fold)
    tables = resampling.draws(count, number, 0, max(1, BLOCK // len(chances)), strata)
    ends = resampling.interval(np.concatenate([_areas(orders, each) for each in tables]))
    low, high = (None, None) if ends is None else (round(end, 3) for end in ends)
    return {
        "auroc": round(value, 3),
        "auroc_low": low,
        "auroc_high": high,
        "accuracy": round(float(np.mean(chances.argmax(axis=1) == task.label)), 3),
        "majority": round(float(np.mean(task.label == task.majority)), 3),
    }


def _areas(orders: Sequence[Sequence[Ranking]], counts: resampling.Counts) -> Floats:
    """Return the mean over classes of the AUROC within folds, (draws,)."""
    each = np.stack([ranking.measure(order, counts).auroc for order in orders])
    known = np.isfinite(each)
    sums = np.where(known, each, 0).sum(axis=0)
    return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)
