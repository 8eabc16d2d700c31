"""mini-MIAS, 1994: 322 films as PGM, and a list with tissue, findings and circles.

Reads ``Info.txt`` beside the pictures, or one folder above them; see ``data_manifests/mias.toml``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin

from mammoprep.core.cards import Card
from mammoprep.core.cells import read_table
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Lesion, Point, Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources._tables import refuse

TABLE, PICTURES = "Info.txt", "all-mias"
SIDE = 1024  # of every picture, in pixels
CORNERS = 64

TISSUE = {"F": "fatty", "G": "fatty-glandular", "D": "dense-glandular"}
KINDS = {
    "CALC": "calcification",
    "CIRC": "circumscribed mass",
    "SPIC": "spiculated mass",
    "MISC": "ill-defined mass",
    "ARCH": "architectural distortion",
    "ASYM": "asymmetry",
}
SEVERITY = {"B": "benign", "M": "malignant"}
WITHOUT_PLACE = "*NOTE 3*"
CLASSES = ("normal", "benign", "malignant")

_NAME = re.compile(r"mdb[0-9]{3}")
_NUMBER = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True)
class _Row:
    """One line of the list: an image, and one finding or none.

    Attributes:
        image: ``mdb001``.
        tissue: ``fatty`` and so on.
        kind: As of ``KINDS``, or None for an image without findings.
        severity: ``benign``, ``malignant`` or None.
        circle: (x, y, radius), y counted from the bottom, or None.
    """

    image: str
    tissue: str
    kind: str | None
    severity: str | None
    circle: tuple[int, int, int] | None


def locate(tree: Tree) -> str | None:
    """Return the folder that holds ``Info.txt``, or None when there is none."""
    for folder in ("", *tree.folders()):
        prefix = f"{folder}/" if folder else ""
        for place in (folder, f"{prefix}{PICTURES}"):
            if tree.exists(f"{place}/{TABLE}" if place else TABLE):
                return place
    return None


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record an image; several lines of one image are several findings.

    Raises:
        ConfigError: the list cannot be read, has no line of an image, or lines that are not as
            published, with their numbers.
    """
    text = read_table(tree, TABLE).decode("utf-8-sig", errors="replace")
    images = _images(text.splitlines())
    if not images:
        raise ConfigError(f"{TABLE} has no line that begins with an image such as mdb001.")
    prefix = f"{PICTURES}/" if PICTURES in tree.folders() else ""
    return [_record(rows, prefix, card) for rows in images]


def _images(lines: Sequence[str]) -> list[list[_Row]]:
    """Return the rows of each image; other lines are the prose of the published list."""
    found: dict[str, list[_Row]] = {}
    errors: list[str] = []
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if not cells or not cells[0].startswith("mdb"):
            continue
        try:
            row = _parse(cells)
            _check_together(row, found.get(row.image, []))
        except ValueError as error:
            errors.append(f"row {number}: {error}")
            continue
        found.setdefault(row.image, []).append(row)
    refuse(TABLE, errors)
    return list(found.values())


def _parse(cells: Sequence[str]) -> _Row:
    """Return a line's row; raise ValueError that says what was expected."""
    if _NAME.fullmatch(cells[0]) is None or int(cells[0][3:]) == 0:
        raise ValueError(f"an image is mdb001 to mdb999, got {cells[0][:40]!r}")
    if len(cells) < 3:
        raise ValueError(f"{len(cells)} cells, expected at least 3")
    tissue = _code(cells[1], TISSUE, "tissue")
    if cells[2] == "NORM":
        if len(cells) > 3:
            raise ValueError("NORM with more cells after it")
        return _Row(cells[0], tissue, None, None, None)
    kind = _code(cells[2], KINDS, "class")
    severity = _code(cells[3] if len(cells) > 3 else "", SEVERITY, "severity")
    return _Row(cells[0], tissue, kind, severity, _circle(cells[4:]))


def _code(text: str, codes: dict[str, str], column: str) -> str:
    if text not in codes:
        raise ValueError(f"{column} must be one of {', '.join(codes)}, got {text[:40]!r}")
    return codes[text]


def _circle(cells: Sequence[str]) -> tuple[int, int, int] | None:
    if " ".join(cells) in ("", WITHOUT_PLACE):
        return None
    if len(cells) != 3 or not all(_NUMBER.fullmatch(cell) for cell in cells):
        raise ValueError(f"expected x, y and radius, or {WITHOUT_PLACE}, or nothing")
    x, y, radius = (int(cell) for cell in cells)
    if not (0 <= x <= SIDE and 0 <= y <= SIDE and 1 <= radius <= SIDE // 2):
        raise ValueError(f"the circle does not lie in {SIDE} x {SIDE} pixels")
    return x, y, radius


def _check_together(row: _Row, others: Sequence[_Row]) -> None:
    if row in others:
        raise ValueError(f"{row.image} is listed twice with the same finding")
    if any(other.kind is None or row.kind is None for other in others):
        raise ValueError(f"{row.image} is NORM in one row and has a finding in another")
    if any(other.tissue != row.tissue for other in others):
        raise ValueError(f"{row.image} has two tissues")


def _outline(circle: tuple[int, int, int]) -> tuple[Point, ...]:
    """Return a circle of the list as a polygon; the list's origin is the lower left corner."""
    x, y, radius = circle
    turns = (2 * pi * place / CORNERS for place in range(CORNERS))
    return tuple(
        (round(x + radius * cos(turn), 3), round(SIDE - y + radius * sin(turn), 3))
        for turn in turns
    )


def _first(rows: Sequence[_Row], get: Callable[[_Row], str | None]) -> str | None:
    return next((found for row in rows if (found := get(row))), None)


def _record(rows: Sequence[_Row], prefix: str, card: Card) -> Record:
    image, number = rows[0].image, int(rows[0].image[3:])
    worst = max(CLASSES.index(row.severity or "normal") for row in rows)
    patient = f"{(number + 1) // 2:03d}"
    labels: dict[str, Scalar] = {
        "cancer": int(worst == CLASSES.index("malignant")),
        "abnormal": int(worst > 0),
        "tissue": rows[0].tissue,
        "kind": _first(rows, lambda row: row.kind),
        "severity": CLASSES[worst] if worst else None,
    }
    lesions = tuple(
        Lesion(place, row.kind, row.severity, _outline(row.circle))
        for place, row in enumerate((row for row in rows if row.circle), 1)
        if row.circle
    )
    findings = sum(row.kind is not None for row in rows)
    return Record(
        key=make_key("mias", image),
        source="mias",
        group=patient,
        input=f"{prefix}{image}.pgm",
        patient_id=patient,
        image_id=image,
        laterality="L" if number % 2 else "R",
        view="MLO",
        label=worst,
        labels={name: labels.get(name) for name in card.labels},
        stratum=f"severity={CLASSES[worst]} tissue={rows[0].tissue}",
        annotation="full" if len(lesions) == findings else "partial",
        lesions=lesions,
    )
