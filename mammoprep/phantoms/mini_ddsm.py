"""The layout of Mini-DDSM (2021), filled with phantoms."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from mammoprep.phantoms import _truth, _workbook
from mammoprep.phantoms._anatomy import Points
from mammoprep.phantoms._exposure import Exposure
from mammoprep.phantoms._film import developed
from mammoprep.phantoms._layouts import Shot, Wanted, write_bytes
from mammoprep.phantoms._lesions import Finding
from mammoprep.phantoms._tissue import fill

COLUMNS = (
    "fullPath",
    "fileName",
    "View",
    "Side",
    "Status",
    "Tumour_Contour",
    "Tumour_Contour2",
    "Age",
    "Density",
)
ROWS, LEAST_ROWS = 3000, 512
FILM_SCALE = 2
QUALITY = 95
SIDES = {"L": "LEFT", "R": "RIGHT"}
SUFFIXES = ("_Mask", "_MASK2")
TYPES = {
    "mass": "MASS SHAPE OVAL MARGINS ILL_DEFINED",
    "calcification": "CALCIFICATION TYPE PLEOMORPHIC DISTRIBUTION CLUSTERED",
}
ONLY_DRAWN = 3  # the findings of one patient in so many are drawn and not chain-coded
CODES = {
    (0, -1): 0,
    (1, -1): 1,
    (1, 0): 2,
    (1, 1): 3,
    (0, 1): 4,
    (-1, 1): 5,
    (-1, 0): 6,
    (-1, -1): 7,
}


@dataclass(frozen=True)
class _Film:
    """One film to be made.

    Attributes:
        shot: What is on it.
        place: The patient's, from 0; two patients share a number and differ in their letter.
        status: ``Normal``, ``Benign`` or ``Cancer``: the case's, in all of its films.
    """

    shot: Shot
    place: int
    status: str

    @property
    def folder(self) -> str:
        """Path of the case's folder."""
        return f"{self.status}/{self.place // 2 + 1:04d}"

    @property
    def name(self) -> str:
        """Name of the picture, without suffix."""
        case = f"{'AC'[self.place % 2]}_{self.place // 2 + 1:04d}_1"
        return f"{case}.{SIDES[self.shot.laterality]}_{self.shot.view}"

    @property
    def rows(self) -> int:
        """Rows of the picture; a drawn outline needs some to enclose anything."""
        return max(LEAST_ROWS, round(ROWS * self.shot.scale))


def _status(shot: Shot) -> str:
    sides = shot.patient.sides.values()
    if any(side.cancer for side in sides):
        return "Cancer"
    return "Benign" if any(side.findings for side in sides) else "Normal"


def _jpeg(values: NDArray[np.uint8]) -> bytes:
    _, coded = cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return coded.tobytes()


def _drawing(shape: tuple[int, ...], points: Points) -> bytes:
    """Return a picture of a finding's outline, two pixels wide, with the noise of JPEG."""
    canvas = np.zeros(shape, np.uint8)
    cv2.polylines(canvas, [np.round(points).astype(np.int32)], True, 255, 2)
    return _jpeg(canvas)


def _chain(shape: tuple[int, ...], points: Points) -> str:
    """Return a finding's outline as a start and directions, in the film's own pixels."""
    area = fill((shape[0] * FILM_SCALE, shape[1] * FILM_SCALE), points * FILM_SCALE)
    found, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    pixels = max(found, key=len)[:, 0]
    moves = np.roll(pixels, -1, axis=0) - pixels
    codes = (str(CODES[int(x), int(y)]) for x, y in moves)
    return f"{pixels[0, 0]} {pixels[0, 1]} {' '.join(codes)} # "


def _overlay(film: Exposure) -> bytes:
    lines = [f"TOTAL_ABNORMALITIES {len(film.lesions)}"]
    for place, (finding, points) in enumerate(film.lesions, 1):
        lines += _abnormality(place, finding, _chain(film.stored.shape, points))
    return "\n".join([*lines, ""]).encode()


def _abnormality(place: int, finding: Finding, chain: str) -> list[str]:
    return [
        f"ABNORMALITY {place}",
        f"LESION_TYPE {TYPES[finding.kind]}",
        f"ASSESSMENT {5 if finding.pathology == 'malignant' else 3}",
        "SUBTLETY 4",
        f"PATHOLOGY {finding.pathology.upper()}",
        "TOTAL_OUTLINES 1 ",
        "BOUNDARY",
        chain,
    ]


def _write_one(out: Path, film: _Film) -> tuple[object, ...]:
    """Write a film and its outlines, and return its row of the table."""
    shot, name = film.shot, f"{film.folder}/{film.name}"
    picture = developed(shot.expose(), shot.patient.machine, film.rows)
    write_bytes(out / f"{name}.jpg", _jpeg(picture.stored.astype(np.uint8)))
    (out / "truth").mkdir(exist_ok=True)
    _truth.write(out / "truth", film.name, picture, shot.patient.machine.name)
    contours = ["-", "-"]
    for place, (_, points) in enumerate(picture.lesions[: len(SUFFIXES)]):
        mask = f"{name}{SUFFIXES[place]}.jpg"
        write_bytes(out / mask, _drawing(picture.stored.shape, points))
        contours[place] = mask.replace("/", "\\")
    if picture.lesions and film.place % ONLY_DRAWN:
        write_bytes(out / f"{name}.OVERLAY", _overlay(picture))
    return (
        f"{name}.jpg".replace("/", "\\"),
        f"{film.name}.jpg",
        shot.view,
        SIDES[shot.laterality],
        film.status,
        *contours,
        shot.patient.age if film.place else "NaN",
        "ABCD".index(shot.patient.density) + 1,
    )


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of Mini-DDSM, and the truth beside them.

    Args:
        out: New or empty folder; gets ``DataWMask.xlsx``, a folder a status, and ``truth``.
        patients: As in the layout rsna; each has four films, and the first no known age.
        seed: As in rsna.
        size_scale: Factor on 3,000 rows; no film has less than 512.
        prevalence: As in rsna.
        workers: As in rsna.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    wanted = Wanted(patients, seed, size_scale, prevalence, workers)
    wanted.check(out)
    out.mkdir(parents=True, exist_ok=True)
    films: dict[str, _Film] = {}
    people: dict[int, int] = {}
    for shot in wanted.shots():
        place = people.setdefault(shot.patient.id, len(people))
        film = _Film(shot, place, _status(shot))
        films.setdefault(film.name, film)
    rows = Parallel(n_jobs=workers)(
        delayed(_write_one)(out, film) for film in sorted(films.values(), key=lambda f: f.name)
    )
    write_bytes(out / "DataWMask.xlsx", _workbook.to_bytes([COLUMNS, *rows], "Data"))
