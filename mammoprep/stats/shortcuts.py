"""Logistic regressions that never look for a disease: what they see, and what they say.

One implementation for both packages: ``dataset.json`` says how far they get in a dataset, a run's
report what a model adds to them. Scales and categories come from the fitted samples alone; on the
same fitted and wanted samples the answers are the same to the last bit, in whatever order the
fitted ones stand.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Texts = NDArray[np.str_]
Column = Sequence[Any] | NDArray[Any]
Columns = Mapping[str, Column]

CATEGORIES = 64
FEWEST = 5  # fitted samples that make a category a column of its own
FAR = 5.0  # standard deviations beyond which a value counts as this far
HUGE = 1e100  # no measure; its square would soon be no number any more
FLAT = 1e-9  # a spread below which a column tells nothing
DIGITS = 6  # of a probability: what the order of sums does to it lies behind them

INTENSITY = "intensity"  # a column of five quantiles
STORED_SIZE = "geometry.stored_size"
QUANTILES = tuple(f"{INTENSITY} {share} %" for share in (1, 25, 50, 75, 99))
SIZE = ("height", "width", "height by width")
MASK = (
    "area", "pieces", "elongation", "solidity", "compactness", "aspect", "mean", "spread",
    "contrast",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What one of the regressions sees.

    Attributes:
        name: Of the kind.
        numbers: Columns of samples.parquet, ``QUANTILES`` of one, or ``SIZE`` of one.
        categories: Columns.
    """

    name: str
    numbers: tuple[str, ...]
    categories: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of samples.parquet that it is made of."""
        parts = {**dict.fromkeys(QUANTILES, INTENSITY), **dict.fromkeys(SIZE, STORED_SIZE)}
        return tuple(dict.fromkeys([*(parts.get(n, n) for n in self.numbers), *self.categories]))


KINDS = (
    Kind(INTENSITY, ("quality.mean", "quality.spread", "quality.maximum", *QUANTILES)),
    Kind(
        "sharpness and size",
        ("quality.sharpness", "quality.sharpness_half", "quality.sharpness_quarter", *SIZE),
    ),
    Kind(
        "metadata",
        ("labels.age",),
        ("view", "laterality", "labels.machine_id", "labels.site_id", "acquisition.manufacturer"),
    ),
    Kind("mask", tuple(f"quality.mask_{name}" for name in MASK)),
)
BY_NAME = {kind.name: kind for kind in KINDS}


def fit_predict(  # one call, so that nobody can scale by other samples than are fitted
    kind: str, columns: Columns, labels: Places, fitted: Places, wanted: Places, classes: int
) -> Floats | None:
    """Fit a regression on some samples of a table and ask it about others.

    scikit-learn's logistic regression with its default penalty. A number stands there as it is and
    squared, each with mean 0 and standard deviation 1, cut at 5; an unknown one is the median, and
    a column of its own says so. Of categories the 64 most frequent are a column each, which 5
    samples have or more.

    Args:
        kind: Name of one of ``KINDS``.
        columns: Of samples.parquet, by name; what is absent is not used.
        labels: (table,) classes, from 0.
        fitted: Places of the samples to fit on; all of known class.
        wanted: (n,) places of the samples to ask about.
        classes: How many there are.

    Returns:
        (n, classes) probabilities, the same digits whatever the number of threads; None when
        nothing varies among the fitted samples. Classes that were not fitted have 0.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    seen = design(BY_NAME[kind], columns, fitted, wanted)
    if not seen.shape[1]:
        return None
    told, asked = seen[: len(fitted)], seen[len(fitted) :]
    result = np.zeros((len(wanted), classes))
    present = np.unique(labels[fitted])
    if len(present) == 1:
        result[:, present] = 1.0
        return result
    order = np.lexsort([*told.T, labels[fitted]])  # sums in one order, whatever that of the table
    with threadpool_limits(1):  # and whatever the machine
        model = LogisticRegression(max_iter=2000, tol=1e-6)
        model.fit(told[order], labels[fitted][order])
        if len(wanted):
            result[:, present] = model.predict_proba(asked)
    result = np.round(result, DIGITS)
    return np.asarray(result / result.sum(axis=1, keepdims=True))


def design(kind: Kind, columns: Columns, fitted: Places, wanted: Places) -> Floats:
    """Return what a regression sees, (fitted + wanted, features); only what varies when fitting."""
    rows = np.concatenate([fitted, wanted])
    found: list[Floats] = []
    for name in kind.numbers:
        if (values := _numbers(columns, name, rows)) is not None:
            found += _scaled(values, len(fitted))
    for name in kind.categories:
        if name in columns:
            found += _one_hot(texts_of([columns[name][row] for row in rows]), len(fitted))
    return np.stack(found, axis=1) if found else np.zeros((len(rows), 0))


def numbers_of(column: Column) -> Floats:
    """Return a column as numbers, NaN for what is none."""
    return np.array([_float(value) for value in column], np.float64)


def texts_of(column: Column) -> Texts:
    """Return a column as texts: nothing for None and NaN, no ``.0`` behind a whole number."""
    return np.array([_text(value) for value in column], np.str_)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return np.nan
    number = float(value)
    return number if -HUGE < number < HUGE else np.nan


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _numbers(columns: Columns, name: str, rows: Places) -> Floats | None:
    """Return a number of these rows, NaN where unknown; None without its column."""
    if name in QUANTILES:
        return _item(columns, INTENSITY, QUANTILES.index(name), rows)
    if name not in SIZE:
        return numbers_of([columns[name][row] for row in rows]) if name in columns else None
    height, width = (_item(columns, STORED_SIZE, place, rows) for place in (0, 1))
    if height is None or width is None:
        return None
    known = (height > 0) & (width > 0)  # not for NaN
    height, width = np.where(known, height, np.nan), np.where(known, width, np.nan)
    return {
        SIZE[0]: np.log(height),
        SIZE[1]: np.log(width),
        SIZE[2]: np.log(height / width),
    }[name]


def _item(columns: Columns, name: str, place: int, rows: Places) -> Floats | None:
    """Return one item of a column of lists, NaN where the list is not as long as it should be."""
    if name not in columns:
        return None
    length = len(QUANTILES) if name == INTENSITY else 2
    lists = (columns[name][row] for row in rows)
    return numbers_of([
        each[place] if isinstance(each, Sequence | np.ndarray) and len(each) == length else None
        for each in lists
    ])  # fmt: skip


def _scaled(values: Floats, fitted: int) -> list[Floats]:
    """Return the columns of a number that vary: whether it is known, itself, its square."""
    known = np.isfinite(values)
    columns = [_standard(known.astype(np.float64), fitted)]
    if known[:fitted].any():
        middle = np.median(values[:fitted][known[:fitted]])
        straight = _standard(np.where(known, values, middle), fitted)
        columns += [straight, _standard(straight**2, fitted)]
    return [column for column in columns if column[:fitted].any()]


def _standard(values: Floats, fitted: int) -> Floats:
    """Return a column with mean 0 and spread 1 among the fitted samples; zeros for a constant."""
    own = np.sort(values[:fitted])  # sums in one order
    spread = float(own.std()) if fitted else 0.0
    if spread <= FLAT:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - own.mean()) / spread, -FAR, FAR))


def _one_hot(texts: Texts, fitted: int) -> list[Floats]:
    """Return one column for each frequent category; unknown is one too."""
    counts = Counter(texts[:fitted].tolist())
    shown = sorted(counts, key=lambda name: (-counts[name], name))[:CATEGORIES]
    frequent = [name for name in shown if FEWEST <= counts[name] < fitted]
    return [_standard((texts == name).astype(np.float64), fitted) for name in frequent]
