"""The busi source: names as the table, masks of every kind united, near-duplicates in one group."""

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import run_cli, tree_of
from outlines import Built, area_and_centre, built, check_mask
from PIL import Image

from mammoprep.builder import Result, build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.schema import Record
from mammoprep.core.tree import open_tree
from mammoprep.inputs import read_inputs
from mammoprep.phantoms import busi as phantom
from mammoprep.sources import busi

ROOT = phantom.FOLDER
MULTI = {163, 181, 25, 315, 54, 83, 93}  # benign pictures of the real half with two masks


def build_busi(raw: Path, out: Path, workers: int = 2, **settings: object) -> Result:
    chosen = Settings(size=(96, 96), crop="none", orient="none", folds=3, **settings)
    return build(BuildConfig("busi", chosen, raw, out, workers=workers))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busi") / "raw"
    phantom.write(folder, patients=6, seed=3, size_scale=0.3)
    return folder


@pytest.fixture(scope="module")
def out(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busi") / "out"
    build_busi(raw, folder)
    return folder


@pytest.fixture(scope="module")
def truth(raw: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (raw / "truth").glob("*.json")]
    return {f"busi_{item['kind']}_{item['number']}": item for item in found}


def empty(folder: Path, *names: str) -> list[Record]:
    """Return the records of a folder that holds files of these names; none is opened."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return busi.read(open_tree(folder), cards.load("busi"))


def test_the_name_tells_class_number_and_masks(tmp_path: Path) -> None:
    (record,) = empty(
        tmp_path, "benign/benign (7).png", "benign/benign (7)_mask.png",
        "benign/benign (7)_mask_10.png", "benign/benign (7)_mask_2.png", "benign/Thumbs.db",
        "benign/._benign (8).png",
    )  # fmt: skip
    assert (record.key, record.group, record.label) == ("busi_benign_7", "benign_7", 1)
    assert (record.image_id, record.annotation) == ("benign (7)", "full")
    ends = ["_mask", "_mask_2", "_mask_10"]
    assert [mask.inputs for mask in record.masks] == [
        (f"benign/benign (7){end}.png",) for end in ends
    ]
    assert {mask.pathology for mask in record.masks} == {"benign"}
    assert record.labels == {
        "cancer": None, "abnormal": 1, "birads": None, "density": None, "class": "benign",
        "malignant": 0, "near_duplicates": None, "label_conflict": None,
    }  # fmt: skip


def test_pictures_are_listed_by_class_and_number(tmp_path: Path) -> None:
    names = ("malignant (1)", "benign (10)", "benign (2)", "normal (3)")
    records = empty(tmp_path, *(f"{name.split()[0]}/{name}.png" for name in names))
    found = [record.image_id for record in records]
    assert found == ["normal (3)", "benign (2)", "benign (10)", "malignant (1)"]
    assert [record.label for record in records] == [0, 1, 1, 2]
    assert [record.labels["abnormal"] for record in records] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "name",
    ["benign (1) copy.png", "malignant (1).png", "benign (1)_mask_.png", "deeper/benign (1).png"],
)
def test_a_name_of_another_kind_stops_with_the_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        empty(tmp_path, "benign/benign (2).png", f"benign/{name}")
    assert f"benign/{name}" in str(caught.value)
    assert "benign (2)" not in str(caught.value)


def test_the_folder_its_parent_and_its_zip_are_the_same(raw: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "busi"), "zip", raw))
    found = [read_inputs("busi", place) for place in (raw, raw / ROOT, archive)]
    assert found[0].records == found[1].records == found[2].records
    assert found[0].sizes == found[1].sizes == found[2].sizes


def test_an_absent_picture_and_an_absent_mask_fail_and_nothing_passes_for_normal(
    raw: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(raw, tmp_path / "raw")
    (copy / ROOT / "benign" / "benign (1).png").unlink()
    (copy / ROOT / "benign" / "benign (2)_mask.png").unlink()
    result = build_busi(copy, tmp_path / "out")
    assert result.summary["counts"]["failed"] == {"file_missing": 1, "mask_missing": 1}


def test_the_target_malignant_has_two_classes(raw: Path) -> None:
    records = read_inputs("busi", raw, "malignant").records
    assert {(r.labels["class"], r.label) for r in records} == {
        ("normal", 0), ("benign", 0), ("malignant", 1),
    }  # fmt: skip


def test_the_phantom_has_every_kind_of_mask(raw: Path) -> None:
    modes = {}
    for path in raw.rglob("*_mask*.png"):
        with Image.open(path) as picture:
            kind = "normal" if "normal" in path.name else path.stem.rpartition("_")[2]
            modes.setdefault(picture.mode, set()).add(kind)
    assert modes == {"1": {"mask"}, "L": {"normal"}, "RGB": {"normal"}, "RGBA": {"1"}}


def test_masks_of_one_picture_are_united_and_lie_where_the_truth_says(
    out: Path, truth: dict[str, dict]
) -> None:
    counts = Counter()
    samples = built(out)
    assert len(samples) == len(truth)
    for sample in samples:
        polygons = [np.array(points) for points in truth[sample.about["key"]]["polygons"]]
        counts[len(polygons)] += 1
        assert len(sample.about["rois"]) == len(polygons)
        assert sample.about["annotation"] == "full"
        if not polygons:
            assert sample.mask is not None
            assert not sample.mask.any()
            continue
        check_mask(sample, polygons)
        found = sorted(sample.stored_rois(), key=lambda points: points[:, 0].min())
        for roi, true in zip(found, polygons, strict=True):
            (area, centre), (true_area, true_centre) = map(area_and_centre, (roi, true))
            assert np.abs(centre - true_centre).max() < 0.5
            assert abs(area / true_area - 1) < 0.2  # a mask has every pixel that the edge touches
    assert min(counts[0], counts[1], counts[2]) >= 2


def test_copies_are_one_group_and_nothing_else_is(out: Path, truth: dict[str, dict]) -> None:
    frames: dict[str, set[int]] = {}
    for sample in built(out):
        frames.setdefault(sample.about["group"], set()).add(truth[sample.about["key"]]["frame"])
    assert all(len(shown) == 1 for shown in frames.values())
    assert len(frames) == len({item["frame"] for item in truth.values()})


def test_a_cluster_is_in_one_fold_and_says_how_large_and_how_mixed_it_is(
    out: Path, truth: dict[str, dict]
) -> None:
    copies = Counter(item["frame"] for item in truth.values())
    folds: dict[str, set[str]] = {}
    for sample in built(out):
        about = sample.about
        folds.setdefault(about["group"], set()).add(about["split"])
        frame = truth[about["key"]]["frame"]
        assert about["labels"]["near_duplicates"] == copies[frame] - 1
        assert about["labels"]["label_conflict"] == (frame == 0)
    assert all(len(found) == 1 for found in folds.values())
    assert max(copies.values()) == 3


@pytest.mark.slow
def test_the_user_is_told_which_clusters_have_two_classes(raw: Path, tmp_path: Path) -> None:
    done = run_cli("build", "--source", "busi", "--size", "64x64", "--input", raw, "--out",
                   tmp_path / "out", "--limit", 2)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "9 of 23 images are near-duplicates in 4 clusters" in done.stderr
    assert "more than one class: 1 (benign (1) = benign (10) = malignant" in done.stderr


@pytest.mark.slow
def test_a_picture_that_cannot_be_read_is_a_group_of_its_own_and_costs_one_sample(
    raw: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(raw, tmp_path / "raw")
    damaged = copy / ROOT / "benign" / "benign (1).png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    result = build_busi(copy, tmp_path / "out")
    assert result.summary["counts"]["failed"] == {"decode_error": 1}
    groups = {s.about["key"]: s.about["group"] for s in built(tmp_path / "out")}
    assert groups["busi_malignant_4"] == groups["busi_benign_10"] == "benign_10"


def test_a_file_added_elsewhere_changes_no_group(raw: Path) -> None:
    records = read_inputs("busi", raw / ROOT).records
    findings = {r.input: busi.survey((raw / ROOT / r.input).read_bytes()) for r in records}
    whole = {r.key: r.group for r in busi.settle(records, findings)[0]}
    fewer = [record for record in records if record.key != "busi_normal_2"]
    part = {r.key: r.group for r in busi.settle(fewer, findings)[0]}
    assert part == {key: group for key, group in whole.items() if key != "busi_normal_2"}


def test_a_survey_of_no_picture_is_a_record_error() -> None:
    with pytest.raises(RecordError):
        busi.survey(b"no picture")


def test_the_phantom_is_the_same_for_any_number_of_workers(raw: Path, tmp_path: Path) -> None:
    phantom.write(tmp_path / "again", patients=6, seed=3, size_scale=0.3, workers=2)
    assert tree_of(tmp_path / "again") == tree_of(raw)


def test_the_real_half_reads_as_counted(real_data: Path) -> None:
    records = read_inputs("busi", real_data / "busi").records
    count = Counter(record.labels["class"] for record in records)
    assert count == {"benign": 219, "malignant": 105, "normal": 66}
    several = {record.image_id for record in records if len(record.masks) > 1}
    assert several == {f"benign ({number})" for number in MULTI}


@pytest.mark.slow
def test_the_real_half_builds_whole_with_masks_as_stored(real_data: Path, tmp_path: Path) -> None:
    result = build_busi(real_data / "busi", tmp_path / "out")
    assert result.exit_code == 0
    assert result.summary["counts"]["built"] == 390
    folds: dict[str, set[str]] = {}
    members = Counter()
    for sample in built(tmp_path / "out"):
        about = sample.about
        folds.setdefault(about["group"], set()).add(about["split"])
        members[about["group"]] += 1
        assert sample.mask.any() == (about["label_name"] != "normal")
        kind, number = about["key"].split("_")[1:]
        stored = _stored_mask(real_data / "busi" / ROOT / kind, f"{kind} ({number})")
        assert stored.shape == sample.grid.stored_size
        _check_same_area(sample, stored)
    assert all(len(found) == 1 for found in folds.values())
    sizes = Counter(members.values())
    assert (sizes[2], sizes[3], len(sizes)) == (43, 7, 3)


def _stored_mask(folder: Path, name: str) -> np.ndarray:
    """Return the union of a picture's mask files, read without the program."""
    masks = []
    for path in folder.glob(f"{name}_mask*.png"):
        with Image.open(path) as picture:
            masks.append(np.asarray(picture.convert("RGB")).max(axis=2) > 127)
    return np.any(masks, axis=0)


def _check_same_area(sample: Built, stored: np.ndarray) -> None:
    """Every stored pixel of a finding is set in the sample, and nothing a pixel further out is."""
    rows, columns = np.nonzero(stored)
    points = sample.grid.from_stored(np.stack([columns, rows], axis=1) + 0.5)
    true = np.zeros_like(sample.mask)
    true[tuple(np.floor(points[:, ::-1]).astype(int).T)] = 255
    assert not (true & ~sample.mask).any()
    assert not (sample.mask & ~cv2.dilate(true, np.ones((3, 3), np.uint8))).any()
