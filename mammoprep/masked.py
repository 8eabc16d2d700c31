"""Finished samples -> the same with other masks, in a new dataset: what a model predicted."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import derived
from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.derived import Sample
from mammoprep.image import MammoImage
from mammoprep.manifest import Built
from mammoprep.samples import Row, read_member, read_samples
from mammoprep.state import check_is_new, hold, output_errors
from mammoprep.writers import encode
from mammoprep.writers.measures import measure

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
        what = f"predicted masks of {summary['source']}"
        derived.claim(output, {**summary, "settings": settings}, what)
        built = Built([], [], [])
        for name, inside in sorted(by_shard.items()):
            derived.write_shard(output, name, _samples(root, inside, masks), built)
        if not built.rows:
            raise ConfigError(f"No sample of {root} was given a mask: there is nothing to write.")
        built.rows.sort(key=lambda row: str(row["key"]))
        made = {
            **summary,
            "settings": settings,
            PREDICTED: {**made_by, "from": summary["content_sha256"]},
            "counts": derived.counts(summary, len(rows), built),
            "shards": built.shards,
        }
        return derived.describe(made, built, output)


def _samples(root: Path, rows: Sequence[Row], masks: Masks) -> Iterator[Sample]:
    """Yield those of a shard that are given a mask."""
    for row in rows:
        mask = masks(str(row["key"]))
        if mask is not None:
            yield _sample(root, row, mask)


def _sample(root: Path, row: Row, mask: NDArray[np.uint8]) -> Sample:
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
