"""From phantom truth to finished samples, and the four real files: what must be shown."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from helpers import run_build

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.geometry import Geometry
from mammoprep.phantoms import rsna
from mammoprep.state import read_json_lines


def rows_of(out: Path) -> list[dict]:
    return pyarrow.parquet.read_table(out / "samples.parquet").to_pylist()


def member(out: Path, row: dict, suffix: str) -> bytes:
    with (out / "shards" / row["shard"]).open("rb") as file:
        file.seek(row[f"{suffix}.offset"])
        return file.read(row[f"{suffix}.size"])


def picture(out: Path, row: dict, suffix: str = "png") -> np.ndarray:
    return cv2.imdecode(np.frombuffer(member(out, row, suffix), np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def demo(once: Callable[[Any, Any], Path]) -> tuple[Path, Path]:
    """A phantom with annotated lesions, and its build; read only."""

    def make(folder: Path) -> None:
        rsna.write(folder / "raw", patients=12, seed=21, size_scale=0.2, prevalence=0.6)
        settings = Settings(size=(182, 364), folds=3)
        build(BuildConfig("demo", settings, folder / "raw", folder / "out", workers=2))

    folder = once("end to end", make)
    return folder / "raw", folder / "out"


def samples(demo: tuple[Path, Path]) -> Iterator[tuple[dict, dict, Geometry, Path]]:
    raw, out = demo
    for row in rows_of(out):
        place = raw / "truth" / row["patient_id"] / row["image_id"]
        truth = json.loads(place.with_suffix(".json").read_text())
        metadata = json.loads(member(out, row, "json"))
        yield row, truth, Geometry.from_json(metadata["geometry"]), place


def test_the_chest_wall_is_at_the_left_edge_of_every_sample(demo: tuple[Path, Path]) -> None:
    for row, truth, geometry, _ in samples(demo):
        assert geometry.flipped == (truth["chest_wall"] == "right"), row["key"]


def test_the_crop_keeps_the_tissue_and_little_else(demo: tuple[Path, Path]) -> None:
    overlaps = []
    for row, truth, geometry, place in samples(demo):
        tissue = cv2.imread(str(place.parent / f"{place.name}.breast.png"), cv2.IMREAD_UNCHANGED)
        x0, y0, x1, y1 = geometry.crop
        kept = np.count_nonzero(tissue[y0:y1, x0:x1]) / np.count_nonzero(tissue)
        assert kept >= 0.995, row["key"]
        left, top, right, bottom = truth["breast_box"]
        width = min(x1, right) - max(x0, left)
        height = min(y1, bottom) - max(y0, top)
        both = width * height
        union = (x1 - x0) * (y1 - y0) + (right - left) * (bottom - top) - both
        overlaps.append(both / union)
    assert np.median(overlaps) >= 0.92  # the margin of 2 % a side is part of this crop


def test_landmarks_and_lesion_masks_land_where_the_matrix_says(demo: tuple[Path, Path]) -> None:
    seen = 0
    for row, truth, geometry, _ in samples(demo):
        mask = picture(demo[1], row, "mask.png")
        assert mask.shape == geometry.size
        assert set(np.unique(mask)) <= {0, 255}
        assert bool(mask.any()) == bool(truth["lesions"]) == bool(row["rois"])
        if len(truth["lesions"]) != 1:
            continue
        seen += 1
        outline = geometry.from_stored(truth["lesions"][0]["polygon"])
        moments = cv2.moments(outline.astype(np.float32).reshape(-1, 1, 2))
        expected = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
        found = np.argwhere(mask).mean(0)[::-1] + 0.5
        assert np.abs(found - expected).max() <= 0.5, row["key"]
        np.testing.assert_allclose(row["rois"][0]["polygon"], outline, atol=1e-9)
        back = geometry.to_stored(outline)
        np.testing.assert_allclose(back, truth["lesions"][0]["polygon"], atol=1e-6)
    assert seen >= 8


def test_the_background_is_black_and_the_label_text_is_gone(demo: tuple[Path, Path]) -> None:
    for row, truth, geometry, place in samples(demo):
        pixels = picture(demo[1], row)
        tissue = cv2.imread(str(place.parent / f"{place.name}.breast.png"), cv2.IMREAD_UNCHANGED)
        matrix = np.array(geometry.matrix)
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5  # cv2 counts from pixel centres
        there = cv2.warpAffine(tissue, matrix, geometry.size[::-1], flags=cv2.INTER_AREA)
        outside = cv2.dilate(there, np.ones((9, 9), np.uint8)) == 0
        assert pixels[outside].max(initial=0) <= 40, row["key"]
        assert np.median(pixels[there > 0]) > 20, truth["machine"]


def test_the_four_real_files_are_built_with_the_full_table(real_data: Path, tmp_path: Path) -> None:
    result = run_build(
        real_data / "rsna", tmp_path / "out", missing="skip", size=(728, 1456), folds=5
    )
    assert result.exit_code == 0
    assert result.summary["counts"]["excluded"] == {"no_file": 54706}
    rows = {row["image_id"]: row for row in rows_of(tmp_path / "out")}
    assert len(rows) == 4
    assert {r["geometry.flipped"] for r in rows.values() if r["laterality"] == "L"} == {False}
    assert {r["geometry.flipped"] for r in rows.values() if r["laterality"] == "R"} == {True}
    for row in rows.values():
        pixels = picture(tmp_path / "out", row)
        assert pixels.shape == (1456, 728)
        assert row["acquisition.voi"] == "window:0"
        # Bright tissue at the chest wall, black at the far edge: upright, oriented, no label text.
        assert pixels[400:1000, :60].mean() > 30
        assert pixels[:, -40:].max() == 0
        assert row["view"] == "CC"
    first, second = (
        np.mean([r["intensity"][2] for r in rows.values() if r["group"] == group])
        for group in ("10006", "10011")
    )
    assert second > 1.3 * first, "the two machines differ, and the shards do not hide it"


def test_absent_files_of_the_real_table_are_listed(real_data: Path, tmp_path: Path) -> None:
    result = run_build(real_data / "rsna", tmp_path / "out", missing="fail", limit=50)
    assert result.exit_code == 3
    present = result.summary["counts"]["built"]
    assert present == 4
    assert result.summary["counts"]["failed"] == {"file_missing": 46}
    failures = read_json_lines(tmp_path / "out" / "failures.jsonl")
    assert len({failure["input"] for failure in failures}) == 46
