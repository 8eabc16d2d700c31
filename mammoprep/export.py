"""A finished dataset -> plain files and a CSV, for programs that read folders."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mammoprep.core.errors import ConfigError
from mammoprep.samples import PLACES, Row, members, read_member, read_samples
from mammoprep.state import check_is_new

FOLDERS = {"mask.png": "masks", "intersection.png": "intersections", "json": "metadata"}
IMAGES = "images"
TABLE = "samples.csv"


def export(
    root: Path, out: Path, *, splits: Sequence[str] = (), step: Callable[[], None] = lambda: None
) -> int:
    """Write every sample's members as files, ``SPLIT/images/KEY.png`` and so on, and samples.csv.

    The bytes of a file are those of the member. samples.csv is written last.

    Args:
        root: A finished dataset.
        out: A new or empty folder.
        splits: Only these; all when empty.
        step: Called after every sample.

    Returns:
        How many samples were written.

    Raises:
        ConfigError: ``root`` is no dataset, ``out`` is not empty, or a split does not exist.
        DamageError: a member is not what was built; nothing after it was written.
    """
    _, rows = read_samples(root)
    known = {str(row["split"]) for row in rows}
    if unknown := sorted(set(splits) - known):
        raise ConfigError(f"--split {unknown[0]}: {root} has {', '.join(sorted(known))}.")
    check_is_new(out)
    chosen = [row for row in rows if not splits or str(row["split"]) in splits]
    written = []
    for row in chosen:
        written.append(_write(root, out, row))
        step()
    (out / TABLE).write_bytes(_table(chosen, written))
    return len(chosen)


def _write(root: Path, out: Path, row: Row) -> dict[str, str]:
    """Write a sample's members; return folder name -> path below ``out``."""
    paths = {}
    for suffix in members(row):
        kind = FOLDERS.get(suffix, IMAGES)
        extension = suffix.rsplit(".", 1)[-1]
        name = f"{row['split']}/{kind}/{row['key']}.{extension}"
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(read_member(root, row, suffix))
        paths[kind] = name
    return paths


def _table(rows: Sequence[Row], paths: Sequence[Mapping[str, str]]) -> bytes:
    kinds = sorted({kind for row in paths for kind in row})
    # Where a member lies in a shard is nothing to a reader of folders.
    columns = [name for name in (rows[0] if rows else {}) if not name.endswith(PLACES)]
    columns = [name for name in columns if name != "shard"]
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*kinds, *columns])
    for row, found in zip(rows, paths, strict=True):
        table.writerow([*(found.get(k, "") for k in kinds), *(_cell(row[c]) for c in columns)])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    return "" if value is None else value
