"""The table of scores that a run leaves behind: one row a sample, one probability a class."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError

UNKNOWN = -1
PREFIX = "score_"
FIXED = ("key", "group", "laterality", "view", "label")
FOLD = "fold"

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
        values: (n, classes) float64, probabilities, 0-1.
        names: What the classes are called; two or more.
        fold: Which fold a sample was scored in, or None for one split.
    """

    key: Texts
    group: Texts
    laterality: Texts
    view: Texts
    label: NDArray[np.int64]
    values: NDArray[np.float64]
    names: tuple[str, ...]
    fold: Texts | None = None

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
        if not np.all((self.values >= 0) & (self.values <= 1)):
            worst = self.key[~np.all((self.values >= 0) & (self.values <= 1), axis=1)][0]
            raise ConfigError(f"The scores of {worst} are no probabilities from 0 to 1.")
        if self.label.size and not UNKNOWN <= self.label.min() <= self.label.max() < classes:
            raise ConfigError(f"Labels must be {UNKNOWN} to {classes - 1} for {self.names}.")
        if len(np.unique(self.key)) < len(self.key):
            raise ConfigError("A key appears twice among the scores.")

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.key)

    def take(self, rows: NDArray[Any]) -> "Scores":
        """Return some samples, by their places or a mask."""
        return Scores(
            self.key[rows],
            self.group[rows],
            self.laterality[rows],
            self.view[rows],
            self.label[rows],
            self.values[rows],
            self.names,
            None if self.fold is None else self.fold[rows],
        )

    def labelled(self) -> "Scores":
        """Return the samples whose label is known."""
        return self.take(self.label != UNKNOWN)

    def with_values(self, values: NDArray[np.float64]) -> "Scores":
        """Return the same samples with other scores, (n, classes)."""
        return replace(self, values=values)


def from_columns(
    columns: Mapping[str, Sequence[Any]],
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    values: NDArray[Any],
    names: Sequence[str],
) -> Scores:
    """Return the scores of some samples of a table.

    Args:
        columns: ``key``, ``group``, ``laterality`` and ``view`` of every sample of the table.
        rows: (n,) places in the table.
        labels: (n,) classes of these samples, -1 where unknown.
        values: (n, classes) probabilities.
        names: Of the classes.
    """
    texts = {name: _texts([columns[name][row] for row in rows]) for name in FIXED[:4]}
    label, probability = np.asarray(labels, np.int64), np.asarray(values, np.float64)
    return Scores(**texts, label=label, values=probability, names=tuple(names))


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
    joined = Scores(
        np.concatenate([table.key for table in tables]),
        np.concatenate([table.group for table in tables]),
        np.concatenate([table.laterality for table in tables]),
        np.concatenate([table.view for table in tables]),
        np.concatenate([table.label for table in tables]),
        np.concatenate([table.values for table in tables]),
        tables[0].names,
        np.concatenate([np.full(len(table), name) for name, table in parts.items()]),
    )
    return joined.take(np.argsort(joined.key, kind="stable"))


def write(path: Path, scores: Scores) -> None:
    """Write ``scores.csv``, whole or not at all; reading it gives the same numbers.

    An unknown label is an empty cell.
    """
    header = [*FIXED, *(PREFIX + name for name in scores.names)]
    if scores.fold is not None:
        header.append(FOLD)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(_lines(scores))
    partial.replace(path)


def _lines(scores: Scores) -> Iterable[list[str]]:
    folds = [[]] * len(scores) if scores.fold is None else [[str(fold)] for fold in scores.fold]
    for row, fold in enumerate(folds):
        label = int(scores.label[row])
        yield [
            str(scores.key[row]),
            str(scores.group[row]),
            str(scores.laterality[row]),
            str(scores.view[row]),
            "" if label == UNKNOWN else str(label),
            *(repr(value) for value in scores.values[row].tolist()),
            *fold,
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
    names = tuple(name.removeprefix(PREFIX) for name in header if name.startswith(PREFIX))
    try:
        label = np.array([int(cell) if cell else UNKNOWN for cell in columns["label"]], np.int64)
        values = [[float(cell) for cell in columns[PREFIX + name]] for name in names]
    except ValueError as error:
        raise ConfigError(f"{path}: {error}.") from None
    return Scores(
        **{name: _texts(columns[name]) for name in FIXED[:4]},
        label=label,
        values=np.array(values, np.float64).T.reshape(len(lines), len(names)),
        names=names,
        fold=_texts(columns[FOLD]) if FOLD in columns else None,
    )


def _texts(values: Sequence[Any]) -> Texts:
    return np.array(["" if value is None else str(value) for value in values], np.str_)
