"""Finished runs asked about new pictures: whom, at which threshold, and where the lesions are."""

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers import tree_of
from torch import Tensor, nn
from typer.testing import CliRunner

import mammoprep
from mammoprep.core.errors import ConfigError
from mammoprep.core.geometry import Geometry
from mammoprep.verify import verify
from mammotrain import checkpoint, config, finished, folder, scores, thresholds
from mammotrain.checkpoint import Checkpoint
from mammotrain.cli import app
from mammotrain.contracts import Output
from mammotrain.cross import cross
from mammotrain.data.shards import open_table
from mammotrain.data.splits import Side
from mammotrain.predict import Request, predict, summary
from mammotrain.predicting import boxes, overlays, unlabelled, voices
from mammotrain.predicting.written import Findings
from mammotrain.rescore import Request as Asked
from mammotrain.rescore import rescore
from mammotrain.run import Request as Training
from mammotrain.run import run
from mammotrain.watching import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.width=8", "model.groups=4", "train.batch_size=8", "train.epochs=1", "data.workers=1",
    "train.validate=next-fold",
    "data.sampling=balanced", "data.size=[32, 32]",
)  # fmt: skip
SIZE = (64, 128)


class Telling(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def asked(place: Path, given: object, out: Path, **more: object) -> Request:
    return Request(place, str(given), out, device="cpu", **more)


def tell(out: Path) -> dict:
    return json.loads((out / "scores.json").read_text())


def boxes_in(out: Path) -> dict[str, dict]:
    return {line["key"]: line for line in json.loads((out / "boxes.json").read_text())["samples"]}


@pytest.fixture(scope="module")
def crossed(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cv") / "deq"
    found = config.load("deq", SMALL)
    cross(Training(found, (str(patches),), out, Side(), device="cpu"), Watcher())
    return out


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of other patients, prepared in the same way."""
    home = tmp_path_factory.mktemp("others")
    mammoprep.phantom("inbreast", home / "raw", patients=6, seed=77, size_scale=0.08)
    mammoprep.build(
        source="inbreast", input=home / "raw", out=home / "shards", roi="48x48", roi_shrink=1,
        folds=3, workers=1,
    )  # fmt: skip
    return home / "shards"


@pytest.fixture(scope="module")
def screening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in the layout of rsna, as files (raw) and built (shards)."""
    home = tmp_path_factory.mktemp("screening")
    mammoprep.phantom("rsna", home / "raw", patients=9, seed=5, size_scale=0.06, prevalence=0.6)
    mammoprep.build(
        source="rsna", input=home / "raw", out=home / "shards", size="64x128", folds=3, workers=1
    )
    return home


@pytest.fixture(scope="module")
def whole(screening: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of whole pictures."""
    out = tmp_path_factory.mktemp("whole") / "resnext"
    found = config.load("resnext", (
        "model.variant=resnet10t", "data.size=[64, 128]", "data.workers=1", "train.batch_size=8",
        "train.max_steps=3", "train.epochs=1", "train.pretrained=none", "train.warmup=0",
        "train.amp=none",
    ))  # fmt: skip
    run(Training(found, (str(screening / "shards"),), out, Side(), device="cpu"), Watcher())
    return out


# --- whom is asked --------------------------------------------------------------------------------


def test_on_its_own_shards_a_cv_says_what_it_said_when_it_left_the_sample_out(
    crossed: Path, patches: Path, tmp_path: Path
) -> None:
    predict(asked(crossed, patches, tmp_path / "out"), Watcher())
    mine = scores.read(tmp_path / "out" / "scores.csv")
    theirs = finished.open_run(crossed).judged().scores
    assert np.array_equal(mine.key, theirs.key)
    assert np.allclose(mine.values, theirs.values, atol=1e-6)
    assert np.array_equal(mine.label, theirs.label)
    assert np.allclose(mine.given, theirs.given, atol=1e-6)
    runs = [finished.open_run(crossed / f"fold{number}") for number in range(3)]
    own = {f"fold{number}": run.threshold for number, run in enumerate(runs)}
    folds = dict(zip(theirs.key, theirs.fold, strict=True))
    for line in tell(tmp_path / "out")["samples"]:
        assert line["asked"] == [folds[line["key"]]]
        assert line["threshold"] == own[folds[line["key"]]]
        said = line["corrected"]["abnormal"] >= line["threshold"]
        assert line["decision"] == ("abnormal" if said else "not_abnormal")
        assert line["taught"] is False


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_about_new_patients_each_model_of_a_cv_is_corrected_and_then_the_mean_is_taken(
    crossed: Path, others: Path, tmp_path: Path
) -> None:
    predict(asked(crossed, others, tmp_path / "all"), Watcher())
    parts, changes = [], []
    for number in range(3):
        out = tmp_path / f"fold{number}"
        rescore(Asked(crossed / f"fold{number}", (str(others),), out, "cpu"), Watcher())
        parts.append(scores.read(out / "scores.csv"))
        prior = finished.open_run(crossed / f"fold{number}").prior
        changes.append(prior is not None and prior.changes)
    assert any(changes)
    found = scores.read(tmp_path / "all" / "scores.csv")
    assert np.allclose(found.given, np.mean([each.given for each in parts], axis=0), atol=1e-6)
    assert np.allclose(found.values, np.mean([each.values for each in parts], axis=0), atol=1e-6)
    assert not np.allclose(found.given, found.values, atol=1e-3)
    assert tell(tmp_path / "all")["samples"][0]["asked"] == ["fold0", "fold1", "fold2"]


def test_the_mean_of_a_cvs_models_decides_nothing_until_a_threshold_is_given(
    crossed: Path, others: Path, tmp_path: Path
) -> None:
    outcome = predict(asked(crossed, others, tmp_path / "out"), Watcher())
    rows = rows_of(tmp_path / "out" / "scores.csv")
    assert {row["decision"] for row in rows} == {""}
    assert all(float(row["score_abnormal"]) >= 0 for row in rows)
    told = tell(tmp_path / "out")
    assert {line["threshold"] for line in told["samples"]} == {None}
    ((reason, count),) = told["counts"]["undecided"].items()
    assert count == len(rows)
    assert reason.startswith("the mean of 3 models is a scale of its own")
    lines = summary(outcome, tmp_path / "out").splitlines()
    assert [line for line in lines if "decided" in line] == [f"  Nothing was decided: {reason}."]
    assert "--threshold" in reason
    # as docs/predict.md chooses one
    known = scores.read(tmp_path / "out" / "scores.csv").labelled()
    assert thresholds.choose(known.label == 1, known.values[:, 1]) is not None
    chosen = float(np.median(known.values[:, 1]))
    predict(asked(crossed, others, tmp_path / "stated", threshold=chosen), Watcher())
    told = tell(tmp_path / "stated")
    assert told["threshold"] == f"stated by the user: {chosen!r}"
    assert told["counts"]["undecided"] == {}
    for line in told["samples"]:
        assert (line["decision"] == "abnormal") == (line["corrected"]["abnormal"] >= chosen)
    assert len({line["decision"] for line in told["samples"]}) == 2


def copied(run: Path, place: Path, **changed: object) -> Path:
    """Return a copy of a run with another report."""
    shutil.copytree(run, place)
    report = json.loads((place / "report.json").read_text())
    (place / "report.json").write_text(json.dumps({**report, **changed}))
    return place


def test_a_run_without_a_threshold_scores_and_says_once_why_it_decides_nothing(
    crossed: Path, others: Path, tmp_path: Path
) -> None:
    why = {"threshold": None, "threshold_reason": "too few groups to validate"}
    run = copied(crossed / "fold0", tmp_path / "run", **why)
    outcome = predict(asked(run, others, tmp_path / "out"), Watcher())
    rows = rows_of(tmp_path / "out" / "scores.csv")
    assert {row["decision"] for row in rows} == {""}
    said = summary(outcome, tmp_path / "out")
    assert said.count("too few groups to validate") == 1
    assert list(tell(tmp_path / "out")["counts"]["undecided"].values()) == [len(rows)]


def test_only_the_fold_without_a_threshold_decides_nothing(
    crossed: Path, patches: Path, tmp_path: Path
) -> None:
    shutil.copytree(crossed, tmp_path / "cv")
    place = tmp_path / "cv" / "fold1" / "report.json"
    report = json.loads(place.read_text())
    place.write_text(json.dumps({**report, "threshold": None, "threshold_reason": "few"}))
    predict(asked(tmp_path / "cv", patches, tmp_path / "out"), Watcher())
    told = tell(tmp_path / "out")
    without = {line["key"] for line in told["samples"] if line["decision"] is None}
    assert without == {line["key"] for line in told["samples"] if line["asked"] == ["fold1"]}
    assert 0 < len(without) < len(told["samples"])
    assert list(told["counts"]["undecided"]) == ["fold1: the run has no threshold (few)"]


def test_a_run_that_corrects_nothing_leaves_the_corrected_columns_empty(
    crossed: Path, others: Path, tmp_path: Path
) -> None:
    run = copied(crossed / "fold0", tmp_path / "run", prior=None)
    predict(asked(run, others, tmp_path / "out"), Watcher())
    rows = rows_of(tmp_path / "out" / "scores.csv")
    assert {row["corrected_abnormal"] for row in rows} == {""}
    assert scores.read(tmp_path / "out" / "scores.csv").raw is None
    assert {line["corrected"] for line in tell(tmp_path / "out")["samples"]} == {None}


def test_scores_csv_of_predict_is_that_of_the_run_cell_by_cell(
    crossed: Path, patches: Path, tmp_path: Path
) -> None:
    predict(asked(crossed / "fold1", patches, tmp_path / "out"), Watcher())
    mine = rows_of(tmp_path / "out" / "scores.csv")
    theirs = rows_of(crossed / "fold1" / "scores.csv")
    assert [*mine[0]] == [*theirs[0], "decision", "taught"]
    numbers = [name for name in theirs[0] if name.startswith(("score_", "corrected_"))]
    assert len(numbers) == 4
    for one, other in zip(mine, theirs, strict=True):
        for name in other:
            if name in numbers:
                assert float(one[name]) == pytest.approx(float(other[name]), abs=1e-6)
            else:
                assert one[name] == other[name], name


ODD = ("nicht, gutartig", 'böse"artig, groß', " score_x ")


def test_odd_names_of_classes_and_exams_come_through_scores_csv(tmp_path: Path) -> None:
    samples = [
        {
            "key": f"k{n}", "group": "g, 1", "laterality": "L", "view": None, "label": n % 3,
            "source": "ä, b", "exam": f"e{n}" if n else None,
            "scores": dict(zip(ODD, (0.5, 0.3, 0.2), strict=True)),
            "corrected": dict(zip(ODD, (0.1, 0.2, 0.7), strict=True)),
            "decision": ODD[1], "taught": False,
        }
        for n in range(4)
    ]  # fmt: skip
    panel = SimpleNamespace(classes=ODD, corrects=True)
    found = Findings(panel, tmp_path, 0.5, overlays=False, keeps_masks=False, samples=samples)
    found.write({"format_version": 1})
    table = scores.read(tmp_path / "scores.csv")
    assert table.names == ODD
    assert table.values[0].tolist() == [0.1, 0.2, 0.7]
    assert table.given[0].tolist() == [0.5, 0.3, 0.2]
    assert table.exam.tolist() == ["", "e1", "e2", "e3"]
    assert set(table.source) == {"ä, b"}
    assert {row["decision"] for row in rows_of(tmp_path / "scores.csv")} == {ODD[1]}
    scores.write(tmp_path / "run.csv", table)
    head = (tmp_path / "run.csv").read_text(encoding="utf-8").splitlines()[0]
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8").startswith(head + ",decision")


def test_what_one_run_has_learned_from_is_left_out_or_marked(
    crossed: Path, patches: Path, tmp_path: Path
) -> None:
    told = Telling()
    outcome = predict(asked(crossed / "fold1", patches, tmp_path / "out"), told)
    kept = finished.open_run(crossed / "fold1").judged().scores
    assert set(scores.read(tmp_path / "out" / "scores.csv").key) == set(kept.key)
    lost = outcome.findings.left_out["learned_from"]
    assert any(f"{lost} samples are left out" in line for line in told.lines)
    predict(asked(crossed / "fold1", patches, tmp_path / "all", everything=True), Watcher())
    marked = {line["key"]: line["taught"] for line in tell(tmp_path / "all")["samples"]}
    assert len(marked) == len(kept) + lost
    assert {key for key, taught in marked.items() if not taught} == set(kept.key)


def test_pictures_without_any_label_are_scored(
    crossed: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = unlabelled.known_of
    monkeypatch.setattr(
        unlabelled, "known_of",
        lambda table, names=None: unlabelled.Known(
            blank(table), len(table), ("label", "labels.abnormal", "labels.cancer")
        ),
    )  # fmt: skip
    predict(asked(crossed, others, tmp_path / "out"), Watcher())
    found = scores.read(tmp_path / "out" / "scores.csv")
    assert len(found) == len(open_table([others]))
    assert (found.label == scores.UNKNOWN).all()


def test_flips_are_averaged_and_their_probabilities_too(
    crossed: Path, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(voices.VIEWS, "across", ((voices.ACROSS,),))
    found = {}
    for tta in ("none", "across", "horizontal"):
        found[tta] = _raw(asked(crossed / "fold0", others, tmp_path / tta, tta=tta))
    assert not np.allclose(found["none"], found["across"])
    assert np.allclose(found["horizontal"], (found["none"] + found["across"]) / 2, atol=1e-6)


def _raw(request: Request) -> np.ndarray:
    """Return the probabilities before they are corrected for the prevalence."""
    predict(request, Watcher())
    return scores.read(request.out / "scores.csv").given


def test_a_flip_that_training_never_showed_is_said(
    crossed: Path, others: Path, tmp_path: Path
) -> None:
    told = Telling()
    predict(asked(crossed / "fold0", others, tmp_path / "out", tta="vertical"), told)
    assert any("vertical flip" in line for line in told.lines)
    assert any("chosen on pictures that were not flipped" in line for line in told.lines)
    assert "not flipped" in tell(tmp_path / "out")["threshold"]


# --- DICOM ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dicom_file_is_scored_as_its_sample_in_the_shards(
    whole: Path, screening: Path, tmp_path: Path
) -> None:
    shards = asked(whole, screening / "shards", tmp_path / "shards", everything=True)
    predict(shards, Watcher())
    files = screening / "raw" / "train_images"
    predict(asked(whole, files, tmp_path / "files", id_map=tmp_path / "who.csv"), Watcher())
    with (tmp_path / "who.csv").open() as file:
        names = {row["key"]: Path(row["path"]).stem for row in csv.DictReader(file)}
    assert (tmp_path / "who.csv").stat().st_mode & 0o077 == 0
    theirs = scores.read(tmp_path / "shards" / "scores.csv")
    known = {key.split("_")[-1]: v for key, v in zip(theirs.key, theirs.values, strict=True)}
    mine = scores.read(tmp_path / "files" / "scores.csv")
    assert len(mine) > 20
    same = [
        np.allclose(value, known[names[key]], atol=1e-6)
        for key, value in zip(mine.key, mine.values, strict=True)
        if names[key] in known
    ]
    assert len(same) == len(mine)
    # a table that names the side can turn a picture that was displayed mirrored; a header does not
    assert np.mean(same) > 0.9
    assert len(list((tmp_path / "files" / "overlays").iterdir())) == len(mine)


def test_one_file_and_a_zip_of_it_give_the_same_scores(
    whole: Path, screening: Path, tmp_path: Path
) -> None:
    path = min((screening / "raw" / "train_images").rglob("*.dcm"))
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.write(path, "a folder/one.dcm")
    found = []
    for name, given in (("file", path), ("zip", tmp_path / "one.zip")):
        outcome = predict(asked(whole, given, tmp_path / name), Watcher())
        assert summary(outcome, tmp_path / name).startswith("1 picture was scored.")
        found.append((tmp_path / name / "scores.csv").read_bytes())
    assert found[0] == found[1]
    assert b"image_00001" in found[0]


def test_a_picture_that_comes_out_nearly_black_is_said(whole: Path, tmp_path: Path) -> None:
    y, x = np.mgrid[:160, :120]
    breast = np.hypot(x / 70, (y - 80) / 70) < 1
    picture = np.where(breast, 1500 + 37 * (x % 16) + 41 * (y % 16), 30).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    told = Telling()
    predict(asked(whole, tmp_path / "a.png", tmp_path / "out"), told)
    assert any("1 of 1 files: range_unused" in line for line in told.lines)


@pytest.mark.slow
def test_what_cannot_be_read_is_a_line_and_exit_3_and_other_files_are_left_out(
    whole: Path, screening: Path, tmp_path: Path
) -> None:
    exam = tmp_path / "exam"
    exam.mkdir()
    good, bad = sorted((screening / "raw" / "train_images").rglob("*.dcm"))[:2]
    shutil.copy(good, exam / "a.dcm")
    (exam / "b.dcm").write_bytes(bad.read_bytes()[:-4000])
    (exam / "letter.txt").write_text("Dear Mrs. Example")
    done = cli("predict", whole, exam, "--out", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    lines = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["input"] for line in lines] == ["image_00002"]
    assert set(json.loads(lines[0])) == {"input", "code", "detail"}
    assert tell(tmp_path / "out")["counts"]["left_out"] == {"not_dicom": 1}
    assert len(scores.read(tmp_path / "out" / "scores.csv")) == 1
    done = cli("predict", whole, exam / "letter.txt", "--out", tmp_path / "letter")
    assert done.returncode == 3, done.stderr
    assert "0 pictures were scored.\n1 could not be read" in done.stdout
    assert "not_dicom" in (tmp_path / "letter" / "failures.jsonl").read_text()


def test_a_folder_without_any_mammogram_is_a_mistake_and_leaves_nothing(
    whole: Path, tmp_path: Path
) -> None:
    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "one.txt").write_text("Dear Mrs. Example")
    (letters / "two.txt").write_text("Dear Mrs. Example")
    with pytest.raises(ConfigError, match=r"no picture to ask about: 2 files.*not_dicom 2"):
        predict(asked(whole, letters, tmp_path / "out"), Watcher())
    assert not [path for path in (tmp_path / "out").iterdir() if path.name != ".lock"]


def test_nothing_of_a_header_or_a_path_is_in_what_is_written(whole: Path, tmp_path: Path) -> None:
    mammoprep.phantom("dicom", tmp_path / "raw", patients=4, seed=3, size_scale=0.05)
    secrets = (tmp_path / "raw" / "truth" / "private.txt").read_text().splitlines()
    outcome = predict(asked(whole, tmp_path / "raw" / "export", tmp_path / "out"), Watcher())
    assert len(outcome.findings.samples) >= 4
    assert outcome.findings.left_out["multiframe"] == 1
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in written)
    names = " ".join(str(path.relative_to(tmp_path / "out")) for path in written)
    for secret in secrets:
        assert secret.encode() not in content, secret
        assert secret not in names


# --- boxes ----------------------------------------------------------------------------------------


class Oracle(nn.Module):
    """Knows the mask of every picture that it may be shown, however it is flipped."""

    def __init__(self, known: dict[bytes, np.ndarray]) -> None:
        super().__init__()
        self.known = {}
        for axes in ((), (0,), (1,), (0, 1)):
            for content, mask in known.items():
                picture = np.frombuffer(content, np.uint8).reshape(mask.shape)
                self.known[np.flip(picture, axes).tobytes()] = np.flip(mask, axes).copy()

    def forward(self, images: Tensor) -> Output:
        pictures = (images[:, 0] * 255).round().to(torch.uint8).numpy()
        masks = np.stack([self.known[picture.tobytes()] for picture in pictures])
        return Output(torch.from_numpy(20.0 * (masks > 0) - 10.0).float()[:, None])


def segmenting(place: Path, preparation: dict, oracle: Oracle, patch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a run whose model is the oracle."""
    table = {
        "recipe": "toy", "data": {"workers": 1}, "model": {"name": "deq"},
        "task": {"name": "segment"}, "train": {"batch_size": 4}, "fold": 0,
    }  # fmt: skip
    place.mkdir()
    folder.write_config(place, table, resume=False)
    (place / "report.json").write_text('{"threshold": 0.5, "prior": null}')
    (place / folder.GROUPS).write_text("source,group,role\n")
    about = {
        "preparation": preparation, "sources": ["toy"], "score_names": ["none", "lesion"],
        "normaliser": {"mode": "none", "target": [], "machines": {}}, "content": "",
    }  # fmt: skip
    state = {"about": about, "progress": {"best_step": None, "step": 1}}
    saved = Checkpoint({"weight": torch.zeros(1)}, None, state)
    checkpoint.save(place / folder.CHECKPOINTS, 1, saved)
    patch.setattr(unlabelled, "live", lambda member, made: oracle.eval())
    return place


def lesions_of(raw: Path, path: Path) -> list[np.ndarray]:
    """Return the outlines of a phantom's lesions in stored pixels."""
    truth = raw / "truth" / path.parent.name / f"{path.stem}.json"
    return [np.array(one["polygon"]) for one in json.loads(truth.read_text())["lesions"]]


def test_predicted_boxes_map_back_to_the_lesion_in_stored_pixels(
    screening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, images = screening / "raw", screening / "raw" / "train_images"
    preparation = dict(open_table([screening / "shards"]).preparation)
    known, expected, scales, flipped = {}, {}, {}, set()
    for file in mammoprep.prepare_files(images, preparation):
        lesions = lesions_of(raw, images / file.path)
        picture = cv2.imdecode(np.frombuffer(file.members["png"], np.uint8), -1)
        geometry = Geometry.from_json(file.metadata["geometry"])
        mask = np.zeros(picture.shape, np.uint8)
        for outline in lesions:  # OpenCV puts whole numbers at the centres of pixels
            points = np.rint((geometry.from_stored(outline) - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(mask, [points], 255, shift=4)
        known[picture.tobytes()] = mask
        if len(lesions) == 1:
            expected[file.key] = np.concatenate([lesions[0].min(0), lesions[0].max(0)])
            scales[file.key] = abs(np.linalg.det(np.array(geometry.matrix)[:, :2])) ** 0.5
            flipped.add(geometry.flipped)
    assert len(expected) >= 5
    assert flipped == {True, False}
    place = segmenting(tmp_path / "run", preparation, Oracle(known), monkeypatch)
    predict(asked(place, images, tmp_path / "out", tta="flip", overlays=False), Watcher())
    found = boxes_in(tmp_path / "out")
    assert len(found) == len(known)
    for key, box in expected.items():
        (said,) = found[key]["boxes"]
        assert np.abs(np.array(said["stored"]) - box).max() <= 2 / scales[key]
        assert found[key]["decision"] == "lesion"


def test_boxes_are_exact_in_both_spaces(
    screening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # whole pixels of a mask are a box with whole edges; stored pixels follow by the scale and the
    # offset of each axis alone, a matrix of two numbers an axis that is inverted here by hand
    preparation = dict(open_table([screening / "shards"]).preparation)
    images = screening / "raw" / "train_images"
    known, expected, mirrored = {}, {}, set()
    for file in mammoprep.prepare_files(images, preparation):
        picture = cv2.imdecode(np.frombuffer(file.members["png"], np.uint8), -1)
        mask = np.zeros(picture.shape, np.uint8)
        mask[41:60, 13:30] = 255
        known[picture.tobytes()] = mask
        (across, skew, left), (skewed, down, top) = file.metadata["geometry"]["matrix"]
        assert skew == skewed == 0
        mirrored.add(across < 0)
        x = sorted((edge - left) / across for edge in (13, 30))
        y = [(edge - top) / down for edge in (41, 60)]
        rows, columns = file.metadata["geometry"]["stored_size"]
        inside = np.clip([x[0], y[0], x[1], y[1]], 0, [columns, rows, columns, rows])
        expected[file.key] = inside
    assert mirrored == {True, False}
    place = segmenting(tmp_path / "run", preparation, Oracle(known), monkeypatch)
    for tta in ("none", "flip"):
        predict(asked(place, images, tmp_path / tta, tta=tta, overlays=False), Watcher())
        for key, entry in boxes_in(tmp_path / tta).items():
            (said,) = entry["boxes"]
            assert said["picture"] == [13, 41, 30, 60]
            assert said["stored"] == pytest.approx(expected[key], abs=0.001)  # three decimals


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_box_in_stored_pixels_is_that_of_arithmetic(mirrored: bool) -> None:
    # 200 x 300 stored pixels, cropped by 20 and 40, halved, with 3 and 7 pixels of padding
    geometry = Geometry.of_stored((300, 200))
    geometry = geometry.flipped_lr() if mirrored else geometry
    geometry = geometry.cropped((20, 40, 180, 240)).resized((100, 80))
    geometry = geometry.padded((120, 90), left=3, top=7)
    left, right = 20 + 2 * (10 - 3), 20 + 2 * (31 - 3)
    x0, x1 = (200 - right, 200 - left) if mirrored else (left, right)
    wanted = (x0, 40 + 2 * (17 - 7), x1, 40 + 2 * (50 - 7))
    assert boxes.to_stored((10, 17, 31, 50), geometry) == pytest.approx(wanted, abs=1e-9)
    # what lies beyond the stored image is cut at its edge, and no pixel inside of it
    wide = Geometry.of_stored((10, 10)).padded((30, 30), left=10, top=10)
    assert boxes.to_stored((0, 0, 30, 30), wide) == pytest.approx((0, 0, 10, 10), abs=1e-9)


def test_a_part_is_bounded_by_the_outer_edges_of_its_pixels() -> None:
    flags = np.zeros((9, 12), bool)
    flags[2:5, 3:7] = flags[8, 11] = flags[0, 0] = True
    found = boxes.parts(flags, flags.astype(np.float32))
    assert [each.box for each in found] == [(0, 0, 1, 1), (3, 2, 7, 5), (11, 8, 12, 9)]
    assert [each.area for each in found] == [1, 12, 1]


def test_cells_of_a_coarse_map_lie_where_their_pixels_do() -> None:
    cells = np.zeros((8, 6), np.float32)
    cells[2:5, 1:4] = 1.0
    heat = boxes.on_picture(cells, (64, 48))
    (found,) = boxes.parts(heat >= 0.5, heat)
    assert found.box == (8, 16, 32, 40)  # half of the heat at the cells' edge, on every side alike
    np.testing.assert_allclose(heat[:, ::-1], boxes.on_picture(cells[:, ::-1].copy(), (64, 48)))


def test_an_overlay_outlines_the_mask(
    screening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = dict(open_table([screening / "shards"]).preparation)
    path = min((screening / "raw" / "train_images").rglob("*.dcm"))
    (file,) = mammoprep.prepare_files(path, preparation)
    picture = cv2.imdecode(np.frombuffer(file.members["png"], np.uint8), -1)
    mask = np.zeros(picture.shape, np.uint8)
    mask[40:60, 10:30] = 255
    oracle = Oracle({picture.tobytes(): mask})
    place = segmenting(tmp_path / "run", preparation, oracle, monkeypatch)
    predict(asked(place, path, tmp_path / "out"), Watcher())
    (box,) = boxes_in(tmp_path / "out")["image_00001"]["boxes"]
    assert box["picture"] == [10, 40, 30, 60]
    assert box["area"] == 400
    drawn = cv2.imread(str(tmp_path / "out" / "overlays" / "image_00001.png"))
    zoom = drawn.shape[0] // picture.shape[0]
    assert zoom == 4  # a small picture is shown larger
    plain = np.repeat(np.repeat(picture, zoom, 0), zoom, 1)
    changed = (drawn != plain[..., None]).any(axis=2)
    assert changed[40 * zoom : 60 * zoom, 10 * zoom : 30 * zoom].any()
    changed[40 * zoom - 2 : 60 * zoom + 2, 10 * zoom - 2 : 30 * zoom + 2] = False
    assert not changed.any()


def test_an_overlay_outlines_the_holes_of_a_mask_too() -> None:
    values = np.zeros((256, 256), np.float32)
    values[50:200, 50:200], values[100:150, 100:150] = 1.0, 0.0
    shown = overlays.Shown(values, voices.MASK, 0.5)
    content = overlays.draw(np.zeros((256, 256, 3), np.uint8), shown, [])
    drawn = cv2.imdecode(np.frombuffer(content, np.uint8), -1).any(axis=2)
    inner = drawn[95:155, 95:155]
    assert inner.sum() >= 4 * 50
    assert not inner[10:-10, 10:-10].any()


def test_a_heat_map_gives_boxes_above_a_share_of_its_maximum(
    whole: Path, screening: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_peaks(model, shown, speaks):
        heat = torch.zeros(len(shown.images), 1, *shown.images.shape[-2:])
        heat[:, :, 10:44, 5:37], heat[:, :, 60:95, 20:60] = 1.0, 0.6
        heat[:, :, 100:103, 30:50] = 0.7  # no cell of 32 x 32 pixels is seen like this
        heat[:, :, 110:128] = 0.3
        with torch.no_grad():
            return model(shown.images), heat

    monkeypatch.setattr(voices.cam, "grad_cam", two_peaks)
    request = asked(whole, screening / "shards", tmp_path / "out", overlays=False)
    predict(request, Watcher())
    for entry in boxes_in(tmp_path / "out").values():
        assert [each["picture"] for each in entry["boxes"]] == [[5, 10, 37, 44], [20, 60, 60, 95]]
    assert not (tmp_path / "out" / "overlays").exists()
    monkeypatch.setattr(boxes, "on_flat", lambda *given: True)
    predict(replace(request, out=tmp_path / "flat"), Watcher())
    assert not any(entry["boxes"] for entry in boxes_in(tmp_path / "flat").values())


def test_a_lone_cell_of_heat_gives_a_box_at_any_share() -> None:
    cells = np.zeros((5, 4), np.float32)
    cells[2, 1] = 1.0
    heat = boxes.on_picture(cells, (160, 128))
    for share in (0.3, 0.5, 0.8, 1.0):
        least = boxes.smallest((5, 4), (160, 128), share)
        (found,) = boxes.parts(heat >= share * heat.max(), heat, least)
        assert found.box[0] <= 48 <= found.box[2]
        assert boxes.parts(heat >= share * heat.max(), heat, 3 * least + 16) == [] or share < 0.5


def test_a_place_of_one_flat_grey_holds_nothing_to_look_at() -> None:
    picture = np.zeros((1, 40, 20), np.uint8)
    picture[0, 10, 10] = 1
    assert boxes.on_flat((0, 44, 40, 80), picture, (80, 40))
    assert boxes.on_flat((0, 44, 40, 80), picture + 7, (80, 40))
    assert not boxes.on_flat((18, 20, 22, 24), picture, (80, 40))
    assert not boxes.on_flat((0, 0, 40, 80), picture, (80, 40))


# --- predicted masks ------------------------------------------------------------------------------


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    """Whole pictures with masks."""
    mammoprep.phantom("inbreast", tmp_path / "raw", patients=8, seed=6, size_scale=0.08)
    mammoprep.build(
        source="inbreast", input=tmp_path / "raw", out=tmp_path / "whole", size="32x64", folds=3,
        workers=1, shard_size=4,
    )  # fmt: skip
    return tmp_path / "whole"


def member(table, row: int, suffix: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(table.read(row, suffix), np.uint8), -1)


def test_predicted_masks_become_shards_that_verify_repeat_and_train(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = open_table([lesions])
    known = {}
    for row in range(len(table)):  # what is predicted: the lower half of each true mask
        mask = member(table, row, "mask.png") if table.has("mask.png")[row] else None
        picture = member(table, row, "png")
        said = np.zeros(picture.shape, np.uint8) if mask is None else mask.copy()
        said[: picture.shape[0] // 3] = 0
        known[picture.tobytes()] = said
    place = segmenting(tmp_path / "run", dict(table.preparation), Oracle(known), monkeypatch)
    outcomes = [
        predict(asked(place, lesions, tmp_path / name, masks=True, overlays=False), Watcher())
        for name in ("one", "two")
    ]
    made = outcomes[0].dataset
    assert made == tmp_path / "one" / "dataset"
    assert verify(made).damages == ()
    assert tree_of(made) == tree_of(outcomes[1].dataset)
    again = open_table([made])
    assert list(again.keys) == list(table.keys)
    assert list(again.columns["split"]) == list(table.columns["split"])
    for row in range(len(again)):
        picture, mask = member(again, row, "png"), member(again, row, "mask.png")
        assert again.read(row, "png") == table.read(row, "png")
        assert np.array_equal(mask, known[picture.tobytes()])
        assert np.array_equal(member(again, row, "intersection.png"), np.where(mask, picture, 0))
        metadata = json.loads(again.read(row, "json"))
        assert metadata["annotation"] == "none"
        assert len(metadata["rois"]) == metadata["quality"]["mask_pieces"]
        assert metadata["quality"]["mask_area"] == pytest.approx((mask > 0).mean(), rel=1e-5)
    summary = json.loads((made / "dataset.json").read_text())
    about = summary["predicted_masks"]
    assert about["recipe"] == "toy"
    assert about["from"] == json.loads((lesions / "dataset.json").read_text())["content_sha256"]
    training = config.load("deq", (
        "model.width=8", "model.groups=4", "train.batch_size=8", "train.max_steps=1",
        "data.size=[32, 64]", "data.workers=1", "data.member=intersection.png",
        "task.target=abnormal",
    ))  # fmt: skip
    run(Training(training, (str(made),), tmp_path / "stage2", device="cpu"), Watcher())
    assert (tmp_path / "stage2" / "report.json").is_file()
    remembered = checkpoint.best(tmp_path / "stage2" / "checkpoints").state["about"]
    assert remembered["preparation"]["predicted_masks"] is True  # true masks would be refused


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_true_masks_give_the_members_that_a_build_writes(tmp_path: Path, bits: int) -> None:
    mammoprep.phantom("inbreast", tmp_path / "raw", patients=4, seed=6, size_scale=0.08)
    mammoprep.build(
        source="inbreast", input=tmp_path / "raw", out=tmp_path / "built", size="32x64", folds=3,
        workers=1, bits=bits, intersection=True,
    )  # fmt: skip
    built = open_table([tmp_path / "built"])
    rows = {key: row for row, key in enumerate(built.keys)}
    mammoprep.write_shards(
        tmp_path / "built", tmp_path / "again",
        lambda key: member(built, rows[key], "mask.png"), made_by={"who": "a test"},
    )  # fmt: skip
    again = open_table([tmp_path / "again"])
    for row in range(len(built)):
        for suffix in ("png", "mask.png", "intersection.png"):
            assert again.read(row, suffix) == built.read(row, suffix)
        boxes = [
            [one["box"] for one in json.loads(table.read(row, "json"))["rois"]]
            for table in (built, again)
        ]
        if len(boxes[0]) == len(boxes[1]) == 1:
            assert np.abs(np.subtract(*boxes)).max() <= 2.0


def test_masks_of_another_size_and_none_at_all_are_refused(lesions: Path, tmp_path: Path) -> None:
    wrong = np.zeros((3, 3), np.uint8)
    with pytest.raises(ConfigError, match="the mask is"):
        mammoprep.write_shards(lesions, tmp_path / "a", lambda key: wrong, made_by={})
    with pytest.raises(ConfigError, match="nothing to write"):
        mammoprep.write_shards(lesions, tmp_path / "b", lambda key: None, made_by={})
    with pytest.raises(ConfigError, match="lies in"):
        mammoprep.write_shards(lesions, lesions / "c", lambda key: None, made_by={})
    with pytest.raises(ConfigError, match="not empty"):
        mammoprep.write_shards(lesions, tmp_path, lambda key: None, made_by={})


# --- mistakes -------------------------------------------------------------------------------------


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mammotrain", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("place", "given", "more", "message"),
    [
        ("patches", "dicom", {}, "trained on patches"),
        ("patches", "shards", {"tta": "flop"}, "Did you mean 'flip'"),
        ("patches", "shards", {"masks": True}, "predicts masks"),
        ("patches", "shards", {"share": 0.0}, "--share"),
        ("patches", "shards", {"threshold": 1.5}, "--threshold must be"),
        ("patches", "prepared", {}, "prepared differently: .*roi"),
        ("whole", "nowhere", {}, "does not exist"),
        ("whole", "dicom", {"masks": True}, "the input is files"),
        ("whole", "dicom", {"id_map": "inside"}, "names people"),
        ("nothing", "dicom", {}, "holds no run"),
    ],
)
def test_a_users_mistake_is_refused_before_anything_is_written(
    crossed: Path, whole: Path, patches: Path, screening: Path, tmp_path: Path,
    place: str, given: str, more: dict, message: str,
) -> None:  # fmt: skip
    places = {"patches": crossed, "whole": whole, "nothing": tmp_path}
    inputs = {
        "dicom": screening / "raw", "shards": patches, "prepared": screening / "shards",
        "nowhere": tmp_path / "nowhere",
    }  # fmt: skip
    if "id_map" in more:
        more = {"id_map": inputs[given] / "who.csv"}
    with pytest.raises(ConfigError, match=message):
        predict(asked(places[place], inputs[given], tmp_path / "out", **more), Watcher())
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_refused(
    crossed: Path, patches: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="not empty"):
        predict(asked(crossed, patches, tmp_path), Watcher())


def test_the_command_line_teaches() -> None:
    told = CliRunner().invoke(app, ["predict", "--help"])
    assert told.exit_code == 0
    for word in ("--tta", "--masks", "--id-map", "DICOM", "cv"):
        assert word in told.stdout
    wrong = CliRunner().invoke(app, ["predict", "/nowhere", "/nowhere", "--out", "/nowhere"])
    assert isinstance(wrong.exception, ConfigError)
