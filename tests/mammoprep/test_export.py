"""`export`: the members as files, and a CSV that finds them."""

import csv
from pathlib import Path

import pyarrow.parquet
import pytest
from helpers import run_cli

from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.export import export


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "samples.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_member_is_a_file_with_its_own_bytes(built_once: Path, tmp_path: Path) -> None:
    samples = pyarrow.parquet.read_table(built_once / "samples.parquet").to_pylist()
    assert export(built_once, tmp_path / "out") == len(samples)
    rows = {row["key"]: row for row in rows_of(tmp_path / "out")}
    assert set(rows) == {row["key"] for row in samples}
    for sample in samples:
        path = tmp_path / "out" / rows[sample["key"]]["images"]
        shard = (built_once / "shards" / sample["shard"]).read_bytes()
        place, size = sample["png.offset"], sample["png.size"]
        assert path.read_bytes() == shard[place : place + size]
        assert path.parts[-3] == sample["split"]
        assert rows[sample["key"]]["label_name"] == (sample["label_name"] or "")


def test_unknown_is_an_empty_cell(built_once: Path, tmp_path: Path) -> None:
    export(built_once, tmp_path / "out")
    assert {row["labels.abnormal"] for row in rows_of(tmp_path / "out")} == {""}


def test_only_the_splits_asked_for_are_written(built_once: Path, tmp_path: Path) -> None:
    export(built_once, tmp_path / "out", splits=["fold1"])
    assert {row["split"] for row in rows_of(tmp_path / "out")} == {"fold1"}
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["fold1"]
    with pytest.raises(ConfigError, match="fold0"):
        export(built_once, tmp_path / "other", splits=["fold9"])


def test_a_folder_that_holds_something_is_left_alone(built_once: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        export(built_once, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_member_stops_the_export_with_its_name(built: Path, tmp_path: Path) -> None:
    sample = pyarrow.parquet.read_table(built / "samples.parquet").to_pylist()[0]
    path = built / "shards" / sample["shard"]
    data = bytearray(path.read_bytes())
    data[sample["png.offset"] + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match=sample["key"]):
        export(built, tmp_path / "out")
    assert not (tmp_path / "out" / "samples.csv").exists()


def test_the_command_line_exports(built_once: Path, tmp_path: Path) -> None:
    done = run_cli("export", built_once, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "samples.csv" in done.stderr


@pytest.mark.slow
def test_masks_and_intersections_have_folders_of_their_own(tmp_path: Path) -> None:
    from mammoprep.builder import build
    from mammoprep.config import BuildConfig, Settings

    settings = Settings(size=(64, 128), folds=2, limit=4, intersection=True)
    build(BuildConfig("demo", settings, tmp_path / "raw", tmp_path / "built", 2))
    export(tmp_path / "built", tmp_path / "out")
    for row in rows_of(tmp_path / "out"):
        for kind in ("images", "masks", "intersections", "metadata"):
            assert (tmp_path / "out" / row[kind]).is_file()


@pytest.mark.slow
def test_an_intersection_is_the_image_inside_the_mask(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    from mammoprep.builder import build
    from mammoprep.config import BuildConfig, Settings

    for bits in (8, 16):
        settings = Settings(size=(64, 128), folds=2, limit=8, intersection=True, bits=bits)
        place = tmp_path / str(bits)
        build(BuildConfig("demo", settings, tmp_path / "raw", place / "built", 2))
        export(place / "built", place / "out")
        seen = 0
        for row in rows_of(place / "out"):
            image, mask, inside = (
                cv2.imread(str(place / "out" / row[kind]), cv2.IMREAD_UNCHANGED)
                for kind in ("images", "masks", "intersections")
            )
            np.testing.assert_array_equal(inside, np.where(mask > 0, image, 0))
            assert inside.dtype == image.dtype
            seen += bool(mask.any())
        assert seen
