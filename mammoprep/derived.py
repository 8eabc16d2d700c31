"""A new dataset of another one's samples: its shards with their sidecars, and what describes it."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from mammoprep import finish, manifest
from mammoprep.core import cards
from mammoprep.manifest import Built
from mammoprep.state import STATE, Output, seal, to_bytes
from mammoprep.writers.encode import SUFFIXES
from mammoprep.writers.tar import TarWriter, places

Sample = tuple[dict[str, Any], list[tuple[str, bytes]]]  # metadata; suffix and content of members


def claim(output: Output, summary: Mapping[str, Any], what: str) -> None:
    """Write what keeps ``mammoprep build`` from taking the folder for one of its own.

    Args:
        output: The new folder, held.
        summary: What dataset.json will say of format, settings and versions.
        what: What it is, for people.
    """
    whose = {
        "format_version": summary["format_version"],
        "source": what,
        "settings": summary["settings"],
        "versions": summary["versions"],
    }
    output.write(output.root / STATE / "settings.json", to_bytes(whose))


def write_shard(output: Output, name: str, samples: Iterable[Sample], built: Built) -> None:
    """Write one shard and its sidecar, and add both to what was built; nothing without samples.

    Args:
        output: The new folder.
        name: Of the shard, without ``.tar``: its split, a dash and a number.
        samples: In their order in the tar; may be made while they are asked for.
        built: Is added to.
    """
    part = output.shards / f".{name}.tar.part"
    part.unlink(missing_ok=True)
    packed = []
    with TarWriter(part) as tar:
        for metadata, contents in samples:
            members = places(tar.add(str(metadata["key"]), contents))
            packed.append({**metadata, "shard": f"{name}.tar", "members": members})
        if not packed:
            return
        digest = tar.close()
    file = {"bytes": tar.size, "sha256": digest}
    output.write(output.sidecar(name), seal({"tar": file, "rows": packed, "failures": []}))
    output.publish(part, output.shards / f"{name}.tar")
    built.rows.extend(manifest.flatten(row) for row in packed)
    split = name.rsplit("-", 1)[0]
    built.shards.append({"name": f"{name}.tar", "split": split, "samples": len(packed), **file})


def counts(summary: Mapping[str, Any], inputs: int, built: Built) -> dict[str, Any]:
    """Return ``counts`` of the new dataset.json; ``inputs`` is how many samples the old one has."""
    left_out = inputs - len(built.rows)
    return {
        "inputs": inputs,
        "built": len(built.rows),
        "samples": len(built.rows),
        "failed": {},
        "excluded": {"not_selected": left_out} if left_out else {},
        "splits": manifest.split_counts(built.rows, summary["label_names"]),
    }


def describe(
    summary: dict[str, Any], built: Built, output: Output, notices: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the table, the page and last dataset.json, which is returned.

    Args:
        summary: The new dataset.json but for ``files`` and what is found out from the table.
        built: All samples and shards, sorted.
        output: The new folder.
        notices: Said before those that the table tells.
    """
    summary |= finish.checked(summary, built)
    summary["notices"] = [*notices, *summary["notices"]]
    image = SUFFIXES[summary["settings"]["format"]]
    suffixes = finish.suffixes(built.rows, image)
    files = {
        "samples.parquet": manifest.samples_table(
            built.rows, cards.load(summary["source"]), suffixes
        ),
        "failures.jsonl": b"",
        "report.html": finish.page(summary, built, output, image),
    }
    for name, content in files.items():
        output.write(output.root / name, content)
    summary["files"] = {name: sha256(content).hexdigest() for name, content in files.items()}
    output.write(output.root / "dataset.json", seal(summary))
    return summary
