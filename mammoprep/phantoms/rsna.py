"""The layout of the RSNA screening mammography competition (2022/2023), filled with phantoms."""

import csv
from pathlib import Path

from joblib import Parallel, delayed

from mammoprep.core.errors import ConfigError
from mammoprep.phantoms import _dicom, _truth
from mammoprep.phantoms._cohort import Patient, generator, screen
from mammoprep.phantoms._exposure import Subject, expose

_IMAGE = 3
TRAIN_COLUMNS = (
    "site_id",
    "patient_id",
    "image_id",
    "laterality",
    "view",
    "age",
    "cancer",
    "biopsy",
    "invasive",
    "BIRADS",
    "implant",
    "density",
    "machine_id",
    "difficult_negative_case",
)
TEST_COLUMNS = (*TRAIN_COLUMNS[:6], "implant", "machine_id", "prediction_id")


def _row(patient: Patient, image: tuple[int, str, str]) -> dict[str, object]:
    name, laterality, view = image
    side = patient.sides[laterality]
    return {
        "site_id": patient.machine.site_id,
        "patient_id": patient.id,
        "image_id": name,
        "laterality": laterality,
        "view": view,
        "age": patient.age,
        "cancer": side.cancer,
        "biopsy": side.biopsy,
        "invasive": side.invasive,
        "BIRADS": side.birads,
        "implant": 0,
        "density": patient.density if patient.machine.site_id == 1 else "",
        "machine_id": patient.machine.machine_id,
        "difficult_negative_case": side.difficult,
        "prediction_id": f"{patient.id}_{laterality}",
    }


def _write_table(path: Path, patients: list[Patient], columns: tuple[str, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(_row(patient, image) for patient in patients for image in patient.images)


def _images(out: Path, patient: Patient) -> Path:
    return out / ("test_images" if patient.test else "train_images") / str(patient.id)


def _write_image(out: Path, patient: Patient, index: int, seed: int, scale: float) -> None:
    name, laterality, view = patient.images[index]
    side = patient.sides[laterality]
    subject = Subject(side.breast, side.findings, laterality, view)
    rng = generator(seed, _IMAGE, patient.id, index)
    exposure = expose(rng, subject, patient.machine, scale)
    coded = _dicom.to_bytes(exposure, patient.machine, laterality, (patient.id, name), seed)
    (_images(out, patient) / f"{name}.dcm").write_bytes(coded)
    _truth.write(out / "truth" / str(patient.id), str(name), exposure, patient.machine.name)


def _check(out: Path, values: dict[str, tuple[float, bool, str]]) -> None:
    for name, (value, fits, wanted) in values.items():
        if not fits:
            raise ConfigError(f"{name} must be {wanted}, got {value}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "a folder that is not empty" if out.is_dir() else "a file"
        raise ConfigError(f"{out} is {what}; name a new or an empty folder for the phantoms.")


def _make_folders(out: Path, patients: list[Patient]) -> None:
    for patient in patients:
        _images(out, patient).mkdir(parents=True)
        (out / "truth" / str(patient.id)).mkdir(parents=True)


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the competition's layout, and the truth beside them.

    The bytes of every file depend on all arguments but ``out`` and ``workers``.

    Args:
        out: New or empty folder; gets ``train.csv``, ``train_images``, ``truth``, and from 4
            patients on ``test.csv`` and ``test_images``.
        patients: How many, at least 1; from 4 on a tenth of them, at least one, is in test.
        seed: Not negative.
        size_scale: Factor on rows and columns, above 0 and at most 1; no side gets below 64 pixels.
        prevalence: Share of patients with cancer, 0 to 1; with two or more patients in train at
            least one has cancer and at least one has not.
        workers: Processes, at least 1.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    checks = {
        "patients": (patients, patients >= 1, "at least 1"),
        "seed": (seed, seed >= 0, "at least 0"),
        "size_scale": (size_scale, 0 < size_scale <= 1, "above 0 and at most 1"),
        "prevalence": (prevalence, 0 <= prevalence <= 1, "at least 0 and at most 1"),
        "workers": (workers, workers >= 1, "at least 1"),
    }
    _check(out, checks)
    everybody = screen(patients, seed, prevalence)
    _make_folders(out, everybody)
    train = [patient for patient in everybody if not patient.test]
    test = [patient for patient in everybody if patient.test]
    _write_table(out / "train.csv", train, TRAIN_COLUMNS)
    if test:
        _write_table(out / "test.csv", test, TEST_COLUMNS)
    tasks = [(patient, index) for patient in everybody for index in range(len(patient.images))]
    Parallel(n_jobs=workers)(
        delayed(_write_image)(out, patient, index, seed, size_scale) for patient, index in tasks
    )
