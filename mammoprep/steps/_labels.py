"""Burned-in labels: bright compact things with sharp edges that lie in the background."""

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.steps._background import Background
from mammoprep.steps._objects import Flags, Grey, dilated, filled, opening_radius

PlainBox = tuple[int, int, int, int]

BRIGHT = 0.8
LEAST_AREA = 0.001
MOST_AREA = 0.04
DIM = 0.25
FREE = 0.5
LONGEST = 0.3
SHARP = 0.15
MARGIN = 3
LEAST_TEXT = 6e-5


def _parts(mask: Flags) -> list[tuple[Flags, PlainBox]]:
    """Return each connected part of a mask, cut to its box (x0, y0, x1, y1)."""
    if not mask.any():
        return []
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    out = []
    for number, (x, y, width, height, _area) in enumerate(stats.tolist()[1:], start=1):
        box = (x, y, x + width, y + height)
        out.append((numbers[y : y + height, x : x + width] == number, box))
    return out


def _widened(box: PlainBox, by: int, shape: tuple[int, ...]) -> PlainBox:
    x0, y0, x1, y1 = box
    return max(x0 - by, 0), max(y0 - by, 0), min(x1 + by, shape[1]), min(y1 + by, shape[0])


def plates(rest: Grey, contrast: float) -> Flags:
    """Return the bright plates that stand out of the breast into the background.

    A label plate or film wedge that touches the skin would be one thing with the breast. It is as
    bright as the brightest of the image, small, and at least half of its surround is far darker
    than tissue is; tissue that bright lies in tissue.

    Args:
        rest: Grey values above the background's surface, float32 (rows, columns).
        contrast: How far tissue lies above the background.
    """
    out = np.zeros(rest.shape, bool)
    ring = 2 * opening_radius(rest.shape)
    for part, box in _parts(filled(rest > BRIGHT * np.quantile(rest, 0.999))):
        if not LEAST_AREA < part.sum() / rest.size < MOST_AREA:
            continue
        x0, y0, x1, y1 = _widened(box, ring, rest.shape)
        here = np.zeros((y1 - y0, x1 - x0), bool)
        here[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0] = part
        around = dilated(here, ring) & ~dilated(here, 2)
        if (rest[y0:y1, x0:x1][around] <= DIM * contrast).mean() >= FREE:
            out[y0:y1, x0:x1] |= dilated(here, 2)
    return out


def _steepness(rest: Grey) -> NDArray[np.float32]:
    across = cv2.Sobel(rest, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(rest, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(np.hypot(across, down), dtype=np.float32)


def boxes(rest: Grey, background: Background, breast: Flags, plate: Flags) -> list[PlainBox]:
    """Return the boxes (x0, y0, x1, y1) of what is a label beside the breast.

    A plate counts. Another part that is not the breast counts when it is compact, has the sharp
    edges of something printed, and does not reach the side edge that the breast lies at: what does
    may be the arm, the belly or the other breast.

    Args:
        rest: Grey values above the background's surface, float32 (rows, columns).
        background: What ``rest`` was told from.
        breast: bool (rows, columns).
        plate: What ``plates`` returns for ``rest``.
    """
    loose = (rest > background.rise) & ~dilated(breast | plate, MARGIN)
    steep: NDArray[np.float32] | None = None
    at_left, at_right = breast[:, 0].any(), breast[:, -1].any()
    found = [box for _, box in _parts(plate & ~breast)]
    for _, box in _parts(dilated(loose, MARGIN)):
        x0, y0, x1, y1 = box
        long = max((x1 - x0) / rest.shape[1], (y1 - y0) / rest.shape[0]) > LONGEST
        at_chest = (at_left and x0 == 0) or (at_right and x1 == rest.shape[1])
        inside = loose[y0:y1, x0:x1]
        if long or at_chest or inside.sum() < LEAST_TEXT * rest.size:
            continue
        peak = np.quantile(rest[y0:y1, x0:x1][inside], 0.9)
        steep = _steepness(rest) if steep is None else steep
        if np.quantile(steep[y0:y1, x0:x1][inside], 0.9) >= SHARP * peak:
            found.append(_widened(box, MARGIN, rest.shape))
    return found
