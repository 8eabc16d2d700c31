"""The layout of CMMD: patients' folders of DICOM files, and a clinical sheet in Excel's format.

Every fifth patient has the same peculiarities of the real set; see ``PEOPLE``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from pydicom.dataset import Dataset

from mammoprep.phantoms import _archive, _truth
from mammoprep.phantoms._anatomy import Breast, both_breasts
from mammoprep.phantoms._cohort import generator
from mammoprep.phantoms._dicom import uid
from mammoprep.phantoms._exposure import Subject, expose
from mammoprep.phantoms._layouts import Wanted, write_bytes
from mammoprep.phantoms._lesions import Finding, findings
from mammoprep.phantoms._machines import EXPLICIT_LITTLE, Machine
from mammoprep.phantoms._workbook import to_bytes

FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
COLUMNS = ("ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype")
SUBTYPES = ("Luminal A", "Luminal B", "HER2-enriched", "triple negative")
VIEWS = {"CC": ("R-10242", "cranio-caudal"), "MLO": ("R-10226", "medio-lateral oblique")}
_PATIENT, _IMAGE = 31, 32

# Eight bits a pixel, as the archive has them.
DETECTOR = Machine(
    name="detector-mono2-8bit",
    site_id=0,
    machine_id=0,
    size=(2294, 1914),
    height_mm=229.4,
    photometric="MONOCHROME2",
    bits_stored=8,
    transfer_syntax=EXPLICIT_LITTLE,
    centres=(128.0,),
    widths=(256.0,),
    function=None,
    paddings=(),
    lowest=0,
    level=1.0,
    gamma=1.0,
    noise=0.008,
    labelled=False,
    strip=False,
    group_length=True,
)


@dataclass(frozen=True)
class Person:
    """What is peculiar about a patient.

    Attributes:
        subset: ``D1`` or ``D2``.
        imaged: Sides that have images.
        listed: Sides that have a row.
        silent: Whether the header of the last image lacks its side.
    """

    subset: str
    imaged: str
    listed: str
    silent: bool = False


PEOPLE = (
    Person("D1", "R", "R"),
    Person("D2", "LR", "L"),
    Person("D1", "LR", "LR"),
    Person("D2", "LR", "R", silent=True),
    Person("D1", "LR", "LR"),
)


@dataclass(frozen=True)
class Patient:
    """A patient with her breasts.

    Attributes:
        id: ``D1-0001``.
        place: In the order of the sheet.
        person: What is peculiar.
        age: Years.
        breasts: ``L`` and ``R``.
        findings: Side -> what is in it.
        rows: Side -> kind, classification and subtype of its row.
    """

    id: str
    place: int
    person: Person
    age: int
    breasts: dict[str, Breast]
    findings: dict[str, tuple[Finding, ...]]
    rows: dict[str, tuple[str, str, str]]


def _patient(seed: int, place: int, prevalence: float) -> Patient:
    rng = generator(seed, _PATIENT, place)
    person = PEOPLE[place % len(PEOPLE)]
    found: dict[str, tuple[Finding, ...]] = {}
    rows = {}
    for side in "LR":
        cancer = bool(rng.uniform() < prevalence)
        drawn = findings(rng, cancer=cancer, invasive=bool(rng.uniform() < 0.7))
        subtype = str(rng.choice(SUBTYPES)) if cancer and person.subset == "D2" else ""
        found[side] = drawn if side in person.listed else ()
        kinds = {finding.kind for finding in drawn}
        kind = "both" if len(kinds) == 2 else kinds.pop()
        rows[side] = (kind, "Malignant" if cancer else "Benign", subtype)
    rows = {side: rows[side] for side in person.listed}
    age = int(np.clip(round(rng.normal(48, 11)), 18, 87))
    breasts = both_breasts(rng, str(rng.choice(list("ABCD"))))
    return Patient(f"{person.subset}-{place + 1:04d}", place, person, age, breasts, found, rows)


def _write_sheet(out: Path, patients: Sequence[Patient]) -> None:
    rows: list[Sequence[object]] = [COLUMNS]
    for patient in patients:
        for side, (kind, found, subtype) in patient.rows.items():
            rows.append((patient.id, side, patient.age, 2, kind, found, subtype))
    write_bytes(out / "CMMD_clinicaldata_revision.xlsx", to_bytes(rows, "Sheet1"))


def _view(view: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodeMeaning = VIEWS[view]
    code.CodingSchemeDesignator = "SNM3"
    code.ViewModifierCodeSequence = []
    return code


def _facts(patient: Patient, side: str, view: str, number: int, seed: int) -> dict[str, Any]:
    silent = patient.person.silent and number == 2 * len(patient.person.imaged)
    return {
        "SOPInstanceUID": uid(seed, patient.id, number),
        "StudyDate": "20100718",
        "Modality": "MG",
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "PatientID": patient.id,
        "StudyInstanceUID": uid(seed, patient.id),
        "SeriesInstanceUID": uid(seed, patient.id, "series"),
        "InstanceNumber": str(number),
        **({} if silent else {"ImageLaterality": side}),
        "WindowCenter": "128",
        "WindowWidth": "256",
        "PresentationIntentType": "FOR PRESENTATION",
        "ViewCodeSequence": [_view(view)],
    }


def _write_patient(out: Path, patient: Patient, seed: int, scale: float) -> None:
    study = f"07-18-2010-NA-NA-{_archive.short(seed, patient.id)}"
    series = f"1.000000-NA-{_archive.short(seed, patient.id, 'series')}"
    (out / "truth" / patient.id).mkdir(parents=True)
    shots = [(side, view) for side in patient.person.imaged for view in VIEWS]
    for number, (side, view) in enumerate(shots, 1):
        subject = Subject(patient.breasts[side], patient.findings[side], side, view)
        exposure = expose(generator(seed, _IMAGE, patient.place, number), subject, DETECTOR, scale)
        facts = _facts(patient, side, view, number, seed)
        data = _archive.to_bytes(exposure.stored.astype(np.uint8), FOR_PRESENTATION, facts)
        write_bytes(out / "CMMD" / patient.id / study / series / f"1-{number}.dcm", data)
        _truth.write(out / "truth" / patient.id, f"1-{number}", exposure, DETECTOR.name)


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.5,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of CMMD, and the truth beside them.

    The bytes of every file depend on all arguments but ``out`` and ``workers``.

    Args:
        out: New or empty folder; gets the clinical sheet, ``CMMD`` and ``truth``.
        patients: How many, 1 to 9,999. From 5 on every peculiarity of ``PEOPLE`` occurs.
        seed: Not negative.
        size_scale: Factor on rows and columns, above 0 and at most 1; no side gets below 64 pixels.
        prevalence: Share of breasts with cancer among those with a row, 0 to 1.
        workers: Processes, at least 1.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    Wanted(patients, seed, size_scale, prevalence, workers).check(out)
    people = [_patient(seed, place, prevalence) for place in range(patients)]
    out.mkdir(parents=True, exist_ok=True)
    _write_sheet(out, people)
    Parallel(n_jobs=workers)(
        delayed(_write_patient)(out, patient, seed, size_scale) for patient in people
    )
