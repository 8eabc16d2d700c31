"""The layout of BUSI, filled with speckle: lesions, masks of several kinds, and near-duplicates."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image

from mammoprep.phantoms._cohort import generator
from mammoprep.phantoms._layouts import Wanted, write_bytes
from mammoprep.phantoms._texture import Field, smoothstep
from mammoprep.phantoms._tissue import fill

FOLDER = "Dataset_BUSI_with_GT"
ROWS, COLUMNS, LEAST_SIDE = 470, 560, 80
PICTURES = 3  # of one patient
# What happens to a copy: its share of rows cut from the top, of columns from the left, its scale.
CHANGES = {
    "saved again": (0.0, 0.0, 1.0),
    "shifted": (0.02, 0.04, 1.0),
    "drawn upon": (0.0, 0.0, 1.0),
    "scaled": (0.0, 0.0, 0.833),
    "other class": (0.01, 0.0, 1.0),
}
_FRAME = 11
_CORNERS = 72

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """One picture to be made.

    Attributes:
        kind: ``normal``, ``benign`` or ``malignant``: its folder.
        number: Number in its folder.
        frame: Number of what it shows; copies show the same.
        shows: What the frame has: the kind of its first picture.
        lesions: How many.
        change: What was done to a copy, one of ``CHANGES``, or None for the first picture.
    """

    kind: str
    number: int
    frame: int
    shows: str
    lesions: int
    change: str | None = None

    @property
    def name(self) -> str:
        """``benign (1)``."""
        return f"{self.kind} ({self.number})"


def _pictures(wanted: Wanted) -> list[Picture]:
    """Return every picture: three frames a patient, then one copy of each kind of change."""
    malignant = round(wanted.prevalence * wanted.patients)
    healthy = [("benign", "normal")[place % 2] for place in range(wanted.patients - malignant)]
    found: list[Picture] = []
    count: Counter[str] = Counter()
    for kind in [*healthy, *["malignant"] * malignant]:
        for place in range(PICTURES):
            count[kind] += 1
            lesions = 0 if kind == "normal" else 1 + (kind == "benign" and place == 1)
            found.append(Picture(kind, count[kind], len(found), kind, lesions))
    for place, change in enumerate(CHANGES):
        first = found[0 if change == "other class" else place % (PICTURES * wanted.patients)]
        other = "benign" if first.kind == "malignant" else "malignant"
        kind = other if change == "other class" else first.kind
        count[kind] += 1
        found.append(replace(first, kind=kind, number=count[kind], change=change))
    return found


def _smooth(rng: np.random.Generator, shape: tuple[int, int], across: float, down: float) -> Field:
    """Return noise that is alike over so many columns and rows; mean 0, sd 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    blurred: Any = cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=down)
    field: Field = (blurred - blurred.mean()) / blurred.std()
    return field


def _outlines(rng: np.random.Generator, picture: Picture, shape: tuple[int, int]) -> list[Points]:
    """Return the outlines of a frame's lesions, side by side, (corners, 2) as (x, y)."""
    rows, columns = shape
    turn = np.linspace(0, 2 * np.pi, _CORNERS + 1)[:-1]
    rough = 0.14 if picture.shows == "malignant" else 0.04
    found = []
    for place in range(picture.lesions):
        x = columns * (place + rng.uniform(0.4, 0.6)) / picture.lesions
        y = rows * rng.uniform(0.3, 0.5)
        size = 0.16 / picture.lesions * rng.uniform(0.8, 1.2) * min(rows, columns) + 4
        waves = sum(rough * rng.normal() * np.cos(k * turn + rng.uniform(0, 6)) / k**0.5
                    for k in range(2, 8))  # fmt: skip
        reach = size * np.clip(1 + waves, 0.6, 1.4)
        points = np.stack([x + 1.4 * reach * np.cos(turn), y + reach * np.sin(turn)], axis=1)
        found.append(np.clip(points, 2, (columns - 2, rows - 2)))
    return found


def _frame(picture: Picture, wanted: Wanted) -> tuple[Field, list[Points]]:
    """Return what a frame shows in [0, 1], (rows, columns), and the outlines of its lesions."""
    rng = generator(wanted.seed, _FRAME, picture.frame)
    scale = wanted.size_scale * rng.uniform(0.85, 1.15)
    rows, columns = (max(LEAST_SIDE, round(side * scale)) for side in (ROWS, COLUMNS))
    unit = columns / 100
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    echo = 0.55 - 0.35 * depth
    echo = echo + 0.12 * _smooth(rng, (rows, columns), 9 * unit, 1.5 * unit)
    echo = echo + 0.08 * _smooth(rng, (rows, columns), 3 * unit, 2.5 * unit)
    outlines = _outlines(rng, picture, (rows, columns))
    for outline in outlines:
        inside = fill((rows, columns), outline).astype(np.float32) / 255
        soft: Any = cv2.GaussianBlur(inside, (0, 0), 0.4 * unit)
        behind = np.maximum.accumulate(inside, axis=0) * (1 - inside)
        echo = echo * (1 - 0.75 * soft) + (0.12 if picture.shows == "benign" else -0.12) * behind
    real, imaginary = (_smooth(rng, (rows, columns), 0.45 * unit, 0.25 * unit) for _ in range(2))
    speckle = np.hypot(real, imaginary) / 1.25
    shown: Field = smoothstep(np.clip(echo, 0.02, 1) * (0.55 + 0.45 * speckle))
    return shown, outlines


def _changed(
    picture: Picture, shown: Field, outlines: list[Points]
) -> tuple[NDArray[np.uint8], list[Points]]:
    """Return the stored grey values of a picture and the outlines on them."""
    grey = np.round(shown * 255).astype(np.uint8)
    if picture.change is None:
        return grey, outlines
    down, across, scale = CHANGES[picture.change]
    top, left = round(down * grey.shape[0]), round(across * grey.shape[1])
    cut = grey[top:, left:].copy()
    rows, columns = (round(side * scale) for side in cut.shape)
    small: Any = cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA)
    factor = np.array([columns / cut.shape[1], rows / cut.shape[0]])
    moved = [(points - (left, top)) * factor for points in outlines]
    if picture.change == "drawn upon":
        for x, y in ((0.3, 0.4), (0.7, 0.45)):
            place = (round(x * columns), round(y * rows))
            cv2.drawMarker(small, place, 255, cv2.MARKER_CROSS, max(5, columns // 40))
        place = (round(0.1 * columns), round(0.85 * rows))
        cv2.putText(small, "LT", place, cv2.FONT_HERSHEY_SIMPLEX, columns / 500, 255)
    return small, moved


def _save(path: Path, values: NDArray[np.uint8], mode: str) -> None:
    """Write grey values or a mask as a PNG of the mode ``1``, ``L``, ``RGB`` or ``RGBA``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).convert(mode, dither=Image.Dither.NONE).save(path, "PNG")


def _write_one(out: Path, picture: Picture, wanted: Wanted) -> None:
    grey, outlines = _changed(picture, *_frame(picture, wanted))
    folder = out / FOLDER / picture.kind
    _save(folder / f"{picture.name}.png", grey, ("L", "RGB")[picture.number % 2])
    plain = ("L", "RGB")[picture.number % 2] if picture.shows == "normal" else "1"
    for place, points in enumerate(outlines or [np.empty((0, 2))]):
        mask = fill(grey.shape[:2], points) if len(points) else np.zeros(grey.shape, np.uint8)
        ending = f"_{place}" if place else ""
        _save(folder / f"{picture.name}_mask{ending}.png", mask, "RGBA" if place else plain)
    lesions = [np.round(points, 2).tolist() for points in outlines]
    truth = json.dumps({**asdict(picture), "polygons": lesions}, indent=1)
    write_bytes(out / "truth" / f"{picture.name}.json", f"{truth}\n".encode())


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of BUSI, and the truth beside them.

    Each patient gives three frames of one class. Five copies of frames follow: saved again,
    shifted, with callipers drawn upon, scaled, and one in the folder of another class. The second
    picture of a benign patient has two masks, one of them RGBA; normals have black masks, grey or
    RGB; other masks have one bit.

    Args:
        out: New or empty folder; gets ``Dataset_BUSI_with_GT`` and ``truth``, where ``frame`` is
            the same for copies.
        patients: How many; the dataset does not tell whose a picture is.
        seed: As in the layout rsna.
        size_scale: Factor on rows and columns; no side of a frame gets below 80 pixels.
        prevalence: Share of malignant patients; the others are benign and normal by turns.
        workers: As in rsna.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    wanted = Wanted(patients, seed, size_scale, prevalence, workers)
    wanted.check(out)
    Parallel(n_jobs=workers)(
        delayed(_write_one)(out, picture, wanted) for picture in _pictures(wanted)
    )
