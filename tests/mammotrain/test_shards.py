"""A table shows exactly what was built, from a folder or a URL, or names what is damaged."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from helpers import run_build

from mammoprep.core.errors import ConfigError, DamageError, MammoError, ResourceError
from mammotrain import setup
from mammotrain.data import _manifest, _remote, shards
from mammotrain.data.loader import Loader, Options
from mammotrain.data.shards import Table, open_table


def tar_members(root: Path) -> dict[str, bytes]:
    found = {}
    for path in (root / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            for info in tar:
                member = tar.extractfile(info)
                assert member is not None
                found[info.name] = member.read()
    return found


def change(root: Path, edit: Callable[[dict], None], table: pyarrow.Table | None = None) -> None:
    """Rewrite dataset.json (and the table) as a builder would that made them so."""
    path = root / "dataset.json"
    content = json.loads(path.read_text())
    if table is not None:
        pyarrow.parquet.write_table(table, root / "samples.parquet")
        digest = sha256((root / "samples.parquet").read_bytes()).hexdigest()
        content["files"]["samples.parquet"] = digest
    edit(content)
    content.pop("content_sha256")
    for _ in range(2):
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        content.setdefault("content_sha256", sha256(text.encode()).hexdigest())
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def stored_table(root: Path) -> pyarrow.Table:
    return pyarrow.parquet.read_table(root / "samples.parquet")


def with_column(table: pyarrow.Table, name: str, values: list) -> pyarrow.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pyarrow.array(values))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def read_all(table: Table) -> dict[str, bytes]:
    return {
        f"{table.keys[row]}.{suffix}": table.read(row, suffix)
        for row in range(len(table))
        for suffix in shards.SUFFIXES
        if table.has(suffix)[row]
    }


def refusal(*paths: Path | str, kind: type[MammoError] = ConfigError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        open_table(list(paths), **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_every_member_is_read_as_tar_reads_it(built_once: Path) -> None:
    table = open_table([built_once])
    assert len(table) == 33
    assert read_all(table) == tar_members(built_once)


def test_columns_are_those_of_the_parquet_file_with_none_for_unknown(built_once: Path) -> None:
    table = open_table([built_once])
    stored = stored_table(built_once)
    for name in ("key", "label", "labels.density", "geometry.matrix", "augmented", "intensity"):
        assert table.columns[name].tolist() == stored[name].to_pylist()
    assert "geometry.size" in table.columns
    assert not {"png.size", "json.offset", "_part"} & set(table.columns)
    assert list(table.keys) == sorted(table.keys)
    ages = table.numbers("labels.age")
    assert ages.dtype == np.float64
    assert np.isnan(table.numbers("label")).sum() == stored["label"].null_count > 0


def test_a_column_of_text_has_no_numbers(built_once: Path) -> None:
    table = open_table([built_once])
    for name in ("view", "nothing"):
        with pytest.raises(ConfigError, match=name):
            table.numbers(name)


def test_the_summary_tells_what_the_builder_told(built_once: Path) -> None:
    table = open_table([built_once])
    assert table.label_names == ("negative", "cancer")
    assert table.preparation["size"] == [64, 128]
    assert table.preparation["label_names"] == ["negative", "cancer"]
    assert table.summary == json.loads((built_once / "dataset.json").read_text())


def test_what_a_build_had_to_say_is_said_again_to_whoever_trains(
    phantom_once: Path, tmp_path: Path
) -> None:
    result = run_build(phantom_once, tmp_path / "out", size=(128, 64))  # width and height mixed up
    config: Any = SimpleNamespace(data=SimpleNamespace(tolerate_bad_shards=False))
    told: list[str] = []
    setup.open_shards(config, (str(tmp_path / "out"),), told.append)
    assert result.summary["notices"]
    assert told == [f"rsna: {line}" for line in result.summary["notices"]]


def test_a_range_tells_of_files_and_an_older_preparation_of_none(built_once: Path) -> None:
    now = open_table([built_once]).preparation
    older = {name: value for name, value in now.items() if name not in ("range", "crop_margin")}
    assert shards.difference(older, now) == []
    assert shards.difference(now, {**now, "range": "4095"}) == []
    assert shards.difference(now, {**now, "range": "percentile"}) == ["range: auto -> percentile"]
    assert shards.difference(older, {**now, "crop_margin": 0.1}) == ["crop_margin: 0.02 -> 0.1"]


def test_a_preparation_differs_by_what_changes_a_picture_only(built_once: Path) -> None:
    old = open_table([built_once]).preparation
    assert shards.difference(old, {**old, "bits": 16}) == ["bits: 8 -> 16"]
    assert not {"seed", "folds", "shard_size", "limit", "views"} & set(old)


def test_a_folder_without_dataset_json_is_refused(built: Path) -> None:
    (built / "dataset.json").unlink()
    assert "did not finish" in refusal(built)
    assert "no dataset.json" in refusal(built / "nowhere")


def test_a_changed_manifest_is_damage(built: Path) -> None:
    path = built / "dataset.json"
    path.write_text(path.read_text().replace('"cancer"', '"canker"'))
    assert "dataset.json is damaged" in refusal(built, kind=DamageError)
    path.write_text("[1]")
    assert "dataset.json is damaged" in refusal(built, kind=DamageError)


def test_a_changed_table_is_damage(built: Path) -> None:
    flip(built / "samples.parquet", 100)
    assert "samples.parquet is not what was built" in refusal(built, kind=DamageError)
    (built / "samples.parquet").unlink()
    assert "samples.parquet is missing" in refusal(built, kind=DamageError)


def test_another_format_is_refused(built: Path) -> None:
    change(built, lambda content: content.update(format_version=2))
    assert "shard format 2" in refusal(built)


@pytest.mark.parametrize("verify", ["member", "shard"])
def test_a_flipped_bit_names_the_shard_and_the_sample(built: Path, verify: str) -> None:
    row = stored_table(built).to_pylist()[0]
    flip(built / "shards" / row["shard"], row["png.offset"] + row["png.size"] // 2)
    table = open_table([built], verify=verify)
    place = list(table.keys).index(row["key"])
    with pytest.raises(DamageError, match=row["shard"]) as caught:
        table.read(place, "png")
    assert verify == "shard" or row["key"] in str(caught.value)
    assert open_table([built], verify="none").read(place, "png")


def test_a_missing_or_cut_shard_is_named_before_any_work(built: Path) -> None:
    first, second = sorted((built / "shards").glob("*.tar"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-512])
    text = refusal(built, kind=DamageError)
    assert f"{first.name}: missing" in text
    assert f"{second.name}: " in text
    assert "2 damaged shards" in text


def test_tolerated_damage_is_left_out_and_counted(built: Path) -> None:
    first, second, third = sorted((built / "shards").glob("*.tar"))[:3]
    rows = stored_table(built).to_pylist()
    first.unlink()
    flip(second, 700)
    lost = [row["key"] for row in rows if row["shard"] in (first.name, second.name)]
    table = open_table([built], tolerate_bad_shards=2)
    assert sum(table.lost.values()) == len(lost) > 0
    assert {Path(name).name for name in table.lost} == {first.name, second.name}
    assert not set(lost) & set(table.keys)
    assert len(table) + len(lost) == 33
    read_all(table)
    flip(third, 700)
    assert "3 damaged shards, 2 tolerated" in refusal(
        built, kind=DamageError, tolerate_bad_shards=2
    )


def test_a_shard_that_vanishes_later_is_damage(built: Path) -> None:
    table = open_table([built])
    (built / "shards" / table.shard_name(0)).unlink()
    with pytest.raises(DamageError, match="missing"):
        table.read(0, "png")


def test_a_shard_that_is_no_regular_file_is_not_waited_for(built: Path) -> None:
    path = next((built / "shards").glob("*.tar"))
    path.unlink()
    os.mkfifo(path)
    assert "no regular file" in refusal(built, kind=DamageError)


def test_a_member_that_a_sample_lacks_is_refused(built_once: Path) -> None:
    table = open_table([built_once])
    for suffix in ("mask.png", "pyd"):
        assert not table.has(suffix).any()
        with pytest.raises(ConfigError, match=suffix):
            table.read(0, suffix)


def test_members_of_unknown_suffixes_are_never_looked_at(built: Path) -> None:
    table = stored_table(built)
    for end in ("offset", "size", "sha256"):
        table = table.append_column(f"pyd.{end}", table[f"png.{end}"])
    change(built, lambda _: None, table)
    opened = open_table([built])
    assert not opened.has("pyd").any()
    assert "pyd.offset" not in opened.columns
    with pytest.raises(ConfigError):
        opened.read(0, "pyd")


@pytest.mark.parametrize(("column", "value"), [("png.offset", 1 << 40), ("png.size", 1 << 62),
                                               ("png.size", -5), ("png.offset", -7)])  # fmt: skip
def test_a_place_outside_of_the_shard_is_damage(built: Path, column: str, value: int) -> None:
    table = stored_table(built)
    values = table[column].to_pylist()
    values[3] = value
    change(built, lambda _: None, with_column(table, column, values))
    assert "outside of the shard" in refusal(built, kind=DamageError)


def test_a_shard_that_the_manifest_does_not_know_is_never_opened(built: Path) -> None:
    table = stored_table(built)
    names = table["shard"].to_pylist()
    names[0] = "../../secret.tar"
    change(built, lambda _: None, with_column(table, "shard", names))
    assert "does not know the shard" in refusal(built, kind=DamageError)


def test_more_shards_than_handles_are_read(
    built_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "OPEN_SHARDS", 2)
    assert read_all(open_table([built_once])) == tar_members(built_once)


# --- several datasets


@pytest.fixture(scope="module")
def second_source(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as if they were of another source, under other keys."""
    out = tmp_path_factory.mktemp("second") / "shards"
    shutil.copytree(built_once, out)
    table = stored_table(out)
    keys = [key.replace("rsna", "other") for key in table["key"].to_pylist()]
    table = with_column(table, "key", keys)
    table = with_column(table, "source", ["other"] * len(keys))
    table = table.drop_columns(["labels.biopsy"])
    change(out, lambda _: None, table)
    return out


def test_two_datasets_are_one_table_in_any_order(built_once: Path, second_source: Path) -> None:
    one, two = (open_table(p) for p in ([built_once, second_source], [second_source, built_once]))
    assert len(one) == 66
    assert list(one.keys) == list(two.keys) == sorted(one.keys)
    assert one.shards.tolist() == two.shards.tolist()
    assert one.content == two.content
    rows = [0, 40]
    assert [one.read(row, "png") for row in rows] == [two.read(row, "png") for row in rows]


def test_a_column_that_one_dataset_lacks_is_unknown_there(
    built_once: Path, second_source: Path
) -> None:
    table = open_table([built_once, second_source])
    other = table.columns["source"] == "other"
    assert all(value is None for value in table.columns["labels.biopsy"][other])
    assert any(value is not None for value in table.columns["labels.biopsy"][~other])


def test_groups_of_two_sources_are_never_the_same(built_once: Path, second_source: Path) -> None:
    alone = open_table([built_once]).columns["group"]
    both = open_table([built_once, second_source]).columns["group"]
    assert not any("/" in group for group in alone)
    assert len(set(both)) == 2 * len(set(alone))


def test_a_dataset_given_twice_is_refused(built_once: Path) -> None:
    assert "each dataset once" in refusal(built_once, built_once)


def test_datasets_prepared_otherwise_are_refused_with_the_difference(
    phantom_once: Path, built_once: Path, tmp_path: Path
) -> None:
    run_build(phantom_once, tmp_path / "out", bits=16, limit=2, seed=5)
    text = refusal(built_once, tmp_path / "out")
    assert "bits: 8 -> 16" in text
    assert "seed" not in text


def test_datasets_with_other_classes_are_refused(
    built_once: Path, second_source: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(second_source, other)
    change(other, lambda content: content.update(label_names=["benign", "malignant"]))
    assert "label_names: ['negative', 'cancer'] -> ['benign', 'malignant']" in refusal(
        built_once, other
    )


def test_no_dataset_at_all_is_refused() -> None:
    assert "No dataset" in refusal()


# --- remote


@pytest.fixture
def remote(built_once: Path) -> str:
    """The dataset in fsspec's memory, which is no folder."""
    files = fsspec.filesystem("memory")
    files.put(f"{built_once}/", "/bucket/data/", recursive=True)
    yield "memory://bucket/data"
    files.rm("/bucket", recursive=True)


def cached(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def biggest(root: Path) -> int:
    return max(path.stat().st_size for path in (root / "shards").glob("*.tar"))


def test_a_url_reads_as_the_folder_does(remote: str, built_once: Path, tmp_path: Path) -> None:
    table = open_table([remote], cache_dir=tmp_path)
    assert read_all(table) == tar_members(built_once)
    assert table.content == open_table([built_once]).content
    assert len(cached(tmp_path)) == 8


def test_the_cache_stays_within_its_bytes(remote: str, built_once: Path, tmp_path: Path) -> None:
    limit = 3 * biggest(built_once)
    table = open_table([remote], cache_dir=tmp_path, cache_bytes=limit)
    for row in np.argsort(table.shards, kind="stable"):
        table.read(int(row), "png")
        assert sum(path.stat().st_size for path in cached(tmp_path)) <= limit


def test_a_cache_below_one_shard_is_refused(remote: str, tmp_path: Path) -> None:
    table = open_table([remote], cache_dir=tmp_path, cache_bytes=1000)
    with pytest.raises(ConfigError, match="may hold 1,000 bytes"):
        table.read(0, "png")


def test_a_cached_shard_is_fetched_once(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_all(open_table([remote], cache_dir=tmp_path))
    monkeypatch.setattr(_remote.Remote, "_transfer", lambda *_: pytest.fail("fetched again"))
    read_all(open_table([remote], cache_dir=tmp_path))


def test_a_shard_damaged_in_the_cache_is_fetched_again(
    remote: str, built_once: Path, tmp_path: Path
) -> None:
    read_all(open_table([remote], cache_dir=tmp_path))
    for path in cached(tmp_path):
        flip(path, 600)
    assert read_all(open_table([remote], cache_dir=tmp_path)) == tar_members(built_once)


def test_a_shard_damaged_at_the_url_is_never_used(remote: str, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    path = sorted(files.ls("/bucket/data/shards", detail=False))[0]
    content = bytearray(files.cat_file(path))
    content[600] ^= 1
    files.pipe_file(path, bytes(content))
    table = open_table([remote], cache_dir=tmp_path)
    row = next(row for row in range(len(table)) if path.endswith(table.shard_name(row)))
    with pytest.raises(DamageError, match=Path(path).name):
        table.read(row, "png")
    assert not cached(tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_a_shard_missing_at_the_url_is_named_or_tolerated(remote: str, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    path = sorted(files.ls("/bucket/data/shards", detail=False))[0]
    files.rm(path)
    assert f"{Path(path).name}: missing" in refusal(remote, kind=DamageError, cache_dir=tmp_path)
    table = open_table([remote], cache_dir=tmp_path, tolerate_bad_shards=1)
    assert [Path(name).name for name in table.lost] == [Path(path).name]


def test_shards_are_fetched_ahead_in_order(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    transfer = _remote.Remote._transfer

    def noted(self: _remote.Remote, shard: object, partial: Path) -> str:
        fetched.append(shard.name)  # type: ignore[attr-defined]
        return transfer(self, shard, partial)  # type: ignore[arg-type]

    monkeypatch.setattr(_remote.Remote, "_transfer", noted)
    table = open_table([remote], cache_dir=tmp_path)
    rows = np.array([30, 2, 17, 30, 5])
    table.ahead(rows)
    for row in rows[::-1]:
        table.read(int(row), "png")
    wanted = list(dict.fromkeys(table.shard_name(int(row)) for row in rows))
    assert fetched == wanted


def test_a_loader_fetches_the_next_window_while_it_reads(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(
        _remote.Remote, "ahead", lambda _, found: told.append([shard.name for shard in found])
    )
    table = open_table([remote], cache_dir=tmp_path)
    options = Options(batch_size=4, window=1, workers=0)
    for batch in Loader(table, np.arange(len(table)), options).epoch(0):
        assert told[-1][0] == table.shard_name(int(batch.rows[0]))
    assert all(len(names) > 1 for names in told[:-2])


def test_without_fsspec_a_url_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert "pip install" in refusal("s3://bucket/data", cache_dir=tmp_path)


def test_an_unknown_kind_of_url_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal("carrier-pigeon://loft/data", cache_dir=tmp_path)


def test_a_full_disk_is_no_damage(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    table = open_table([remote], cache_dir=tmp_path)
    monkeypatch.setattr(_remote.Remote, "_transfer", full)
    with pytest.raises(ResourceError, match="no space"):
        table.read(0, "png")


def test_reading_needs_no_torch() -> None:
    code = "import sys, mammotrain.data.cache as _; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- docs/data.md


def block(after: str) -> str:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    return page.split(after, 1)[1].split("```python\n", 1)[1].split("```", 1)[0]


def printed(code: str, folder: Path, built: Path) -> list[str]:
    """Run a page's example where ``shards`` is a finished dataset."""
    (folder / "shards").symlink_to(built)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_ten_lines_of_plain_webdataset_read_the_shards(built_once: Path, tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    code = block("<!-- webdataset -->")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    lines = printed(code, tmp_path, built_once)
    rows = [row for row in stored_table(built_once).to_pylist() if row["split"] != "test"]
    assert sorted(lines) == sorted(f"{row['key']} (128, 64) {row['label_name']}" for row in rows)


def test_the_example_of_the_loader_runs(built_once: Path, tmp_path: Path) -> None:
    lines = printed(block("-> Batch "), tmp_path, built_once)
    assert len(lines) == 4
    assert all("torch.Size([8, 1, 128, 64]) torch.uint8 rsna_" in line for line in lines)


def test_threads_of_arrow_hold_nothing_of_pythons_that_could_abort_the_end_of_the_process(
    built_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, given = pyarrow.parquet.read_table, []
    monkeypatch.setattr(pyarrow.parquet, "read_table", lambda it: given.append(it) or read(it))
    open_table([built_once])
    (source,) = given
    assert isinstance(source, pyarrow.BufferReader)
    data = os.urandom(1000)
    held = sys.getrefcount(data)
    own = _manifest._own(data)
    assert sys.getrefcount(data) == held
    assert own.read() == data
