"""Splits and shards: grouped, stratified, deterministic, stable when files arrive."""

import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from mammoprep import plan, splits
from mammoprep.config import Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.inputs import read_inputs
from mammoprep.phantoms._workbook import to_bytes

SETTINGS = Settings(size=(64, 128), shard_size=8)


def record(patient: int, image: int, *, cancer: int = 0, split: str | None = None) -> Record:
    return Record(
        key=f"t_{patient}_{image}",
        source="t",
        group=str(patient),
        input=f"images/{patient}/{image}.dcm",
        split=split,
        label=cancer,
        stratum=f"cancer={cancer}",
    )


def test_a_group_that_a_split_file_spells_in_two_ways_has_one_split() -> None:
    records = table(patients=12)
    agreed = {"3": "fold1", "3.0": "fold1"}
    assert plan.make(records, sizes_of(records), SETTINGS, agreed)
    with pytest.raises(ConfigError, match="two splits"):
        plan.make(records, sizes_of(records), SETTINGS, {"3": "fold1", "3.0": "fold2"})


def test_an_id_that_most_images_share_is_said() -> None:
    many = [record(0, image) for image in range(15)]
    few = [record(patient, 0) for patient in range(1, 6)]
    (said,) = plan.make([*many, *few], sizes_of([*many, *few]), SETTINGS).warnings
    assert "One group holds 15 of 20 images" in said
    assert plan.make(table(), sizes_of(table()), SETTINGS).warnings == ()


def table(patients: int = 60, images: int = 4, every: int = 10) -> list[Record]:
    return [
        record(p, i, cancer=int(p % every == 0)) for p in range(patients) for i in range(images)
    ]


def sizes_of(records: list[Record]) -> dict[str, int]:
    return {item.input: 100 for item in records}


def make(records: list[Record], settings: Settings = SETTINGS, **known: str) -> plan.Plan:
    return plan.make(records, sizes_of(records), settings, known)


def test_every_input_is_in_exactly_one_shard() -> None:
    records = table()
    keys = [item.record.key for shard in make(records).shards for item in shard.inputs]
    assert sorted(keys) == sorted(r.key for r in records)


def test_no_group_is_on_two_sides() -> None:
    where: dict[str, set[str]] = defaultdict(set)
    for shard in make(table()).shards:
        for item in shard.inputs:
            where[item.record.group].add(shard.split)
    assert all(len(found) == 1 for found in where.values())


def test_folds_hold_the_same_share_of_every_stratum() -> None:
    counts: Counter[tuple[str, int | None]] = Counter()
    for shard in make(table(patients=100)).shards:
        for item in shard.inputs:
            counts[shard.split, item.record.label] += 1
    for label, expected in ((0, 72), (1, 8)):
        assert {counts[f"fold{fold}", label] for fold in range(5)} == {expected}


def test_folds_hold_the_same_share_of_every_label_where_it_is_all_that_tells_groups_apart() -> None:
    records = [replace(one, stratum="") for one in table(patients=100)]
    placed = splits.assign(splits.gather(records), folds=5, seed=0)
    counts = Counter((placed[one.group], one.label) for one in records)
    for label, expected in ((0, 72), (1, 8)):
        assert {counts[f"fold{fold}", label] for fold in range(5)} == {expected}


def spread(folds: list[str], strata: list[str]) -> float:
    """Sum over strata of the squared deviation from an even share, relative to the stratum."""
    totals, counts = Counter(strata), Counter(zip(folds, strata, strict=True))
    return sum(
        (counts[fold, stratum] / totals[stratum] - 0.2) ** 2
        for stratum in totals
        for fold in set(folds)
    )


def test_the_split_is_at_least_as_even_as_scikit_learns(real_data: Path) -> None:
    records = [r for r in read_inputs("rsna", real_data / "rsna").records if r.split is None]
    placed = splits.assign(splits.gather(records), folds=5, seed=0)
    ours = [placed[r.group] for r in records]
    strata = [r.stratum for r in records]
    labels = np.array([str(r.label) for r in records])
    groups = np.array([r.group for r in records])
    theirs = [""] * len(records)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for fold, (_, held_out) in enumerate(splitter.split(labels, strata, groups)):
        for index in held_out:
            theirs[index] = f"fold{fold}"
    assert spread(ours, strata) <= 1.01 * spread(theirs, strata)
    assert spread(ours, list(labels)) <= spread(theirs, list(labels)) + 1e-4


def test_the_plan_does_not_depend_on_the_order_of_the_table() -> None:
    records = table()
    shuffled = random.Random(3).sample(records, len(records))
    assert make(records).sha256 == make(shuffled).sha256


def test_another_seed_gives_another_split() -> None:
    first, second = (make(table(), replace(SETTINGS, seed=seed)) for seed in (0, 1))
    assert first.sha256 != second.sha256


def test_fewer_groups_than_folds_leave_folds_empty_and_warn() -> None:
    planned = make(table(patients=2))
    assert {shard.split for shard in planned.shards} <= {
        "fold0",
        "fold1",
        "fold2",
        "fold3",
        "fold4",
    }
    assert len({shard.split for shard in planned.shards}) == 2
    assert "only 2 got a group" in planned.warnings[0]


def test_the_official_test_set_stays_test() -> None:
    records = [*table(), record(900, 1, split="test")]
    placed = {i.record.group: s.split for s in make(records).shards for i in s.inputs}
    assert placed["900"] == "test"


def test_a_patient_in_two_official_splits_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than one official split"):
        make([record(1, 1, split="test"), record(1, 2)])


def test_a_file_that_arrives_later_changes_one_shard() -> None:
    records = table()
    settings = replace(SETTINGS, missing="skip")
    all_there = sizes_of(records)
    one_missing = {name: size for name, size in all_there.items() if name != records[17].input}
    before = {s.name: s.sha256 for s in plan.make(records, one_missing, settings).shards}
    after = {s.name: s.sha256 for s in plan.make(records, all_there, settings).shards}
    assert sum(before.get(name) != digest for name, digest in after.items()) == 1


def test_absent_files_fail_or_are_excluded_as_asked() -> None:
    records = table(patients=3)
    sizes = {records[0].input: 5}
    failing = plan.make(records, sizes, SETTINGS)
    skipping = plan.make(records, sizes, replace(SETTINGS, missing="skip"))
    missing = [i for s in failing.shards for i in s.inputs if i.size is None]
    assert len(missing) == len(records) - 1
    assert skipping.excluded == {"no_file": len(records) - 1}
    assert failing.inputs == skipping.inputs == len(records)


def test_the_limit_counts_inputs_after_skipping() -> None:
    records = table(patients=5)
    sizes = {item.input: 1 for item in records[10:]}
    planned = plan.make(records, sizes, replace(SETTINGS, missing="skip", limit=3))
    keys = sorted(i.record.key for s in planned.shards for i in s.inputs)
    assert keys == sorted(r.key for r in records[10:13])


def test_classes_mix_in_every_shard() -> None:
    planned = make(table(patients=400, every=2), replace(SETTINGS, shard_size=40))
    for shard in planned.shards:
        share = sum(i.record.label or 0 for i in shard.inputs) / len(shard.inputs)
        assert 0.2 < share < 0.8


def test_the_mean_shard_holds_what_was_asked_for() -> None:
    planned = make(table(patients=400), replace(SETTINGS, shard_size=20))
    mean = planned.inputs / len(planned.shards)
    assert 16 <= mean <= 25


@pytest.mark.parametrize(("inputs", "size"), [(1, 16), (3000, 16), (10_000, 50), (54_706, 256)])
def test_the_default_shard_size_follows_the_dataset(inputs: int, size: int) -> None:
    assert plan.default_shard_size(inputs) == size


def test_known_groups_keep_their_split_and_new_ones_keep_the_balance(tmp_path: Path) -> None:
    records = table(patients=50)
    before = splits.assign(splits.gather(records), folds=5, seed=0)
    more = [*records, *(record(1000 + p, 1, cancer=int(p < 5)) for p in range(25))]
    after = splits.assign(splits.gather(more), folds=5, seed=0, known=before)
    assert all(after[group] == split for group, split in before.items())
    new = Counter(split for group, split in after.items() if group not in before)
    assert set(new.values()) == {5}


def test_a_split_file_may_be_a_table(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("group,split\n1,fold2\n2,test\n")
    assert splits.read_split_file(path) == {"1": "fold2", "2": "test"}


@pytest.mark.parametrize(
    "content",
    [
        "Group;SPLIT\n1;fold2\n2;Test\n".encode("utf-16"),
        b"\xef\xbb\xbfsplit\tgroup\r\nfold2\t1\r\ntest\t2\r\n",
        b"sep=;\r\ngroup;split;\r\n1;fold2;\r\n2;test;\r\n",
        b"My splits\n group , split \n1,fold2-aug\n1,fold2\n\n2, test\n",
        to_bytes([("group", "split"), (1, "fold2"), ("2", "test")], "a"),
    ],
    ids=["utf-16", "tabs", "sep", "title", "excel"],
)
def test_a_split_file_is_read_whatever_program_wrote_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_bytes(content)
    assert splits.read_split_file(path) == {"1": "fold2", "2": "test"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("groups,split\n1,test\n", "missing column group. .* Did you mean 'groups'"),
        ("group,split\n1,\n", "row 2: split is empty"),
        ("group,split\n1,test\n,test\n", "row 3: group is empty"),
        ("group,split\n#REF!,test\n", "row 2: group is not what was written there"),
        ("group,split\n1.23457E+17,test\n", "row 2: group is not what was written there"),
        ("group,Group,split\n1,2,test\n", None),
        ("GROUP,Group,split\n1,2,test\n", "differ only in case: remove all but one"),
        ("group,split\nM\xfcller,test\n", "row 2 is not UTF-8 text: .*Save it as UTF-8"),
    ],
)
def test_a_split_file_that_cannot_be_read_for_certain_says_where_and_names_no_option_of_a_table(
    content: str, message: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "splits.csv"
    path.write_bytes(content.encode("latin-1"))
    if message is None:
        assert splits.read_split_file(path) == {"1": "test"}
        return
    with pytest.raises(ConfigError, match=message) as caught:
        splits.read_split_file(path)
    found = str(caught.value)
    assert found.startswith("--split-file: ")
    assert not any(f"--{name}" in found for name in ("encoding", "sheet", "header", "columns"))


def test_a_split_file_may_be_an_earlier_samples_table(built_once: Path) -> None:
    known = splits.read_split_file(built_once / "samples.parquet")
    assert set(known.values()) <= {"fold0", "fold1", "fold2", "test"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient,fold\n1,2\n", "missing column group, split. Found 2: patient, fold"),
        ("group,split\n1,fold0\n1,fold1\n", "has two splits"),
    ],
)
def test_a_bad_split_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        splits.read_split_file(path)


def groups_of(*names: str) -> list[splits.Group]:
    return splits.gather(replace(record(n, 0, cancer=0), group=g) for n, g in enumerate(names))


def test_a_split_file_that_a_program_has_written_anew_names_the_same_groups() -> None:
    known = {"100.0": "fold1", "007": "fold2", "e\u0301": "fold0"}
    placed = splits.assign(groups_of("100", "007.0", "\u00e9"), folds=3, seed=0, known=known)
    assert placed == {"100": "fold1", "007.0": "fold2", "\u00e9": "fold0"}
    known = {"010": "fold1", "10": "fold2"}  # two patients, as the dataset has them
    assert splits.assign(groups_of("010", "10"), folds=3, seed=0, known=known) == known


@pytest.mark.parametrize("name", ["17", "17.0", "0017"])
def test_a_split_file_that_has_lost_leading_zeros_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"names group '{name}', the dataset '017'"):
        splits.assign(groups_of("017", "2"), folds=3, seed=0, known={name: "test"})
    with pytest.raises(ConfigError, match="names group 'p1', the dataset 'P 1'"):
        splits.assign(groups_of("P 1"), folds=3, seed=0, known={"p1": "test"})


def test_a_group_of_two_spellings_in_two_splits_is_refused() -> None:
    with pytest.raises(ConfigError, match="group '1' has two splits, fold0 and fold1"):
        splits.assign(groups_of("1"), folds=3, seed=0, known={"1.0": "fold0", "1.": "fold1"})


def test_a_split_file_that_knows_only_groups_that_are_not_built_is_refused() -> None:
    records = [record(1, 0), replace(record(2, 0), excluded="no_roi")]
    with pytest.raises(ConfigError, match="knows none of the 1 groups, such as '1'"):
        splits.check_known({"2": "fold0"}, records)


def test_a_group_that_is_not_built_is_no_stranger() -> None:
    records = [record(1, 0), record(3, 0, split="test"), replace(record(2, 0), excluded="no_roi")]
    planned = make(records, **{"2.0": "fold0", "1": "fold1"})
    (line,) = planned.notices
    assert line == (
        "--split-file: 1 of the dataset's 2 groups are not in it: 1 keep the dataset's own split."
    )
    assert planned.warnings[0] == f"{line} They are '3'."
    assert make(records).notices == ()


def test_a_split_file_of_another_dataset_is_refused() -> None:
    records = [record(1, 0, cancer=0)]
    splits.check_known({}, records)
    splits.check_known({"1.0": "fold0", "other": "test"}, records)
    with pytest.raises(ConfigError, match=r"knows none of the 1 groups, such as '1'; its own"):
        splits.check_known({"A": "fold0"}, records)


def test_a_split_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown split 'fold9'"):
        make(table(), **{"1": "fold9"})


def test_two_inputs_with_one_key_are_refused() -> None:
    with pytest.raises(ConfigError, match="get the key"):
        make([record(1, 1), replace(record(1, 1), input="images/1/01.dcm")])
