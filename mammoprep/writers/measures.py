"""What a glance at a finished picture measures: grey level, sharpness, and the shape of its mask.

A model that is right for these reasons alone has learnt the camera or the drawing, not the disease;
``shortcuts`` checks how far they go.
"""

from math import floor, hypot, log10, sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.image import MammoImage

DIGITS = 6
RING = 0.25  # width of the ring around a mask, as a share of the square root of its area
MASK = (
    "mask_area", "mask_pieces", "mask_elongation", "mask_solidity", "mask_compactness",
    "mask_aspect", "mask_mean", "mask_spread", "mask_contrast",
)  # fmt: skip
SHARPNESS = ("sharpness", "sharpness_half", "sharpness_quarter")
NAMES = ("mean", "spread", "maximum", *SHARPNESS, *MASK)

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)

Measures = dict[str, float | None]
_Box = tuple[slice, slice]
_Where = NDArray[np.bool_]


def measure(image: MammoImage) -> Measures:
    """Return ``NAMES`` of a finished (quantised) picture, 6 significant digits each.

    Grey levels are 0 (black) to 1 (white); of a colour picture its luma. Padding never counts,
    unless there is nothing else.

    * ``mean``, ``spread`` (standard deviation) and ``maximum`` of all grey levels.
    * ``sharpness``: base-10 logarithm of the Laplacian's variance, -10 for a picture without any;
      ``sharpness_half`` and ``sharpness_quarter``: the same at half and a quarter of the size.
      Contrast moves all three alike, blur mostly the first.
    * ``mask_area``: share of the picture, 0-1; ``mask_pieces``: 8-connected parts.
    * of the largest piece: ``mask_elongation`` (longer by shorter axis of its second moments, 1 or
      more), ``mask_solidity`` (area by that of its convex hull, 0-1), ``mask_compactness``
      (perimeter squared by area, about 4 pi for a disc), ``mask_aspect`` (height by width of its
      box).
    * of all of the mask: ``mask_mean``, ``mask_spread``, and ``mask_contrast``, its mean less that
      of a ring around it.

    Without a mask all of its measures are None; of an empty one area and pieces are 0 and the rest
    is None: that there is none tells something too.

    Args:
        image: Pixels are uint8 or uint16, (rows, columns) or (rows, columns, 3) red, green, blue.
    """
    grey = image.pixels
    grey = cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY) if grey.ndim == 3 else grey
    found: Measures = dict.fromkeys(NAMES)
    content = _content(image)
    found |= _picture(grey, content)
    if image.mask is not None:
        found |= _mask(grey, image.mask, content)
    return {name: None if value is None else _short(value) for name, value in found.items()}


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") + 0.0  # + 0.0: no "-0.0"


def _content(image: MammoImage) -> _Where | None:
    """Where the picture was measured; None where it was everywhere, or nowhere."""
    if image.padding is None or image.padding.all() or not image.padding.any():
        return None
    return ~image.padding


def _picture(grey: NDArray[Any], content: _Where | None) -> Measures:
    mean, spread = _moments(grey, content)
    top = cv2.minMaxLoc(grey, mask=_bytes(content))[1]
    return {
        "mean": mean,
        "spread": spread,
        "maximum": top / np.iinfo(grey.dtype).max,
        **_sharpness(grey, content),
    }


def _bytes(where: _Where | None) -> NDArray[np.uint8] | None:
    return None if where is None else where.view(np.uint8)


def _moments(grey: NDArray[Any], where: _Where | None) -> tuple[float, float]:
    mean, spread = cv2.meanStdDev(grey, mask=_bytes(where))
    top = np.iinfo(grey.dtype).max
    return float(mean[0, 0]) / top, float(spread[0, 0]) / top


def _sharpness(grey: NDArray[Any], content: _Where | None) -> Measures:
    found: Measures = {}
    inside = _bytes(content)
    for name in SHARPNESS:
        found[name] = _detail(grey, inside)
        rows, columns = grey.shape
        smaller = (max(columns // 2, 1), max(rows // 2, 1))
        grey = cv2.resize(grey, smaller, interpolation=cv2.INTER_AREA)
        if inside is not None:
            whole = cv2.resize(255 * inside, smaller, interpolation=cv2.INTER_AREA)
            inside = (whole == 255).view(np.uint8)
    return found


def _detail(grey: NDArray[Any], inside: NDArray[np.uint8] | None) -> float:
    """A step from content to padding is no detail: neighbours of padding are left out."""
    wide = grey.dtype == np.uint16
    edges = cv2.Laplacian(grey, cv2.CV_32F if wide else cv2.CV_16S)
    if inside is not None:
        inside = np.asarray(cv2.erode(inside, _CROSS), np.uint8)
        inside = inside if inside.any() else None
    spread = float(cv2.meanStdDev(edges, mask=inside)[1][0, 0]) / np.iinfo(grey.dtype).max
    return log10(max(spread * spread, 1e-10))


def _mask(grey: NDArray[Any], mask: NDArray[np.uint8], content: _Where | None) -> Measures:
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return {"mask_area": 0.0, "mask_pieces": 0.0}
    box = (slice(y, y + height), slice(x, x + width))
    part = mask[box] > 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(part.view(np.uint8), connectivity=8)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    mean, spread = _moments(grey[box], part)
    around = _around(grey, mask, content, box)
    return {
        "mask_area": np.count_nonzero(part) / mask.size,
        "mask_pieces": float(count - 1),
        **_shape((labels == largest).view(np.uint8)),
        "mask_mean": mean,
        "mask_spread": spread,
        "mask_contrast": None if around is None else round(mean - around, DIGITS),
    }


def _shape(piece: NDArray[np.uint8]) -> Measures:
    moments = cv2.moments(piece, binaryImage=True)
    area = moments["m00"]
    # A pixel is a square, not a point: 1/12 is its own second moment, so that a line has a width.
    across, down = moments["mu20"] / area + 1 / 12, moments["mu02"] / area + 1 / 12
    half, turn = (across + down) / 2, hypot((across - down) / 2, moments["mu11"] / area)
    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = np.zeros_like(piece)
    cv2.fillConvexPoly(hull, cv2.convexHull(outlines[0]), (1,))
    *_, width, height = cv2.boundingRect(piece)
    return {
        "mask_elongation": sqrt((half + turn) / max(half - turn, 1e-9)),
        "mask_solidity": area / max(float(np.count_nonzero(hull)), area),
        "mask_compactness": cv2.arcLength(outlines[0], True) ** 2 / area,
        "mask_aspect": height / width,
    }


def _around(
    grey: NDArray[Any], mask: NDArray[np.uint8], content: _Where | None, box: _Box
) -> float | None:
    """Mean of a ring around the mask; None when the mask leaves nothing around it."""
    reach = max(2, floor(RING * sqrt(np.count_nonzero(mask[box]))))
    wide = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
    near = mask[wide] > 0
    square = (2 * reach + 1, 2 * reach + 1)
    # Saturating sums: a dilation that costs the same for any reach.
    sums = cv2.boxFilter(
        near.view(np.uint8), -1, square, normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    ring = (sums > 0) & ~near
    ring = ring if content is None else ring & content[wide]
    return _moments(grey[wide], ring)[0] if ring.any() else None
