"""The CVAE's two uses: lesions, and pictures with which something technical is wrong.

    python benchmarks/cvae_trial.py [--input DIR] [--work DIR] [--steps N]

Trains the recipe ``cvae`` at a small size with cross-validation, on phantoms in the layout of RSNA
and, with ``--input``, on real films: mini-MIAS or a part of it (docs/sources/mias.md). Each picture
is scored by the one model that saw nothing of its patient: as it is, and spoilt in six ways, as
the model would see it. AUROC is of the spoilt pictures of one half of the patients against the
untouched ones of the other half, intervals are 95 % by resampling patients. Beside it stand two
scores that need no network: how far a picture's grey levels are from those of training (Mahalanobis
distance), and its squared difference from the mean training picture.
Writes benchmarks/results/cvae_trial.json: figures only.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np
import torch
from numpy.typing import NDArray
from said import Said
from scipy.stats import rankdata

import mammoprep
from mammoprep import repack
from mammotrain import bootstrap, config, distributed, finished, scores, setup
from mammotrain.contracts import Shown, ask
from mammotrain.cross import cross
from mammotrain.run import Request
from mammotrain.scores import Scores
from mammotrain.setup import Setup
from mammotrain.thresholds import Judged

Floats = NDArray[np.float64]
Pictures = NDArray[np.float32]  # (n, rows, columns), 0-1
SIZE = (64, 128)  # width, height
FOLDS = 5
DIGITS = 4
AIR = 0.03  # grey level below which there is no breast
TRAIN = (
    f"data.size=[{SIZE[0]}, {SIZE[1]}]",
    "data.workers=1",
    "model.widths=[8, 16, 32, 64, 64]",
    "model.latent=64",
    "model.warmup_steps=100",
    "train.amp=none",
    "train.channels_last=false",
    "train.warmup=0.06",
    "train.epochs=10000",
    "train.validate_every=10000",
    "train.validate=next-fold",
)


def inverted(image: Pictures) -> Pictures:
    return 1 - image


def inverted_on_black(image: Pictures) -> Pictures:
    """Return the breast inverted, the air left black: a wrong photometric interpretation."""
    return np.where(image > AIR, image[image > AIR].max(initial=0) + AIR - image, image)


def wrong_side(image: Pictures) -> Pictures:
    return image[:, ::-1]


def clipped(image: Pictures) -> Pictures:
    """Return a window that is too narrow: black below the median, white above the upper tenth."""
    low, high = np.quantile(image[image > AIR], (0.5, 0.9))
    return np.clip((image - low) / max(high - low, 1e-3), 0, 1)


def cut_off(image: Pictures) -> Pictures:
    """Return the lower third black, as of a crop that went wrong."""
    found = image.copy()
    found[2 * len(image) // 3 :] = 0
    return found


def implant(image: Pictures) -> Pictures:
    """Return a bright ellipse of a third of the breast's width in its middle, nothing beyond it."""
    breast = image > AIR
    rows, columns = np.nonzero(breast)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    centre = int(columns.min() + 0.4 * width), int(rows.min() + 0.5 * height)
    shape = np.zeros(image.shape, np.float32)
    cv2.ellipse(shape, centre, (int(width / 3), int(height / 5)), 0, 0, 360, 1, -1)
    shape = cv2.GaussianBlur(shape, (0, 0), 1.0) * breast
    return image * (1 - shape) + 0.9 * shape


SPOILT: Mapping[str, Callable[[Pictures], Pictures]] = {
    "inverted": inverted,
    "inverted, air black": inverted_on_black,
    "wrong side": wrong_side,
    "clipped grey": clipped,
    "cut off": cut_off,
    "implant": implant,
}


def phantoms(work: Path) -> Path:
    mammoprep.phantom(
        "rsna", work / "raw", patients=120, seed=11, size_scale=0.06, prevalence=0.25, workers=2
    )
    mammoprep.build(
        source="rsna", input=work / "raw", out=work / "shards", size=f"{SIZE[0]}x{SIZE[1]}",
        folds=FOLDS, workers=2,
    )  # fmt: skip
    return work / "shards"


def films(source: Path, work: Path) -> Path:
    """Return shards of films in folds that each have their share of the abnormal ones."""
    mammoprep.build(
        source="mias", input=source, out=work / "all", size=f"{SIZE[0]}x{SIZE[1]}",
        missing="skip", folds=FOLDS,
    )  # fmt: skip
    repack.repack(work / "all", work / "shards", folds=FOLDS, seed=0)
    return work / "shards"


def pictures(made: Setup, rows: NDArray[np.int64]) -> list[Shown]:
    return list(made.plain(rows))


def grey(images: Pictures) -> Floats:
    """Return mean, spread and five quantiles of the breast of each picture."""
    found = []
    for image in images:
        inside = image[image > AIR]
        inside = inside if inside.size else np.zeros(1, np.float32)
        quantiles = np.quantile(inside, (0.01, 0.25, 0.5, 0.75, 0.99))
        found.append([image.mean(), inside.mean(), inside.std(), *quantiles])
    return np.array(found, np.float64)


class Plain:
    """The two scores that need no network, fitted on training pictures."""

    def __init__(self, images: Pictures) -> None:
        """Take the training pictures."""
        features = grey(images)
        self.centre, self.mean = features.mean(0), images.mean(0)
        spread = np.cov(features.T) + 1e-6 * np.eye(features.shape[1])
        self.inverse = np.linalg.inv(spread)

    def grey_distance(self, images: Pictures) -> Floats:
        """Return the Mahalanobis distance of each picture's grey levels, squared."""
        away = grey(images) - self.centre
        return np.einsum("ni,ij,nj->n", away, self.inverse, away)

    def from_mean(self, images: Pictures) -> Floats:
        """Return each picture's mean squared difference from the mean picture."""
        return np.square(images - self.mean).mean((1, 2)).astype(np.float64)


def spoil(shown: Shown, how: Callable[[Pictures], Pictures] | None) -> Shown:
    if how is None:
        return shown
    images = np.stack([how(image[0].numpy()) for image in shown.images])[:, None]
    return replace(shown, images=torch.from_numpy(np.ascontiguousarray(images, np.float32)))


Found = dict[str, dict[str, list[float]]]


def judge(place: Path, data: Path, found: Found, who: list[str]) -> None:
    """Add one fold's scores: score -> kind -> one a picture; and whose pictures they are."""
    run = finished.open_run(place)
    with distributed.joined("cpu") as world, torch.no_grad():
        table = setup.open_shards(run.config, (str(data),))
        made, model = finished.prepare(run, table, world)
        roles = setup.prepare(run.config, table, run.side, world).roles
        usual = roles.train[made.task.classes[roles.train] == 0]
        plain = Plain(arrays(pictures(made, usual)))
        model.eval()
        asked = roles.score[made.task.classes[roles.score] == 0]
        for shown in pictures(made, asked):
            who += [str(made.columns["group"][row]) for row in shown.rows]
            for kind, how in {"as it is": None, **SPOILT}.items():
                given = spoil(shown, how)
                said = made.task.scores(ask(model, given), given)[:, 1].tolist()
                images = given.images[:, 0].numpy()
                found["cvae"][kind] += said
                found["grey levels"][kind] += plain.grey_distance(images).tolist()
                found["mean picture"][kind] += plain.from_mean(images).tolist()


def arrays(parts: list[Shown]) -> Pictures:
    return np.concatenate([part.images[:, 0].numpy() for part in parts])


def auroc(usual: list[float], strange: list[float], who: list[str]) -> dict[str, Any]:
    """Return the AUROC of spoilt against untouched pictures; patients are drawn as a whole.

    Every second patient is there untouched and the others spoilt: a picture beside its own spoilt
    copy would be a pair that every resample counts too often.
    """
    groups = np.array(who)
    _, place = np.unique(groups, return_inverse=True)
    is_spoilt = place % 2 == 1
    value = rankdata(np.where(is_spoilt, strange, usual)) / (len(groups) + 1)
    texts = np.full(len(groups), "")
    table = Scores(
        np.arange(len(groups)).astype(str), groups, texts, texts, is_spoilt.astype(np.int64),
        np.stack([1 - value, value], 1), ("usual", "strange"),
    )  # fmt: skip
    found = bootstrap.evaluate(Judged(table), only=("auroc",))["auroc"].to_json()
    ends = found["ci95"]
    return {
        "value": round(found["value"], DIGITS),
        "ci95": None if ends is None else [round(end, DIGITS) for end in ends],
        "reason": found["reason"],
    }


def trial(data: Path, out: Path, more: tuple[str, ...]) -> dict[str, Any]:
    """Train every fold; return the figures."""
    asked = Request(config.load("cvae", (*TRAIN, *more)), (str(data),), out, device="cpu")
    begun = time.perf_counter()
    report = cross(asked, Said())
    seconds = time.perf_counter() - begun
    found: Found = defaultdict(lambda: defaultdict(list))
    who: list[str] = []
    for fold in range(FOLDS):
        judge(out / f"fold{fold}", data, found, who)
    pooled = scores.read(out / "scores.csv")
    return {
        "settings": [*TRAIN, *more],
        "pictures": {"normal": int((pooled.label == 0).sum()),
                     "abnormal": int((pooled.label == 1).sum()),
                     "patients": len(np.unique(pooled.group))},
        "target": report["classes"][1],
        "target_auroc": report["metrics"]["auroc"],
        "target_auroc_pooled": report["pooled"]["auroc"],
        "target_f1": report["metrics"]["f1"],
        "target_accuracy": report["metrics"]["accuracy"],
        "specificity_aimed_at_0.95": report["metrics"]["specificity"],
        "measures": report["measures"],
        "technical_auroc": {
            name: {kind: auroc(by_kind["as it is"], by_kind[kind], who) for kind in SPOILT}
            for name, by_kind in found.items()
        },
        "wall_seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--input", type=Path, help="mini-MIAS or a part of it")
    parser.add_argument("--work", type=Path, help="folder to keep what is made; default: none")
    parser.add_argument("--steps", type=int, default=800, help="of each fold")
    given = parser.parse_args()
    torch.set_num_threads(1)  # more wait for each other at this size
    before = machine.described("torch", "numpy", "mammoprep")
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        steps = f"train.max_steps={given.steps}"
        result: dict[str, Any] = {
            "what": "recipe cvae at a small size: AUROC of a target, and of spoilt against "
            "untouched pictures without the target; out of fold",
            **before,
            "phantoms": trial(phantoms(work / "rsna"), work / "rsna" / "cv", (steps,)),
        }
        if given.input:
            bare = ("task.target=abnormal", "task.conditions=[]", "model.conditions=0", steps)
            data = films(given.input, work / "mias")
            result["mini-MIAS"] = trial(data, work / "mias" / "cv", bare)
    text = json.dumps(result, indent=2)
    print(text)
    (Path(__file__).parent / "results" / "cvae_trial.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
