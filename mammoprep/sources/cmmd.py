"""CMMD: a clinical sheet with a row a breast, and DICOM files that alone know their side and view.

So the sheet meets the files only after ``survey`` has read every header; see ``settle``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mammoprep.core import plugins
from mammoprep.core.cards import Card
from mammoprep.core.schema import Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources._tables import Row, distinct, folder_of, one_of, value, xlsx_rows
from mammoprep.sources._tables import records as records_of

TABLE = "CMMD_clinicaldata_revision.xlsx"
COLUMNS = ("ID1", "LeftRight", "Age", "abnormality", "classification", "subtype")
KINDS: dict[str, Scalar] = {"mass": "mass", "calcification": "calcification", "both": "both"}
CLASSES: dict[str, Scalar] = {"Benign": 0, "Malignant": 1}
SUBTYPES: dict[str, Scalar] = {
    name: name for name in ("Luminal A", "Luminal B", "HER2-enriched", "triple negative")
}
SIDES = ("L", "R")
_PATIENT = re.compile(r"D[12]-[0-9]{4}")

Sheet = Mapping[tuple[str, str | None], Record]


class Unjoined(list[Record]):
    """What ``read`` returns: records that wait for ``settle``, and the sheet that they will meet.

    Attributes:
        sheet: (patient, side) -> the row as a record without a file.
    """

    def __init__(self, records: Iterable[Record], sheet: Sheet) -> None:
        """Remember the sheet."""
        super().__init__(records)
        self.sheet = sheet


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the sheet: ``""`` for the root, or None when there is none."""
    return folder_of(tree, TABLE)


def read(tree: Tree, card: Card) -> Unjoined:
    """Return one record a file, without side, view and label, and one a row without any files.

    Raises:
        ConfigError: the sheet is damaged, names a breast twice or holds a value of the wrong kind;
            the message gives the row numbers (row 1 is the header).
    """
    rows = records_of(TABLE, xlsx_rows(tree, TABLE, COLUMNS), partial(_row, card=card))
    files = [_file(path, patient, card) for path, patient in _files(tree)]
    there = {record.group for record in files}
    records = [*files, *(row for row in rows if row.group not in there)]
    return Unjoined(distinct(records), {(row.group, row.laterality): row for row in rows})


def survey(data: bytes) -> dict[str, Any]:
    """Return ``laterality`` (L, R or None) and ``view`` of a DICOM file.

    Raises:
        RecordError: the header cannot be read.
    """
    gate = plugins.load("mammoprep.decode", "gate", needs=("check_file",))
    header = plugins.load("mammoprep.decode", "header", needs=("parse", "read_facts"))
    meta = gate.check_file(data)
    facts = header.read_facts(header.parse(data), meta.transfer_syntax, meta.sop_class)
    side = facts.place.laterality
    return {"laterality": side if side in SIDES else None, "view": facts.place.view}


def settle(
    records: Unjoined, findings: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Record], list[str]]:
    """Return the records with side, view and the labels of their breast's row; and what is left.

    An image of a breast without a row keeps unknown labels (``in_sheet`` is false): nothing is
    concluded from a row's absence. A row of a breast without an image becomes a record without a
    file, so that it is counted.

    Args:
        records: What ``read`` returned.
        findings: Input -> what ``survey`` returned, or ``failure``.
    """
    files = [
        _matched(record, findings.get(record.input, {}), records.sheet)
        for record in records
        if record.image_id is not None
    ]
    seen = {(record.group, record.laterality) for record in files}
    rows = [row for breast, row in records.sheet.items() if breast not in seen]
    return [*files, *rows], _lines(files, rows, len(records.sheet))


def _lines(files: list[Record], rows: list[Record], all_rows: int) -> list[str]:
    """Return a line for the user about each kind of thing that did not meet its other half."""
    alone = [record for record in files if not record.labels["in_sheet"]]
    silent = sum(record.laterality is None for record in alone)
    lines = []
    if alone:
        lines.append(
            f"{len(alone):,} of {len(files):,} images have no row in {TABLE}"
            f"{f', {silent:,} of them because no side is stated' if silent else ''}; "
            "their labels are unknown."
        )
    if rows:
        lines.append(f"{len(rows):,} of {all_rows:,} rows in {TABLE} have no image.")
    return lines


def _matched(record: Record, header: Mapping[str, Any], sheet: Sheet) -> Record:
    found = replace(record, laterality=header.get("laterality"), view=header.get("view"))
    row = sheet.get((record.group, found.laterality))
    if row is not None:
        return replace(found, label=row.label, labels=row.labels, stratum=row.stratum)
    others = [sheet[record.group, side] for side in SIDES if (record.group, side) in sheet]
    age = others[0].labels["age"] if others else None  # it is the patient's, whatever the side
    return replace(found, labels={**record.labels, "age": age})


def _row(row: Row, card: Card) -> Record:
    patient = _needed(row, "ID1", _identifier)
    side = _needed(row, "LeftRight", one_of({side: side for side in SIDES}))
    labels: dict[str, Scalar] = {
        "cancer": int(_needed(row, "classification", one_of(CLASSES))),
        "abnormal": 1,
        "age": value(row, "Age", _age),
        "kind": value(row, "abnormality", one_of(KINDS)),
        "subtype": value(row, "subtype", one_of(SUBTYPES)),
        "subset": patient[:2],
        "in_sheet": True,
    }
    return Record(
        key=make_key("cmmd", patient, side),
        source="cmmd",
        group=patient,
        input=f"CMMD/{patient}/{side}",
        patient_id=patient,
        laterality=side,
        label=_class(labels, card),
        labels={name: labels.get(name) for name in card.labels},
        stratum=f"cancer={labels['cancer']} kind={labels['kind']} subset={labels['subset']}",
    )


def _class(labels: Mapping[str, Scalar], card: Card) -> int | None:
    found = labels[card.target]
    names = card.targets[card.target]
    return found if found is None or isinstance(found, int) else names.index(str(found))


def _needed(row: Row, column: str, parse: Any) -> str:
    found = value(row, column, parse)
    if found is None:
        raise ValueError(f"{column} is empty")
    return str(found)


def _identifier(text: str) -> str:
    if _PATIENT.fullmatch(text) is None:
        raise ValueError("a patient such as D1-0001")
    return text


def _age(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,3}", text) is None:
        raise ValueError("an age in years")
    return int(text)


def _files(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield (path, patient) of the DICOM files below folders that are named after a patient."""
    for top in tree.folders():
        for path in sorted(tree.sizes(top)):
            patients = [part for part in path.split("/")[:-1] if _PATIENT.fullmatch(part)]
            if patients and path.lower().endswith(".dcm"):
                yield path, patients[0]


def _file(path: str, patient: str, card: Card) -> Record:
    inside = path.split(f"{patient}/", 1)[1].rsplit(".", 1)[0]
    labels: dict[str, Scalar] = {"subset": patient[:2], "in_sheet": False}
    return Record(
        key=make_key("cmmd", patient, *inside.split("/")),
        source="cmmd",
        group=patient,
        input=path,
        patient_id=patient,
        image_id=inside,
        labels={name: labels.get(name) for name in card.labels},
        stratum=f"subset={patient[:2]}",
    )
