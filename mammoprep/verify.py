"""Is a finished dataset still, bit for bit, what its manifest says?"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.core.schema import base_split
from mammoprep.manifest import flatten
from mammoprep.state import STATE, hash_file, read_sealed
from mammoprep.writers.tar import BLOCK, header

MEMBERS = ("png", "jpg", "mask.png", "intersection.png", "json")


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was built.

    Attributes:
        shard: File name, or the name of another file of the dataset.
        key: The sample, or None where the damage belongs to none.
        what: What was expected and what was found.
    """

    shard: str
    key: str | None
    what: str


@dataclass(frozen=True)
class Verdict:
    """What ``verify`` found.

    Attributes:
        shards: How many shards were read.
        samples: How many samples they should hold.
        damages: Empty when every bit is right.
    """

    shards: int
    samples: int
    damages: tuple[Damage, ...]


def verify(root: Path) -> Verdict:
    """Re-read every file of a dataset and compare it with the manifest.

    Raises:
        ConfigError: the folder is no dataset.
        DamageError: the build was never finished, or its manifest is damaged.
    """
    summary = read_manifest(root)
    damages = [*_check_files(root, summary)]
    rows = _rows(root, summary, samples_are_whole=not damages)
    by_shard: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_shard[str(row["shard"])].append(row)
    for shard in summary["shards"]:
        damages += _check_shard(root, shard, by_shard[shard["name"]])
    damages += _check_strays(root, {shard["name"] for shard in summary["shards"]})
    damages += _check_leaks(rows)
    return Verdict(len(summary["shards"]), int(summary["counts"]["samples"]), tuple(damages))


def read_manifest(root: Path) -> dict[str, Any]:
    """Return the content of dataset.json.

    Raises:
        ConfigError: the folder is no dataset.
        DamageError: the build was never finished, or dataset.json is damaged.
    """
    path = root / "dataset.json"
    if not path.is_file():
        if (root / STATE).is_dir():
            raise DamageError(
                f"{root} has no dataset.json: its build did not finish. "
                "Run the same build command again."
            )
        raise ConfigError(f"{root} is no dataset: it has no dataset.json.")
    summary = read_sealed(path)
    if summary is None:
        raise DamageError(f"{path} is damaged. Run the same build command again to mend it.")
    return summary


def _check_files(root: Path, summary: Mapping[str, Any]) -> Iterator[Damage]:
    for name, digest in summary["files"].items():
        path = root / name
        if not path.is_file():
            yield Damage(name, None, "missing")
        elif hash_file(path)[1] != digest:
            yield Damage(name, None, "its bytes changed")


def _rows(
    root: Path, summary: Mapping[str, Any], *, samples_are_whole: bool
) -> list[dict[str, Any]]:
    """Return the samples table, from the sidecars when the table itself is damaged."""
    if samples_are_whole:
        table: list[dict[str, Any]] = pyarrow.parquet.read_table(
            root / "samples.parquet"
        ).to_pylist()
        return table
    rows: list[dict[str, Any]] = []
    for shard in summary["shards"]:
        name = str(shard["name"]).removesuffix(".tar")
        sidecar = read_sealed(root / STATE / "shards" / f"{name}.json")
        rows += [flatten(row) for row in (sidecar or {"rows": []})["rows"]]
    return rows


def _check_shard(
    root: Path, shard: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[Damage]:
    name = str(shard["name"])
    path = root / "shards" / name
    if path.is_symlink() or not path.is_file():
        return [Damage(name, None, f"missing, with its {shard['samples']} samples")]
    size, digest = hash_file(path)
    if (size, digest) == (shard["bytes"], shard["sha256"]):
        return []
    what = f"{size} bytes, expected {shard['bytes']}" if size != shard["bytes"] else "bytes changed"
    return [Damage(name, None, what), *_damaged_samples(path, rows)]


def _damaged_samples(path: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[Damage]:
    """Name every sample that has a changed bit in its content, its headers or its padding."""
    with path.open("rb") as file:
        for row in sorted(rows, key=lambda row: str(row["key"])):
            for suffix in MEMBERS:
                if row.get(f"{suffix}.offset") is None:
                    continue
                offset, size = int(row[f"{suffix}.offset"]), int(row[f"{suffix}.size"])
                file.seek(offset - BLOCK)
                found = file.read(BLOCK + size + -size % BLOCK)
                expected = header(f"{row['key']}.{suffix}", size)
                content = found[BLOCK : BLOCK + size]
                whole = found[:BLOCK] == expected and not any(found[BLOCK + size :])
                whole = whole and len(found) == BLOCK + size + -size % BLOCK
                if not whole or sha256(content).hexdigest() != row[f"{suffix}.sha256"]:
                    yield Damage(path.name, str(row["key"]), f"member {suffix} is damaged")


def _check_strays(root: Path, names: set[str]) -> Iterator[Damage]:
    folder = root / "shards"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name not in names:
            yield Damage(path.name, None, "not in the manifest")


def _check_leaks(rows: Sequence[Mapping[str, Any]]) -> Iterator[Damage]:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        splits[str(row["group"])].add(base_split(str(row["split"])))
    for group, found in sorted(splits.items()):
        if len(found) > 1:
            where = ", ".join(sorted(found))
            yield Damage("samples.parquet", None, f"group {group} is in {where}: a leak")
