"""A whole build: complete accounts, equal bytes, resume, repair, extension, refusal."""

import json
import os
import shutil
import tarfile
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
import webdataset
from helpers import SIZE, run_build, tree_of

from mammoprep import state
from mammoprep.core.errors import ConfigError, ResourceError
from mammoprep.core.geometry import Geometry
from mammoprep.verify import verify


def rows_of(out: Path) -> list[dict]:
    return pyarrow.parquet.read_table(out / "samples.parquet").to_pylist()


def summary_of(out: Path) -> dict:
    return json.loads((out / "dataset.json").read_text())


def stamps_of(out: Path) -> dict[str, tuple[int, int]]:
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (out / "shards").iterdir()}


def test_inputs_are_built_failed_or_excluded(built_once: Path) -> None:
    counts = summary_of(built_once)["counts"]
    failed, excluded = sum(counts["failed"].values()), sum(counts["excluded"].values())
    assert counts["inputs"] == counts["built"] + failed + excluded
    assert counts["built"] == counts["samples"] == len(rows_of(built_once)) > 20
    assert failed == 0


@pytest.mark.slow
def test_the_tree_is_the_same_for_any_number_of_workers(phantom_once: Path, tmp_path: Path) -> None:
    trees = []
    for workers in (1, 2, 4):
        run_build(phantom_once, tmp_path / str(workers), workers=workers)
        trees.append(tree_of(tmp_path / str(workers)))
    assert trees[0] == trees[1] == trees[2]


def test_the_tree_is_the_same_from_folder_and_zip(
    phantom_once: Path, built_once: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "download.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(phantom_once.rglob("*")):
            if path.is_file():
                file.write(path, f"rsna/{path.relative_to(phantom_once)}")
    run_build(archive, tmp_path / "out")
    assert tree_of(tmp_path / "out") == tree_of(built_once)


def test_a_second_run_builds_nothing_and_changes_nothing(phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_build(phantom, out)
    before, stamps = tree_of(out), stamps_of(out)
    result = run_build(phantom, out)
    assert result.local["shards_built"] == []
    assert (tree_of(out), stamps_of(out)) == (before, stamps)


def test_touching_files_without_changing_them_rebuilds_nothing(
    phantom: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_build(phantom, out)
    for path in phantom.rglob("*.dcm"):
        os.utime(path, (1, 1))
    assert run_build(phantom, out).local["shards_built"] == []


def test_replacing_one_input_rebuilds_one_shard(phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_build(phantom, out)
    stamps = stamps_of(out)
    files = sorted(phantom.glob("train_images/*/*.dcm"), key=lambda p: p.stat().st_size)
    target = files[0]
    content = bytearray(target.read_bytes())
    content[0:8] = b"preamble"  # same length, same picture: only the content's hash tells
    target.write_bytes(content)
    assert len(run_build(phantom, out).local["shards_built"]) == 1
    shutil.copyfile(files[-1], target)
    result = run_build(phantom, out)
    assert len(result.local["shards_built"]) == 1
    changed = [name for name, stamp in stamps_of(out).items() if stamp != stamps[name]]
    assert changed == [f"{result.local['shards_built'][0]}.tar"]


@pytest.mark.slow
def test_a_file_that_arrives_later_rebuilds_one_shard(phantom: Path, tmp_path: Path) -> None:
    late = sorted(phantom.glob("train_images/*/*.dcm"))[3]
    content = late.read_bytes()
    late.unlink()
    out = tmp_path / "out"
    first = run_build(phantom, out, missing="skip")
    assert first.summary["counts"]["excluded"] == {"no_file": 1}
    late.write_bytes(content)
    second = run_build(phantom, out, missing="skip")
    assert len(second.local["shards_built"]) == 1
    assert second.summary["counts"]["excluded"] == {}
    run_build(phantom, tmp_path / "whole", missing="skip")
    assert tree_of(out) == tree_of(tmp_path / "whole")


def test_a_missing_file_is_a_counted_failure_and_exit_status_3(
    phantom: Path, tmp_path: Path
) -> None:
    absent = sorted(phantom.glob("train_images/*/*.dcm"))[0]
    absent.unlink()
    result = run_build(phantom, tmp_path / "out")
    assert result.exit_code == 3
    assert result.summary["counts"]["failed"] == {"file_missing": 1}
    (failure,) = state.read_json_lines(tmp_path / "out" / "failures.jsonl")
    assert failure["input"] == str(absent.relative_to(phantom))
    assert run_build(phantom, tmp_path / "out", max_failures="1").exit_code == 0
    assert run_build(phantom, tmp_path / "out", max_failures="50%").exit_code == 0


def test_a_damaged_file_costs_one_record_and_retry_failed_tries_again(
    phantom: Path, tmp_path: Path
) -> None:
    target = sorted(phantom.glob("train_images/*/*.dcm"))[0]
    target.write_bytes(target.read_bytes()[:900])
    out = tmp_path / "out"
    result = run_build(phantom, out)
    assert sum(result.summary["counts"]["failed"].values()) == 1
    before = tree_of(out)
    assert run_build(phantom, out).local["shards_built"] == []
    again = run_build(phantom, out, retry_failed=True)
    assert len(again.local["shards_built"]) == 1
    assert tree_of(out) == before


def test_other_settings_in_the_same_folder_are_refused_with_the_difference(
    phantom_once: Path, built: Path
) -> None:
    before = tree_of(built)
    with pytest.raises(ConfigError) as caught:
        run_build(phantom_once, built, bits=16)
    assert "bits: 8 -> 16" in str(caught.value)
    assert "--fresh" in str(caught.value)
    assert tree_of(built) == before


def test_other_versions_are_refused_too(
    phantom_once: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mammoprep.manifest.__version__", "9.9.9")
    with pytest.raises(ConfigError, match=r"mammoprep: 0\.1\.0 -> 9\.9\.9"):
        run_build(phantom_once, built)


@pytest.mark.slow
def test_fresh_starts_over_and_removes_only_what_a_build_writes(
    phantom_once: Path, built: Path, tmp_path: Path
) -> None:
    (built / "my notes.txt").write_text("keep me")
    run_build(phantom_once, built, bits=16, fresh=True)
    assert (built / "my notes.txt").read_text() == "keep me"
    (built / "my notes.txt").unlink()
    run_build(phantom_once, tmp_path / "other", bits=16)
    assert tree_of(built) == tree_of(tmp_path / "other")


def test_a_folder_with_other_files_is_refused(phantom_once: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis\.docx"):
        run_build(phantom_once, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_a_second_build_in_the_same_folder_is_refused_with_exit_status_7(
    phantom_once: Path, tmp_path: Path
) -> None:
    with state.hold(tmp_path / "out"), pytest.raises(ResourceError) as caught:
        run_build(phantom_once, tmp_path / "out")
    assert caught.value.exit_code == 7


def test_nothing_is_renamed_into_a_folder_whose_lock_is_not_its_own(tmp_path: Path) -> None:
    with state.hold(tmp_path / "out") as output:
        output.prepare_folders()
        (tmp_path / "out").rename(tmp_path / "moved")
        with state.hold(tmp_path / "out"):
            with pytest.raises(ResourceError):
                output.write(tmp_path / "out" / "stray.json", b"{}")
            assert not (tmp_path / "out" / "stray.json").exists()


def test_a_symlink_in_place_of_a_folder_is_refused(phantom_once: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".state").mkdir()
    (tmp_path / "out" / "shards").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        run_build(phantom_once, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_offsets_in_the_table_read_the_same_bytes_with_a_plain_seek(built_once: Path) -> None:
    for row in rows_of(built_once):
        path = built_once / "shards" / row["shard"]
        with tarfile.open(path) as tar:
            for suffix in ("png", "json"):
                member = tar.extractfile(f"{row['key']}.{suffix}")
                assert member is not None
                content = path.read_bytes()[row[f"{suffix}.offset"] :][: row[f"{suffix}.size"]]
                assert member.read() == content


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_shard_reads_with_webdataset_and_explicit_decoders(built_once: Path) -> None:
    def picture(data: bytes) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)

    seen = []
    for shard in sorted((built_once / "shards").glob("*.tar")):
        dataset = webdataset.WebDataset(str(shard), shardshuffle=False)
        for sample in dataset.map_dict(png=picture, json=json.loads):
            assert sample["png"].shape == (SIZE[1], SIZE[0])
            assert sample["json"]["key"] == sample["__key__"]
            seen.append(sample["__key__"])
    assert sorted(seen) == [row["key"] for row in rows_of(built_once)]


def test_metadata_in_the_tar_equals_the_table(built_once: Path) -> None:
    for row in rows_of(built_once)[:8]:
        with tarfile.open(built_once / "shards" / row["shard"]) as tar:
            member = tar.extractfile(f"{row['key']}.json")
            assert member is not None
            metadata = json.loads(member.read())
        assert metadata["geometry"]["matrix"] == row["geometry.matrix"]
        assert metadata["labels"]["age"] == row["labels.age"]
        assert metadata["warnings"] == row["warnings"]
        assert metadata["split"] == row["split"]
        assert Geometry.from_json(metadata["geometry"]).to_json() == metadata["geometry"]


def test_shards_never_mix_splits_and_no_group_is_in_two(built_once: Path) -> None:
    splits: dict[str, set[str]] = {}
    for row in rows_of(built_once):
        assert row["shard"].rsplit("-", 1)[0] == row["split"]
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_sixteen_bits_keep_more_grey_levels(phantom_once: Path, tmp_path: Path) -> None:
    run_build(phantom_once, tmp_path / "out", bits=16, limit=4)
    row = rows_of(tmp_path / "out")[0]
    content = (tmp_path / "out" / "shards" / row["shard"]).read_bytes()
    png = content[row["png.offset"] :][: row["png.size"]]
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint16
    assert len(np.unique(pixels)) > 256


def test_jpeg_samples_have_their_own_suffix_and_verify(phantom_once: Path, tmp_path: Path) -> None:
    run_build(phantom_once, tmp_path / "out", format="jpeg", limit=4)
    row = rows_of(tmp_path / "out")[0]
    content = (tmp_path / "out" / "shards" / row["shard"]).read_bytes()
    assert content[row["jpg.offset"] :][:3] == b"\xff\xd8\xff"
    assert "png.offset" not in row
    assert verify(tmp_path / "out").damages == ()


@pytest.mark.slow
def test_a_changed_table_moves_only_what_it_must_and_leaves_no_strays(
    phantom: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_build(phantom, out)
    table = phantom / "train.csv"
    lines = table.read_text().splitlines()
    patient = lines[-1].split(",")[1]
    kept = [line for line in lines if line.split(",")[1] != patient]
    table.write_text("\n".join(kept) + "\n")
    run_build(phantom, out)
    run_build(phantom, tmp_path / "clean")
    assert tree_of(out) == tree_of(tmp_path / "clean")


def test_lost_local_notes_are_made_again_from_the_content(
    phantom_once: Path, built: Path, built_once: Path
) -> None:
    (built / "build.json").unlink()
    result = run_build(phantom_once, built)
    assert result.local["shards_built"] == []
    assert tree_of(built) == tree_of(built_once)


def test_the_clock_and_the_umask_do_not_reach_the_bytes(
    phantom_once: Path, built_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    old = os.umask(0o077)
    try:
        run_build(phantom_once, tmp_path / "out")
    finally:
        os.umask(old)
        monkeypatch.delenv("TZ")
        time.tzset()
    assert tree_of(tmp_path / "out") == tree_of(built_once)


def test_known_groups_keep_the_split_of_an_earlier_build(
    phantom: Path, built_once: Path, tmp_path: Path
) -> None:
    before = {row["group"]: row["split"] for row in rows_of(built_once)}
    table = phantom / "train.csv"
    lines = table.read_text().splitlines()
    cells = lines[1].split(",")
    cells[1], cells[2] = "999999", "888888"
    table.write_text("\n".join([*lines, ",".join(cells)]) + "\n")
    earlier = built_once / "samples.parquet"
    result = run_build(phantom, tmp_path / "out", split_file=earlier, max_failures="1", seed=77)
    after = {row["group"]: row["split"] for row in rows_of(tmp_path / "out")}
    assert after == before
    assert result.summary["settings"]["split_file"] == state.hash_file(earlier)[1]


def test_a_full_disk_is_resumable_and_says_so(
    phantom_once: Path, built_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [0]
    from mammoprep.writers import tar

    plain = tar.TarWriter._write

    def full(self: tar.TarWriter, data: bytes) -> None:
        written[0] += len(data)
        if written[0] > 60_000:
            raise OSError(28, "No space left on device")
        plain(self, data)

    monkeypatch.setattr(tar.TarWriter, "_write", full)
    with pytest.raises(ResourceError, match="ENOSPC") as caught:
        run_build(phantom_once, tmp_path / "out")
    assert caught.value.exit_code == 5
    assert not (tmp_path / "out" / "dataset.json").exists()
    monkeypatch.setattr(tar.TarWriter, "_write", plain)
    run_build(phantom_once, tmp_path / "out")
    assert tree_of(tmp_path / "out") == tree_of(built_once)
