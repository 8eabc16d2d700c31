"""An export from a hospital's archive, filled with phantoms: headers and paths that name patients.

Nobody of these names exists. Beside the mammograms lies what lies in real exports: other kinds of
files, copies, stripped headers.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from mammoprep.phantoms import _archive
from mammoprep.phantoms._dicom import uid
from mammoprep.phantoms._layouts import Shot, Wanted, write_bytes, write_table, write_truth

EXPORT = "export"
PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"
TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"
CT = "1.2.840.10008.5.1.4.1.1.2"
CAD_REPORT = "1.2.840.10008.5.1.4.1.1.88.50"
DIRECTORY = "1.2.840.10008.1.3.10"

SURNAMES = ("ABENDROTH", "BRØNDSTED", "CASTELLANOS", "DVOŘÁKOVÁ", "EISENHAUER", "FITZWILLIAM")
GIVEN = ("Wilhelmina", "Philippa", "Guadalupe", "Zdeňka", "Ottilie", "Rosalind", "Bernadette")
HOSPITAL = "St. Hildegard Klinikum Nordbruch"
VIEWS = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}
SPOT = ("399055006", "Spot Compression")


@dataclass
class Made:
    """One file of the export, and what is true of it.

    Attributes:
        path: Relative to the export.
        content: Its bytes.
        code: The rule that leaves it out, or empty.
        patient: Number of the patient, or empty.
    """

    path: str
    content: bytes
    code: str = ""
    patient: str = ""


@dataclass(frozen=True)
class Person:
    """What a header tells about somebody, and nothing may repeat."""

    shot: Shot

    @property
    def name(self) -> str:
        """Surname and given name as DICOM writes them."""
        number = self.shot.patient.id
        return f"{SURNAMES[number % len(SURNAMES)]}^{GIVEN[number % len(GIVEN)]}"

    @property
    def number(self) -> str:
        """The hospital's number."""
        return f"MRN-{self.shot.patient.id:07d}-{self.shot.seed}"

    @property
    def born(self) -> str:
        """Date of birth."""
        return f"19{20 + self.shot.patient.id % 60:02d}0{1 + self.shot.patient.id % 9}17"

    @property
    def seen(self) -> str:
        """Date of the study."""
        return f"20190{1 + self.shot.patient.id % 9}23"

    @property
    def folder(self) -> str:
        """Folder of the study."""
        return f"{self.name.replace('^', ', ')} born {self.born}/{self.seen} Screening both sides"

    @property
    def issuer(self) -> str | None:
        """Who gave the number; only half of the headers say it."""
        return f"{HOSPITAL} registry" if self.shot.patient.id % 2 else None

    def facts(self) -> dict[str, Any]:
        """Return what a mammogram's header says, by keyword."""
        view, meaning = VIEWS[self.shot.view]
        code = Dataset()
        code.CodeValue, code.CodeMeaning, code.CodingSchemeDesignator = view, meaning, "SCT"
        issuer = {} if self.issuer is None else {"IssuerOfPatientID": self.issuer}
        return {
            "SpecificCharacterSet": "ISO_IR 192",
            "SOPClassUID": PRESENTATION,
            "Modality": "MG",
            "PresentationIntentType": "FOR PRESENTATION",
            "ImageType": ["ORIGINAL", "PRIMARY", ""],
            "Manufacturer": "HOLOGIC, Inc.",
            "BodyPartExamined": "BREAST",
            "BurnedInAnnotation": "NO",
            "ViewPosition": self.shot.view,
            "ViewCodeSequence": [code],
            "PatientName": self.name,
            "PatientID": self.number,
            **issuer,
            "PatientBirthDate": self.born,
            "PatientAge": f"{self.shot.patient.age:03d}Y",
            "StudyDate": self.seen,
            "AccessionNumber": f"ACC{self.shot.patient.id:09d}",
            "InstitutionName": HOSPITAL,
            "StudyDescription": f"Screening of {self.name}",
            "OperatorsName": "HOCHSTEINER^Apollonia",
        }

    def secrets(self) -> Iterator[str]:
        """Yield every text of header and path that must stay where it is."""
        yield from self.name.split("^")
        yield from (self.number, self.born, self.seen, self.folder, self.name)
        yield from (f"ACC{self.shot.patient.id:09d}", HOSPITAL, "HOCHSTEINER", "Apollonia")
        seed, patient = self.shot.seed, self.shot.patient.id
        yield from (uid(seed, patient), uid(seed, patient, 1))
        yield uid(seed, patient, 1, self.shot.image_id)


def _mammogram(person: Person, facts: Mapping[str, Any]) -> Dataset:
    """Return the person's picture with its header; a value of None leaves an element out."""
    dataset = pydicom.dcmread(BytesIO(person.shot.dicom(person.shot.expose())))
    for keyword, value in facts.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)
    return dataset


def _bytes(dataset: Dataset) -> bytes:
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if "SOPClassUID" in dataset:
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    block = dataset.private_block(0x0019, "NORDBRUCH ARCHIVE", create=True)
    block.add_new(0x01, "LO", f"{HOSPITAL} private")
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _plain(person: Person) -> Made:
    """Return an ordinary file; a third each has a name with, with another and without ending."""
    shot = person.shot
    ending = (".dcm", ".DCM", "")[shot.number % 3]
    path = f"{person.folder}/{shot.laterality}{shot.view} of {person.name}-{shot.number}{ending}"
    return Made(path, _bytes(_mammogram(person, person.facts())), "", person.number)


def _without_patient(person: Person) -> Made:
    made = _plain(person)
    unnamed = {**person.facts(), "PatientID": None, "PatientName": None, "IssuerOfPatientID": None}
    return Made(made.path, _bytes(_mammogram(person, unnamed)), "", person.number)


def _stripped(person: Person) -> Made:
    """Return a file as bare as the RSNA competition's: no modality, class, view or body part."""
    made = _plain(person)
    kept = {"PatientID": person.number, "IssuerOfPatientID": person.issuer}
    return Made(made.path, _bytes(_mammogram(person, kept)), "", person.number)


def _others(person: Person) -> Iterator[Made]:
    """Yield what else lies in the folders of an export."""
    facts, folder, seed = person.facts(), person.folder, person.shot.seed
    code = facts["ViewCodeSequence"][0]
    spot, modifier = Dataset(), Dataset()
    spot.update(code)
    modifier.CodeValue, modifier.CodeMeaning = SPOT
    modifier.CodingSchemeDesignator = "SCT"
    spot.ViewModifierCodeSequence = [modifier]
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        "raw": ("for_processing", {"SOPClassUID": PROCESSING,
                                   "PresentationIntentType": "FOR PROCESSING"}),
        "tomo": ("multiframe", {"SOPClassUID": TOMOSYNTHESIS, "NumberOfFrames": 2}),
        "spot": ("view_excluded", {"ViewCodeSequence": [spot]}),
    }  # fmt: skip
    for name, (left_out, change) in changes.items():
        own = {"SOPInstanceUID": uid(seed, name)}
        content = _bytes(_mammogram(person, {**facts, **change, **own}))
        yield Made(f"{folder}/{name}/IMG-{person.number}", content, left_out, person.number)
    yield Made(f"{folder}/ct of {person.name}.dcm", _ct(person), "not_a_mammogram")
    for name, sop_class in (("DICOMDIR", DIRECTORY), (f"{folder}/cad report.dcm", CAD_REPORT)):
        yield Made(name, _pictureless(person, sop_class), "not_an_image")
    letter = f"Dear {person.name}, your number is {person.number}.\n".encode()
    yield Made(f"letter to {person.name}.txt", letter, "not_dicom")


def _ct(person: Person) -> bytes:
    facts = {**person.facts(), "Modality": "CT", "SOPInstanceUID": uid(person.shot.seed, "ct")}
    unfit = ("SOPClassUID", "BodyPartExamined", "ViewPosition", "ViewCodeSequence")
    kept = {keyword: value for keyword, value in facts.items() if keyword not in unfit}
    return _archive.to_bytes(np.full((64, 64), 1024, np.uint16), CT, kept)


def _pictureless(person: Person, sop_class: str) -> bytes:
    """Return a file of a kind that has no picture."""
    dataset = pydicom.dcmread(BytesIO(_ct(person)))
    for keyword in [element.keyword for element in dataset if element.tag.group in (0x28, 0x7FE0)]:
        delattr(dataset, keyword)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid(person.shot.seed, sop_class)
    return _bytes(dataset)


def _copies(person: Person) -> Iterator[Made]:
    """Yield a copy of a file, and another picture under its UID; both come later in the order."""
    made, folder = _plain(person), f"~backup of {person.name}"
    yield Made(f"{folder}/the same.dcm", made.content, "duplicate", person.number)
    dataset = pydicom.dcmread(BytesIO(made.content))
    data = bytearray(dataset.PixelData)
    data[len(data) // 2] ^= 1
    dataset.PixelData = bytes(data)
    yield Made(f"{folder}/another.dcm", _bytes(dataset), "duplicate", person.number)


PECULIAR: dict[int, Callable[[Person], Made]] = {2: _without_patient, 3: _stripped}


@dataclass
class _Written:
    """What was written for one exposure."""

    rows: list[dict[str, object]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


def _write_one(out: Path, shot: Shot) -> _Written:
    person, written = Person(shot), _Written()
    files = [PECULIAR.get(shot.number, _plain)(person)]
    if shot.number == 0:
        files += [*_others(person), *_copies(person)]
        written.secrets += [uid(shot.seed, name) for name in ("raw", "tomo", "spot", "ct")]
    for made in files:
        write_bytes(out / EXPORT / made.path, made.content)
        written.rows.append({"path": made.path, "code": made.code, "patient": made.patient})
    written.secrets += [*person.secrets(), *(made.path for made in files)]
    write_truth(out, person.number, str(shot.number), shot, shot.expose())
    return written


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` as an archive's export, and the truth beside it.

    ``truth/files.csv`` says of every file whose it is and which rule leaves it out;
    ``truth/private.txt`` lists every text that must not appear in anything that is made of them.

    Args:
        out: New or empty folder; gets ``export``, which is the input, and ``truth``.
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
    made: list[_Written] = wanted.make(out, _write_one)
    rows = [row for written in made for row in written.rows]
    write_table(out / "truth" / "files.csv", ("path", "code", "patient"), rows)
    secrets = sorted({secret for written in made for secret in written.secrets})
    (out / "truth" / "private.txt").write_text("".join(f"{s}\n" for s in secrets), "utf-8")
