"""deq on real pixels: lesion patches of mini-MIAS against normal tissue, by patient.

    python benchmarks/mias_trial.py --input DIR [--work DIR] [--sheet FILE.png]

DIR is mini-MIAS or any part of its films (docs/sources/mias.md). ``mammoprep.build(roi=...)`` cuts
the patches, whole patients go into five folds, and ``mammotrain cv`` gives every patch a score by
the one model that saw nothing of its patient. The number of steps is fixed beforehand and the last
weights are scored: so few lesions cannot choose a checkpoint. Beside the score stand what grey
levels alone, black film alone and the masks alone tell. ``--sheet`` writes a mosaic of the patches,
lesions first; look at it before you believe a score, and keep it to yourself.
Writes benchmarks/results/mias_trial.json: figures only.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np
import torch
from numpy.typing import NDArray
from said import Said

import mammoprep
from mammoprep import repack
from mammoprep.samples import read_member, read_samples
from mammotrain import bootstrap, config, scores
from mammotrain.cross import cross
from mammotrain.run import Request
from mammotrain.thresholds import Judged

SIDE, SHRINK, FOLDS, TILES = 96, 2, 5, 16  # pixels, stored pixels a pixel, folds, tiles a lesion
SEEDS = (0, 1, 2)
BLACK = 20  # grey level below which a pixel shows no tissue
TRAIN = (
    f"data.size=[{SIDE}, {SIDE}]",
    "data.sampling=balanced",
    "data.augmentation={flip_horizontal = 0.5, flip_vertical = 0.5, rotate_degrees = 15.0, "
    "scale = [0.85, 1.15], shift = 0.1, brightness = 0.1, contrast = 0.1}",
    "train.batch_size=8",
    "train.max_steps=500",
    "train.epochs=1000",
    "train.validate_every=1000",
    "train.schedule=cosine",
    "train.warmup=0.1",
    "train.weight_decay=0.01",
    "train.optimiser=adamw",
    "train.validate=next-fold",
)


@dataclass(frozen=True)
class Patches:
    """The patches of a dataset.

    Attributes:
        keys: Names.
        pixels: (n, side, side), 8 bits.
        lesion: Whether each was cut around a lesion.
        parents: The films that they are of.
    """

    keys: tuple[str, ...]
    pixels: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    parents: tuple[str, ...]


def built(source: Path, work: Path) -> Path:
    """Return shards of patches in folds that each have their share of the lesions.

    A build spreads all films of the list over the folds, present or not; of a part of the films
    a fold could be left without a lesion.
    """
    mammoprep.build(
        source="mias", input=source, out=work / "patches", roi=f"{SIDE}x{SIDE}", roi_shrink=SHRINK,
        roi_ratio=f"1:{TILES}", missing="skip", folds=FOLDS,
    )  # fmt: skip
    repack.repack(work / "patches", work / "shards", folds=FOLDS, seed=0)
    return work / "shards"


def read(data: Path) -> Patches:
    _, rows = read_samples(data)
    found = [
        cv2.imdecode(np.frombuffer(read_member(data, row, "png"), np.uint8), 0) for row in rows
    ]
    return Patches(
        tuple(str(row["key"]) for row in rows),
        np.stack(found),
        np.array([bool(row["labels.abnormal"]) for row in rows]),
        tuple(str(row["parent"]) for row in rows),
    )


def mosaic(patches: Patches, path: Path) -> None:
    order = np.argsort(~patches.lesion, kind="stable")
    columns = 16
    padded = np.zeros((-(-len(order) // columns) * columns, SIDE, SIDE), np.uint8)
    padded[: len(order)] = patches.pixels[order]
    rows = padded.reshape(-1, columns, SIDE, SIDE).swapaxes(1, 2)
    cv2.imwrite(str(path), rows.reshape(-1, columns * SIDE))


def trial(data: Path, out: Path, patches: Patches, seed: int) -> dict[str, Any]:
    """Train every fold with one seed; return the figures of the pooled scores."""
    changes = (*TRAIN, f"train.seed={seed}")
    asked = Request(config.load("deq", changes), (str(data),), out, device="cpu")
    wall, processor = time.perf_counter(), time.process_time()
    report = cross(asked, Said())
    seconds = time.process_time() - processor, time.perf_counter() - wall
    others = report["baselines"]
    return {
        "seed": seed,
        "auroc": report["metrics"]["auroc"],
        "auroc_pooled": report["pooled"]["auroc"],
        "auroc_by_fold": {
            name: found["metrics"]["auroc"]["value"]
            for name, found in sorted(report["slices"]["fold"].items())
        },
        "shortcut_auroc": others["shortcut"]["metrics"]["auroc"],
        "gain_over_shortcut": others["shortcut"]["gain"]["auroc"],
        "black_auroc": black(patches, out),
        "processor_seconds": round(seconds[0], 1),
        "wall_seconds": round(seconds[1], 1),
    }


def black(patches: Patches, out: Path) -> dict[str, Any]:
    """Return the AUROC of the share of a patch that shows no tissue: the less, the more lesion."""
    share = dict(zip(patches.keys, (patches.pixels < BLACK).mean((1, 2)), strict=True))
    pooled = scores.read(out / "scores.csv")
    values = np.array([share[key] for key in pooled.key])
    judged = Judged(pooled.with_values(np.stack([values, 1 - values], axis=1)))
    return bootstrap.evaluate(judged, only=("auroc",))["auroc"].to_json()


def counted(patches: Patches) -> dict[str, int]:
    films = np.array(patches.parents)
    women = {(int(film[-3:]) + 1) // 2 for film in films[patches.lesion]}
    return {
        "lesions": int(patches.lesion.sum()),
        "women_with_lesions": len(women),
        "tiles": int((~patches.lesion).sum()),
        "films": len(np.unique(films)),
    }


def checked(data: Path) -> dict[str, Mapping[str, Any]]:
    """Return what the build's own shortcut check found."""
    found = json.loads((data / "dataset.json").read_text())["shortcuts"]
    kept = ("auroc", "auroc_low", "auroc_high", "classes")
    return {each["features"]: {name: each.get(name) for name in kept} for each in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="the folder of mini-MIAS")
    parser.add_argument("--work", type=Path, help="an empty folder to keep everything in")
    parser.add_argument("--sheet", type=Path, help="write a mosaic of the patches here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    before = machine.described("torch", "numpy", "mammoprep")
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        data = built(given.input, work)
        patches = read(data)
        if given.sheet:
            mosaic(patches, given.sheet)
        trials = [trial(data, work / f"seed{seed}", patches, seed) for seed in SEEDS]
        result = {
            "what": "deq on patches of mini-MIAS, lesion against normal tissue; out-of-fold scores "
            "of five folds pooled; intervals are 95 %, by resampling women",
            **before,
            "patch": {"pixels": SIDE, "stored_pixels_a_pixel": SHRINK},
            "counts": counted(patches),
            "settings": list(TRAIN),
            "trials": trials,
            "shortcuts_of_the_build": checked(data),
        }
    text = json.dumps(result, indent=2)
    print(text)
    (Path(__file__).parent / "results" / "mias_trial.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
