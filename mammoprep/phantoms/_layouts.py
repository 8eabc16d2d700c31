"""What layouts share: checked arguments, and one exposure after the other with its truth."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from mammoprep.core.errors import ConfigError
from mammoprep.phantoms import _dicom, _truth
from mammoprep.phantoms._cohort import INVASIVE, Patient, Side, generator, screen
from mammoprep.phantoms._exposure import Exposure, Subject, expose

_IMAGE, _CONTRAST = 3, 4
UNGRADED = (1.0, 1.0)


@dataclass(frozen=True)
class Shot:
    """One exposure to be made.

    Attributes:
        patient: Who.
        index: Which of her images.
        number: Place in the whole dataset, from 0.
        seed: Seed of the dataset.
        scale: Factor on rows and columns.
        matched: See ``Subject``.
        torso: See ``Subject``.
    """

    patient: Patient
    index: int
    number: int
    seed: int
    scale: float
    matched: bool = False
    torso: bool = False

    @property
    def image_id(self) -> int:
        """Number of the image, unique in the dataset."""
        return self.patient.images[self.index][0]

    @property
    def laterality(self) -> str:
        """``L`` or ``R``."""
        return self.patient.images[self.index][1]

    @property
    def view(self) -> str:
        """``CC`` or ``MLO``."""
        return self.patient.images[self.index][2]

    @property
    def side(self) -> Side:
        """The breast."""
        return self.patient.sides[self.laterality]

    def expose(self) -> Exposure:
        """Return the picture and its truth."""
        side = self.side
        what = side.breast, side.findings, self.laterality, self.view
        subject = Subject(*what, self.matched, self.torso)
        rng = generator(self.seed, _IMAGE, self.patient.id, self.index)
        return expose(rng, subject, self.patient.machine, self.scale)

    def dicom(self, exposure: Exposure) -> bytes:
        """Return the picture as a DICOM file."""
        ids = self.patient.id, self.image_id
        return _dicom.to_bytes(exposure, self.patient.machine, self.laterality, ids, self.seed)


@dataclass(frozen=True)
class Wanted:
    """The arguments of a layout's ``write``, as in ``rsna.write``, and what it leaves alone.

    Attributes:
        patients: As there.
        seed: As there.
        size_scale: As there.
        prevalence: As there.
        workers: As there.
        contrast: Lowest and highest factor on what cancers add to the picture, above 0; each draws
            its own, evenly. The truth of a finding says it where it is not 1.
        matched: A picture with findings has exactly the grey values that it would have without, at
            other pixels: no histogram tells that there is one.
        invasive: Share of cancers that are, 0 to 1: these are masses, the others are calcifications
            alone, of which nothing is left in a small picture.
        torso: Oblique views show arm and axilla above the breast, and under its fold the abdomen;
            their truth says where the fold is.
    """

    patients: int
    seed: int
    size_scale: float
    prevalence: float
    workers: int
    contrast: tuple[float, float] = UNGRADED
    matched: bool = False
    invasive: float = INVASIVE
    torso: bool = False

    def check(self, out: Path) -> None:
        """Raise ConfigError when an argument is out of its range, or ``out`` holds something."""
        checks = {
            "patients": (self.patients >= 1, "at least 1"),
            "seed": (self.seed >= 0, "at least 0"),
            "size_scale": (0 < self.size_scale <= 1, "above 0 and at most 1"),
            "prevalence": (0 <= self.prevalence <= 1, "at least 0 and at most 1"),
            "workers": (self.workers >= 1, "at least 1"),
            "invasive": (0 <= self.invasive <= 1, "at least 0 and at most 1"),
            "contrast": (0 < self.contrast[0] <= self.contrast[1] < inf, "two rising numbers"),
        }
        for name, (fits, wanted) in checks.items():
            if not fits:
                raise ConfigError(f"{name} must be {wanted}, got {getattr(self, name)}.")
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            what = "a folder that is not empty" if out.is_dir() else "a file"
            raise ConfigError(f"{out} is {what}; name a new or an empty folder for the phantoms.")

    def shots(self) -> list[Shot]:
        """Return every exposure of the dataset, in the order of its table."""
        everybody = screen(self.patients, self.seed, self.prevalence, self.invasive)
        if self.contrast != UNGRADED:
            everybody = [_graded(patient, self) for patient in everybody]
        pairs = [(patient, index) for patient in everybody for index in range(len(patient.images))]
        return [
            Shot(patient, index, number, self.seed, self.size_scale, self.matched, self.torso)
            for number, (patient, index) in enumerate(pairs)
        ]

    def make(self, out: Path, one: Callable[[Path, Shot], Any]) -> list[Any]:
        """Return what ``one(out, shot)`` returns for every exposure, in order."""
        found = Parallel(n_jobs=self.workers)(delayed(one)(out, shot) for shot in self.shots())
        return list(found)


def _graded(patient: Patient, wanted: Wanted) -> Patient:
    """Return the patient with her cancer, where she has one, in a contrast of its own."""
    rng = generator(wanted.seed, _CONTRAST, patient.id)
    contrast = round(float(rng.uniform(*wanted.contrast)), 4)
    sides = {}
    for name, side in patient.sides.items():
        found = tuple(replace(each, contrast=contrast) for each in side.findings)
        sides[name] = replace(side, findings=found) if side.cancer else side
    return replace(patient, sides=sides)


def write_truth(out: Path, folder: str, name: str, shot: Shot, exposure: Exposure) -> None:
    """Write what is true of a picture to ``truth/FOLDER/NAME.*``."""
    place = out / "truth" / folder
    place.mkdir(parents=True, exist_ok=True)
    _truth.write(place, name, exposure, shot.patient.machine.name)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[dict[str, object]], separator: str = ","
) -> None:
    """Write a CSV; a cell that a row lacks is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, delimiter=separator, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def box(points: Any) -> tuple[float, float, float, float]:
    """Return (x0, y0, x1, y1) around points (n, 2), in hundredths of a pixel."""
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return round(float(x0), 2), round(float(y0), 2), round(float(x1), 2), round(float(y1), 2)
