"""VinDr-Mammo, 2022: one table of images, one of findings with boxes, and one DICOM an image.

See ``data_manifests/vindr.toml``.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from mammoprep.core.cards import Card
from mammoprep.core.schema import Lesion, Point, Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources import _birads
from mammoprep.sources._tables import Row, csv_rows, folder_of, one_of, refuse, value
from mammoprep.sources._tables import records as records_of

IMAGES, FINDINGS = "breast-level_annotations.csv", "finding_annotations.csv"
NAMING = ("study_id", "image_id", "laterality", "view_position")
IMAGE_COLUMNS = (*NAMING, "breast_birads", "breast_density", "split")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
FINDING_COLUMNS = ("study_id", "image_id", "finding_categories", "finding_birads", *CORNERS)
SPLITS: Mapping[str, Scalar] = {"training": "train", "test": "test"}
DENSITIES: Mapping[str, Scalar] = {f"DENSITY {letter}": letter for letter in _birads.DENSITIES}
BIRADS: Mapping[str, Scalar] = {f"BI-RADS {number}": str(number) for number in range(7)}

NOTHING = "No Finding"
# A lesion's kind is its category in lower case; what is suspicious is said by its BI-RADS.
KINDS = {"Suspicious Calcification": "calcification", "Suspicious Lymph Node": "lymph node"}
_NAME = r"'[A-Za-z][A-Za-z /-]{1,39}'"
_LIST = re.compile(rf"\[\s*{_NAME}(\s*,\s*{_NAME})*\s*\]")
_NUMBER = re.compile(r"-?[0-9]{1,6}(\.[0-9]*)?")


@dataclass(frozen=True)
class _Finding:
    """One row of the finding table; ``box`` is None in a row that says that there is nothing."""

    study: str
    kinds: tuple[str, ...]
    birads: str | None
    box: tuple[float, float, float, float] | None


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the table of images: ``""`` for the root, or None."""
    return folder_of(tree, IMAGES)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record a row of the table of images, with the boxes of the other table.

    Without the table of findings no image is annotated.

    Raises:
        ConfigError: a table lacks a column, has no rows, names an image twice or holds a value that
            cannot be; the message gives file and row numbers (row 1 is the header).
    """
    found: dict[str, list[tuple[int, _Finding]]] | None = None
    if tree.exists(FINDINGS):
        found = _findings(csv_rows(tree, FINDINGS, FINDING_COLUMNS))
    rows = csv_rows(tree, IMAGES, IMAGE_COLUMNS)
    records = records_of(IMAGES, rows, partial(_record, card=card, found=found or {}))
    if found is not None:
        _check_known(records, found)
    return records


def _findings(rows: Iterator[tuple[int, Row]]) -> dict[str, list[tuple[int, _Finding]]]:
    """Return image id -> its (row number, finding)."""
    found: dict[str, list[tuple[int, _Finding]]] = defaultdict(list)
    errors: list[str] = []
    for number, row in rows:
        try:
            found[_identifier(row, "image_id")].append((number, _finding(row)))
        except ValueError as error:
            errors.append(f"row {number}: {error}")
    refuse(FINDINGS, errors)
    return found


def _check_known(records: list[Record], found: Mapping[str, list[tuple[int, _Finding]]]) -> None:
    """Refuse findings of images that the other table does not have, or has in another study."""
    studies = {str(record.image_id): record.study_id for record in records}
    wrong = [
        f"row {number}: its image is not in study {finding.study} of {IMAGES}"
        for image, findings in found.items()
        for number, finding in findings
        if studies.get(image) != finding.study
    ]
    refuse(FINDINGS, wrong)


def _identifier(row: Row, column: str) -> str:
    text = row[column].strip()
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text) is None or text.strip(".") == "":
        raise ValueError(f"{column} must be an identifier, got {text[:40]!r}")
    return text


def _finding(row: Row) -> _Finding:
    listed = row["finding_categories"].strip()
    if _LIST.fullmatch(listed) is None:
        raise ValueError(f"finding_categories must be a list such as ['Mass'], got {listed[:40]!r}")
    names = re.findall(r"'([^']*)'", listed)
    corners = [value(row, column, _number) for column in CORNERS]
    empty = NOTHING in names
    if (empty and len(names) > 1) or any((corner is None) != empty for corner in corners):
        raise ValueError(f"a finding must have a box, and {NOTHING} alone none")
    box = None if empty else _box(corners)
    birads = value(row, "finding_birads", one_of(BIRADS))
    kinds = tuple(KINDS.get(name, name.lower()) for name in names if name != NOTHING)
    return _Finding(
        _identifier(row, "study_id"), kinds, None if birads is None else str(birads), box
    )


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("a number of pixels")
    return float(text)


def _box(corners: list[Scalar]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(corner or 0) for corner in corners)
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} is empty")
    return x0, y0, x1, y1


def _corners(finding: _Finding) -> tuple[Point, ...]:
    """Return the corners of a finding's box."""
    x0, y0, x1, y1 = finding.box or (0.0, 0.0, 0.0, 0.0)
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def _record(row: Row, card: Card, found: Mapping[str, list[tuple[int, _Finding]]]) -> Record:
    study, image = _identifier(row, "study_id"), _identifier(row, "image_id")
    listed = [finding for _, finding in found.get(image, ())]
    marked = [finding for finding in listed if finding.box is not None]
    record = Record(
        key=make_key("vindr", study, image),
        source="vindr",
        group=study,
        input=f"images/{study}/{image}.dicom",
        study_id=study,
        image_id=image,
        exam_id=study,
        laterality=str(_needed(row, "laterality", {"L": "L", "R": "R"})),
        view=str(_needed(row, "view_position", {"CC": "CC", "MLO": "MLO"})),
        split=str(_needed(row, "split", SPLITS)),
        annotation="full" if listed else "none",
        lesions=tuple(
            Lesion(number, ", ".join(finding.kinds), None, _corners(finding))
            for number, finding in enumerate(marked, 1)
        ),
    )
    return _labelled(record, row, card, marked)


def _needed(row: Row, column: str, names: Mapping[str, Scalar]) -> Scalar:
    found = value(row, column, one_of(names))
    if found is None:
        raise ValueError(f"{column} is empty")
    return found


def _labelled(record: Record, row: Row, card: Card, marked: list[_Finding]) -> Record:
    category = value(row, "breast_birads", one_of(BIRADS))
    density = value(row, "breast_density", one_of(DENSITIES))
    birads = None if category is None else str(category)
    looked = record.annotation != "none"
    known: dict[str, Scalar] = {
        "abnormal": _birads.abnormal(birads, findings=bool(marked) if looked else None),
        "suspicious": _birads.suspicious(birads),
        "birads": birads,
        "density": density,
        "findings": ", ".join(sorted({kind for each in marked for kind in each.kinds})),
        "finding_birads": max((each.birads for each in marked if each.birads), default=None),
    }
    if not looked:
        known["findings"] = None
    labels = {name: known.get(name) for name in card.labels}
    return replace(
        record,
        labels=labels,
        label=_birads.code(labels, card.target),
        stratum=f"birads={birads} density={density}",
    )
