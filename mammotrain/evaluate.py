"""A model and samples -> scores; scores -> report.json and report.html."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mammotrain import baselines, distributed, scores, slices, thresholds, trainer
from mammotrain.priors import Prior, of_labels
from mammotrain.report import assemble as reports
from mammotrain.scores import Scores
from mammotrain.setup import Setup
from mammotrain.thresholds import Judged

Rows = NDArray[np.int64]


def score(setup: Setup, model: nn.Module, rows: Rows) -> tuple[Scores, float]:
    """Return what the model says of some samples, and its mean loss; every rank gets all of it."""
    context = lambda: trainer.autocast(setup.config.train, setup.world.device)  # noqa: E731
    places, values, losses = [], [], []
    for batch, said, output in trainer.predict(model, setup.task, setup.plain(rows), context):
        places.append(batch.rows)
        values.append(said.numpy())
        wanted = setup.task.targets(batch.rows).to(setup.world.device)
        with torch.inference_mode():
            losses.append(float(setup.task.loss(output, wanted)) * len(batch.rows))
    empty = np.zeros((0, len(setup.task.score_names)))
    mine = (np.concatenate([*places, np.zeros(0, np.int64)]), np.concatenate([*values, empty]))
    parts = distributed.gathered((*mine, sum(losses)), setup.world)
    found = np.concatenate([part[0] for part in parts])
    order = np.argsort(found, kind="stable")
    found, said_all = found[order], np.concatenate([part[1] for part in parts])[order]
    columns, names = setup.columns, setup.task.score_names
    labelled = setup.labels[found]
    made = scores.from_columns(columns, found, labelled, said_all.astype(np.float64), names)
    return made, sum(part[2] for part in parts) / max(len(found), 1)


def rows_of(setup: Setup, found: Scores) -> Rows:
    """Return the places in the table of scored samples."""
    return np.array([setup.places[key] for key in found.key], np.int64)


def prior_of(setup: Setup) -> Prior:
    """Return how often training sees each class, and how often it is in the training split."""
    rows = setup.loader(setup.roles.train, training=True).rows(0)
    seen = setup.labels[np.concatenate(list(rows))]
    copies = np.array([bool(v) for v in setup.columns["augmented"]], bool)
    natural = setup.labels[setup.roles.train[~copies[setup.roles.train]]]
    return of_labels(seen, natural, len(setup.task.score_names))


def report(
    setup: Setup, scored: Scores, validation: Scores | None, prior: Prior | None, *, split: str
) -> dict[str, Any]:
    """Return the content of report.json: the model beside the three baselines."""
    about = reports.About(
        recipe=setup.config.recipe,
        data=str(setup.table.summary["source"]),
        split=split,
        prior=prior if prior is not None and prior.changes else None,
        seed=setup.config.train.seed,
    )
    rows = rows_of(setup, scored)
    others = {kind: _baseline(setup, kind, scored, validation) for kind in baselines.KINDS}
    parts = slices.of_columns(setup.columns, rows)
    return reports.assemble(Judged(scored, validation), about, others, parts)


def _baseline(
    setup: Setup, kind: str, scored: Scores, validation: Scores | None
) -> thresholds.Judged | str:
    asked = [part for part in (scored, validation) if part is not None]
    made = []
    for part in asked:
        found = baselines.predict(
            kind, setup.columns, setup.labels, setup.roles.train, rows_of(setup, part),
            len(setup.task.score_names),
        )  # fmt: skip
        if found.values is None:
            return found.reason
        made.append(part.with_values(found.values))
    return Judged(made[0], made[1] if len(made) > 1 else None)


def picture(setup: Setup, key: str) -> NDArray[np.uint8] | None:
    """Return a sample's picture for the report, 8 bits."""
    loader = setup.loader(np.array([setup.places[key]], np.int64), training=False)
    images = next(loader.epoch(0)).images[0]
    wide = images.dtype == torch.uint16
    array = (images.to(torch.int32) >> (8 if wide else 0)).to(torch.uint8).numpy()
    shown: NDArray[np.uint8] = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    return shown


def write(out: Path, found: Mapping[str, Any], scored: Scores) -> None:
    """Write scores.csv and report.json."""
    scores.write(out / "scores.csv", scored)
    reports.write(out / "report.json", found)
