"""The layout of the RSNA screening mammography competition (2022/2023), filled with phantoms."""

from pathlib import Path

from mammoprep.phantoms._layouts import Shot, Wanted, write_bytes, write_table, write_truth

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


def _row(shot: Shot) -> dict[str, object]:
    patient, side = shot.patient, shot.side
    return {
        "site_id": patient.machine.site_id,
        "patient_id": patient.id,
        "image_id": shot.image_id,
        "laterality": shot.laterality,
        "view": shot.view,
        "age": patient.age,
        "cancer": side.cancer,
        "biopsy": side.biopsy,
        "invasive": side.invasive,
        "BIRADS": side.birads,
        "implant": 0,
        "density": patient.density if patient.machine.site_id == 1 else "",
        "machine_id": patient.machine.machine_id,
        "difficult_negative_case": side.difficult,
        "prediction_id": f"{patient.id}_{shot.laterality}",
    }


def _write_rows(path: Path, shots: list[Shot], columns: tuple[str, ...]) -> None:
    rows = (_row(shot) for shot in shots)
    write_table(path, columns, ({name: row[name] for name in columns} for row in rows))


def _write_one(out: Path, shot: Shot) -> None:
    exposure, patient = shot.expose(), str(shot.patient.id)
    images = out / ("test_images" if shot.patient.test else "train_images")
    write_bytes(images / patient / f"{shot.image_id}.dcm", shot.dicom(exposure))
    write_truth(out, patient, str(shot.image_id), shot, exposure)


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
    write_wanted(out, Wanted(patients, seed, size_scale, prevalence, workers))


def write_wanted(out: Path, wanted: Wanted) -> None:
    """Do what ``write`` does, with everything that can be asked for: graded and matched findings.

    Args:
        out: As in ``write``.
        wanted: ``contrast`` and ``matched`` besides the arguments of ``write``.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    wanted.check(out)
    out.mkdir(parents=True, exist_ok=True)
    shots = wanted.shots()
    test = [shot for shot in shots if shot.patient.test]
    _write_rows(out / "train.csv", [s for s in shots if not s.patient.test], TRAIN_COLUMNS)
    if test:
        _write_rows(out / "test.csv", test, TEST_COLUMNS)
    wanted.make(out, _write_one)
