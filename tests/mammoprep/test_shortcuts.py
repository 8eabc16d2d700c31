"""The shortcut check: what is planted is found, what is shuffled is not, against scikit-learn."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mammoprep.shortcuts import (
    FEWEST_GROUPS,
    KINDS,
    _figures,
    _folds,
    _predicted,
    _task,
    check,
    leaks,
)
from mammoprep.stats import resampling

NAMES = ["negative", "cancer"]
KIND = [kind.name for kind in KINDS]


def table(count=300, *, classes=2, per_group=2, splits=5, seed=0):
    """Samples whose every measure is noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        group = number // per_group
        row = {
            "key": f"s_{number:05d}",
            "group": f"g{group}",
            "split": f"fold{group % splits}",
            "label": int(group // splits % classes),
            "view": rng.choice(["CC", "MLO"]),
            "laterality": rng.choice(["L", "R"]),
            "labels.age": float(rng.integers(40, 80)),
            "labels.machine_id": int(rng.integers(1, 5)),
            "labels.site_id": 1,
            "acquisition.manufacturer": None,
            "intensity": sorted(rng.random(5).tolist()),
            "geometry.stored_size": [int(v) for v in rng.integers(400, 900, 2)],
        }
        names = {name for kind in KINDS for name in kind.numbers if name.startswith("quality.")}
        rows.append(row | {name: float(rng.normal()) for name in sorted(names)})
    return rows


def found_in(rows, names=NAMES):
    return {each["features"]: each for each in check(rows, names)}


def leaking(rows, names=NAMES):
    return [name for name, each in found_in(rows, names).items() if each["leak"]]


def test_noise_gives_nothing_away():
    found = found_in(table())
    assert list(found) == KIND
    for each in found.values():
        assert not each["leak"]
        assert each["auroc_low"] < 0.5 < each["auroc_high"] + 0.03  # one of 40 lies below
        assert each["samples"] == 300
        assert each["groups"] == 150
        assert "no shortcut found" in each["says"]


PLANTS = {
    "intensity": lambda row: {"quality.maximum": row["quality.maximum"] + row["label"]},
    "sharpness and size": lambda row: {
        "geometry.stored_size": [row["geometry.stored_size"][0] + 300 * row["label"], 600]
    },
    "metadata": lambda row: {"labels.machine_id": row["labels.machine_id"] + 2 * row["label"]},
    "mask": lambda row: {"quality.mask_area": row["quality.mask_area"] + row["label"]},
}


@pytest.mark.parametrize("kind", KIND)
def test_a_planted_shortcut_is_found_and_only_there(kind):
    rows = [row | PLANTS[kind](row) for row in table()]
    assert leaking(rows) == [kind]
    (sentence,) = leaks(check(rows, NAMES))
    assert "tells" in sentence or "gives the label away" in sentence


@pytest.mark.parametrize("kind", KIND)
def test_it_is_gone_when_the_labels_are_shuffled_among_the_groups(kind):
    rows = [row | PLANTS[kind](row) for row in table()]
    labels = {row["group"]: row["label"] for row in rows}
    mixed = list(labels.values())
    random.Random(3).shuffle(mixed)
    swapped = dict(zip(labels, mixed, strict=True))
    assert leaking([row | {"label": swapped[row["group"]]} for row in rows]) == []


def test_a_middle_value_is_a_shortcut_too():
    rows = table()
    for row in rows:
        sign = 1 if int(row["key"][2:]) % 4 < 2 else -1
        row["quality.mean"] = row["quality.mean"] * 0.3 + (0 if row["label"] else 2 * sign)
    assert leaking(rows) == ["intensity"]


def test_that_a_value_is_missing_is_a_shortcut_too():
    rows = [row | ({"labels.age": None} if row["label"] else {}) for row in table()]
    assert leaking(rows) == ["metadata"]
    assert found_in(rows)["metadata"]["auroc"] == 1


def test_an_empty_mask_is_a_shortcut_too():
    rows = table()
    for row in rows:
        if row["label"] == 0:
            row |= dict.fromkeys(KINDS[3].numbers) | {"quality.mask_area": 0.0}
    assert found_in(rows)["mask"]["auroc"] > 0.99


def test_a_leak_within_groups_is_no_leak_between_them():
    """Each group has a brightness of its own: only a split through groups could use it."""
    rng = np.random.default_rng(1)
    rows = table(400, per_group=20)
    own = {row["group"]: rng.normal(size=8) for row in rows}
    for row in rows:
        for name, value in zip(KINDS[0].numbers[:3], own[row["group"]], strict=False):
            row[name] = float(value)
    assert "intensity" not in leaking(rows)


def test_accuracy_and_majority_of_unbalanced_classes():
    rows = [row for row in table(600) if row["label"] == 0 or int(row["group"][1:]) % 20 == 5]
    found = found_in(rows)["intensity"]
    share = sum(row["label"] == 0 for row in rows) / len(rows)
    assert found["majority"] == round(share, 3) > 0.8
    assert found["accuracy"] <= found["majority"] + 0.02


def test_three_classes_are_judged_one_against_the_rest():
    rows = table(450, classes=3)
    for row in rows:
        row["quality.mask_area"] = row["label"] + 0.1 * row["quality.mask_area"]
    found = found_in(rows, ["normal", "benign", "malignant"])
    assert found["mask"]["auroc"] > 0.99
    assert found["mask"]["accuracy"] > 0.95
    assert found["mask"]["classes"] == ["normal", "benign", "malignant"]
    assert [name for name, each in found.items() if each["leak"]] == ["mask"]


def test_a_class_of_few_groups_is_left_out():
    rows = table(450, classes=3)
    many = [row for row in rows if row["label"] < 2]
    few = [row for row in rows if row["label"] == 2][: 2 * (FEWEST_GROUPS - 1)]
    found = found_in(many + few, ["a", "b", "c"])["mask"]
    assert found["classes"] == ["a", "b"]
    assert found["samples"] == len(many)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"key": "a", "label": 1}],
        table(8, per_group=1),
        table(16, per_group=1),
        [row | {"label": 1} for row in table()],
        [row | {"label": None} for row in table()],
        [row | {"split": "test"} for row in table()],
    ],
)
def test_too_few_is_said_and_never_crashes(rows):
    for each in check(rows, NAMES):
        assert not each["leak"]
        assert each["auroc"] is None
        assert "too few to check" in each["says"]


def test_what_was_not_recorded_is_not_checked():
    rows = [{name: row[name] for name in ("key", "group", "split", "label")} for row in table()]
    for each in check(rows, NAMES):
        assert each["auroc"] is None
        assert "not checked" in each["says"]


def test_folds_of_one_class_each_have_no_pairs_and_say_so():
    rows = [row | {"split": f"fold{row['label']}"} for row in table()]
    for each in check(rows, NAMES):
        assert each["auroc"] is None
        assert "no fold holds samples of two classes" in each["says"]


def test_a_fold_of_one_class_adds_nothing():
    rows = [row | PLANTS["intensity"](row) for row in table()]
    more = table(30, splits=1, seed=3)
    more = [row | {"key": f"x{row['key']}", "group": f"x{row['group']}", "split": "fold5"}
            for row in more if row["label"] == 0]  # fmt: skip
    task = _task(rows + more, NAMES)[0]
    chances = _predicted(KINDS[0], task)
    inside = task.fold < 5
    smaller = replace(task, rows=[r for r, keep in zip(task.rows, inside, strict=True) if keep],
                      label=task.label[inside], fold=task.fold[inside],
                      group=np.unique(task.group[inside], return_inverse=True)[1])  # fmt: skip
    assert _figures(chances, task)["auroc"] == _figures(chances[inside], smaller)["auroc"]


def test_augmented_samples_and_the_official_test_split_are_left_out():
    rows = table()
    more = [row | {"key": f"{row['key']}-2", "augmented": True} for row in rows]
    more += [
        row | {"key": f"{row['key']}-3", "split": "fold0-aug", "augmented": True} for row in rows
    ]
    more += [row | {"key": f"{row['key']}-4", "split": "test", "group": "x"} for row in rows]
    assert check(rows + more, NAMES) == check(rows, NAMES)


def test_official_splits_are_cut_into_folds_of_whole_groups_with_all_classes():
    rows = [row | {"split": "train"} for row in table(200)]
    folds = _folds(rows)
    of_group = {}
    for row, fold in zip(rows, folds, strict=True):
        of_group.setdefault(row["group"], set()).add(int(fold))
    assert set(folds.tolist()) == {0, 1, 2, 3, 4}
    assert all(len(each) == 1 for each in of_group.values())
    for fold in range(5):
        inside = [row["label"] for row, f in zip(rows, folds, strict=True) if f == fold]
        assert 0.4 < np.mean(inside) < 0.6


def test_the_datasets_own_folds_are_used():
    rows = table()
    assert [f"fold{fold}" for fold in _folds(rows)] == [row["split"] for row in rows]


def test_neither_the_order_of_rows_nor_arrays_in_them_change_a_digit():
    rows = [row | PLANTS["mask"](row) for row in table()]
    first = json.dumps(check(rows, NAMES))
    random.Random(1).shuffle(rows)
    assert json.dumps(check(rows, NAMES)) == first
    arrays = [row | {"intensity": np.array(row["intensity"])} for row in rows]
    assert json.dumps(check(arrays, NAMES)) == first


@pytest.mark.slow
def test_hash_seed_and_threads_change_no_digit():
    program = (
        f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r});"
        "import test_shortcuts as t;"
        "rows = [row | t.PLANTS['mask'](row) for row in t.table()];"
        "print(json.dumps(t.check(rows, t.NAMES)))"
    )
    outputs = set()
    for seed, threads in [("1", "1"), ("2", "4")]:
        environment = {**os.environ, "PYTHONHASHSEED": seed} | dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads
        )
        command = [sys.executable, "-c", program]
        outputs.add(
            subprocess.run(command, env=environment, capture_output=True, check=True).stdout
        )
    assert len(outputs) == 1


def pairs_by_hand(scores, label, fold):
    """Concordant pairs over all pairs within folds, by scikit-learn's area a fold."""
    beaten = whole = 0.0
    for each in np.unique(fold):
        right, score = label[fold == each] == 1, scores[fold == each]
        if 0 < right.sum() < len(right):
            pairs = right.sum() * (~right).sum()
            beaten += roc_auc_score(right, score) * pairs
            whole += pairs
    return beaten / whole


@pytest.mark.parametrize("ties", [False, True])
def test_the_auroc_is_that_of_pairs_within_folds_and_shifts_between_them_change_nothing(ties):
    rng = np.random.default_rng(5)
    task = _task(table(500), NAMES)[0]
    raw = np.clip(0.2 + 0.05 * task.label + 0.08 * rng.normal(size=len(task.rows)), 0, 0.5)
    scores = np.round(raw, 1 if ties else 6)
    shifted = scores + 0.12 * task.fold  # models of the folds have no common scale
    found = [_figures(np.stack([1 - s, s], axis=1), task) for s in (scores, shifted)]
    expected = pairs_by_hand(scores, task.label, task.fold)
    assert found[0]["auroc"] == pytest.approx(expected, abs=6e-4)
    assert abs(roc_auc_score(task.label, shifted) - expected) > 0.05
    for name in ("auroc", "auroc_low", "auroc_high"):
        assert found[0][name] == found[1][name]


def test_the_interval_is_that_of_groups_drawn_by_fold_and_class():
    rows = [row | PLANTS["mask"](row) for row in table(160, per_group=2)]
    task = _task(rows, NAMES)[0]
    chances = _predicted(KINDS[3], task)
    found = _figures(chances, task)
    rng = np.random.default_rng(9)
    strata = {}
    for group, label, fold in zip(task.group, task.label, task.fold, strict=True):
        strata.setdefault((fold, label), set()).add(int(group))
    members = [np.flatnonzero(task.group == group) for group in range(task.group.max() + 1)]
    areas = []
    for _ in range(400):
        taken = [g for inside in strata.values() for g in rng.choice(sorted(inside), len(inside))]
        places = np.concatenate([members[group] for group in taken])
        areas.append(pairs_by_hand(chances[places, 1], task.label[places], task.fold[places]))
    low, high = np.quantile(areas, (0.025, 0.975))
    assert found["auroc_low"] == pytest.approx(low, abs=0.02)
    assert found["auroc_high"] == pytest.approx(high, abs=0.02)


def test_nothing_of_a_fold_is_known_to_the_regression_that_is_asked_about_it():
    """Not even a scale: other values of one fold's samples change only their own answers."""
    rows = table()
    task = _task(rows, NAMES)[0]
    for kind in KINDS:
        first = _predicted(kind, task)
        number = kind.numbers[0]
        for row in (row for row in task.rows if row["split"] == "fold2"):
            if number in row:
                row[number] += 1000.0
        last = _predicted(kind, task)
        one = next(place for place, row in enumerate(task.rows) if row["split"] == "fold2")
        back = {**task.rows[one], number: task.rows[one][number] - 1000.0}
        swapped = replace(task, rows=[*task.rows[:one], back, *task.rows[one + 1 :]])
        again = _predicted(kind, swapped)
        assert not np.array_equal(first, last)
        np.testing.assert_array_equal(again[one], first[one])


def test_the_interval_is_about_as_wide_as_theory_says():
    """Hanley and McNeil's standard error at 0.5 is sqrt((m + n + 1) / (12 m n))."""
    found = found_in(table(1000, per_group=1))["intensity"]
    theory = 2 * 1.96 * (1001 / (12 * 500 * 500)) ** 0.5
    assert found["auroc_high"] - found["auroc_low"] == pytest.approx(theory, rel=0.2)


def test_samples_of_one_group_do_not_make_the_interval_narrower():
    rows = table(200, per_group=1)
    copies = [row | {"key": f"{row['key']}-{n}"} for row in rows for n in range(5)]
    one, many = found_in(rows)["intensity"], found_in(copies)["intensity"]
    width = one["auroc_high"] - one["auroc_low"]
    assert many["auroc_high"] - many["auroc_low"] == pytest.approx(width, rel=0.2)


@pytest.mark.slow
def test_noise_of_five_groups_of_a_class_is_rarely_called_a_leak():
    """One a fold: of a stratum of one nothing would vary, and the interval would be too narrow."""
    called = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows = []
        for group in range(25):
            base = rng.normal(size=3)
            for image in range(4):
                seen = zip(KINDS[0].numbers[:3], base + rng.normal(size=3), strict=True)
                rows.append({"key": f"{group}_{image}", "group": f"g{group}", "label": group < 5,
                             "split": f"fold{group % 5}", **dict(seen)})  # fmt: skip
        called += "intensity" in leaking(rows)
    assert called <= 6


def test_few_groups_of_a_class_in_a_fold_are_drawn_together_with_those_of_other_folds():
    fold = np.repeat(np.arange(4), 10)
    label = np.where(np.arange(40) % 10 < np.array([1, 2, 7, 3])[fold], 1, 0)
    strata = resampling.strata_of(np.arange(40), label, fold)
    assert len(set(strata[(label == 1) & (fold != 2)])) == 1
    apart = strata[(label == 1) & (fold == 2)]
    assert len(set(apart)) == 1
    assert apart[0] not in strata[~((label == 1) & (fold == 2))]
    for number in (0, 1, 3):
        assert len(set(strata[(label == 0) & (fold == number)])) == 1
    assert len(set(strata[label == 0])) == 4
