"""A finished image -> the members and the metadata of one sample."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Lesion
from mammoprep.image import MammoImage
from mammoprep.writers import encode
from mammoprep.writers.measures import measure

CUT = ("lesion_lost", "margin_needed")  # only where a lesion was cut: other samples stay as before


@dataclass(frozen=True)
class Sample:
    """One sample, ready to be packed.

    Attributes:
        key: Sample name.
        members: (suffix, bytes) in the order they stand in the tar.
        metadata: The content of the ``json`` member.
    """

    key: str
    members: tuple[tuple[str, bytes], ...]
    metadata: dict[str, Any]


def assemble(
    image: MammoImage, *, label_names: list[str], format: str, intersection: bool = False
) -> Sample:
    """Return the sample of a finished (quantised) image.

    Args:
        image: The image.
        label_names: Class names of the target by code.
        format: ``png`` or ``jpeg``.
        intersection: Also write the image where its lesion mask is set, else 0.
    """
    key = image.record.key
    metadata = describe(image, label_names)
    members = [(encode.SUFFIXES[format], encode.ENCODERS[format](image.pixels))]
    if image.mask is not None:
        members.append(("mask.png", encode.png(image.mask)))
        if intersection:
            inside = image.mask > 0 if image.pixels.ndim == 2 else image.mask[..., None] > 0
            lesions = np.where(inside, image.pixels, image.pixels.dtype.type(0))
            members.append(("intersection.png", encode.png(lesions)))
    text = json.dumps(metadata, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    members.append(("json", text.encode("ascii")))
    return Sample(key, tuple(members), metadata)


def describe(image: MammoImage, label_names: list[str]) -> dict[str, Any]:
    """Return a sample's metadata: an allow-list, and nothing else of the header."""
    record = image.record
    return {
        "key": record.key,
        "source": record.source,
        "split": record.split,
        "group": record.group,
        "patient_id": record.patient_id,
        "study_id": record.study_id,
        "image_id": record.image_id,
        "laterality": image.acquisition.laterality or record.laterality,
        "view": image.acquisition.view or record.view,
        "exam_id": record.exam_id,
        "label": record.label,
        "label_name": None if record.label is None else label_names[record.label],
        "labels": dict(record.labels),
        "annotation": record.annotation,
        "intensity": image.notes.get("intensity"),
        "geometry": image.geometry.to_json(),
        "rois": [_roi(lesion, image.geometry) for lesion in record.lesions],
        "parent": record.parent,
        "lesion": record.lesion,
        "augmented": record.augmented,
        "acquisition": image.acquisition.to_json(),
        "quality": {
            "crop_confidence": image.notes.get("crop_confidence"),
            **measure(image),
            **{name: image.notes[name] for name in CUT if name in image.notes},
        },
        "warnings": list(image.warnings),
    }


def _roi(lesion: Lesion, geometry: Geometry) -> dict[str, Any]:
    points = geometry.from_stored(lesion.polygon)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return {
        "id": lesion.id,
        "kind": lesion.kind,
        "pathology": lesion.pathology,
        "box": [x0, y0, x1, y1],
        "polygon": points.tolist(),
        **({} if lesion.number is None else {"number": lesion.number}),
    }
