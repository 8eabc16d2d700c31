"""The layout of the DDSM patches (2018), filled with pieces of phantoms."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from mammoprep.phantoms._cohort import generator
from mammoprep.phantoms._example import record
from mammoprep.phantoms._film import developed, mounted
from mammoprep.phantoms._layouts import Shot, Wanted, write_bytes

FILM, SIDE = 1200, 299
CUTS = 3  # of one finding
TILES = 2  # of one film without findings
FILES = 5
HELD_OUT = 4  # one patient in so many, and one tile
KINDS = {"test": "mass", "cv": "calcification"}
NORMAL = "NORMAL"
CLASSES = {
    ("benign", "calcification"): 1,
    ("benign", "mass"): 2,
    ("malignant", "calcification"): 3,
    ("malignant", "mass"): 4,
}
SIDES = {"L": "LEFT", "R": "RIGHT"}
GRAIN = 4.0  # grey levels
LEAST_MEAN = 20
MARGIN, ROOM = 1.2, 20  # about a finding: factor on its size, pixels
_CUT, _SHUFFLE = 21, 22


@dataclass(frozen=True)
class Patch:
    """One piece of a film.

    Attributes:
        pixels: uint8 (299, 299).
        label: Its class, 0 to 4.
        film: ``P_00001_LEFT_CC`` for a finding, or ``NORMAL``.
        place: ``P_00001_LEFT_CC 1``, the same for all pieces of one finding; or the film's name.
        corner: (x, y) of its first pixel on the film.
        turn: Quarters that it was turned by, and whether it was mirrored before.
    """

    pixels: NDArray[np.uint8]
    label: int
    film: str
    place: str
    corner: tuple[int, int]
    turn: tuple[int, bool]

    def truth(self) -> dict[str, Any]:
        """Return what is true of it as JSON values."""
        return {"label": self.label, "place": self.place, "corner": self.corner, "turn": self.turn}


def _cut(
    rng: np.random.Generator, film: NDArray[np.uint8], corner: tuple[int, int], label: int, of: str
) -> Patch:
    x, y = corner
    piece = film[y : y + SIDE, x : x + SIDE]
    quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    turned = np.rot90(piece[:, ::-1] if mirrored else piece, quarters)
    name = of.partition(" ")[0] if label else NORMAL
    return Patch(np.ascontiguousarray(turned), label, name, of, corner, (quarters, mirrored))


def _corner(rng: np.random.Generator, centre: Any, size: float) -> tuple[int, int]:
    """Return where a piece begins that has all of a finding, anywhere in it."""
    most = max(1, int(SIDE - MARGIN * size - ROOM) // 2)
    shift = rng.integers(-most, most + 1, 2)
    x, y = (int(value) for value in np.clip(centre + shift - SIDE // 2, 0, FILM - SIDE))
    return x, y


def _pieces(shot: Shot, patient: int) -> list[Patch]:
    """Return three pieces of every finding of a film, or tiles of one that has none."""
    rng = generator(shot.seed, _CUT, shot.patient.id, shot.index)
    film = mounted(developed(shot.expose(), shot.patient.machine, FILM), FILM)
    grain: Any = cv2.GaussianBlur(rng.normal(0, 1, film.stored.shape), (0, 0), 1.2)
    grey = np.clip(film.stored + GRAIN / grain.std() * grain, 0, 255).astype(np.uint8)
    name = f"P_{patient:05d}_{SIDES[shot.laterality]}_{shot.view}"
    found = []
    for number, (finding, points) in enumerate(film.lesions, 1):
        label = CLASSES[finding.pathology, finding.kind]
        low, high = points.min(axis=0), points.max(axis=0)
        for _ in range(CUTS):
            corner = _corner(rng, (low + high) / 2, float((high - low).max()))
            found.append(_cut(rng, grey, corner, label, f"{name} {number}"))
    starts = range(0, FILM - SIDE + 1, SIDE)
    corners = [(x, y) for y in starts for x in starts] if not film.lesions else []
    shown = [c for c in corners if grey[c[1] :, c[0] :][:SIDE, :SIDE].mean() > LEAST_MEAN]
    return found + [_cut(rng, grey, corner, 0, name) for corner in shown[:TILES]]


def _write_training(out: Path, patches: Sequence[Patch]) -> None:
    """Write five files; each lacks the last piece of its share, as the published ones do."""
    share = -(-len(patches) // FILES)
    for number in range(FILES):
        name = f"training10_{number}"
        kept = patches[number * share : (number + 1) * share - 1]
        records = (
            record(
                {
                    "label": patch.label,
                    "label_normal": int(patch.label > 0),
                    "filename": patch.film.encode("utf-32-le"),
                    "image": patch.pixels.tobytes(),
                }
            )
            for patch in kept
        )
        write_bytes(out / name / f"{name}.tfrecords", b"".join(records))
        _write_truth(out, name, kept)


def _write_held_out(out: Path, part: str, patches: Sequence[Patch]) -> None:
    name = f"{part}10"
    pixels = np.stack([patch.pixels for patch in patches])[..., None]
    labels = np.array([patch.label for patch in patches], np.int64)
    for path, values in ((f"{name}_data/{name}_data.npy", pixels), (f"{name}_labels.npy", labels)):
        buffer = io.BytesIO()
        np.save(buffer, values)
        write_bytes(out / path, buffer.getvalue())
    _write_truth(out, name, patches)


def _write_truth(out: Path, name: str, patches: Sequence[Patch]) -> None:
    text = json.dumps([patch.truth() for patch in patches], indent=1)
    write_bytes(out / "truth" / f"{name}.json", f"{text}\n".encode())


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.2,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of the DDSM patches, and the truth beside them.

    Every finding gives three pieces, shifted, turned and mirrored at random; a film without gives
    two tiles. All are shuffled. Findings of every fourth patient are in the pair ``test10`` when
    they are masses, else in ``cv10``; every fourth tile is in one of both, whosever it is.

    Args:
        out: New or empty folder; gets five folders with TFRecord files, two pairs of ``.npy``, and
            ``truth``, a list a file in its order, where ``place`` is the same for all pieces of one
            finding.
        patients: As in the layout rsna.
        seed: As in rsna.
        size_scale: How fine the films are; all pieces have 299 x 299 pixels.
        prevalence: As in rsna.
        workers: As in rsna.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    wanted = Wanted(patients, seed, size_scale, prevalence, workers)
    wanted.check(out)
    people: dict[int, int] = {}
    for shot in wanted.shots():
        people.setdefault(shot.patient.id, len(people) + 1)
    made = Parallel(n_jobs=workers)(
        delayed(_pieces)(shot, people[shot.patient.id]) for shot in wanted.shots()
    )
    pieces = [piece for film in made for piece in film]
    rng = generator(seed, _SHUFFLE)
    tiles = _shuffled(rng, [piece for piece in pieces if not piece.label])
    held = {"test": tiles[0 :: 2 * HELD_OUT], "cv": tiles[HELD_OUT :: 2 * HELD_OUT]}
    training = [tile for place, tile in enumerate(tiles) if place % HELD_OUT]
    for piece in pieces:
        if piece.label and int(piece.film[2:7]) % HELD_OUT:
            training.append(piece)
        elif piece.label:
            held["test" if piece.label in (2, 4) else "cv"].append(piece)
    _write_training(out, _shuffled(rng, training))
    for part, chosen in held.items():
        _write_held_out(out, part, _shuffled(rng, chosen))


def _shuffled(rng: np.random.Generator, pieces: Sequence[Patch]) -> list[Patch]:
    return [pieces[place] for place in rng.permutation(len(pieces))]
