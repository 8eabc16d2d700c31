"""Settings are tried on validation samples, and a study goes on where it was stopped."""

import csv
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mammoprep.core.errors import ConfigError, ResourceError
from mammotrain import config, trial_noise, tuning
from mammotrain.config import Space
from mammotrain.evaluate import Scored
from mammotrain.run import Request as RunRequest
from mammotrain.trainer import Progress
from mammotrain.watching import Watcher

pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.width=8", "model.groups=4", "data.size=[32, 32]", "train.batch_size=8", "train.epochs=2",
    "data.workers=1", "model.radius_iterations=0", "train.validate=next-fold",
)  # fmt: skip
SPACES = {"train.lr": Space(1e-4, 1e-2, log=True), "model.width": Space(choices=(8, 16))}


class Ears(Watcher):
    def __init__(self, stop_after: int = 10**9) -> None:
        self.said: list[str] = []
        self.left = stop_after

    def warn(self, message: str) -> None:
        self.said.append(message)

    def step(self, line: dict) -> None:
        self.left -= 1
        if self.left < 0:
            raise ResourceError("stopped")


def request(patches: Path, out: Path, trials: int, **more: object) -> tuning.Request:
    return tuning.Request(
        "deq", SMALL, (str(patches),), out, trials, SPACES, device="cpu", **more
    )  # fmt: skip


def trials_of(out: Path) -> list[dict]:
    with (out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def study(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("study") / "tune"
    return out, tuning.tune(request(patches, out, 3), Ears())


def test_the_best_trial_becomes_a_recipe_that_runs(study: tuple[Path, dict]) -> None:
    out, found = study
    rows = trials_of(out)
    best = max((row for row in rows if row["state"] == "complete"), key=lambda r: float(r["value"]))
    assert found["value"] == float(best["value"])
    recipe = config.load(str(out / "best.toml"))
    assert recipe.train.lr == float(best["train.lr"])
    assert recipe.model.width == int(best["model.width"])
    assert recipe.data.size == (32, 32)
    assert recipe.recipe == "deq-best"  # whose run does not lie in the folder of another recipe
    assert "train.lr" in (out / "report.html").read_text()


def test_a_short_study_names_no_setting_that_mattered(study: tuple[Path, dict]) -> None:
    out, found = study
    assert found["importances"] == {}
    assert found["noise"]["reason"] in (out / "report.html").read_text()
    assert "Too few trials" in found["noise"]["reason"]


def test_the_error_is_that_of_the_best_trial_on_its_validation_samples(
    study: tuple[Path, dict], patches: Path
) -> None:
    out, found = study
    place = next(path.parent for path in out.glob("trial*/checkpoints"))
    best = config.load(str(out / "best.toml"))
    asked = RunRequest(best, (str(patches),), place, device="cpu")
    seen = []
    original = trial_noise.error_of

    def spied(scored: Scored, monitor: str) -> float | None:
        seen.append((monitor, scored.scores))
        return original(scored, monitor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial_noise, "error_of", spied)
        error = trial_noise.error_of_trial(asked)
    assert error is not None
    assert 0 < error < 0.5
    ((monitor, table),) = seen
    assert monitor == best.train.monitor == "auroc"
    assert roc_auc_score(table.label, table.values[:, 1]) == pytest.approx(found["value"])
    assert trial_noise.error_of_trial(replace(asked, out=out / "nothing")) is None


@pytest.mark.parametrize("effect", [False, True])
def test_a_setting_is_said_to_matter_only_where_trials_differ(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: bool
) -> None:
    def trained(asked: RunRequest, _: Watcher) -> Progress:
        shift = float(np.log10(asked.config.train.lr)) + 3 if effect else 0.0
        noise = 0.02 * np.sin(1e5 * asked.config.train.lr)
        return Progress(best=0.7 + 0.2 * shift + noise)

    monkeypatch.setattr(tuning, "train", trained)
    monkeypatch.setattr(trial_noise, "error_of_trial", lambda asked: 0.04)
    spaces = {"train.lr": Space(1e-4, 1e-2, log=True), "train.ema": Space(0.1, 0.9)}
    out = tmp_path / "tune"
    found = tuning.tune(replace(request(patches, out, 20), spaces=spaces), Ears())
    page = (out / "report.html").read_text()
    if effect:
        assert found["importances"]["train.lr"] > 0.6
        assert f"{found['importances']['train.lr']:.2f}" in page
    else:
        assert found["importances"] == {}
        assert "may be best by chance" in found["noise"]["reason"]
        assert "cannot be told" in page


def test_nothing_but_validation_samples_is_scored(study: tuple[Path, dict]) -> None:
    out, _ = study
    assert not list(out.rglob("scores.csv"))
    assert not list(out.rglob("report.json"))
    for log in out.glob("trial*/log.jsonl"):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert any("validation" in line for line in lines)


def test_only_the_best_weights_are_kept(study: tuple[Path, dict]) -> None:
    assert len(list(study[0].glob("trial*/checkpoints"))) == 1


def test_a_study_goes_on_with_the_settings_that_were_interrupted(
    patches: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tune"
    first = Ears(stop_after=3)
    with pytest.raises(ResourceError):
        tuning.tune(request(patches, out, 2), first)
    with pytest.raises(ConfigError, match="--resume"):
        tuning.tune(request(patches, out, 2), Ears())
    again = Ears()
    tuning.tune(request(patches, out, 2, resume=True), again)
    assert first.said[1] == again.said[1]  # the same settings
    states = [row["state"] for row in trials_of(out)]
    assert states[0] == "fail"
    assert len([state for state in states if state != "fail"]) == 2


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_study_that_goes_on_tries_what_it_would_have_tried(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    stops = ["trial0001", "trial0004"] if interrupted else []

    def trained(asked: RunRequest, _: Watcher) -> Progress:
        if asked.out.name in stops:
            stops.remove(asked.out.name)
            raise ResourceError("stopped")
        return Progress(best=asked.config.train.lr)

    monkeypatch.setattr(tuning, "train", trained)
    spaces = {"train.lr": Space(1e-4, 1e-2, log=True)}

    def settings(out: Path, *counts: int) -> list[str]:
        for count in counts:
            asked = replace(request(patches, out, count, resume=out.exists()), spaces=spaces)
            try:
                tuning.tune(asked, Ears())
            except ResourceError:
                tuning.tune(replace(asked, resume=True), Ears())
        return [row["train.lr"] for row in trials_of(out) if row["state"] == "complete"]

    parts = settings(tmp_path / "parts", 2, 3, 5)
    assert not stops
    whole = settings(tmp_path / "whole", 5)
    assert parts == whole
    assert len(set(whole)) == 5


def test_what_no_trial_can_be_is_refused_before_anything_is_written(
    patches: Path, tmp_path: Path
) -> None:
    asked = request(patches, tmp_path / "tune", 1)
    with pytest.raises(ConfigError, match="Did you mean 'auroc'"):
        tuning.tune(replace(asked, changes=(*SMALL, "train.monitor=aurc")), Ears())
    assert not (tmp_path / "tune").exists()


def test_a_trial_that_falls_behind_is_stopped() -> None:
    import optuna

    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=1)
    )
    good, bad = study.ask(), study.ask()
    tuning._Reporting(good, "auroc", Ears()).validated({"step": 1, "validation": {"auroc": 0.9}})
    study.tell(good, 0.9)
    with pytest.raises(optuna.TrialPruned):
        tuning._Reporting(bad, "auroc", Ears()).validated({"step": 1, "validation": {"auroc": 0.1}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.lr=1e-4..1e-2,log", ("train.lr", Space(1e-4, 1e-2, log=True))),
        ("model.width=32|48", ("model.width", Space(choices=(32, 48)))),
        ("train.optimiser=adam|sgd", ("train.optimiser", Space(choices=("adam", "sgd")))),
    ],
)
def test_spaces_are_read_from_the_command_line(text: str, expected: tuple) -> None:
    assert tuning.parse(text) == expected


@pytest.mark.parametrize("text", ["train.lr", "train.lr=a..b", "train.lr=1..2,lin", "train.lr=3"])
def test_what_is_no_space_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"1e-4\.\.1e-2,log"):
        tuning.parse(text)


def test_a_setting_that_does_not_exist_is_refused_before_any_work(
    patches: Path, tmp_path: Path
) -> None:
    asked = tuning.Request(
        "deq", SMALL, (str(patches),), tmp_path / "x", 1, {"train.lrr": Space(0.1, 1.0)}
    )
    with pytest.raises(ConfigError, match="Did you mean 'lr'"):
        tuning.tune(asked, Ears())
    assert not (tmp_path / "x").exists()


def test_a_recipe_says_what_is_tried_and_what_is_left_out() -> None:
    table = tomllib.loads(config.recipe_text("deq"))
    table["tune"] = {"train": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}}}
    table["ablate"] = {"no-ema": ["train.ema=0"]}
    found = config.from_table("deq", table)
    assert found.tune == {"train.lr": Space(1e-4, 1e-2, log=True)}
    assert found.ablate == {"no-ema": ("train.ema=0",)}
    assert "tune" not in found.to_table()
    for wrong in ({"../x": ["train.ema=0"]}, {"no-ema": "train.ema=0"}):
        with pytest.raises(ConfigError, match="ablate"):
            config.from_table("deq", {**table, "ablate": wrong})
    with pytest.raises(ConfigError, match="low below high"):
        config.from_table("deq", {**table, "tune": {"train.lr": {"low": 2.0, "high": 1.0}}})
