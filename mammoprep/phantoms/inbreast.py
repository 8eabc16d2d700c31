"""The layout of INbreast (2012), filled with phantoms."""

import plistlib
from hashlib import sha256
from pathlib import Path
from typing import Any

from mammoprep.phantoms._anatomy import Points
from mammoprep.phantoms._exposure import Exposure
from mammoprep.phantoms._layouts import Shot, Wanted, write_bytes, write_table, write_truth

COLUMNS = (
    "Patient ID",
    "Patient age",
    "Laterality",
    "View",
    "Acquisition date",
    "File Name",
    "ACR",
    "Bi-Rads",
)
FIRST_NAME = 20586908


def _birads(shot: Shot) -> str:
    if shot.side.cancer:
        return "5" if shot.side.invasive else "4b"
    if shot.side.findings:
        return "3" if shot.side.difficult else "2"
    return "1"


def _row(shot: Shot) -> dict[str, object]:
    return {
        "Patient ID": "removed",
        "Patient age": "removed",
        "Laterality": shot.laterality,
        "View": shot.view,
        "Acquisition date": "201001",
        "File Name": FIRST_NAME + 22 * shot.number,
        "ACR": " ABCD".index(shot.patient.density),
        "Bi-Rads": _birads(shot),
    }


def _roi(name: str, points: Points) -> dict[str, Any]:
    """Return a contour; the files' points are pixel centres."""
    texts = [f"({x - 0.5:f}, {y - 0.5:f})" for x, y in points.tolist()]
    return {"Name": name, "NumberOfPoints": len(texts), "Point_px": texts, "Type": 15}


def _contours(exposure: Exposure) -> bytes:
    """Return the property list: a cluster also has one calcification of a single point."""
    rois = []
    for finding, polygon in exposure.lesions:
        if finding.kind == "mass":
            rois.append(_roi("Mass", polygon))
        else:
            rois.append(_roi("Cluster", polygon))
            rois.append(_roi("Calcification", polygon.mean(axis=0, keepdims=True)))
    image = {"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}
    return plistlib.dumps({"Images": [image]}, sort_keys=True)


def _write_one(out: Path, shot: Shot) -> dict[str, object]:
    exposure, row = shot.expose(), _row(shot)
    name = str(row["File Name"])
    patient = sha256(f"{shot.seed}/{shot.patient.id}".encode()).hexdigest()[:16]
    file = f"{name}_{patient}_MG_{shot.laterality}_{shot.view}_ANON.dcm"
    write_bytes(out / "ALL-IMGS" / file, shot.dicom(exposure))
    if exposure.lesions:
        write_bytes(out / "ALL-XML" / f"{name}.xml", _contours(exposure))
    write_truth(out, patient, name, shot, exposure)
    return row


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of INbreast, and the truth beside them.

    Args:
        out: New or empty folder; gets ``INbreast.csv``, ``ALL-IMGS``, ``ALL-XML`` and ``truth``.
        patients: As in the layout rsna; the set has no test part.
        seed: As in rsna.
        size_scale: As in rsna.
        prevalence: As in rsna.
        workers: As in rsna.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    wanted = Wanted(patients, seed, size_scale, prevalence, workers)
    wanted.check(out)
    (out / "ALL-XML").mkdir(parents=True)
    write_table(out / "INbreast.csv", COLUMNS, wanted.make(out, _write_one), separator=";")
