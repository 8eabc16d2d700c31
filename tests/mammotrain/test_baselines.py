from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run_build
from sklearn.metrics import roc_auc_score

from mammoprep.phantoms import rsna as rsna_phantom
from mammoprep.samples import read_samples
from mammoprep.stats import shortcuts
from mammotrain import baselines, bootstrap
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged

N = 600
TRAINING, WANTED = np.arange(400), np.arange(400, N)
NAMES = ("quality.mean", "quality.spread", "quality.maximum")


def columns(label: np.ndarray, brightness: float = 0.0, age: float = 0.0) -> dict[str, object]:
    """A table in which grey level or age may give the label away."""
    rng = np.random.default_rng(1)
    found: dict[str, object] = {name: rng.random(N) + brightness * label for name in NAMES}
    quantiles = np.sort(rng.random((N, 5)), axis=1)
    found["intensity"] = [list(row) if place % 7 else None for place, row in enumerate(quantiles)]
    found["labels.age"] = [
        None if place % 5 == 0 else value
        for place, value in enumerate(55 + 8 * rng.normal(size=N) + age * label)
    ]
    found["labels.machine_id"] = rng.choice([29, 49, 170], N).tolist()
    found["view"] = rng.choice(["CC", "MLO"], N).tolist()
    return found


def labels(classes: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, N)


def asked(kind: str, table: dict[str, object], label: np.ndarray, classes: int = 2) -> np.ndarray:
    found = baselines.predict(kind, table, label, TRAINING, WANTED, classes)
    assert found.values is not None, found.reason
    np.testing.assert_allclose(found.values.sum(axis=1), 1)
    return found.values


def auroc(kind: str, table: dict[str, object], label: np.ndarray) -> float:
    return float(roc_auc_score(label[WANTED], asked(kind, table, label)[:, 1]))


def test_each_baseline_sees_its_own_columns_only() -> None:
    label = labels()
    bright, old = columns(label, brightness=0.5), columns(label, age=15)
    assert auroc("shortcut", bright, label) > 0.85
    assert auroc("metadata", old, label) > 0.8
    assert 0.4 < auroc("metadata", bright, label) < 0.6
    assert 0.4 < auroc("shortcut", old, label) < 0.6
    assert auroc("majority", bright, label) == 0.5


def test_a_middle_value_can_give_the_label_away() -> None:
    label = labels()
    table = columns(label)
    away = np.where(label == 1, 0.05, 0.4)
    table["quality.mean"] = 0.5 + away * np.random.default_rng(2).choice([-1, 1], N)
    assert auroc("shortcut", table, label) > 0.95


def test_that_a_value_is_missing_counts_as_a_value() -> None:
    label = labels()
    table = columns(label)
    table["labels.age"] = [61.0 if each else None for each in label]
    assert auroc("metadata", table, label) == 1.0


def test_the_machine_gives_the_label_away_where_it_does() -> None:
    label = labels()
    table = columns(label)
    table["labels.machine_id"] = np.where(label == 1, 29, 49).tolist()
    assert auroc("metadata", table, label) == 1.0
    del table["labels.machine_id"]
    table["acquisition.manufacturer"] = np.where(label == 1, "one", "other").tolist()
    assert auroc("metadata", table, label) == 1.0


def test_nothing_is_learned_from_what_is_scored() -> None:
    label = labels()
    table = columns(label, brightness=0.3)
    first = asked("shortcut", table, label)
    other = label.copy()
    other[WANTED] = 1 - other[WANTED]
    np.testing.assert_array_equal(first, asked("shortcut", table, other))
    changed = {**table, "quality.mean": np.array(table["quality.mean"])}
    changed["quality.mean"][WANTED[1:]] += 100
    np.testing.assert_allclose(first[0], asked("shortcut", changed, label)[0], atol=1e-12)


def test_the_majority_says_how_frequent_the_training_classes_are() -> None:
    label = labels()
    label[TRAINING] = np.repeat([0, 1], [300, 100])
    found = asked("majority", {}, label)
    np.testing.assert_allclose(found, np.tile([0.75, 0.25], (len(WANTED), 1)))


def test_unknown_labels_are_not_learned_from() -> None:
    label = labels()
    table = columns(label, brightness=0.3)
    known = label.copy()
    known[:100] = -1
    found = baselines.predict("shortcut", table, known, TRAINING, WANTED, 2)
    wanted = baselines.predict("shortcut", table, label, TRAINING[100:], WANTED, 2)
    np.testing.assert_array_equal(found.values, wanted.values)


def test_several_classes_work_and_one_that_training_lacks_gets_nothing() -> None:
    label = labels(3)
    label[TRAINING] = label[TRAINING] % 2
    found = asked("shortcut", columns(label, brightness=0.2), label, 4)
    assert found.shape == (len(WANTED), 4)
    assert not found[:, 2:].any()


def test_a_baseline_without_columns_says_why() -> None:
    found = baselines.predict("metadata", {"view": ["CC"] * N}, labels(), TRAINING, WANTED, 2)
    assert found.values is None
    assert "labels.age" in found.reason
    one = baselines.predict("shortcut", columns(labels()), labels() * 0, TRAINING, WANTED, 2)
    assert "only one class" in one.reason
    none = baselines.predict("majority", {}, labels() * 0 - 1, TRAINING, WANTED, 2)
    assert "no training sample" in none.reason


@pytest.mark.parametrize("kind", baselines.KINDS)
def test_the_same_table_gives_the_same_scores(kind: str) -> None:
    label = labels()
    table = columns(label, brightness=0.3)
    arrays = {name: np.array(column, object) for name, column in table.items()
              if name != "intensity"} | {"intensity": table["intensity"]}  # fmt: skip
    np.testing.assert_array_equal(asked(kind, table, label), asked(kind, arrays, label))


def regression(kind: str, table: dict[str, Any], label: np.ndarray, rows: np.ndarray) -> np.ndarray:
    found = shortcuts.fit_predict(kind, table, label, rows, WANTED, 2)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", baselines.REGRESSIONS)
def test_a_baseline_is_the_regression_of_the_datasets_own_check_to_the_last_bit(kind: str) -> None:
    label = labels()
    table = columns(label, brightness=0.3) | {
        f"quality.mask_{name}": np.random.default_rng(7).random(N) for name in shortcuts.MASK
    }
    found = asked(kind, table, label)
    same = regression(baselines.REGRESSIONS[kind], table, label, TRAINING)
    np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["intensity", "metadata"])
def test_the_order_of_the_fitted_samples_changes_no_bit(
    seed: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcuts, "DIGITS", 17)  # rounding must not be what makes them equal
    label = labels()
    table = columns(label, brightness=0.3, age=3)
    mixed = np.random.default_rng(seed).permutation(TRAINING)
    np.testing.assert_array_equal(
        regression(kind, table, label, TRAINING), regression(kind, table, label, mixed)
    )


def test_a_category_is_chosen_by_the_fitted_samples_alone() -> None:
    table = {"view": ["CC" if place % 2 else "MLO" for place in TRAINING] + ["XX"] * len(WANTED)}
    seen = shortcuts.design(shortcuts.BY_NAME["metadata"], table, TRAINING, WANTED)
    assert seen.shape == (N, 2)
    assert len(np.unique(seen[len(TRAINING) :], axis=0)) == 1


def test_scales_come_from_the_fitted_samples_alone() -> None:
    table = {"labels.age": np.arange(N, dtype=float)}
    table["labels.age"][TRAINING[::7]] = np.nan
    seen = shortcuts.design(shortcuts.BY_NAME["metadata"], table, TRAINING, WANTED)
    told = seen[: len(TRAINING)]
    np.testing.assert_allclose(told.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(told.std(axis=0), 1)
    table["labels.age"][WANTED] = -1e9
    again = shortcuts.design(shortcuts.BY_NAME["metadata"], table, TRAINING, WANTED)
    np.testing.assert_array_equal(again[: len(TRAINING)], told)
    assert again.min() == -shortcuts.FAR


def test_odd_values_are_unknown_and_no_error() -> None:
    odd = [None, float("nan"), float("inf"), "a", True, [1], -1e300, 5, np.float32(3), b"x"]
    table = {
        "labels.age": odd * 60,
        "quality.mean": odd * 60,
        "intensity": [None, [], [1] * 5, [None] * 5, "abcde", 7, (1, 2), [np.nan] * 5] * 75,
        "geometry.stored_size": [None, [0, 5], [-1, 3], [7, 9], "ab", [2], 3, (4, None)] * 75,
        "view": odd * 60,
    }
    for kind in shortcuts.BY_NAME:
        found = shortcuts.fit_predict(kind, table, labels(), TRAINING, WANTED, 2)
        assert found is None or np.isfinite(found).all()


@pytest.fixture(scope="session")
def cohort(once: Callable[[Any, Callable[[Path], object]], Path]) -> Path:
    """Thirty phantom patients in five folds, built; read only."""

    def make(home: Path) -> None:
        rsna_phantom.write(
            home / "raw", patients=30, seed=4, size_scale=0.05, prevalence=0.4, workers=2
        )
        run_build(home / "raw", home / "shards", folds=5)

    return once("cohort", make) / "shards"


@pytest.mark.parametrize("kind", ["shortcut", "metadata"])
def test_a_dataset_and_a_run_on_it_say_one_truth_of_a_shortcut(kind: str, cohort: Path) -> None:
    """The baseline fitted to the other folds reaches what dataset.json says, interval and all."""
    summary, every = read_samples(cohort)
    told = {each["features"]: each for each in summary["shortcuts"]}[baselines.REGRESSIONS[kind]]
    rows = [row for row in every if row["split"] != "test" and row["label"] is not None]
    table = {name: [row[name] for row in rows] for name in rows[0]}
    label, fold = np.array(table["label"], np.int64), np.array(table["split"])
    values = np.zeros((len(rows), 2))
    for name in np.unique(fold):
        inside, outside = np.flatnonzero(fold == name), np.flatnonzero(fold != name)
        found = baselines.predict(kind, table, label, outside, inside, 2)
        assert found.values is not None
        values[inside] = found.values
    texts = {name: np.array([str(each or "") for each in table[name]])
             for name in ("key", "group", "laterality", "view")}  # fmt: skip
    scores = Scores(**texts, label=label, values=values, names=("negative", "cancer"), fold=fold)
    found = bootstrap.evaluate(Judged(scores, scores))["auroc"]
    assert told["samples"] == len(rows)
    assert told["auroc"] == round(found.value, 3)
    assert found.low is not None
    assert found.high is not None
    assert (told["auroc_low"], told["auroc_high"]) == (round(found.low, 3), round(found.high, 3))
