"""Two stages: a segmenting recipe is cross-validated, and its masks are what the next run sees.

Every mask is predicted by the one model that saw nothing of the sample's patient, so that neither
training nor scored samples have masks better than those that a new patient would get.
"""

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import config as configs
from mammotrain import cross as crossing
from mammotrain import distributed, folder, predict, rehearsal, setup
from mammotrain.config import DEMO, FirstConfig, RunConfig
from mammotrain.cross import cross
from mammotrain.data.pictures import IMAGE
from mammotrain.data.shards import Table
from mammotrain.data.splits import Side
from mammotrain.distributed import World
from mammotrain.predicting import panel as panels
from mammotrain.run import Request, find_data
from mammotrain.setup import PREDICTED
from mammotrain.watching import Watcher

ALONE = World(0, 1, torch.device("cpu"))
STAGE = "first-stage"  # its folder, where several runs share it


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
    if not request.config.first.recipe:
        return request
    if distributed.processes() > 1 and request.config.first.predicts and request.data == DEMO:
        raise _refusal(request.config, "SHARDS")
    found = replace(request, data=find_data(request, watcher))
    if not check(found):
        return found
    if place is None:
        folder.check_free(request.out, resume=request.resume)
    stage = place or request.out.with_name(f"{request.out.name}-first")
    first = _stage(found, stage)
    watcher.warn(f"First {first.config.recipe}, whose predicted masks are the input: {stage}.")
    table = setup.open_shards(first.config, first.data, watcher.warn)
    if not _finished(first, table):
        cross(first, watcher)
    return replace(request, data=(str(_predicted(first, table, stage, watcher)),))


def check(request: Request) -> bool:
    """Return whether masks have yet to be predicted for a request, whose data are folders.

    Raises:
        ConfigError: as ``ready`` does, before any work.
    """
    asked = request.config.first
    if not asked.recipe:
        return False
    table = setup.open_shards(request.config, request.data)
    predicted = [each.get(PREDICTED) for each in table.summaries]
    for place, made_by in zip(request.data, predicted, strict=True):
        if made_by and not asked.predicts:
            raise ConfigError(
                f"first.mask is truth, but the masks of {place} are predicted. Give the shards "
                "that they were predicted for."
            )
        if made_by and made_by.get("learned_from"):
            raise ConfigError(
                f"The masks of {place} are partly of models that have learned from these very "
                "samples (predict --all): they are too good. Predict them with the folder of a cv."
            )
    if not asked.predicts or all(predicted):
        return False
    if len(request.data) > 1 or "://" in request.data[0]:
        raise ConfigError(
            f"Recipe {request.config.recipe} has masks predicted by {asked.recipe} first, which "
            f"needs the shards in one local folder; got {', '.join(request.data)}."
        )
    if distributed.processes() > 1:
        raise _refusal(request.config, request.data[0])
    first = _request(request)
    _check_predicts(first.config, table)
    crossing.check(first, table, ALONE)
    _check_second(request, table)
    return True


def _check_second(request: Request, table: Table) -> None:
    """Look at the run whose masks are to be predicted, as if it were shown whole pictures."""
    data = replace(request.config.data, member=IMAGE)
    config = replace(request.config, data=data, first=FirstConfig())
    if request.side.by:
        crossing.check(replace(request, config=config), table, ALONE)
    else:
        rehearsal.rehearse(config, table, request.side, ALONE)


def _request(request: Request) -> Request:
    """Return the first stage as a request, without its place."""
    asked = request.config.first
    config, side = configs.load(asked.recipe, asked.set), Side(by=request.side.by)
    return replace(request, config=config, side=side, cache=None)


def _refusal(config: RunConfig, data: str) -> ConfigError:
    """Return what to say to several processes: the commands for one."""
    asked = config.first
    options = " ".join(f"--set {shlex.quote(each)}" for each in asked.set)
    return ConfigError(
        f"Masks are predicted by one process. Do that first: mammotrain cv {asked.recipe} "
        f"{options + ' ' if options else ''}--data {data} --out first/cv; mammotrain predict "
        f"first/cv {data} --masks --out first/predicted; and here --data first/predicted/dataset."
    )


def _stage(request: Request, stage: Path) -> Request:
    """Return the first stage as a request of its own.

    Raises:
        ConfigError: its folder holds one with other settings.
    """
    out = stage / "cv"
    first = replace(_request(request), out=out, resume=out.exists())
    table = {**first.config.to_table(), "by": request.side.by or "fold"}
    if changed := folder.changes(first.out, table):
        raise ConfigError(
            f"{stage} holds a first stage with other settings: {'; '.join(changed)}. Remove it, or "
            "give another --out."
        )
    return first


def _check_predicts(config: RunConfig, table: Table) -> None:
    module = plugins.load(configs.TASKS, config.task_name, needs=("Config", "build"))
    nobody = np.zeros(0, np.int64)
    if not module.build(config.task, table.columns, table.label_names, nobody).wants_masks:
        raise ConfigError(
            f"first.recipe {config.recipe} is of task {config.task_name}, which predicts no masks. "
            "mammotrain recipes lists those of task segment."
        )


def _finished(first: Request, table: Table) -> bool:
    """Return whether the first stage was trained already, on these samples."""
    if not (first.out / "report.json").is_file():
        return False
    members = panels.open_panel(first.out).members
    return all(member.about["content"] == table.content for member in members)


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
