"""unet on real pixels: does it learn at all, and what does it find in pictures it has not seen?

    python benchmarks/unet_trial.py --mini-ddsm DIR --busi DIR [--work DIR]

Each DIR is the dataset or any part of it (docs/sources). Two questions, random initial weights:

* ``seen``: films of Mini-DDSM with outlines, and patches of them (one around each lesion, as many
  of tissue without), learned by heart. Dice on the same pictures: a proof that it can, no score.
* ``unseen``: BUSI at 128 x 128 pixels by five folds that keep near-duplicates together; the number
  of steps is fixed beforehand, the last weights are scored, every picture by the model that has not
  seen its cluster. Beside it the best fixed mask: the mean training mask above the level that is
  best on the training pictures, the same for every picture.

Writes benchmarks/results/unet_trial.json: figures only.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from numpy.typing import NDArray
from said import Said

import mammoprep
from mammotrain import config, distributed, evaluate, measures, optim, setup, trainer
from mammotrain.cross import cross
from mammotrain.data.pictures import Stored
from mammotrain.data.splits import NEXT_FOLD, Roles, Side, choose
from mammotrain.run import Request
from mammotrain.tasks import _masks, segment
from mammotrain.trainer import Job, Progress

FOLDS = 5
RESULT = Path(__file__).parent / "results" / "unet_trial.json"
PLAIN = (
    "data.augmentation={}", "data.size=[]", "model.tile=[]", "task.smallest=0", "train.ema=0",
    "train.patience=0", "train.pretrained=none", "train.epochs=1000", "train.warmup=0.07",
)  # fmt: skip
BY_HEART = (*PLAIN, "train.batch_size=6", "train.max_steps=300", "train.lr=2e-3")
UNSEEN = (
    *PLAIN, "train.validate=next-fold", "train.batch_size=16", "train.epochs=10",
    "train.validate_every=1000",
    "data.augmentation={flip_horizontal = 0.5, rotate_degrees = 10.0, scale = [0.85, 1.15], "
    "shift = 0.05, brightness = 0.1, contrast = 0.2, gamma = 0.2}",
)  # fmt: skip


def by_heart(data: Path, out: Path) -> dict[str, Any]:
    """Train on every annotated picture and score the same ones."""
    found = config.load("unet", BY_HEART)
    with distributed.joined("cpu") as world:
        table = setup.open_shards(found, (str(data),))
        rows = np.flatnonzero(segment.known(table.columns, found.task)).astype(np.int64)
        made = setup.prepare(found, table, Side(), world)
        made = replace(made, roles=Roles(rows, rows, rows, "seen"))
        loader = made.loader(rows, training=True)
        model = made.model().to(memory_format=torch.channels_last)
        job = Job(
            model=model, task=made.task, optimiser=optim.optimiser(model, found.train),
            average=None, batches=lambda epoch, place: made.stream(loader, epoch, place),
            steps_per_epoch=len(loader), prepare=made.shown, validate=lambda _: {"dice": 0.0},
            config=replace(found.train, validate_every=1000), world=world,
            folder=out / "checkpoints", watcher=Said(every=20),
        )  # fmt: skip
        begun = time.perf_counter()
        trainer.fit(job, Progress())
        seconds = time.perf_counter() - begun
        scored = evaluate.score(made, model, rows)
    return {
        "pictures": len(rows),
        "with_a_lesion": int((made.task.classes[rows] == 1).sum()),
        "pixels": [loader.shape.columns, loader.shape.rows],
        "steps": job.total_steps,
        "seconds": round(seconds, 1),
        **{name: round(value, 4) for name, value in measures.values(scored.measures).items()},
        "lowest_dice": round(float(lowest(scored.measures["dice"])), 4),
    }


def lowest(pair: NDArray[np.float64]) -> float:
    return float(pair[pair[:, 1] > 0, 0].min())


def unseen(data: Path, out: Path) -> dict[str, Any]:
    """Return the pooled figures of five folds."""
    asked = Request(config.load("unet", UNSEEN), (str(data),), out, device="cpu")
    report = cross(replace(asked, resume=out.exists()), Said(every=20))
    return {
        "pictures": report["n"],
        "clusters": report["groups"],
        "measures": report["measures"],
        "auroc_of_any_lesion": report["metrics"]["auroc"],
        "shortcut_auroc": report["baselines"]["shortcut"]["metrics"]["auroc"],
    }


def fixed(data: Path) -> dict[str, Any]:
    """Return the same measures of one fixed mask a fold."""
    table = setup.open_shards(config.load("unet", UNSEEN), (str(data),))
    rows = np.arange(len(table))
    source = Stored(table, rows, masks=True)
    shape = (len(rows), 1, source.shape.rows, source.shape.columns)
    masks = np.empty(shape, np.uint8)
    for row in rows:
        source.mask(int(row), masks[row])
    flags, pairs, groups = masks[:, 0] > 0, [], []
    for fold in range(FOLDS):
        roles = choose(table.columns, Side(fold), NEXT_FOLD)
        said = level(flags[roles.train])
        pairs += [_masks.measured(flags[row], said, 0.1) for row in roles.score]
        groups += [str(table.columns["group"][row]) for row in roles.score]
    stacked = {name: np.array([pair[name] for pair in pairs]) for name in pairs[0]}
    found = measures.estimates(stacked, np.array(groups))
    return {name: each.to_json() for name, each in found.items()}


def level(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the mean mask is above the level of the highest mean Dice on these masks."""
    mean, positive = masks.mean(0), masks[masks.any((1, 2))]

    def dice(said: NDArray[np.bool_]) -> float:
        both = (positive & said).sum((1, 2))
        return float((2 * both / (positive.sum((1, 2)) + said.sum())).mean())

    score: Callable[[float], float] = lambda cut: dice(mean >= cut)  # noqa: E731
    return np.asarray(mean >= max(np.linspace(0.02, mean.max(), 40), key=score))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mini-ddsm", type=Path, required=True)
    parser.add_argument("--busi", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="a folder to keep everything in, and go on in")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="only what has this in its name, such as unseen")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        options = {"source": "mini-ddsm", "input": given.mini_ddsm, "missing": "skip"}
        mammoprep.build(**options, out=work / "films", size="128x256", folds=FOLDS)
        mammoprep.build(**options, out=work / "patches", roi="128x128", folds=FOLDS)
        mammoprep.build(
            source="busi", input=given.busi, out=work / "busi", size="128x128", missing="skip",
            folds=FOLDS,
        )  # fmt: skip
        result: dict[str, Any] = {
            "what": "unet from random weights on real pictures; intervals are 95 %, by resampling "
            "clusters of near-duplicates",
            "settings": {"seen": BY_HEART, "unseen": UNSEEN},
        }
        if given.only and RESULT.is_file():
            result = {**json.loads(RESULT.read_text()), **result}
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "seen, films": lambda: by_heart(work / "films", work / "films-run"),
            "seen, patches": lambda: by_heart(work / "patches", work / "patches-run"),
            "unseen, one fixed mask": lambda: fixed(work / "busi"),
            "unseen, unet": lambda: unseen(work / "busi", work / "busi-run"),
        }
        for name, part in parts.items():
            if given.only not in name:
                continue
            before = machine.described("torch", "timm", "segmentation-models-pytorch")
            result[name] = {**part(), "run": before}
            print(json.dumps(result[name], indent=1), flush=True)
            RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
