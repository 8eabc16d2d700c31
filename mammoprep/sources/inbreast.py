"""INbreast, 2012: one table, one DICOM an image, and the contours of its findings as XML.

See ``data_manifests/inbreast.toml``.
"""

import math
import plistlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from xml.parsers.expat import ExpatError

from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.schema import Lesion, Point, Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources import _birads
from mammoprep.sources._tables import Row, csv_rows, folder_of, one_of, value
from mammoprep.sources._tables import records as records_of

TABLE = "INbreast.csv"
COLUMNS = ("Laterality", "View", "File Name", "ACR", "Bi-Rads")
IMAGES = ("ALL-IMGS", "AllDICOMs")
CONTOURS = ("ALL-XML", "AllXML")
XML_LIMIT = 1 << 24
# A finding marked by one point, or by two, has no area; 5 pixels of 0.07 mm are 0.35 mm, a usual
# calcification.
RADIUS = 5.0
ROUND = 32

DENSITIES: Mapping[str, Scalar] = dict(zip("1234", _birads.DENSITIES, strict=True))
# Begin of a contour's name in lower case, as the annotators spelt it -> kind of the lesion. Other
# names are free text, which is not passed on.
KINDS = {
    "mass": "mass",
    "calcification": "calcification",
    "point": "calcification",
    "cluster": "cluster",
    "spiculated": "spiculated region",
    "espiculated": "spiculated region",
    "asymmetry": "asymmetry",
    "assymetry": "asymmetry",
    "distortion": "architectural distortion",
}
_FILE = re.compile(r"([0-9]{1,12})_([0-9A-Za-z]{4,64})_MG_[A-Za-z_]{1,20}\.dcm", re.IGNORECASE)
_COORDINATE = r"\s*(-?[0-9]{1,5}(?:\.[0-9]*)?)\s*"
_POINT = re.compile(rf"\({_COORDINATE},{_COORDINATE}\)")
# What plistlib raises for files that are no property list.
_DAMAGED = (ExpatError, ValueError, LookupError, AttributeError, TypeError, OverflowError)


@dataclass(frozen=True)
class _Files:
    """What lies on the disk.

    Attributes:
        folder: Folder of the images.
        images: Image number -> (path, hash of the patient).
        contours: Folder of the contours, or None when it is not there.
    """

    folder: str
    images: Mapping[str, tuple[str, str]]
    contours: str | None


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the table: ``""`` for the root, or None when there is none."""
    return folder_of(tree, TABLE)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record a row of the table, with the contours of its XML file.

    An image without XML file has no finding; without the folder of them no image is annotated. One
    whose XML file is damaged is an image that fails: it would pass for one without findings.

    Raises:
        ConfigError: the table lacks a column, has no rows, names an image twice or holds a value
            that cannot be; the message gives row numbers (row 1 is the header).
    """
    files = _files(tree)
    rows = csv_rows(tree, TABLE, COLUMNS, separator=";")
    return records_of(TABLE, rows, partial(_record, tree=tree, card=card, files=files))


def _files(tree: Tree) -> _Files:
    folders = tree.folders()
    folder = next((name for name in IMAGES if name in folders), IMAGES[0])
    images: dict[str, tuple[str, str]] = {}
    for path in sorted(tree.sizes(folder)):
        match = _FILE.fullmatch(path.rpartition("/")[2])
        if match is None:
            continue
        if images.setdefault(match[1], (path, match[2])) != (path, match[2]):
            raise ConfigError(f"{folder} has two files of image {match[1]}. Remove one of them.")
    contours = next((name for name in CONTOURS if name in folders), None)
    return _Files(folder, images, contours)


def _record(row: Row, tree: Tree, card: Card, files: _Files) -> Record:
    image = row["File Name"].strip()
    if re.fullmatch("[0-9]{1,12}", image) is None:
        raise ValueError(f"File Name must be a number, got {image[:40]!r}")
    # The patient's hash is in the name of the file only; one that is absent stands for itself.
    path, patient = files.images.get(image, (f"{files.folder}/{image}.dcm", None))
    failed = None
    try:
        found = _lesions(tree, files.contours, image)
    except ValueError as error:
        found, failed = None, {"code": "outlines_damaged", "detail": str(error)}
    labels = _labels(row, card, None if found is None else bool(found[0]))
    return Record(
        key=make_key("inbreast", image),
        source="inbreast",
        group=patient or image,
        input=path,
        patient_id=patient,
        image_id=image,
        laterality=_cell(row, "Laterality", "[LR]", "L or R"),
        view=_cell(row, "View", "[A-Z]{2,4}", "a view such as CC or MLO"),
        label=_birads.code(labels, card.target),
        labels=labels,
        stratum=f"birads={str(labels['birads'])[:1]} density={labels['density']}",
        annotation="none" if found is None else found[1],
        lesions=() if found is None else found[0],
        failed=failed,
    )


def _cell(row: Row, column: str, pattern: str, expected: str) -> str:
    text = row[column].strip()
    if re.fullmatch(pattern, text) is None:
        raise ValueError(f"{column} must be {expected}, got {text[:40]!r}")
    return text


def _category(text: str) -> str:
    if _birads.CATEGORY.fullmatch(text.lower()) is None:
        raise ValueError("a BI-RADS category such as 2 or 4a")
    return text.lower()


def _labels(row: Row, card: Card, findings: bool | None) -> dict[str, Scalar]:
    """Return every label of the card; ``findings`` is whether the image has contours."""
    category = value(row, "Bi-Rads", _category)
    birads = None if category is None else str(category)
    known: dict[str, Scalar] = {
        "abnormal": _birads.abnormal(birads, findings=findings),
        "suspicious": _birads.suspicious(birads),
        "birads": birads,
        "density": value(row, "ACR", one_of(DENSITIES)),
    }
    return {name: known.get(name) for name in card.labels}


def _lesions(tree: Tree, folder: str | None, image: str) -> tuple[tuple[Lesion, ...], str] | None:
    """Return the lesions of an image, and how much of it is annotated; None without any contours.

    Raises:
        ValueError: the contour file is damaged.
    """
    if folder is None:
        return None
    name = f"{folder}/{image}.xml"
    if not tree.exists(name):
        return (), "full"
    try:
        rois = _contours(tree.read(name, XML_LIMIT))
    except (RecordError, ValueError) as error:
        raise ValueError(f"XML file: {error}") from None
    lesions = tuple(
        Lesion(number, _kind(named), None, outline(points))
        for number, (named, points) in enumerate(((n, p) for n, p in rois if p), 1)
    )
    return lesions, "full" if len(lesions) == len(rois) else "partial"


def _contours(data: bytes) -> list[tuple[str, list[Point]]]:
    """Return (name, points) of each contour in a property list.

    The parser is expat, which opens no other file; plistlib refuses entity declarations.

    Raises:
        ValueError: no property list of contours.
    """
    try:
        content: Any = plistlib.loads(data, fmt=plistlib.FMT_XML)
    except _DAMAGED as error:
        raise ValueError(f"no property list ({type(error).__name__})") from None
    try:
        rois = content["Images"][0]["ROIs"]
        found = [(str(roi["Name"]), roi["Point_px"], roi["NumberOfPoints"]) for roi in rois]
        if wrong := [len(points) for _, points, count in found if len(points) != count]:
            raise ValueError(f"a contour of {wrong[0]} points states another number")
        return [(name, [_point(text) for text in points]) for name, points, _ in found]
    except (LookupError, TypeError) as error:
        raise ValueError(f"no contours in the property list ({type(error).__name__})") from None


def _point(text: object) -> Point:
    """Return continuous (x, y) from ``(x, y)`` of a pixel's centre."""
    match = _POINT.fullmatch(str(text))
    if match is None:
        raise ValueError("a point is not two numbers of pixels")
    return float(match[1]) + 0.5, float(match[2]) + 0.5


def _kind(name: str) -> str | None:
    word = name.strip().lower().split(" ")[0]
    return next((kind for begin, kind in KINDS.items() if word.startswith(begin)), None)


def outline(points: list[Point]) -> tuple[Point, ...]:
    """Return a polygon: the points themselves, or what lies within ``RADIUS`` of one or two."""
    if len(points) > 2:
        return tuple(points)
    (x0, y0), (x1, y1) = points[0], points[-1]
    along = math.atan2(y1 - y0, x1 - x0)
    turns = (along + math.pi * (2 * step + 1) / ROUND for step in range(ROUND))
    ends = ((turn, (x1, y1) if math.cos(turn - along) > 0 else (x0, y0)) for turn in turns)
    return tuple((x + RADIUS * math.cos(t), y + RADIUS * math.sin(t)) for t, (x, y) in ends)
