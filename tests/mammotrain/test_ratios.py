"""Measures are ratios of sums; their intervals come from drawing patients."""

import csv
from pathlib import Path

import numpy as np
import pytest

from mammotrain import measures, thresholds
from mammotrain.scores import Scores

RNG = np.random.default_rng(3)


def test_a_measure_is_the_ratio_of_its_sums_and_not_the_mean_of_ratios() -> None:
    pairs = {"recall": np.array([[1.0, 1], [0, 9], [0, 0]]), "none": np.zeros((3, 2))}
    found = measures.values(pairs)
    assert found["recall"] == pytest.approx(0.1)
    assert np.isnan(found["none"])


def test_an_interval_is_that_of_drawing_groups() -> None:
    group = np.repeat(np.arange(40), 3)
    pair = np.stack([RNG.random(120) + np.repeat(RNG.random(40), 3), np.ones(120)], axis=1)
    found = measures.estimates({"dice": pair}, group, number=2000, seed=1)["dice"]
    means = pair[:, 0].reshape(40, 3).mean(axis=1)
    drawn = [means[RNG.integers(40, size=40)].mean() for _ in range(4000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found.value == pytest.approx(means.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_too_few_patients_give_no_interval() -> None:
    pair = np.array([[0.5, 1.0]] * 3 + [[0.0, 0.0]] * 9)
    found = measures.estimates({"dice": pair}, np.arange(12))["dice"]
    assert found.value == 0.5
    assert found.low is None
    assert "fewer than 5" in found.reason


def test_measures_are_written_a_line_a_sample(tmp_path: Path) -> None:
    pairs = {"dice": np.array([[0.25, 1.0], [0.0, 0.0]])}
    measures.write(tmp_path / "measures.csv", np.array(["a", "b"]), pairs)
    with (tmp_path / "measures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["a", "b"]
    assert (float(rows[0]["dice_sum"]), float(rows[0]["dice_of"])) == (0.25, 1.0)


def scores(negative: np.ndarray, positive: np.ndarray) -> Scores:
    values = np.concatenate([negative, positive])
    n, texts = len(values), np.array([f"k{i}" for i in range(len(values))])
    label = np.repeat([0, 1], [len(negative), len(positive)])
    empty = np.full(n, "")
    table = np.stack([1 - values, values], axis=1)
    return Scores(texts, texts, empty, empty, label, table, ("no", "yes"))


def test_a_threshold_at_a_specificity_looks_at_negatives_of_other_samples_only() -> None:
    validation = scores(np.linspace(0.0, 0.99, 100), np.full(50, 0.2))
    judged = thresholds.Judged(scores(np.zeros(3), np.ones(3)), validation, specificity=0.95)
    found = thresholds.of(judged).shown
    below = (validation.values[validation.label == 0, 1] < found).mean()
    assert 0.95 <= below <= 0.97
    assert thresholds.at_specificity(np.zeros(0), 0.95) is None
