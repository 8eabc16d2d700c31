"""`split`: other folds or fewer samples, without decoding anything."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import webdataset
from helpers import run_build, run_cli, tree_of

from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.repack import Wanted, repack
from mammoprep.select import predicate
from mammoprep.splits import read_split_file
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


def groups_of(root: Path) -> dict[str, str]:
    return {str(row["group"]): str(row["split"]) for row in table(root).values()}


def write_splits(path: Path, known: dict[str, str]) -> Path:
    path.write_text("group,split\n" + "".join(f"{g},{s}\n" for g, s in known.items()))
    return path


def free_groups(root: Path) -> list[str]:
    return sorted(g for g, split in groups_of(root).items() if split.startswith("fold"))


def test_a_split_file_puts_finished_samples_where_it_puts_those_of_a_build(
    built_once: Path, phantom_once: Path, tmp_path: Path
) -> None:
    known = dict(zip(free_groups(built_once), ("test", "train", "fold1"), strict=False))
    path = write_splits(tmp_path / "splits.csv", known)
    for name in ("a", "b"):
        done = run_cli("split", built_once, "--split-file", path, "--folds", 3, "--out",
                       tmp_path / name)  # fmt: skip
        assert done.returncode == 0, done.stderr
    run_build(phantom_once, tmp_path / "built", split_file=path)
    for name in ("a", "built"):
        found = groups_of(tmp_path / name)
        assert known.items() <= found.items()
        others = {group: split for group, split in found.items() if group not in known}
        assert set(others.values()) <= {"fold0", "fold1", "fold2", "test"}
        assert sorted(others) == sorted(set(groups_of(built_once)) - set(known))
    assert tree_of(tmp_path / "a") == tree_of(tmp_path / "b")
    assert verify(tmp_path / "a").damages == ()
    told, built = (
        json.loads((tmp_path / name / "dataset.json").read_text()) for name in ("a", "built")
    )
    assert told["settings"]["split_file"] == built["settings"]["split_file"]
    (line,) = [line for line in told["notices"] if "--split-file" in line]
    assert line in built["notices"]
    assert line in done.stderr
    assert run_cli("split", tmp_path / "a", "--check").returncode == 0


def test_who_is_unknown_is_counted_and_named_in_the_terminal_alone(
    built_once: Path, phantom_once: Path, tmp_path: Path
) -> None:
    groups = free_groups(built_once)
    known = {groups[0]: "fold1", "Jane Doe": "test", "x2": "test", "x3": "fold0", "x4": "fold0"}
    path = write_splits(tmp_path / "splits.csv", known)
    done = run_cli("build", "--source", "rsna", "--input", phantom_once, "--size", "32x64",
                   "--out", tmp_path / "built", "--split-file", path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = run_cli("split", built_once, "--split-file", path, "--out", tmp_path / "split")
    for said, name in ((done.stderr, "built"), (again.stderr, "split")):
        flat = " ".join(said.split())
        assert "4 of its 5 groups are not in the dataset and had no effect." in flat
        assert "'Jane Doe', 'x2', 'x3'" in flat
        assert "'x4'" not in flat
        text = (tmp_path / name / "dataset.json").read_text()
        assert "Jane Doe" not in text
        notices = json.loads(text)["notices"]
        assert any("4 of its 5 groups are not in the dataset" in line for line in notices)
        mine = len(groups_of(built_once)) - 1
        own = mine - len(groups) + 1
        rest = f" and {own} keep the dataset's own split" if own else ""
        assert any(
            f"{mine} of the dataset's {mine + 1} groups are not in it: {len(groups) - 1} of them "
            f"were spread over the folds{rest}." in line
            for line in notices
        )


REFUSED = {
    "other": ("A,test\nB,fold0\n", "knows none of the"),
    "empty": ("", "names no group"),
    "fold": ("{0},fold7\n", "unknown split 'fold7'"),
    "two": ("{0},fold1\n{0},fold2\n", "has two splits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_split_file_that_cannot_be_meant_is_refused_by_build_and_split(
    case: str, built_once: Path, phantom_once: Path, tmp_path: Path
) -> None:
    rows, message = REFUSED[case]
    path = tmp_path / "splits.csv"
    path.write_text("group,split\n" + rows.format(*free_groups(built_once)))
    with pytest.raises(ConfigError, match=message):
        run_build(phantom_once, tmp_path / "built", split_file=path)
    with pytest.raises(ConfigError, match=message):
        repack(built_once, tmp_path / "new", folds=3, seed=0, wanted=Wanted(path))
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "built").exists()


def test_a_split_file_in_parquet_may_not_be_empty_or_have_empty_cells(tmp_path: Path) -> None:
    schema = pyarrow.schema([("group", pyarrow.string()), ("split", pyarrow.string())])
    rows = ([], [{"group": None, "split": "fold0"}, {"group": "a", "split": "fold0"}])
    for number, content in enumerate(rows):
        path = tmp_path / f"{number}.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content, schema=schema), path)
        with pytest.raises(ConfigError, match=r"names no group|empty in 1 rows"):
            read_split_file(path)


def test_a_split_file_may_not_move_an_official_test_set(tested: Path, tmp_path: Path) -> None:
    group = next(g for g, split in groups_of(tested).items() if split == "test")
    path = write_splits(tmp_path / "splits.csv", {group: "fold0"})
    with pytest.raises(ConfigError, match=r"official split is 'test'\. Take the group out"):
        repack(tested, tmp_path / "new", folds=3, seed=0, wanted=Wanted(path))


@pytest.fixture
def tested(built_once: Path, tmp_path: Path) -> Path:
    """The phantom with a quarter of its patients in a test set."""
    plain = "split != 'test'"
    repack(built_once, tmp_path / "tested", folds=2, seed=0, where=plain, wanted=Wanted(test="25%"))
    return tmp_path / "tested"


def test_a_share_of_the_groups_becomes_the_test_set_and_stays_it(
    built_once: Path, tested: Path, tmp_path: Path
) -> None:
    found = groups_of(tested)
    free = free_groups(built_once)
    assert sorted(found) == free
    assert sum(split == "test" for split in found.values()) == round(len(free) / 4)
    assert {split for split in found.values() if split != "test"} == {"fold0", "fold1"}
    assert verify(tested).damages == ()
    done = run_cli("split", tested, "--check")
    assert done.returncode == 0, done.stdout
    repack(tested, tmp_path / "again", folds=3, seed=5)
    after = groups_of(tmp_path / "again")
    assert {g for g in after if after[g] == "test"} == {g for g in found if found[g] == "test"}
    told = json.loads((tested / "dataset.json").read_text())
    assert told["settings"]["test"] == "25%"


def test_the_same_share_gives_the_same_bytes_and_another_seed_others(
    tested: Path, built_once: Path, tmp_path: Path
) -> None:
    where = "split != 'test'"
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / f"seed{seed}"
        repack(built_once, out, folds=2, seed=seed, where=where, wanted=Wanted(test="25%"))
        assert (tree_of(out) == tree_of(tested)) == same


def test_a_test_set_is_not_drawn_where_there_is_one(tested: Path, tmp_path: Path) -> None:
    done = run_cli("split", tested, "--out", tmp_path / "new", "--test", "20%")
    assert done.returncode == 2
    assert "a test set" in done.stderr
    assert "--where" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("test", ["0%", "100%", "101%", "-3", "abc", "1000"])
def test_an_odd_share_is_a_mistake_before_anything_is_written(
    test: str, built_once: Path, tmp_path: Path
) -> None:
    done = run_cli("split", built_once, "--out", tmp_path / "new", f"--test={test}",
                   "--where", "split != 'test'")  # fmt: skip
    assert done.returncode == 2
    assert "--test" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--split-file", "FILE", "--test", "20%", "--out", "NEW"),
        ("--split-file", "none.csv", "--out", "NEW"),
        ("--check", "--test", "20%"),
        ("--check", "--split-file", "FILE"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: tuple[str, ...], built_once: Path, tmp_path: Path
) -> None:
    path = write_splits(tmp_path / "splits.csv", dict.fromkeys(free_groups(built_once), "fold0"))
    places = {"FILE": path, "NEW": tmp_path / "new"}
    done = run_cli("split", built_once, *[places.get(each, each) for each in options])
    assert done.returncode == 2
    assert not (tmp_path / "new").exists()


def test_a_class_that_the_test_set_lacks_is_said_and_kept_as_a_notice(
    built_once: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    wanted = Wanted(test="1", tell=said.append)
    made = repack(built_once, tmp_path / "new", folds=2, seed=0, where="split != 'test'",
                  wanted=wanted)  # fmt: skip
    (line,) = [line for line in said if "in no group of the test set" in line]
    assert line in made["notices"]


def test_empty_folds_are_said(built_once: Path, tmp_path: Path) -> None:
    done = run_cli("split", built_once, "--out", tmp_path / "new", "--folds", 50)
    assert done.returncode == 0
    assert "the others are empty" in done.stderr
