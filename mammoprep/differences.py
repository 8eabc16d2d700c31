"""What changed between two builds: settings, inputs, labels, pixels, geometry."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoprep.config import difference
from mammoprep.samples import PLACES, Row, read_samples
from mammoprep.state import read_json_lines

NAMED = 5
PIXELS = ("png.sha256", "jpg.sha256")
MASKS = ("mask.png.sha256", "intersection.png.sha256")


@dataclass(frozen=True)
class Difference:
    """What two datasets do not share.

    Attributes:
        settings: ``name: old -> new``, settings and versions.
        counts: Kind of change -> how many samples; ``same`` are those without any.
        examples: Kind of change -> a few keys.
        columns: Column of the metadata -> how many samples differ in it.
    """

    settings: tuple[str, ...]
    counts: Mapping[str, int]
    examples: Mapping[str, list[str]]
    columns: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "settings": list(self.settings),
            "counts": dict(self.counts),
            "examples": {kind: list(keys) for kind, keys in self.examples.items()},
            "columns": dict(self.columns),
        }


def compare(old: Path, new: Path) -> Difference:
    """Compare two finished datasets sample by sample, by their tables; no picture is decoded.

    Kinds of change: ``added``, ``removed`` (in one only), ``split``, ``label``, ``labels``,
    ``pixels``, ``mask``, ``geometry``, ``rois``, ``other`` (any other metadata), ``now_failed`` and
    ``now_built`` (by input).

    Raises:
        ConfigError: one of them is no dataset.
        DamageError: one of them is damaged.
    """
    (first, old_rows), (second, new_rows) = read_samples(old), read_samples(new)
    before, after = ({str(row["key"]): row for row in rows} for rows in (old_rows, new_rows))
    kinds: dict[str, list[str]] = {
        "added": sorted(set(after) - set(before)),
        "removed": sorted(set(before) - set(after)),
    }
    columns: dict[str, int] = {}
    same = 0
    for key in sorted(set(before) & set(after)):
        changed = _changed(before[key], after[key])
        for column in changed:
            if not column.endswith(PLACES):
                columns[column] = columns.get(column, 0) + 1
        for kind in sorted({_kind(column) for column in changed}):
            kinds.setdefault(kind, []).append(key)
        same += not changed
    split = any("repacked_from" in summary for summary in (first, second))
    old_failed, new_failed = (set() if split else _failed(root) for root in (old, new))
    kinds["now_failed"] = sorted(new_failed - old_failed)
    kinds["now_built"] = sorted(old_failed - new_failed)
    told = (
        *difference(first["settings"], second["settings"]),
        *difference(first["versions"], second["versions"]),
    )
    return Difference(
        told,
        {"same": same, **{kind: len(found) for kind, found in kinds.items() if found}},
        {kind: found[:NAMED] for kind, found in kinds.items() if found},
        dict(sorted(columns.items(), key=lambda item: (-item[1], item[0]))),
    )


def _changed(before: Row, after: Row) -> list[str]:
    names: Iterable[str] = {**before, **after}
    ignored = ("shard", ".offset", ".size", "json.sha256")
    return [
        name for name in names if not name.endswith(ignored) and before.get(name) != after.get(name)
    ]


def _kind(column: str) -> str:
    if column in PIXELS:
        return "pixels"
    if column in MASKS:
        return "mask"
    head = column.split(".", 1)[0]
    if head == "label_name":
        return "label"
    return head if head in ("split", "label", "labels", "geometry", "rois") else "other"


def _failed(root: Path) -> set[str]:
    return {str(line["input"]) for line in read_json_lines(root / "failures.jsonl")}
