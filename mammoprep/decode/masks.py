"""Pictures of outlines -> the findings' area on the stored image.

A mask is a picture of two grey levels; what looks otherwise is refused, because datasets exist in
which a mask's place holds another picture.
"""

from collections.abc import Sequence
from math import pi, sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.core.schema import Lesion, MaskFile, Record
from mammoprep.decode import dicom, raster

Mask = NDArray[np.uint8]
BETWEEN = (0.2, 0.8)
MOST_BETWEEN = 0.01
MOST_COVERED = 0.99
GAP = 0.01
COMPACT = 0.5  # an outline and its inside fill at least this share of their convex hull
JPEG_NOISE = 32  # a black JPEG is not quite black


def read(
    file: MaskFile, contents: Sequence[bytes], shape: tuple[int, int], record: Record
) -> tuple[Mask, tuple[str, ...]]:
    """Return the area of the findings of a mask file, and warnings.

    Args:
        file: What the table says about it.
        contents: Bytes of each of ``file.inputs``.
        shape: (rows, columns) of the stored image.
        record: The image's record.

    Returns:
        uint8 (rows, columns) of the stored image, 0 or 255.

    Raises:
        RecordError: ``mask_size_mismatch`` when a file is a mask, but of none of the image's
            scales; ``mask_not_binary`` when none is a mask; ``outline_open`` when drawn lines
            enclose nothing; or that the first one cannot be read.
    """
    problems = []
    for place, data in enumerate(contents):
        try:
            mask, odd = _fitted(_binary(data, record), shape)
        except RecordError as error:
            problems.append(error)
            continue
        if file.outline:
            mask = filled(mask)
        return mask, (*odd, *(("mask_swapped",) if place else ()))
    raise next((p for p in problems if p.code == "mask_size_mismatch"), problems[0])


def _binary(data: bytes, record: Record) -> Mask:
    """Return where a picture is bright.

    Raises:
        RecordError: unreadable, or ``mask_not_binary``.
    """
    if data[128:132] == b"DICM":
        values = dicom.render_stored(data, record, voi="full", bits=8)
    else:
        values, top, _ = raster.read_values(data)
        values = values.max(axis=2) if values.ndim == 3 else values
        values = values if top == 255 else (values > top // 2).astype(np.uint8) * 255
    peak = int(values.max())
    if peak <= JPEG_NOISE and data.startswith(b"\xff\xd8\xff"):
        return np.zeros(values.shape, np.uint8)
    low, high = (share * peak for share in BETWEEN)
    between = np.count_nonzero((values > low) & (values < high)) / values.size
    if between > MOST_BETWEEN:
        found = f"{between:.1%} of the pixels are neither black nor white"
        raise RecordError("mask_not_binary", found)
    mask = np.where(values > peak // 2, np.uint8(255), np.uint8(0))
    # A cut-out of dense tissue has no grey below the half of its brightest one.
    if np.count_nonzero(mask) > MOST_COVERED * mask.size:
        raise RecordError("mask_not_binary", "nearly all pixels are bright")
    return mask


def _fitted(mask: Mask, shape: tuple[int, int]) -> tuple[Mask, tuple[str, ...]]:
    """Return the mask at the image's size; only a change of scale is mended.

    The sides of a scaled picture are rounded, so that each may be off by a pixel.
    """
    if mask.shape == shape:
        return mask, ()
    rows, columns = mask.shape
    skew = abs(rows * shape[1] - columns * shape[0])
    if skew > max(rows + columns, sum(shape)):
        found = f"mask {mask.shape[0]} x {mask.shape[1]}, image {shape[0]} x {shape[1]}"
        raise RecordError("mask_size_mismatch", found)
    scaled: Any = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return scaled, ("mask_rescaled",)


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


def lesions(mask: Mask, file: MaskFile, first: int) -> tuple[Lesion, ...]:
    """Return one lesion a connected part of a mask, largest first, with its outline.

    Args:
        mask: uint8 (rows, columns), 0 or 255.
        file: Kind and pathology of its findings.
        first: Number of the first lesion.
    """
    doubled = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    found, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = sorted(found, key=lambda points: (-len(points), points[0].ravel().tolist()))
    return tuple(
        Lesion(first + place, file.kind, file.pathology, _edge(points[:, 0].astype(np.int64)))
        for place, points in enumerate(found)
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
