"""The layout of BMCD (2021), filled with phantoms."""

import io
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from joblib import Parallel, delayed

from mammoprep.phantoms import _dicom, _truth
from mammoprep.phantoms._anatomy import Breast
from mammoprep.phantoms._cohort import Patient, generator, screen
from mammoprep.phantoms._exposure import Exposure, Subject, expose
from mammoprep.phantoms._layouts import Wanted, write_bytes
from mammoprep.phantoms._lesions import Finding
from mammoprep.phantoms._workbook import to_bytes

SHEETS = ("Normal_cases", "Suspicious_cases")
TITLE = "Breast Micro-Calcifications Dataset"
COLUMNS = (
    "Folder #",
    "Available mammograms",
    "Years between screenings",
    "Breast (Right/Left)",
    "Age (at the time of the recent mammogram)",
    "BI-RADS categories for breast density",
    "BI-RADS categories for classification ",
)
BIOPSY = "Biopsy results"
SHOTS = (("CC", "prior"), ("CC", "recent"), ("MLO", "prior"), ("MLO", "recent"))
SHOUTED = 3  # in one folder of so many the names end in .DCM
QUALITY = 95
RED = (0, 0, 255)  # blue, green, red
_CASE, _IMAGE = 3, 4


@dataclass(frozen=True)
class _Case:
    """One folder: one breast of one patient.

    Attributes:
        patient: Who.
        place: In the whole dataset, from 0.
        number: Name of the folder; both kinds of cases count from 1.
        side: ``L`` or ``R``.
        finding: A cluster in the recent round, or None for a normal case.
    """

    patient: Patient
    place: int
    number: int
    side: str
    finding: Finding | None

    @property
    def sheet(self) -> str:
        """Name of the sheet, and of the folder that holds the case's."""
        return SHEETS[self.finding is not None]

    @property
    def breast(self) -> Breast:
        """The breast of both rounds."""
        return self.patient.sides[self.side].breast

    def row(self) -> tuple[object, ...]:
        """Return the case's row; numbers are numbers."""
        side, age = {"L": "Left", "R": "Right"}[self.side], self.patient.age
        known = (self.number, "2019-2017", 2, side, age, self.patient.density.lower())
        if self.finding is None:
            return (*known, 1 + self.place % 2)
        if self.finding.pathology == "benign":
            return (*known, "4a", ("BENIGN", "NOT AVAILABLE")[self.place % 2])
        return (*known, *(("4c", "DCIS"), (5, "MALIGNANT"))[self.place % 2])


def _cases(patients: Sequence[Patient], seed: int) -> list[_Case]:
    """Return a case a patient: suspicious with cancer, and every third without it."""
    found: list[_Case] = []
    count: Counter[str] = Counter()
    for place, patient in enumerate(patients):
        sick = [name for name, side in patient.sides.items() if side.cancer]
        side = sick[0] if sick else "LR"[place % 2]
        finding = _cluster(seed, place, sick=bool(sick)) if sick or place % 3 == 2 else None
        sheet = SHEETS[finding is not None]
        count[sheet] += 1
        found.append(_Case(patient, place, count[sheet], side, finding))
    return found


def _cluster(seed: int, place: int, *, sick: bool) -> Finding:
    rng = generator(seed, _CASE, place)
    depth, cc, mlo = rng.uniform(0.28, 0.7), rng.uniform(-1, 1), rng.uniform(-1, 1)
    pathology = "malignant" if sick else "benign"
    radius, shape = float(rng.uniform(4, 8)), int(rng.integers(1 << 31))
    return Finding("calcification", pathology, float(depth), (float(cc), float(mlo)), radius, shape)


def _drawing(exposure: Exposure) -> bytes:
    """Return the picture in grey with its findings drawn in red, as JPEG."""
    values = exposure.stored.astype(np.float64)
    low, high = values.min(), values.max()
    grey = np.round(255 * (values - low) / (high - low)).astype(np.uint8)
    canvas = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    for _, points in exposure.lesions:
        cv2.polylines(canvas, [np.round(points).astype(np.int32)], True, RED, 2)
    _, coded = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return coded.tobytes()


def _write_case(out: Path, case: _Case, seed: int, scale: float) -> None:
    folder, machine = f"{case.sheet}/{case.number}", case.patient.machine
    (out / "truth" / folder).mkdir(parents=True)
    suffix = "dcm" if case.place % SHOUTED else "DCM"
    for number, (view, name) in enumerate(SHOTS, 1):
        present = (case.finding,) if case.finding and name == "recent" else ()
        subject = Subject(case.breast, present, case.side, view)
        exposure = expose(generator(seed, _IMAGE, case.place, number), subject, machine, scale)
        ids = case.patient.id, number
        data = _dicom.to_bytes(exposure, machine, case.side, ids, seed)
        write_bytes(out / "Dataset" / folder / f"{view}_{name}.{suffix}", data)
        write_bytes(out / "Dataset" / folder / f"{view}_{name}_GT.jpg", _drawing(exposure))
        _truth.write(out / "truth" / folder, f"{view}_{name}", exposure, machine.name)


def table(normal: Sequence[Sequence[object]], suspicious: Sequence[Sequence[object]]) -> bytes:
    """Return ``Description.xlsx``: two sheets, each with a title above its header.

    Args:
        normal: Rows of cells in the order of ``COLUMNS``.
        suspicious: The same, and the biopsy.
    """
    above = ((TITLE,), ())
    first = to_bytes([*above, COLUMNS, *normal], SHEETS[0])
    second = to_bytes([*above, (*COLUMNS, BIOPSY), *suspicious], SHEETS[1])
    return _joined(first, second)


def _joined(first: bytes, second: bytes) -> bytes:
    """Return one workbook with the sheets of two that have one each."""
    parts = {name: _with_second(part) for name, part in _parts(first).items()}
    parts["xl/worksheets/sheet2.xml"] = _parts(second)["xl/worksheets/sheet1.xml"]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        for name, part in parts.items():
            book.writestr(zipfile.ZipInfo(name), part)
    return file.getvalue()


def _parts(book: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(book)) as parts:
        return {name: parts.read(name).decode() for name in parts.namelist()}


def _with_second(part: str) -> str:
    """Return a workbook's part in which the second sheet stands after the first."""
    for start in ('<Override PartName="/xl/worksheets/', "<sheet ", '<Relationship Id="rId1" Type'):
        begin = part.find(start)
        entry = part[begin : part.find("/>", begin) + 2]
        if begin >= 0 and "sheet" in entry:
            second = entry.replace("sheet1", "sheet2").replace("rId1", "rId2")
            second = second.replace('sheetId="1"', 'sheetId="2"').replace(*SHEETS)
            return part.replace(entry, entry + second)
    return part


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of BMCD, and the truth beside them.

    Args:
        out: New or empty folder; gets ``Description.xlsx``, ``Dataset`` and ``truth``.
        patients: As in the layout rsna; each has one breast in two rounds of two views. From 3 on
            there are normal and suspicious cases.
        seed: As in rsna.
        size_scale: As in rsna.
        prevalence: As in rsna; further patients are suspicious and benign.
        workers: As in rsna.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    Wanted(patients, seed, size_scale, prevalence, workers).check(out)
    cases = _cases(screen(patients, seed, prevalence), seed)
    out.mkdir(parents=True, exist_ok=True)
    rows = ([case.row() for case in cases if case.sheet == sheet] for sheet in SHEETS)
    write_bytes(out / "Description.xlsx", table(*rows))
    Parallel(n_jobs=workers)(delayed(_write_case)(out, case, seed, size_scale) for case in cases)
