"""What was built: the merged sidecars, as a table and a failure list, and their counts."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import pyarrow
import pyarrow.parquet

from mammoprep import __version__, notices_masks
from mammoprep.config import Settings
from mammoprep.core.cards import Card
from mammoprep.core.errors import DamageError
from mammoprep.core.schema import FORMAT_VERSION
from mammoprep.plan import Plan
from mammoprep.state import Output, read_sealed
from mammoprep.writers.measures import NAMES as MEASURES
from mammoprep.writers.sample import CUT

# Every package whose version can change a byte of the output.
SHAPING = (
    "imagecodecs", "jinja2", "numpy", "opencv-python-headless", "pillow", "pyarrow", "pydicom",
    "pylibjpeg-rle", "scikit-learn", "scipy",
)  # fmt: skip
LABEL_TYPES = {
    "bool": pyarrow.bool_(),
    "int": pyarrow.int64(),
    "float": pyarrow.float64(),
    "str": pyarrow.string(),
}
_NUMBER, _TEXT, _WHOLE = pyarrow.float64(), pyarrow.string(), pyarrow.int64()
_NUMBERS, _WHOLES = pyarrow.list_(_NUMBER), pyarrow.list_(_WHOLE)
COLUMNS: dict[str, pyarrow.DataType] = {
    "key": _TEXT, "source": _TEXT, "split": _TEXT, "group": _TEXT, "patient_id": _TEXT,
    "study_id": _TEXT, "image_id": _TEXT, "laterality": _TEXT, "view": _TEXT, "exam_id": _TEXT,
    "label": _WHOLE, "label_name": _TEXT, "annotation": _TEXT, "intensity": _NUMBERS,
    "geometry.stored_size": _WHOLES, "geometry.size": _WHOLES,
    "geometry.matrix": pyarrow.list_(_NUMBERS), "geometry.flipped": pyarrow.bool_(),
    "geometry.crop": _WHOLES, "geometry.spacing_mm": _NUMBERS,
    "rois": pyarrow.list_(pyarrow.struct([
        ("id", _WHOLE), ("kind", _TEXT), ("pathology", _TEXT), ("box", _NUMBERS),
        ("polygon", pyarrow.list_(_NUMBERS)), ("number", _WHOLE),
    ])),
    "parent": _TEXT, "lesion": _WHOLE, "augmented": pyarrow.bool_(),
    "acquisition.photometric": _TEXT, "acquisition.bits_stored": _WHOLE,
    "acquisition.transfer_syntax": _TEXT, "acquisition.voi": _TEXT,
    "acquisition.voi_function": _TEXT, "acquisition.window": _NUMBERS,
    "acquisition.manufacturer": _TEXT, "acquisition.decode": _TEXT,
    "quality.crop_confidence": _NUMBER,
    **{f"quality.{name}": _NUMBER for name in (*MEASURES, *CUT)},
    "warnings": pyarrow.list_(_TEXT), "shard": _TEXT,
}  # fmt: skip
NESTED = ("labels", "geometry", "acquisition", "quality")


@dataclass(frozen=True)
class Built:
    """Everything the sidecars say.

    Attributes:
        rows: One a sample, sorted by key, flattened with dots.
        failures: One an input not built, sorted by input.
        shards: One a finished file, sorted by name.
    """

    rows: list[dict[str, Any]]
    failures: list[dict[str, str]]
    shards: list[dict[str, Any]]


def versions() -> dict[str, str]:
    """Return the versions of everything that shapes bytes: packages, and C libraries in them."""
    from mammoprep.decode.codecs import libraries

    found = {name: version(name) for name in SHAPING}
    return {"mammoprep": __version__, **found, **libraries()}


def settings_hash(source: str, settings: Settings) -> str:
    """Return the hash of everything but the inputs that shapes bytes."""
    value = [FORMAT_VERSION, source, settings.to_json(), versions()]
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def collect(plan: Plan, output: Output) -> Built:
    """Merge the sidecars of every planned shard.

    Raises:
        DamageError: a sidecar is missing or damaged; a plain re-run builds its shard again.
    """
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    shards: list[dict[str, Any]] = []
    for shard in plan.shards:
        sidecar = read_sealed(output.sidecar(shard.name))
        if sidecar is None:
            raise DamageError(f"{output.sidecar(shard.name)} is damaged. Run the build again.")
        rows += [flatten(row) for row in sidecar["rows"]]
        if not shard.augmented:  # each of its inputs is in another shard, which tells
            failures += sidecar["failures"]
        if sidecar["tar"] is not None:
            name = f"{shard.name}.tar"
            count = len(sidecar["rows"])
            shards.append({"name": name, "split": shard.split, "samples": count, **sidecar["tar"]})
    rows.sort(key=lambda row: str(row["key"]))
    failures.sort(key=lambda failure: failure["input"])
    return Built(rows, failures, shards)


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sidecar's row with nested fields as columns named with dots."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name in NESTED:
            flat |= {f"{name}.{inner}": item for inner, item in value.items()}
        elif name == "members":
            for suffix, place in value.items():
                flat |= {f"{suffix}.{inner}": item for inner, item in place.items()}
        else:
            flat[name] = value
    return flat


def samples_table(rows: Sequence[Mapping[str, Any]], card: Card, suffixes: Iterable[str]) -> bytes:
    """Return samples.parquet: the same columns and types whatever the values are."""
    fields = [(name, kind) for name, kind in COLUMNS.items()]
    fields += [(f"labels.{name}", LABEL_TYPES[kind]) for name, kind in card.labels.items()]
    for suffix in suffixes:
        fields += [
            (f"{suffix}.offset", _WHOLE), (f"{suffix}.size", _WHOLE), (f"{suffix}.sha256", _TEXT)
        ]  # fmt: skip
    table = pyarrow.Table.from_pylist(list(rows), schema=pyarrow.schema(fields))
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd", row_group_size=10_000)
    return bytes(sink.getvalue())


def failure_lines(failures: Sequence[Mapping[str, str]]) -> bytes:
    """Return failures.jsonl."""
    lines = [json.dumps({k: f[k] for k in ("input", "code", "detail")}) for f in failures]
    return "".join(line + "\n" for line in lines).encode()


def counts(plan: Plan, built: Built, label_names: Sequence[str]) -> dict[str, Any]:
    """Return the ``counts`` of dataset.json: inputs = built + failed + excluded."""
    return {
        "inputs": plan.inputs,
        "built": plan.inputs - sum(plan.excluded.values()) - len(built.failures),
        "samples": len(built.rows),
        **_tiles(built.rows),
        **notices_masks.count(built.rows),
        "failed": dict(sorted(Counter(f["code"] for f in built.failures).items())),
        "excluded": dict(plan.excluded),
        "splits": split_counts(built.rows, label_names),
    }


def _tiles(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many background tiles there are, where patches were cut."""
    patches = [row for row in rows if row["parent"] and not row["augmented"]]
    return {"tiles": sum(row["lesion"] is None for row in patches)} if patches else {}


def split_counts(
    rows: Sequence[Mapping[str, Any]], label_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return split -> number of samples, of groups, and of samples of each label."""
    by_split: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_split[row["split"]].append(row)
    result = {}
    for split, members in sorted(by_split.items()):
        labels = Counter(row["label_name"] for row in members)
        result[split] = {
            "samples": len(members),
            "groups": len({row["group"] for row in members}),
            "labels": {name: labels[name] for name in label_names if name in labels},
        }
    return result
