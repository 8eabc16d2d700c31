"""Promises of every recipe, from the day its file exists, on the phantoms of its own ``[demo]``.

Small pictures, four steps. Phantoms of one kind are made once for all recipes and all processes.
"""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mammoprep.core.errors import ConfigError, ResourceError
from mammotrain import config, finished, first, folder, predict, scores, setup
from mammotrain.checkpoint import steps
from mammotrain.config import DEMO, RunConfig
from mammotrain.data import demo
from mammotrain.data.pictures import IMAGE
from mammotrain.data.splits import Side
from mammotrain.distributed import World
from mammotrain.run import Request, run
from mammotrain.setup import Setup
from mammotrain.watching import Watcher

PIXELS, STEPS = 64, 4
SHORT = (f"train.max_steps={STEPS}", "train.pretrained=none", "data.workers=1")
# A run measures where augmenting is faster, and both ways differ in their last bits.
ALIKE = ("data.augment_on=cpu",)
HERE = World(0, 1, torch.device("cpu"))
FAST = ("resnext-small",)  # the others wait for `make check`
HEADS = ["age", "density", "biopsy", "invasive", "birads"]

Once = Callable[[Any, Callable[[Path], None]], Path]

pytestmark = pytest.mark.usefixtures("one_thread")


class Stopping(Watcher):
    """Ends a run as a batch system does, while its second step is under way."""

    def step(self, line: dict[str, Any]) -> None:
        if line["step"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def on_demo(name: str) -> RunConfig:
    """Return a recipe as ``--data demo`` runs it, smaller still and for a few steps."""
    changes = (*config.changes_for(DEMO, name), *SHORT, *ALIKE)
    found = config.load(name, changes)
    if found.data.size and min(found.data.size) > PIXELS:
        sides = [round(side * PIXELS / min(found.data.size)) for side in found.data.size]
        changes = (*changes, f"data.size={sides}")
    if found.first.recipe:
        changes = (*changes, f"first.set={folder.toml_value([*found.first.set, *SHORT])}")
    return config.load(name, changes)


def phantoms(once: Once, found: RunConfig) -> Path:
    """Return the shards of a recipe's demo; its files lie in ``raw`` beside them."""
    asked = replace(found.demo, set=())

    def make(place: Path) -> None:
        demo.provide(asked, place, lambda _: None)

    return once(["demo", asdict(asked)], make) / "shards"


def input_of(once: Once, found: RunConfig) -> Path:
    """Return what a recipe's model sees: phantoms, with masks predicted first if it says so."""
    data = phantoms(once, found)
    if not found.first.predicts:
        return data

    def make(place: Path) -> None:
        asked = Request(found, (str(data),), place / "second", device="cpu")
        (masked,) = first.ready(asked, Watcher(), place / "first").data
        (place / "data").symlink_to(masked)

    return once(["first", str(data), asdict(found.first)], make) / "data"


def each() -> list[Any]:
    """Return all recipes; those that were not thought of are slow."""
    slow = pytest.mark.slow
    names = config.recipe_names()
    return [name if name in FAST else pytest.param(name, marks=slow) for name in names]


@pytest.mark.parametrize("name", each())
def test_a_recipe_learns_stops_goes_on_and_predicts(name: str, once: Once, tmp_path: Path) -> None:
    found = on_demo(name)
    data = input_of(once, found)
    request = Request(found, (str(data),), tmp_path / "whole", device="cpu")
    made = setup.prepare(found, setup.open_shards(found, request.data), Side(), HERE)
    check_phantoms(made)
    run(request, Watcher())
    check_finished(request, made)
    check_goes_on(request, tmp_path / "stopped")
    check_shards(request, made, tmp_path / "shards")
    check_file(request, made, phantoms(once, found).parent / "raw", tmp_path / "file")


def check_phantoms(made: Setup) -> None:
    """What the recipe learns is in its phantoms: where it trains, and where it is scored."""
    task, roles = made.task, made.roles
    for rows in (roles.train, roles.scored):
        assert set(task.classes[rows]) == set(range(len(task.score_names)))
        for head in getattr(task, "heads", ()):
            assert np.isfinite(head.values[rows]).any(), head.name
        told = task.conditions(rows)
        assert told is None or (told.std(dim=0) > 0).sum() > 1
        if task.wants_masks:
            masks = torch.cat([shown.masks.amax(dim=(1, 2, 3)) for shown in made.plain(rows)])
            assert masks.any()
            assert not masks.all()


def check_finished(request: Request, made: Setup) -> None:
    losses = losses_of(request.out)
    assert len(losses) == STEPS
    assert np.isfinite(losses).all()
    assert len(set(losses)) > 1
    report = json.loads((request.out / "report.json").read_bytes())
    assert report["n"] == len(next(iter(made.roles.tables.values())))
    assert any(each["value"] is not None for each in report["metrics"].values())
    assert (request.out / "report.html").stat().st_size > 10_000
    assert steps(request.out / folder.CHECKPOINTS)


def check_goes_on(request: Request, out: Path) -> None:
    """Stopped after two steps and resumed, it is the run that was not, bit for bit."""
    stopped = replace(request, out=out)
    with pytest.raises(ResourceError, match="--resume"):
        run(stopped, Stopping())
    assert len(losses_of(out)) == 2
    run(replace(stopped, resume=True), Watcher())
    assert losses_of(out) == losses_of(request.out)
    same = [(place / "scores.csv").read_bytes() for place in (out, request.out)]
    assert same[0] == same[1]


def losses_of(out: Path) -> list[float]:
    return [float.fromhex(line["loss_hex"]) for line in folder.read_log(out) if "loss_hex" in line]


def check_shards(request: Request, made: Setup, out: Path) -> None:
    """Asked about its shards, it says of what it left out what its report says."""
    asked = predict.Request(request.out, request.data[0], out, masks=made.task.wants_masks)
    outcome = predict.predict(replace(asked, device="cpu"), Watcher())
    said = scores.read(out / "scores.csv")
    kept = finished.open_run(request.out).judged().scores
    values = dict(zip(said.key, said.values, strict=True))
    assert np.allclose([values[key] for key in kept.key], kept.values, atol=1e-5)
    assert len(list((out / "overlays").iterdir())) == len(said)
    if made.task.wants_masks:
        assert len(setup.open_shards(request.config, (str(outcome.dataset),))) == len(said)


def check_file(request: Request, made: Setup, raw: Path, out: Path) -> None:
    """Asked about a DICOM file, it answers, or says why it cannot."""
    known = [key.split("_")[-1] for key in made.table.keys]
    files = sorted(raw.rglob("*.dcm"))
    if not files:
        return
    path = next((path for path in files if path.stem in known), files[0])
    asked = predict.Request(request.out, str(path), out, device="cpu")
    patches = made.table.preparation["roi"]
    if patches or request.config.data.member != IMAGE:
        with pytest.raises(ConfigError, match="trained on"):
            predict.predict(asked, Watcher())
        return
    outcome = predict.predict(asked, Watcher())
    assert (len(outcome.findings.samples), outcome.failed) == (1, 0)
    assert np.allclose(scores.read(out / "scores.csv").values.sum(axis=1), 1)


@pytest.mark.slow
def test_the_phantoms_have_what_is_special_about_a_recipe(once: Once) -> None:
    names = {"flowers": 102, "efficientnet": 3, "densenet": 3}
    assert set(names) <= set(config.recipe_names())
    for name, classes in names.items():
        table = setup.open_shards(on_demo(name), (str(phantoms(once, on_demo(name))),))
        assert set(table.columns["label"]) - {None} == set(range(classes)), name
    found = on_demo("resnext")
    table = setup.open_shards(found, (str(phantoms(once, found)),))
    heads = setup.prepare(found, table, Side(), HERE).task.heads  # type: ignore[attr-defined]
    assert [head.name for head in heads] == HEADS
