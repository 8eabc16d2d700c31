"""One exposure: a breast on a machine becomes stored pixels, a mask and the truth about them."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.phantoms import _lesions, _tissue
from mammoprep.phantoms._anatomy import VIEWS, Breast, Outline, Points, with_torso
from mammoprep.phantoms._lesions import Finding, Placed
from mammoprep.phantoms._machines import Machine, frame, to_stored, tone
from mammoprep.phantoms._texture import Field, power_law

_TEXTURE_MM = 0.15
_LABEL = 0.64
_MIRRORED = 0.04


@dataclass(frozen=True)
class Subject:
    """What is imaged, and how.

    Attributes:
        breast: The breast.
        findings: What is in it.
        laterality: ``L`` or ``R``.
        view: ``CC`` or ``MLO``.
        matched: The tissue has the grey values that it would have without findings; these only
            change which pixel has which.
        torso: An oblique view shows arm and axilla above the breast, and under its fold the
            abdomen.
    """

    breast: Breast
    findings: tuple[Finding, ...]
    laterality: str
    view: str
    matched: bool = False
    torso: bool = False


@dataclass(frozen=True)
class Exposure:
    """A finished picture and its truth; every coordinate is a stored pixel's.

    Attributes:
        stored: uint16 (rows, columns).
        tissue: uint8 (rows, columns), 255 where the frame shows tissue.
        chest_wall: ``left`` or ``right``.
        lesions: The findings with polygons (n, 2) of continuous (x, y).
        landmarks: Points inside the breast, (n, 2).
        padding: Pixel Padding Value, or None.
        fold: The deepest point of the inframammary fold, (x, y): what lies below it is no breast.
            None where the picture is not one of a torso.
    """

    stored: NDArray[np.uint16]
    tissue: NDArray[np.uint8]
    chest_wall: str
    lesions: tuple[tuple[Finding, Points], ...]
    landmarks: Points
    padding: int | None
    fold: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Window:
    """The worked-on rectangle of the frame, in pixels, and how much coarser textures are."""

    top: int
    bottom: int
    right: int
    factor: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right


def _window(mask: NDArray[np.uint8], pitch: float) -> _Window:
    left, top, width, height = cv2.boundingRect(mask)
    factor = max(1, round(_TEXTURE_MM / pitch))
    rows, columns = (-(-height // factor) + 2) * factor, (-(-(left + width) // factor) + 2) * factor
    return _Window(top, top + rows, columns, factor)


def _texture(
    rng: np.random.Generator, subject: Subject, outline: Outline, window: _Window, pitch: float
) -> tuple[Field, tuple[Placed, ...]]:
    """Return the window's tissue at full size, before noise, and the placed findings."""
    shape = window.shape[0] // window.factor, window.shape[1] // window.factor
    origin = (0.0, window.top * pitch)
    canvas = _tissue.make_canvas(outline, origin, shape, pitch * window.factor)
    shown = _tissue.interior(rng, canvas, outline, subject.breast)
    placed = tuple(_lesions.place(each, subject.view, outline, canvas) for each in subject.findings)
    plain = _enlarged(shown, window) if placed and subject.matched else None
    for each in placed:
        if each.finding.kind == "mass":
            _lesions.draw_mass(shown, each, canvas)
    shown = _enlarged(shown, window)
    for each in placed:
        specks = (each.specks - (0.0, origin[1], 0.0)) / pitch
        _lesions.draw_specks(shown, specks, each.finding.contrast)
    return shown if plain is None else matched(shown, plain), placed


def _enlarged(shown: Field, window: _Window) -> Field:
    """Return a copy of the window's tissue at full size."""
    if window.factor == 1:
        return shown.copy()
    full: Field = cv2.resize(shown, window.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return full


def matched(shown: Field, plain: Field) -> Field:
    """Return the values of ``plain`` in the order of those of ``shown``, pixel by pixel."""
    found = np.empty(plain.size, plain.dtype)
    found[shown.argsort(axis=None, kind="stable")] = np.sort(plain, axis=None)
    return found.reshape(plain.shape)


def _noisy(rng: np.random.Generator, shown: Field, machine: Machine, scale: float) -> Field:
    """Return ``shown`` with structure below the texture's grid and quantum noise."""
    tile = power_law(rng, 256, 1.2)
    repeats = -(-shown.shape[0] // 256), -(-shown.shape[1] // 256)
    grain = np.tile(tile, repeats)[: shown.shape[0], : shown.shape[1]]
    white = rng.standard_normal(shown.shape, dtype=np.float32)
    quantum: Field = cv2.GaussianBlur(white, (0, 0), 0.6) * 1.6
    sigma = np.float32(machine.noise * (0.35 + 0.65 * scale))
    brightness = np.sqrt(np.maximum(shown, np.float32(0.02)) / np.float32(0.25))
    noisy: Field = shown + sigma * brightness * (quantum + np.float32(0.5) * grain)
    return noisy


def _background(
    rng: np.random.Generator, machine: Machine, size: tuple[int, int], padding: int | None
) -> NDArray[np.uint16]:
    """Return the frame without a breast: padding, or exposed air with its noise."""
    if padding is not None:
        return np.full(size, padding, np.uint16)
    air = np.float32(0.01) + np.float32(0.0035) * rng.standard_normal(size, dtype=np.float32)
    return to_stored(machine, np.clip(air, 0.0005, 1), None)


def _draw_strip(
    rng: np.random.Generator, stored: NDArray[np.uint16], machine: Machine, window: _Window
) -> None:
    """Draw the edge of the compression plate: a faint band over the whole height."""
    rows, columns = stored.shape
    width = max(1, round(0.015 * columns))
    left = max(round(0.35 * columns), window.right + round(0.06 * columns))
    if left + width > columns:
        return
    band = 0.052 + 0.003 * rng.standard_normal((rows, width), dtype=np.float32)
    band *= np.hanning(width + 2)[1:-1].astype(np.float32) * 0.35 + 0.65
    padding = int(stored[0, -1])
    stored[:, left : left + width] = to_stored(machine, np.maximum(band, 0.01), padding)


def _draw_label(stored: NDArray[np.uint16], machine: Machine, text: str, *, at_left: bool) -> None:
    """Burn ``text`` into the upper corner away from the chest wall."""
    rows, columns = stored.shape
    size, thick = rows / 1150, max(1, round(rows / 700))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
    inset = round(0.11 * columns)
    corner = (inset if at_left else columns - inset - width, round(0.09 * rows) + height)
    ink = np.zeros(stored.shape, np.uint8)
    cv2.putText(ink, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, 255, thick, cv2.LINE_8)
    stored[ink > 0] = to_stored(machine, np.array([_LABEL], np.float32), None)[0]


def _landmarks(outline: Outline, placed: tuple[Placed, ...]) -> Points:
    behind = [(outline.apex[0] - f * outline.depth, outline.apex[1]) for f in (0.1, 0.5)]
    centres = [each.centre for each in placed]
    specks = [(x, y) for each in placed for x, y, _ in each.specks[:5]]
    return np.array([outline.apex, *behind, *centres, *specks])


def _expose(
    rng: np.random.Generator,
    subject: Subject,
    machine: Machine,
    size: tuple[int, int],
    scale: float,
) -> tuple[Exposure, bool]:
    """Return the exposure with the chest wall at the left, still without its label."""
    pitch = machine.height_mm / size[0]
    draw = with_torso if subject.torso and subject.view == "MLO" else VIEWS[subject.view]
    outline = draw(rng, subject.breast, (size[0] * pitch, size[1] * pitch))
    mask = _tissue.fill(size, outline.edge / pitch, outline.nipple / pitch)
    window = _window(mask, pitch)
    shown, placed = _texture(rng, subject, outline, window, pitch)
    shown = tone(machine, _noisy(rng, shown, machine, scale))
    padding = int(rng.choice(machine.paddings)) if machine.paddings else None
    stored = _background(rng, machine, size, padding)
    if machine.strip:
        _draw_strip(rng, stored, machine, window)
    part = (slice(window.top, window.bottom), slice(0, window.right))
    inside = mask[part] > 0
    cut = shown[: inside.shape[0], : inside.shape[1]][inside]
    stored[part][inside] = to_stored(machine, cut, padding)
    lesions = tuple((each.finding, each.polygon / pitch) for each in placed)
    marks = _landmarks(outline, placed) / pitch
    fold = outline.fold and (outline.fold[0] / pitch, outline.fold[1] / pitch)
    made = Exposure(stored, mask, "left", lesions, marks, padding, fold)
    return made, rng.uniform() < _MIRRORED


def _mirrored(exposure: Exposure) -> Exposure:
    columns = exposure.stored.shape[1]

    def flip(points: Points) -> Points:
        return np.stack([columns - points[:, 0], points[:, 1]], axis=1)

    return Exposure(
        stored=np.ascontiguousarray(exposure.stored[:, ::-1]),
        tissue=np.ascontiguousarray(exposure.tissue[:, ::-1]),
        chest_wall="right",
        lesions=tuple((finding, flip(points)) for finding, points in exposure.lesions),
        landmarks=flip(exposure.landmarks),
        padding=exposure.padding,
        fold=exposure.fold and (columns - exposure.fold[0], exposure.fold[1]),
    )


def expose(rng: np.random.Generator, subject: Subject, machine: Machine, scale: float) -> Exposure:
    """Return the picture of ``subject`` by ``machine`` and the truth about it.

    Left breasts have the chest wall at the left edge and right breasts at the right one, except
    that about one display in 25 is mirrored.

    Args:
        rng: Positioning, noise and display of this exposure.
        subject: What is imaged.
        machine: On what.
        scale: Factor on the rows and columns, above 0, at most 1.
    """
    exposure, mirrored = _expose(rng, subject, machine, frame(machine, scale), scale)
    if (subject.laterality == "R") != mirrored:
        exposure = _mirrored(exposure)
    if machine.labelled:
        text = f"{subject.laterality}-{subject.view}"
        at_left = exposure.chest_wall == "right"
        _draw_label(exposure.stored, machine, text, at_left=at_left)
    return exposure
