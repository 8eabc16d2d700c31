"""Do a record's outlines lie on its image? One check for every source, once the image is open.

Only images with findings have outlines. To fail an image for a bad outline would take positives
away and no negatives, so the image stays, and what is wrong is said.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.core.schema import UNUSABLE, Lesion, Point
from mammoprep.image import MammoImage

CLIPPED, OUTSIDE, SHARES = "roi_clipped", "roi_outside", "roi_shares"
Points = NDArray[np.float64]


def settle(image: MammoImage, *, needed: bool) -> MammoImage:
    """Return the image with its record's outlines inside of the stored image.

    An outline that overlaps the image is clipped to it (warning ``roi_clipped``). One that does not
    is dropped (``roi_outside``), and so is one within the first pixel (``roi_shares``): numbers
    from 0 to 1 are shares of the image and no pixels. The annotation then becomes ``partial``, or
    ``unusable`` where no outline is left.

    Args:
        image: Opened, with every finding of its record and of its mask files.
        needed: Whether patches are cut around the outlines, so that one that lies elsewhere is a
            failure.

    Raises:
        RecordError: ``roi_outside`` or ``roi_shares`` with ``needed``.
    """
    record, size = image.record, image.geometry.stored_size
    kept, odd = [], []
    for lesion in record.lesions:
        inside = clipped(lesion.polygon, size)
        if wrong := _wrong(lesion, inside):
            odd.append(wrong)
            if needed:
                raise RecordError(wrong, _where(lesion, size))
            continue
        if inside != lesion.polygon:
            odd.append(CLIPPED)
        kept.append(replace(lesion, polygon=inside))
    if not odd:
        return image
    told = record.annotation
    if len(kept) < len(record.lesions):
        told = "partial" if kept else UNUSABLE
    settled = replace(record, lesions=tuple(kept), annotation=told)
    return replace(image, record=settled).warn(*odd)


def _wrong(lesion: Lesion, inside: tuple[Point, ...]) -> str:
    if not inside:
        return OUTSIDE
    return SHARES if max(max(point) for point in inside) <= 1 else ""


def _where(lesion: Lesion, size: tuple[int, int]) -> str:
    """Return where an outline lies, in numbers."""
    points = np.asarray(lesion.polygon)
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return (
        f"outline {lesion.id} goes from {x0:g}, {y0:g} to {x1:g}, {y1:g}; the image is "
        f"{size[1]}x{size[0]}"
    )


def clipped(polygon: tuple[Point, ...], size: tuple[int, int]) -> tuple[Point, ...]:
    """Return the part of an outline that lies on the image; empty when none does.

    Args:
        polygon: (x, y) points in stored pixels, (0, 0) at the outer corner of the first one.
        size: (rows, columns) of the stored image.

    Returns:
        The outline itself where all of it lies on the image. Otherwise it is cut along the four
        edges one after the other (Sutherland and Hodgman, 1974); parts of a bay that leaves the
        image are joined along the edge, which encloses nothing.
    """
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    high = np.array([size[1], size[0]], np.float64)
    if not points.size or not np.isfinite(points).all():
        return ()
    if (points >= 0).all() and (points <= high).all():
        return polygon
    if (points.max(0) <= 0).any() or (points.min(0) >= high).any():
        return ()
    for axis in (0, 1):
        points = _cut(points, axis, 0.0, 1.0)
        points = _cut(points, axis, float(high[axis]), -1.0)
    if len(points) < 3 or _area(points) == 0.0:
        return ()
    return tuple((float(x), float(y)) for x, y in points)


def _cut(points: Points, axis: int, edge: float, side: float) -> Points:
    """Return the part of a closed outline on one side of an edge: above it, or with -1 below."""
    kept: list[Points] = []
    for before, here in zip(np.roll(points, 1, axis=0), points, strict=True):
        was, now = side * (before[axis] - edge), side * (here[axis] - edge)
        if was * now < 0:
            cross = before + (here - before) * (was / (was - now))
            cross[axis] = edge  # exactly, whatever rounding made of it
            kept.append(cross)
        if now >= 0:
            kept.append(here)
    return np.array(kept, np.float64).reshape(-1, 2)


def _area(points: Points) -> float:
    x, y = points[:, 0], points[:, 1]
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
