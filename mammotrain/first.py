"""Two stages: a segmenting recipe is cross-validated, and its masks are what the next run sees.

Every mask is predicted by the one model that saw nothing of the sample's patient, so that neither
training nor scored samples have masks better than those that a new patient would get.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import config as configs
from mammotrain import finished, folder, predict, setup
from mammotrain.config import RunConfig
from mammotrain.cross import cross
from mammotrain.data.shards import Table
from mammotrain.data.splits import Side
from mammotrain.predicting import panel as panels
from mammotrain.run import Request, find_data
from mammotrain.setup import PREDICTED
from mammotrain.watching import Watcher


def ready(request: Request, watcher: Watcher, place: Path | None = None) -> Request:
    """Return a request whose data have the masks that its recipe's ``[first]`` asks for.

    Without ``[first]`` it is the request itself. Masks that are predicted already are used as they
    are; what a former call has finished in ``place`` is not done again.

    Args:
        request: What is to be run.
        watcher: Is told.
        place: Folder of the first stage; None for one beside the run's, ``NAME-first``.

    Raises:
        ConfigError: the masks of the data are not those that are asked for, the first recipe
            predicts none, or the data are not one local folder.
        MammoError: as ``cross`` and ``predict`` do.
    """
    asked = request.config.first
    if not asked.recipe:
        return request
    data = find_data(request, watcher)
    found = replace(request, data=data)
    table = setup.open_shards(request.config, data, watcher.warn)
    predicted = [bool(each.get(PREDICTED)) for each in table.summaries]
    if not asked.predicts:
        if any(predicted):
            raise ConfigError(
                f"first.mask is truth, but the masks of {data[predicted.index(True)]} are "
                "predicted. Give the shards that they were predicted for."
            )
        return found
    if all(predicted):
        return found
    _check(request, data)
    if place is None:
        folder.check_free(request.out, resume=request.resume)
    config = configs.load(asked.recipe, asked.set)
    _check_predicts(config, table)
    stage = place or request.out.with_name(f"{request.out.name}-first")
    first = replace(
        request, config=config, data=data, out=stage / "cv", side=Side(by=request.side.by),
        resume=(stage / "cv").exists(), cache=None,
    )  # fmt: skip
    watcher.warn(f"First {config.recipe}, whose predicted masks are the input: {stage}.")
    if not _finished(first, table):
        cross(first, watcher)
    return replace(request, data=(str(_predicted(first, table, stage, watcher)),))


def _check(request: Request, data: tuple[str, ...]) -> None:
    """Refuse what the first stage cannot do; raises ConfigError, with the commands that can."""
    recipe = request.config.first.recipe
    if len(data) > 1 or "://" in data[0]:
        raise ConfigError(
            f"Recipe {request.config.recipe} has masks predicted by {recipe} first, which needs "
            f"the shards in one local folder; got {', '.join(data)}."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"Masks are predicted by one process. Do that first, then give its shards here: "
            f"mammotrain cv {recipe} --data {data[0]}; mammotrain predict runs/{recipe}-cv "
            f"{data[0]} --masks --out predicted; and here --data predicted/dataset."
        )


def _check_predicts(config: RunConfig, table: Table) -> None:
    module = plugins.load(configs.TASKS, config.task_name, needs=("Config", "build"))
    nobody = np.zeros(0, np.int64)
    if not module.build(config.task, table.columns, table.label_names, nobody).wants_masks:
        raise ConfigError(
            f"first.recipe {config.recipe} is of task {config.task_name}, which predicts no masks. "
            "mammotrain recipes lists those of task segment."
        )


def _finished(first: Request, table: Table) -> bool:
    """Return whether the first stage was trained already, with these settings and samples."""
    if not (first.out / "report.json").is_file():
        return False
    same = finished.open_run(first.out).config.to_table() == first.config.to_table()
    members = panels.open_panel(first.out).members
    return same and all(member.about["content"] == table.content for member in members)


def _predicted(first: Request, table: Table, stage: Path, watcher: Watcher) -> Path:
    """Return the shards with the masks that a finished cv predicts for its own samples."""
    out = stage / "predicted"
    dataset = out / predict.DATASET
    members = panels.open_panel(first.out).members
    wanted = {
        "from": table.summary["content_sha256"],
        "weights_sha256": {member.name: member.weights_sha256 for member in members},
    }
    if not _is(dataset, wanted, first.config):
        shutil.rmtree(out, ignore_errors=True)  # begun, or of other weights
        predict.predict(
            predict.Request(
                first.out, first.data[0], out, masks=True, overlays=False, device=first.device
            ),
            watcher,
        )
    return dataset


def _is(dataset: Path, wanted: Mapping[str, Any], config: RunConfig) -> bool:
    """Return whether there is a finished dataset of these masks."""
    if not (dataset / "dataset.json").is_file():
        return False
    made_by = setup.open_shards(config, (str(dataset),)).summary.get(PREDICTED) or {}
    return all(made_by.get(name) == value for name, value in wanted.items())
