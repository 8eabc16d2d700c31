"""Finished samples in memory, as a table: what the loader asks of one, without any file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError, DamageError
from mammotrain.data.shards import Table

NESTED = ("labels", "geometry", "acquisition", "quality")


class Held(Table):
    """Samples that ``mammoprep.prepare_files`` made."""

    def __init__(self, samples: Sequence[Any], preparation: Mapping[str, Any]) -> None:
        """Take samples, each with ``metadata`` and ``members``, in order of their keys."""
        rows = [_flat(sample.metadata) for sample in samples]
        names = dict.fromkeys(name for row in rows for name in row)
        self.columns = {name: _column([row.get(name) for row in rows]) for name in names}
        self.preparation = dict(preparation)
        self.summaries, self.lost, self.content = (), {}, ""
        self.keys = self.columns["key"]
        self.shards = np.zeros(len(rows), np.int64)
        self._members = [sample.members for sample in samples]

    @property
    def label_names(self) -> tuple[str, ...]:
        """No classes: nobody has labelled these."""
        return ()

    def has(self, suffix: str) -> NDArray[np.bool_]:
        """Return which samples have a member, bool (n,)."""
        return np.array([suffix in members for members in self._members], bool)

    def shard_name(self, row: int) -> str:
        """Return an empty name: they are in no shard."""
        return ""

    def read(self, row: int, suffix: str) -> bytes:
        """Return a member's bytes; raises ConfigError when there is none."""
        if suffix not in self._members[row]:
            raise ConfigError(f"{self.keys[row]} has no member {suffix!r}.")
        content: bytes = self._members[row][suffix]
        return content

    def damaged(self, row: int, suffix: str, what: str) -> DamageError:
        """Return the error that names a sample."""
        return DamageError(f"{self.keys[row]}.{suffix}: {what}.")

    def ahead(self, rows: NDArray[np.int64]) -> None:
        """Take no hint: everything is at hand."""


def _flat(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample's metadata by the names of samples.parquet's columns."""
    found = {name: value for name, value in metadata.items() if name not in NESTED}
    for name in NESTED:
        found |= {f"{name}.{inner}": value for inner, value in metadata[name].items()}
    return found


def _column(values: Sequence[Any]) -> NDArray[Any]:
    column = np.empty(len(values), object)
    for place, value in enumerate(values):
        column[place] = value
    return column
