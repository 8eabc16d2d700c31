"""Somebody's own dataset, filled with phantoms: pictures of several formats and one table."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.phantoms._exposure import Exposure
from mammoprep.phantoms._layouts import Shot, Wanted, box, write_bytes, write_table, write_truth
from mammoprep.phantoms._machines import Machine
from mammoprep.phantoms._tissue import fill

COLUMNS = (
    "path",
    "patient_id",
    "label",
    "laterality",
    "view",
    "density",
    "mask",
    "kind",
    "pathology",
    "xmin",
    "ymin",
    "xmax",
    "ymax",
)
FORMATS = ("dcm", "png", "pgm")


def _picture(exposure: Exposure, machine: Machine, suffix: str) -> bytes:
    """Return the stored values as a picture of 16 (png) or 8 bits, bright tissue on black."""
    values = exposure.stored.astype(np.float64)
    low, high = values.min(), values.max()
    shown = (values - low) / (high - low)
    if machine.photometric == "MONOCHROME1":
        shown = 1 - shown
    top, kind = (65535, np.uint16) if suffix == "png" else (255, np.uint8)
    return _coded(np.round(shown * top).astype(kind), suffix)


def _coded(values: NDArray[Any], suffix: str) -> bytes:
    _, coded = cv2.imencode(f".{suffix}", values)
    return bytes(coded.tobytes())


def _findings(shot: Shot, exposure: Exposure, mask: str) -> list[dict[str, object]]:
    """Return what the table says of each finding: boxes, and mask files where ``mask`` names one.

    One finding's mask has its place in ``mask``; further ones have boxes.
    """
    found: list[dict[str, object]] = []
    for finding, polygon in exposure.lesions:
        row: dict[str, object] = {"kind": finding.kind, "pathology": finding.pathology}
        if mask and not found:
            row["mask"] = mask
        else:
            row |= dict(zip(("xmin", "ymin", "xmax", "ymax"), box(polygon), strict=True))
        found.append(row)
    return found or [{}]


def _write_one(out: Path, shot: Shot) -> list[dict[str, object]]:
    exposure, suffix = shot.expose(), FORMATS[shot.number % len(FORMATS)]
    name = f"{shot.image_id}.{suffix}"
    path = name if suffix == "pgm" else f"{shot.patient.id}/{name}"
    if suffix == "dcm":
        write_bytes(out / path, shot.dicom(exposure))
    else:
        write_bytes(out / path, _picture(exposure, shot.patient.machine, suffix))
    mask = f"masks/{shot.image_id}.png" if suffix == "png" else ""
    if mask and exposure.lesions:
        area = fill(exposure.stored.shape, exposure.lesions[0][1])
        write_bytes(out / mask, _coded(area, "png"))
    write_truth(out, str(shot.patient.id), str(shot.image_id), shot, exposure)
    row: dict[str, object] = {
        "path": path,
        "patient_id": shot.patient.id,
        "label": "cancer" if shot.side.cancer else "negative",
        "laterality": shot.laterality,
        "view": shot.view,
        "density": shot.patient.density,
    }
    return [{**row, **finding} for finding in _findings(shot, exposure, mask)]


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` as DICOM, PNG and PGM files with one table, and the truth.

    A third of the images each is DICOM, PNG (16 bits) and PGM (8 bits); findings of PNG pictures
    are mask files, the others boxes. PGM files lie beside the table, the others in folders.

    Args:
        out: New or empty folder; gets ``table.csv``, the images and ``truth``.
        patients: As in the layout rsna; there is no test part.
        seed: As in rsna.
        size_scale: As in rsna.
        prevalence: As in rsna.
        workers: As in rsna.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    wanted = Wanted(patients, seed, size_scale, prevalence, workers)
    wanted.check(out)
    out.mkdir(parents=True, exist_ok=True)
    rows = [row for rows in wanted.make(out, _write_one) for row in rows]
    write_table(out / "table.csv", COLUMNS, rows)
