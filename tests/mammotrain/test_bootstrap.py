import time

import numpy as np
import pytest
from scored import make, small
from sklearn.metrics import roc_auc_score

from mammoprep.core.errors import ConfigError
from mammotrain import bootstrap, metrics, scores, thresholds
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged

THRESHOLD = 0.4


def resampled(table: Scores, counts: np.ndarray) -> np.ndarray:
    """Rows of one resample, really repeated."""
    owners = np.unique(table.group)
    rows = [np.flatnonzero(table.group == owner) for owner in owners]
    return np.concatenate([np.tile(r, n) for r, n in zip(rows, counts, strict=True)])


@pytest.mark.parametrize("classes", [2, 4])
def test_replicates_equal_a_plain_loop_over_copied_rows(classes: int) -> None:
    table = make(n=150, groups=25, classes=classes, prevalence=0.4, grid=20)
    each = np.full(len(table), THRESHOLD) if classes == 2 else None
    found = bootstrap.replicates(table, each, number=30, seed=4)
    assert tuple(found) == metrics.names(classes)
    (counts,) = bootstrap.draws(len(np.unique(table.group)), 30, 4, 30)
    for place, drawn in enumerate(counts):
        rows = resampled(table, drawn)
        wanted = metrics.point(table.label[rows], table.values[rows], THRESHOLD)
        here = {name: values[place] for name, values in found.items()}
        assert here == pytest.approx(wanted, abs=1e-12, nan_ok=True)


def test_each_resample_draws_as_many_groups_as_there_are() -> None:
    (counts,) = bootstrap.draws(50, 200, 0, 200)
    assert counts.shape == (200, 50)
    assert set(counts.sum(axis=1)) == {50}
    assert counts.sum(axis=0).min() > 150  # every group comes up about as often: 200 +- 14
    # The variance of a count is 1 - 1/groups when groups are drawn with replacement.
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.05)


def test_resamples_do_not_depend_on_how_many_are_made_at_a_time() -> None:
    whole = np.concatenate(list(bootstrap.draws(37, 100, 5, 100)))
    parts = np.concatenate(list(bootstrap.draws(37, 100, 5, 7)))
    np.testing.assert_array_equal(whole, parts)
    other = np.concatenate(list(bootstrap.draws(37, 100, 6, 100)))
    assert (whole != other).any()


def test_the_order_of_rows_changes_nothing() -> None:
    table = make()
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    validation = make(seed=9)
    one, other = (bootstrap.evaluate(Judged(t, validation), 50) for t in (table, mixed))
    for name, estimate in one.items():
        assert estimate.value == pytest.approx(other[name].value, abs=1e-12)
        assert estimate.low == pytest.approx(other[name].low, abs=1e-12)


def test_many_images_of_one_patient_do_not_make_the_interval_narrower() -> None:
    table = make(n=200, groups=40, seed=2)
    copies = 10
    key = np.array([f"{k}_{copy}" for k in table.key for copy in range(copies)])
    rows = np.repeat(np.arange(len(table)), copies)
    many = table.take(rows[:0])
    many = Scores(
        key, table.group[rows], table.laterality[rows], table.view[rows], table.label[rows],
        table.values[rows], many.names,
    )  # fmt: skip
    one, other = (bootstrap.evaluate(Judged(t), 300, only=("auroc",)) for t in (table, many))
    assert one["auroc"].low == pytest.approx(other["auroc"].low, abs=1e-9)
    assert one["auroc"].high == pytest.approx(other["auroc"].high, abs=1e-9)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    # Binormal scores with a patient effect: the AUROC of all patients is known.
    hits, runs = 0, 120
    truth = 0.7602499389065233  # Phi(1 / sqrt(2)): unit variances, one apart
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(100), 2)
        label = np.repeat(rng.integers(0, 2, 100), 2)
        raw = label + np.sqrt(0.5) * (rng.normal(size=100)[patient] + rng.normal(size=200))
        table = small(
            label.tolist(), (1 / (1 + np.exp(-raw))).tolist(), group=[str(p) for p in patient]
        )
        found = bootstrap.evaluate(Judged(table), 200, only=("auroc",))["auroc"]
        hits += found.low <= truth <= found.high
    assert 0.88 <= hits / runs <= 0.99


def test_too_few_groups_have_a_value_but_no_interval() -> None:
    table = small([1, 1, 0, 0, 0, 0, 0, 0], [0.9, 0.8, 0.1, 0.2, 0.3, 0.4, 0.1, 0.1])
    found = bootstrap.evaluate(Judged(table, make()))["auroc"]
    assert found.value == 1
    assert found.low is None
    assert "fewer than 5 groups" in found.reason


def test_one_class_gives_a_reason_instead_of_a_number() -> None:
    found = bootstrap.evaluate(Judged(small([0] * 9, [0.1] * 9), make()))
    assert np.isnan(found["auroc"].value)
    assert found["auroc"].reason == bootstrap.ONE_CLASS
    assert found["specificity"].value == 1


def test_without_validation_decisions_have_a_reason() -> None:
    found = bootstrap.evaluate(Judged(make()), 20)
    assert np.isnan(found["f1"].value)
    assert "no validation" in found["f1"].reason
    assert found["auroc"].low < found["auroc"].value < found["auroc"].high


def test_a_calibration_error_gets_no_interval() -> None:
    found = bootstrap.evaluate(Judged(make()), 20)["ece"]
    assert found.low is None
    assert "inflates" in found.reason


def test_unlabelled_samples_are_left_out_and_none_at_all_is_an_error() -> None:
    table = make()
    table.label[:100] = -1
    found = bootstrap.evaluate(Judged(table, make(seed=1)), 20)
    wanted = bootstrap.evaluate(Judged(table.labelled(), make(seed=1)), 20)
    assert found == wanted
    table.label[:] = -1
    with pytest.raises(ConfigError, match="no sample has a label"):
        bootstrap.evaluate(Judged(table))


def test_a_metric_undefined_in_many_resamples_has_no_interval() -> None:
    drawn = np.array([0.5] * 90 + [np.nan] * 10)
    assert bootstrap.interval(drawn) is None
    assert bootstrap.interval(np.array([0.5] * 96 + [np.nan] * 4)) == (0.5, 0.5)


def better(table: Scores, by: float) -> Scores:
    odds = np.log(table.values[:, 1] / table.values[:, 0]) + by * (2 * table.label - 1)
    score = 1 / (1 + np.exp(-odds))
    return table.with_values(np.stack([1 - score, score], axis=1))


def test_a_paired_difference_equals_a_plain_loop() -> None:
    table = make(n=150, groups=30)
    other = better(table, -0.3)
    found = bootstrap.compare(Judged(table), Judged(other), 40, 7, ("auroc",))["auroc"]
    (counts,) = bootstrap.draws(len(np.unique(table.group)), 40, 7, 40)
    wanted = []
    for drawn in counts:
        rows = resampled(table, drawn)
        each = [metrics.point(t.label[rows], t.values[rows], None)["auroc"] for t in (table, other)]
        wanted.append(each[0] - each[1])
    assert found["ci95"] == pytest.approx(np.percentile(wanted, [2.5, 97.5]), abs=1e-12)


def noisy(table: Scores) -> Scores:
    """Return scores that are sometimes better and mostly worse."""
    noise = np.random.default_rng(1).normal(size=len(table))
    odds = np.log(table.values[:, 1] / table.values[:, 0]) + noise
    score = 1 / (1 + np.exp(-odds))
    return table.with_values(np.stack([1 - score, score], axis=1))


@pytest.mark.parametrize("sign", [1, -1])
def test_p_is_two_sided_as_a_count_of_really_drawn_patients_says(sign: int) -> None:
    table = make(n=150, groups=30, seed=8)
    other = noisy(table)
    table, other = (table, other) if sign > 0 else (other, table)
    found = bootstrap.compare(Judged(table), Judged(other), 60, 7, ("auroc",))["auroc"]
    (counts,) = bootstrap.draws(len(np.unique(table.group)), 60, 7, 60)
    below = above = 0
    for drawn in counts:
        rows = resampled(table, drawn)
        one, two = (roc_auc_score(t.label[rows], t.values[rows, 1]) for t in (table, other))
        below, above = below + (one <= two), above + (one >= two)
    assert np.sign(found["difference"]) == sign
    # of 60 draws these are of the other sign; each of the two tails counts, so twice as many
    odd = below if sign > 0 else above
    assert 0 < odd < 15  # neither none nor half: one side and two sides are not the same
    assert found["p"] == pytest.approx(2 * (odd + 1) / 61)


def test_p_does_not_depend_on_which_run_is_named_first() -> None:
    table = make(n=150, groups=30, seed=8)
    other = noisy(table)
    one = bootstrap.compare(Judged(table), Judged(other), 60, 7)
    two = bootstrap.compare(Judged(other), Judged(table), 60, 7)
    for name in ("auroc", "average_precision", "brier"):
        assert one[name]["p"] == two[name]["p"]
        assert one[name]["difference"] == -two[name]["difference"]


def test_a_difference_that_no_draw_shares_the_sign_of_has_the_smallest_p_there_is() -> None:
    table = make(n=150, groups=30, seed=5)
    found = bootstrap.compare(Judged(better(table, 2.0)), Judged(table), 60, 7, ("auroc",))
    assert found["auroc"]["p"] == pytest.approx(2 / 61)


def test_pairing_sees_a_small_difference_that_two_intervals_would_hide() -> None:
    table = make(n=600, groups=150)
    worse = better(table, -0.15)
    found = bootstrap.compare(Judged(table), Judged(worse), 300, only=("auroc",))["auroc"]
    one, other = (bootstrap.evaluate(Judged(t), 300)["auroc"] for t in (table, worse))
    assert one.low < other.high  # the intervals overlap
    assert found["ci95"][0] > 0
    assert found["p"] < 0.05


def test_a_run_does_not_differ_from_itself_in_another_order() -> None:
    table = make()
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    validation = make(seed=1)
    found = bootstrap.compare(Judged(table, validation), Judged(mixed, validation), 50)
    for each in found.values():
        assert each["difference"] == pytest.approx(0, abs=1e-12)
    assert found["accuracy"]["p"] == 1


def test_thresholds_by_fold_follow_their_samples_into_another_order() -> None:
    table = make()
    folds = {f"fold{k}": table.take(np.arange(k, 400, 2)) for k in (0, 1)}
    joined = scores.join(folds)
    mixed = joined.take(np.random.default_rng(0).permutation(400))
    own = {"fold0": 0.3, "fold1": 0.5}
    found = bootstrap.compare(Judged(joined, fixed=own), Judged(mixed, fixed=own), 20)
    assert len(set(thresholds.of(Judged(joined, fixed=own)).each)) == 2
    for each in found.values():
        assert each["difference"] == pytest.approx(0, abs=1e-12)


def test_each_run_keeps_its_own_threshold() -> None:
    table = make()
    validation = make(seed=1)
    found = bootstrap.compare(
        Judged(table, fixed=0.9), Judged(table, validation), 20, only=("sensitivity",)
    )
    both = [
        bootstrap.evaluate(judged, 0)["sensitivity"].value
        for judged in (Judged(table, fixed=0.9), Judged(table, validation))
    ]
    assert found["sensitivity"]["difference"] == pytest.approx(both[0] - both[1])


def test_runs_on_other_samples_or_labels_are_not_compared() -> None:
    table = make()
    with pytest.raises(ConfigError, match=r"of 400 and 399 samples 399 are common"):
        bootstrap.compare(Judged(table), Judged(table.take(np.arange(1, 400))))
    changed = table.take(np.arange(400))
    changed.label[0] = 1 - changed.label[0]
    with pytest.raises(ConfigError, match="different labels"):
        bootstrap.compare(Judged(table), Judged(changed))
    with pytest.raises(ConfigError, match=r"different classes: negative, cancer; and a, b, c\."):
        bootstrap.compare(Judged(table), Judged(make(classes=3)))


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "prevalence"), [(2, 0.02), (2, 0.5), (5, 0.8)])
def test_a_thousand_resamples_of_fifty_thousand_rows_take_seconds(
    classes: int, prevalence: float
) -> None:
    table = make(n=50_000, groups=12_000, prevalence=prevalence, classes=classes)
    began = time.process_time()
    found = bootstrap.evaluate(Judged(table, make(n=2000, classes=classes, seed=1)), 1000)
    assert time.process_time() - began < 20
    assert all(e.low is not None for name, e in found.items() if name != "ece")


def test_a_fixed_threshold_needs_no_validation() -> None:
    found = thresholds.of(Judged(make(), fixed=0.5))
    assert found.shown == 0.5
    assert set(found.each) == {0.5}
