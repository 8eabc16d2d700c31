"""Fold k is scored, fold k + 1 validates, the rest trains; nobody is on two sides."""

from collections import Counter

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError, DamageError
from mammotrain.data.splits import Side, choose, everything, leave_out


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


@pytest.mark.parametrize("fold", range(5))
def test_one_fold_is_scored_the_next_validates_the_rest_trains(fold: int) -> None:
    table = columns(*FOLDS)
    roles = choose(table, fold)
    assert set(splits_of(table, roles.score)) == {f"fold{fold}"}
    assert set(splits_of(table, roles.validate)) == {f"fold{(fold + 1) % 5}"}
    assert len(splits_of(table, roles.train)) == 3
    everything = np.concatenate([roles.train, roles.validate, roles.score])
    assert sorted(everything) == list(range(len(table["split"])))


def test_augmented_copies_are_only_trained_on() -> None:
    table = columns(*FOLDS, *(f"{name}-aug" for name in FOLDS))
    roles = choose(table, 1)
    assert set(splits_of(table, roles.train)) == {
        "fold0", "fold3", "fold4", "fold0-aug", "fold3-aug", "fold4-aug",
    }  # fmt: skip
    assert set(splits_of(table, roles.score)) == {"fold1"}
    assert set(splits_of(table, roles.validate)) == {"fold2"}


def test_a_labelled_official_test_set_is_scored_too() -> None:
    table = columns(*FOLDS, "test")
    roles = choose(table, 0)
    assert set(splits_of(table, roles.score)) == {"fold0", "test"}
    assert roles.name == "fold0+test"
    table["label"] = [None if s == "test" else 1 for s in table["split"]]
    assert set(splits_of(table, choose(table, 0).score)) == {"fold0"}


def test_official_sets_are_kept_and_a_missing_validation_set_is_held_out_by_group() -> None:
    table = columns("train", "val", "test")
    roles = choose(table)
    assert set(splits_of(table, roles.validate)) == {"val"}
    table = columns("train", "train-aug", "test", groups=60)
    roles = choose(table)
    assert set(splits_of(table, roles.validate)) == {"train"}
    assert set(splits_of(table, roles.train)) == {"train", "train-aug"}
    held = {table["group"][row] for row in roles.validate}
    assert 4 < len(held) < 25
    assert not held & {table["group"][row] for row in roles.train}


def test_a_group_on_two_sides_is_refused() -> None:
    table = columns(*FOLDS)
    table["group"][0] = table["group"][-1]
    with pytest.raises(DamageError, match="on two sides") as error:
        choose(table, 0)
    assert error.value.exit_code == 4


def test_what_has_no_label_is_nowhere() -> None:
    table = columns(*FOLDS)
    table["label"][3] = None
    roles = choose(table, 0)
    assert 3 not in np.concatenate([roles.train, roles.validate, roles.score])


@pytest.mark.parametrize(
    ("table", "fold", "message"),
    [
        (columns(*FOLDS), 5, "0 to 4"),
        (columns("fold0", "fold1"), 0, "At least 3 folds"),
        (columns("train"), 0, "left to score"),
        (columns(*FOLDS, label=None), 0, "no labelled sample"),
    ],
)
def test_what_cannot_be_split_says_why(table: dict, fold: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(table, fold)


def test_a_machine_that_is_left_out_is_scored_whole_and_its_patients_train_nowhere() -> None:
    table = columns(*FOLDS, "fold0-aug", "test", groups=12)
    machines = ["new" if group.endswith("-3") else "old" for group in table["group"]]
    machines[0], machines[5] = "new", ""  # a patient on two machines; one image of none
    roles = leave_out(table, machines, Side(by="machine", value="new"))
    scored = {row for row in range(len(machines)) if machines[row] == "new"}
    assert set(roles.score.tolist()) == {r for r in scored if not table["augmented"][r]}
    used = [*roles.train.tolist(), *roles.validate.tolist()]
    assert not {table["group"][row] for row in used} & {table["group"][row] for row in scored}
    assert 5 not in used
    assert "test" not in splits_of(table, used)
    assert "fold0-aug" in splits_of(table, roles.train)
    assert "fold0-aug" not in splits_of(table, roles.validate)
    assert not {table["group"][r] for r in roles.train} & {
        table["group"][r] for r in roles.validate
    }
    assert roles.name == "machine new"


def test_everything_with_a_label_is_scored_but_no_copies() -> None:
    table = columns("train", "fold0", "fold0-aug")
    table["label"][0] = None
    roles = everything(table)
    assert set(splits_of(table, roles.score)) == {"train", "fold0"}
    assert 0 not in roles.score
    assert not len(roles.train)
