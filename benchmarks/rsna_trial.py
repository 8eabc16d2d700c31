"""Screening recipes on phantoms in the layout of RSNA: what is learned, and what gives it away?

    python benchmarks/rsna_trial.py [--work DIR] [--threads N] [--only NAME]

Four views a patient, four machines, two sites, all columns of the table. Cancers have contrasts of
their own, from faint to plain; nine of ten are masses, as calcifications do not survive in small
pictures. Every file has exactly the grey values that it would have without its findings, at other
pixels: what brightness still tells comes of making the pictures smaller, where what is scattered
fades and a lesion does not. Prevalences are of images; in a cancer patient one of two breasts has
it.

* ``learned``: 20 %. A small network from random weights with all auxiliary heads over three folds
  of whole patients; beside it age, machine and view (``metadata``), grey levels (``shortcut``), the
  sharpness that the shards note, and an observer: a regression on the highest answers of blob
  filters of six widths. By kind and contrast of the cancer, which the truth beside the phantoms
  tells.
* ``shuffled``: the same pictures and settings, but everything that the table says of a breast goes
  to another breast of the same site.
* ``2 %, RECIPE``: every screening recipe end to end through ``cv`` at the real prevalence, in its
  small demo settings and a few steps: that all works, not how good it is.
* ``ablation``: ``cv --ablate`` of resnext, likewise, at 20 % of fewer patients.

The number of steps is fixed beforehand and the last weights are scored. Intervals are 95 %, by
resampling patients. Writes benchmarks/results/rsna_trial.json, figures only; with ``--work`` it
goes on where it was.
"""

import argparse
import csv
import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import described
from numpy.typing import NDArray
from said import Said
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mammoprep
from mammoprep.phantoms import rsna
from mammoprep.phantoms._layouts import Wanted
from mammoprep.samples import read_member, read_samples
from mammotrain import bootstrap, config, scores
from mammotrain.ablation import Ablation, ablate
from mammotrain.cross import cross
from mammotrain.run import Request
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged

RESULT = Path(__file__).parent / "results" / "rsna_trial.json"
SIZE, SCALE, FOLDS, SEED = "64x128", 0.04, 3, 3
CONTRAST = (1.5, 5.0)  # factor on what a cancer adds to the picture
INVASIVE = 0.9  # share of masses: at 2 mm a pixel nothing is left of most calcifications
FIXED = (
    "train.validate=next-fold",
    "train.validate_every=1000",
    "train.pretrained=none",
    "data.augment_on=cpu",
)
FEW = (*FIXED, "data.size=[64, 128]", "train.max_steps=60", "train.epochs=1000")
RECIPES = ("resnext", "vit", "convnext", "efficientnet-rsna", "cvae")
METRICS = ("auroc", "average_precision", "pf1", "f1", "balanced_accuracy")
OF_A_BREAST = ("cancer", "biopsy", "invasive", "BIRADS", "difficult_negative_case")
WIDTHS = (0.8, 1.2, 1.8, 2.7, 4.0, 6.0)  # of the observer's filters, pixels
BLACK = 12  # grey level below which a pixel shows no tissue

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cohort:
    """Phantoms of one prevalence.

    Attributes:
        name: Of its folders.
        patients: How many; a tenth of them is the test part, which has no labels.
        prevalence: Share of patients with cancer: twice the share of images.
    """

    name: str
    patients: int
    prevalence: float


MANY = Cohort("many", 700, 0.40)
REAL = Cohort("real", 400, 0.04)
FEWER = Cohort("fewer", 150, 0.40)


def whole(path: Path, make: Callable[[Path], object]) -> Path:
    """Return a folder that ``make`` has written, now or before."""
    if not path.is_dir():
        part = path.with_name(path.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        make(part)
        part.rename(path)
    return path


def phantoms(cohort: Cohort, work: Path) -> Path:
    wanted = Wanted(
        cohort.patients, SEED, SCALE, cohort.prevalence, 1, CONTRAST, matched=True,
        invasive=INVASIVE,
    )  # fmt: skip
    return whole(work / f"{cohort.name}-raw", lambda out: rsna.write_wanted(out, wanted))


def shuffled(raw: Path, out: Path) -> None:
    """Write the same pictures with the labels of each breast given to another of its site."""
    shutil.copytree(raw, out, copy_function=os.link)
    (out / "train.csv").unlink()  # a link: writing into it would change the other
    with (raw / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sites: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(dict)
    for row in rows:
        breast = row["patient_id"], row["laterality"]
        sites[row["site_id"]][breast] = [row[name] for name in OF_A_BREAST]
    rng = np.random.default_rng(SEED)
    for breasts in sites.values():
        order = rng.permutation(len(breasts))
        values = list(breasts.values())
        for place, breast in zip(order, list(breasts), strict=True):
            breasts[breast] = values[place]
    with (out / "train.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        for row in rows:
            labels = sites[row["site_id"]][row["patient_id"], row["laterality"]]
            table.writerow({**row, **dict(zip(OF_A_BREAST, labels, strict=True))})


def shards(raw: Path, out: Path) -> Path:
    mammoprep.build(source="rsna", input=raw, out=out, size=SIZE, folds=FOLDS)
    return out


def learned(work: Path) -> dict[str, Any]:
    """Train on the labels as they are."""
    raw = phantoms(MANY, work)
    data = shards(raw, work / "many")
    found = trained("resnext-small", FIXED, data, work / "learned")
    pooled = scores.read(work / "learned" / "scores.csv")
    rows = {str(row["key"]): row for row in read_samples(data)[1]}
    told = [rows[str(key)] for key in pooled.key]
    return {
        **found,
        "sharpness_auroc": sharpness(pooled, told),
        "observer_auroc": only_auroc(observer(pooled, data, told)),
        "by_cancer": by_cancer(pooled, raw, told),
    }


def without(work: Path) -> dict[str, Any]:
    """Train on labels that mean nothing."""
    raw = phantoms(MANY, work)
    other = whole(work / "shuffled-raw", lambda out: shuffled(raw, out))
    data = shards(other, work / "shuffled-shards")
    return trained("resnext-small", FIXED, data, work / "shuffled")


def real(recipe: str, work: Path) -> dict[str, Any]:
    """Run a recipe at the real prevalence, in the small settings of its demo."""
    data = shards(phantoms(REAL, work), work / "real")
    changes = (*config.load(recipe).demo.set, *FEW)
    return trained(recipe, changes, data, work / f"real-{recipe}")


def trained(recipe: str, changes: tuple[str, ...], data: Path, out: Path) -> dict[str, Any]:
    """Train every fold; return the figures of the pooled scores."""
    made, resume = config.load(recipe, changes), out.exists()
    asked = Request(made, (str(data),), out, device="cpu", resume=resume)
    wall, processor = time.perf_counter(), time.process_time()
    report = cross(asked, Said(every=50))
    seconds = time.process_time() - processor, time.perf_counter() - wall
    return {
        "recipe": recipe,
        "settings": list(changes),
        **figures(report),
        "steps_a_fold": steps(out),
        # of folds that were finished before only the scoring
        "processor_seconds": None if resume else round(seconds[0]),
        "wall_seconds": None if resume else round(seconds[1]),
    }


def steps(out: Path) -> int:
    lines = (out / "fold0" / "log.jsonl").read_text().splitlines()
    return max(int(json.loads(line)["step"]) for line in lines)


def figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a pooled report says, in short."""
    breast = report["levels"]["breast"]
    return {
        "images": report["n"],
        "patients": report["groups"],
        "positive_images": round(report["n"] * report["prevalence"]),
        "image": chosen(report["metrics"]),
        "image_pooled": report["pooled"],
        "breast": {"breasts": breast["n"], **chosen(breast["metrics"])},
        "auroc_by_fold": {
            name: part["metrics"]["auroc"]["value"]
            for name, part in sorted(report["slices"]["fold"].items())
        },
        "threshold_by_fold": report["threshold"],
        "measures": report["measures"],
        "baselines": {
            name: chosen(report["baselines"][name]["metrics"] or {}, ("auroc",))
            for name in ("metadata", "shortcut")
        },
        "gain_over_shortcut": report["baselines"]["shortcut"].get("gain", {}).get("auroc"),
    }


def chosen(metrics: Mapping[str, Any], names: tuple[str, ...] = METRICS) -> dict[str, Any]:
    return {name: metrics[name] for name in names if name in metrics}


def only_auroc(asked: Scores) -> dict[str, Any]:
    return bootstrap.evaluate(Judged(asked), only=("auroc",))["auroc"].to_json()


def as_scores(pooled: Scores, values: Floats) -> Scores:
    """Return the same samples with one number each for the second class."""
    return pooled.with_values(np.stack([1 - values, values], axis=1))


def sharpness(pooled: Scores, told: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the AUROC of the sharpness that the shards note, in the better direction."""
    share = rankdata([row["quality.sharpness"] for row in told]) / (len(told) + 1)
    both = [only_auroc(as_scores(pooled, values)) for values in (share, 1 - share)]
    return max(both, key=lambda found: float(found["value"]))


def observer(pooled: Scores, data: Path, told: list[dict[str, Any]]) -> Scores:
    """Return what a regression on blob filters says; fitted on the other folds."""
    table = np.array([answers(picture(data, row)) for row in told])
    found, folds = np.empty(len(told)), np.asarray(pooled.fold)
    for fold in np.unique(folds):
        inside = folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
        model.fit(table[~inside], pooled.label[~inside])
        found[inside] = model.predict_proba(table[inside])[:, 1]
    return as_scores(pooled, found)


def picture(data: Path, row: dict[str, Any]) -> NDArray[np.uint8]:
    coded = np.frombuffer(read_member(data, row, "png"), np.uint8)
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED), np.uint8)


def answers(shown: NDArray[np.uint8]) -> list[float]:
    """Return the highest and the twentieth highest answer of each blob filter inside the breast."""
    root = np.sqrt(shown.astype(np.float32))
    tissue = (cv2.GaussianBlur(shown, (0, 0), 2) > BLACK).astype(np.uint8)
    inside = cv2.erode(tissue, np.ones((9, 9))) > 0
    inside = inside if inside.sum() > 50 else shown > 0
    found = []
    for width in WIDTHS:
        blob = cv2.GaussianBlur(root, (0, 0), width) - cv2.GaussianBlur(root, (0, 0), 2 * width)
        highest = np.sort(blob[inside])[-20:] / blob[inside].std()
        found += [float(highest[-1]), float(highest[0])]
    return found


def by_cancer(pooled: Scores, raw: Path, told: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the AUROC of each sort of cancer against all images without one."""
    lesions = [truth(raw, row) if row["labels.cancer"] else [] for row in told]
    contrast = np.array([found[0]["contrast"] if found else np.nan for found in lesions])
    mass = np.array([any(each["kind"] == "mass" for each in found) for found in lesions], bool)
    cancer, cuts = pooled.label == 1, np.linspace(*CONTRAST, 4)
    parts = {"mass": mass & cancer, "calcifications alone": ~mass & cancer}
    for low, high in pairwise(cuts):
        parts[f"contrast {low:.2f} to {high:.2f}"] = (contrast >= low) & (contrast < high)
    return {
        name: {"images": int(part.sum()), "auroc": only_auroc(pooled.take(part | ~cancer))}
        for name, part in parts.items()
    }


def truth(raw: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    path = raw / "truth" / str(row["patient_id"]) / f"{row['image_id']}.json"
    found: list[dict[str, Any]] = json.loads(path.read_text())["lesions"]
    return found


def ablation(work: Path) -> dict[str, Any]:
    """Cross-validate resnext without one of its ingredients after the other."""
    data, out = shards(phantoms(FEWER, work), work / "fewer"), work / "ablation"
    changes = (*config.load("resnext").demo.set, *FEW)
    asked = Request(
        config.load("resnext", changes), (str(data),), out, device="cpu", resume=out.exists()
    )
    found = ablate(Ablation("resnext", changes, asked), Said(every=50))
    return {
        "settings": list(changes),
        **{k: found[k] for k in ("n", "groups")},
        "variants": {Path(run["run"]).name: variant(run, out) for run in found["runs"]},
    }


def variant(run: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Return a variant's figures and what it gains over the whole recipe, of the same samples."""
    name = Path(run["run"]).name
    breast = json.loads((out / name / "report.json").read_text())["levels"]["breast"]["metrics"]
    return {
        "image": chosen(run["metrics"]),
        "breast": chosen(breast),
        "gain": chosen(run["gains"] or {}, ("auroc",)),
    }


def parts(work: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what can be measured, by name."""
    return {
        "learned": partial(learned, work),
        "shuffled": partial(without, work),
        **{f"2 %, {name}": partial(real, name, work) for name in RECIPES},
        "ablation": partial(ablation, work),
    }


def measured(name: str, part: Callable[[], dict[str, Any]], work: Path) -> dict[str, Any]:
    """Return a part's figures: of now, or those that were finished before."""
    kept = work / f"{name.replace(' %, ', '-')}.json"
    if not kept.is_file():
        about = described("torch", "timm", "numpy", "mammoprep", device="cpu")
        kept.write_text(json.dumps({**part(), "run": about}, indent=1) + "\n")
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="a folder to keep everything in, and go on in")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="only what has this in its name, such as vit")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {"what": " ".join((__doc__ or "").split("\n\n")[2].split())}
    if RESULT.is_file():
        result = {**json.loads(RESULT.read_text()), **result}
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for name, part in parts(work).items():
            if given.only not in name:
                continue
            result[name] = measured(name, part, work)
            print(json.dumps(result[name], indent=1), flush=True)
            RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
