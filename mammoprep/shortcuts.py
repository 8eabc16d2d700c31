"""How much of the label a classifier gets right that never looks for a disease.

Logistic regressions see only the grey level, only sharpness and size, only what the table says, or
only the mask, and are asked about groups that they were not fitted to. docs/shortcuts.md says what
the figures mean.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite, log, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]
Floats = NDArray[np.float64]
Whole = NDArray[np.intp]

FOLDS = 5
MOST_FOLDS = 10
FEWEST_SAMPLES = 20
FEWEST_GROUPS = 5  # of a class: one for each fold
LEAK = 0.55  # chance is 0.5; the lower bound must be above this
LEVELS = (0.025, 0.975)
DRAWS = (100, 500)
BUDGET = 2e8  # samples x classes x draws of the bootstrap
CATEGORIES = 64
FAR = 5.0  # standard deviations beyond which a value counts as this far

QUANTILES = tuple(f"intensity {share} %" for share in (1, 25, 50, 75, 99))
SIZE = ("height", "width", "height by width")
MASK = (
    "area", "pieces", "elongation", "solidity", "compactness", "aspect", "mean", "spread",
    "contrast",
)  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """What one of the classifiers sees: numbers and categories, by their name in ``_numbers``."""

    name: str
    words: str
    numbers: tuple[str, ...]
    categories: tuple[str, ...] = ()


KINDS = (
    _Kind(
        "intensity",
        "the grey level (mean, spread, maximum, percentiles)",
        ("quality.mean", "quality.spread", "quality.maximum", *QUANTILES),
    ),
    _Kind(
        "sharpness and size",
        "sharpness and stored size",
        ("quality.sharpness", "quality.sharpness_half", "quality.sharpness_quarter", *SIZE),
    ),
    _Kind(
        "metadata",
        "age, view, side, machine and site",
        ("labels.age",),
        ("view", "laterality", "labels.machine_id", "labels.site_id", "acquisition.manufacturer"),
    ),
    _Kind(
        "mask",
        "the mask (its shape, and the grey level inside)",
        tuple(f"quality.mask_{name}" for name in MASK),
    ),
)


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
    has between 2 and ``MOST_FOLDS``, else ``FOLDS`` of whole groups.

    Args:
        rows: Rows of ``samples.parquet``, flat, keys with dots; the order does not matter.
        label_names: Class names by code.

    Returns:
        One a kind (``KINDS``): ``features``, ``leak``, ``says`` (a sentence), ``auroc`` (of each
        class against the rest, mean over classes) with ``auroc_low`` and ``auroc_high`` (95 %, by a
        bootstrap over groups), ``accuracy``, ``majority`` (accuracy of always saying the largest
        class), ``samples``, ``groups`` and ``classes``. What could not be checked has None for the
        five figures, and ``says`` tells why.
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
        np.array([codes.index(int(row["label"])) for row in kept], np.intp),
        np.array([place[_group(row)] for row in kept], np.intp),
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
        return np.array([names.index(str(row["split"])) for row in rows], np.intp)
    top: dict[str, int] = {}
    for row in rows:
        top[_group(row)] = max(top.get(_group(row), 0), int(row["label"]))
    order = sorted(top, key=lambda name: (top[name], sha256(name.encode()).hexdigest()))
    fold = {name: number % FOLDS for number, name in enumerate(order)}
    return np.array([fold[_group(row)] for row in rows], np.intp)


def _checked(kind: _Kind, task: _Task, reason: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "features": kind.name,
        "leak": False,
        "says": "",
        **dict.fromkeys(("auroc", "auroc_low", "auroc_high", "accuracy", "majority")),
        "samples": len(task.rows),
        "groups": len(set(task.group.tolist())),
        "classes": task.names,
    }
    seen = np.zeros((0, 0)) if reason else _design(kind, task.rows)
    if not reason and not seen.shape[1]:
        nothing = "no sample has a mask" if kind.name == "mask" else "it is the same for all"
        reason = f"not checked: {nothing}, or it was not recorded"
    if reason:
        return entry | {"says": f"{kind.name.capitalize()}: {reason}."}
    entry |= _figures(_predicted(seen, task), task)
    leak = entry["auroc_low"] > LEAK
    return entry | {"leak": leak, "says": _sentence(kind, entry, leak, task.names[task.majority])}


def _sentence(kind: _Kind, entry: Row, leak: bool, largest: str) -> str:
    grades = ((0.9, "it gives the label away"), (0.7, "it tells much of the label"))
    verdict = next((words for least, words in grades if entry["auroc"] >= least), "")
    verdict = verdict or "it tells something of the label"
    return (
        f"A classifier that sees only {kind.words} reaches an AUROC of {entry['auroc']:.2f} "
        f"({entry['auroc_low']:.2f} to {entry['auroc_high']:.2f}, chance is 0.50) and an accuracy "
        f"of {entry['accuracy']:.2f}, where always saying {largest} reaches "
        f"{entry['majority']:.2f}: "
        f"{verdict if leak else 'no shortcut found'}."
    )


def _design(kind: _Kind, rows: Sequence[Row]) -> Floats:
    """(samples, features): each number scaled and squared, whether it is known, each category."""
    numbers = [_numbers(row) for row in rows]
    columns: list[Floats] = []
    for name in kind.numbers:
        columns += _scaled(np.array([found.get(name, nan) for found in numbers]))
    for name in kind.categories:
        columns += _one_hot([row.get(name) for row in rows])
    return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0))


def _numbers(row: Row) -> dict[str, float]:
    """Everything of a sample that is a number and known."""
    found = {name: value for name, value in row.items() if name.startswith(("quality.", "labels."))}
    found |= dict(zip(QUANTILES, _items(row.get("intensity"), 5), strict=True))
    height, width = _items(row.get("geometry.stored_size"), 2)
    if height and width:
        found |= dict(zip(SIZE, (log(height), log(width), log(height / width)), strict=True))
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and isfinite(value)
    }


def _items(value: Any, count: int) -> Sequence[Any]:
    return value if value is not None and len(value) == count else (None,) * count


def _scaled(values: Floats) -> list[Floats]:
    """The column and its square with mean 0 and spread 1, and where it is known; no constants."""
    known = np.isfinite(values)
    columns = [_standard(known.astype(np.float64))]
    if known.any():
        filled = np.where(known, values, np.median(values[known]))
        straight = _standard(filled)
        columns += [straight, _standard(straight**2)]
    return [column for column in columns if column.any()]


def _standard(values: Floats) -> Floats:
    spread = float(values.std())
    scaled = (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)
    return np.asarray(np.clip(scaled, -FAR, FAR))


def _one_hot(values: Sequence[Any]) -> list[Floats]:
    """One column for each of the most frequent categories; unknown is one, rare ones are none."""
    names = ["" if value is None or value != value else str(value) for value in values]
    counts = Counter(names)
    shown = sorted(counts, key=lambda name: (-counts[name], name))[:CATEGORIES]
    frequent = [name for name in shown if FEWEST_GROUPS <= counts[name] < len(names)]
    array = np.array(names)
    return [_standard((array == name).astype(np.float64)) for name in frequent]


def _predicted(seen: Floats, task: _Task) -> Floats:
    """(samples, classes): probabilities by regressions fitted to the other folds, 6 digits."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    result = np.zeros((len(seen), len(task.names)))
    with threadpool_limits(1):  # sums in one order, whatever the machine
        for fold in np.unique(task.fold):
            inside = task.fold == fold
            present = np.unique(task.label[~inside])
            if len(present) < 2:
                result[np.ix_(inside, present)] = 1.0
                continue
            model = LogisticRegression(max_iter=2000, tol=1e-6)
            model.fit(seen[~inside], task.label[~inside])
            result[np.ix_(inside, present)] = model.predict_proba(seen[inside])
    return np.asarray(np.round(result, 6))


def _figures(chances: Floats, task: _Task) -> dict[str, float]:
    classes = range(1, 2) if len(task.names) == 2 else range(len(task.names))
    curves = [_Curve.of(chances[:, code], task.label == code) for code in classes]
    count = int(task.group.max()) + 1
    draws = int(min(max(BUDGET // (len(chances) * len(curves)), DRAWS[0]), DRAWS[1]))
    drawn = np.random.default_rng(0).integers(0, count, (draws, count))
    spread = []
    for draw in drawn:
        weights = np.bincount(draw, minlength=count)[task.group]
        areas = [area for curve in curves if (area := curve.area(weights)) is not None]
        spread += [float(np.mean(areas))] if areas else []
    whole = [curve.area(np.ones(len(chances), np.intp)) for curve in curves]
    low, high = np.quantile(spread, LEVELS)
    return {
        "auroc": round(float(np.mean([area for area in whole if area is not None])), 3),
        "auroc_low": round(float(low), 3),
        "auroc_high": round(float(high), 3),
        "accuracy": round(float(np.mean(chances.argmax(axis=1) == task.label)), 3),
        "majority": round(float(np.mean(task.label == task.majority)), 3),
    }


@dataclass(frozen=True)
class _Curve:
    """A class's samples sorted by score once, so that each draw of the bootstrap is one pass."""

    order: Whole
    starts: Whole
    positive: NDArray[np.bool_]

    @classmethod
    def of(cls, scores: Floats, positive: NDArray[np.bool_]) -> "_Curve":
        order = np.argsort(scores, kind="stable")
        starts = np.flatnonzero(np.diff(scores[order], prepend=-1.0))
        return cls(order, starts, positive[order])

    def area(self, weights: Whole) -> float | None:
        """Area under the ROC curve, a tie counts half; None without both sides."""
        sorted_weights = weights[self.order]
        good = np.add.reduceat(np.where(self.positive, sorted_weights, 0), self.starts)
        bad = np.add.reduceat(np.where(self.positive, 0, sorted_weights), self.starts)
        both = float(good.sum()) * float(bad.sum())
        below = np.cumsum(bad) - bad / 2
        return float(good @ below) / both if both else None
