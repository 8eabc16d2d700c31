"""verify finds any missing, truncated, swapped or flipped bit; the next build mends just that."""

import random
from pathlib import Path

import pyarrow.parquet
import pytest
from helpers import run_build, tree_of

from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.verify import Verdict, verify

FLIPS = 60


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def shards_of(out: Path) -> list[Path]:
    return sorted((out / "shards").glob("*.tar"))


def named(verdict: Verdict) -> set[str]:
    return {damage.shard for damage in verdict.damages}


def test_a_fresh_build_is_whole(built_once: Path) -> None:
    verdict = verify(built_once)
    assert verdict.damages == ()
    assert verdict.shards == len(shards_of(built_once))


def test_every_flipped_bit_is_found_in_its_shard_and_its_sample(built: Path) -> None:
    rng = random.Random(4)
    rows = pyarrow.parquet.read_table(built / "samples.parquet").to_pylist()
    for _ in range(FLIPS):
        path = rng.choice(shards_of(built))
        position, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
        flip(path, position, bit)
        verdict = verify(built)
        assert named(verdict) == {path.name}
        last = max(r["json.offset"] + r["json.size"] for r in rows if r["shard"] == path.name)
        keys = {damage.key for damage in verdict.damages if damage.key}
        assert len(keys) == (1 if position < last + -last % 512 else 0)
        flip(path, position, bit)
    assert verify(built).damages == ()


def test_a_cut_shard_names_the_samples_that_are_lost(built: Path) -> None:
    path = shards_of(built)[0]
    rows = pyarrow.parquet.read_table(built / "samples.parquet").to_pylist()
    mine = [row for row in rows if row["shard"] == path.name]
    path.write_bytes(path.read_bytes()[: mine[-1]["png.offset"] + 10])
    damages = verify(built).damages
    assert {damage.key for damage in damages if damage.key} == {mine[-1]["key"]}


def test_a_missing_and_a_stray_shard_are_named(built: Path) -> None:
    first, second = shards_of(built)[:2]
    first.unlink()
    (built / "shards" / "fold0-99999.tar").write_bytes(second.read_bytes())
    assert named(verify(built)) == {first.name, "fold0-99999.tar"}


def test_two_swapped_shards_are_both_named(built: Path) -> None:
    first, second = shards_of(built)[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert named(verify(built)) >= {first.name, second.name}


@pytest.mark.parametrize("name", ["samples.parquet", "failures.jsonl", "report.html"])
def test_a_changed_file_beside_the_shards_is_named(name: str, built: Path) -> None:
    with (built / name).open("ab") as file:
        file.write(b"x")
    assert named(verify(built)) == {name}


def test_damage_is_named_even_when_the_table_is_damaged_too(built: Path) -> None:
    flip(built / "samples.parquet", 900)
    path = shards_of(built)[1]
    flip(path, 600)
    damages = verify(built).damages
    assert any(damage.shard == path.name and damage.key for damage in damages)


def test_a_changed_manifest_is_refused(built: Path) -> None:
    path = built / "dataset.json"
    path.write_text(path.read_text().replace("non-commercial", "commercial"))
    with pytest.raises(DamageError, match="damaged"):
        verify(built)


def test_an_unfinished_build_and_no_build_are_told_apart(built: Path, tmp_path: Path) -> None:
    (built / "dataset.json").unlink()
    with pytest.raises(DamageError, match="did not finish"):
        verify(built)
    with pytest.raises(ConfigError, match="is no dataset"):
        verify(tmp_path)


def test_the_next_build_mends_just_the_damaged_shards(
    phantom_once: Path, built: Path, built_once: Path
) -> None:
    paths = shards_of(built)
    flip(paths[0], 700)
    paths[1].unlink()
    paths[2].write_bytes(b"")
    (built / "shards" / "stray.tar").write_bytes(b"x")
    flip(built / "samples.parquet", 50)
    result = run_build(phantom_once, built)
    assert sorted(result.local["shards_built"]) == [path.stem for path in paths[:3]]
    assert tree_of(built) == tree_of(built_once)


def test_a_damaged_sidecar_does_not_reach_the_table(
    phantom_once: Path, built: Path, built_once: Path
) -> None:
    sidecar = sorted((built / ".state" / "shards").glob("*.json"))[0]
    sidecar.write_text(sidecar.read_text().replace('"laterality": "L"', '"laterality": "R"'))
    run_build(phantom_once, built)
    assert tree_of(built) == tree_of(built_once)
