"""An exposure as a scanned film: 8-bit grey values, black background, any size."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.phantoms._exposure import Exposure
from mammoprep.phantoms._machines import Machine


def developed(exposure: Exposure, machine: Machine, rows: int) -> Exposure:
    """Return the exposure as its machine shows it, scaled to ``rows`` rows.

    ``stored`` are presentation values from 0, black, to 255 then; every coordinate is scaled too.
    """
    factor = rows / exposure.stored.shape[0]
    size = max(1, round(exposure.stored.shape[1] * factor)), rows
    scale = np.array([size[0] / exposure.stored.shape[1], factor])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    tissue: NDArray[Any] = cv2.resize(exposure.tissue, size, interpolation=cv2.INTER_NEAREST)
    return replace(
        exposure,
        stored=cv2.resize(_shown(exposure, machine), size, interpolation=how).astype(np.uint16),
        tissue=tissue.astype(np.uint8),
        lesions=tuple((finding, points * scale) for finding, points in exposure.lesions),
        landmarks=exposure.landmarks * scale,
        padding=None,
        fold=exposure.fold and (exposure.fold[0] * float(scale[0]), exposure.fold[1] * factor),
    )


def mounted(film: Exposure, side: int) -> Exposure:
    """Return the film in the middle of a black square of ``side`` pixels, cut where it is wider."""
    rows, columns = film.stored.shape
    left, top = (side - columns) // 2, (side - rows) // 2

    def lay(picture: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros((side, side), picture.dtype)
        part = picture[max(-top, 0) : side - top, max(-left, 0) : side - left]
        y, x = max(top, 0), max(left, 0)
        out[y : y + part.shape[0], x : x + part.shape[1]] = part
        return out

    shift = np.array([left, top])
    return replace(
        film,
        stored=lay(film.stored),
        tissue=lay(film.tissue),
        lesions=tuple((finding, points + shift) for finding, points in film.lesions),
        landmarks=film.landmarks + shift,
        fold=film.fold and (film.fold[0] + left, film.fold[1] + top),
    )


def turned_over(film: Exposure) -> Exposure:
    """Return the film seen from its other side."""
    columns = film.stored.shape[1]
    mirror, shift = np.array([-1.0, 1.0]), np.array([columns, 0.0])
    return replace(
        film,
        stored=np.ascontiguousarray(film.stored[:, ::-1]),
        tissue=np.ascontiguousarray(film.tissue[:, ::-1]),
        chest_wall={"left": "right", "right": "left"}[film.chest_wall],
        lesions=tuple((finding, points * mirror + shift) for finding, points in film.lesions),
        landmarks=film.landmarks * mirror + shift,
        fold=film.fold and (columns - film.fold[0], film.fold[1]),
    )


def _shown(exposure: Exposure, machine: Machine) -> NDArray[np.uint8]:
    """Return the presentation values of the machine's window (PS3.3 C.11.2.1.2 and -3)."""
    turn = (exposure.stored.astype(np.float64) - machine.centres[0]) / machine.widths[0]
    shown = 1 / (1 + np.exp(-4 * turn)) if machine.function == "SIGMOID" else turn + 0.5
    if machine.photometric == "MONOCHROME1":
        shown = 1 - shown
    if exposure.padding is not None:
        shown[exposure.stored == exposure.padding] = 0
    return np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8)
