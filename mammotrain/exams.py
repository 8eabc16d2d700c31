"""Which examination an image is of, and how one knows that a patient has several of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Texts = NDArray[np.str_]
Places = NDArray[np.intp]

EXAMS = ("exam_id", "study_id")  # columns of a table that tell one examination from another
# Written for an image of a patient with several examinations where nobody knows which it is of; no
# identifier of a dataset is a question mark alone.
UNTOLD = "?"
# Sets with several examinations of some patients whose tables do not tell them apart: INbreast has
# 115 cases of 108 patients.
SEVERAL = ("inbreast",)
PATIENT = "patient_id"  # a group may hold several, whose pictures are too much alike
# Of one examination there is one value; two known ones of a patient mean two examinations.
TELLING = (
    "labels.age",
    "labels.year",
    "labels.date",
    "labels.study_date",
    "labels.acquisition_date",
)


def of_columns(columns: Mapping[str, Sequence[Any]], rows: NDArray[np.int64]) -> Texts | None:
    """Return each sample's examination; None where nobody knows of any.

    It is the sample's ``exam_id``, else its ``study_id``. Without both it is an empty text, which
    means that the patient has one examination as far as anybody knows; the patient's identifier in
    a group of several patients; and ``UNTOLD`` where the patient has several: by the source
    (``SEVERAL``), where other images of the patient have one, or where what is the same throughout
    an examination, such as the age, is not (``TELLING``).

    Args:
        columns: ``group`` of every sample of the table, and others where it has them.
        rows: (n,) places in the table.
    """
    exam = _texts(columns, EXAMS[0], rows)
    exam = np.where(exam == "", _texts(columns, EXAMS[1], rows), exam)
    patient = _texts(columns, PATIENT, rows)
    group = _numbers(_texts(columns, "group", rows))
    unit = np.unique(np.stack([group, _numbers(patient)]), axis=1, return_inverse=True)[1].ravel()
    several = np.isin(_texts(columns, "source", rows), SEVERAL) | _some(exam != "", unit)
    for name in TELLING:
        several |= _differ(_texts(columns, name, rows), unit)
    exam = np.where((exam == "") & several, UNTOLD, exam)
    shared = (exam == "") & _differ(patient, group)
    exam = np.where(shared, np.where(patient == "", UNTOLD, patient), exam)
    return exam if np.any(exam != "") else None


def _texts(columns: Mapping[str, Sequence[Any]], name: str, rows: NDArray[np.int64]) -> Texts:
    """Return a column as texts; empty where it is unknown or the table does not have it."""
    found = columns.get(name)
    values = [None if found is None else found[row] for row in rows]
    return np.array(["" if value is None else str(value) for value in values], np.str_)


def _numbers(values: Texts) -> Places:
    return np.asarray(np.unique(values, return_inverse=True)[1])


def _some(chosen: NDArray[np.bool_], unit: Places) -> NDArray[np.bool_]:
    """Return whether any sample of the same patient is chosen, (n,)."""
    return np.asarray(np.isin(unit, unit[chosen]))


def _differ(values: Texts, unit: Places) -> NDArray[np.bool_]:
    """Return whether the sample's patient or group has two values that are known, (n,)."""
    known = values != ""
    pairs = np.unique(np.stack([unit, _numbers(values)])[:, known], axis=1)
    owners, count = np.unique(pairs[0], return_counts=True)
    return np.asarray(np.isin(unit, owners[count > 1]))
