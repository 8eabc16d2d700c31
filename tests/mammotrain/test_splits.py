"""Every sample trains, validates, is scored or is left out for a reason; nobody is on two sides."""

from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep.core.errors import ConfigError, DamageError
from mammotrain import planned
from mammotrain.data import splits
from mammotrain.data.splits import ENOUGH, NEXT_FOLD, Roles, Side, choose, everything, leave_out


def columns(*splits: str, images: int = 2, groups: int = 3, label: int | None = 1) -> dict:
    rows = [
        (split, f"{split.removesuffix('-aug')}-{group}")
        for split in splits for group in range(groups) for _ in range(images)
    ]  # fmt: skip
    return {
        "split": [split for split, _ in rows],
        "group": [group for _, group in rows],
        "label": [label] * len(rows),
        "augmented": [split.endswith("-aug") for split, _ in rows],
    }


FOLDS = ("fold0", "fold1", "fold2", "fold3", "fold4")


def splits_of(table: dict, rows: np.ndarray) -> Counter:
    return Counter(table["split"][row] for row in rows)


def checked(table: dict, roles: Roles) -> Roles:
    """Each sample is in one place, and no group in two roles."""
    places = np.concatenate(list(roles.all().values()))
    assert sorted(places.tolist()) == list(range(len(table["split"])))
    sides = defaultdict(set)
    for name, rows in {"train": roles.train, "validate": roles.validate, **roles.tables}.items():
        for row in rows:
            sides[table["group"][row]].add(name)
    assert all(len(found) == 1 for found in sides.values())
    return roles


@pytest.mark.parametrize("fold", range(5))
def test_with_next_fold_one_fold_is_scored_the_next_validates_the_rest_trains(fold: int) -> None:
    table = columns(*FOLDS)
    roles = checked(table, choose(table, Side(fold), NEXT_FOLD))
    assert set(splits_of(table, roles.score)) == {f"fold{fold}"}
    assert set(splits_of(table, roles.validate)) == {f"fold{(fold + 1) % 5}"}
    assert len(splits_of(table, roles.train)) == 3


def test_augmented_copies_are_only_trained_on_and_the_others_are_told() -> None:
    table = columns(*FOLDS, *(f"{name}-aug" for name in FOLDS))
    roles = checked(table, choose(table, Side(1), NEXT_FOLD))
    assert set(splits_of(table, roles.train)) == {
        "fold0", "fold3", "fold4", "fold0-aug", "fold3-aug", "fold4-aug",
    }  # fmt: skip
    assert set(splits_of(table, roles.score)) == {"fold1"}
    assert set(splits_of(table, roles.validate)) == {"fold2"}
    assert set(splits_of(table, roles.left_out[splits.COPY])) == {"fold1-aug", "fold2-aug"}


@pytest.mark.parametrize("fold", range(5))
def test_an_eighth_of_the_training_groups_validates_and_holds_enough_of_each_class(
    fold: int,
) -> None:
    table = columns(*FOLDS, *(f"{name}-aug" for name in FOLDS), groups=100)
    table["label"] = [int(int(group.split("-")[1]) % 2 == 0) for group in table["group"]]
    roles = checked(table, choose(table, Side(fold)))
    held = {table["group"][row] for row in roles.validate}
    assert len(held) == 50  # of 400 groups
    assert len({group.split("-")[0] for group in held}) == 4  # by chance, not the first by name
    assert sum(table["label"][row] for row in roles.validate) == len(roles.validate) / 2
    assert not roles.fixed
    copies = {row for row in range(len(table["split"])) if table["augmented"][row]}
    assert not copies & set(roles.validate.tolist())
    assert {table["group"][row] for row in roles.train}.isdisjoint(held)


@pytest.mark.parametrize(
    ("positive", "share"), [(160, 1 / 8), (128, 10 / 64), (80, 1 / 4), (79, 1 / 4), (70, None)]
)
def test_the_share_grows_to_a_quarter_until_it_holds_twenty_of_the_rarest_class(
    positive: int, share: float | None
) -> None:
    table = columns(*FOLDS, groups=200)
    names = sorted({g for g in table["group"] if not g.startswith("fold0")})
    sick = set(names[:positive])
    table["label"] = [int(group in sick) for group in table["group"]]
    roles = checked(table, choose(table, Side(0), names=("no", "cancer")))
    held = {table["group"][row] for row in roles.validate}
    if share is None:
        assert not held
        assert "holds 18 of cancer" in roles.fixed
        assert set(splits_of(table, roles.train)) == set(FOLDS[1:])
        return
    assert len(held & sick) >= ENOUGH
    assert len(held) == pytest.approx(share * len(names), abs=1)


def test_who_validates_does_not_depend_on_the_order_of_rows() -> None:
    table = columns(*FOLDS, groups=100)
    table["label"] = [int(group.endswith("7")) for group in table["group"]]
    order = np.random.default_rng(0).permutation(len(table["split"]))
    mixed = {name: [values[row] for row in order] for name, values in table.items()}
    one, other = choose(table), choose(mixed)
    assert {table["group"][r] for r in one.validate} == {mixed["group"][r] for r in other.validate}


def test_an_official_test_set_is_a_table_of_its_own_and_the_headline() -> None:
    table = columns(*FOLDS, "test")
    roles = checked(table, choose(table, Side(0), NEXT_FOLD))
    assert list(roles.tables) == ["test", "fold0"]
    assert set(splits_of(table, roles.tables["test"])) == {"test"}
    assert set(splits_of(table, roles.tables["fold0"])) == {"fold0"}
    table["label"] = [None if s == "test" else 1 for s in table["split"]]
    assert list(choose(table, Side(0), NEXT_FOLD).tables) == ["fold0"]


def test_official_sets_are_kept_and_a_missing_validation_set_is_a_share() -> None:
    table = columns("train", "val", "test")
    roles = checked(table, choose(table))
    assert set(splits_of(table, roles.validate)) == {"val"}
    table = columns("train", "train-aug", "test", groups=160)
    roles = checked(table, choose(table))
    assert set(splits_of(table, roles.validate)) == {"train"}
    assert set(splits_of(table, roles.train)) == {"train", "train-aug"}
    assert len({table["group"][row] for row in roles.validate}) == ENOUGH


def test_who_has_an_official_validation_set_gives_no_share() -> None:
    official = columns("train", "val", "test", groups=200)
    folded = columns(*FOLDS, groups=100)
    table = {name: [*official[name], *folded[name]] for name in official}
    table["dataset"] = ["a"] * len(official["split"]) + ["b"] * len(folded["split"])
    table["group"] = [f"{d}/{g}" for d, g in zip(table["dataset"], table["group"], strict=True)]
    roles = checked(table, choose(table))
    assert set(splits_of(table, roles.train)) == {"train", *FOLDS[1:]}
    held = Counter(table["split"][row] for row in roles.validate)
    assert held["train"] == 0
    assert sum(count for split, count in held.items() if split != "val") == 2 * 50


def test_folds_and_official_sets_of_one_dataset_are_all_used() -> None:
    table = columns("fold0", "fold1", "fold2", "train", "val", "test")
    roles = checked(table, choose(table, Side(1)))
    assert set(splits_of(table, roles.train)) == {"fold0", "fold2", "train"}
    assert set(splits_of(table, roles.validate)) == {"val"}
    assert list(roles.tables) == ["test", "fold1"]


KINDS = {
    "folds": ("fold0", "fold1", "fold2"),
    "more folds": FOLDS,
    "copies": ("fold0", "fold1", "fold2", "fold0-aug", "fold1-aug"),
    "official": ("train", "val", "test"),
    "no val": ("train", "test"),
    "test": ("test",),
    "train": ("train",),
    "both": ("fold0", "fold1", "fold2", "train", "val", "test"),
}


def mixture(kinds: tuple[str, ...], missing: tuple[str, ...]) -> dict:
    """Several datasets; in some the target is known of all, of every second sample, or of none."""
    found = defaultdict(list)
    for number, (kind, lacks) in enumerate(zip(kinds, missing, strict=True)):
        part = columns(*KINDS[kind], groups=4)
        for row in range(len(part["split"])):
            unknown = lacks == "all" or (lacks == "some" and row % 2)
            found["split"].append(part["split"][row])
            found["group"].append(f"d{number}/{part['group'][row]}")
            found["label"].append(None if unknown else int(part["group"][row].endswith("1")))
            found["augmented"].append(part["augmented"][row])
            found["dataset"].append(f"d{number}")
    return dict(found)


@pytest.mark.parametrize("way", splits.WAYS)
@pytest.mark.parametrize("kinds", [*product(KINDS, repeat=2)], ids=lambda k: "+".join(k))
def test_in_every_mixture_of_two_each_sample_has_one_role_or_a_reason(
    kinds: tuple[str, ...], way: str
) -> None:
    for missing in product(("none", "some", "all"), repeat=2):
        mixed_as_it_should_be(kinds, missing, way)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*[st.sampled_from(sorted(KINDS))] * 3),
    st.tuples(*[st.sampled_from(["none", "some", "all"])] * 3),
    st.sampled_from(splits.WAYS),
)
def test_in_mixtures_of_three_too(
    kinds: tuple[str, ...], missing: tuple[str, ...], way: str
) -> None:
    mixed_as_it_should_be(kinds, missing, way)


def mixed_as_it_should_be(kinds: tuple[str, ...], missing: tuple[str, ...], way: str) -> None:
    table = mixture(kinds, missing)
    folds = max(sum(s.startswith("fold") and "-" not in s for s in KINDS[kind]) for kind in kinds)
    scored = Counter()
    for fold in range(max(folds, 1)):
        roles, refusal = None, ""
        try:
            roles = checked(table, choose(table, Side(fold), way))
        except ConfigError as error:
            refusal = str(error)
        if roles is None:
            known = {  # splits of samples that could train or be scored
                split.removesuffix("-aug")
                for split, label in zip(table["split"], table["label"], strict=True)
                if label is not None
            }
            nobody = not known - {"test", "val", f"fold{fold}"} or known <= {"train", "val"}
            assert nobody or "fold" in refusal, refusal
            return
        scored.update(roles.score.tolist())
        told = splits.counts(table, roles)["datasets"]
        for name in dict.fromkeys(table["dataset"]):
            inside = [n for n in range(len(table["dataset"])) if table["dataset"][n] == name]
            parts = {k: v["samples"] for k, v in told[name].items() if k != "left_out"}
            left = {why: count["samples"] for why, count in told[name]["left_out"].items()}
            assert sum(parts.values()) + sum(left.values()) == len(inside)
            without = sum(table["label"][n] is None for n in inside)
            assert left.get(splits.NO_TARGET, 0) == without
            if without == len(inside):
                lines = planned.warnings({"datasets": told, "fixed": ""})
                assert any(line.startswith(f"{name} has no part") for line in lines)
        for row, split in enumerate(table["split"]):
            if split == "train" and table["label"][row] is not None:
                assert row in roles.train or row in roles.validate
    in_folds = {
        n for n, split in enumerate(table["split"])
        if split.startswith("fold") and "-" not in split and table["label"][n] is not None
    }  # fmt: skip
    assert scored == dict.fromkeys(in_folds, 1)  # over all folds each is scored exactly once


def test_everything_but_the_test_set_trains_when_asked_for() -> None:
    table = columns(*FOLDS, "val", "test")
    roles = checked(table, choose(table, Side(everything=True)))
    assert set(splits_of(table, roles.train)) == {*FOLDS, "val"}
    assert not roles.validate.size
    assert roles.fixed
    assert list(roles.tables) == ["test"]
    alone = columns(*FOLDS)
    assert not choose(alone, Side(everything=True)).tables


def test_a_fold_of_a_set_without_folds_is_refused() -> None:
    with pytest.raises(ConfigError, match="there are no folds"):
        choose(columns("train", "val", "test"), Side(1))


def test_the_table_of_roles_is_told_in_words() -> None:
    table = mixture(("folds", "official"), ("none", "all"))
    roles = choose(table, Side(0), NEXT_FOLD)
    text = "\n".join(planned.roles(splits.counts(table, roles)))
    assert "train" in text
    assert "fold0" in text
    assert f"d1 has no part in this run: 24 {splits.NO_TARGET}." in text


def test_a_group_on_two_sides_is_refused() -> None:
    table = columns(*FOLDS)
    table["group"][0] = table["group"][-1]
    with pytest.raises(DamageError, match="on two sides") as error:
        choose(table, Side(0), NEXT_FOLD)
    assert error.value.exit_code == 4


def test_what_has_no_label_is_left_out_for_that_reason() -> None:
    table = columns(*FOLDS)
    table["label"][3] = None
    roles = checked(table, choose(table))
    assert roles.left_out[splits.NO_TARGET].tolist() == [3]


@pytest.mark.parametrize(
    ("table", "fold", "way", "message"),
    [
        (columns(*FOLDS), 5, "share", "one of 0, 1, 2, 3, 4; got 5"),
        (columns("fold0", "fold1"), 0, NEXT_FOLD, "At least 3 folds"),
        (columns("fold0"), 0, "share", "At least 2 folds"),
        (columns("train"), 0, "share", "left to score"),
        (columns(*FOLDS, label=None), 0, "share", "no labelled sample is left to train.*without"),
    ],
)
def test_what_cannot_be_split_says_why(table: dict, fold: int, way: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(table, Side(fold), way)


def test_a_machine_that_is_left_out_is_scored_whole_and_its_patients_train_nowhere() -> None:
    table = columns(*FOLDS, "fold0-aug", "test", groups=12)
    machines = ["new" if group.endswith("-3") else "old" for group in table["group"]]
    machines[0], machines[5] = "new", ""  # a patient on two machines; one image of none
    roles = checked(table, leave_out(table, machines, Side(by="machine", value="new")))
    new = {row for row in range(len(machines)) if machines[row] == "new"}
    tested = {row for row in new if table["split"][row] == "test"}
    assert set(roles.score.tolist()) == {r for r in new - tested if not table["augmented"][r]}
    assert set(splits_of(table, roles.tables["test"])) == {"test"}
    used = [*roles.train.tolist(), *roles.validate.tolist()]
    assert not {table["group"][row] for row in used} & {table["group"][row] for row in new}
    assert roles.left_out["machine unknown"].tolist() == [5]
    assert roles.left_out["patients also of machine new"].size
    assert "test" not in splits_of(table, used)
    assert "fold0-aug" in splits_of(table, roles.train)
    assert roles.name == "machine new"


def test_everything_with_a_label_is_scored_but_no_copies() -> None:
    table = columns("train", "fold0", "fold0-aug")
    table["label"][0] = None
    roles = checked(table, everything(table))
    assert set(splits_of(table, roles.score)) == {"train", "fold0"}
    assert list(roles.tables) == ["all"]
    assert 0 not in roles.score
    assert not len(roles.train)


def test_of_other_shards_an_official_test_set_is_the_headline() -> None:
    table = columns("train", "val", "test")
    roles = checked(table, everything(table))
    assert list(roles.tables) == ["test", "not test"]
    assert set(splits_of(table, roles.tables["not test"])) == {"train", "val"}


def test_an_empty_fold_between_others_changes_no_number() -> None:
    table = columns("fold0", "fold2", "fold3")
    assert splits.folds_of(table) == [0, 2, 3]
    roles = checked(table, choose(table, Side(2), NEXT_FOLD))
    assert set(splits_of(table, roles.score)) == {"fold2"}
    assert set(splits_of(table, roles.validate)) == {"fold3"}
    with pytest.raises(ConfigError, match="one of 0, 2, 3; got 1"):
        choose(table, Side(1))


def test_folds_of_two_datasets_go_by_their_numbers() -> None:
    table = mixture(("folds", "more folds"), ("none", "none"))
    assert splits.folds_of(table) == [0, 1, 2, 3, 4]
    roles = checked(table, choose(table, Side(4), NEXT_FOLD))
    assert {table["dataset"][row] for row in roles.score} == {"d1"}


def test_a_machine_of_the_official_test_set_alone_is_not_left_out() -> None:
    table = columns(*FOLDS, "test")
    machines = ["new" if split == "test" else "old" for split in table["split"]]
    with pytest.raises(ConfigError, match="left to score"):
        leave_out(table, machines, Side(by="machine", value="new"))


def test_a_fold_in_which_nobody_has_the_target_is_refused_though_there_is_a_test_set() -> None:
    table = columns(*FOLDS, "test")
    table["label"] = [None if s == "fold1" else 1 for s in table["split"]]
    assert splits.folds_of(table) == [0, 2, 3, 4]
    with pytest.raises(ConfigError, match="left to score"):
        choose(table, Side(1), NEXT_FOLD)
