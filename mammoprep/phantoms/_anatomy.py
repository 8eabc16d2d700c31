"""The outside of a breast: its size, its outline in each view, its nipple and pectoral muscle.

All lengths are millimetres. The canonical frame has the chest wall at x = 0 and y downwards from
the frame's upper edge, whichever breast it is; a right breast is mirrored at the end.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Breast:
    """What makes one breast look like itself in every view.

    Attributes:
        depth: From the chest wall to the nipple.
        half_height: Half of the width of the base.
        fullness: Exponent of the outline: 0.5 an ellipse, towards 1 pointed.
        droop: Shift down per millimetre away from the chest wall.
        fold: Size of the axillary fold and tail, 0 to 1.
        muscle: Relative size of the pectoral muscle.
        nipple: Radius of the nipple.
        density: ``A`` to ``D`` (ACR BI-RADS).
        pattern: Seed of the glandular pattern.
    """

    depth: float
    half_height: float
    fullness: float
    droop: float
    fold: float
    muscle: float
    nipple: float
    density: str
    pattern: int


@dataclass(frozen=True)
class Outline:
    """One breast in one view.

    Attributes:
        edge: Skin line and chest wall as a closed polygon, (n, 2) of (x, y).
        nipple: Polygon of the nipple, (n, 2).
        apex: Where the nipple meets the skin, (x, y).
        muscle: (width at the frame's top, height at the chest wall) of the muscle; (0, 0) unseen.
        depth: Chest wall to nipple in this view.
        span: Height of the outline at the chest wall.
        fold: The deepest point of the inframammary fold, (x, y); None where none is sought.
    """

    edge: Points
    nipple: Points
    apex: tuple[float, float]
    muscle: tuple[float, float]
    depth: float
    span: float
    fold: tuple[float, float] | None = None


def both_breasts(rng: np.random.Generator, density: str) -> dict[str, Breast]:
    """Return a patient's two breasts, ``L`` and ``R``: alike, never equal."""
    size = rng.uniform(0.75, 1.2)
    left = Breast(
        depth=86 * size * rng.uniform(0.85, 1.12),
        half_height=95 * size * rng.uniform(0.9, 1.1),
        fullness=rng.uniform(0.56, 0.85),
        droop=rng.uniform(0.0, 0.14),
        fold=rng.uniform(0.0, 1.0),
        muscle=rng.uniform(0.75, 1.15),
        nipple=rng.uniform(4.0, 6.0),
        density=density,
        pattern=int(rng.integers(1 << 31)),
    )
    right = replace(
        left,
        depth=left.depth * rng.uniform(0.95, 1.05),
        half_height=left.half_height * rng.uniform(0.96, 1.04),
        fullness=left.fullness + rng.uniform(-0.03, 0.03),
        muscle=left.muscle * rng.uniform(0.92, 1.08),
        pattern=int(rng.integers(1 << 31)),
    )
    return {"L": left, "R": right}


def _waviness(rng: np.random.Generator, rows: Points, length: float) -> Points:
    waves = [np.sin(2 * np.pi * k * rows / length + rng.uniform(0, 6.3)) / k for k in (2, 3, 5)]
    factor: Points = 1 + 0.012 * np.sum(waves, axis=0)
    return factor


def _nipple(apex: tuple[float, float], radius: float, droop: float) -> Points:
    turn = np.linspace(0, 2 * np.pi, 49)[:-1]
    x = apex[0] - 0.25 * radius + 1.15 * radius * np.cos(turn)
    y = apex[1] + radius * np.sin(turn) * (1 + 0.15 * np.cos(turn))
    return np.stack([x, y + droop * (x - apex[0])], axis=1)


def _closed(x: Points, y: Points, droop: float) -> Points:
    skin = np.stack([x, y + droop * x], axis=1)
    wall = [(-20.0, skin[-1, 1]), (-20.0, skin[0, 1])]
    return np.vstack([skin, wall])


def _outline(breast: Breast, x: Points, y: Points, nipple_y: float, droop: float) -> Outline:
    at = float(np.interp(nipple_y, y, x))
    apex = (at, nipple_y + droop * at)
    return Outline(
        edge=_closed(x, y, droop),
        nipple=_nipple(apex, breast.nipple, droop),
        apex=apex,
        muscle=(0.0, 0.0),
        depth=at,
        span=float(y[-1] - y[0]),
    )


def craniocaudal(
    rng: np.random.Generator, breast: Breast, frame_mm: tuple[float, float]
) -> Outline:
    """Return the view from above: near half an ellipse, sometimes with a fold towards the axilla.

    Args:
        rng: Positioning of this exposure.
        breast: Who is imaged.
        frame_mm: (height, width) of the frame; the breast is made to fit.
    """
    half = min(breast.half_height * rng.uniform(0.97, 1.03), 0.43 * frame_mm[0])
    depth = min(breast.depth * rng.uniform(0.97, 1.03), 0.8 * frame_mm[1])
    middle = frame_mm[0] * rng.uniform(0.46, 0.53)
    low, high = rng.uniform(1.75, 2.25, 2)
    v = np.linspace(-1, 1, 401)
    power = np.where(v < 0, low, high)
    x = depth * (1 - np.abs(v) ** power) ** breast.fullness * _waviness(rng, v, 2.0)
    y = middle + half * v
    if breast.fold > 0.45:
        above = np.linspace(y[0] - 0.22 * half * breast.fold, y[0], 40)[:-1]
        x, y = np.concatenate([np.zeros(39), x]), np.concatenate([above, y])
        rise = np.clip((y - above[0]) / (y[39] + 0.12 * half - above[0]), 0, 1.0)
        x = np.where(y < middle, np.maximum(x, 0.16 * depth * breast.fold * rise**1.4), x)
    droop = rng.uniform(-0.05, 0.05)
    found = _outline(breast, x, y, middle + half * rng.uniform(-0.08, 0.08), droop)
    seen = rng.uniform() < 0.2
    width = rng.uniform(3, 8) * breast.muscle if seen else 0.0
    return replace(found, muscle=(width, 0.0))


def mediolateral(
    rng: np.random.Generator, breast: Breast, frame_mm: tuple[float, float]
) -> Outline:
    """Return the oblique view: axilla at the top edge, pectoral muscle, inframammary fold.

    Args:
        rng: Positioning of this exposure.
        breast: Who is imaged.
        frame_mm: (height, width) of the frame; the breast is made to fit.
    """
    droop = breast.droop * rng.uniform(0.7, 1.2)
    depth = min(breast.depth * rng.uniform(1.0, 1.08), 0.8 * frame_mm[1])
    length = min(2.15 * breast.half_height * rng.uniform(0.96, 1.04), 0.86 * frame_mm[0])
    at = np.array([-0.2, 0.0, 0.18, 0.4, 0.56, 0.68, 0.8, 0.9, 0.965, 1.0, 1.05, 1.12, 1.2])
    out = np.array([0.42, 0.46, 0.6, 0.86, 0.985, 0.985, 0.86, 0.6, 0.31, 0.2, 0.14, 0.11, 0.1])
    top = 1 - np.clip(at / 0.5, 0, 1)
    out = out * (1 + 0.25 * (breast.fold - 0.5) * top)
    y = np.linspace(-0.2, 1.2, 601)
    x = np.interp(y, at, out)
    kernel = np.exp(-0.5 * (np.arange(-40, 41) / 12.0) ** 2)
    x = np.convolve(np.pad(x, 40, mode="edge"), kernel / kernel.sum(), mode="valid")
    end = np.clip((1.2 - y) / 0.15, 0, 1) ** 0.6  # the abdominal wall leaves the frame
    x = depth * x * _waviness(rng, y, 1.4) * end
    found = _outline(breast, x, length * y, length * rng.uniform(0.58, 0.66), droop)
    width = 0.36 * depth * breast.muscle * rng.uniform(0.85, 1.15)
    height = 0.58 * length * breast.muscle * rng.uniform(0.85, 1.15)
    return replace(found, muscle=(width, height), span=length)


VIEWS = {"CC": craniocaudal, "MLO": mediolateral}


def with_torso(rng: np.random.Generator, breast: Breast, frame_mm: tuple[float, float]) -> Outline:
    """Return the oblique view with all that may lie around a breast: arm, axilla, fold, abdomen.

    The fold lies at 62 to 85 % of the frame's height, between a breast and an abdomen that goes on
    to the frame's lower edge and is up to half as deep as the breast.

    Args:
        rng: Positioning of this exposure.
        breast: Who is imaged.
        frame_mm: (height, width) of the frame; the breast is made to fit.
    """
    depth = min(breast.depth * rng.uniform(1.0, 1.08), 0.8 * frame_mm[1])
    length = min(2.15 * breast.half_height, rng.uniform(0.62, 0.85) * frame_mm[0])
    arm, notch = rng.uniform(0.35, 0.7), rng.uniform(0.04, 0.24)
    belly, reached = notch + rng.uniform(0.03, 0.26), 1 + rng.uniform(0.12, 0.4)
    low = belly * rng.uniform(0.4, 1.2)
    at = np.array([-0.2, 0.0, 0.2, 0.4, 0.56, 0.68, 0.8, 0.9, 0.965, 1.0, reached, 2.0, 2.6])
    out = np.array([arm, arm, 0.55, 0.86, 0.985, 0.985, 0.86, 0.6, 0.31, notch, belly, low, low])
    y = np.linspace(-0.2, 2.6, 1401)
    x = np.interp(y, at, out)
    kernel = np.exp(-0.5 * (np.arange(-30, 31) / 9.0) ** 2)
    x = np.convolve(np.pad(x, 30, mode="edge"), kernel / kernel.sum(), mode="valid")
    x = depth * x * _waviness(rng, y, 1.4)
    droop = 0.3 * breast.droop
    found = _outline(breast, x, length * y, length * rng.uniform(0.58, 0.66), droop)
    near = np.flatnonzero((y > 0.9) & (y < 1.06))
    deepest = near[np.argmin(x[near])]
    fold = float(x[deepest]), float(length * y[deepest] + droop * x[deepest])
    width, height = 0.36 * depth * breast.muscle, 0.58 * length * breast.muscle
    return replace(found, muscle=(width, height), span=length, fold=fold)
