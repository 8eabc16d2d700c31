import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mammotrain import baselines

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
