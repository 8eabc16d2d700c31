from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scored import make, small
from sklearn import metrics as oracle

from mammoprep.core.errors import ConfigError
from mammoprep.stats import ranking
from mammoprep.stats.ranking import Wanted
from mammotrain import levels, metrics, priors, scores, slices, thresholds
from mammotrain.priors import Prior
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged

THRESHOLD = 0.4


def expected_binary(label: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, float]:
    """Every metric of two classes by scikit-learn, or by the plainest loop."""
    said = (score >= threshold).astype(int)
    false, true, _ = oracle.roc_curve(label, score, drop_intermediate=False)
    called = label.mean() * true + (1 - label.mean()) * false  # share that is called positive
    gaps = 0.0
    for low in range(metrics.BINS):
        inside = (score * metrics.BINS >= low) & (score * metrics.BINS < low + 1)
        inside |= (low == metrics.BINS - 1) & (score == 1)
        if inside.any():
            gaps += inside.sum() * abs(score[inside].mean() - label[inside].mean())
    return {
        "auroc": oracle.roc_auc_score(label, score),
        "average_precision": oracle.average_precision_score(label, score),
        "f1": oracle.f1_score(label, said),
        "accuracy": oracle.accuracy_score(label, said),
        "balanced_accuracy": oracle.balanced_accuracy_score(label, said),
        "sensitivity": oracle.recall_score(label, said),
        "specificity": oracle.recall_score(label, said, pos_label=0),
        "sensitivity_at_specificity_90": true[false <= 0.1 + 1e-9].max(),
        "sensitivity_at_specificity_95": true[false <= 0.05 + 1e-9].max(),
        **{
            f"sensitivity_at_recall_{share}": true[called <= share / 100 + 1e-9].max()
            for share in (3, 5, 10)
        },
        "specificity_at_sensitivity_90": 1 - false[true >= 0.9 - 1e-9].min(),
        "pf1": challenge_pf1(label, score),
        "pf1_binarised": challenge_pf1(label, said),
        "brier": oracle.brier_score_loss(label, score),
        "ece": gaps / len(label),
    }


def challenge_pf1(label: np.ndarray, score: np.ndarray) -> float:
    """The metric as the challenge describes it: probabilistic precision and recall."""
    true = sum(float(s) for y, s in zip(label, score, strict=True) if y)
    false = sum(float(s) for y, s in zip(label, score, strict=True) if not y)
    precision, recall = true / (true + false), true / sum(label)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("grid", [0, 10])
@pytest.mark.parametrize("prevalence", [0.03, 0.5])
def test_every_metric_of_two_classes_equals_its_oracle(grid: int, prevalence: float) -> None:
    table = make(prevalence=prevalence, grid=grid, seed=3)
    found = metrics.point(table.label, table.values, THRESHOLD)
    wanted = expected_binary(table.label, table.values[:, 1], THRESHOLD)
    assert tuple(found) == metrics.BINARY
    assert found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("classes", [3, 5])
def test_every_metric_of_more_classes_equals_its_oracle(classes: int) -> None:
    table = make(classes=classes, prevalence=0.7)
    found = metrics.point(table.label, table.values, None)
    said = table.values.argmax(axis=1)
    truth = np.eye(classes)[table.label]
    assert tuple(found) == metrics.MULTICLASS
    assert found["macro_auroc"] == pytest.approx(
        oracle.roc_auc_score(table.label, table.values, multi_class="ovr")
    )
    assert found["macro_f1"] == pytest.approx(oracle.f1_score(table.label, said, average="macro"))
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(table.label, said))
    assert found["balanced_accuracy"] == pytest.approx(
        oracle.balanced_accuracy_score(table.label, said)
    )
    assert found["brier"] == pytest.approx(((table.values - truth) ** 2).sum(axis=1).mean())
    counted = metrics.confusion(table.label, said, classes)
    np.testing.assert_array_equal(counted, oracle.confusion_matrix(table.label, said))


def test_a_class_that_nobody_has_is_left_out_of_macro_averages() -> None:
    table = make(classes=4, prevalence=0.7)
    kept = table.take(table.label != 3)
    found = metrics.point(kept.label, kept.values, None)
    each = [oracle.roc_auc_score(kept.label == c, kept.values[:, c]) for c in range(3)]
    assert found["macro_auroc"] == pytest.approx(np.mean(each))


def test_the_ranking_of_weighed_groups_equals_sklearn_with_weights() -> None:
    table = make(grid=20, seed=5)
    owners, group = np.unique(table.group, return_inverse=True)
    counts = np.random.default_rng(1).integers(0, 4, (6, len(owners))).astype(np.int32)
    order = ranking.rank(table.label == 1, table.values[:, 1], group)
    found = ranking.measure(order, counts, Wanted((0.9,), (0.05,), (0.8,)))
    for draw, weight in enumerate(counts[:, group]):
        args = (table.label[weight > 0], table.values[weight > 0, 1])
        weights = {"sample_weight": weight[weight > 0]}
        false, true, _ = oracle.roc_curve(*args, drop_intermediate=False, **weights)
        share = np.average(args[0], weights=weights["sample_weight"])
        called = share * true + (1 - share) * false
        wanted = (
            oracle.roc_auc_score(*args, **weights),
            oracle.average_precision_score(*args, **weights),
            true[false <= 0.1 + 1e-9].max(),
            true[called <= 0.05 + 1e-9].max(),
            1 - false[true >= 0.8 - 1e-9].min(),
        )
        points = (found.at_specificity, found.at_recall, found.at_sensitivity)
        here = (found.auroc[draw], found.average_precision[draw], *(p[0][draw] for p in points))
        assert here == pytest.approx(wanted, abs=1e-12)


def test_ten_percent_of_the_negatives_may_be_wrong_at_90_percent_specificity() -> None:
    label = np.array([0] * 10 + [1] * 2)
    score = np.array([0.9, *[0.1] * 9, 0.8, 0.05])
    values = np.stack([1 - score, score], axis=1)
    found = metrics.point(label, values, 0.5)
    assert found["sensitivity_at_specificity_90"] == 0.5
    assert found["sensitivity_at_specificity_95"] == 0.0


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_alone_gives_no_number_instead_of_a_wrong_one(only: int) -> None:
    found = metrics.point(np.full(4, only), np.tile([0.3, 0.7], (4, 1)), 0.5)
    undefined = {name for name, value in found.items() if not np.isfinite(value)}
    assert {"auroc", "sensitivity_at_specificity_90"} <= undefined
    assert ("f1" in undefined) == (only == 0)
    assert ("sensitivity" if only == 0 else "specificity") in undefined


def test_without_a_threshold_there_are_no_decisions() -> None:
    table = make()
    found = metrics.point(table.label, table.values, None)
    assert {n for n, v in found.items() if not np.isfinite(v)} == metrics.THRESHOLDED


def test_the_border_of_a_bin_belongs_to_the_bin_above() -> None:
    np.testing.assert_array_equal(metrics.bins(np.array([0.0, 0.2, 0.4, 1.0])), [0, 3, 6, 14])


def test_pf1_of_decisions_is_f1() -> None:
    table = make()
    said = table.values[:, 1] >= THRESHOLD
    assert metrics.pf1(table.label == 1, said.astype(float)) == pytest.approx(
        oracle.f1_score(table.label, said)
    )


def test_the_threshold_has_the_highest_f1_of_all_that_there_are() -> None:
    for seed in range(8):
        table = make(n=60, seed=seed, grid=15 if seed % 2 else 0)
        positive, score = table.label == 1, table.values[:, 1]
        found = thresholds.choose(positive, score)
        every = [oracle.f1_score(positive, score >= at) for at in score]
        assert oracle.f1_score(positive, score >= found) == pytest.approx(max(every))


def test_of_two_thresholds_of_the_same_f1_the_higher_one_is_taken() -> None:
    positive = np.array([True, False, False, True])
    assert thresholds.choose(positive, np.array([0.8, 0.6, 0.4, 0.2])) == pytest.approx(0.7)


def test_the_threshold_lies_midway_between_two_scores() -> None:
    assert thresholds.choose(np.array([True, False]), np.array([0.8, 0.2])) == pytest.approx(0.5)


def test_the_threshold_between_neighbouring_floats_keeps_them_apart() -> None:
    low = 0.3
    high = float(np.nextafter(low, 1))
    found = thresholds.choose(np.array([True, False]), np.array([high, low]))
    assert low < found <= high


def test_the_threshold_is_chosen_on_validation_and_never_on_what_is_scored() -> None:
    validation = make(seed=1)
    first = thresholds.of(Judged(make(seed=2), validation))
    second = thresholds.of(Judged(make(seed=3), validation))
    assert first.shown == second.shown
    assert first.shown == thresholds.choose(validation.label == 1, validation.values[:, 1])
    assert thresholds.of(Judged(make(seed=2))).each is None
    assert "no validation" in thresholds.of(Judged(make(seed=2))).reason


def test_each_fold_is_decided_at_the_threshold_of_its_own_model() -> None:
    joined = scores.join({name: renamed_keys(make(seed=n), name) for n, name in enumerate("ab")})
    found = thresholds.of(Judged(joined, fixed={"a": 0.2, "b": 0.7}))
    assert found.shown == {"a": 0.2, "b": 0.7}
    np.testing.assert_array_equal(found.each, np.where(joined.fold == "a", 0.2, 0.7))


def test_without_a_threshold_of_one_fold_nothing_is_decided() -> None:
    joined = scores.join({name: renamed_keys(make(seed=n), name) for n, name in enumerate("ab")})
    found = thresholds.of(Judged(joined, fixed={"a": 0.2}))
    assert found.each is None
    assert found.reason.startswith("b: no validation samples")
    assert thresholds.of(Judged(joined)).each is None


@pytest.mark.parametrize(
    ("negatives", "specificity", "below"),
    [(10, 0.9, 9), (10, 0.95, 10), (20, 0.95, 19), (7, 0.9, 7), (10, 0.0, 0), (10, 1.0, 10)],
)
def test_as_many_negatives_are_below_the_threshold_as_the_specificity_asks_and_no_more(
    negatives: int, specificity: float, below: int
) -> None:
    score = np.random.default_rng(0).permutation(np.arange(1, negatives + 1) / 100)
    found = thresholds.at_specificity(score, specificity)
    assert (score < found).sum() == below


def renamed_keys(table: Scores, name: str) -> Scores:
    key = np.array([f"{name}_{each}" for each in table.key])
    return replace(table, key=key)


def test_a_breast_is_the_mean_of_its_views_and_a_view_that_of_its_images() -> None:
    table = small(
        [0, 0, 1, 0],
        [0.2, 0.4, 0.9, 0.1],
        group=["a"] * 4,
        laterality=["L", "L", "L", "R"],
        view=["CC", "CC", "MLO", "CC"],
    )
    breast = levels.aggregate(table, "breast")
    assert breast.key.tolist() == ["a/L", "a/R"]
    assert breast.values[:, 1] == pytest.approx([(0.3 + 0.9) / 2, 0.1])
    assert breast.label.tolist() == [1, 0]
    patient = levels.aggregate(table, "patient")
    assert patient.values[:, 1] == pytest.approx([0.6])
    assert patient.label.tolist() == [1]
    assert levels.aggregate(table, "breast", "max").values[:, 1] == pytest.approx([0.9, 0.1])
    assert levels.aggregate(table, "patient", "max").values.tolist() == [pytest.approx([0.1, 0.9])]


def test_levels_do_not_depend_on_the_order_of_the_rows() -> None:
    table = make()
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    for level in ("breast", "patient"):
        for how in levels.HOW:
            one, other = (levels.aggregate(each, level, how) for each in (table, mixed))
            np.testing.assert_array_equal(one.key, other.key)
            np.testing.assert_allclose(one.values, other.values, atol=1e-15)


def test_a_level_without_meaning_says_why() -> None:
    table = small([0, 1], [0.1, 0.9], laterality=["L", ""])
    with pytest.raises(ConfigError, match="1 of 2 images have no laterality"):
        levels.aggregate(table, "breast")
    several = make(classes=3, prevalence=0.7)
    assert "different classes" in levels.why_not(several, "patient")


def test_a_patient_of_several_classes_has_the_mean_of_breasts() -> None:
    values = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    table = Scores(
        np.array(["a", "b"]), np.array(["p", "p"]), np.array(["L", "R"]), np.array(["CC", "CC"]),
        np.array([1, 1]), values, ("a", "b", "c"),
    )  # fmt: skip
    assert levels.aggregate(table, "patient").values[0] == pytest.approx([0.4, 0.3, 0.3])
    best = levels.aggregate(table, "patient", "max").values[0]
    assert best == pytest.approx(np.array([0.6, 0.3, 0.5]) / 1.4)


def test_the_correction_undoes_a_changed_prevalence_exactly() -> None:
    evidence = np.array([0.1, 1.0, 30.0])  # likelihood ratios
    natural, sampled = 0.02, 0.5

    def posterior(prior: float) -> np.ndarray:
        odds = evidence * prior / (1 - prior)
        return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)

    prior = Prior((1 - sampled, sampled), (1 - natural, natural))
    np.testing.assert_allclose(priors.correct(posterior(sampled), prior), posterior(natural))


def test_corrected_probabilities_sum_to_one_for_several_classes() -> None:
    table = make(classes=4, prevalence=0.7)
    prior = Prior((0.25,) * 4, (0.7, 0.2, 0.1, 0.0))
    found = priors.correct(table.values, prior)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert not found[:, 3].any()


def test_a_prior_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="shares of 1"):
        Prior((0.5, 0.6), (0.5, 0.5))
    with pytest.raises(ConfigError, match="never sampled"):
        Prior((1.0, 0.0), (0.9, 0.1))


def test_the_prior_follows_from_labels_and_ignores_unknown_ones() -> None:
    found = priors.of_labels(np.array([0, 1, 1, -1]), np.array([0, 0, 0, 1]), 2)
    assert found.sampled == pytest.approx((1 / 3, 2 / 3))
    assert found.natural == pytest.approx((0.75, 0.25))
    assert found.changes


def test_a_class_that_weighs_more_in_the_loss_counts_as_seen_more_often() -> None:
    labels = np.array([0] * 9 + [1])
    found = priors.of_labels(labels, labels, 2, np.array([5 / 9, 5.0]))
    assert found.sampled == pytest.approx((0.5, 0.5))
    assert found.natural == pytest.approx((0.9, 0.1))
    values = priors.correct(np.array([[0.5, 0.5]]), found)
    assert values[0, 1] == pytest.approx(0.1)


def test_scores_come_back_from_the_file_bit_for_bit(tmp_path: Path) -> None:
    table = scores.join({"fold0": make(n=50, classes=3, prevalence=0.5)})
    table.label[3] = scores.UNKNOWN
    path = tmp_path / "scores.csv"
    scores.write(path, table)
    found = scores.read(path)
    for name in ("key", "group", "laterality", "view", "label", "values", "fold"):
        np.testing.assert_array_equal(getattr(found, name), getattr(table, name))
    assert found.names == table.names
    header = path.read_text().split("\n")[0]
    assert header == (
        "key,group,laterality,view,label,score_a,score_b,score_c,"
        "corrected_a,corrected_b,corrected_c,exam,source,fold"
    )
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key,group\n", "no column 'laterality'"),
        ("key,group,laterality,view,label,score_a,score_b\nk,g,L,CC,0,0.5\n", "line 2: 6 cells"),
        ("key,group,laterality,view,label,score_a,score_b\nk,g,L,CC,0,x,0.5\n", "float"),
        ("key,group,laterality,view,label,score_a,score_b\nk,g,L,CC,0,nan,0.5\n", "scores of k"),
        ("key,group,laterality,view,label,score_a,score_b\nk,g,L,CC,2,0.5,0.5\n", "Labels must"),
        ("key,group,laterality,view,label,score_a\nk,g,L,CC,0,0.5\n", "two or more classes"),
        ("", "no column"),
    ],
)
def test_a_table_of_scores_that_cannot_be_right_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        scores.read(path)


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        small([0, 1], [0.1, 0.9], key=["a", "a"])


def test_scores_are_taken_from_the_columns_of_a_table() -> None:
    columns = {
        "key": ["a", "b", "c"], "group": ["1", "2", "3"],
        "laterality": ["L", None, "R"], "view": ["CC", "MLO", None],
    }  # fmt: skip
    rows = np.array([2, 1])
    values = np.array([[0.25, 0.75], [1, 0]], np.float32)
    found = scores.from_columns(columns, rows, np.array([1, -1]), values, ["no", "yes"])
    assert found.key.tolist() == ["c", "b"]
    assert found.laterality.tolist() == ["R", ""]
    assert found.view.tolist() == ["", "MLO"]
    assert len(found.labelled()) == 1


def test_slices_name_what_is_unknown_and_leave_out_what_is_not_there() -> None:
    columns = {
        "view": ["CC", "MLO", "CC", None],
        "labels.age": [39.9, 40.0, None, 85.0],
        "labels.density": [None] * 4,
        "labels.machine_id": [29.0, None, 210, 29],
        "acquisition.manufacturer": ["x", "maker", None, None],
    }
    found = slices.of_columns(columns, np.array([3, 1, 2, 0]))
    assert sorted(found) == ["age", "machine", "view"]
    assert found["view"].tolist() == ["unknown", "MLO", "CC", "CC"]
    assert found["age"].tolist() == ["70 and over", "40-49", "unknown", "under 40"]
    assert found["machine"].tolist() == ["29", "maker", "210", "29"]
    assert slices.ordered(found["age"]) == ["under 40", "40-49", "70 and over", "unknown"]
    assert slices.ordered(np.array(["210", "29", "other"])) == ["29", "210", "other"]


def test_rare_parts_of_a_slice_share_a_line() -> None:
    names = [str(place) for place in range(slices.MOST + 5) for _ in range(2 + (place < 20))]
    found = slices.of_columns({"labels.site_id": names}, np.arange(len(names)))["site"]
    assert len(set(found)) == slices.MOST + 1
    assert (found == "other").sum() == 10


@pytest.mark.parametrize(
    ("name", "lower"),
    [("loss", True), ("ece", True), ("age_error", True), ("squared_error_normal", True),
     ("biopsy_loss", True), ("false_positives", True), ("kl_cost", True), ("solver_steps", True),
     ("auroc", False), ("recall", False), ("dice", False), ("lesion_recall", False),
     ("density_accuracy", False), ("precedence", False)],
)  # fmt: skip
def test_an_error_is_the_better_the_lower_whoever_measures_it(name: str, lower: bool) -> None:
    assert metrics.lower_is_better(name) is lower
