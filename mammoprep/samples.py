"""The samples of a finished dataset, by its table: rows, and members whose bytes are checked."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from mammoprep.core.errors import DamageError
from mammoprep.verify import MEMBERS, read_manifest

Row = Mapping[str, Any]
# Columns of a member's place in its shard, and of its bytes.
PLACES = (".offset", ".size", ".sha256")


def read_samples(root: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return dataset.json and the rows of samples.parquet, in order of their keys.

    Raises:
        ConfigError: the folder is no dataset.
        DamageError: its manifest or its table is damaged.
    """
    summary = read_manifest(root)
    try:
        rows = pyarrow.parquet.read_table(root / "samples.parquet").to_pylist()
    except (OSError, pyarrow.ArrowException):
        raise DamageError(
            f"{root}/samples.parquet is damaged. Run the same build command again."
        ) from None
    return summary, sorted(rows, key=lambda row: str(row["key"]))


def members(row: Row) -> list[str]:
    """Return the suffixes of the members that a sample has."""
    return [suffix for suffix in MEMBERS if row.get(f"{suffix}.offset") is not None]


def read_member(root: Path, row: Row, suffix: str) -> bytes:
    """Return a member's bytes.

    Raises:
        DamageError: they are not what was built.
    """
    place, size = int(row[f"{suffix}.offset"]), int(row[f"{suffix}.size"])
    try:
        with (root / "shards" / str(row["shard"])).open("rb") as file:
            file.seek(place)
            content = file.read(size)
    except OSError:
        content = b""
    if sha256(content).hexdigest() != row[f"{suffix}.sha256"]:
        raise DamageError(
            f"{row['shard']}: {row['key']}.{suffix} is damaged. "
            "Run the same build command again to mend it."
        )
    return content
