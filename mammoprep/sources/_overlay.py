"""The ``.OVERLAY`` files of DDSM: findings with chain-coded outlines, in the film's own pixels."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mammoprep.core.schema import Lesion, Point

LIMIT = 1 << 22  # bytes of a file; the outlines of a whole film take a few ten thousand
LARGEST = 16384  # a film's side, in its own pixels
OPEN = 0.05  # the ends of an outline lie no further apart than this share of its length
FROM_NORTH = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
MOVES = {str(code): move for code, move in enumerate(FROM_NORTH)}
KINDS = {"MASS": "mass", "CALCIFICATION": "calcification", "OTHER": "other"}
PATHOLOGIES = {
    "MALIGNANT": "malignant",
    "BENIGN": "benign",
    "BENIGN_WITHOUT_CALLBACK": "benign",
    "UNPROVEN": None,
}

Pixels = list[tuple[int, int]]


@dataclass(frozen=True)
class Finding:
    """One abnormality of a file.

    Attributes:
        kind: The first lesion type: ``mass``, ``calcification`` or ``other``.
        pathology: ``malignant``, ``benign``, or None where unproven.
        assessment: BI-RADS category, 0 to 5, or None.
        outline: Its boundary's corners as (column, row) of the film's pixels; cores inside of it
            are left out.
    """

    kind: str | None
    pathology: str | None
    assessment: int | None
    outline: tuple[tuple[int, int], ...]


def parse(data: bytes) -> tuple[Finding, ...]:
    """Return the findings of an overlay.

    Raises:
        ValueError: with what was expected, when any part of it is not as published.
    """
    lines = iter(data.decode("ascii", errors="replace").splitlines())
    findings: list[Finding] = []
    count = _number(_after("TOTAL_ABNORMALITIES", lines), 0, 99)
    for place in range(1, count + 1):
        if _number(_after("ABNORMALITY", lines), 1, 99) != place:
            raise ValueError(f"abnormality {place} is not where it was expected")
        findings.append(_finding(lines))
    return tuple(findings)


def lesions(findings: tuple[Finding, ...], scale: int) -> tuple[Lesion, ...]:
    """Return the findings on a picture that is ``scale`` times smaller than the film.

    The outline runs through the centres of its pixels.
    """
    return tuple(
        Lesion(place, found.kind, found.pathology, _scaled(found.outline, scale))
        for place, found in enumerate(findings, 1)
    )


def _scaled(outline: tuple[tuple[int, int], ...], scale: int) -> tuple[Point, ...]:
    return tuple(((x + 0.5) / scale, (y + 0.5) / scale) for x, y in outline)


def _words(lines: Iterator[str]) -> list[str]:
    for line in lines:
        if words := line.split():
            return words
    raise ValueError("it ends too early")


def _after(keyword: str, lines: Iterator[str]) -> str:
    words = _words(lines)
    if words[0] != keyword or len(words) < 2:
        raise ValueError(f"expected {keyword} with a value")
    return words[1]


def _number(text: str, low: int, high: int) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not low <= int(text) <= high:
        raise ValueError(f"expected a number from {low} to {high}")
    return int(text)


def _finding(lines: Iterator[str]) -> Finding:
    """Return what stands between one abnormality's number and the end of its last outline."""
    values: dict[str, str] = {}
    while "TOTAL_OUTLINES" not in values:
        words = _words(lines)
        if len(words) < 2:
            raise ValueError("expected a keyword with a value")
        values.setdefault(words[0], words[1])
    outlines = [_outline(lines) for _ in range(_number(values["TOTAL_OUTLINES"], 1, 99))]
    assessment = values.get("ASSESSMENT")
    return Finding(
        kind=KINDS.get(values.get("LESION_TYPE", "")),
        pathology=PATHOLOGIES.get(values.get("PATHOLOGY", "")),
        assessment=None if assessment is None else _number(assessment, 0, 6),
        outline=outlines[0],
    )


def _outline(lines: Iterator[str]) -> tuple[tuple[int, int], ...]:
    if _words(lines)[0] not in ("BOUNDARY", "CORE"):
        raise ValueError("expected BOUNDARY or CORE")
    words = _words(lines)
    while words[-1] != "#":
        words += _words(lines)
    if len(words) < 3:
        raise ValueError("an outline has no beginning")
    x, y = (_number(word, 0, LARGEST) for word in words[:2])
    pixels = [(x, y)]
    for code in words[2:-1]:
        if code not in MOVES:
            raise ValueError("expected a direction from 0 to 7")
        across, down = MOVES[code]
        x, y = x + across, y + down
        pixels.append((x, y))
    _check(pixels)
    return _corners(pixels)


def _check(pixels: Pixels) -> None:
    if not all(0 <= v <= LARGEST for pixel in pixels for v in pixel):
        raise ValueError("an outline leaves the film")
    (x0, y0), (x1, y1) = pixels[0], pixels[-1]
    if len(pixels) < 4 or max(abs(x1 - x0), abs(y1 - y0)) > max(OPEN * len(pixels), 2):
        raise ValueError("an outline is open")


def _corners(pixels: Pixels) -> tuple[tuple[int, int], ...]:
    """Return the pixels at which a closed chain turns; the shape stays exactly the same."""
    if pixels[0] == pixels[-1]:
        pixels = pixels[:-1]
    count = len(pixels)
    kept = []
    for place, (x, y) in enumerate(pixels):
        (x0, y0), (x1, y1) = pixels[place - 1], pixels[(place + 1) % count]
        if (x - x0, y - y0) != (x1 - x, y1 - y):
            kept.append((x, y))
    return tuple(kept)
