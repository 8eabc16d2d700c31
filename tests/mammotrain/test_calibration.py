"""Whether probabilities are any: at large, by slope and intercept, and bin by bin."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from mammotrain import calibration, metrics, one_against_rest
from mammotrain.calibration import Line
from mammotrain.resampled import Draws
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged
from tests.scored import make, small

NONE = Draws(0)
STRAIGHT = Line(1, 0)


def drawn(line: Line = STRAIGHT, n: int = 4000, seed: int = 0) -> Scores:
    """Probabilities that ``line`` would put right, one patient a sample."""
    rng = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-rng.normal(-0.5, 1.5, n)))
    label = (rng.random(n) < line.applied(score)).astype(np.int64)
    return small(label.tolist(), score.tolist())


def fitted(scores: Scores) -> tuple[float, float]:
    """Slope and intercept by minimising the cross-entropy with another implementation."""
    x = np.log(scores.values[:, 1] / scores.values[:, 0])

    def loss(both: np.ndarray) -> float:
        z = both[0] * x + both[1]
        return float((np.logaddexp(0, z) - scores.label * z).sum())

    return tuple(minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead",
                          options={"xatol": 1e-8, "fatol": 1e-10}).x)  # fmt: skip


def test_slope_and_intercept_are_those_of_an_unpenalised_logistic_regression() -> None:
    for seed in range(3):
        table = make(seed=seed)
        line = calibration.fit(table)
        assert isinstance(line, Line)
        assert (line.slope, line.intercept) == pytest.approx(fitted(table), abs=1e-4)


def test_a_model_that_is_too_sure_has_a_slope_below_one_and_is_put_right() -> None:
    true = Line(0.5, -0.7)
    found = calibration.of(Judged(drawn(true), drawn(true, seed=1)), draws=NONE)
    assert found["line"]["slope"] == pytest.approx(0.5, abs=0.06)
    assert found["line"]["intercept"] == pytest.approx(-0.7, abs=0.1)
    assert abs(found["large"]["cancer"]["difference"]["value"]) > 0.08
    again = found["recalibrated"]
    assert abs(again["large"]["cancer"]["difference"]["value"]) < 0.02
    assert again["gain"]["value"] > 0.01
    assert again["gain"]["value"] == pytest.approx(
        found["brier"]["value"] - again["brier"]["value"], abs=2e-6
    )


def test_the_line_is_of_the_validation_samples_and_not_of_those_that_are_scored() -> None:
    table, validation = drawn(), drawn(Line(0.5, 1), seed=1)
    found = calibration.of(Judged(table, validation), draws=NONE)
    line = calibration.fit(validation)
    assert calibration.line_of(found) == line
    assert isinstance(line, Line)
    moved = line.applied(table.values[:, 1])
    assert found["recalibrated"]["brier"]["value"] == pytest.approx(
        np.square(moved - table.label).mean(), abs=1e-6
    )
    assert found["recalibrated"]["gain"]["value"] < 0


def test_every_fold_is_recalibrated_by_its_own_line() -> None:
    lines = {"fold0": Line(0.5, 1.0), "fold1": Line(2.0, -1.0)}
    table = drawn(n=400)
    table = replace(table, fold=np.where(np.arange(400) < 150, "fold0", "fold1"))
    found = calibration.of(Judged(table), lines=lines, draws=NONE)
    wanted = np.concatenate(
        [
            lines["fold0"].applied(table.values[:150, 1]),
            lines["fold1"].applied(table.values[150:, 1]),
        ]
    )
    assert found["recalibrated"]["brier"]["value"] == pytest.approx(
        np.square(wanted - table.label).mean(), abs=1e-6
    )
    assert found["recalibrated"]["large"]["cancer"]["predicted"] == pytest.approx(
        wanted.mean(), abs=1e-6
    )
    assert calibration.line_of(found) == lines
    parts = {
        fold: calibration.of(Judged(table), lines=line, draws=NONE) for fold, line in lines.items()
    }
    assert calibration.by_fold(parts) == lines
    del lines["fold1"]
    less = calibration.of(Judged(table), lines=lines, draws=NONE)
    assert less["recalibrated"] is None
    assert less["reason"] == "fold1: no slope and intercept"
    nobody = calibration.of(Judged(table, reason="few groups"), lines={}, draws=NONE)
    assert (nobody["line"], nobody["reason"]) == (None, "few groups")


@pytest.mark.parametrize(
    ("label", "score", "why"),
    [
        ([0, 0, 1, 1] * 10, [0.1, 0.2, 0.2, 0.9] * 10, "without fault"),
        ([1, 1, 0, 0] * 10, [0.1, 0.2, 0.3, 0.9] * 10, "without fault"),
        ([1, 0, 0, 1] * 10, [0.5] * 40, "the same score"),
        ([1, 1, 0, 0, 0, 1] * 10, [0.1, 0.2, 0.3, 0.9, 0.15, 0.5] * 10, "no better than chance"),
        ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], "fewer than 5 groups"),
        ([0] * 20, [0.1, 0.2] * 10, "two classes"),
    ],
)
def test_a_line_that_the_validation_samples_do_not_tell_is_none_and_says_why(
    label: list[int], score: list[float], why: str
) -> None:
    found = calibration.of(Judged(drawn(n=100), small(label, score)), draws=NONE)
    assert found["line"] is None
    assert found["recalibrated"] is None
    assert why in found["reason"]


def test_without_validation_samples_the_scored_ones_are_still_looked_at() -> None:
    found = calibration.of(Judged(make(), reason="three groups are too few"))
    assert found["reason"] == "three groups are too few"
    assert found["large"]["cancer"]["difference"]["ci95"] is not None


def test_probabilities_of_exactly_nought_and_one_have_a_logit() -> None:
    table = small([0, 1] * 20 + [0, 1], [0.0, 1.0] * 20 + [1.0, 0.0])
    line = calibration.fit(table)
    assert isinstance(line, Line)
    assert np.isfinite(line.applied(table.values[:, 1])).all()


def test_at_large_is_the_mean_probability_less_the_share_with_an_interval_by_patient() -> None:
    table, draws = make(), Draws(50, 3)
    found = calibration.of(Judged(table), draws=draws)["large"]["cancer"]
    apart = table.values[:, 1] - table.label
    assert found["difference"]["value"] == pytest.approx(apart.mean(), abs=1e-6)
    assert found["predicted"] - found["observed"] == pytest.approx(apart.mean(), abs=2e-6)
    _, group = np.unique(table.group, return_inverse=True)
    each = [np.average(apart, weights=count[group]) for count in next(draws.tables(table))]
    assert found["difference"]["ci95"] == pytest.approx(np.percentile(each, [2.5, 97.5]), abs=1e-6)


def test_the_brier_score_is_that_of_the_metrics() -> None:
    for table in (make(), make(classes=3, prevalence=0.6)):
        wanted = metrics.point(table.label, table.values, None)["brier"]
        found = calibration.of(Judged(table), draws=NONE)
        assert found["brier"]["value"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(("n", "count"), [(1000, 10), (100, 5), (30, 2), (3, 2), (1, 1)])
def test_bins_hold_about_as_many_samples_each(n: int, count: int) -> None:
    table = drawn(n=n)
    found = calibration.bins(table)
    assert len(found) == count
    sizes = [each["n"] for each in found]
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1
    order = np.argsort(table.values[:, 1])
    start = 0
    for each in found:
        rows = order[start : start + each["n"]]
        assert each["predicted"] == pytest.approx(table.values[rows, 1].mean(), abs=1e-6)
        assert each["observed"] == pytest.approx(table.label[rows].mean(), abs=1e-6)
        start += each["n"]


def test_samples_of_the_same_score_share_a_bin_whatever_their_order() -> None:
    table = make(grid=4)
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    assert calibration.bins(table) == calibration.bins(mixed)
    assert len(calibration.bins(table)) <= 5
    assert len(calibration.bins(small([0, 1], [0.5, 0.5]))) == 1
    assert calibration.bins(table.take(np.zeros(0, np.int64))) == []


def test_ten_images_of_a_patient_are_not_ten_pieces_of_evidence() -> None:
    right = np.repeat([0.0, 1.0] * 10, 10)
    alone, together = np.arange(200).astype(str), np.repeat(np.arange(20), 10).astype(str)
    assert calibration.worth(right, alone) == pytest.approx(199)
    assert calibration.worth(right, together) == pytest.approx(19)
    assert calibration.worth(right, np.repeat(["a", "b"], 100)) == 200
    assert calibration.worth(right, np.repeat(["a"], 200)) == 1
    assert calibration.worth(np.ones(200), together) == 20
    wide, narrow = (calibration.wilson(0.5, count) for count in (20, 200))
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


@pytest.mark.slow
def test_the_interval_of_a_bin_holds_the_true_share_in_about_95_of_100_sets_of_patients() -> None:
    held = total = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        own = np.repeat(rng.normal(size=60), 4)
        truth = float((1 / (1 + np.exp(-(np.random.default_rng(1).normal(size=100_000))))).mean())
        right = (rng.random(240) < 1 / (1 + np.exp(-own))).astype(np.float64)
        group = np.repeat(np.arange(60), 4).astype(str)
        low, high = calibration.wilson(right.mean(), calibration.worth(right, group))
        held += low <= truth <= high
        total += 1
    assert 0.92 <= held / total <= 0.98


def test_of_more_classes_each_is_looked_at_at_large_and_the_most_probable_one_bin_by_bin() -> None:
    table = make(classes=3, prevalence=0.6)
    found = calibration.of(Judged(table, make(classes=3, seed=4)))
    assert list(found["large"]) == ["a", "b", "c"]
    for place, name in enumerate("abc"):
        apart = table.values[:, place].mean() - (table.label == place).mean()
        assert found["large"][name]["difference"]["value"] == pytest.approx(apart, abs=1e-6)
    assert found["reason"] == calibration.MORE_CLASSES
    assert sum(each["n"] for each in found["bins"]) == len(table)
    right = (table.values.argmax(axis=1) == table.label).mean()
    assert np.average(
        [each["observed"] for each in found["bins"]], weights=[each["n"] for each in found["bins"]]
    ) == pytest.approx(right, abs=1e-5)


def three(names: tuple[str, ...] = ("normal", "benign", "malignant"), **told: Any) -> Scores:
    return replace(make(classes=3, prevalence=0.6, **told), names=names)


def test_each_class_against_the_rest_is_what_two_classes_would_say() -> None:
    table = three(n=600)
    folds = replace(table, fold=np.array([f"fold{int(g[1:]) % 2}" for g in table.group]))
    for each in (table, folds):
        found = one_against_rest.of(each, NONE)
        assert found is not None
        assert found["headline"] == "malignant"
        assert list(found["classes"]) == ["malignant", "normal", "benign"]
        for place, name in enumerate(table.names):
            two = np.stack([1 - each.values[:, place], each.values[:, place]], axis=1)
            wanted = metrics.point((each.label == place).astype(np.int64), two, None, each.strata)
            for metric in one_against_rest.METRICS:
                value = found["classes"][name][metric]["value"]
                assert value == pytest.approx(wanted[metric], abs=1e-6)
            assert found["classes"][name]["n"] == (table.label == place).sum()


def test_a_class_against_the_rest_has_an_interval_by_patient_or_says_why_not() -> None:
    table, draws = three(), Draws(50, 3)
    found = one_against_rest.of(table, draws)
    assert found is not None
    low, high = found["classes"]["malignant"]["auroc"]["ci95"]
    assert low < found["classes"]["malignant"]["auroc"]["value"] < high
    rare = table.take((table.label != 2) | (np.cumsum(table.label == 2) <= 2))
    found = one_against_rest.of(rare, draws)
    assert found is not None
    assert "fewer than 5 groups" in found["classes"]["malignant"]["auroc"]["reason"]
    assert found["classes"]["normal"]["auroc"]["ci95"] is not None
    none = one_against_rest.of(table.take(table.label != 2), draws)
    assert none is not None
    assert none["classes"]["malignant"]["auroc"]["value"] is None
    assert "two classes" in none["classes"]["malignant"]["auroc"]["reason"]


def test_two_classes_have_no_rest_and_classes_of_other_names_no_headline() -> None:
    assert one_against_rest.of(make()) is None
    found = one_against_rest.of(make(classes=3, prevalence=0.6), NONE)
    assert found is not None
    assert found["headline"] is None
    named = one_against_rest.of(three(("a", " Cancer", "c")), NONE)
    assert named is not None
    assert named["headline"] == " Cancer"


def test_the_interval_of_a_bin_is_wider_where_its_images_are_of_few_patients() -> None:
    alone = make(n=200, groups=20000, seed=3)
    shared = replace(
        alone, group=np.array([f"p{label}{n % 7}" for n, label in enumerate(alone.label)])
    )
    for one, other in zip(calibration.bins(alone), calibration.bins(shared), strict=True):
        assert one["n"] == other["n"]
        assert np.ptp(other["ci95"]) > np.ptp(one["ci95"]) + 0.01
