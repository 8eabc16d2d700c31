"""What is not tissue: the level, the slope and the noise of an image's own background."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
Flags = NDArray[np.bool_]

BINS = 256
MODE_SHARE = 0.03
NOISE_FACTOR = 4.0
CONTRAST_SHARE = 0.04
LEAST_RISE = 1.0 / 1024
MAD_TO_SIGMA = 1.4826
SURFACE_SIGMA = 1 / 12
SURFACE_ROUNDS = 4


@dataclass(frozen=True)
class Background:
    """The background of one reduced image.

    Attributes:
        level: Grey level most of it has, presentation value.
        noise: Standard deviation around the fitted surface.
        rise: A pixel this much brighter than the surface is not background.
        contrast: How far the median of what is clearly brighter lies above ``level``.
        surface: Fitted background, float32 (rows, columns).
    """

    level: float
    noise: float
    rise: float
    contrast: float
    surface: Grey


def middle(values: NDArray[Any]) -> float:
    """Return what ``np.median`` does, for values without NaN, at half the cost.

    Args:
        values: Any real type and shape, not empty.
    """
    half = values.size // 2
    parted = np.partition(values, half, axis=None)
    upper = parted[half]
    if values.size % 2:
        return float(upper)
    return float((parted[:half].max() + upper) / 2)


def content_box(grey: Grey, valid: Flags) -> tuple[int, int, int, int]:
    """Return the box (x0, y0, x1, y1) left when rows and columns at the lowest level are cut off.

    A scanned film lies on a black frame of its own; an image without one keeps its whole grid.

    Args:
        grey: Presentation values (rows, columns).
        valid: Measured pixels.
    """
    lit = valid & (grey > grey.min() + 1.0 / 512)
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if rows.size == 0:
        return 0, 0, grey.shape[1], grey.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def modes(grey: Grey) -> list[float]:
    """Return the grey levels around which pixels gather, darkest first.

    The scale is the square root of the grey level, so that dark levels are told apart. A level
    counts when at least 3 % of the pixels are that dark or darker.

    Args:
        grey: Presentation values, any shape, not empty.
    """
    steps = (np.sqrt(np.clip(grey, 0, 1)) * (BINS - 1) + 0.5).astype(np.uint8)
    counts = np.bincount(steps.ravel(), minlength=BINS)
    smooth = cv2.GaussianBlur(counts.astype(np.float64)[None], (0, 0), 2.0)[0]
    ahead = np.append(smooth[1:], 0)
    behind = np.insert(smooth[:-1], 0, 0)
    peaks = np.flatnonzero((smooth > ahead) & (smooth >= behind))
    below = np.cumsum(counts)[np.minimum(peaks + 4, BINS - 1)]
    levels = peaks[below >= MODE_SHARE * grey.size].tolist()
    gathered = (grey[(steps >= max(peak - 2, 0)) & (steps <= peak + 2)] for peak in levels)
    found = [middle(values) for values in gathered if values.size]
    return found or [float(grey.min())]


def _blur(values: Grey, sigma: float) -> Grey:
    """Return soft values, as coarse as they are soft."""
    step = max(1, int(sigma // 4))
    size = (-(-values.shape[1] // step), -(-values.shape[0] // step))
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), sigma / step, borderType=cv2.BORDER_REFLECT)
    return np.asarray(soft, dtype=np.float32)


def _fit(above: Grey, samples: Flags, level: float) -> Grey:
    """Return a smooth surface through the samples; ``level`` where there are none near.

    Args:
        above: Grey values less ``level``.
        samples: Where they count.
        level: The background's level.
    """
    sigma = SURFACE_SIGMA * max(above.shape)
    weight = samples.astype(np.float32)
    soft = _blur(above * weight, sigma) / (_blur(weight, sigma) + 1e-3) + level
    surface = cv2.resize(soft, above.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(surface, dtype=np.float32)


def _spread(values: NDArray[Any]) -> float:
    return MAD_TO_SIGMA * middle(np.abs(values)) if values.size else 0.0


def contrast(grey: Grey, level: float) -> float:
    """Return how far tissue lies above ``level``: the median of what is clearly brighter.

    Args:
        grey: Presentation values, any shape.
        level: The background's level.
    """
    above = grey[grey > level + 1.0 / 255]
    if above.size == 0:
        return 0.0
    split = above.mean()  # the background's own noise lies below the mean of what is above it
    return middle(above[above >= split]) - level


def estimate(grey: Grey, valid: Flags, level: float) -> Background:
    """Return the background around grey level ``level``, with its surface and its noise.

    Args:
        grey: Presentation values (rows, columns), lightly smoothed.
        valid: Pixels to look at; padding among them is black background.
        level: One of ``modes``.
    """
    tissue = contrast(grey[valid], level)
    least = CONTRAST_SHARE * tissue
    darker = grey[valid & (grey <= level)]
    noise = _spread(darker - level)
    surface = np.full_like(grey, level)
    above = left = grey - level
    for _ in range(SURFACE_ROUNDS):
        samples = valid & (np.abs(left) <= max(3 * noise, least))
        if not samples.any():
            break
        surface = _fit(above, samples, level)
        left = grey - surface
        noise = _spread(left[samples])
    rise = max(NOISE_FACTOR * noise, least, LEAST_RISE)
    return Background(level, noise, rise, tissue, surface)
