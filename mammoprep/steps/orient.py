"""Bring the chest wall to the left edge, decided from pixels and checked against the header."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammoprep.image import MammoImage

SIDES = ("left", "none")
CLEAR = 1.05
CLEAR_WITHOUT_MASK = 1.25
REACH = 0.02
STRAY = 0.1


def _halves(columns: NDArray[Any]) -> tuple[float, float]:
    middle = columns.size // 2
    return float(columns[:middle].sum()), float(columns[-middle:].sum())


def _shares(left: float, right: float) -> NDArray[np.float64]:
    total = left + right
    return np.array([left, right]) / total if total else np.array([0.5, 0.5])


def mask_evidence(breast: NDArray[np.bool_]) -> tuple[float, float]:
    """Return how much speaks for the chest wall at the left and at the right edge; they sum to 1.

    Half is where the mask's area lies inside its own box, half is how many rows reach the box's
    left and right edge: the chest wall cuts the breast straight, the skin line only touches.

    Args:
        breast: bool (rows, columns).
    """
    mass = breast.sum(axis=0)
    columns = np.flatnonzero(mass > STRAY * mass.max())
    if columns.size < 2:
        return 0.5, 0.5
    box = breast[:, columns[0] : columns[-1] + 1]
    near = max(1, round(REACH * box.shape[1]))
    contact = _shares(float(box[:, :near].sum()), float(box[:, -near:].sum()))
    left, right = (_shares(*_halves(box.sum(axis=0))) + contact) / 2
    return float(left), float(right)


def grey_evidence(pixels: NDArray[Any]) -> tuple[float, float]:
    """Return the shares of the bright area in the left and right half, where no mask can tell.

    Args:
        pixels: Presentation values, (rows, columns) or with channels last.
    """
    step = max(1, max(pixels.shape[:2]) // 512)
    thin = pixels[::step, ::step]
    grey = thin if thin.ndim == 2 else thin.mean(axis=2)
    low = float(np.quantile(grey, 0.02))
    half = (low + float(grey.mean())) / 2  # of the mean, so that white print does not set it
    left, right = _shares(*_halves((grey > half).sum(axis=0)))
    return float(left), float(right)


def _pixel_side(image: MammoImage) -> tuple[str | None, float, float]:
    """Return the side of the chest wall, or None, and the evidence for left and right."""
    if image.breast is None or image.breast.all():
        left, right = grey_evidence(image.pixels)
        clear = CLEAR_WITHOUT_MASK
    else:
        left, right = mask_evidence(image.breast)
        clear = CLEAR
    if max(left, right) < clear * min(left, right):
        return None, left, right
    return ("left" if left > right else "right"), left, right


def _decide(pixels: str | None, header: str | None) -> tuple[str | None, str, tuple[str, ...]]:
    """Return the side, what decided it, and warnings (DICOM PS3.3 C.7.6.1.1.1 for the header)."""
    if pixels is None:
        warnings = () if header else ("orientation_unknown",)
        return header, "header" if header else "nothing", warnings
    conflict = header is not None and header != pixels
    return pixels, "pixels", ("orientation_conflict",) if conflict else ()


def apply(image: MammoImage, *, to: str = "left") -> MammoImage:
    """Return the image with its chest wall at the left edge; all arrays and geometry flip as one.

    Pixel evidence wins over Patient Orientation (warning ``orientation_conflict``); without pixel
    evidence the header decides; without either nothing is flipped (``orientation_unknown``). A left
    breast normally has its chest wall at the left of the stored image and a right one at the right;
    the mirrored display is legal, and only told (``mirrored_display``).

    Args:
        image: Best after ``find_breast``; without a breast mask the grey values decide.
        to: ``left``, or ``none`` to leave the image as it is.

    Raises:
        ConfigError: ``to`` is neither.
    """
    if to not in SIDES:
        raise ConfigError(f"orient is one of {', '.join(SIDES)}, got {to!r}.")
    if to == "none":
        return image
    header = {"A": "left", "P": "right"}.get(image.acquisition.patient_orientation or "")
    pixels, left, right = _pixel_side(image)
    side, source, warnings = _decide(pixels, header)
    laterality = image.acquisition.laterality or image.record.laterality
    usual = {"L": "left", "R": "right"}.get(laterality or "")
    if side and usual and side != usual:
        warnings += ("mirrored_display",)
    told = image.warn(*warnings).note(
        chest_wall_stored=side or "unknown",
        chest_wall_from=source,
        chest_wall_evidence=[round(left, 3), round(right, 3)],
    )
    if side != "right":
        return told
    return told.moved(lambda array: array[:, ::-1], told.geometry.flipped_lr())
