"""The layout of mini-MIAS (1994), filled with phantoms."""

from pathlib import Path

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from mammoprep.phantoms import _truth
from mammoprep.phantoms._anatomy import Points
from mammoprep.phantoms._exposure import Exposure
from mammoprep.phantoms._film import developed, mounted, turned_over
from mammoprep.phantoms._layouts import Shot, Wanted, write_bytes
from mammoprep.phantoms._lesions import Finding

FOLDER, SIDE, VIEW = "all-mias", 1024, "MLO"
TISSUE = {"A": "F", "B": "G", "C": "D", "D": "D"}
CLASSES = {
    ("mass", "benign"): "CIRC B",
    ("mass", "malignant"): "SPIC M",
    ("calcification", "benign"): "CALC B",
    ("calcification", "malignant"): "CALC M",
}
WHITE_EDGE = 5  # one film in so many has one
BORDER, WHITE = 0.03, 245
WITHOUT_PLACE = 4  # calcifications of one film in so many have no circle


def _film(shot: Shot, number: int) -> Exposure:
    """Return the film as the set shows it: mirrored, in a black square, some with a white edge."""
    film = turned_over(developed(shot.expose(), shot.patient.machine, SIDE))
    if number % WHITE_EDGE == 0:
        _whiten(film.stored if film.chest_wall == "left" else film.stored[:, ::-1])
    return mounted(film, SIDE)


def _whiten(stored: NDArray[np.uint16]) -> None:
    """Draw a white wedge along the right edge, wide at the bottom."""
    rows, columns = stored.shape
    wide = round(BORDER * columns)
    down, across = np.arange(rows)[:, None] / rows, np.arange(wide)[::-1] / wide
    stored[:, -wide:][down > across] = WHITE


def _row(number: int, tissue: str, finding: Finding, points: Points) -> str:
    """Return a line of the list: the circle's y counts from the bottom."""
    what = f"mdb{number:03d} {tissue} {CLASSES[finding.kind, finding.pathology]}"
    if finding.kind == "calcification" and number % WITHOUT_PLACE == 0:
        return f"{what} *NOTE 3*"
    (x, y), radius = cv2.minEnclosingCircle(points.astype(np.float32))
    return f"{what} {round(x)} {round(SIDE - y)} {max(1, round(radius))}"


def _write_one(out: Path, shot: Shot, number: int) -> list[str]:
    film = _film(shot, number)
    name = f"mdb{number:03d}"
    _, coded = cv2.imencode(".pgm", film.stored.astype(np.uint8))
    write_bytes(out / FOLDER / f"{name}.pgm", coded.tobytes())
    (out / "truth").mkdir(exist_ok=True)
    _truth.write(out / "truth", name, film, shot.patient.machine.name)
    tissue = TISSUE[shot.patient.density]
    rows = [_row(number, tissue, finding, points) for finding, points in film.lesions]
    return rows or [f"{name} {tissue} NORM "]


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of mini-MIAS, and the truth beside them.

    Args:
        out: New or empty folder; gets ``all-mias`` with ``Info.txt``, and ``truth``.
        patients: As in the layout rsna; each has two films, left and right MLO.
        seed: As in rsna.
        size_scale: How fine the films are; all pictures have 1024 x 1024 pixels.
        prevalence: As in rsna.
        workers: As in rsna.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    wanted = Wanted(patients, seed, size_scale, prevalence, workers)
    wanted.check(out)
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    films: dict[int, Shot] = {}
    people: dict[int, int] = {}
    for shot in wanted.shots():
        place = people.setdefault(shot.patient.id, len(people))
        if shot.view == VIEW:
            films.setdefault(2 * place + 1 + (shot.laterality == "R"), shot)
    made = Parallel(n_jobs=workers)(
        delayed(_write_one)(out, shot, number) for number, shot in sorted(films.items())
    )
    lines = [line for rows in made for line in rows]
    (out / FOLDER / "Info.txt").write_text("\n".join(lines), encoding="ascii", newline="\r\n")
