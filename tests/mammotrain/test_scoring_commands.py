"""Folds pooled, runs scored on other shards, runs compared; nothing is asked what it was taught."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import mammoprep
from mammoprep.core.errors import ConfigError, DamageError
from mammotrain import cli, comparison, config, finished, priors, repeats, scores
from mammotrain.ablation import Ablation, ablate
from mammotrain.cross import cross
from mammotrain.data.splits import Side
from mammotrain.predicting.panel import open_panel
from mammotrain.report import assemble
from mammotrain.rescore import Request as Asked
from mammotrain.rescore import rescore
from mammotrain.run import Request, run
from mammotrain.watching import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.width=8", "model.groups=4", "train.batch_size=8", "train.epochs=2", "data.workers=1",
    "data.sampling=balanced",
)  # fmt: skip


def request(shards: Path, out: Path, *more: str, side: Side = Side(), resume: bool = False):  # noqa: B008
    found = config.load("deq", (*SMALL, "data.size=[32, 32]", *more))
    return Request(found, (str(shards),), out, side, resume, device="cpu")


@pytest.fixture(scope="module")
def crossed(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cv") / "deq"
    cross(request(patches, out), Watcher())
    return out


@pytest.fixture(scope="module")
def finished_run(crossed: Path) -> Path:
    return crossed / "fold0"


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of other patients of the same source, prepared in the same way."""
    home = tmp_path_factory.mktemp("others")
    mammoprep.phantom("inbreast", home / "raw", patients=9, seed=77, size_scale=0.08)
    mammoprep.build(
        source="inbreast", input=home / "raw", out=home / "shards", roi="48x48", roi_shrink=1,
        folds=3, workers=1,
    )  # fmt: skip
    return home / "shards"


def report_of(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def test_every_sample_is_scored_once_by_the_run_that_left_it_out(
    crossed: Path, patches: Path
) -> None:
    pooled = scores.read(crossed / "scores.csv")
    split = splits_in(patches)
    assert {key for key, name in split.items() if not name.endswith("-aug")} == set(pooled.key)
    for key, fold in zip(pooled.key, pooled.fold, strict=True):
        assert split[key] == fold
    one = scores.read(crossed / "fold1" / "scores.csv")
    inside = pooled.take(pooled.fold == "fold1")
    assert np.array_equal(inside.values, one.values)


def splits_in(shards: Path) -> dict[str, str]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(shards / "samples.parquet", columns=["key", "split"])
    return dict(zip(table["key"].to_pylist(), table["split"].to_pylist(), strict=True))


def test_the_auroc_of_a_cv_is_that_of_scikit_learn_per_fold_weighed_by_pairs(
    crossed: Path,
) -> None:
    report, pooled = report_of(crossed), scores.read(crossed / "scores.csv")
    assert report["split"] == "cv"
    folds = ["fold0", "fold1", "fold2"]
    assert set(report["slices"]["fold"]) == set(report["folds"]) == set(folds)
    each, pairs = [], []
    for fold in folds:
        inside = pooled.fold == fold
        label, score = pooled.label[inside], pooled.values[inside, 1]
        each.append(roc_auc_score(label, score))
        pairs.append(label.sum() * (label == 0).sum())
        assert report["folds"][fold]["auroc"] == pytest.approx(each[-1], abs=1e-6)
    expected = np.average(each, weights=pairs)
    assert report["metrics"]["auroc"]["value"] == pytest.approx(expected, abs=1e-6)
    whole = roc_auc_score(pooled.label, pooled.values[:, 1])
    assert report["pooled"]["auroc"] == pytest.approx(whole, abs=1e-6)
    assert report["spread"]["auroc"]["sd"] == pytest.approx(np.std(each, ddof=1), abs=1e-6)
    assert report["baselines"]["majority"]["metrics"]["auroc"]["value"] == 0.5
    assert report["baselines"]["shortcut"]["metrics"]["auroc"]["value"] is not None
    assert "<svg" in (crossed / "report.html").read_text()


def test_threshold_and_correction_of_a_fold_are_those_of_its_own_run(crossed: Path) -> None:
    report = report_of(crossed)
    runs = {fold: report_of(crossed / fold) for fold in report["folds"]}
    assert report["threshold"] == {fold: each["threshold"] for fold, each in runs.items()}
    assert report["prior"]["folds"] == {fold: each["prior"] for fold, each in runs.items()}
    pooled = scores.read(crossed / "scores.csv")
    for fold, each in runs.items():
        inside = pooled.take(pooled.fold == fold)
        own = inside.with_values(inside.given)
        np.testing.assert_array_equal(
            inside.values, priors.corrected(own, assemble.prior_of(each)).values
        )
    assert any(runs[fold]["prior"] for fold in runs)  # balanced sampling changed the prevalence


def test_folds_that_are_finished_are_not_trained_again(crossed: Path, patches: Path) -> None:
    before = {p: p.read_bytes() for p in crossed.glob("fold*/log.jsonl")}
    pooled = (crossed / "scores.csv").read_bytes()
    shutil.rmtree(crossed / "fold2")
    (crossed / "report.json").unlink()
    cross(request(patches, crossed, resume=True), Watcher())
    for path, content in before.items():
        if "fold2" not in str(path):
            assert path.read_bytes() == content
    assert (crossed / "scores.csv").read_bytes() == pooled


def test_a_cv_folder_with_something_in_it_is_refused(crossed: Path, patches: Path) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        cross(request(patches, crossed), Watcher())


@pytest.mark.slow
def test_each_machine_is_left_out_in_turn(tmp_path: Path) -> None:
    mammoprep.phantom("rsna", tmp_path / "raw", patients=16, seed=4, size_scale=0.04)
    mammoprep.build(
        source="rsna", input=tmp_path / "raw", out=tmp_path / "shards", size="32x64", folds=3,
        workers=1,
    )  # fmt: skip
    asked = request(
        tmp_path / "shards", tmp_path / "cv", "data.size=[]", "task.target=cancer",
        "train.epochs=1", side=Side(by="machine"),
    )  # fmt: skip
    report = cross(asked, Watcher())
    assert report["split"] == "cv by machine"
    pooled = scores.read(tmp_path / "cv" / "scores.csv")
    assert len(set(pooled.fold)) > 1
    for number, name in enumerate(sorted(set(pooled.fold), key=lambda n: int(n.split()[1]))):
        with (tmp_path / "cv" / f"machine{number}" / "groups.csv").open() as file:
            taught = {row["group"] for row in csv.DictReader(file) if row["role"] != "score"}
        assert not taught & set(pooled.group[pooled.fold == name])


def test_machines_that_cannot_be_told_apart_are_refused(patches: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"labels\.site_id"):
        cross(request(patches, tmp_path / "cv", side=Side(by="site")), Watcher())
    with pytest.raises(ConfigError, match="Did you mean 'machine'"):
        cross(request(patches, tmp_path / "cv2", side=Side(by="machines")), Watcher())


def test_its_own_shards_give_the_scores_of_the_run_again(
    finished_run: Path, patches: Path, tmp_path: Path
) -> None:
    report, place = rescore(Asked(finished_run, (str(patches),), tmp_path / "again"), Watcher())
    first, again = (scores.read(p / "scores.csv") for p in (finished_run, place))
    assert np.array_equal(first.key, again.key)
    assert np.allclose(first.values, again.values, atol=1e-6)
    assert report["threshold"] == report_of(finished_run)["threshold"]
    own = report_of(finished_run)
    assert report["metrics"]["f1"] == own["metrics"]["f1"]
    for level in ("breast", "patient"):
        mine, theirs = report["levels"][level], own["levels"][level]
        assert mine.get("threshold") == theirs.get("threshold")
        for name, each in (mine.get("metrics") or {}).items():
            assert each["value"] == theirs["metrics"][name]["value"], (level, name)


@pytest.mark.slow
def test_new_patients_are_all_scored_at_the_threshold_of_the_run(
    finished_run: Path, others: Path, tmp_path: Path
) -> None:
    report, place = rescore(Asked(finished_run, (str(others),), tmp_path / "new"), Watcher())
    assert report["n"] == len(splits_in(others))
    assert report["split"] == "all"
    assert report["threshold"] == report_of(finished_run)["threshold"]
    assert report["prior"] == report_of(finished_run)["prior"]
    assert (place / "report.html").is_file()


def test_patients_that_the_run_has_learned_from_are_refused(
    finished_run: Path, patches: Path, tmp_path: Path
) -> None:
    shuffled = tmp_path / "shuffled"
    mammoprep.build(
        source="inbreast", input=patches.parent / "raw", out=shuffled, roi="48x48", roi_shrink=1,
        folds=3, seed=5, workers=1,
    )  # fmt: skip
    with pytest.raises(DamageError, match="too good") as error:
        rescore(Asked(finished_run, (str(shuffled),), tmp_path / "out"), Watcher())
    assert error.value.exit_code == 4


def test_shards_that_were_prepared_differently_are_refused_with_the_difference(
    finished_run: Path, patches: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    mammoprep.build(
        source="inbreast", input=patches.parent / "raw", out=other, roi="48x48", roi_shrink=2,
        folds=3, workers=1,
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    copied = tmp_path / "run" / "deq"
    shutil.copytree(finished_run, copied)
    (copied / "groups.csv").write_text("source,group,role\n")
    with pytest.raises(ConfigError, match="roi_shrink: 1"):
        rescore(Asked(copied, (str(other),)), Watcher())


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path: Path, patches: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        rescore(Asked(tmp_path, (str(patches),)), Watcher())
    (tmp_path / "config.toml").write_text("fold = 0\n")
    with pytest.raises(ConfigError, match="not finished"):
        comparison.compare([tmp_path, tmp_path])


def test_a_run_beside_itself_gains_nothing_and_a_better_one_gains(
    crossed: Path, tmp_path: Path
) -> None:
    better = tmp_path / "better"
    shutil.copytree(crossed, better)
    table = scores.read(better / "scores.csv")
    toward = np.stack([1 - table.label, table.label], axis=1)
    scores.write(better / "scores.csv", table.with_values(0.5 * table.values + 0.5 * toward))
    found = comparison.compare([crossed, crossed, better], draws=200)
    same, gained = found["runs"][1]["gains"]["auroc"], found["runs"][2]["gains"]["auroc"]
    assert (same["difference"], same["ci95"]) == (0, [0, 0])
    assert gained["difference"] > 0.2
    assert gained["ci95"][0] > 0
    assert found["runs"][0]["gains"] is None
    report = finished.open_run(crossed).report["baselines"]
    assert found["baselines"]["majority"] == report["majority"]["metrics"]
    page = comparison.page(found, "Three runs")
    assert f"{report['shortcut']['metrics']['auroc']['value']:.3f}" in page


def test_runs_that_scored_other_samples_are_not_compared(crossed: Path) -> None:
    with pytest.raises(ConfigError, match=r"fold0 and .*fold1: .*same samples"):
        comparison.compare([crossed / "fold0", crossed / "fold1"])


def test_the_command_line_compares_for_people_and_for_programs(crossed: Path) -> None:
    arguments = ["compare", str(crossed), str(crossed)]
    assert "auroc" in CliRunner().invoke(cli.app, arguments).stdout
    plain = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert plain.exit_code == 0
    assert len(json.loads(plain.stdout)["runs"]) == 2


def test_a_resumed_run_augments_where_it_began(patches: Path, tmp_path: Path) -> None:
    more = ("data.augmentation={flip_horizontal = 0.5, rotate_degrees = 20.0}", "train.epochs=1")
    run(request(patches, tmp_path / "deq", *more), Watcher())
    path = tmp_path / "deq" / "config.toml"
    chosen = config.from_table("deq", without_side(path)).data.augment_on
    assert chosen in ("cpu", "device")
    other = {"cpu": "device", "device": "cpu"}[chosen]
    path.write_text(path.read_text().replace(f'"{chosen}"', f'"{other}"'))
    shutil.rmtree(tmp_path / "deq" / "checkpoints")
    run(request(patches, tmp_path / "deq", *more, resume=True), Watcher())
    assert config.from_table("deq", without_side(path)).data.augment_on == other


def without_side(path: Path) -> dict:
    import tomllib

    return {k: v for k, v in tomllib.loads(path.read_text()).items() if k not in finished.SIDES}


ABLATION = """
dataset = "inbreast"
[data]
size = [32, 32]
workers = 1
[model]
name = "deq"
width = 8
groups = 4
[task]
name = "classify"
target = "abnormal"
[train]
batch_size = 8
epochs = 1
ema = 0.9
[ablate]
no-ema = ["train.ema=0"]
"""


@pytest.mark.slow
def test_each_ingredient_is_left_out_in_turn(patches: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(ABLATION)
    found = config.load(str(recipe))
    asked = Request(found, (str(patches),), tmp_path / "out", device="cpu")
    table = ablate(Ablation(str(recipe), (), asked), Watcher())
    assert [Path(run["run"]).name for run in table["runs"]] == ["full", "no-ema"]
    assert "ema = 0.9" in (tmp_path / "out" / "full" / "fold1" / "config.toml").read_text()
    assert "ema = 0" in (tmp_path / "out" / "no-ema" / "fold1" / "config.toml").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "train.ema=0" in page
    assert json.loads((tmp_path / "out" / "ablation.json").read_text())["n"] == table["n"]


def test_a_variant_that_cannot_be_run_is_refused_before_any_is_trained(
    patches: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(ABLATION + 'odd = ["train.monitor=aurc"]')
    asked = Request(config.load(str(recipe)), (str(patches),), tmp_path / "out", device="cpu")
    with pytest.raises(ConfigError, match="Did you mean 'auroc'"):
        ablate(Ablation(str(recipe), (), asked), Watcher())
    assert not list((tmp_path / "out").glob("*"))


def test_a_recipe_without_variants_says_how_to_give_some(patches: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no-ema"):
        ablate(Ablation("deq", (), request(patches, tmp_path / "out")), Watcher())


@pytest.fixture(scope="module")
def repeated(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("repeats") / "deq"
    repeats.repeat(request(patches, out, "train.epochs=1"), 3, Watcher())
    return out


def test_repeats_are_whole_cvs_with_other_seeds_reported_apart(repeated: Path) -> None:
    report = report_of(repeated)
    each = [report_of(repeated / f"repeat{number}") for number in range(3)]
    assert report["repeats"]["seeds"] == [0, 1, 2]
    values = [one["metrics"]["auroc"]["value"] for one in each]
    assert report["repeats"]["values"]["auroc"] == values
    assert len(set(values)) > 1
    assert report["repeats"]["spread"]["auroc"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert report["metrics"] == each[0]["metrics"]  # no interval mixes patients and trainings
    assert "mean" in "\n".join(repeats.lines(report))
    assert "repeat2" in (repeated / "report.html").read_text()


def test_a_model_of_repeats_is_asked_for_by_name(repeated: Path) -> None:
    with pytest.raises(ConfigError, match="repeat0"):
        open_panel(repeated)


def test_fewer_than_three_repeats_are_refused(patches: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        repeats.repeat(request(patches, tmp_path / "out"), 2, Watcher())
    assert not (tmp_path / "out").exists()
