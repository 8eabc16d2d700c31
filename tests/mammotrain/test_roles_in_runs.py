"""What becomes of every sample, from outside: mixtures, official test sets, no validation, all."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_run import hexes
from torch import nn

import mammoprep
from mammoprep.core.errors import ConfigError
from mammotrain import checkpoint, config, exporting, folder, planned, rescore, scores, summary
from mammotrain.cli import _left_out
from mammotrain.cross import cross
from mammotrain.data.splits import Side
from mammotrain.predict import Request as Asked
from mammotrain.predict import predict
from mammotrain.run import Request, run
from mammotrain.tasks import classify
from mammotrain.watching import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.width=8", "model.groups=4", "data.size=[32, 32]", "train.batch_size=8", "train.epochs=2",
    "data.workers=1",
)  # fmt: skip


class Ears(Watcher):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)


def request(shards: list[Path], out: Path, *more: str, **changes: Any) -> Request:
    found = config.load("deq", (*SMALL, *more))
    return Request(found, tuple(map(str, shards)), out, device="cpu", **changes)


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of another source, which has an official training and test set."""
    home = tmp_path_factory.mktemp("vindr")
    mammoprep.phantom("vindr", home / "raw", patients=16, seed=5, size_scale=0.08)
    mammoprep.build(
        source="vindr", input=home / "raw", out=home / "shards", roi="48x48", roi_shrink=1,
        workers=1,
    )  # fmt: skip
    return home / "shards"


@pytest.fixture(scope="module")
def mixed(patches: Path, official: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mixed") / "run"
    ears = Ears()
    asked = request([patches, official], out, "train.validate=next-fold", side=Side(1))
    run(asked, ears)
    (out / "said.txt").write_text("\n".join(ears.said))
    return out


def test_each_sample_of_a_mixture_has_its_role_in_the_report_and_before_the_first_step(
    mixed: Path, patches: Path, official: Path
) -> None:
    report = report_of(mixed)
    told = report["roles"]["datasets"]
    assert list(told) == ["inbreast", "vindr"]
    for name, place in (("inbreast", patches), ("vindr", official)):
        counts = json.loads((place / "dataset.json").read_text())["counts"]
        roles = {k: v["samples"] for k, v in told[name].items() if k != "left_out"}
        left = sum(count["samples"] for count in told[name]["left_out"].values())
        assert sum(roles.values()) + left == counts["samples"]
    assert told["vindr"]["train"]["samples"] > 0  # dropped without a word before
    assert told["vindr"]["test"]["samples"] > 0
    assert told["inbreast"]["fold1"]["samples"] > 0
    said = (mixed / "said.txt").read_text()
    assert "samples (groups)" in said
    assert "vindr" in said
    assert "steps of 8" in said
    assert "Who has which role" in (mixed / "report.html").read_text()


def test_the_official_test_set_is_the_headline_and_never_mixed_with_the_fold(mixed: Path) -> None:
    report = report_of(mixed)
    assert report["split"] == "test"
    assert list(report["tables"]) == ["fold1"]
    headline, other = (scores.read(mixed / f"scores{n}.csv") for n in ("", "-left-out"))
    assert set(headline.source) == {"vindr"}
    assert set(other.source) == {"inbreast"}
    assert len(headline) == report["n"]
    assert len(other) == report["tables"]["fold1"]["n"]
    assert "Apart, fold1" in summary.summary(report, mixed)
    assert "Scored apart" in (mixed / "report.html").read_text()


def test_a_cv_of_a_mixture_scores_each_sample_in_folds_once(
    patches: Path, official: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cv"
    report = cross(
        request([patches, official], out, "train.validate=next-fold", "train.epochs=1"), Watcher()
    )
    pooled = scores.read(out / "scores.csv")
    assert set(pooled.source) == {"inbreast"}
    assert set(report["threshold"]) == {"fold0", "fold1", "fold2"}
    assert report_of(out / "fold2")["split"] == "test"


def test_where_a_dataset_lacks_the_target_it_is_said(
    patches: Path, official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = classify.known
    monkeypatch.setattr(
        classify, "known",
        lambda columns, config: known(columns, config) & (columns["source"] != "vindr"),
    )  # fmt: skip
    ears, out = Ears(), tmp_path / "run"
    run(request([patches, official], out, "train.epochs=1"), ears)
    assert any(line.startswith("vindr has no part in this run") for line in ears.said)
    told = report_of(out)["roles"]["datasets"]["vindr"]
    counts = json.loads((official / "dataset.json").read_text())["counts"]
    assert told["left_out"]["without the target"]["samples"] == counts["samples"]


@pytest.fixture(scope="module")
def unvalidated(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("few") / "run"
    run(request([patches], out, "train.patience=1", "train.checkpoint_every=3"), Watcher())
    return out


def test_with_too_few_to_validate_all_train_for_all_epochs_and_nothing_is_decided(
    unvalidated: Path,
) -> None:
    report = report_of(unvalidated)
    assert "are needed" in report["roles"]["fixed"]
    assert report["roles"]["datasets"]["inbreast"]["validate"]["samples"] == 0
    assert report["threshold"] is None
    assert report["threshold_reason"] == report["roles"]["fixed"]
    assert report["metrics"]["f1"]["value"] is None
    assert report["metrics"]["auroc"]["value"] is not None
    lines = folder.read_log(unvalidated)
    assert not any("validation" in line for line in lines)
    assert lines[-1]["epoch"] == 1
    last = checkpoint.newest(unvalidated / folder.CHECKPOINTS)[0]
    assert last is not None
    best = checkpoint.best(unvalidated / folder.CHECKPOINTS)
    assert best.state["progress"] == last.state["progress"]
    assert best.state["progress"]["best_step"] is None


def test_a_run_without_validation_goes_on_bit_for_bit(
    unvalidated: Path, patches: Path, tmp_path: Path
) -> None:
    out, more = tmp_path / "run", ("train.patience=1", "train.checkpoint_every=3")
    run(request([patches], out, *more, "train.max_steps=5"), Watcher())
    (out / "report.json").unlink()
    run(request([patches], out, *more, resume=True), Watcher())
    assert hexes(out) == hexes(unvalidated)


def test_measuring_how_long_it_will_take_changes_no_loss(
    unvalidated: Path, patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned, "lines", lambda *_: [])
    run(request([patches], tmp_path / "run", "train.patience=1"), Watcher())
    assert hexes(tmp_path / "run") == hexes(unvalidated)


@pytest.fixture(scope="module")
def whole(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("whole")
    cross(request([patches], home / "cv", "train.validate=next-fold"), Watcher())
    ears = Ears()
    asked = request(
        [patches], home / "run", "train.epochs=9", side=Side(everything=True),
        epochs_from=str(home / "cv"),
    )  # fmt: skip
    run(asked, ears)
    (home / "run" / "said.txt").write_text("\n".join(ears.said))
    return home / "run"


def test_fold_all_trains_on_everything_for_as_long_as_the_cv_found_best(
    whole: Path, patches: Path
) -> None:
    report = report_of(whole)
    counts = json.loads((patches / "dataset.json").read_text())["counts"]
    told = report["roles"]["datasets"]["inbreast"]
    left = sum(each["samples"] for each in told["left_out"].values())
    assert told["train"]["samples"] == counts["samples"] - left
    best = []
    for fold in range(3):
        lines = folder.read_log(whole.parent / "cv" / f"fold{fold}")
        best += [[x["epoch"] for x in lines if "validation" in x and x["best"]][-1]]
    assert folder.read_config(whole)["train"]["epochs"] == sorted(best)[1]
    assert "the median of" in (whole / "said.txt").read_text()
    assert report["n"] == 0
    assert report["metrics"] == {}
    assert "Every sample trained" in summary.summary(report, whole)
    assert "Every sample trained" in (whole / "report.html").read_text()
    assert not (whole / "scores.csv").exists()


def test_a_run_on_everything_can_be_asked_and_exported_but_decides_nothing(
    whole: Path, official: Path, tmp_path: Path
) -> None:
    predict(Asked(whole, str(official), tmp_path / "out", device="cpu"), Watcher())
    lines = (tmp_path / "out" / "scores.csv").read_text().splitlines()
    place = lines[0].split(",").index("decision")
    assert len(lines) > 2
    assert {line.split(",")[place] for line in lines[1:]} == {""}
    exporting.export(exporting.Request(whole, "torchscript", tmp_path / "model.pt", ""))
    assert (tmp_path / "model.pt").is_file()


def test_of_its_own_shards_nothing_is_left_to_score(whole: Path, patches: Path) -> None:
    asked = rescore.Request(whole, (str(patches),), device="cpu")
    with pytest.raises(ConfigError, match="none is left to score"):
        rescore.rescore(asked, Watcher())


@pytest.mark.parametrize(
    ("fold", "source", "message"),
    [("-1", "", "a number from 0"), ("two", "", "a number from 0"), ("1", "DIR", "goes with")],
)
def test_folds_that_are_none_are_refused(fold: str, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _left_out(fold, source)


def test_another_folder_than_that_of_a_cv_tells_no_epochs(patches: Path, tmp_path: Path) -> None:
    asked = request(
        [patches], tmp_path / "run", side=Side(everything=True), epochs_from=str(tmp_path)
    )
    with pytest.raises(ConfigError, match="no finished cv"):
        run(asked, Watcher())


@pytest.mark.parametrize("share", [0.11, -0.1, 1.0])
def test_a_warm_up_of_more_than_a_tenth_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share of all steps"):
        config.load("deq", (f"train.warmup={share}",))


def test_the_old_number_of_warm_up_steps_names_the_share() -> None:
    with pytest.raises(ConfigError, match="'warmup'"):
        config.load("deq", ("train.warmup_steps=20",))


def test_several_processes_say_where_they_differ_from_one() -> None:
    def said(model: nn.Module, size: int) -> str:
        config = SimpleNamespace(batch_size=8)
        job = SimpleNamespace(world=SimpleNamespace(size=size), bare=model, config=config)
        return " ".join(planned._of_ranks(job))  # type: ignore[arg-type]

    normed, dropping = nn.BatchNorm2d(3), nn.Sequential(nn.Dropout(0.3))
    assert "batch norm sees the 4 samples of each process" in said(normed, 2)
    assert "dropout and drop path draw on each process" in said(dropping, 2)
    assert said(nn.SyncBatchNorm(3), 2) == said(nn.Linear(2, 2), 2) == ""
    assert said(nn.Sequential(nn.Dropout(0.0)), 2) == said(normed, 1) == ""
