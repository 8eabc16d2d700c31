"""`diff`: what changed between two builds, and nothing else."""

import json
from pathlib import Path

from helpers import run_build, run_cli

from mammoprep.differences import compare


def test_equal_builds_differ_in_nothing(
    built_once: Path, phantom_once: Path, tmp_path: Path
) -> None:
    run_build(phantom_once, tmp_path / "again", workers=1)
    found = compare(built_once, tmp_path / "again")
    assert set(found.counts) == {"same"}
    assert found.settings == ()
    assert found.columns == {}


def test_another_size_changes_pixels_and_geometry(
    built_once: Path, phantom_once: Path, tmp_path: Path
) -> None:
    run_build(phantom_once, tmp_path / "other", size=(32, 64))
    found = compare(built_once, tmp_path / "other")
    samples = json.loads((built_once / "dataset.json").read_text())["counts"]["samples"]
    assert found.counts["pixels"] == found.counts["geometry"] == samples
    assert any(line.startswith("size:") for line in found.settings)
    assert "label" not in found.counts
    assert "geometry.matrix" in found.columns


def test_other_folds_change_splits_only(
    built_once: Path, phantom_once: Path, tmp_path: Path
) -> None:
    run_build(phantom_once, tmp_path / "other", seed=5)
    found = compare(built_once, tmp_path / "other")
    assert set(found.counts) <= {"same", "split"}
    assert found.counts["split"] > 0


def test_a_changed_label_an_absent_and_a_new_image_are_told(
    built_once: Path, phantom: Path, tmp_path: Path
) -> None:
    table = phantom / "train.csv"
    lines = table.read_text().splitlines()
    header = lines[0].split(",")
    cells = lines[1].split(",")
    cells[header.index("cancer")] = "1" if cells[header.index("cancer")] == "0" else "0"
    gone = lines[2].split(",")
    table.write_text("\n".join([lines[0], ",".join(cells), *lines[3:]]) + "\n")
    run_build(phantom, tmp_path / "other")
    found = compare(built_once, tmp_path / "other")
    image = cells[header.index("image_id")]
    assert [key for key in found.examples["label"] if image in key]
    assert found.counts["removed"] == 1
    assert gone[header.index("image_id")] in found.examples["removed"][0]


def test_a_file_that_fails_now_is_told(built_once: Path, phantom: Path, tmp_path: Path) -> None:
    victim = sorted(phantom.glob("train_images/*/*.dcm"))[0]
    victim.write_bytes(victim.read_bytes()[:200])
    run_build(phantom, tmp_path / "other", max_failures="1")
    found = compare(built_once, tmp_path / "other")
    assert found.examples["now_failed"] == [str(victim.relative_to(phantom))]
    assert found.counts["removed"] == 1


def test_the_command_line_prints_it_for_people_and_programs(built_once: Path) -> None:
    done = run_cli("diff", built_once, built_once)
    assert done.returncode == 0, done.stderr
    assert "same" in done.stdout
    told = json.loads(run_cli("diff", built_once, built_once, "--json").stdout)
    assert set(told["counts"]) == {"same"}
