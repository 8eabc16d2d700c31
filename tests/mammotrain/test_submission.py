"""The RSNA challenge: scored by breasts, and one row a breast to be handed in."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mammoprep
from mammotrain import config, finished, levels, scores, submission, summary
from mammotrain import predict as predicting
from mammotrain.cross import cross
from mammotrain.data.shards import open_table
from mammotrain.data.splits import Side
from mammotrain.predict import predict
from mammotrain.report import assemble, page, tables
from mammotrain.report.assemble import About
from mammotrain.run import Request
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged
from mammotrain.trainer import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.variant=resnet10t", "data.size=[32, 64]", "data.workers=1", "train.batch_size=8",
    "train.epochs=1", "train.max_steps=3", "train.warmup=0", "task.smoothing=0",
    "train.pretrained=none",
    "train.amp=none", "train.ema=0", "task.auxiliary=0", "data.sampling=balanced",
)  # fmt: skip


class Telling(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def built(home: Path, patients: int, seed: int) -> Path:
    mammoprep.phantom("rsna", home / "raw", patients=patients, seed=seed, size_scale=0.05,
                      prevalence=0.5)  # fmt: skip
    mammoprep.build(
        source="rsna", input=home / "raw", out=home / "shards", size="32x64", folds=3, workers=1
    )
    return home


@pytest.fixture(scope="module")
def screening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms with a train table and a test table: raw, and shards of both."""
    return built(tmp_path_factory.mktemp("screening"), 24, 4)


@pytest.fixture(scope="module")
def crossed(screening: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cv") / "resnext"
    found = config.load("resnext", SMALL)
    shards = (str(screening / "shards"),)
    cross(Request(found, shards, out, Side(), device="cpu"), Watcher())
    return out


def asked(run: Path, data: Path, out: Path, **more: Any) -> predicting.Request:
    return predicting.Request(run, str(data), out, device="cpu", overlays=False, **more)


def handed_in(out: Path) -> list[tuple[str, float]]:
    with (out / "submission.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["prediction_id", "cancer"]
    return [(name, float(value)) for name, value in rows]


def names_of_test(screening: Path) -> list[str]:
    """Return the breasts of the challenge's test table, sorted."""
    with (screening / "raw" / "test.csv").open() as file:
        return sorted({row["prediction_id"] for row in csv.DictReader(file)})


def by_levels(out: Path, names: list[str]) -> list[float]:
    """Return what the report's own level makes of scores.csv, by PATIENT_LATERALITY."""
    breasts = levels.aggregate(scores.read(out / "scores.csv"), "breast")
    told = [f"{g}_{side}" for g, side in zip(breasts.group, breasts.laterality, strict=True)]
    known = dict(zip(told, breasts.values[:, 1], strict=True))
    return [float(known[name]) for name in names]


# --- what is handed in


@pytest.mark.slow
@pytest.mark.parametrize("part", ["", "fold1"])
def test_every_breast_of_the_test_table_is_there_once_as_the_levels_have_it(
    screening: Path, crossed: Path, tmp_path: Path, part: str
) -> None:
    outcome = predict(asked(crossed / part, screening / "shards", tmp_path / "out"), Watcher())
    found = handed_in(tmp_path / "out")
    names = [name for name, _ in found]
    assert names == names_of_test(screening)
    assert len(names) == outcome.breasts >= 4
    expected = by_levels(tmp_path / "out", names)
    assert [value for _, value in found] == pytest.approx(expected, abs=1e-12)
    assert len(set(expected)) > 1
    assert f"Breasts for the challenge, {len(names)}" in predicting.summary(outcome, tmp_path)
    samples = json.loads((tmp_path / "out" / "scores.json").read_text())["samples"]
    of_test = [line for line in samples if f"{line['key'].split('_')[1]}_L" in names]
    folds = [part] if part else ["fold0", "fold1", "fold2"]
    assert of_test
    assert all(line["asked"] == folds for line in of_test)


@pytest.mark.slow
def test_probabilities_are_those_of_the_natural_prevalence(
    screening: Path, crossed: Path, tmp_path: Path
) -> None:
    priors = [finished.open_run(crossed / f"fold{number}").prior for number in range(3)]
    assert all(prior is not None and prior.changes for prior in priors)
    predict(asked(crossed, screening / "shards", tmp_path / "out"), Watcher())
    table = json.loads((tmp_path / "out" / "scores.json").read_text())
    told = [table["prior"][f"fold{number}"]["natural"] for number in range(3)]
    assert told == [list(prior.natural) for prior in priors]
    # the submission is made of the corrected ones
    first = names_of_test(screening)[:1]
    found = handed_in(tmp_path / "out")[0][1]
    assert found == pytest.approx(by_levels(tmp_path / "out", first)[0])
    raw = scores.read(tmp_path / "out" / "scores.csv")
    plain = levels.aggregate(raw.with_values(raw.given), "breast")
    told = [f"{g}_{side}" for g, side in zip(plain.group, plain.laterality, strict=True)]
    known = dict(zip(told, plain.values[:, 1], strict=True))
    assert abs(found - known[first[0]]) > 1e-4


@pytest.mark.slow
def test_of_a_train_table_every_breast_is_named_as_the_challenge_names_it(
    crossed: Path, tmp_path: Path
) -> None:
    home = built(tmp_path, 3, 77)  # too few for a test table
    assert not (home / "raw" / "test.csv").exists()
    predict(asked(crossed, home / "shards", tmp_path / "out"), Watcher())
    found = handed_in(tmp_path / "out")
    with (home / "raw" / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = sorted({f"{row['patient_id']}_{row['laterality']}" for row in rows})
    assert [name for name, _ in found] == names
    values = [value for _, value in found]
    assert values == pytest.approx(by_levels(tmp_path / "out", names))


@pytest.mark.slow
def test_what_the_run_has_learned_from_is_not_handed_in(
    screening: Path, crossed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "IDENTIFIER", "labels.nothing")
    more = {"everything": True}
    shards = screening / "shards"
    predict(asked(crossed / "fold1", shards, tmp_path / "out", **more), Watcher())
    lines = json.loads((tmp_path / "out" / "scores.json").read_text())["samples"]
    honest = {line["key"].split("_")[1] for line in lines if not line["taught"]}
    assert {name.split("_")[0] for name, _ in handed_in(tmp_path / "out")} == honest
    assert any(line["taught"] for line in lines)


@pytest.mark.slow
def test_pictures_that_are_missing_are_said(screening: Path, crossed: Path, tmp_path: Path) -> None:
    table = open_table([screening / "shards"])
    lines = [
        {
            "key": key, "scores": {"not_cancer": 0.9, "cancer": 0.1}, "corrected": None,
            "taught": False,
        }
        for key in table.keys
    ]  # fmt: skip
    told = Telling()
    assert submission.save(tmp_path, lines, table, told.warn) == len(names_of_test(screening))
    assert told.lines == []
    table.summary["counts"]["failed"]["decode"] = 2
    submission.save(tmp_path, lines, table, told.warn)
    assert "2 pictures are not in the shards" in told.lines[0]


@pytest.mark.slow
def test_it_is_made_of_cancers_of_rsna_alone(screening: Path, tmp_path: Path) -> None:
    def saved(names: list[str], source: str = "rsna") -> int | None:
        table = open_table([screening / "shards"])
        table.summary["source"] = source
        share = 1 / len(names)
        said = dict.fromkeys(names, share)
        lines = [{"key": key, "scores": said, "corrected": None, "taught": False}
                 for key in table.keys]  # fmt: skip
        return submission.save(tmp_path, lines, table, lambda _: None)

    assert saved(["negative", "cancer"])
    assert saved(["negative", "cancer"], "vindr") is None
    assert saved(["not_biopsy", "biopsy"]) is None
    assert saved(["none", "benign", "cancer"]) is None
    table = SimpleNamespace(summaries=[{"source": "rsna"}])
    assert submission.save(tmp_path, [], table, lambda _: None) is None


@pytest.mark.slow
def test_files_make_no_submission(screening: Path, crossed: Path, tmp_path: Path) -> None:
    path = min((screening / "raw" / "test_images").rglob("*.dcm"))
    outcome = predict(asked(crossed, path, tmp_path / "out"), Watcher())
    assert outcome.breasts is None
    assert not (tmp_path / "out" / "submission.csv").exists()


def test_means_are_of_images_then_of_views_and_unknown_views_are_one() -> None:
    names = np.array(["7_L", "7_L", "7_L", "7_L", "7_L", "", "7_R"])
    views = np.array(["CC", "CC", "MLO", "", "", "CC", ""])
    cancer = np.array([0.1, 0.3, 0.5, 0.2, 0.6, 0.9, 0.05])
    found = submission.breasts(names, views, cancer)
    assert found == [("7_L", pytest.approx((0.2 + 0.5 + 0.4) / 3)), ("7_R", 0.05)]
    assert submission.breasts(np.array([""]), np.array(["CC"]), np.array([0.5])) == []


def test_only_what_has_a_prediction_id_is_asked_for_where_there_is_one() -> None:
    columns = {
        "patient_id": ["1", "1", "2", None, "3"], "laterality": ["L", "R", "L", "R", None],
        "labels.prediction_id": [None, None, "2_L", None, None],
    }  # fmt: skip
    assert submission.identifiers(columns).tolist() == ["", "", "2_L", "", ""]
    del columns["labels.prediction_id"]
    assert submission.identifiers(columns).tolist() == ["1_L", "1_R", "2_L", "", ""]


# --- by what it is scored


def hand() -> Scores:
    """Return eight images of four breasts of three patients, the third of them with a cancer."""
    rows = [  # patient, side, view, cancer, probability
        ("1", "L", "CC", 0, 0.1), ("1", "L", "MLO", 0, 0.3),
        ("1", "R", "CC", 0, 0.2), ("1", "R", "CC", 0, 0.4), ("1", "R", "MLO", 0, 0.5),
        ("2", "L", "CC", 1, 0.6), ("2", "L", "MLO", 1, 0.8),
        ("3", "L", "CC", 0, 0.0),
    ]  # fmt: skip
    patient, side, view, label, score = (np.array(each) for each in zip(*rows, strict=True))
    values = np.stack([1 - score, score], axis=1)
    keys = np.array([f"k{place}" for place in range(len(rows))])
    return Scores(keys, patient, side, view, label, values, ("not_cancer", "cancer"))


def reported(first: str, table: Scores) -> dict[str, Any]:
    about = About("resnext", "rsna", "fold0", first=first, draws=20)
    return assemble.assemble(Judged(table, None, 0.35, {"breast": 0.35}), about)


def test_pf1_of_breasts_is_that_of_a_hand_computed_case() -> None:
    found = reported("breast", hand())["levels"]["breast"]
    # breasts: 1/L .2, 1/R (.3 + .5) / 2 = .4, 2/L .7 with the cancer, 3/L 0
    assert found["n"] == 4
    soft = 2 * 0.7 / ((0.2 + 0.4 + 0.7 + 0.0) + 1)
    assert found["metrics"]["pf1"]["value"] == pytest.approx(soft, abs=1e-6)
    # from .35 on: 1/R and 2/L
    assert found["metrics"]["pf1_binarised"]["value"] == pytest.approx(2 * 1 / (2 + 1), abs=1e-6)
    assert found["metrics"]["auroc"]["value"] == 1
    assert found["metrics"]["pf1"]["level"] == "breast"


def test_breasts_are_judged_at_a_threshold_of_their_own() -> None:
    about = About("resnext", "rsna", "fold0", draws=0)
    found = assemble.assemble(Judged(hand(), None, 0.35, {"breast": 0.45}), about)
    # images from .35 on: .4, .5, .6 and .8, of which two have the cancer; breasts from .45 on: 2/L
    assert found["metrics"]["f1"]["value"] == pytest.approx(2 * 2 / (4 + 2), abs=1e-6)
    assert found["levels"]["breast"]["metrics"]["f1"]["value"] == 1
    assert found["levels"]["patient"]["metrics"]["f1"]["value"] is None


def test_a_report_on_rsna_begins_with_breasts_and_one_on_others_with_images(
    tmp_path: Path,
) -> None:
    table = hand()
    first, plain = reported("breast", table), reported("image", table)
    top = tables.headline(first)["figures"]
    assert [each["name"] for each in top[:3]] == [
        "pF1, of probabilities, by breast", "pF1, of decisions, by breast", "AUROC, by breast",
    ]  # fmt: skip
    assert top[0]["value"] == f"{1.4 / 2.3:.3f}"
    assert [each["name"] for each in tables.scores(first)["levels"]][:2] == ["breast", "image"]
    cells = {row["title"]: row["cells"] for row in tables.scores(first)["rows"]}
    assert cells["pF1, of probabilities"][0]["value"] == f"{1.4 / 2.3:.3f}"
    assert tables.headline(plain)["figures"][0]["name"] == "AUROC"
    assert tables.scores(plain)["levels"][0]["name"] == "image"
    assert "pF1, of probabilities, by breast" in page.render(first, [], table, lambda key: None)
    said = summary.summary(first, tmp_path).splitlines()
    assert said[1] == "4 breasts:"
    assert said[said.index("8 images:") + 1].startswith("  auroc ")
    images = summary.summary(plain, tmp_path).splitlines()
    assert images[1].startswith("auroc ")
    assert "4 breasts:" in images
    without = Scores(table.key, table.group, np.full(8, ""), table.view, table.label, table.values,
                     table.names)  # fmt: skip
    assert reported("breast", without)["levels"]["first"] == "image"
    assert tables.headline(reported("breast", without))["figures"][0]["name"] == "AUROC"


def test_which_level_comes_first_is_a_matter_of_the_source() -> None:
    assert levels.first_of(["rsna"]) == levels.first_of(["rsna", "rsna"]) == "breast"
    assert levels.first_of(["inbreast"]) == levels.first_of(["rsna", "inbreast"]) == "image"


@pytest.mark.slow
def test_cv_and_eval_of_rsna_begin_with_breasts(crossed: Path) -> None:
    for place in (crossed, crossed / "fold0"):
        report = json.loads((place / "report.json").read_text())
        assert report["levels"]["first"] == "breast"
        assert "pF1, of probabilities, by breast" in (place / "report.html").read_text()
        pooled = levels.aggregate(finished.open_run(place).judged().scores.labelled(), "breast")
        score, label = pooled.values[:, 1], pooled.label
        expected = 2 * score[label == 1].sum() / (score.sum() + label.sum())
        found = report["levels"]["breast"]["metrics"]["pf1"]["value"]
        assert found == pytest.approx(expected, abs=1e-6)
