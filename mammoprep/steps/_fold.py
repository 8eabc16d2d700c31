"""Find the inframammary fold: the notch of the outline between the breast and the abdomen."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.steps._objects import Flags

Curve = NDArray[np.float64]

TRUSTED = 0.5
SAMPLES = 256  # of the outline: finer than the mask, which is found on at most 384 rows
SOFT = 2.0  # samples; the stairs of the mask are no notches
AXILLA = 0.35  # the nipple lies below this share of the box, an arm at its top may reach further
STEEP = 0.1  # columns a row: while it recedes faster than this, the outline is still the breast's
CONTACT = 0.02
LEAST_ROWS = 32


@dataclass(frozen=True)
class Fold:
    """Where the outline of the breast gives way to that of the abdomen.

    Attributes:
        row: Continuous row of the mask's grid, at or below the deepest point of the notch.
        confidence: 0-1; below ``TRUSTED`` nothing may be cut by it.
        reason: What limits the confidence, one word; ``clear`` when nothing does.
    """

    row: float
    confidence: float
    reason: str


def _outline(box: Flags) -> Curve:
    """Return how far the mask reaches from the chest wall, in heights of the box, from the top."""
    near = max(1, round(CONTACT * box.shape[1]))
    at_left = box[:, :near].sum() >= box[:, -near:].sum()
    places = (np.arange(SAMPLES) + 0.5) * (box.shape[0] / SAMPLES)
    rows = box[places.astype(np.int64)]
    outwards = rows if at_left else rows[:, ::-1]
    reach = box.shape[1] - np.argmax(outwards[:, ::-1], axis=1)
    share = np.where(rows.any(axis=1), reach, 0)[None] / box.shape[0]
    soft = cv2.GaussianBlur(share, (0, 0), SOFT, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(soft[0], dtype=np.float64)


def _depth(curve: Curve) -> Curve:
    """Return how deep each point lies inside of the curve's convex hull, in its own unit.

    Args:
        curve: Heights over places that are 1 / ``SAMPLES`` apart.
    """
    places = np.arange(curve.size) / SAMPLES
    hull = [0]
    for place in range(1, curve.size):
        while len(hull) > 1:
            before, last = hull[-2:]
            rise = (curve[last] - curve[before]) * (place - before)
            if rise > (curve[place] - curve[before]) * (last - before):
                break
            hull.pop()
        hull.append(place)
    edge = np.interp(places, places[hull], curve[hull])
    slope = np.diff(edge, append=2 * edge[-1] - edge[-2]) * SAMPLES
    return np.asarray((edge - curve) / np.hypot(1, slope))


def _notch(curve: Curve) -> tuple[int, int, float]:
    """Return (nipple, notch, depth): samples of the curve, and how deep the notch is."""
    start = round(AXILLA * SAMPLES)
    nipple = start + int(np.argmax(curve[start:]))
    if nipple > SAMPLES - 4:
        return nipple, nipple, 0.0
    depth = _depth(curve[nipple:])
    notch = nipple + int(np.argmax(depth))
    receding = np.diff(curve) * SAMPLES < -STEEP
    while notch < SAMPLES - 1 and receding[notch]:
        notch += 1
    return nipple, notch, float(depth.max())


def _judge(curve: Curve, found: tuple[int, int, float], below: float) -> tuple[float, str]:
    """Return (confidence, reason) of a notch; ``below`` is the share of the mask under it.

    Each doubt is ``TRUSTED`` at the border of what is believed: a notch of 3 % of the box's height,
    where 35 % of the breast's reach are left, in the lower 45 % of the box, with an abdomen under
    it that has 25 % of the area and 60 % of the breast's reach. What is larger may be the breast,
    under a dent or upside down.
    """
    nipple, notch, depth = found
    reach = max(float(curve[nipple]), 1e-6)
    doubts = {
        "shallow": depth / 0.03 * TRUSTED,
        "wide": TRUSTED + (0.35 - float(curve[notch]) / reach) * 2.5,
        "high": TRUSTED + ((notch + 1) / SAMPLES - 0.55) * 2.5,
        "large_below": TRUSTED + (0.25 - below) * 4,
        "wide_below": TRUSTED + (0.6 - float(curve[notch:].max()) / reach) * 2,
    }
    reason = min(doubts, key=lambda name: doubts[name])
    confidence = float(min(1.0, max(0.0, doubts[reason])))
    return confidence, reason if confidence < 1 else "clear"


def find(breast: Flags, box: tuple[int, int, int, int]) -> Fold | None:
    """Return the deepest notch of the outline below the nipple, or None where there is no outline.

    The outline is looked at from the chest wall, whichever side of the box that is, with the axilla
    at the top: of the view and of upside down pictures the caller knows.

    Args:
        breast: bool (rows, columns), the breast mask.
        box: (x0, y0, x1, y1) of the mask.
    """
    x0, y0, x1, y1 = box
    if y1 - y0 < LEAST_ROWS or breast.all():
        return None
    part = breast[y0:y1, x0:x1]
    curve = _outline(part)
    found = _notch(curve)
    row = y0 + (found[1] + 1) * (y1 - y0) / SAMPLES
    below = np.count_nonzero(breast[int(row) : y1]) / np.count_nonzero(part)
    return Fold(row, *_judge(curve, found, below))
