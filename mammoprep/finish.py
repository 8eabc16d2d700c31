"""After the last shard: table, failure list, page, build.json, and last dataset.json."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import manifest, notices, shortcuts
from mammoprep.config import Settings
from mammoprep.core.schema import FORMAT_VERSION
from mammoprep.inputs import Inputs
from mammoprep.manifest import Built
from mammoprep.plan import Plan
from mammoprep.report import dataset as report
from mammoprep.state import STATE, Output, seal, to_bytes
from mammoprep.writers.encode import SUFFIXES


def finish(
    source: str, settings: Settings, inputs: Inputs, plan: Plan, output: Output
) -> dict[str, Any]:
    """Write everything that describes the finished shards; return the content of dataset.json."""
    built = manifest.collect(plan, output)
    label_names = inputs.card.targets[settings.target]
    summary = {
        "format_version": FORMAT_VERSION,
        "source": source,
        "title": inputs.card.title,
        "licence": inputs.card.licence,
        "card": inputs.card.public(),
        "settings": settings.to_json(),
        "versions": manifest.versions(),
        "label_names": label_names,
        "counts": manifest.counts(plan, built, label_names),
        "shards": built.shards,
        "plan_sha256": plan.sha256,
    }
    told = checked(summary, built)
    summary |= {**told, "notices": [*inputs.remarks, *plan.notices, *told["notices"]]}
    files = {
        "samples.parquet": manifest.samples_table(
            built.rows, inputs.card, suffixes(built.rows, SUFFIXES[settings.format])
        ),
        "failures.jsonl": manifest.failure_lines(built.failures),
        "report.html": page(summary, built, output, SUFFIXES[settings.format]),
    }
    for name, content in files.items():
        output.write(output.root / name, content)
    summary["files"] = {name: sha256(content).hexdigest() for name, content in files.items()}
    return summary


def checked(summary: Mapping[str, Any], built: Built) -> dict[str, Any]:
    """Return what the table tells of itself, for dataset.json.

    ``shortcuts``, and the ``card`` with the leaks among them; what ``notices`` finds.
    """
    found = shortcuts.check(built.rows, summary["label_names"])
    return {
        **notices.find(summary["settings"], built.rows),
        "shortcuts": found,
        "card": {**summary["card"], "leaks_found": shortcuts.leaks(found)},
    }


def page(summary: Mapping[str, Any], built: Built, output: Output, suffix: str) -> bytes:
    """Return report.html."""

    def thumbnail(row: Mapping[str, Any]) -> NDArray[np.uint8]:
        return read_picture(output, row, suffix)

    return report.render(summary, built.rows, built.failures, thumbnail).encode()


def read_picture(output: Output, row: Mapping[str, Any], suffix: str) -> NDArray[np.uint8]:
    """Return a sample's picture, 8 bits, by its place in the table."""
    with (output.shards / str(row["shard"])).open("rb") as file:
        file.seek(int(row[f"{suffix}.offset"]))
        content = file.read(int(row[f"{suffix}.size"]))
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is not None and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if pixels is None:
        raise ValueError(f"{row['shard']}: {row['key']}.{suffix} does not decode")
    wide = pixels.dtype == np.uint16
    return np.right_shift(pixels, 8 if wide else 0, dtype=pixels.dtype).astype(np.uint8)


def collect_stamps(output: Output) -> dict[str, str]:
    """Return shard -> input stamp of everything built or checked on this run."""
    folder = output.root / STATE / "stamps"
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.txt"))}


def publish(output: Output, summary: dict[str, Any], local: Mapping[str, Any]) -> None:
    """Write build.json, then dataset.json, whose presence means that the build is complete."""
    output.write(output.root / "build.json", to_bytes(dict(local)))
    output.write(output.root / "dataset.json", seal(summary))
    for path in (output.root / STATE / "stamps").glob("*.txt"):
        path.unlink()


def suffixes(rows: Sequence[Mapping[str, Any]], image: str) -> list[str]:
    """Return the members that a sample of this dataset can have, the image first."""
    found = {name.removesuffix(".offset") for row in rows for name in row if ".offset" in name}
    return [image, *sorted(found - {image, "json"}), "json"]
