"""Random textures: periodic noise tiles, looked up anywhere, and lines drawn with soft ends."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[Any]  # float32; cv2 and numpy do not tell mypy so


def _spectrum(size: int) -> Field:
    across = np.fft.fftfreq(size).astype(np.float32)
    along = np.fft.rfftfreq(size).astype(np.float32)
    radius: Field = np.hypot(across[:, None], along[None, :])
    return radius


def _shaped(rng: np.random.Generator, size: int, gain: Field) -> Field:
    white = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    noise = np.fft.irfft2(white * gain, s=(size, size))
    tile: Field = (noise / noise.std()).astype(np.float32)
    return tile


def power_law(rng: np.random.Generator, size: int, exponent: float = 3.0) -> Field:
    """Return a periodic (size, size) tile with power ``1 / f**exponent``; mean 0, sd 1."""
    frequency = _spectrum(size)
    frequency[0, 0] = 1.0
    gain = frequency ** np.float32(-exponent / 2)
    gain[0, 0] = 0.0
    return _shaped(rng, size, gain)


def band(rng: np.random.Generator, size: int, wavelength: float) -> Field:
    """Return a periodic (size, size) tile of one ``wavelength`` in pixels; mean 0, sd 1."""
    octaves = np.log2(np.maximum(_spectrum(size), np.float32(1e-6)) * np.float32(wavelength))
    return _shaped(rng, size, np.exp(-((octaves / np.float32(0.6)) ** 2)))


def lookup(tile: Field, x: Field, y: Field) -> Field:
    """Return the tile's values at (x, y) in tile pixels, repeated without a seam."""
    size = np.float32(tile.shape[0])
    edge: Field = np.pad(tile, ((0, 1), (0, 1)), mode="wrap")
    return cv2.remap(edge, np.mod(x, size), np.mod(y, size), cv2.INTER_LINEAR)


def ridges(values: Field, width: float) -> Field:
    """Return lines where ``values`` passes 0, as bright as 1; a net when ``values`` is a band."""
    lines: Field = np.exp(-((values / np.float32(width)) ** 2))
    return lines


def smoothstep(values: Field) -> Field:
    """Return 0 below 0, 1 above 1, and a smooth rise between."""
    t: Field = np.clip(values, 0, 1)
    eased: Field = t * t * (3 - 2 * t)
    return eased


def draw_curve(canvas: Field, points: NDArray[np.float64], width: float, level: float) -> None:
    """Draw an antialiased line through ``points`` (n, 2) of continuous (x, y) onto ``canvas``.

    Lines thinner than one pixel are drawn one pixel wide and fainter.
    """
    thick = max(1, round(width))
    low = np.maximum(np.floor(points.min(0)).astype(int) - thick - 2, 0)
    high = np.ceil(points.max(0)).astype(int) + thick + 2
    part = canvas[low[1] : max(high[1], 0), low[0] : max(high[0], 0)]
    if part.size == 0:
        return
    ink = np.zeros(part.shape, np.uint8)
    shifted = np.rint((points - low - 0.5) * 16).astype(np.int32)
    value = round(255 * min(1.0, width))
    cv2.polylines(ink, [shifted], False, value, thick, cv2.LINE_AA, 4)
    np.maximum(part, ink.astype(np.float32) * np.float32(level / 255), out=part)


def wander(
    rng: np.random.Generator, start: tuple[float, float], heading: float, length: float, bend: float
) -> NDArray[np.float64]:
    """Return a smooth random path of 24 points, shape (24, 2), from ``start`` towards ``heading``.

    Args:
        rng: Source of the bends.
        start: First point, (x, y).
        heading: First direction in radians.
        length: Length of the path, in the unit of ``start``.
        bend: Standard deviation of the change of direction at each step, radians.
    """
    turns = heading + np.cumsum(rng.normal(0, bend, 23)) + rng.normal(0, 2 * bend)
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / 23)
    return np.vstack([[start], np.asarray(start) + np.cumsum(steps, axis=0)])
