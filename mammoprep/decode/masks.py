"""Mask files -> the findings' area on the stored image.

What the numbers in a file are is decided in ``_mask_values``; what is no mask is refused, because
datasets exist in which a mask's place holds another picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from mammoprep.core.errors import RecordError
from mammoprep.core.mask_values import Meaning
from mammoprep.core.schema import Lesion, MaskFile
from mammoprep.core.text import by
from mammoprep.decode import _mask_dicom, _mask_file, raster
from mammoprep.decode._mask_values import Layer, Numbers, Part, layer_of

Mask = NDArray[np.uint8]
GAP = 0.01
MOST_HOLES = 0.01  # of a mask's area; single pixels that a brush has missed are in many masks
COMPACT = 0.5  # an outline and its inside fill at least this share of their convex hull
BINARY, INSTANCES = Meaning("binary"), Meaning("instances")


@dataclass(frozen=True)
class Found:
    """What a mask file shows.

    Attributes:
        mask: uint8 (rows, columns) of the stored image, 0 or 255: the area of all its findings.
        lesions: Its findings, by number; the parts of one number largest first.
        warnings: Codes of what was odd.
    """

    mask: Mask
    lesions: tuple[Lesion, ...]
    warnings: tuple[str, ...]


def read(
    file: MaskFile,
    contents: Sequence[bytes],
    shape: tuple[int, int],
    meaning: Meaning = INSTANCES,
    first: int = 1,
) -> Found:
    """Return the findings of a mask file.

    Args:
        file: What the table says about it.
        contents: Bytes of each of ``file.inputs``.
        shape: (rows, columns) of the stored image.
        meaning: What the numbers in the file are.
        first: Number of the first lesion.

    Raises:
        RecordError: ``mask_size_mismatch`` when a file is a mask, but of none of the image's
            scales; ``mask_not_binary``, ``mask_colours``, ``mask_unnamed`` or ``mask_planes`` when
            none is a mask; ``outline_open`` when drawn lines enclose nothing; or that the first one
            cannot be read.
    """
    problems = []
    for place, data in enumerate(contents):
        try:
            found = _found(data, file, shape, BINARY if file.outline else meaning, first)
        except RecordError as error:
            problems.append(error)
            continue
        odd = (*found.warnings, *(("mask_swapped",) if place else ()))
        return Found(found.mask, found.lesions, odd)
    raise next((p for p in problems if p.code == "mask_size_mismatch"), problems[0])


def _found(
    data: bytes, file: MaskFile, shape: tuple[int, int], meaning: Meaning, first: int
) -> Found:
    union = np.zeros(shape, np.uint8)
    lesions: list[Lesion] = []
    warnings: list[str] = []
    for layer in _layers(data, file, meaning):
        numbers, odd = _fitted(layer.numbers, shape)
        warnings += [*layer.warnings, *odd]
        area = np.where(numbers > 0, np.uint8(255), np.uint8(0))
        union |= filled(area) if file.outline else area
        if meaning.mode != "binary":
            lesions += _numbered(numbers, layer.parts, first + len(lesions))
    if meaning.mode == "binary":
        lesions += lesions_of(union, Part(None, file.kind, file.pathology), first)
    if not file.outline and _holes(union) > MOST_HOLES * np.count_nonzero(union):
        warnings.append("mask_hole")
    return Found(union, tuple(lesions), tuple(dict.fromkeys(warnings)))


def _holes(mask: Mask) -> int:
    """Return how many pixels a mask encloses without having them."""
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(framed, None, (0, 0), 255)
    return int(np.count_nonzero(framed == 0))


def _layers(data: bytes, file: MaskFile, meaning: Meaning) -> Iterator[Layer]:
    if raster.is_picture(data):
        yield layer_of(_mask_file.read(data), file, meaning)
    else:
        yield from _mask_dicom.layers(data, file, meaning)


def _fitted(numbers: Numbers, shape: tuple[int, int]) -> tuple[Numbers, tuple[str, ...]]:
    """Return the numbers at the image's size; only a change of scale is mended.

    The sides of a scaled picture are rounded, so that each may be off by a pixel. Numbers are never
    mixed, and no part of a finding gets lost between the pixels of a smaller picture.
    """
    if numbers.shape == shape:
        return numbers, ()
    rows, columns = numbers.shape
    skew = abs(rows * shape[1] - columns * shape[0])
    if skew > max(rows + columns, sum(shape)):
        found = f"mask {by(rows, columns)}, image {by(*shape)}"
        raise RecordError("mask_size_mismatch", found)
    scaled: Any = cv2.resize(numbers, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    if shape[0] < rows or shape[1] < columns:
        _keep_parts(numbers, scaled)
    return scaled, ("mask_rescaled",)


def _keep_parts(numbers: Numbers, scaled: Numbers) -> None:
    """Put a pixel where a part of a finding lies between the pixels that were taken."""
    parts, count = label(numbers > 0, np.ones((3, 3), int))
    shape = scaled.shape[::-1]
    kept: Any = cv2.resize(parts, shape, interpolation=cv2.INTER_NEAREST_EXACT)
    boxes = find_objects(parts)
    for lost in np.setdiff1d(np.arange(1, count + 1), kept):
        rows, columns = boxes[lost - 1]
        inside = np.argwhere(parts[rows, columns] == lost)
        down, across = inside[len(inside) // 2] + (rows.start, columns.start)
        place = (down * shape[1] // parts.shape[0], across * shape[0] // parts.shape[1])
        if not scaled[place]:
            scaled[place] = numbers[down, across]


def filled(lines: Mask) -> Mask:
    """Return what drawn lines enclose, to the middle of the lines.

    Lines that lie closer than 1 % of the longer side belong together. Their gaps are closed only as
    far as needed, so that what is closed already keeps its bays; loose ends are left out.

    Raises:
        RecordError: ``outline_open`` when there is no line, or lines that belong together enclose
            nothing: a part of the findings would be missing.
    """
    widest = max(3, round(GAP * max(lines.shape)))
    count, parts = cv2.connectedComponents(_closed(lines, widest | 1), connectivity=8)
    out = np.zeros_like(lines)
    for part in range(1, count):
        drawn = np.where(parts == part, lines, np.uint8(0))
        x, y, width, height = cv2.boundingRect(drawn)
        place = (slice(y, y + height), slice(x, x + width))
        inside = _enclosed(np.ascontiguousarray(drawn[place]), widest)
        if inside is None:
            raise RecordError("outline_open", f"drawn line {part} of {count - 1} encloses nothing")
        out[place] |= inside
    if count == 1:
        raise RecordError("outline_open", "no line is drawn")
    return out


def _closed(lines: Mask, side: int) -> Mask:
    """Return the lines with gaps closed that are narrower than ``side`` pixels, an odd number."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    framed = cv2.copyMakeBorder(lines, side, side, side, side, cv2.BORDER_CONSTANT, value=0)
    closed: Any = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, kernel)
    return np.ascontiguousarray(closed[side:-side, side:-side])


def _enclosed(drawn: Mask, widest: int) -> Mask | None:
    """Return what one drawing encloses after closing as little as possible, or None."""
    hull = cv2.contourArea(cv2.convexHull(cv2.findNonZero(drawn)))
    for share in range(5):
        closed = _closed(drawn, widest * share // 4 | 1)
        framed = cv2.copyMakeBorder(closed, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        cv2.floodFill(framed, None, (0, 0), 128)
        inside = np.where(framed[1:-1, 1:-1] == 0, np.uint8(255), np.uint8(0))
        area = np.count_nonzero(inside)
        whole = np.count_nonzero(inside | closed) >= COMPACT * hull
        if area >= np.count_nonzero(drawn) or (area and whole):
            return _to_middle(inside, closed)
    return None


def _to_middle(inside: Mask, line: Mask) -> Mask:
    """Return the inside grown to the middle of the line around it."""
    around, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(points, closed=True) for points in around)
    # A line of width w around a convex shape covers w * length + pi * w * w pixels.
    width = (sqrt(length**2 + 4 * pi * np.count_nonzero(line)) - length) / (2 * pi)
    half = max(1, round(width / 2))
    grown: Any = cv2.dilate(inside, np.ones((2 * half + 1, 2 * half + 1), np.uint8))
    return np.asarray(inside | (grown & line))


def _numbered(numbers: Numbers, parts: Sequence[Part], first: int) -> list[Lesion]:
    """Return the findings of a layer: one a connected part of each of its numbers."""
    found: list[Lesion] = []
    for number, (part, place) in enumerate(
        zip(parts, find_objects(numbers, len(parts)), strict=True), 1
    ):
        if place is not None:
            area = np.where(numbers[place] == number, np.uint8(255), np.uint8(0))
            corner = (place[1].start, place[0].start)
            found += lesions_of(area, part, first + len(found), corner)
    return found


def lesions_of(
    mask: Mask, part: Part, first: int, corner: tuple[int, int] = (0, 0)
) -> tuple[Lesion, ...]:
    """Return one lesion a connected part of a mask, largest first, with its outline.

    Args:
        mask: uint8 (rows, columns), 0 or 255.
        part: What it is.
        first: Number of the first lesion.
        corner: (x, y) of the mask in the image.
    """
    doubled = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    found, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = sorted(found, key=lambda points: (-len(points), points[0].ravel().tolist()))
    outlines = (_edge(points[:, 0].astype(np.int64) + 2 * np.array(corner)) for points in found)
    return tuple(
        Lesion(first + place, part.kind, part.pathology, outline, part.number)
        for place, outline in enumerate(outlines)
    )


def _edge(points: NDArray[np.int64]) -> tuple[tuple[float, float], ...]:
    """Return the edge of the pixels that a contour of the doubled mask runs along.

    A contour point is a quarter of a pixel; the corner of the pixel that it lies in is the edge's.
    """
    corners = (points + (points & 1)) // 2
    moves = np.any(corners != np.roll(corners, 1, axis=0), axis=1)
    corners = corners[moves] if moves.any() else corners[:1]
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    bends = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    kept = corners[bends] if bends.any() else corners
    return tuple((float(x), float(y)) for x, y in kept)
