"""RSNA Screening Mammography Breast Cancer Detection, 2022: two tables and one DICOM an image.

Reads the competition's own layout, unpacked or as the downloaded zip; see
``data_manifests/rsna.toml``.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mammoprep.core.cards import Card
from mammoprep.core.schema import Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources._tables import Row, csv_rows, folder_of
from mammoprep.sources._tables import records as records_of

EXAM = {(side, view) for side in ("L", "R") for view in ("CC", "MLO")}
TABLES = {"train.csv": "train_images", "test.csv": "test_images"}

Parser = Callable[[str], Scalar]


def _integer(text: str) -> int:
    """Parse ``3`` and the ``3.0`` that a spreadsheet leaves behind."""
    if re.fullmatch(r"[0-9]{1,18}(\.0+)?", text) is None:
        raise ValueError("a whole number")
    return int(text.split(".")[0])


def _binary(text: str) -> int:
    value = _integer(text)
    if value not in (0, 1):
        raise ValueError("0 or 1")
    return value


def _age(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]*)?", text) is None:
        raise ValueError("an age in years")
    return float(text)


def _boolean(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError("True or False")
    return text == "True"


def _token(pattern: str, expected: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(expected)
        return text

    return parse


_IDENTIFIER = _token(r"[A-Za-z0-9_-]{1,64}", "an identifier of letters, digits, - and _")

# Column -> (parser, may be empty). What is not read as a label names the image.
NAMING: dict[str, tuple[Parser, bool]] = {
    "patient_id": (_IDENTIFIER, False),
    "image_id": (_IDENTIFIER, False),
    "laterality": (_token("[LR]", "L or R"), False),
    "view": (_token("[A-Z]{2,5}", "a view such as CC or MLO"), False),
}
COMMON: dict[str, tuple[Parser, bool]] = {
    "site_id": (_integer, True),
    "age": (_age, True),
    "implant": (_binary, True),
    "machine_id": (_integer, True),
}
COLUMNS: dict[str, dict[str, tuple[Parser, bool]]] = {
    "train.csv": {
        **NAMING,
        **COMMON,
        "cancer": (_binary, False),
        "biopsy": (_binary, True),
        "invasive": (_binary, True),
        "BIRADS": (lambda text: str(_integer(text)), True),
        "density": (_token("[ABCD]", "A, B, C or D"), True),
        "difficult_negative_case": (_boolean, True),
    },
    "test.csv": {
        **NAMING,
        **COMMON,
        "prediction_id": (_token(r"[A-Za-z0-9_-]{1,64}", "an identifier"), False),
    },
}


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the tables: ``""`` for the root, or None when there is none."""
    return folder_of(tree, *TABLES)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record a row of ``train.csv`` and ``test.csv``, whichever are there.

    Raises:
        ConfigError: a table lacks a column, has no rows, names an image twice or holds a value of
            the wrong type; the message gives file and row numbers (row 1 is the header).
    """
    records: list[Record] = []
    for table in TABLES:
        if tree.exists(table):
            records += _read_table(tree, table, card)
    return _with_exams(records)


def _with_exams(records: list[Record]) -> list[Record]:
    """Name the exam of every patient who has all four standard views; each has one exam."""
    views: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)
    for record in records:
        views[record.group].add((record.laterality, record.view))
    return [
        replace(record, exam_id=record.patient_id) if views[record.group] >= EXAM else record
        for record in records
    ]


def _read_table(tree: Tree, table: str, card: Card) -> list[Record]:
    rows = csv_rows(tree, table, list(COLUMNS[table]))
    return records_of(table, rows, partial(_record, table=table, card=card))


def _parse(row: Row, table: str) -> dict[str, Scalar]:
    """Return every known column's typed value; raise ValueError that says what was expected."""
    values: dict[str, Scalar] = {}
    for column, (parse, may_be_empty) in COLUMNS[table].items():
        text = row[column].strip()
        if not text or text.lower() == "nan":
            if not may_be_empty:
                raise ValueError(f"{column} is empty")
            values[column] = None
            continue
        try:
            values[column] = parse(text)
        except ValueError as expected:
            raise ValueError(f"{column} must be {expected}, got {text[:40]!r}") from None
    return values


def _record(row: Row, table: str, card: Card) -> Record:
    values = _parse(row, table)
    patient, image = str(values["patient_id"]), str(values["image_id"])
    renamed = {**values, "birads": values.get("BIRADS")}
    labels = {name: renamed.get(name) for name in card.labels}
    test = table == "test.csv"
    return Record(
        key=make_key("rsna", patient, image),
        source="rsna",
        group=patient,
        input=f"{TABLES[table]}/{patient}/{image}.dcm",
        patient_id=patient,
        image_id=image,
        laterality=str(values["laterality"]),
        view=str(values["view"]),
        split="test" if test else None,
        label=None if test else int(values["cancer"] or 0),
        labels=labels,
        stratum=f"cancer={labels['cancer']} machine={labels['machine_id']}",
    )
