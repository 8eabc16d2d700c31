"""What is reached without looking for a disease: beside every table, on the same samples.

``majority`` knows how frequent the classes are, ``shortcut`` sees the grey level alone, and
``metadata`` age, machine and view; ``mask``, where pictures are shown by a mask, sees its shape
and the grey level inside. All are fitted on the training samples and on nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from mammotrain.scores import UNKNOWN

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Columns = Mapping[str, Sequence[Any] | NDArray[Any]]

KINDS = ("majority", "shortcut", "metadata")
MASK = "mask"
OF_MASKS = (
    "area", "pieces", "elongation", "solidity", "compactness", "aspect", "mean", "spread",
    "contrast",
)  # fmt: skip
FAR = 5.0  # standard deviations beyond which a value counts as this far
CATEGORIES = 64
FEWEST = 5  # samples of a category of its own
QUANTILES = 5


@dataclass(frozen=True)
class Baseline:
    """What a baseline says.

    Attributes:
        values: (n, classes) probabilities of the wanted samples; None when there is no baseline.
        reason: Why there is none, or an empty text.
    """

    values: Floats | None
    reason: str = ""


def predict(
    kind: str, columns: Columns, labels: Rows, training: Rows, wanted: Rows, classes: int
) -> Baseline:
    """Fit a baseline on some samples of a table and ask it about others.

    The regressions are scikit-learn's with its default penalty. A number is there as it is and
    squared, scaled by the training samples, cut at 5 standard deviations; an unknown one is the
    training median, and a column of its own says so. A category is a column when 5 training samples
    have it.

    Args:
        kind: ``majority``, ``shortcut``, ``metadata`` or ``mask``.
        columns: Of samples.parquet, by name; what is absent is not used.
        labels: (table,) classes, -1 where unknown.
        training: Places of the samples to fit on.
        wanted: (n,) places of the samples to ask about.
        classes: How many there are.
    """
    fitted = training[labels[training] != UNKNOWN]
    counts = np.bincount(labels[fitted], minlength=classes)
    if not fitted.size:
        return Baseline(None, "no training sample has a label")
    if kind == "majority":
        return Baseline(np.tile(counts / counts.sum(), (len(wanted), 1)))
    if np.count_nonzero(counts) < 2:
        return Baseline(None, "the training samples hold only one class")
    # Fitted rows, wanted rows: the columns are scaled by the first and never by the second.
    table = FEATURES[kind](columns, fitted, wanted)
    if not table.shape[1]:
        return Baseline(None, f"the table holds nothing for it that varies ({USED[kind]})")
    model = LogisticRegression(max_iter=5000)
    model.fit(table[: len(fitted)], labels[fitted])
    values = np.zeros((len(wanted), classes))
    values[:, model.classes_] = model.predict_proba(table[len(fitted) :])
    return Baseline(values)


def _shortcut(columns: Columns, fitted: Rows, wanted: Rows) -> Floats:
    numbers = [
        numbers_of(columns[name])
        for name in ("quality.mean", "quality.spread", "quality.maximum")
        if name in columns
    ]
    if "intensity" in columns:
        numbers += list(_quantiles(columns["intensity"]).T)
    return _table([_number(each, fitted, wanted) for each in numbers], fitted, wanted)


def _metadata(columns: Columns, fitted: Rows, wanted: Rows) -> Floats:
    parts = []
    if "labels.age" in columns:
        parts.append(_number(numbers_of(columns["labels.age"]), fitted, wanted))
    for texts in (machines(columns), texts_of(columns["view"]) if "view" in columns else None):
        if texts is not None:
            parts.append(_category(texts, fitted, wanted))
    return _table(parts, fitted, wanted)


def _mask(columns: Columns, fitted: Rows, wanted: Rows) -> Floats:
    names = [f"quality.mask_{name}" for name in OF_MASKS]
    parts = [
        _number(numbers_of(columns[name]), fitted, wanted) for name in names if name in columns
    ]
    return _table(parts, fitted, wanted)


FEATURES: Mapping[str, Callable[[Columns, Rows, Rows], Floats]] = {
    "shortcut": _shortcut,
    "metadata": _metadata,
    MASK: _mask,
}
USED = {
    "shortcut": "intensity, quality.mean, quality.spread, quality.maximum",
    "metadata": "labels.age, labels.machine_id, acquisition.manufacturer, view",
    MASK: "quality.mask_...",
}


def machines(columns: Columns) -> NDArray[np.str_] | None:
    """Return each sample's machine number, else its maker, else an empty text; None without."""
    found = None
    for name in ("acquisition.manufacturer", "labels.machine_id"):
        if name in columns:
            texts = texts_of(columns[name])
            found = texts if found is None else np.where(texts == "", found, texts)
    return found


def texts_of(column: Sequence[Any] | NDArray[Any]) -> NDArray[np.str_]:
    """Return a column as texts: nothing for None and NaN, no ``.0`` behind a whole number."""
    return np.array([_text(value) for value in column], np.str_)


def numbers_of(column: Sequence[Any] | NDArray[Any]) -> Floats:
    """Return a column as numbers, NaN for what is none."""
    return np.array([_float(value) for value in column], np.float64)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _float(value: Any) -> float:
    plain = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if plain and np.isfinite(value) else np.nan


def _quantiles(column: Sequence[Any] | NDArray[Any]) -> Floats:
    """Return (table, 5) intensity quantiles; a sample without all of them is NaN."""
    found = np.full((len(column), QUANTILES), np.nan)
    for row, value in enumerate(column):
        if isinstance(value, Sequence | np.ndarray) and len(value) == QUANTILES:
            found[row] = [_float(each) for each in value]
    return found


def _number(values: Floats, fitted: Rows, wanted: Rows) -> Floats:
    """Return the columns of a number, (fitted + wanted, 3): plain, squared, unknown."""
    known = values[fitted][np.isfinite(values[fitted])]
    if not known.size:
        return np.zeros((len(fitted) + len(wanted), 0))
    every = values[np.concatenate([fitted, wanted])]
    missing = ~np.isfinite(every)
    spread = float(known.std()) or 1.0
    filled = np.where(missing, np.median(known), every)
    scaled = np.clip((filled - known.mean()) / spread, -FAR, FAR)
    return np.stack([scaled, np.square(scaled), missing.astype(np.float64)], axis=1)


def _category(texts: NDArray[np.str_], fitted: Rows, wanted: Rows) -> Floats:
    """Return one column a frequent value of the fitted samples."""
    names, counts = np.unique(texts[fitted], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:CATEGORIES]
    chosen = [names[place] for place in order if counts[place] >= FEWEST]
    every = texts[np.concatenate([fitted, wanted])]
    found = [(every == name).astype(np.float64)[:, None] for name in chosen]
    return np.concatenate([np.zeros((len(every), 0)), *found], axis=1)


def _table(parts: list[Floats], fitted: Rows, wanted: Rows) -> Floats:
    """Return the columns that vary among the fitted samples, side by side."""
    table = np.concatenate([np.zeros((len(fitted) + len(wanted), 0)), *parts], axis=1)
    return table[:, np.ptp(table[: len(fitted)], axis=0) > 0]
