"""What layouts share: checked arguments, and one exposure after the other with its truth."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from mammoprep.core.errors import ConfigError
from mammoprep.phantoms import _dicom, _truth
from mammoprep.phantoms._cohort import Patient, Side, generator, screen
from mammoprep.phantoms._exposure import Exposure, Subject, expose

_IMAGE = 3


@dataclass(frozen=True)
class Shot:
    """One exposure to be made.

    Attributes:
        patient: Who.
        index: Which of her images.
        number: Place in the whole dataset, from 0.
        seed: Seed of the dataset.
        scale: Factor on rows and columns.
    """

    patient: Patient
    index: int
    number: int
    seed: int
    scale: float

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
        subject = Subject(self.side.breast, self.side.findings, self.laterality, self.view)
        rng = generator(self.seed, _IMAGE, self.patient.id, self.index)
        return expose(rng, subject, self.patient.machine, self.scale)

    def dicom(self, exposure: Exposure) -> bytes:
        """Return the picture as a DICOM file."""
        ids = self.patient.id, self.image_id
        return _dicom.to_bytes(exposure, self.patient.machine, self.laterality, ids, self.seed)


@dataclass(frozen=True)
class Wanted:
    """The arguments of a layout's ``write``; see ``rsna.write``."""

    patients: int
    seed: int
    size_scale: float
    prevalence: float
    workers: int

    def check(self, out: Path) -> None:
        """Raise ConfigError when an argument is out of its range, or ``out`` holds something."""
        checks = {
            "patients": (self.patients >= 1, "at least 1"),
            "seed": (self.seed >= 0, "at least 0"),
            "size_scale": (0 < self.size_scale <= 1, "above 0 and at most 1"),
            "prevalence": (0 <= self.prevalence <= 1, "at least 0 and at most 1"),
            "workers": (self.workers >= 1, "at least 1"),
        }
        for name, (fits, wanted) in checks.items():
            if not fits:
                raise ConfigError(f"{name} must be {wanted}, got {getattr(self, name)}.")
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            what = "a folder that is not empty" if out.is_dir() else "a file"
            raise ConfigError(f"{out} is {what}; name a new or an empty folder for the phantoms.")

    def shots(self) -> list[Shot]:
        """Return every exposure of the dataset, in the order of its table."""
        everybody = screen(self.patients, self.seed, self.prevalence)
        pairs = [(patient, index) for patient in everybody for index in range(len(patient.images))]
        return [
            Shot(patient, index, number, self.seed, self.size_scale)
            for number, (patient, index) in enumerate(pairs)
        ]

    def make(self, out: Path, one: Callable[[Path, Shot], Any]) -> list[Any]:
        """Return what ``one(out, shot)`` returns for every exposure, in order."""
        found = Parallel(n_jobs=self.workers)(delayed(one)(out, shot) for shot in self.shots())
        return list(found)


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
