"""A picture with what a model says of its places, for a person to look at."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mammotrain.predicting.voices import MASK

LEAST = 256  # pixels of the shorter side; a small patch is shown larger by a whole number
STRENGTH = 0.6
OUTLINE, FRAME = (80, 220, 255), (120, 255, 120)  # blue, green, red


def grey_of(image: Tensor) -> NDArray[np.uint8]:
    """Return a stored picture (C, h, w) as 8 bits, (h, w, 3): blue, green, red."""
    values = image.cpu().numpy()
    shown = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
    found = np.repeat(shown, 3, axis=0) if len(shown) == 1 else shown[::-1]
    return np.ascontiguousarray(found.transpose(1, 2, 0))


class Shown(NamedTuple):
    """A map to be laid over a picture.

    Attributes:
        values: (rows, columns), on any grid of the picture's area.
        kind: A mask is outlined; anything else is heat, the highest value brightest.
        at: Where a mask is cut.
    """

    values: NDArray[np.float32]
    kind: str
    at: float


def draw(
    picture: NDArray[np.uint8], shown: Shown | None, boxes: Sequence[Sequence[float]]
) -> bytes:
    """Return a PNG of a picture with its map laid over, and boxes around what was found.

    Args:
        picture: (h, w, 3).
        shown: The map, or None.
        boxes: (x0, y0, x1, y1) each, on the grid of ``picture``.
    """
    zoom = max(1, -(-LEAST // min(picture.shape[:2])))
    size = (zoom * picture.shape[1], zoom * picture.shape[0])
    canvas: NDArray[Any] = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
    if shown is not None:
        large = cv2.resize(shown.values, size, interpolation=cv2.INTER_LINEAR)
        is_mask = shown.kind == MASK
        canvas = _outlined(canvas, large >= shown.at) if is_mask else _heated(canvas, large)
    for box in boxes:
        x0, y0, x1, y1 = (round(zoom * edge) for edge in box)
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), FRAME, 1)
    _, coded = cv2.imencode(".png", canvas)
    return coded.tobytes()


def _outlined(canvas: NDArray[Any], flags: NDArray[np.bool_]) -> NDArray[Any]:
    """Draw the outlines of a mask, of its holes too."""
    found, _ = cv2.findContours(flags.view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(canvas, found, -1, OUTLINE, 1)


def _heated(canvas: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    highest = float(values.max())
    share = values / highest if highest > 0 else values
    heat = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = STRENGTH * share[..., None]
    return np.asarray((1 - alpha) * canvas + alpha * heat + 0.5).astype(np.uint8)
