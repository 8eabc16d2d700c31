"""Anybody's own dataset: a folder of images and one table that says what is on them.

See ``data_manifests/table.toml``; which column means what is said by ``--columns``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from mammoprep.core import own_table, plugins
from mammoprep.core.cards import Card
from mammoprep.core.cells import Day, Number, Truth, is_error
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Lesion, MaskFile, Record, Scalar, make_key
from mammoprep.core.tree import Folder, Tree, normal
from mammoprep.sources import _spelling
from mammoprep.sources._meanings import CORNERS, PARSERS
from mammoprep.sources._tables import Remarked, Row, distinct, folder_of, refuse, value

TABLES = ("table.csv", "table.xlsx")
NEEDED = ("path", "patient_id", "label")
FINDING = ("mask", "kind", "pathology", *CORNERS)
MOST_CLASSES = 100
EMPTY = ("", "nan")
SPELLED = ("patient_id", "study_id", "label", "kind")
IDENTIFYING = ("patient_id", "study_id")
# What people and programs write where they know nothing, and what may be a name all the same.
UNKNOWN = frozenset(("na", "n/a", "n.a.", "<na>", "nat", "null", "none", "nil", "-", "?", "."))

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
    table, own = _open(tree, card)
    rows = list(own.rows)
    columns, left_out = _sure(rows, own.columns, card)
    card = replace(card, columns=columns)
    spelled = _spelled(table, rows, card)
    reading = _Reading(own, {meaning: column.taken for meaning, column in spelled.items()}, card)
    images = _gather(table, rows, reading)
    _check_files(table, images, tree)
    names = card.targets[card.target] or _classes(images, table, card)
    records, errors = [], []
    for image in images.values():
        try:
            records.append(_record(image, names, card))
        except ValueError as error:
            errors.append(f"row {image.number}: {error}")
    refuse(table, errors)
    told = [*left_out, *(line for column in spelled.values() for line in column.remarks)]
    return Remarked(distinct(records), [*own.remarks, *(f"{table}: {line}" for line in told)])


def _open(tree: Tree, card: Card) -> tuple[str, own_table.OwnTable]:
    there = [name for name in TABLES if tree.exists(name)]
    place, table = tree, there[0] if there else TABLES[0]
    if card.table:
        place, table = Folder(Path(card.table).parent), Path(card.table).name
    needed = [name for meaning, name in card.columns.items() if _is_needed(meaning, name)]
    if "" in needed:
        raise ConfigError(f"--columns: {', '.join(NEEDED)} cannot be left out.")
    told = own_table.Told(card.columns, card.encoding, card.sheet, card.header_row)
    own = own_table.read(place, table, told, needed)
    if len(there) > 1 and not card.table:
        line = f"{there[0]} was read, {there[1]} was not; --table names one."
        own = replace(own, remarks=[*own.remarks, line])
    return table, own


def complete(card: Card, records: Sequence[Record]) -> Card:
    """Return the card with the classes of the table, unless the user gave them."""
    found = {str(r.labels["label"]) for r in records if r.labels["label"] is not None}
    names = card.targets[card.target] or _sorted(found)
    return replace(card, targets={card.target: names})


def _is_needed(meaning: str, name: str) -> bool:
    """Return whether a column must be there: always, or because the user named it."""
    return meaning in NEEDED or name not in ("", meaning)


def _sure(
    rows: Sequence[tuple[int, Row]], columns: Mapping[str, str], card: Card
) -> tuple[dict[str, str], list[str]]:
    """Return the columns without those that only seem to have a meaning, and a line about each.

    A column ``Density`` that nobody named as the density, and that holds something else, is another
    column; one that is called ``density`` is an error.
    """
    sure, lines = dict(columns), []
    for meaning, name in columns.items():
        named = name == card.columns[meaning] or _is_needed(meaning, card.columns[meaning])
        if named or meaning in FINDING:
            continue
        wrong = _first_wrong(rows, name, meaning)
        if wrong is not None:
            del sure[meaning]
            lines.append(
                f"column {name} is not read as {meaning}, because of {wrong}. "
                f"--columns {meaning}={name} insists, --columns {meaning}= leaves it out."
            )
    return sure, lines


def _first_wrong(rows: Sequence[tuple[int, Row]], name: str, meaning: str) -> str | None:
    for number, row in rows:
        try:
            value(row, name, PARSERS[meaning])
        except ValueError as error:
            return f"row {number}: {error}"
    return None


@dataclass(frozen=True)
class _Reading:
    """How the cells of a table are read.

    Attributes:
        own: The table.
        spelled: Meaning -> text -> the text that it is taken for.
        card: With the columns that are there.
    """

    own: own_table.OwnTable
    spelled: Mapping[str, Mapping[str, str]]
    card: Card


def _spelled(
    table: str, rows: Sequence[tuple[int, Row]], card: Card
) -> dict[str, _spelling.Column]:
    """Return meaning -> its column, each thing in it spelled in one way.

    Raises:
        ConfigError: one thing is spelled in two ways, and which is right is not known; or
            ``--label-map`` names a label that is not there.
    """
    found: dict[str, _spelling.Column] = {}
    for meaning in SPELLED:
        if (name := card.columns.get(meaning)) is None:
            continue
        named = [*card.label_map, *card.targets[card.target]] if meaning == "label" else []
        cells = ((number, _stripped(row[name])) for number, row in rows if name in row)
        filled = ((number, text) for number, text in cells if text.lower() not in EMPTY)
        identifies = meaning in IDENTIFYING
        column = _spelling.settle(name, filled, named=named, identifies=identifies)
        if meaning != "kind":
            column.remarks += _unknown(column, identifies, named)
        found[meaning] = column
    refuse(table, [error for column in found.values() for error in column.errors])
    there = list(dict.fromkeys(found["label"].taken.values()))
    for label in card.label_map:
        if label not in there:
            known = ", ".join(there)[:300]
            hint = plugins.suggest(label, there)
            raise ConfigError(f"--label-map: no label {label!r} in {table}.{hint} Found: {known}.")
    return found


def _unknown(column: _spelling.Column, identifies: bool, named: Sequence[str]) -> list[str]:
    """Return a line about what may mean that nothing is known, and is taken as a name like others.

    A class ``NA`` would be learned; all patients ``NA`` would be one.
    """
    texts = [text for text in column.rows if text.lower() in UNKNOWN and text not in named]
    if not texts or len(set(column.taken.values())) == 1:
        return []
    what = "an identifier, one for all its rows" if identifies else "a class like others"
    way = "" if identifies else f"; --label-map {texts[0]}= makes it unknown"
    return [
        f"column {column.name}: {column.where(*texts)} is taken as {what}. Only an empty cell and "
        f"nan mean unknown{way}."
    ]


def _stripped(text: str) -> str:
    """Return a cell's text without blanks at its ends, still known as a number where it is one."""
    return text if isinstance(text, Number) else text.strip()


def _gather(table: str, rows: Iterable[tuple[int, Row]], reading: _Reading) -> dict[str, _Image]:
    """Return path -> image.

    Raises:
        ConfigError: a cell holds what it cannot, or two rows of one image contradict each other.
    """
    images: dict[str, _Image] = {}
    errors: list[str] = []
    for number, row in rows:
        try:
            cells = _cells(row, reading)
            path = str(cells["path"])
            images[path] = _joined(images.get(path), number, cells)
        except ValueError as error:
            errors.append(f"row {number}: {error}")
    refuse(table, errors)
    if not images:
        raise ConfigError(f"{table} has a header but no rows.")
    return images


def _cells(row: Row, reading: _Reading) -> Cells:
    """Return meaning -> value of the columns that are there."""
    columns = reading.card.columns
    cells = {
        meaning: _cell(row[name], meaning, reading)
        for meaning, name in columns.items()
        if name in row
    }
    for meaning in ("path", "patient_id"):
        if cells.get(meaning) is None:
            raise ValueError(f"{columns[meaning]} is empty")
    return cells


def _check_kind(text: str, name: str, meaning: str) -> None:
    """Refuse what a spreadsheet has made of a cell: what stood there is not known any more.

    Raises:
        ValueError: it is a date, a truth value that should name something, or an error.
    """
    if is_error(text.strip()):
        raise ValueError(f"{name} holds the error {text.strip()} of a spreadsheet")
    if isinstance(text, Day):
        raise ValueError(
            f"{name} is a date or a time for the spreadsheet, which makes one of MAR1, 1-2 or 3:15 "
            f"too; format the column as text and write it anew{_left_out(meaning)}"
        )
    if isinstance(text, Truth) and meaning in ("path", *IDENTIFYING):
        raise ValueError(f"{name} is true or false; is it the right column?{_left_out(meaning)}")


def _left_out(meaning: str) -> str:
    optional = meaning not in (*NEEDED, *FINDING)
    way = f" (a column of another meaning is left out by --columns {meaning}=)"
    return way if optional else ""


def _cell(text: str, meaning: str, reading: _Reading) -> Scalar:
    name = reading.card.columns[meaning]
    _check_kind(text, name, meaning)
    text = text.strip()
    if meaning in CORNERS and reading.own.commas:
        text = text.replace(",", ".")
    text = reading.spelled.get(meaning, {}).get(text, text)
    try:
        found = value({name: text}, name, PARSERS[meaning])
    except ValueError as error:
        raise ValueError(f"{error}{_left_out(meaning)}") from None
    if meaning == "label" and found is not None:
        return reading.card.label_map.get(str(found), found) or None
    return found


def _check_files(table: str, images: Mapping[str, _Image], tree: Tree) -> None:
    """Refuse rows that name one file with its accents written in two ways."""
    errors: list[str] = []
    first: dict[str, int] = {}
    forms: dict[str, list[str]] = {}
    for path in images:
        if not path.isascii():
            forms.setdefault(normal(path), []).append(path)
    for path in (path for paths in forms.values() if len(paths) > 1 for path in paths):
        number = images[path].number
        earlier = first.setdefault(tree.real(path), number)
        if earlier != number:
            errors.append(f"row {number}: the same image is in row {earlier}")
    refuse(table, errors)


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
        range=_limits(facts),
        lesions=lesions,
        masks=masks,
    )


def _limits(facts: Cells) -> tuple[float, float] | None:
    stated = _text(facts, "range")
    if stated is None:
        return None
    low, high = stated.split(" ")
    return float(low), float(high)


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
