"""What would be refused is refused before anything is written, and says what to do instead."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError, ResourceError
from mammotrain import config, cross, evaluate, folder, rehearsal, setup, trainer
from mammotrain.data.splits import Side
from mammotrain.distributed import joined
from mammotrain.run import Request, run
from mammotrain.watching import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.width=8", "model.groups=4", "data.size=[32, 32]", "train.batch_size=8", "train.epochs=1",
    "data.workers=1", "train.max_steps=2", "train.validate=next-fold",
)  # fmt: skip


def request(shards: Path, out: Path, *more: str, **options: object) -> Request:
    return Request(
        config.load("deq", (*SMALL, *more)), (str(shards),), out, device="cpu", **options
    )


def left_in(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} - {folder.LOCK}


@pytest.fixture(scope="module")
def finished(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "deq"
    run(request(patches, out), Watcher())
    return out


# ------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.kernel_sizes=[2]", "kernel_sizes are odd"),
        ("data.sampling=even", "data.sampling must be"),
        ("train.accumulate=9", "a batch has only 8 samples"),
        ("train.layer_decay=0.5", "needs a model of timm"),
        ("train.monitor=aurc", "Did you mean 'auroc'"),
        ("train.monitor=solver_stesp", "Did you mean 'solver_steps'"),
        ("train.monitor=accuracy", "it needs a threshold"),
    ],
)
@pytest.mark.parametrize("command", [run, pytest.param(cross.cross, marks=pytest.mark.slow)])
def test_a_refused_setting_does_not_block_its_own_correction(
    patches: Path, tmp_path: Path, command: Callable, change: str, message: str
) -> None:
    asked = request(patches, tmp_path / "run", change)
    assert asked.config.data.cache  # smaller copies would be made
    with pytest.raises(ConfigError, match=message):
        command(asked, Watcher())
    assert left_in(asked.out) == set()
    folder.check_free(asked.out, resume=False)


def test_weights_that_cannot_be_read_do_not_block_the_run_with_others(
    patches: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"such\.safetensors"):
        run(request(patches, tmp_path / "run", "train.pretrained=no/such.safetensors"), Watcher())
    assert left_in(tmp_path / "run") == set()


def test_what_is_not_refused_has_its_smaller_copies(finished: Path) -> None:
    assert list((finished / "cache").glob("*.npy"))


@pytest.mark.parametrize("monitor", ["loss", "auroc", "brier", "solver_steps", "spectral_radius"])
def test_every_metric_that_a_validation_has_can_be_monitored(patches: Path, monitor: str) -> None:
    asked = request(patches, Path("unused"), f"train.monitor={monitor}")
    with joined("cpu") as world:
        table = setup.open_shards(asked.config, asked.data)
        made, model = rehearsal.rehearse(asked.config, table, Side(), world)
        _, found = rehearsal.validation(made, model, made.roles.validate)
    assert np.isfinite(found[monitor])


def test_a_look_at_the_metrics_changes_no_loss(patches: Path, tmp_path: Path) -> None:
    hexes = []
    for monitor in ("auroc", "solver_steps"):  # the second is known from a picture only
        out = tmp_path / monitor
        run(request(patches, out, f"train.monitor={monitor}"), Watcher())
        hexes.append([line.get("loss_hex") for line in folder.read_log(out)])
    assert hexes[0] == hexes[1]
    assert len(hexes[0]) == 3


# ---------------------------------------------------------------------------------------- parts


def test_all_parts_that_cannot_be_left_out_are_named_before_any_is_trained(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_group_each(config: object, table: setup.Table, side: Side) -> object:
        if side.fold in broken:
            raise ConfigError(f"{side.name}: no labelled sample is left to validate.")
        return plain(config, table, side)

    plain, broken = setup._roles, {1, 2}
    monkeypatch.setattr(setup, "_roles", one_group_each)
    asked = request(patches, tmp_path / "cv")
    with pytest.raises(ConfigError) as error:
        cross.cross(asked, Watcher())
    assert str(error.value) == (
        "2 of 3 parts cannot be left out. fold1: no labelled sample is left to validate. "
        "fold2: no labelled sample is left to validate. Recipe deq is made for ddsm; these shards "
        "are of inbreast."
    )
    broken.add(0)
    with pytest.raises(ConfigError, match=r"^no labelled sample is left to validate\. Recipe"):
        cross.cross(asked, Watcher())  # what is wrong with all of them is said once
    assert left_in(asked.out) == set()


# -------------------------------------------------------------------------------- other datasets


def test_shards_without_the_target_say_what_they_are_and_what_they_have(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mammotrain.tasks import classify

    monkeypatch.setattr(classify, "known", lambda columns, _: np.zeros(len(columns["key"]), bool))
    with pytest.raises(ConfigError) as error:
        run(request(patches, tmp_path / "run"), Watcher())
    said = str(error.value)
    assert "samples has task.target 'abnormal'. Known of them: " in said
    assert "abnormal (" in said
    assert "lesion masks (" in said
    assert said.endswith("Recipe deq is made for ddsm; these shards are of inbreast.")
    assert left_in(tmp_path / "run") == set()


def test_shards_of_the_recipes_own_source_are_not_called_others(patches: Path) -> None:
    asked = request(patches, Path("unused"), "data.size=[4000, 4000]")
    with joined("cpu") as world:
        table = setup.open_shards(asked.config, asked.data)
        with pytest.raises(ConfigError, match=r"made for ddsm; these shards are of inbreast\.$"):
            rehearsal.rehearse(asked.config, table, Side(), world)
        own = replace(asked.config, dataset="inbreast")
        with pytest.raises(ConfigError, match=r"larger --size\.$"):
            rehearsal.rehearse(own, table, Side(), world)


# ----------------------------------------------------------------------------------------- masks


def masks(then: bool, here: bool, size: int = 1) -> str:
    """Return what is said of a run that was shown ``then`` and is to be shown ``here``."""

    class Given:
        def about(self) -> dict:
            return about(here, size)

    def about(predicted: bool, size: int) -> dict:
        prepared = {"predicted_masks": predicted, "size": size, "label_names": ()}
        return {"preparation": prepared, "sources": ["busi"], "score_names": ["a", "b"]}

    with pytest.raises(ConfigError) as error:
        setup.check_same_data(about(then, 1), Given())
    return str(error.value).partition("(then -> now). ")[2]


def test_what_is_to_be_done_about_other_masks_can_be_done() -> None:
    lacking, here = masks(True, False), masks(False, True)
    assert "mammotrain predict --masks" in lacking
    assert "RUN-first/predicted/dataset" in lacking
    assert here == "Give the shards that these masks were predicted for."
    assert "Build the shards as they were then" not in lacking + here
    assert masks(True, True, 2) == "Build the shards as they were then."
    assert masks(True, False, 2) == f"Build the shards as they were then. {lacking}"


# --------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_a_run_is_scored_ends_with_five_and_it_goes_on(
    patches: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    out, plain = tmp_path / "run", evaluate.report
    before = signal.getsignal(number)

    def interrupted(*given: object, **options: object) -> dict:
        os.kill(os.getpid(), number)
        return plain(*given, **options)

    monkeypatch.setattr(evaluate, "report", interrupted)
    with pytest.raises(ResourceError, match=r"Stopped while scoring; .* --resume") as error:
        run(request(patches, out), Watcher())
    assert error.value.exit_code == 5
    assert signal.getsignal(number) is before
    assert not (out / "report.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "_step", None)  # nothing is trained again
    run(request(patches, out, resume=True), Watcher())
    assert (out / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()
