"""Finished samples -> the same with other masks, in a new dataset: what a model predicted."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import finish, manifest
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.image import MammoImage
from mammoprep.manifest import Built
from mammoprep.samples import Row, read_member, read_samples
from mammoprep.state import STATE, Output, check_is_new, hold, output_errors, seal, to_bytes
from mammoprep.writers import encode
from mammoprep.writers.measures import measure
from mammoprep.writers.tar import TarWriter

PREDICTED = "predicted_masks"  # of dataset.json
UNANNOTATED = "none"  # nobody has looked: what a model said is no annotation
Masks = Callable[[str], NDArray[np.uint8] | None]


def write_shards(
    data: str | Path, out: str | Path, masks: Masks, *, made_by: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the samples of a dataset with other masks into a new dataset.

    Splits, shards and images stay, byte for byte. ``mask.png`` is the mask given,
    ``intersection.png`` the image where it is set, else 0; ``rois`` are the mask's connected
    outlines, without kind and pathology, and ``annotation`` is ``none``, because nobody drew them.
    ``quality.mask_...`` are measured again. Equal masks give equal bytes.

    Args:
        data: A finished dataset.
        out: A new or empty folder.
        masks: Key -> uint8 (rows, columns) of the image's size, set where it is not 0; None to
            leave the sample out. Asked once for each sample, shard by shard.
        made_by: What made the masks, as plain JSON values: ``predicted_masks`` of dataset.json.

    Returns:
        The new dataset.json.

    Raises:
        ConfigError: ``data`` is no dataset, ``out`` is not empty or inside of it, no mask is given,
            or one has another size.
        DamageError: a member is not what was built.
        ResourceError: the disk is full.
    """
    root, place = Path(data), Path(out)
    summary, rows = read_samples(root)
    if place.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{place} lies in {root}. Give a folder beside it.")
    check_is_new(place)
    by_shard: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_shard[str(row["shard"]).removesuffix(".tar")].append(row)
    with output_errors(place), hold(place) as output:
        output.prepare_folders()
        settings = {**summary["settings"], "intersection": True}
        _claim(output, {**summary, "settings": settings})
        built = Built([], [], [])
        for name, inside in sorted(by_shard.items()):
            _write(root, output, name, inside, masks, built)
        if not built.rows:
            raise ConfigError(f"No sample of {root} was given a mask: there is nothing to write.")
        built.rows.sort(key=lambda row: str(row["key"]))
        made = {
            **summary,
            "settings": settings,
            PREDICTED: {**made_by, "from": summary["content_sha256"]},
            "counts": _counts(summary, len(rows), built),
            "shards": built.shards,
        }
        return _describe(made, built, output)


def _claim(output: Output, summary: Mapping[str, Any]) -> None:
    """Write what keeps ``mammoprep build`` from taking the folder for one of its own."""
    whose = {
        "format_version": summary["format_version"],
        "source": f"predicted masks of {summary['source']}",
        "settings": summary["settings"],
        "versions": summary["versions"],
    }
    output.write(output.root / STATE / "settings.json", to_bytes(whose))


def _write(
    root: Path, output: Output, name: str, rows: Sequence[Row], masks: Masks, built: Built
) -> None:
    """Write one shard and its sidecar, and add both to what was built."""
    part = output.shards / f".{name}.tar.part"
    part.unlink(missing_ok=True)
    packed = []
    with TarWriter(part) as tar:
        for row in rows:
            mask = masks(str(row["key"]))
            if mask is None:
                continue
            metadata, members = _sample(root, row, mask)
            written = tar.add(str(row["key"]), members)
            places = {
                m.suffix: {k: v for k, v in asdict(m).items() if k != "suffix"} for m in written
            }
            packed.append({**metadata, "shard": f"{name}.tar", "members": places})
        if not packed:
            return
        digest = tar.close()
    file = {"bytes": tar.size, "sha256": digest}
    output.write(output.sidecar(name), seal({"tar": file, "rows": packed, "failures": []}))
    output.publish(part, output.shards / f"{name}.tar")
    built.rows.extend(manifest.flatten(row) for row in packed)
    split = name.rsplit("-", 1)[0]
    built.shards.append({"name": f"{name}.tar", "split": split, "samples": len(packed), **file})


def _sample(
    root: Path, row: Row, mask: NDArray[np.uint8]
) -> tuple[dict[str, Any], list[tuple[str, bytes]]]:
    """Return a sample's new metadata and members, in the order they stand in the tar."""
    suffix = next(s for s in encode.SUFFIXES.values() if row.get(f"{s}.offset") is not None)
    stored = read_member(root, row, suffix)
    pixels = _decoded(stored, row)
    if mask.shape != pixels.shape[:2]:
        raise ConfigError(f"{row['key']}: the mask is {mask.shape}, the image {pixels.shape[:2]}.")
    flags = np.where(mask > 0, 255, 0).astype(np.uint8)
    inside = flags > 0 if pixels.ndim == 2 else flags[..., None] > 0
    metadata = json.loads(read_member(root, row, "json"))
    measured = measure(_image(metadata, pixels, flags))
    new = {name: value for name, value in measured.items() if name.startswith("mask_")}
    metadata |= {
        "annotation": UNANNOTATED,
        "rois": _outlines(flags),
        "quality": {**metadata["quality"], **new},
    }
    text = json.dumps(metadata, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return metadata, [
        (suffix, stored),
        ("mask.png", encode.png(flags)),
        ("intersection.png", encode.png(np.where(inside, pixels, pixels.dtype.type(0)))),
        ("json", text.encode("ascii")),
    ]


def _decoded(content: bytes, row: Row) -> NDArray[Any]:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DamageError(f"{row['shard']}: the image of {row['key']} does not decode.")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.ndim == 3 else pixels


def _image(
    metadata: Mapping[str, Any], pixels: NDArray[Any], mask: NDArray[np.uint8]
) -> MammoImage:
    record = Record(str(metadata["key"]), str(metadata["source"]), str(metadata["group"]), "")
    return MammoImage(pixels, Geometry.from_json(metadata["geometry"]), record, mask=mask)


def _outlines(mask: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Return the connected parts of a mask as ``rois``, from top to bottom.

    A contour runs through the centres of the outermost pixels, half a pixel inside of the box.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in sorted(contours, key=lambda each: tuple(cv2.boundingRect(each)[1::-1])):
        x, y, width, height = (float(v) for v in cv2.boundingRect(contour))
        polygon = (contour.reshape(-1, 2) + 0.5).tolist()
        found.append({"box": [x, y, x + width, y + height], "polygon": polygon})
    nothing = {"kind": None, "pathology": None}
    return [{"id": number, **nothing, **roi} for number, roi in enumerate(found, 1)]


def _counts(summary: Mapping[str, Any], inputs: int, built: Built) -> dict[str, Any]:
    left_out = inputs - len(built.rows)
    return {
        "inputs": inputs,
        "built": len(built.rows),
        "samples": len(built.rows),
        "failed": {},
        "excluded": {"not_selected": left_out} if left_out else {},
        "splits": manifest.split_counts(built.rows, summary["label_names"]),
    }


def _describe(summary: dict[str, Any], built: Built, output: Output) -> dict[str, Any]:
    """Write the table, the page and last dataset.json."""
    summary |= finish.checked(summary, built)
    image = encode.SUFFIXES[summary["settings"]["format"]]
    suffixes = finish.suffixes(built.rows, image)
    table = manifest.samples_table(built.rows, cards.load(summary["source"]), suffixes)
    files = {
        "samples.parquet": table,
        "failures.jsonl": b"",
        "report.html": finish.page(summary, built, output, image),
    }
    for name, content in files.items():
        output.write(output.root / name, content)
    summary["files"] = {name: sha256(content).hexdigest() for name, content in files.items()}
    output.write(output.root / "dataset.json", seal(summary))
    return summary
