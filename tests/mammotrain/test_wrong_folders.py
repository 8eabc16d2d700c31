"""Folders and shards that are not what a command asks for: each is named, with what to give."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scored import make

from mammoprep.core.errors import ConfigError
from mammotrain import checkpoint, comparison, finished, folder, scores, setup
from mammotrain.predicting import panel, unlabelled
from mammotrain.scores import Scores

RECIPE = {
    "recipe": "toy", "data": {"workers": 1}, "model": {"name": "deq"},
    "task": {"name": "classify"}, "train": {"batch_size": 4},
}  # fmt: skip


def run_in(place: Path, **side: object) -> Path:
    """Return the folder of a finished run, without any weights."""
    place.mkdir(parents=True)
    folder.write_config(place, {**RECIPE, **side}, resume=False)
    (place / "report.json").write_text('{"threshold": null, "prior": null, "baselines": {}}')
    return place


def scored_in(place: Path, table: Scores) -> Path:
    """Return a folder of scores as ``mammotrain eval`` leaves it: no recipe."""
    place.mkdir()
    (place / "report.json").write_text('{"threshold": 0.4, "prior": null, "baselines": {}}')
    scores.write(place / "scores.csv", table)
    return place


def test_only_a_run_that_can_go_on_is_told_to_resume(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("")
    for resume in (False, None):
        with pytest.raises(ConfigError, match=r"not empty\. Give another --out\.$"):
            folder.check_free(tmp_path, resume=resume)
    (tmp_path / folder.CONFIG).write_text("")
    with pytest.raises(ConfigError, match=r"--out, or --resume to go on there\.$"):
        folder.check_free(tmp_path, resume=False)
    with pytest.raises(ConfigError, match=r"Give another --out\.$"):
        folder.check_free(tmp_path, resume=None)
    folder.check_free(tmp_path, resume=True)


def test_a_cv_is_not_asked_as_if_it_were_one_model(tmp_path: Path) -> None:
    place = run_in(tmp_path / "cv", by="fold")
    for fold in (0, 1, 2):
        run_in(place / f"fold{fold}", fold=fold)
    with pytest.raises(ConfigError, match=r"cv of 3 models.* such as .*cv/fold0; .*predict"):
        finished.prepare(finished.open_run(place), None, None)
    assert not finished.open_run(place / "fold1").is_cv


def test_what_holds_no_run_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuch does not exist"):
        finished.open_run(tmp_path / "nosuch")
    with pytest.raises(ConfigError, match="holds no run"):
        finished.open_run(tmp_path)
    for name in ("full", "no-ema"):
        run_in(tmp_path / name, by="fold")
    (tmp_path / "ablation.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"full, no-ema\. Give one of them, such as .*/full\."):
        panel.open_panel(tmp_path)
    study = tmp_path / "study"
    study.mkdir()
    folder.write_config(study, RECIPE, resume=False)
    with pytest.raises(ConfigError, match="was not finished"):
        finished.open_run(study)
    (study / "study.db").write_text("")
    with pytest.raises(ConfigError, match="study of mammotrain tune"):
        finished.open_run(study)


@pytest.mark.parametrize(
    ("run", "stage"),
    [
        ("two", "two-first"), ("cv/fold0", "cv-first"), ("all/full/fold0", "all/first-stage"),
        ("two", ""),
    ],
)  # fmt: skip
def test_true_masks_are_refused_by_a_run_of_predicted_ones_and_the_right_shards_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, stage: str
) -> None:
    opened = finished.open_run(run_in(tmp_path / run, fold=0))
    made = tmp_path / stage / "predicted" / "dataset"
    if stage:
        made.mkdir(parents=True)
        (made / "dataset.json").write_text("{}")
    about = {"preparation": {"size": [32, 32], setup.PREDICTED: True, "label_names": []}}
    saved = SimpleNamespace(state={"about": about | {"content": "then"}})
    monkeypatch.setattr(checkpoint, "best", lambda place: saved)
    table = SimpleNamespace(
        summary={}, preparation={"size": [32, 32], "label_names": []}, content="now"
    )
    said = rf"predicted masks: {made}, or those that .*--masks" if stage else "masks: those that"
    with pytest.raises(ConfigError, match=said):
        finished.prepare(opened, table, None)
    member = SimpleNamespace(run=opened, about=about)
    with pytest.raises(ConfigError, match=said):
        unlabelled.check_prepared(member, table)
    table.summary = {setup.PREDICTED: {"recipe": "unet"}}
    unlabelled.check_prepared(member, table)
    about["preparation"][setup.PREDICTED] = False
    with pytest.raises(ConfigError, match="true masks, and those of these shards are predicted"):
        unlabelled.check_prepared(member, table)


def test_a_folder_of_eval_is_compared_too(tmp_path: Path) -> None:
    table = make()
    one, other = (scored_in(tmp_path / name, table) for name in ("one", "other"))
    found = comparison.compare([one, other], draws=20)
    assert found["n"] == len(table)
    assert found["runs"][1]["gains"]["auroc"]["difference"] == 0
    assert found["runs"][1]["metrics"]["f1"]["value"] is not None  # at the threshold of its report


def test_runs_that_cannot_be_compared_are_named_in_the_order_of_what_they_have(
    tmp_path: Path,
) -> None:
    table = make()
    few = scored_in(tmp_path / "few", table.take(np.arange(30)))
    many = scored_in(tmp_path / "many", table)
    with pytest.raises(ConfigError, match=r"few and \S*many: .* of 30 and 400 samples 30 are"):
        comparison.compare([few, many], draws=0)
    several = scored_in(tmp_path / "several", make(classes=3))
    said = r"many and \S*several: .*classes: negative, cancer; and a, b, c\."
    with pytest.raises(ConfigError, match=said):
        comparison.compare([many, several], draws=0)
