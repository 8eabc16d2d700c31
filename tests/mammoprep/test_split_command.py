"""`split`: other folds or fewer samples, without decoding anything."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import webdataset
from helpers import run_build, run_cli, tree_of

from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.repack import repack
from mammoprep.select import predicate
from mammoprep.verify import verify

COLUMNS = ("view", "label", "labels.density", "labels.age", "split")


def table(root: Path) -> dict[str, dict[str, object]]:
    rows = pyarrow.parquet.read_table(root / "samples.parquet").to_pylist()
    return {row["key"]: row for row in rows}


def test_new_folds_are_those_of_a_build_and_pixels_are_the_same_bytes(
    built_once: Path, phantom_once: Path, tmp_path: Path
) -> None:
    repack(built_once, tmp_path / "new", folds=4, seed=9)
    run_build(phantom_once, tmp_path / "built", folds=4, seed=9)
    new, old = table(tmp_path / "new"), table(built_once)
    assert set(new) == set(old)
    assert {k: r["png.sha256"] for k, r in new.items()} == {
        k: r["png.sha256"] for k, r in old.items()
    }
    wanted = table(tmp_path / "built")
    groups = {str(row["group"]): {r["split"] for r in new.values() if r["group"] == row["group"]}
              for row in new.values()}  # fmt: skip
    assert all(len(splits) == 1 for splits in groups.values())
    assert {r["split"] for r in new.values()} == {r["split"] for r in wanted.values()}
    assert {k for k, r in new.items() if r["split"] == "test"} == {
        k for k, r in old.items() if r["split"] == "test"
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_repacked_dataset_is_whole_and_reads_as_webdataset(
    built_once: Path, tmp_path: Path
) -> None:
    summary = repack(built_once, tmp_path / "new", folds=2, seed=1)
    assert verify(tmp_path / "new").damages == ()
    shards = sorted(str(path) for path in (tmp_path / "new" / "shards").glob("*.tar"))
    seen = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert len(seen) == summary["counts"]["samples"]
    for sample in seen:
        told = json.loads(sample["json"])
        assert told["split"] == Path(sample["__url__"]).name.rsplit("-", 1)[0]


def test_the_same_command_gives_the_same_bytes(built_once: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        repack(built_once, tmp_path / name, folds=3, seed=2)
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")


def test_where_keeps_what_is_true_and_counts_the_rest(built_once: Path, tmp_path: Path) -> None:
    summary = repack(built_once, tmp_path / "new", folds=2, seed=0, where="view == 'CC'")
    assert {row["view"] for row in table(tmp_path / "new").values()} == {"CC"}
    counts = summary["counts"]
    assert counts["inputs"] == counts["built"] + sum(counts["excluded"].values())
    assert counts["excluded"]["not_selected"] > 0
    assert summary["settings"]["where"] == "view == 'CC'"


ROW = {"view": "CC", "label": 1, "labels.density": None, "labels.age": 61.0, "split": "fold0"}
TRUE = (
    "view == 'CC'",
    "label == 1 and not view == 'MLO'",
    "labels.age >= 50",
    "50 < labels.age < 70",
    "view in ['CC', 'MLO']",
    "view not in ('MLO',)",
    "labels.density is None",
    "labels.density == 'D' or label == 1",
)
FALSE = ("labels.density < 'C'", "view == 'MLO'", "not label == 1", "labels.density is not None")


@pytest.mark.parametrize("text", TRUE)
def test_an_expression_is_true(text: str) -> None:
    assert predicate(text, COLUMNS)(ROW)


@pytest.mark.parametrize("text", FALSE)
def test_an_expression_is_false(text: str) -> None:
    assert not predicate(text, COLUMNS)(ROW)


HOSTILE = (
    "__import__('os')", "view.__class__", "open('x')", "label + 1", "lambda: 1",
    "[x for x in view]", "view ==", "", "views == 'CC'", "f'{view}'", "(" * 500, "1" * 5000,
    "label if view else 2",
    "view[0] == 'C'",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_anything_else_is_a_mistake_with_a_message(text: str) -> None:
    with pytest.raises(ConfigError):
        predicate(text, COLUMNS)


def test_things_that_have_no_order_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="compares"):
        predicate("view < 3", COLUMNS)(ROW)


def test_nothing_selected_and_full_folders_are_mistakes(built_once: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="selects none"):
        repack(built_once, tmp_path / "new", folds=2, seed=0, where="view == 'XX'")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        repack(built_once, tmp_path / "mine", folds=2, seed=0)


def test_a_damaged_member_is_not_copied(built: Path, tmp_path: Path) -> None:
    row = next(iter(table(built).values()))
    path = built / "shards" / str(row["shard"])
    data = bytearray(path.read_bytes())
    data[int(row["png.offset"]) + 50] ^= 4  # type: ignore[call-overload]
    path.write_bytes(data)
    with pytest.raises(DamageError, match=str(row["key"])):
        repack(built, tmp_path / "new", folds=2, seed=0)
    assert not (tmp_path / "new" / "dataset.json").exists()


def test_the_command_line_says_what_went_where(built_once: Path, tmp_path: Path) -> None:
    done = run_cli("split", built_once, "--folds", 2, "--out", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "fold1" in done.stdout
    wrong = run_cli("split", built_once, "--out", tmp_path / "x", "--where", "veiw == 'CC'")
    assert wrong.returncode == 2
    assert "Did you mean 'view'" in wrong.stderr


def test_a_build_does_not_take_the_folder_of_a_split(
    built_once: Path, phantom_once: Path, tmp_path: Path
) -> None:
    repack(built_once, tmp_path / "new", folds=2, seed=0)
    before = tree_of(tmp_path / "new")
    with pytest.raises(ConfigError, match="other settings: source: a split of rsna -> rsna"):
        run_build(phantom_once, tmp_path / "new", folds=2)
    assert tree_of(tmp_path / "new") == before


@pytest.mark.parametrize(("folds", "seed"), [(0, 0), (-2, 0), (101, 0), (3, -1)])
def test_impossible_folds_are_refused(built_once: Path, tmp_path: Path, folds, seed) -> None:
    with pytest.raises(ConfigError, match="--folds must be 1 to 100"):
        repack(built_once, tmp_path / "new", folds=folds, seed=seed)
    assert not (tmp_path / "new").exists()


def test_a_split_is_not_written_into_its_own_dataset(built: Path) -> None:
    with pytest.raises(ConfigError, match="Give a folder beside it"):
        repack(built, built / "sub", folds=3, seed=0)
