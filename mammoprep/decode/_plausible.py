"""Is a decoded picture a whole mammogram at all? Cheap figures of an overview of it."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Finding = tuple[str, str]

CELL = 8
LEAST_DEVIATION = 0.002
TWO_LEVELS = ("two_levels", "all pixels have one of two values")
LEAST_COARSE_SHARE = 0.1
BRIGHT_BORDER = 0.6
FRAME = 0.02
LEAST_FRAME_SHARE = 0.5
CONTRAST = 0.1
FEWEST_CELLS = 16
LEAST_LOST = 0.2  # of the rows: what is lost of a portrait picture must leave a landscape one
LEAST_BROKEN = 0.3  # of the columns: a breast that ends by itself, with a round edge, fills less
SAME = 1e-5
SEAM = 2


def check_picture(
    pixels: NDArray[np.float32], padding: Mask | None
) -> tuple[Finding | None, dict[str, float]]:
    """Check that presentation values show something, whole, that is no noise and no negative.

    Args:
        pixels: (rows, columns) in [0, 1], a whole picture at any resolution.
        padding: Pixels that take part in nothing, or None.

    Returns:
        (code, detail) of the first check that fails, or None: ``blank_image``, ``nonsense_image``,
        ``half_lost``, ``polarity_suspect``. And the figures that were compared.
    """
    deviation = _deviation(pixels, padding)
    notes = {"deviation": round(deviation, 5)}
    if deviation < LEAST_DEVIATION:
        needed = f"standard deviation {deviation:.5f}, at least {LEAST_DEVIATION} needed"
        return ("blank_image", needed), notes
    cells, valid = _cells(pixels, padding)
    noise = _coarse_share(cells[valid], deviation)
    measured = np.ones(pixels.shape, bool) if padding is None else ~padding
    polarity = _polarity(pixels, measured)
    lost = _lost_share(pixels, padding)
    doubt = _noise(noise) or _lost(lost) or _negative(polarity)
    return doubt, {**notes, **noise, **lost, **polarity}


def is_blank(pixels: NDArray[np.float32]) -> bool:
    """Return whether presentation values, of one or three channels, show nothing."""
    return float(pixels.std()) < LEAST_DEVIATION


def has_two_levels(values: NDArray[Any]) -> bool:
    """Return whether no more than two values occur, as in a mask or a drawing."""
    return bool(((values == values.min()) | (values == values.max())).all())


def _deviation(pixels: NDArray[np.float32], padding: Mask | None) -> float:
    measured = None if padding is None else (~padding).view(np.uint8)
    deviation = float(cv2.meanStdDev(pixels, mask=measured)[1][0, 0])
    return deviation if math.isfinite(deviation) else 0.0


def _cells(pixels: NDArray[np.float32], padding: Mask | None) -> tuple[NDArray[np.float32], Mask]:
    size = (pixels.shape[1] // CELL, pixels.shape[0] // CELL)
    cells: Any = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if padding is None:
        return cells, np.ones(cells.shape, bool)
    share = cv2.resize(padding.view(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    return cells, np.asarray(share == 0)


def _coarse_share(cells: NDArray[np.float32], deviation: float) -> dict[str, float]:
    """Measure how much variance 8 x 8 means keep: 1/64 for white noise, most for a picture."""
    if cells.size < FEWEST_CELLS:
        return {}
    return {"coarse_share": round(float(cells.var(dtype=np.float64)) / deviation**2, 4)}


def _noise(figures: dict[str, float]) -> Finding | None:
    share = figures.get("coarse_share", 1.0)
    if share >= LEAST_COARSE_SHARE:
        return None
    found = f"{share} of the variance is coarser than {CELL} pixels"
    return "nonsense_image", f"{found}, at least {LEAST_COARSE_SHARE} needed"


def _lost_share(pixels: NDArray[np.float32], padding: Mask | None) -> dict[str, float]:
    """Measure the share of rows, from the first or the last on, where decoding seems to have ended.

    Such rows hold one value; the picture meets them along a straight line, with much that is not
    background there; and what is left is no longer portrait, as films and detectors are. Bands of
    black that were set beside or below a whole picture do not have all three.
    """
    alike = pixels.max(axis=1) - pixels.min(axis=1) <= SAME
    if padding is not None:
        alike &= ~padding.any(axis=1)
    return {"lost_share": max(_lost_below(pixels, alike), _lost_below(pixels[::-1], alike[::-1]))}


def _lost_below(pixels: NDArray[np.float32], alike: Mask) -> float:
    """Return the share of rows at the end that hold one value after the picture broke off, or 0."""
    rows, columns = pixels.shape
    kept = rows - (int(np.argmin(alike[::-1])) if not alike.all() else rows)
    seam = kept - SEAM  # a row that mixes both, and the blocks of a JPEG
    if seam < 0 or rows - kept < LEAST_LOST * rows or kept > columns:
        return 0.0
    lost = pixels[kept:]
    if float(lost.max() - lost.min()) > SAME:
        return 0.0
    broken = np.abs(pixels[seam] - lost[0, 0]) > CONTRAST
    return round((rows - kept) / rows, 4) if broken.mean() >= LEAST_BROKEN else 0.0


def _lost(figures: dict[str, float]) -> Finding | None:
    share = figures["lost_share"]
    if not share:
        return None
    return "half_lost", f"{share} of the rows hold one value, from a straight line on"


def _polarity(cells: NDArray[np.float32], valid: Mask) -> dict[str, float]:
    """Measure the border, and the largest object in the middle that differs from it."""
    border = _border(valid)
    if np.count_nonzero(border) < FEWEST_CELLS:
        return {}
    level = float(np.median(cells[border]))
    centre = _centre_median(cells, valid & ~border, level)
    return {"border_median": round(level, 4), "centre_median": round(centre, 4)}


def _negative(figures: dict[str, float]) -> Finding | None:
    border, centre = figures.get("border_median", 0.0), figures.get("centre_median", 0.0)
    if border <= BRIGHT_BORDER or centre >= border:
        return None
    return "polarity_suspect", f"border {border} is brighter than the centre {centre}"


def _border(valid: Mask) -> Mask:
    """Return the cells where air is expected: the outer frame, or what lies next to the padding."""
    frame = np.ones(valid.shape, bool)
    y, x = (max(1, math.ceil(FRAME * side)) for side in valid.shape)
    frame[y:-y, x:-x] = False
    if np.count_nonzero(frame & valid) >= LEAST_FRAME_SHARE * np.count_nonzero(frame):
        return frame & valid
    # Padding has replaced the air; what is left of the frame is mostly chest wall, bright by right.
    near = cv2.dilate((~valid).view(np.uint8), np.ones((5, 5), np.uint8))
    return valid & (near > 0)


def _centre_median(cells: NDArray[np.float32], valid: Mask, border_median: float) -> float:
    differs = valid & (np.abs(cells - border_median) > CONTRAST)
    labels: Any = cv2.connectedComponents(differs.astype(np.uint8))[1]
    rows, columns = cells.shape
    centre = labels[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    sizes = np.bincount(labels.ravel())
    inside = np.flatnonzero(np.bincount(centre.ravel())[1:]) + 1
    if not inside.size:
        return float(np.median(cells[valid])) if valid.any() else border_median
    largest = inside[np.argmax(sizes[inside])]
    return float(np.median(cells[labels == largest]))
