"""Findings: spiculated and smooth masses, clusters of calcifications, with their outlines."""

from dataclasses import dataclass

import cv2
import numpy as np

from mammoprep.phantoms._anatomy import Outline, Points
from mammoprep.phantoms._texture import Field, draw_curve, smoothstep, wander
from mammoprep.phantoms._tissue import Canvas

_DEEP_ENOUGH_MM = 7.0


@dataclass(frozen=True)
class Finding:
    """One finding of a breast, the same in all its views.

    Attributes:
        kind: ``mass`` or ``calcification``.
        pathology: ``malignant`` or ``benign``.
        depth: Distance behind the nipple, as a fraction of the breast's depth.
        sideways: Position across the breast in CC and in MLO, -1 to 1.
        radius: Radius of the mass or of the cluster, millimetres.
        seed: Seed of its shape.
        contrast: Factor on what it adds to the picture.
    """

    kind: str
    pathology: str
    depth: float
    sideways: tuple[float, float]
    radius: float
    seed: int
    contrast: float = 1.0


@dataclass(frozen=True)
class Placed:
    """A finding in one view; millimetres of the canonical frame.

    Attributes:
        finding: What it is.
        centre: (x, y).
        polygon: Its outline, (n, 2).
        specks: Calcifications, (n, 3) of (x, y, radius).
    """

    finding: Finding
    centre: tuple[float, float]
    polygon: Points
    specks: Points


def findings(rng: np.random.Generator, *, cancer: bool, invasive: bool) -> tuple[Finding, ...]:
    """Return the findings of one breast with cancer, or of one with something benign.

    Args:
        rng: Source of kind, place, size and shape.
        cancer: Whether the main finding is malignant.
        invasive: An invasive cancer is a spiculated mass, else a cluster of calcifications.
    """
    mass = invasive if cancer else rng.uniform() < 0.6
    kinds = ["mass"] if mass else ["calcification"]
    if cancer and mass and rng.uniform() < 0.35:
        kinds.append("calcification")
    depth, cc, mlo = rng.uniform(0.28, 0.7), rng.uniform(-1, 1), rng.uniform(-1, 1)
    return tuple(
        Finding(
            kind=kind,
            pathology="malignant" if cancer else "benign",
            depth=depth,
            sideways=(cc, mlo),
            radius=rng.uniform(5.0, 10.0) if kind == "mass" else rng.uniform(4.0, 8.0),
            seed=int(rng.integers(1 << 31)),
        )
        for kind in kinds
    )


def _centre(finding: Finding, view: str, outline: Outline, canvas: Canvas) -> tuple[float, float]:
    x = outline.apex[0] - finding.depth * outline.depth
    column = int(np.clip((x - canvas.origin[0]) / canvas.pitch, 0, canvas.x.shape[1] - 1))
    deep = np.flatnonzero(canvas.skin[:, column] > _DEEP_ENOUGH_MM + finding.radius)
    if deep.size == 0:
        deep = np.array([int(np.argmax(canvas.skin[:, column]))])
    low, high = float(canvas.y[deep[0], 0]), float(canvas.y[deep[-1], 0])
    nipple = float(np.clip(outline.apex[1], low, high))
    reach = min(max(nipple - low, 0.0), max(high - nipple, 0.0), 0.3 * outline.span)
    return x, nipple + 0.85 * reach * finding.sideways[0 if view == "CC" else 1]


def _radii(rng: np.random.Generator, finding: Finding) -> Points:
    turn = np.linspace(0, 2 * np.pi, 97)[:-1]
    rough = finding.pathology == "malignant"
    waves = range(2, 10) if rough else range(2, 4)
    size = 0.16 if rough else 0.09
    bumps = [
        size / np.sqrt(k) * rng.normal() * np.cos(k * turn + rng.uniform(0, 6.3)) for k in waves
    ]
    radii: Points = finding.radius * np.clip(1 + np.sum(bumps, axis=0), 0.6, 1.5)
    return radii


def _ring(centre: tuple[float, float], radii: Points) -> Points:
    turn = np.linspace(0, 2 * np.pi, radii.size + 1)[:-1]
    around = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radii[:, None]
    ring: Points = np.asarray(centre) + around
    return ring


def _specks(rng: np.random.Generator, finding: Finding, centre: tuple[float, float]) -> Points:
    malignant = finding.pathology == "malignant"
    count = int(rng.integers(14, 34)) if malignant else int(rng.integers(4, 10))
    spread = rng.normal(0, 0.42, (count, 2)).clip(-1, 1) * finding.radius
    spread[:, 1] *= rng.uniform(0.4, 0.9)
    turn = rng.uniform(0, np.pi)
    rotate = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    size = rng.uniform(0.1, 0.3, count) if malignant else rng.uniform(0.3, 0.6, count)
    return np.hstack([np.asarray(centre) + spread @ rotate, size[:, None]])


def _hull(specks: Points, margin: float) -> Points:
    grown = np.vstack([_ring((x, y), np.full(12, r + margin)) for x, y, r in specks])
    hull = cv2.convexHull(grown.astype(np.float32))[:, 0]
    return hull.astype(np.float64)


def place(finding: Finding, view: str, outline: Outline, canvas: Canvas) -> Placed:
    """Return where and with which outline the finding shows in this view."""
    rng = np.random.default_rng((finding.seed, 0 if view == "CC" else 1))
    centre = _centre(finding, view, outline, canvas)
    if finding.kind == "mass":
        return Placed(finding, centre, _ring(centre, _radii(rng, finding)), np.empty((0, 3)))
    specks = _specks(rng, finding, centre)
    return Placed(finding, centre, _hull(specks, 1.0), specks)


def draw_mass(shown: Field, placed: Placed, canvas: Canvas) -> None:
    """Add a mass to ``shown`` in place: a soft dome, with spicules when malignant."""
    radii = np.hypot(*(placed.polygon - placed.centre).T)
    dx, dy = canvas.x - placed.centre[0], canvas.y - placed.centre[1]
    turn = np.mod(np.arctan2(dy, dx), 2 * np.pi)
    angles = np.linspace(0, 2 * np.pi, radii.size + 1)
    reach = np.interp(turn, angles, np.append(radii, radii[0])).astype(np.float32)
    ratio = np.hypot(dx, dy) / reach
    malignant = placed.finding.pathology == "malignant"
    soft = np.float32(0.35 if malignant else 0.12)
    body = 1 - smoothstep((ratio - 1 + soft) / (2 * soft))
    dome = np.sqrt(np.clip(1 - (ratio / np.float32(1.15)) ** 2, 0, 1))
    level = np.float32((0.27 if malignant else 0.14) * placed.finding.contrast)
    shown += level * body * (np.float32(0.45) + 0.55 * dome)
    if malignant:
        shown += _spicules(placed, canvas)


def _spicules(placed: Placed, canvas: Canvas) -> Field:
    rng = np.random.default_rng((placed.finding.seed, 2))
    lines = np.zeros_like(canvas.x)
    radius = placed.finding.radius
    for turn in np.linspace(0, 2 * np.pi, 31)[:-1] + rng.normal(0, 0.2, 30):
        start = (
            placed.centre[0] + 0.7 * radius * np.cos(turn),
            placed.centre[1] + 0.7 * radius * np.sin(turn),
        )
        path = wander(rng, start, turn, rng.uniform(0.4, 1.7) * radius, 0.05)
        level = rng.uniform(0.07, 0.17) * placed.finding.contrast
        for part, thick in ((24, 0.2), (16, 0.4), (9, 0.7)):
            draw_curve(lines, canvas.pixels(path[:part]), thick / canvas.pitch, level)
    blurred: Field = cv2.GaussianBlur(lines, (0, 0), max(0.2 / canvas.pitch, 0.4))
    return blurred


def draw_specks(shown: Field, specks: Points, contrast: float) -> None:
    """Add calcifications to ``shown`` in place; ``specks`` is (n, 3) of pixel (x, y, radius).

    A speck smaller than a pixel keeps one pixel of its light, as a detector would show it.
    """
    level = 0.34 * contrast
    rows, columns = shown.shape
    for x, y, r in specks:
        size = max(r, 0.6)
        left, right = max(int(x - 2 * size - 1), 0), min(int(x + 2 * size + 2), columns)
        top, bottom = max(int(y - 2 * size - 1), 0), min(int(y + 2 * size + 2), rows)
        across = (np.arange(left, right) + 0.5 - x) / size
        down = (np.arange(top, bottom) + 0.5 - y) / size
        spot = np.exp(-((across[None, :] ** 2 + down[:, None] ** 2) ** 2))
        shown[top:bottom, left:right] += (level * spot).astype(np.float32)
