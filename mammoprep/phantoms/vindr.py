"""The layout of VinDr-Mammo (2022), filled with phantoms."""

from hashlib import md5
from pathlib import Path

from mammoprep.phantoms._exposure import Exposure
from mammoprep.phantoms._layouts import Shot, Wanted, box, write_bytes, write_table, write_truth
from mammoprep.phantoms._lesions import Finding

NAMING = ("study_id", "series_id", "image_id", "laterality", "view_position", "height", "width")
IMAGE_COLUMNS = (*NAMING, "breast_birads", "breast_density", "split")
FINDING_COLUMNS = (
    *IMAGE_COLUMNS[:-1],
    "finding_categories",
    "finding_birads",
    "xmin",
    "ymin",
    "xmax",
    "ymax",
    "split",
)
CATEGORIES = {
    ("mass", "malignant"): "['Mass', 'Skin Thickening']",
    ("mass", "benign"): "['Mass']",
    ("calcification", "malignant"): "['Suspicious Calcification']",
    ("calcification", "benign"): "['Suspicious Calcification']",
}


def _id(*parts: object) -> str:
    return md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def _birads(shot: Shot) -> str:
    """Return the breast's category: what is benign and needs no further look is 2."""
    if shot.side.cancer:
        return "BI-RADS 5" if shot.side.invasive else "BI-RADS 4"
    if shot.side.findings:
        return "BI-RADS 3" if shot.side.difficult else "BI-RADS 2"
    return "BI-RADS 1"


def _row(shot: Shot, exposure: Exposure) -> dict[str, object]:
    rows, columns = exposure.stored.shape
    return {
        "study_id": _id(shot.seed, shot.patient.id),
        "series_id": _id(shot.seed, shot.patient.id, "series"),
        "image_id": _id(shot.seed, shot.image_id, "image"),
        "laterality": shot.laterality,
        "view_position": shot.view,
        "height": rows,
        "width": columns,
        "breast_birads": _birads(shot),
        "breast_density": f"DENSITY {shot.patient.density}",
        "split": "test" if shot.patient.test else "training",
    }


def _findings(row: dict[str, object], exposure: Exposure) -> list[dict[str, object]]:
    """Return an image's rows of the table of findings: those of category 3 and above, or one."""
    if row["breast_birads"] in ("BI-RADS 1", "BI-RADS 2"):
        return [{**row, "finding_categories": "['No Finding']"}]
    return [
        {
            **row,
            "finding_categories": _category(finding),
            "finding_birads": row["breast_birads"],
            **dict(zip(("xmin", "ymin", "xmax", "ymax"), box(polygon), strict=True)),
        }
        for finding, polygon in exposure.lesions
    ]


def _category(finding: Finding) -> str:
    return CATEGORIES[finding.kind, finding.pathology]


def _write_one(out: Path, shot: Shot) -> tuple[dict[str, object], list[dict[str, object]]]:
    exposure = shot.expose()
    row = _row(shot, exposure)
    study, image = str(row["study_id"]), str(row["image_id"])
    write_bytes(out / "images" / study / f"{image}.dicom", shot.dicom(exposure))
    write_truth(out, study, image, shot, exposure)
    return row, _findings(row, exposure)


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of VinDr-Mammo, and the truth beside them.

    Args:
        out: New or empty folder; gets both tables, ``images`` and ``truth``.
        patients: As in the layout rsna; a patient is a study, those in test are ``test``.
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
    made = wanted.make(out, _write_one)
    write_table(out / "breast-level_annotations.csv", IMAGE_COLUMNS, [row for row, _ in made])
    findings = [row for _, rows in made for row in rows]
    write_table(out / "finding_annotations.csv", FINDING_COLUMNS, findings)
