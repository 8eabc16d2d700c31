"""Mini-DDSM, 2021: DDSM's films as JPEG, with age, density, and outlines drawn and chain-coded.

Reads ``DataWMask.xlsx`` and the ``.OVERLAY`` files beside the pictures; see
``data_manifests/mini-ddsm.toml``.
"""

import re
from functools import partial
from pathlib import PurePosixPath

from mammoprep.core.cards import Card
from mammoprep.core.errors import RecordError
from mammoprep.core.schema import Lesion, MaskFile, Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources import _overlay
from mammoprep.sources._tables import Row, folder_of, one_of, value, xlsx_rows
from mammoprep.sources._tables import records as records_of

TABLE = "DataWMask.xlsx"
COLUMNS = (
    "fullPath",
    "fileName",
    "View",
    "Side",
    "Status",
    "Tumour_Contour",
    "Tumour_Contour2",
    "Age",
    "Density",
)
NONE = "-"
FILM_SCALE = 2  # the overlays count the pixels of the film, twice as many on a side as the JPEG's
CLASSES = ("normal", "benign", "cancer")
STATUS = {"Normal": "normal", "Benign": "benign", "Cancer": "cancer"}
SIDES: dict[str, Scalar] = {"LEFT": "L", "RIGHT": "R"}
VIEWS: dict[str, Scalar] = {"CC": "CC", "MLO": "MLO"}
DENSITIES: dict[str, Scalar] = {"0": None, "1": "A", "2": "B", "3": "C", "4": "D"}

_FOLDER = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_PATH = re.compile(rf"(?:{_FOLDER}/){{0,4}}{_FOLDER}\.jpe?g", re.IGNORECASE)
_NAME = re.compile(r"([A-Z]_[0-9]{4})_[0-9]{1,2}\.(LEFT|RIGHT)_(CC|MLO)\.jpe?g", re.IGNORECASE)

Findings = tuple[_overlay.Finding, ...]


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the table, or None when there is none."""
    return folder_of(tree, TABLE)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record a row.

    Args:
        tree: The dataset's folder.
        card: Its ``target`` is ``image`` or ``case``.

    Raises:
        ConfigError: the table lacks a column, has no rows, names an image twice or holds a value of
            the wrong type; the message gives the row numbers (row 1 is the header).
    """
    return records_of(
        TABLE, xlsx_rows(tree, TABLE, COLUMNS), partial(_record, tree=tree, card=card)
    )


def _path(row: Row, column: str) -> str | None:
    """Return the path in a cell, with forward slashes, or None where the cell says that."""
    text = row[column].replace("\\", "/")
    if text in ("", NONE):
        return None
    if _PATH.fullmatch(text) is None:
        raise ValueError(f"{column} must be a path of a JPEG inside of the dataset")
    return text


def _age(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]*)?", text) is None:
        raise ValueError("an age in years")
    return float(text)


def _needed(row: Row, column: str, names: dict[str, Scalar]) -> str:
    found = value(row, column, one_of(names))
    if found is None:
        raise ValueError(f"{column} is empty")
    return str(found)


def _image(row: Row) -> tuple[str, str]:
    """Return an image's path and its patient: the letter belongs to the number."""
    path = _path(row, "fullPath")
    if path is None:
        raise ValueError("fullPath is empty")
    name = PurePosixPath(path).name
    parts = _NAME.fullmatch(name)
    if parts is None or name != row["fileName"]:
        raise ValueError("fileName must be that of fullPath, such as C_0029_1.LEFT_CC.jpg")
    if (parts[2].upper(), parts[3].upper()) != (row["Side"], row["View"]):
        raise ValueError("fileName names another side or view than the row")
    return path, parts[1].upper()


def _read_overlay(path: str, tree: Tree) -> tuple[Findings | None, str | None]:
    """Return an image's chain-coded findings, None without any; and what is wrong with them."""
    name = f"{path.rpartition('.')[0]}.OVERLAY"
    if not tree.exists(name):
        return None, None
    try:
        return _overlay.parse(tree.read(name, _overlay.LIMIT)) or None, None
    except (RecordError, ValueError) as error:
        return None, f"overlay: {error}"


def _drawn(row: Row, status: str) -> tuple[MaskFile, ...]:
    """Return the drawn outlines that the table names; only benign cases tell their pathology."""
    names = (_path(row, "Tumour_Contour"), _path(row, "Tumour_Contour2"))
    pathology = "benign" if status == "benign" else None
    return tuple(MaskFile(None, pathology, (name,), outline=True) for name in names if name)


def _image_class(status: str, found: Findings | None, marked: bool) -> str | None:
    """Return the class of an image: its own findings' where known, else its case's; or None."""
    if status == "normal" or not marked:
        return "normal" if status == "normal" else None
    pathologies = {finding.pathology for finding in found or ()}
    if "malignant" in pathologies:
        return "cancer"
    return "benign" if pathologies == {"benign"} else status


def _cancer(status: str, image: str | None) -> int | None:
    if image is not None:
        return int(image == "cancer")
    return None if status == "cancer" else 0


def _record(row: Row, tree: Tree, card: Card) -> Record:
    path, patient = _image(row)
    status = _needed(row, "Status", dict(STATUS))
    drawn = _drawn(row, status)
    found, damage = _read_overlay(path, tree)
    # Drawn outlines stand for a damaged overlay; without them nobody knows what the image shows.
    lost = damage is not None and not drawn
    marked = bool(drawn or found)
    image = _image_class(status, found, marked)
    assessments = [f.assessment for f in found or () if f.assessment is not None]
    density = value(row, "Density", one_of(DENSITIES), NONE)
    labels = {
        "cancer": _cancer(status, image),
        "abnormal": None if image is None else int(image != "normal"),
        "birads": str(max(assessments)) if assessments else None,
        "density": density,
        "age": value(row, "Age", _age, NONE),
        "status": status,
        "kind": found[0].kind if found else None,
        "outline": "overlay" if found else "drawn" if drawn else None,
    }
    target = status if card.target == "case" else image
    lesions: tuple[Lesion, ...] = _overlay.lesions(found, FILM_SCALE) if found else ()
    return Record(
        key=make_key("mini-ddsm", PurePosixPath(path).stem),
        source="mini-ddsm",
        group=patient,
        input=path,
        patient_id=patient,
        image_id=PurePosixPath(path).stem,
        exam_id=patient,
        laterality=_needed(row, "Side", SIDES),
        view=_needed(row, "View", VIEWS),
        label=None if target is None else CLASSES.index(target),
        labels={name: labels[name] for name in card.labels},
        stratum=f"status={status} density={density}",
        annotation="none" if image is None else "full",
        lesions=lesions,
        masks=() if found else drawn,
        failed={"code": "outlines_damaged", "detail": str(damage)} if lost else None,
    )
