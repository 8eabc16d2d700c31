"""The three ultrasound experiments at 112 px from random weights: how much of a score is the mask?

    python benchmarks/busi_trial.py --input DIR [--work DIR] [--threads N] [--only NAME]

DIR is BUSI or any part of it (docs/sources/busi.md). DenseNet-121 tells normal, benign and
malignant apart over five folds that keep clusters of near-duplicates together. It sees: the
picture; the picture with levelled classes; the same where a mask is set, or around it. What else
differs (turns, sampling) stands in the recipes. The mask is the annotator's (``truth``: it says
already that there is a lesion, and its shape which) or that of a U-Net which has not seen the
cluster (``predicted``). The number of steps is fixed beforehand and the last weights are scored.
Beside them: the most frequent class, grey level, and a regression on nine numbers of the mask: its
shape, and the grey level inside.

Writes benchmarks/results/busi_trial.json, figures only; with ``--work`` it goes on where it was.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import described
from said import Said

import mammoprep
from mammotrain import baselines, bootstrap, comparison, config, first, scores, setup
from mammotrain.cross import cross
from mammotrain.data.splits import NEXT_FOLD, Side, choose
from mammotrain.run import Request
from mammotrain.thresholds import Judged

FOLDS, STEPS, SIDE = 5, 300, 128
RESULT = Path(__file__).parent / "results" / "busi_trial.json"
SMALL = (
    f"data.size=[{SIDE}, {SIDE}]", "data.augmentation.window=[112, 112]", "train.lr=5e-4",
    "train.schedule=cosine", "train.warmup=0.067", f"train.max_steps={STEPS}",
    "train.batch_size=16", "train.epochs=1000", "train.validate_every=1000", "train.patience=0",
    "train.pretrained=none", "train.amp=bf16", "data.augment_on=cpu",
    "train.validate=next-fold",
)  # fmt: skip
# of the U-Net that predicts the masks: as in unet_trial.py, 10 epochs
FIRST = (
    'first.set=["train.validate=next-fold", "data.size=[]", "train.ema=0", "train.patience=0", '
    '"train.pretrained=none", '
    '"train.epochs=10", "train.warmup=0.1", "train.validate_every=1000", "train.amp=none", '
    '"data.augment_on=cpu"]'
)
RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("densenet", ()),
    "balanced": ("densenet-balanced", ()),
    "intersection, predicted mask": ("densenet-intersection", (FIRST,)),
    "intersection, true mask": ("densenet-intersection", ("first.mask=truth",)),
    "around the predicted mask": ("two-stage", (FIRST,)),
}
OTHERS = ("majority", "shortcut", "mask")
ONLY = ("accuracy", "macro_auroc", "macro_f1", "balanced_accuracy")


def folder_of(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def trained(name: str, data: Path, work: Path) -> dict[str, Any]:
    """Train five folds of one experiment; return the figures of the pooled scores."""
    recipe, changes = RECIPES[name]
    out = work / folder_of(name)
    asked = Request(
        config.load(recipe, (*SMALL, *changes)), (str(data),), out, device="cpu",
        resume=out.exists(),
    )  # fmt: skip
    report = cross(first.ready(asked, Said(every=50), place=work / "first"), Said(every=50))
    alone = report["baselines"].get("mask", {}).get("metrics") or {}
    return {
        "recipe": recipe,
        "pictures": report["n"],
        "clusters": report["groups"],
        "metrics": {key: report["metrics"][key] for key in ONLY},
        "pooled": report["pooled"],
        "its_mask_alone": {key: alone[key] for key in ONLY if key in alone},
    }


def beside(kind: str, data: Path) -> dict[str, Any]:
    """Return what a baseline reaches over the same folds without looking for a disease."""
    table = setup.open_shards(config.load("densenet", SMALL), (str(data),))
    columns: dict[str, Any] = dict(table.columns)
    labels = np.array(columns["label"], np.int64)
    names = table.label_names
    parts = {}
    for fold in range(FOLDS):
        roles = choose(columns, Side(fold), NEXT_FOLD)
        said = baselines.predict(kind, columns, labels, roles.train, roles.score, len(names))
        if said.values is None:
            raise SystemExit(f"{kind}: {said.reason}")
        parts[f"fold{fold}"] = scores.from_columns(
            columns, roles.score, labels[roles.score], said.values, names
        )
    pooled = scores.join(parts)
    estimates = bootstrap.evaluate(Judged(pooled), only=ONLY)
    return {"metrics": {name: each.to_json() for name, each in estimates.items()}}


def checked(data: Path) -> dict[str, Any]:
    """Return what the build's own shortcut check found: one classifier a kind of number."""
    found = json.loads((data / "dataset.json").read_text())["shortcuts"]
    kept = ("auroc", "auroc_low", "auroc_high", "accuracy", "majority")
    return {each["features"]: {k: each[k] for k in kept if k in each} for each in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="the folder of BUSI")
    parser.add_argument("--work", type=Path, help="a folder to keep everything in, and go on in")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="only what has this in its name, such as plain")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        data = work / "shards"
        mammoprep.build(
            source="busi", input=given.input, out=data, size=f"{SIDE}x{SIDE}", missing="skip",
            folds=FOLDS, intersection=True,
        )  # fmt: skip
        result: dict[str, Any] = {
            "what": "DenseNet-121 from random weights on BUSI at 112 of 128 pixels, three classes; "
            "out-of-fold scores of five folds, ranked within folds; intervals are 95 %, by "
            "resampling clusters of near-duplicates",
            **described("torch", "timm", "mammoprep"),
            "settings": [*SMALL, FIRST],
            "shortcuts_of_the_build": checked(data),
            "found": json.loads(RESULT.read_text())["found"] if RESULT.is_file() else {},
        }
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            **{k: lambda k=k: beside(k, data) for k in OTHERS},  # type: ignore[misc]
            **{k: lambda k=k: trained(k, data, work) for k in RECIPES},  # type: ignore[misc]
        }
        for name, part in parts.items():
            if given.only in name:
                result["found"][name] = part()
                RESULT.write_text(json.dumps(result, indent=2) + "\n")
                print(name, json.dumps(result["found"][name]["metrics"]), flush=True)
        done = [work / folder_of(name) for name in RECIPES if name in result["found"]]
        if all((each / "report.json").is_file() for each in done) and len(done) > 1:
            page = comparison.page(comparison.compare(done), "Ultrasound at 112 px")
            (work / "compared.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
