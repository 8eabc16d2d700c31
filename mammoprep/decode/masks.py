"""Pictures of outlines -> the findings' area on the stored image.

A mask is a picture of two grey levels; what looks otherwise is refused, because datasets exist in
which a mask's place holds another picture.
"""

from collections.abc import Sequence
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
ASPECT = 0.01


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
        RecordError: ``mask_not_binary`` or ``mask_size_mismatch`` when none of the files is a mask
            of this image; ``outline_open`` when drawn lines enclose nothing; or that it cannot be
            read.
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
    raise problems[0]


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
    low, high = (share * peak for share in BETWEEN)
    between = np.count_nonzero((values > low) & (values < high)) / values.size
    if between > MOST_BETWEEN:
        found = f"{between:.1%} of the pixels are neither black nor white"
        raise RecordError("mask_not_binary", found)
    return np.where(values > peak // 2, np.uint8(255), np.uint8(0))


def _fitted(mask: Mask, shape: tuple[int, int]) -> tuple[Mask, tuple[str, ...]]:
    """Return the mask at the image's size; only a change of scale is mended."""
    if mask.shape == shape:
        return mask, ()
    ratio = (mask.shape[0] / shape[0]) / (mask.shape[1] / shape[1])
    if abs(ratio - 1) > ASPECT:
        found = f"mask {mask.shape[0]} x {mask.shape[1]}, image {shape[0]} x {shape[1]}"
        raise RecordError("mask_size_mismatch", found)
    scaled: Any = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return scaled, ("mask_rescaled",)


def filled(lines: Mask) -> Mask:
    """Return what drawn lines enclose, the lines themselves included.

    Small gaps are closed, up to 1 % of the longer side.

    Raises:
        RecordError: ``outline_open`` when a line encloses nothing.
    """
    side = max(3, round(0.01 * max(lines.shape)) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    framed = cv2.copyMakeBorder(lines, side, side, side, side, cv2.BORDER_CONSTANT, value=0)
    closed: Any = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, kernel)
    cv2.floodFill(closed, None, (0, 0), 128)
    inside = closed[side:-side, side:-side] != 128
    if lines.any() and np.count_nonzero(inside) < 2 * np.count_nonzero(lines):
        raise RecordError("outline_open", "the drawn line encloses nothing")
    return np.where(inside, np.uint8(255), np.uint8(0))


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
