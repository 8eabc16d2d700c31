"""What a table knows of the target: who has it, and what its classes are called."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError

LABEL = "label"
UNKNOWN = -1

Columns = Mapping[str, Sequence[Any]]


def known(columns: Columns, target: str) -> NDArray[np.bool_]:
    """Return which samples have the target, (table,); raises ConfigError as ``classes_of``."""
    return np.array([value is not None for value in columns[_column(target, columns)]], bool)


def classes_of(
    target: str, columns: Columns, label_names: Sequence[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return every sample's class, (table,), -1 where unknown, and what the classes are called.

    Args:
        target: ``label`` (the dataset's classes), or one of its labels that is yes or no.
        columns: Of every sample: ``label`` and ``labels.NAME``.
        label_names: Classes of ``label``.

    Raises:
        ConfigError: there is no such label, with the nearest one, or it is no yes or no.
    """
    values = columns[_column(target, columns)]
    classes = [UNKNOWN if value is None else int(value) for value in _checked(target, values)]
    names = list(label_names) if target == LABEL else [f"not_{target}", target]
    return np.array(classes, np.int64), tuple(names)


def counts_of(target: str, classes: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """Return how many training samples each class has.

    Args:
        target: As of ``classes_of``.
        classes: Of the training samples, -1 where unknown.
        names: Of the classes.

    Raises:
        ConfigError: they are all of one class.
    """
    counts = np.bincount(classes[classes >= 0], minlength=len(names))
    if np.count_nonzero(counts) < 2:
        raise ConfigError(
            f"task.target {target!r}: the training samples hold fewer than two classes "
            f"({', '.join(f'{n} {c}' for n, c in zip(names, counts, strict=True))})."
        )
    return counts


def check_two(target: str, names: Sequence[str], why: str) -> None:
    """Refuse a target of more than two classes; raises ConfigError.

    Args:
        target: As of ``classes_of``.
        names: Of its classes.
        why: What the message says besides.
    """
    if len(names) != 2:
        raise ConfigError(f"task.target {target!r} has {len(names)} classes; {why}")


def _checked(target: str, values: Sequence[Any]) -> Sequence[Any]:
    """Return the values of a target; of one that is not ``label`` they must be yes or no."""
    if target != LABEL:
        found = sorted({value for value in values if value is not None})
        if not set(found) <= {0, 1}:
            raise ConfigError(
                f"task.target {target!r} is no yes or no (values such as {found[:4]}). "
                "Build the shards with --target to make it `label`."
            )
    return values


def _column(target: str, columns: Columns) -> str:
    name = LABEL if target == LABEL else f"labels.{target}"
    if name not in columns:
        have = [LABEL, *(c.removeprefix("labels.") for c in columns if c.startswith("labels."))]
        hint = plugins.suggest(target, have)
        raise ConfigError(f"task.target: no label {target!r}.{hint} Known: {', '.join(have)}.")
    return name
