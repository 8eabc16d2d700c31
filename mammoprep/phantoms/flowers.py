"""The layout of Oxford Flowers 102, filled with drawn flowers."""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.io
from joblib import Parallel, delayed
from numpy.typing import NDArray

from mammoprep.phantoms._cohort import generator
from mammoprep.phantoms._layouts import Wanted, write_bytes

ALL = tuple(range(1, 103))
CLASSES = (1, 5, 42, 54, 77, 102)  # drawn when there are not enough pictures for all
PLANTS = 2  # images of one patient, each of the next class
SETS = ("trnid", "valid", "tstid", "tstid")  # by turns, one for all classes
ROWS, COLUMNS, LEAST_SIDE = 500, 667, 96
QUALITY = 90
_PLANT = 31


@dataclass(frozen=True)
class Flower:
    """One picture to be made.

    Attributes:
        number: Its number, from 1.
        label: Its class, 1 to 102.
        petals: How many.
        hue: Of the petals, 0 to 179.
    """

    number: int
    label: int
    petals: int
    hue: int


def _colour(hue: int, saturation: int, value: int) -> tuple[int, int, int]:
    one = np.array([[[hue, saturation, value]]], np.uint8)
    pixel: Any = cv2.cvtColor(one, cv2.COLOR_HSV2BGR)
    blue, green, red = (int(part) for part in pixel[0, 0])
    return blue, green, red


def _classes(wanted: Wanted) -> tuple[int, ...]:
    """Return the classes that are drawn: all where every set gets one picture of each."""
    return ALL if wanted.patients * PLANTS >= len(SETS) * len(ALL) else CLASSES


def _flowers(wanted: Wanted) -> list[Flower]:
    """Return every picture; what a class looks like depends on nothing but its number."""
    found, classes = [], _classes(wanted)
    for place in range(max(wanted.patients * PLANTS, len(SETS) * len(classes))):
        label = classes[place % len(classes)]
        found.append(Flower(place + 1, label, 4 + label % 9, label * 37 % 180))
    return found


def _drawn(flower: Flower, wanted: Wanted) -> NDArray[np.uint8]:
    """Return a picture, (rows, columns, 3) as blue, green, red; some are upright, some are wide."""
    rng = generator(wanted.seed, _PLANT, flower.number)
    sides = [max(LEAST_SIDE, round(side * wanted.size_scale)) for side in (ROWS, COLUMNS)]
    rows, columns = sides if rng.integers(2) else sides[::-1]
    leaves: Any = cv2.resize(rng.integers(30, 90, (8, 8)).astype(np.float32), (columns, rows))
    picture = np.stack([leaves * 0.4, leaves, leaves * 0.5], axis=2).astype(np.uint8)
    small = min(rows, columns)
    centre = rng.uniform(0.4, 0.6, 2) * (columns, rows)
    reach, turn = small * rng.uniform(0.22, 0.32), rng.uniform(0, 360)
    for petal in range(flower.petals):
        angle = turn + 360 * petal / flower.petals
        away = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]) * reach * 0.7
        middle = tuple(round(float(value)) for value in centre + away)
        axes = round(reach * 0.6), max(2, round(reach * 2 / flower.petals))
        shade = _colour(flower.hue, 200, int(rng.integers(190, 255)))
        cv2.ellipse(picture, middle, axes, angle, 0, 360, shade, -1)
    heart = round(float(centre[0])), round(float(centre[1]))
    cv2.circle(picture, heart, max(2, round(reach * 0.3)), _colour(25, 220, 220), -1)
    noisy = picture + rng.normal(0, 4, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _write_one(out: Path, flower: Flower, wanted: Wanted) -> None:
    _, coded = cv2.imencode(".jpg", _drawn(flower, wanted), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    name = f"image_{flower.number:05d}"
    write_bytes(out / "jpg" / f"{name}.jpg", coded.tobytes())
    write_bytes(out / "truth" / f"{name}.json", f"{json.dumps(asdict(flower))}\n".encode())


def _write_table(path: Path, rows: dict[str, list[int]], dtype: type[np.generic]) -> None:
    """Write a MATLAB file; its header must not hold the time of writing."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {name: np.array([row], dtype) for name, row in rows.items()})
    content = bytearray(buffer.getvalue())
    content[:116] = b"MATLAB 5.0 MAT-file".ljust(116)
    write_bytes(path, bytes(content))


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write drawn flowers to ``out`` in the layout of Oxford Flowers 102, and the truth beside.

    Six of the 102 classes are drawn, all of them from 204 patients on; each has its own colour and
    number of petals.

    Args:
        out: New or empty folder; gets ``jpg``, ``imagelabels.mat``, ``setid.mat`` and ``truth``.
        patients: Half the number of pictures, of which there are at least 24.
        seed: As in the layout rsna.
        size_scale: Factor on rows and columns of about 500 x 667; no side gets below 96 pixels.
        prevalence: Checked, but of no meaning here.
        workers: As in rsna.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    wanted = Wanted(patients, seed, size_scale, prevalence, workers)
    wanted.check(out)
    flowers = _flowers(wanted)
    Parallel(n_jobs=workers)(delayed(_write_one)(out, flower, wanted) for flower in flowers)
    _write_table(out / "imagelabels.mat", {"labels": [f.label for f in flowers]}, np.uint8)
    sets: dict[str, list[int]] = {name: [] for name in SETS}
    count = len(_classes(wanted))
    for flower in flowers:
        sets[SETS[(flower.number - 1) // count % len(SETS)]].append(flower.number)
    _write_table(out / "setid.mat", sets, np.uint16)
