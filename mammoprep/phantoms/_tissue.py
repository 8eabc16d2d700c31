"""The inside of a breast: fat, glands, strands, vessels, muscle, skin; as presentation values."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.phantoms._anatomy import Breast, Outline, Points
from mammoprep.phantoms._texture import (
    Field,
    band,
    draw_curve,
    lookup,
    power_law,
    ridges,
    smoothstep,
    wander,
)

TILE_MM = 0.3
_THRESHOLD = {"A": 1.15, "B": 0.65, "C": 0.1, "D": -0.5}


@dataclass(frozen=True)
class Canvas:
    """The part of the frame that holds the breast, at the resolution textures are made in.

    Attributes:
        origin: (x, y) in millimetres of the outer corner of the first pixel.
        pitch: Millimetres a pixel.
        x: (rows, columns) millimetres from the chest wall of each pixel's centre.
        y: (rows, columns) millimetres from the frame's upper edge.
        skin: (rows, columns) millimetres to the skin line; 0 outside.
    """

    origin: tuple[float, float]
    pitch: float
    x: Field
    y: Field
    skin: Field

    def pixels(self, points: Points) -> Points:
        """Return points (n, 2) in millimetres as continuous pixels of this canvas."""
        moved: Points = (points - np.asarray(self.origin)) / self.pitch
        return moved


@dataclass(frozen=True)
class Tiles:
    """Noise that one exposure shares among its layers."""

    smooth: Field
    fine: Field
    net: Field


def fill(shape: tuple[int, int], *polygons: Points) -> NDArray[np.uint8]:
    """Return a 0/255 mask of the union of ``polygons``, (n, 2) of continuous pixel (x, y)."""
    mask = np.zeros(shape, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.rint((polygon - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    return mask


def make_canvas(
    outline: Outline, origin: tuple[float, float], shape: tuple[int, int], pitch: float
) -> Canvas:
    """Return the coordinates of a grid and its distance to the skin."""
    x = origin[0] + pitch * (np.arange(shape[1], dtype=np.float32) + 0.5)
    y = origin[1] + pitch * (np.arange(shape[0], dtype=np.float32) + 0.5)
    polygons = [(part - np.asarray(origin)) / pitch for part in (outline.edge, outline.nipple)]
    inside = fill(shape, *polygons)
    skin = cv2.distanceTransform(inside, cv2.DIST_L2, 5) * np.float32(pitch)
    across, down = np.meshgrid(x, y)
    smooth = cv2.GaussianBlur(skin, (0, 0), 1.2)  # the grid's stairs would show along the skin
    return Canvas(origin, pitch, across, down, np.where(inside > 0, smooth, np.float32(0)))


def make_tiles(rng: np.random.Generator, canvas: Canvas) -> Tiles:
    """Return the noise tiles of one exposure; small frames get small tiles."""
    size = 512 if canvas.pitch < 0.25 else 256
    return Tiles(power_law(rng, size), power_law(rng, size, 2.0), band(rng, size, 18.0))


def _polar(canvas: Canvas, outline: Outline) -> tuple[Field, Field]:
    """Return distance from a point before the nipple and direction to it, both in millimetres."""
    dx = outline.apex[0] + np.float32(18.0) - canvas.x
    dy = canvas.y - outline.apex[1]
    return np.hypot(dx, dy).astype(np.float32), (np.arctan2(dy, dx) * 70).astype(np.float32)


def _bias(canvas: Canvas, outline: Outline, muscle: Field) -> Field:
    """Return where glands are likely: a disc behind the nipple, off the skin and the chest wall."""
    depth, half = outline.depth, outline.span / 2
    along = (canvas.x - 0.56 * depth) / (0.46 * depth)
    across = (canvas.y - outline.apex[1]) / (0.62 * half)
    disc = 1.15 - along**2 - across**2
    behind = 0.9 * ridges(
        np.hypot(canvas.x - 0.22 * depth, canvas.y - outline.apex[1]), 0.24 * half
    )
    near_skin = 2.4 * np.clip(1 - canvas.skin / (0.16 * depth), 0, 1)
    result: Field = np.maximum(disc, -2.2) - behind - near_skin - 1.6 * muscle
    return result


def _glands(
    canvas: Canvas, outline: Outline, breast: Breast, tiles: Tiles, muscle: Field
) -> tuple[Field, Field]:
    """Return glandular density and the fibrous net, both about 0 to 1."""
    rng = np.random.default_rng(breast.pattern)
    shift = rng.uniform(0, 400, 8).astype(np.float32)
    radius, turn = _polar(canvas, outline)
    u, v = canvas.x / np.float32(TILE_MM), canvas.y / np.float32(TILE_MM)
    warp = 14 * lookup(tiles.smooth, 0.5 * u + shift[0], 0.5 * v + shift[1])
    lumps = lookup(tiles.smooth, u + warp + shift[2], v + shift[3])
    grain = lookup(tiles.fine, 1.9 * u + 0.4 * warp + shift[4], 1.9 * v + shift[5])
    streaks = lookup(
        tiles.fine, 0.9 * radius + 0.5 * warp + shift[6], 2.4 * turn + 0.6 * warp + shift[7]
    )
    amount = 1.2 * _bias(canvas, outline, muscle) + 0.9 * lumps + 0.32 * streaks + 0.1 * grain
    dense = 1 / (1 + np.exp((_THRESHOLD[breast.density] - amount) / 0.5))
    slow = 0.45 * warp
    net_a = ridges(lookup(tiles.net, 1.5 * u + slow, 1.5 * v - slow), 0.2)
    net_b = ridges(lookup(tiles.net, 1.0 * radius + slow, 2.2 * turn - slow), 0.2)
    net_c = ridges(lookup(tiles.net, 2.7 * u - slow, 2.7 * v + slow), 0.26)
    patches = np.clip(0.5 + 0.35 * streaks + 0.35 * grain, 0.05, 1.5)
    elsewhere = lookup(tiles.fine, 0.8 * v + shift[1], 0.8 * u + shift[2])
    net = (0.4 * net_a + 0.45 * net_b) * patches + 0.35 * net_c * np.clip(0.5 + elsewhere, 0, 2)
    net += 0.3 * np.clip(elsewhere + grain, 0, 2)
    texture = dense * np.clip(0.78 + 0.13 * streaks + 0.16 * grain, 0.15, 1.4)
    return texture.astype(np.float32), net.astype(np.float32)


def _muscle(canvas: Canvas, outline: Outline) -> Field:
    """Return the pectoral muscle, 0 to 1: a triangle in the oblique view, a band from above."""
    width, height = outline.muscle
    if width == 0:
        return np.zeros_like(canvas.x)
    if height == 0:
        bow = 1 - ((canvas.y - outline.apex[1]) / (0.5 * outline.span) + 0.25) ** 2
        return smoothstep((width * np.clip(bow, -1, 1) - canvas.x) / np.float32(3.5) + 0.5)
    t = np.clip(canvas.y / height, 0, 1)
    border = width * (1 - t) * (1 + 0.35 * t)
    return smoothstep((border - canvas.x) / np.float32(2.2) + np.float32(0.5))


def _strands(rng: np.random.Generator, canvas: Canvas, outline: Outline) -> Field:
    """Return Cooper's ligaments and vessels as lines, 0 to about 0.12."""
    lines = np.zeros_like(canvas.x)
    for index in range(110):
        vessel = index < 4
        x = rng.uniform(0.05, 0.9) * outline.depth
        y = outline.apex[1] + rng.normal(0, 0.2) * outline.span
        heading = np.arctan2(outline.apex[1] - y, outline.apex[0] + 12 - x)
        heading += np.pi * rng.integers(2) + rng.normal(0, 0.6)
        length = rng.uniform(40, 80) if vessel else rng.uniform(7, 38)
        path = canvas.pixels(wander(rng, (x, y), heading, length, 0.16 if vessel else 0.12))
        width = rng.uniform(0.7, 1.3) if vessel else rng.uniform(0.15, 0.4)
        level = rng.uniform(0.03, 0.055) if vessel else rng.uniform(0.03, 0.13)
        draw_curve(lines, path, 0.6 * width / canvas.pitch, level)
        draw_curve(lines, path[3:16], width / canvas.pitch, level)
    blurred: Field = cv2.GaussianBlur(lines, (0, 0), max(0.15 / canvas.pitch, 0.5))
    return blurred


def interior(rng: np.random.Generator, canvas: Canvas, outline: Outline, breast: Breast) -> Field:
    """Return the tissue without lesions as presentation values, 0 outside the breast.

    Args:
        rng: Noise of this exposure; the glandular pattern comes from the breast's own seed.
        canvas: The grid to fill.
        outline: The breast in this view.
        breast: Density and pattern.
    """
    tiles = make_tiles(np.random.default_rng((breast.pattern, 1)), canvas)
    muscle = _muscle(canvas, outline)
    glands, net = _glands(canvas, outline, breast, tiles, muscle)
    u, v = canvas.x / np.float32(TILE_MM), canvas.y / np.float32(TILE_MM)
    clouds = lookup(tiles.smooth, 1.3 * u + 91, 1.3 * v + 37)
    fibres = lookup(tiles.fine, 0.5 * (u + v), 2.5 * (u - 0.55 * v))
    thick = np.float32(0.4) + np.float32(0.6) * (1 - np.exp(-canvas.skin / np.float32(13)))
    fat = 0.215 * thick * (1 + 0.09 * clouds)
    inner = smoothstep((canvas.skin - 2.5) / np.float32(9))
    shown = fat + 0.36 * glands * thick + 0.12 * net * inner * (0.6 + 0.5 * glands)
    shown += muscle * (0.22 + 0.03 * fibres + 0.04 * clouds + 0.06 * ridges(canvas.y, 60.0))
    shown += _strands(rng, canvas, outline) * inner
    skin = 0.05 * np.exp(-(((canvas.skin - 0.9) / np.float32(0.7)) ** 2))
    result: Field = (shown + skin) * smoothstep(canvas.skin / np.float32(0.8))
    return result
