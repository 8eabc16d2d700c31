"""The table of scores that a run leaves behind: one row a sample, one probability a class."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammotrain import exams

UNKNOWN = -1
PREFIX = "score_"
CORRECTED = "corrected_"  # for the prevalence, where sampling had changed it
FIXED = ("key", "group", "laterality", "view", "label")
FOLD = "fold"
EXAM, SOURCE = "exam", "source"

Texts = NDArray[np.str_]


@dataclass(frozen=True)
class Scores:
    """What a model said of ``n`` samples; all arrays have one entry a sample.

    Attributes:
        key: The samples' keys, each once.
        group: What is drawn as a whole in a bootstrap: the patient.
        laterality: ``L``, ``R`` or an empty text.
        view: ``CC``, ``MLO`` and so on, or an empty text.
        label: Class number, int64; -1 where unknown.
        values: (n, classes) float64, probabilities, 0-1: what is judged, corrected for the
            prevalence where that was asked for.
        names: What the classes are called; two or more.
        fold: Which fold a sample was scored in, or None for one split.
        exam: The examination, or an empty text; None where nobody knows of any. See ``exams``.
        source: The dataset, or None where it is not told.
        raw: (n, classes) probabilities as the model gave them; None where they are ``values``.
    """

    key: Texts
    group: Texts
    laterality: Texts
    view: Texts
    label: NDArray[np.int64]
    values: NDArray[np.float64]
    names: tuple[str, ...]
    fold: Texts | None = None
    exam: Texts | None = None
    source: Texts | None = None
    raw: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Check shapes and ranges; raises ConfigError."""
        classes = len(self.names)
        if classes < 2 or len(set(self.names)) < classes:
            raise ConfigError(f"Scores need two or more classes, each once; got {self.names}.")
        if self.values.shape != (len(self.key), classes):
            raise ConfigError(
                f"Scores of {len(self.key)} samples and {classes} classes must have the shape "
                f"({len(self.key)}, {classes}), got {self.values.shape}."
            )
        for values in (self.values, self.given):
            if not np.all((values >= 0) & (values <= 1)):
                worst = self.key[~np.all((values >= 0) & (values <= 1), axis=1)][0]
                raise ConfigError(f"The scores of {worst} are no probabilities from 0 to 1.")
        if self.label.size and not UNKNOWN <= self.label.min() <= self.label.max() < classes:
            raise ConfigError(f"Labels must be {UNKNOWN} to {classes - 1} for {self.names}.")
        if len(np.unique(self.key)) < len(self.key):
            raise ConfigError("A key appears twice among the scores.")

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.key)

    @property
    def given(self) -> NDArray[np.float64]:
        """Probabilities as the model gave them, (n, classes)."""
        return self.values if self.raw is None else self.raw

    @property
    def strata(self) -> NDArray[np.intp] | None:
        """Numbers of what must not be ranked against each other, (n,); None where all may.

        These are the folds of a cv, which other models scored, and datasets that were pooled: a
        model that only knows one dataset from the other is no better for it.
        """
        told = [each for each in (self.fold, self.source) if each is not None]
        numbers = [np.unique(each, return_inverse=True)[1] for each in told]
        if not any(each.any() for each in numbers):
            return None
        return np.asarray(np.unique(np.stack(numbers), axis=1, return_inverse=True)[1]).ravel()

    def take(self, rows: NDArray[Any]) -> "Scores":
        """Return some samples, by their places or a mask."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        taken: dict[str, Any] = {n: None if a is None else a[rows] for n, a in arrays.items()}
        return replace(self, **taken)

    def labelled(self) -> "Scores":
        """Return the samples whose label is known."""
        return self.take(self.label != UNKNOWN)

    def with_values(self, values: NDArray[np.float64]) -> "Scores":
        """Return the same samples with other scores, (n, classes)."""
        return replace(self, values=values, raw=None)

    def corrected(self, values: NDArray[np.float64]) -> "Scores":
        """Return the same samples, judged by corrected probabilities, (n, classes)."""
        return replace(self, values=values, raw=self.given)


PLAIN = (*FIXED, "values")
ARRAYS = (*FIXED, "values", FOLD, EXAM, SOURCE, "raw")  # of Scores, with an entry a sample


def from_columns(
    columns: Mapping[str, Sequence[Any]],
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    values: NDArray[Any],
    names: Sequence[str],
) -> Scores:
    """Return the scores of some samples of a table.

    Args:
        columns: ``key``, ``group``, ``laterality`` and ``view`` of every sample of the table, and
            ``source`` and what ``exams.of_columns`` looks at where it has them.
        rows: (n,) places in the table.
        labels: (n,) classes of these samples, -1 where unknown.
        values: (n, classes) probabilities.
        names: Of the classes.
    """
    texts: dict[str, Any] = {
        name: _texts([columns[name][row] for row in rows]) for name in FIXED[:4]
    }
    label, probability = np.asarray(labels, np.int64), np.asarray(values, np.float64)
    source = _texts([columns[SOURCE][row] for row in rows]) if SOURCE in columns else None
    exam = exams.of_columns(columns, rows)
    told: dict[str, Any] = {"label": label, "values": probability, EXAM: exam, SOURCE: source}
    return Scores(**texts, names=tuple(names), **told)


def join(parts: Mapping[str, Scores]) -> Scores:
    """Return the out-of-fold scores of several folds as one table, sorted by key.

    Args:
        parts: Fold -> its scores; no sample is in two of them.

    Raises:
        ConfigError: there are none, the classes differ, or a key appears twice.
    """
    tables = list(parts.values())
    if len({table.names for table in tables}) != 1:
        raise ConfigError("Folds can be joined when there are some and all have the same classes.")
    folds = [np.full(len(table), name) for name, table in parts.items()]
    raw = [table.given for table in tables]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables]) for name in PLAIN
    }
    joined = Scores(
        **arrays,
        names=tables[0].names,
        fold=np.concatenate(folds),
        exam=_joined(tables, EXAM),
        source=_joined(tables, SOURCE),
        raw=np.concatenate(raw) if any(table.raw is not None for table in tables) else None,
    )
    return joined.take(np.argsort(joined.key, kind="stable"))


def _joined(tables: Sequence[Scores], name: str) -> Texts | None:
    """Return what some tables tell, empty where others do not; None where nobody does."""
    each = [getattr(table, name) for table in tables]
    if all(found is None for found in each):
        return None
    empty = [np.full(len(table), "") for table in tables]
    return np.concatenate([e if f is None else f for f, e in zip(each, empty, strict=True)])


def write(path: Path, scores: Scores, more: Mapping[str, Sequence[str]] | None = None) -> None:
    """Write ``scores.csv``, whole or not at all; reading it gives the same numbers.

    ``score_NAME`` is what the model gave, ``corrected_NAME`` the same corrected for the prevalence,
    empty where that was not asked for. An unknown label is an empty cell.

    Args:
        path: The file.
        scores: What it holds.
        more: Columns of the command that writes it, (n,) cells each; nobody reads them back.
    """
    added = more or {}
    fold = (FOLD,) if scores.fold is not None else ()
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header(scores.names, (*fold, *added)))
        for number, line in enumerate(_lines(scores)):
            writer.writerow([*line, *(cells[number] for cells in added.values())])
    partial.replace(path)


def header(names: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """Return the columns of a table of scores: the same for every command that writes one.

    Args:
        names: Of the classes.
        more: Columns of that command alone.
    """
    values = [prefix + name for prefix in (PREFIX, CORRECTED) for name in names]
    return [*FIXED, *values, EXAM, SOURCE, *more]


def _lines(scores: Scores) -> Iterable[list[str]]:
    given, nothing = scores.given, [""] * len(scores.names)
    columns = [getattr(scores, name) for name in (EXAM, SOURCE, FOLD)]
    for row in range(len(scores)):
        label = int(scores.label[row])
        corrected = nothing if scores.raw is None else map(repr, scores.values[row].tolist())
        exam, source, fold = ("" if each is None else str(each[row]) for each in columns)
        yield [
            str(scores.key[row]),
            str(scores.group[row]),
            str(scores.laterality[row]),
            str(scores.view[row]),
            "" if label == UNKNOWN else str(label),
            *map(repr, given[row].tolist()),
            *corrected,
            exam,
            source,
            *([] if scores.fold is None else [fold]),
        ]


def read(path: Path) -> Scores:
    """Read what ``write`` wrote.

    Raises:
        ConfigError: the file is absent, a column is missing, or a cell is no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}).") from None
    if missing := [name for name in FIXED if name not in header]:
        raise ConfigError(f"{path} has no column {missing[0]!r}; it has {', '.join(header)}.")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise ConfigError(f"{path}, line {number}: {len(line)} cells, not {len(header)}.")
    columns = {name: [line[place] for line in lines] for place, name in enumerate(header)}
    try:
        return _of_columns(columns)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from None


def _of_columns(columns: Mapping[str, list[str]]) -> Scores:
    """Return scores by the cells of a file; raises ValueError where one is no number."""
    names = tuple(name.removeprefix(PREFIX) for name in columns if name.startswith(PREFIX))
    label = np.array([int(cell) if cell else UNKNOWN for cell in columns["label"]], np.int64)
    given = _numbers([columns[PREFIX + name] for name in names], len(label))
    corrected = [columns.get(CORRECTED + name, []) for name in names]
    is_corrected = any(cell for cells in corrected for cell in cells)
    told: dict[str, Any] = {name: _told(columns, name) for name in (FOLD, EXAM, SOURCE)}
    return Scores(
        **{name: _texts(columns[name]) for name in FIXED[:4]},
        label=label,
        values=_numbers(corrected, len(label)) if is_corrected else given,
        names=names,
        raw=given if is_corrected else None,
        **told,
    )


def _numbers(cells: Sequence[Sequence[str]], rows: int) -> NDArray[np.float64]:
    return np.array([[float(c) for c in each] for each in cells], np.float64).T.reshape(
        rows, len(cells)
    )


def _told(columns: Mapping[str, list[str]], name: str) -> Texts | None:
    """Return a column of texts; None where it is absent or says nothing."""
    found = columns.get(name, [])
    return _texts(found) if any(found) else None


def _texts(values: Sequence[Any]) -> Texts:
    return np.array(["" if value is None else str(value) for value in values], np.str_)
