"""Parts of the scored samples in which a model may be better or worse than on the whole."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammotrain.baselines import Columns, machines, numbers_of, texts_of
from mammotrain.checks import one_of

Texts = NDArray[np.str_]

UNKNOWN = "unknown"
OTHER = "other"
MOST = 24  # values of a slice that have a line of their own
AGES = (40, 50, 60, 70)
COLUMNS = {
    "machine": "labels.machine_id, acquisition.manufacturer",
    "site": "labels.site_id",
}
BY = tuple(COLUMNS)


def of_columns(columns: Columns, rows: NDArray[np.int64]) -> dict[str, Texts]:
    """Return which part each of some samples belongs to: slice name -> (n,) texts.

    Slices are ``view``, ``density``, ``age``, ``machine`` and ``site``; one that the table does not
    have, or in which nothing is known, is left out.

    Args:
        columns: Of samples.parquet, by name.
        rows: (n,) places in the table, in the order of the scores.
    """
    parts = {name: texts[rows] for name, texts in _known(columns).items()}
    return {name: _named(texts) for name, texts in parts.items() if np.any(texts != "")}


def _known(columns: Columns) -> dict[str, Texts]:
    found: dict[str, Texts | None] = {
        "view": _texts(columns, "view"),
        "density": _texts(columns, "labels.density"),
        "age": _ages(columns),
        "machine": machines(columns),
        "site": _texts(columns, "labels.site_id"),
    }
    return {name: texts for name, texts in found.items() if texts is not None}


def parts_by(columns: Columns, by: str) -> Texts:
    """Return the machine or site of every sample, empty where unknown.

    Raises:
        ConfigError: ``by`` is neither, or the table does not tell two of them apart.
    """
    one_of("--by", by, BY)
    found = _known(columns).get(by)
    if found is None or len(np.unique(found[found != ""])) < 2:
        raise ConfigError(
            f"--by {by}: the samples do not tell two or more apart (columns {COLUMNS[by]}). "
            "Without --by the folds are scored."
        )
    return found


def _texts(columns: Columns, name: str) -> Texts | None:
    return texts_of(columns[name]) if name in columns else None


def _ages(columns: Columns) -> Texts | None:
    if "labels.age" not in columns:
        return None
    names = [f"under {AGES[0]}"]
    names += [f"{low}-{high - 1}" for low, high in pairwise(AGES)]
    ages = numbers_of(columns["labels.age"])
    bands = np.array([*names, f"{AGES[-1]} and over"])[np.digitize(ages, AGES)]
    return np.where(np.isfinite(ages), bands, "")


def _named(texts: Texts) -> Texts:
    """Return texts in which rare values are ``other`` and empty ones ``unknown``."""
    names, counts = np.unique(texts[texts != ""], return_counts=True)
    kept = names[np.argsort(-counts, kind="stable")[:MOST]]
    named = np.where(np.isin(texts, kept), texts, OTHER)
    return np.where(texts == "", UNKNOWN, named)


def ordered(texts: Texts) -> list[str]:
    """Return the parts as a report lists them: by number or name, then other and unknown."""
    return sorted({str(text) for text in texts}, key=_place)


def _place(name: str) -> tuple[Any, ...]:
    number = float(name) if name.isdecimal() else np.inf
    return name in (OTHER, UNKNOWN), not name.startswith("under"), number, name
