"""Columns of samples.parquet: what is known of each sample, and where its members lie."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

SUFFIXES = ("png", "jpg", "mask.png", "intersection.png", "json")
ABSENT = -1
PART = "_part"  # column: number of a sample's dataset
_OFFSET = ".offset"
_PLACE = (_OFFSET, ".size", ".sha256")


class Columns(Mapping[str, NDArray[Any]]):
    """Columns by name, made plain when they are first asked for.

    A column is an object array (n,) of plain Python values: text, int, float, bool, or lists of
    these; None where a value is unknown, never a default. ``Table.numbers`` makes floats of one.
    """

    def __init__(self, table: pyarrow.Table) -> None:
        """Take the columns of a table that do not place members."""
        self._table = table
        members = [name[: -len(_OFFSET)] for name in table.column_names if name.endswith(_OFFSET)]
        hidden = {PART, *(member + end for member in members for end in _PLACE)}
        self._names = [name for name in table.column_names if name not in hidden]
        self._plain: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column; KeyError when there is none."""
        if name not in self._names:
            raise KeyError(name)
        if name not in self._plain:
            values = np.empty(self._table.num_rows, object)
            values[:] = self._table[name].to_pylist()
            values.flags.writeable = False
            self._plain[name] = values
        return self._plain[name]

    def __iter__(self) -> Iterator[str]:
        """Return the columns' names, in the order of the table."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return how many columns there are."""
        return len(self._names)


@dataclass(frozen=True)
class Place:
    """Where the members of one suffix lie; arrays are (n,).

    Attributes:
        offset: First byte in the shard, ``ABSENT`` where a sample has no such member.
        size: Bytes.
        sha256: Hash of the content.
        checked: Whether the content was once found to be right.
    """

    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    sha256: NDArray[Any]
    checked: NDArray[np.bool_]


def places(table: pyarrow.Table) -> dict[str, Place]:
    """Return suffix -> places; other suffixes than ``SUFFIXES`` are never looked at."""
    found = {}
    for suffix in SUFFIXES:
        if f"{suffix}.offset" not in table.column_names:
            continue
        offset, size = (
            pyarrow.compute.fill_null(table[f"{suffix}{end}"], ABSENT).to_numpy()
            for end in (".offset", ".size")
        )
        digests = table[f"{suffix}.sha256"].to_numpy()
        found[suffix] = Place(offset, size, digests, np.zeros(table.num_rows, bool))
    return found
