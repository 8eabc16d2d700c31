"""Anybody's own dataset: a folder of images and one table that says what is on them.

See ``data_manifests/table.toml``; which column means what is said by ``--columns``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import ANNOTATIONS, Lesion, MaskFile, Record, Scalar, make_key
from mammoprep.core.tree import Folder, Tree
from mammoprep.sources import _birads
from mammoprep.sources._tables import (
    Row,
    csv_rows,
    folder_of,
    one_of,
    read_table,
    refuse,
    value,
    xlsx_rows,
)

TABLES = ("table.csv", "table.xlsx")
NEEDED = ("path", "patient_id", "label")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
FINDING = ("mask", "kind", "pathology", *CORNERS)
MOST_CLASSES = 100

SIDES = {"l": "L", "r": "R", "left": "L", "right": "R"}
SPLITS: Mapping[str, Scalar] = {name: name for name in ("train", "val", "test")}
BINARY: Mapping[str, Scalar] = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
PATHOLOGIES: Mapping[str, Scalar] = {name: name for name in ("malignant", "benign")}
DENSITIES: Mapping[str, Scalar] = {name: name for name in _birads.DENSITIES}


def _matching(pattern: str, expected: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(expected)
        return text

    return parse


def _category(text: str) -> str:
    if _birads.CATEGORY.fullmatch(text.lower()) is None:
        raise ValueError("a BI-RADS category such as 2 or 4a")
    return text.lower()


def _path(text: str) -> str:
    """Return a path inside of the folder, with forward slashes."""
    path = PurePosixPath(text.replace("\\", "/"))
    drive = re.match("[A-Za-z]:", text)
    if path.is_absolute() or ".." in path.parts or not path.parts or drive:
        raise ValueError("a path inside of the input folder")
    return str(path)


def _side(text: str) -> str:
    if text.lower() not in SIDES:
        raise ValueError("L, R, left or right")
    return SIDES[text.lower()]


def _pixels(text: str) -> float:
    if re.fullmatch(r"-?[0-9]{1,6}(\.[0-9]*)?", text) is None:
        raise ValueError("a number of pixels")
    return float(text)


_NAME = _matching(r"[^\x00-\x1f\x7f]{1,128}", "a name of at most 128 characters")
# Meaning -> parser of a cell; the card lists the same meanings.
PARSERS: dict[str, Callable[[str], Scalar]] = {
    "path": _path,
    "patient_id": _NAME,
    "label": _NAME,
    "laterality": _side,
    "view": _matching("[A-Z]{2,5}", "a view such as CC or MLO"),
    "study_id": _NAME,
    "split": one_of(SPLITS),
    "cancer": one_of(BINARY),
    "abnormal": one_of(BINARY),
    "birads": _category,
    "density": one_of(DENSITIES),
    "annotation": one_of({name: name for name in ANNOTATIONS}),
    "mask": _path,
    "kind": _NAME,
    "pathology": one_of(PATHOLOGIES),
    **dict.fromkeys(CORNERS, _pixels),
}

Cells = Mapping[str, Scalar]


@dataclass(frozen=True)
class _Image:
    """The rows of one image, with their numbers."""

    number: int
    facts: Cells
    findings: tuple[Cells, ...]


def locate(tree: Tree) -> str | None:
    """Return the folder that holds ``table.csv``: ``""`` for the root, or None."""
    return folder_of(tree, *TABLES)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record an image: several rows of one image are several findings of it.

    Raises:
        ConfigError: the table cannot be read, lacks a column, has no rows, or holds a value that
            cannot be; the message gives row numbers (row 1 is the header).
    """
    place, table = tree, next((name for name in TABLES if tree.exists(name)), TABLES[0])
    if card.table:
        place, table = Folder(Path(card.table).resolve().parent), Path(card.table).name
    needed = [name for meaning, name in card.columns.items() if _is_needed(meaning, name)]
    rows = _rows(place, table, needed)
    images = _gather(table, rows, {m: name for m, name in card.columns.items() if name})
    names = card.targets[card.target] or _classes(images, table, card)
    records, errors = [], []
    for image in images.values():
        try:
            records.append(_record(image, names, card))
        except ValueError as error:
            errors.append(f"row {image.number}: {error}")
    refuse(table, errors)
    return records


def complete(card: Card, records: Sequence[Record]) -> Card:
    """Return the card with the classes of the table, unless the user gave them."""
    found = {str(r.labels["label"]) for r in records if r.labels["label"] is not None}
    names = card.targets[card.target] or _sorted(found)
    return replace(card, targets={card.target: names})


def _is_needed(meaning: str, name: str) -> bool:
    """Return whether a column must be there: always, or because the user named it."""
    return meaning in NEEDED or name not in ("", meaning)


def _rows(place: Tree, table: str, needed: list[str]) -> Iterator[tuple[int, Row]]:
    if "" in needed:
        raise ConfigError(f"--columns: {', '.join(NEEDED)} cannot be left out.")
    if table.lower().endswith(".xlsx"):
        return xlsx_rows(place, table, needed)
    header = read_table(place, table).split(b"\n", 1)[0]
    separator = max(",;\t", key=lambda sign: header.count(sign.encode()))
    return csv_rows(place, table, needed, separator)


def _gather(
    table: str, rows: Iterator[tuple[int, Row]], columns: Mapping[str, str]
) -> dict[str, _Image]:
    """Return path -> image.

    Raises:
        ConfigError: a cell holds what it cannot, or two rows of one image contradict each other.
    """
    images: dict[str, _Image] = {}
    errors: list[str] = []
    for number, row in rows:
        try:
            cells = _cells(row, columns)
            path = str(cells["path"])
            images[path] = _joined(images.get(path), number, cells)
        except ValueError as error:
            errors.append(f"row {number}: {error}")
    refuse(table, errors)
    if not images:
        raise ConfigError(f"{table} has a header but no rows.")
    return images


def _cells(row: Row, columns: Mapping[str, str]) -> Cells:
    """Return meaning -> value of the columns that are there."""
    cells = {
        meaning: value(row, name, PARSERS[meaning])
        for meaning, name in columns.items()
        if name in row
    }
    for meaning in ("path", "patient_id"):
        if cells[meaning] is None:
            raise ValueError(f"{columns[meaning]} is empty")
    return cells


def _joined(image: _Image | None, number: int, cells: Cells) -> _Image:
    facts = {meaning: cell for meaning, cell in cells.items() if meaning not in FINDING}
    finding = {meaning: cells.get(meaning) for meaning in FINDING if meaning in cells}
    if image is None:
        return _Image(number, facts, (finding,))
    if not any(finding.values()) or finding in image.findings:
        raise ValueError(f"the same image is in row {image.number}")
    if odd := [meaning for meaning, cell in facts.items() if image.facts[meaning] != cell]:
        raise ValueError(f"{odd[0]} is not that of row {image.number}, the same image")
    return replace(image, findings=(*image.findings, finding))


def _sorted(names: set[str]) -> list[str]:
    """Return class names in order: numbers by value, then text."""

    def rank(name: str) -> tuple[bool, float, str]:
        number = re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", name) is not None
        return not number, float(name) if number else 0.0, name

    return sorted(names, key=rank)


def _classes(images: Mapping[str, _Image], table: str, card: Card) -> list[str]:
    found = {image.facts["label"] for image in images.values()} - {None}
    if not 1 <= len(found) <= MOST_CLASSES:
        raise ConfigError(
            f"{table}: column {card.columns['label']} has {len(found)} different labels; expected "
            f"1 to {MOST_CLASSES} classes. Name another column by --columns label=NAME."
        )
    return _sorted({str(label) for label in found})


def _record(image: _Image, names: list[str], card: Card) -> Record:
    facts = image.facts
    path, patient, label = str(facts["path"]), str(facts["patient_id"]), facts["label"]
    if label is not None and label not in names:
        known = ", ".join(names)
        raise ValueError(f"{card.columns['label']} must be one of {known}; got {str(label)[:40]!r}")
    named = _text(facts, "annotation")
    lesions, masks = _lesions(image), _masks(image)
    looked = any(meaning in finding for finding in image.findings for meaning in ("mask", "xmin"))
    return Record(
        key=_key(path),
        source="table",
        group=patient,
        input=path,
        patient_id=patient,
        study_id=_text(facts, "study_id"),
        image_id=path,
        laterality=_text(facts, "laterality"),
        view=_text(facts, "view"),
        split=_text(facts, "split"),
        label=None if label is None else names.index(str(label)),
        labels={name: facts.get(name) for name in card.labels},
        stratum=f"density={facts.get('density')}",
        annotation=named or ("full" if looked else "none"),
        lesions=lesions,
        masks=masks,
    )


def _key(path: str) -> str:
    """Return the key of a path; where letters get lost in it, 8 hexadecimal digits tell apart."""
    name = re.sub(
        r"\.(dcm|dicom|png|jpe?g|pgm|ppm|bmp|tiff?|jp2|j2k)$", "", path, flags=re.IGNORECASE
    )
    digest = "" if name.isascii() else f"-{sha256(path.encode()).hexdigest()[:8]}"
    return make_key("table", f"{name or path}{digest}")


def _text(cells: Cells, meaning: str) -> str | None:
    found = cells.get(meaning)
    return None if found is None else str(found)


def _lesions(image: _Image) -> tuple[Lesion, ...]:
    """Return the findings that are boxes.

    Raises:
        ValueError: a box lacks a side or is empty.
    """
    lesions: list[Lesion] = []
    for finding in image.findings:
        corners = [finding.get(corner) for corner in CORNERS]
        if all(corner is None for corner in corners):
            continue
        if any(corner is None for corner in corners) or finding.get("mask") is not None:
            raise ValueError(f"a box needs all of {', '.join(CORNERS)}, and a row of its own")
        x0, y0, x1, y1 = (float(corner or 0) for corner in corners)
        if not (x0 < x1 and y0 < y1):
            raise ValueError(f"the box {x0:g}, {y0:g}, {x1:g}, {y1:g} is empty")
        shape = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        kind, pathology = _text(finding, "kind"), _text(finding, "pathology")
        lesions.append(Lesion(len(lesions) + 1, kind, pathology, shape))
    return tuple(lesions)


def _masks(image: _Image) -> tuple[MaskFile, ...]:
    return tuple(
        MaskFile(_text(finding, "kind"), _text(finding, "pathology"), (str(finding["mask"]),))
        for finding in image.findings
        if finding.get("mask") is not None
    )
