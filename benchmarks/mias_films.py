"""efficientnet on whole films of mini-MIAS: normal or abnormal, by patient, from random weights.

    python benchmarks/mias_films.py --input DIR [--work DIR] [--threads N]

DIR is mini-MIAS or any part of it (docs/sources/mias.md). Whole films at 128 x 256 pixels, five
folds of whole patients; the number of steps is fixed beforehand and the last weights are scored.
Beside them: the most frequent class, and grey level alone. With so few films the interval is the
result. Writes benchmarks/results/mias_films.json: figures only.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import described
from said import Said

import mammoprep
from mammoprep import repack
from mammotrain import config
from mammotrain.cross import cross
from mammotrain.run import Request

FOLDS = 5
RESULT = Path(__file__).parent / "results" / "mias_films.json"
SETTINGS = (
    "task.target=abnormal", "data.size=[]", "train.batch_size=8", "train.max_steps=200",
    "train.epochs=1000", "train.validate_every=1000", "train.patience=0", "train.lr=1e-3",
    "train.warmup=0.1", "train.layer_decay=0", "train.ema=0", "train.pretrained=none",
    "data.augment_on=cpu", "train.validate=next-fold",
)  # fmt: skip
ONLY = ("auroc", "accuracy", "balanced_accuracy", "f1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="the folder of mini-MIAS")
    parser.add_argument("--work", type=Path, help="a folder to keep everything in, and go on in")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = {
        "what": "efficientnet from random weights on whole films of mini-MIAS, abnormal or not; "
        "out-of-fold scores of five folds, ranked within folds; intervals are 95 %, by resampling "
        "women",
        **described("torch", "timm", "mammoprep"),
        "settings": list(SETTINGS),
    }
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        mammoprep.build(
            source="mias", input=given.input, out=work / "built", size="128x256", missing="skip",
            folds=FOLDS,
        )  # fmt: skip
        if not (work / "shards" / "dataset.json").is_file():
            # folds of the films that are there: those of the whole list may lack abnormal ones
            repack.repack(work / "built", work / "shards", folds=FOLDS, seed=0)
        out, begun = work / "cv", time.perf_counter()
        asked = Request(
            config.load("efficientnet", SETTINGS), (str(work / "shards"),), out, device="cpu",
            resume=out.exists(),
        )  # fmt: skip
        report = cross(asked, Said())
        result |= {
            "films": report["n"],
            "women": report["groups"],
            "metrics": {name: report["metrics"][name] for name in ONLY},
            "pooled": report["pooled"],
            "baselines": {
                kind: {name: other["metrics"][name] for name in ONLY if name in other["metrics"]}
                for kind, other in report["baselines"].items()
                if other["metrics"]
            },
            "wall_seconds": round(time.perf_counter() - begun, 1),
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
