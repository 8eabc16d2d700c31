"""Does deq find what is there? A phantom whose difficulty is known before anything is trained.

    python benchmarks/phantom_auroc.py [--work DIR]

Patches of correlated noise; every second one of a patient has a faint Gaussian lesion somewhere.
Each patch is given the same set of grey values, and then a brightness and a contrast that are drawn
without a look at the class: no statistic of grey values can tell the classes apart. The lesion's
contrast is what brings an observer who knows its shape and the noise's spectrum, but not the place,
to an AUROC of 0.97: the maximum over all places of the prewhitened matched filter.

The patches become shards by ``mammoprep.build(source="table")``, and ``mammotrain.run`` trains the
recipe deq on them, on one thread. What must hold on held-out patients: deq reaches 0.90 within ten
minutes of processor time; the grey-level baseline's interval holds 0.5; and with classes shuffled
over all patches so does deq's. Writes benchmarks/results/phantom_auroc.json; the exit status is 1
when something does not hold.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.metrics import roc_auc_score

import mammoprep
from mammotrain import config
from mammotrain.run import Request, run
from mammotrain.watching import Watcher

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

DIFFICULTY, TOLERANCE = 0.97, 0.005  # AUROC of the observer
GOAL, LIMIT = 0.90, 600.0  # AUROC of deq; processor seconds of its training
MID, SPREAD = (112.0, 144.0), (18.0, 28.0)  # mean and deviation of a patch's grey values
TRAIN = (
    "data.size=[64, 64]",
    "train.batch_size=8",
    "train.epochs=3",
    "train.schedule=cosine",
    "train.warmup=0.04",
    "train.lr=2e-3",
)
SHORTER = ("train.epochs=1",)


@dataclass(frozen=True)
class Phantom:
    """How patches are made.

    Attributes:
        contrast: Height of a lesion; the noise's standard deviation is 1.
        pixels: Side of a patch.
        sigma: Of the lesion, pixels.
        slope: Of the noise's power over frequency, in powers: 3 is about that of breast tissue.
        grain: Share of white noise in the variance.
        margin: Least distance of a lesion's centre from the border, pixels.
    """

    contrast: float = 0.0
    pixels: int = 64
    sigma: float = 3.0
    slope: float = 3.0
    grain: float = 0.6
    margin: int = 10


def power(phantom: Phantom) -> Floats:
    """Return the noise's mean power at each frequency of an FFT, (pixels, pixels)."""
    axis = np.fft.fftfreq(phantom.pixels) * phantom.pixels
    distance = np.hypot(axis[:, None], axis)
    tissue = np.where(distance > 0, np.maximum(distance, 1.0) ** -phantom.slope, 0.0)
    tissue *= phantom.pixels**2 / tissue.sum()
    found: Floats = (1 - phantom.grain) * tissue + phantom.grain
    found[0, 0] = 0.0
    return found


def draw(phantom: Phantom, labels: NDArray[np.int64], seed: int) -> Floats:
    """Return noise with a lesion where the label is 1, (n, pixels, pixels).

    What is drawn does not depend on the labels: the same seed gives the same noise and places.
    """
    rng = np.random.default_rng(seed)
    side, shape = phantom.pixels, np.sqrt(power(phantom))
    axis = np.arange(side) + 0.5
    found = np.empty((len(labels), side, side))
    for place, label in enumerate(labels):
        white = rng.standard_normal((side, side))
        centre = rng.uniform(phantom.margin, side - phantom.margin, 2)
        row, column = np.exp(-((axis - centre[:, None]) ** 2) / (2 * phantom.sigma**2))
        found[place] = np.fft.ifft2(np.fft.fft2(white) * shape).real
        found[place] += label * phantom.contrast * row[:, None] * column
    return found


def equalised(patches: Floats, seed: int) -> Bytes:
    """Return patches of 8 bits; all have one histogram, but for a brightness and a contrast.

    A patch's values are replaced by the normal quantiles of their ranks. Brightness and contrast
    depend on the seed and the patch's number alone.
    """
    count, pixels = len(patches), patches[0].size
    quantiles = ndtri((np.arange(pixels) + 0.5) / pixels)
    levels = np.empty((count, pixels))
    np.put_along_axis(levels, patches.reshape(count, -1).argsort(1), quantiles[None], 1)
    rng = np.random.default_rng((seed, 1))
    middle, spread = rng.uniform(*MID, (count, 1)), rng.uniform(*SPREAD, (count, 1))
    grey = np.rint(middle + spread * levels)
    return grey.clip(0, 255).astype(np.uint8).reshape(patches.shape)


def observer(phantom: Phantom, patches: Bytes) -> Floats:
    """Return the highest response of the prewhitened matched filter in each patch, (n,).

    It looks at what the model sees, the finished patches, each with its mean taken off and divided
    by its deviation, and at all places where a lesion's centre may be.
    """
    side = phantom.pixels
    away = (np.arange(side) + side // 2) % side - side // 2
    line = np.exp(-(away**2) / (2 * phantom.sigma**2))
    noise = power(phantom)
    weight = np.divide(1.0, noise, out=np.zeros_like(noise), where=noise > 0)
    known = np.conj(np.fft.fft2(line[:, None] * line)) * weight
    grey = patches.astype(np.float64)
    plain = (grey - grey.mean((1, 2), keepdims=True)) / grey.std((1, 2), keepdims=True)
    response = np.fft.ifft2(np.fft.fft2(plain) * known).real
    inside = slice(phantom.margin, side - phantom.margin)
    found: Floats = response[:, inside, inside].max((1, 2))
    return found


def halves(count: int) -> NDArray[np.int64]:
    return np.arange(count) % 2


def difficulty(phantom: Phantom, count: int, seed: int) -> float:
    """Return the observer's AUROC on new patches."""
    labels = halves(count)
    patches = equalised(draw(phantom, labels, seed), seed)
    return float(roc_auc_score(labels, observer(phantom, patches)))


def calibrated(phantom: Phantom, count: int, seed: int) -> Phantom:
    """Return the phantom with the contrast at which the observer's AUROC is ``DIFFICULTY``.

    The noise is the same for every contrast that is tried, so that the AUROC rises with it.
    """
    low, high = 1.0, 4.0
    while high - low > 0.01:
        middle = (low + high) / 2
        easy = difficulty(replace(phantom, contrast=middle), count, seed) > DIFFICULTY
        low, high = (low, middle) if easy else (middle, high)
    return replace(phantom, contrast=(low + high) / 2)


@dataclass(frozen=True)
class Sample:
    """Patches of several patients.

    Attributes:
        phantom: How they are made.
        patients: How many.
        each: Patches of one, half of them with a lesion.
        seed: Of everything.
    """

    phantom: Phantom
    patients: int
    each: int
    seed: int

    def labels(self, *, shuffled: bool = False) -> NDArray[np.int64]:
        """Return 1 for a lesion; shuffled over all patches it means nothing any more."""
        labels = halves(self.patients * self.each)
        return np.random.default_rng(self.seed).permutation(labels) if shuffled else labels

    def patches(self) -> Bytes:
        """Return what everything is trained and tried on."""
        return equalised(draw(self.phantom, self.labels(), self.seed), self.seed)


def name_of(sample: Sample, place: int) -> str:
    return f"p{place // sample.each:04d}-{place % sample.each:02d}"


def shards(sample: Sample, patches: Bytes, out: Path, folds: int, *, shuffled: bool) -> Path:
    """Write patches and their table, and build shards of them."""
    images, made = out / "images", out / ("shuffled" if shuffled else "shards")
    images.mkdir(parents=True, exist_ok=True)
    table = out / f"{made.name}.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "patient_id", "label", "abnormal"))
        for place, label in enumerate(sample.labels(shuffled=shuffled)):
            name = name_of(sample, place)
            if not (images / f"{name}.png").is_file():
                cv2.imwrite(str(images / f"{name}.png"), patches[place])
            kind = "lesion" if label else "background"
            rows.writerow((f"{name}.png", name.partition("-")[0], kind, label))
    side = f"{sample.phantom.pixels}x{sample.phantom.pixels}"
    mammoprep.build(
        source="table", input=images, table=table, out=made, size=side, crop="none", orient="none",
        folds=folds, label_names="background,lesion",
    )  # fmt: skip
    return made


class Said(Watcher):
    """Prints every hundredth step and each validation."""

    def step(self, line: dict[str, Any]) -> None:
        """Print a loss."""
        if line["step"] % 100 == 0:
            print(f"step {line['step']}: loss {line['loss']:.3f}", flush=True)

    def validated(self, line: dict[str, Any]) -> None:
        """Print a score."""
        print(f"step {line['step']}: AUROC {line['validation']['auroc']:.4f}", flush=True)


def trained(data: Path, out: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Run the recipe; return what its report says, and the seconds it took.

    The seconds hold all of the run: reading, training, validation, scores and report.
    """
    asked = Request(config.load("deq", changes), (str(data),), out, device="cpu")
    wall, processor = time.perf_counter(), time.process_time()
    report = run(asked, Said())
    seconds = time.process_time() - processor, time.perf_counter() - wall
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    batch = asked.config.train.batch_size
    return {
        "settings": list(changes),
        "patches_seen": len(steps) * batch,
        "processor_seconds": round(seconds[0], 1),
        "wall_seconds": round(seconds[1], 1),
        "scored": {"patches": report["n"], "patients": report["groups"]},
        "validation_auroc_by_patches_seen": {
            str(line["step"] * batch): round(line["validation"]["auroc"], 4)
            for line in lines
            if "validation" in line
        },
        "auroc": report["metrics"]["auroc"],
        "shortcut_auroc": report["baselines"]["shortcut"]["metrics"]["auroc"],
        "solver_steps_at_the_end": round(steps[-1]["solver_steps"], 1),
        "share_unconverged": float(np.mean([line["solver_unconverged"] for line in steps])),
    }


def observed(sample: Sample, patches: Bytes, out: Path) -> float:
    """Return the observer's AUROC on the very patches that a run scored."""
    with (out / "scores.csv").open() as file:
        keys = {row["key"] for row in csv.DictReader(file)}
    places = [p for p in range(len(patches)) if f"table_{name_of(sample, p)}" in keys]
    said = observer(sample.phantom, patches[places])
    return float(roc_auc_score(sample.labels()[places], said))


def checked(data: Path) -> dict[str, list[float]]:
    """Return what the build's own shortcut check found on all patches: AUROC, low, high."""
    found = json.loads((data / "dataset.json").read_text())["shortcuts"]
    names = ("auroc", "auroc_low", "auroc_high")
    return {each["features"]: [each[name] for name in names] for each in found if each.get("auroc")}


def holds(interval: Sequence[float], value: float = 0.5) -> bool:
    return interval[0] <= value <= interval[1]


def verdicts(found: dict[str, Any]) -> dict[str, bool]:
    """Return what had to hold, and whether it does."""
    deq, nothing = found["deq"], found["deq_on_shuffled_classes"]
    new = found["observer"]["auroc_on_new_patches"]
    return {
        f"observer within {TOLERANCE} of {DIFFICULTY}": abs(new - DIFFICULTY) <= TOLERANCE,
        f"deq at least {GOAL}": deq["auroc"]["value"] >= GOAL,
        f"within {LIMIT:.0f} processor seconds": deq["processor_seconds"] <= LIMIT,
        "shortcut's interval holds 0.5": holds(deq["shortcut_auroc"]["ci95"]),
        "interval on shuffled classes holds 0.5": holds(nothing["auroc"]["ci95"]),
    }


def measure(work: Path) -> dict[str, Any]:
    """Calibrate, build, train twice; return all figures."""
    phantom = calibrated(Phantom(), 16_000, seed=1)
    new = difficulty(phantom, 40_000, seed=2)
    print(f"contrast {phantom.contrast:.3f}: observer {new:.4f} on new patches", flush=True)
    sample = Sample(phantom, patients=1600, each=8, seed=3)
    patches = sample.patches()
    begun = time.perf_counter()
    data = shards(sample, patches, work, 8, shuffled=False)
    built = time.perf_counter() - begun
    deq = trained(data, work / "deq", TRAIN)
    print(f"deq {deq['auroc']} in {deq['processor_seconds']} processor seconds", flush=True)
    nonsense = shards(sample, patches, work, 8, shuffled=True)
    return {
        "phantom": asdict(phantom),
        "observer": {
            "auroc_on_new_patches": round(new, 4),
            "new_patches": 40_000,
            "auroc_on_the_patches_that_deq_is_scored_on": round(
                observed(sample, patches, work / "deq"), 4
            ),
        },
        "patches": len(patches),
        "patients": sample.patients,
        "build_wall_seconds": round(built, 1),
        "shortcuts_of_the_build": checked(data),
        "deq": deq,
        "deq_on_shuffled_classes": trained(nonsense, work / "shuffled-deq", (*TRAIN, *SHORTER)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="an empty folder to keep everything in")
    kept = parser.parse_args().work
    torch.set_num_threads(1)
    before = machine.described("torch", "numpy", "mammoprep")
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(kept or Path(scratch))
    result = {
        "what": "deq on patches in which an observer who knows shape and noise, not place, has a "
        "known AUROC; intervals are 95 %, by resampling held-out patients",
        **before,
        **found,
        "holds": verdicts(found),
    }
    text = json.dumps(result, indent=2)
    print(text)
    (Path(__file__).parent / "results" / "phantom_auroc.json").write_text(text + "\n")
    return 0 if all(result["holds"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
