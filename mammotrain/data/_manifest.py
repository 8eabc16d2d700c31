"""What a dataset says of itself: dataset.json and samples.parquet, checked before use."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.core.schema import FORMAT_VERSION

MANIFEST, SAMPLES = "dataset.json", "samples.parquet"
# Settings that change how a given picture looks. Two datasets that differ in one of them teach a
# model to tell the datasets apart; and a trained model must see such pictures as it was trained on.
LOOKS = (
    "size", "fit", "bits", "format", "window", "decode", "crop", "orient", "mm_per_pixel", "roi",
    "roi_padding", "roi_shrink", "crop_margin", "range",
)  # fmt: skip
_BEFORE = {"crop_margin": 0.02, "range": "auto"}  # what was so before these were settings
_EACH = "percentile"  # the one range that is no fact about a dataset's files
_ASK = "Run the same build command again to mend it."
Summary = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class ShardFacts:
    """What dataset.json says of a shard.

    Attributes:
        name: File name.
        samples: How many it holds.
        bytes: Of the file.
        sha256: Of the file.
    """

    name: str
    samples: int
    bytes: int
    sha256: str


def read(where: str, fetch: Callable[[str], bytes | None]) -> tuple[Summary, pyarrow.Table]:
    """Return dataset.json and samples.parquet.

    Args:
        where: Folder or URL, for messages.
        fetch: File name -> its bytes, None when there is no such file.

    Raises:
        ConfigError: no dataset, an unfinished one, or of another format.
        DamageError: one of the two files is not what was built.
    """
    text = fetch(MANIFEST)
    if text is None:
        raise ConfigError(
            f"{where} has no {MANIFEST}: it is no dataset, or its build did not finish. "
            "Run mammoprep build, or give the folder that it wrote."
        )
    summary = _unsealed(text)
    if summary is None:
        raise DamageError(f"{where}/{MANIFEST} is damaged. {_ASK}")
    if summary.get("format_version") != FORMAT_VERSION:
        found = summary.get("format_version")
        raise ConfigError(
            f"{where} has shard format {found}, this version reads {FORMAT_VERSION}. "
            "Build it again with the installed mammoprep."
        )
    data = fetch(SAMPLES)
    if data is None or sha256(data).hexdigest() != summary["files"][SAMPLES]:
        what = "missing" if data is None else "not what was built"
        raise DamageError(f"{where}/{SAMPLES} is {what}. {_ASK}")
    return summary, pyarrow.parquet.read_table(_own(data))


def _own(data: bytes) -> pyarrow.BufferReader:
    """Return bytes as a copy that is Arrow's.

    Its threads read it, and a process that ends while one of them lets go of an object of Python's
    is aborted (seen with pyarrow 26).
    """
    stream = pyarrow.BufferOutputStream()
    stream.write(data)
    return pyarrow.BufferReader(stream.getvalue())


def shards(summary: Summary) -> list[ShardFacts]:
    """Return the shards, in order of their names."""
    found = [
        ShardFacts(s["name"], s["samples"], s["bytes"], s["sha256"]) for s in summary["shards"]
    ]
    return sorted(found, key=lambda shard: shard.name)


def preparation(summaries: Sequence[Summary]) -> dict[str, Any]:
    """Return what a model must be shown again: ``LOOKS``, and ``label_names``.

    Args:
        summaries: Of datasets that were prepared alike. Where their files hold other ranges of
            values, a further file must tell its own.
    """
    settings = summaries[0]["settings"]
    found = {name: settings.get(name, _BEFORE.get(name)) for name in LOOKS}
    ranges = {str(one["settings"].get("range", _BEFORE["range"])) for one in summaries}
    found["range"] = ranges.pop() if len(ranges) == 1 else _BEFORE["range"]
    return {**found, "label_names": list(summaries[0]["label_names"])}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return ``name: old -> new`` for everything in which two preparations differ."""
    then, now = {**_BEFORE, **old}, {**_BEFORE, **new}
    return [
        f"{name}: {then.get(name)} -> {now.get(name)}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name) and not _is_fact(name, then, now)
    ]


def _is_fact(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether a setting tells how files hold their values, and not how pictures look."""
    return name == "range" and _EACH not in (old["range"], new["range"])


def check_alike(places: Sequence[str], summaries: Sequence[Summary]) -> None:
    """Check that datasets were prepared alike.

    Raises:
        ConfigError: they were not, with the difference.
    """
    first = preparation(summaries[:1])
    for where, summary in zip(places[1:], summaries[1:], strict=True):
        if found := difference(first, preparation([summary])):
            raise ConfigError(
                f"{places[0]} and {where} were not prepared alike: {'; '.join(found)}. "
                "Build both with the same settings."
            )


def join(places: Sequence[str], tables: Sequence[pyarrow.Table]) -> pyarrow.Table:
    """Return one table, in order of keys, so that the order of the datasets does not matter.

    A column that a dataset lacks is unknown there. With several sources the groups are named
    ``SOURCE/GROUP``: patient 7 of one is not patient 7 of the other.

    Raises:
        ConfigError: a key is in two datasets, or a column means two things.
    """
    sources = {value for table in tables for value in table["source"].unique().to_pylist()}
    if len(sources) > 1:
        tables = [_named_groups(table) for table in tables]
    try:
        joined = pyarrow.concat_tables(tables, promote_options="permissive")
    except (pyarrow.ArrowTypeError, pyarrow.ArrowInvalid) as error:
        raise ConfigError(
            f"The tables of {', '.join(places)} do not fit together: {str(error).splitlines()[0]}"
        ) from None
    joined = joined.take(pyarrow.compute.sort_indices(joined["key"]))
    keys = joined["key"].to_pylist()
    for key, after in pairwise(keys):
        if key == after:
            raise ConfigError(f"{key} is in two of {', '.join(places)}: give each dataset once.")
    return joined


def _named_groups(table: pyarrow.Table) -> pyarrow.Table:
    names = pyarrow.compute.binary_join_element_wise(table["source"], table["group"], "/")
    return table.set_column(table.schema.get_field_index("group"), "group", names)


def _unsealed(text: bytes) -> Summary | None:
    """Return what mammoprep sealed with the hash of its own content, or None after any change."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    content = {key: item for key, item in value.items() if key != "content_sha256"}
    digest = sha256(_canonical(content)).hexdigest()
    return value if _canonical({**content, "content_sha256": digest}) == text else None


def _canonical(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
