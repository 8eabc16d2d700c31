"""Scores of several models: their scales differ, and nothing that is said may depend on that."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as oracle

from mammoprep.stats import resampling
from mammotrain import bootstrap, collapse, cross, metrics, scores, thresholds
from mammotrain.report import assemble, by_fold, curves, page, tables
from mammotrain.report.assemble import About
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged

GAP = 1.2945  # of two normal distributions of spread 1 whose AUROC is .82
ABOUT = About("deq", "demo", "cv", draws=40)


def simulated(
    shifts: list[float],
    groups: int = 60,
    positives: int = 15,
    seed: int = 0,
    scale: float = 1.0,
    gap: float = GAP,
) -> Scores:
    """Out-of-fold scores of models of one skill, each on a scale of its own."""
    rng = np.random.default_rng(seed)
    parts = {}
    for number, shift in enumerate(shifts):
        positive = np.arange(groups) < positives
        owner = np.repeat(np.arange(groups), 2)
        label = np.repeat(positive, 2).astype(np.int64)
        logits = scale * (rng.normal(size=groups)[owner] + gap * label) + shift
        score = 1 / (1 + np.exp(-logits))
        names = np.array([f"f{number}g{each}" for each in owner])
        parts[f"fold{number}"] = Scores(
            np.array([f"f{number}k{each}" for each in range(len(owner))]),
            names,
            np.tile(["L", "R"], groups),
            np.full(len(owner), "CC"),
            label,
            np.stack([1 - score, score], axis=1),
            ("negative", "cancer"),
        )
    return scores.join(parts)


def own_thresholds(shifts: list[float], **changes: float) -> dict[str, float]:
    """What each fold's own validation samples, other patients of its model, would choose."""
    found = {}
    for number, shift in enumerate(shifts):
        validation = simulated([shift], seed=100 + number, **changes)  # type: ignore[arg-type]
        found[f"fold{number}"] = thresholds.of(Judged(validation, validation)).shown
    return found  # type: ignore[return-value]


def test_shifts_between_the_models_of_folds_change_no_figure_of_ranking() -> None:
    wide = [-3.0, -1.0, 0.0, 1.5, 4.0]
    plain, shifted = (simulated(s, 240, 60, seed=4) for s in ([0.0] * 5, wide))
    pooled = oracle.roc_auc_score(shifted.label, shifted.values[:, 1])
    names = ("auroc", "average_precision", *metrics.SPECIFICITIES, *metrics.RECALLS)
    one, other = (bootstrap.evaluate(Judged(table), 200, only=names) for table in (plain, shifted))
    assert pooled < 0.75  # what was the headline before
    assert other["auroc"].value == pytest.approx(0.82, abs=0.03)
    for name in names:
        assert other[name].value == pytest.approx(one[name].value, abs=1e-12)
        assert other[name].low == pytest.approx(one[name].low, abs=1e-12)
        assert other[name].high == pytest.approx(one[name].high, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_ranking_is_scikit_learns_per_fold_weighed_by_pairs_with_ties_and_tiny_folds(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    fold = np.array([f"fold{number}" for number in rng.integers(6, size=90)])
    label = (rng.random(90) < 0.2).astype(np.int64)
    label[fold == "fold3"], label[fold == "fold4"] = 0, 1  # one class: no pair
    score = np.round(rng.random(90), 1)
    table = Scores(
        np.array([f"k{n}" for n in range(90)]), np.array([f"g{n // 2}" for n in range(90)]),
        np.full(90, "L"), np.full(90, "CC"), label, np.stack([1 - score, score], 1), ("no", "yes"),
        fold,
    )  # fmt: skip
    auroc, precision, pairs, positives = [], [], [], []
    for name in np.unique(fold):
        inside = fold == name
        if 0 < label[inside].sum() < inside.sum():
            auroc.append(oracle.roc_auc_score(label[inside], score[inside]))
            precision.append(oracle.average_precision_score(label[inside], score[inside]))
            positives.append(label[inside].sum())
            pairs.append(positives[-1] * (inside.sum() - positives[-1]))
    found = metrics.point(table.label, table.values, None, table.strata)
    assert found["auroc"] == pytest.approx(np.average(auroc, weights=pairs), abs=1e-12)
    assert found["average_precision"] == pytest.approx(
        np.average(precision, weights=positives), abs=1e-12
    )


def test_several_classes_are_ranked_within_folds_too() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(3, size=150)
    logits = rng.normal(size=(150, 3))
    logits[np.arange(150), label] += 1
    fold = rng.integers(3, size=150)
    moved = logits + np.array([[0, 0, 0], [3, 0, -3], [-2, 2, 0]])[fold]
    values = np.exp(moved) / np.exp(moved).sum(axis=1, keepdims=True)
    each = []
    for code in range(3):
        part = [
            (oracle.roc_auc_score(label[rows] == code, values[rows, code]), rows, code)
            for rows in (fold == number for number in range(3))
        ]
        weights = [(label[r] == c).sum() * (label[r] != c).sum() for _, r, c in part]
        each.append(np.average([value for value, _, _ in part], weights=weights))
    found = metrics.point(label, values, None, fold)
    assert found["macro_auroc"] == pytest.approx(np.mean(each), abs=1e-12)


def test_patients_are_drawn_by_fold_and_class_as_a_plain_loop_draws_them() -> None:
    table = simulated([0.0, 2.0, -1.0], groups=14, positives=6, seed=3)
    owners, group = np.unique(table.group, return_inverse=True)
    strata = bootstrap.strata(table)
    assert strata is not None
    (counts,) = resampling.draws(len(owners), 60, 7, 60, strata)
    sick = np.array([table.label[table.group == owner].max() for owner in owners])
    where = np.array([table.fold[table.group == owner][0] for owner in owners])
    for fold in np.unique(where):
        for kind in (0, 1):
            inside = (where == fold) & (sick == kind)
            assert set(counts[:, inside].sum(axis=1)) == {inside.sum()}
    found = bootstrap.replicates(table, None, 60, 7)["auroc"]
    for draw, taken in enumerate(counts):
        beaten = pairs = 0.0
        for fold in np.unique(table.fold):
            rows = [r for r in np.flatnonzero(table.fold == fold) for _ in range(taken[group[r]])]
            yes = [table.values[r, 1] for r in rows if table.label[r] == 1]
            no = [table.values[r, 1] for r in rows if table.label[r] == 0]
            beaten += sum((a > b) + (a == b) / 2 for a in yes for b in no)
            pairs += len(yes) * len(no)
        assert found[draw] == pytest.approx(beaten / pairs, abs=1e-12)


def test_resamples_by_strata_do_not_depend_on_how_many_are_made_at_a_time() -> None:
    strata = np.array([0, 1, 0, 2, 2, 1, 0])
    whole = np.concatenate(list(resampling.draws(7, 50, 5, 50, strata)))
    parts = np.concatenate(list(resampling.draws(7, 50, 5, 8, strata)))
    np.testing.assert_array_equal(whole, parts)


def test_two_positive_patients_a_fold_still_have_an_interval() -> None:
    table = simulated([0.0, 1.0, -2.0, 0.5, 3.0], groups=20, positives=2, seed=6)
    found = bootstrap.evaluate(Judged(table), 300)["auroc"]
    assert found.low is not None
    assert found.low < found.value < found.high


def test_a_resample_that_empties_a_fold_counts_what_the_other_folds_have() -> None:
    table = simulated([0.0, 1.0], groups=10, positives=2)
    group = np.unique(table.group, return_inverse=True)[1]
    counts = np.ones((1, 20), np.int32)
    for place, owner in enumerate(np.unique(table.group)):
        if owner in ("f0g0", "f0g1"):  # the two positive patients of the first fold
            counts[0, place] = 0
    orders = metrics.rankings(table.label, table.values, group, table.strata)
    second = table.take(table.fold == "fold1")
    expected = oracle.roc_auc_score(second.label, second.values[:, 1])
    assert metrics.from_rankings(orders, counts)["auroc"][0] == pytest.approx(expected)


def test_the_interval_over_folds_holds_the_truth_as_often_as_it_says() -> None:
    shifts = [-2.0, 0.0, 1.0, 2.5, -1.0]
    inside = 0
    for seed in range(300):
        table = simulated(shifts, groups=24, positives=8, seed=1000 + seed)
        found = bootstrap.evaluate(Judged(table), 400, seed, only=("auroc",))["auroc"]
        inside += found.low <= 0.82 <= found.high
    # 95 % of 300 are 285, with a standard error of 3.8
    assert 272 <= inside <= 295


def test_one_threshold_for_all_folds_would_be_wrong_and_each_folds_own_is_not() -> None:
    shifts = [-3.0, -1.0, 0.0, 1.5, 4.0]
    kind = {"groups": 200, "positives": 30}
    table = simulated(shifts, seed=9, **kind)  # type: ignore[arg-type]
    own = bootstrap.evaluate(Judged(table, fixed=own_thresholds(shifts, **kind)), 0)["f1"].value
    others = []
    for fold in np.unique(table.fold):
        rest = table.take(table.fold != fold)
        others.append(thresholds.choose(rest.label == 1, rest.values[:, 1]))
    said = table.values[:, 1] >= np.array(others)[[int(f[4:]) for f in table.fold]]
    assert oracle.f1_score(table.label, said) < 0.35  # what was done before
    assert own > 0.45


def test_the_report_shows_folds_spread_and_pooled_value_and_warns_where_they_part() -> None:
    shifts = [-3.0, 0.0, 3.0]
    table = simulated(shifts, seed=2)
    found = assemble.assemble(Judged(table, fixed=own_thresholds(shifts)), ABOUT)
    assert found["pooled"]["auroc"] < found["metrics"]["auroc"]["value"] - 0.05
    told = " ".join(tables.alarms(found))
    assert "different scales" in told
    assert f"{found['pooled']['auroc']:.3f}" in told
    assert "other patients for these 3 models" in found["bootstrap"]["covers"]
    assert found["bootstrap"]["strata"] == ["fold", "class"]
    html = page.render(found, [], table, lambda _: None)
    assert "within folds" in html
    assert "pooled, as if one model" in html
    calm = simulated([0.0] * 3, seed=2)
    quiet = assemble.assemble(Judged(calm, fixed=own_thresholds([0.0] * 3)), ABOUT)
    assert "different scales" not in " ".join(tables.alarms(quiet))


def test_a_fold_of_one_class_is_named() -> None:
    table = simulated([0.0, 1.0, 2.0], seed=2)
    label = np.where(table.fold == "fold1", 0, table.label)
    found = assemble.assemble(Judged(replace(table, label=label)), ABOUT)
    assert found["one_class"] == ["fold1"]
    assert found["folds"]["fold1"]["metrics"]["auroc"] is None
    assert any(
        line.startswith("fold1: scored samples of one class") for line in by_fold.alarms(found)
    )


def test_the_majority_of_each_fold_ranks_nobody() -> None:
    table = simulated([0.0, 0.0], positives=20)
    shares = np.where(table.fold == "fold0", 0.2, 0.4)
    constant = table.with_values(np.stack([1 - shares, shares], axis=1))
    others = {"majority": Judged(constant)}
    found = assemble.assemble(Judged(table), ABOUT, others)
    assert found["baselines"]["majority"]["metrics"]["auroc"]["value"] == 0.5


def test_the_area_under_the_plotted_curve_is_the_auroc_of_the_report() -> None:
    table = simulated([-3.0, 0.0, 3.0], groups=17, positives=5, seed=5)
    rounded = table.with_values(np.round(table.values, 1))
    for each in (table, rounded, each_alone(table)):
        found = metrics.point(each.label, each.values, None, each.strata)["auroc"]
        false, true = curves._receiver(each.label == 1, each.values[:, 1], each)
        assert np.trapezoid(true, false) == pytest.approx(found, abs=1e-9)


def each_alone(table: Scores) -> Scores:
    return replace(table, fold=None)


def test_a_model_that_only_knows_the_dataset_is_no_better_than_chance_on_two() -> None:
    rng = np.random.default_rng(0)
    source = np.repeat(["one", "other"], 100)
    label = (rng.random(200) < np.where(source == "one", 0.1, 0.7)).astype(np.int64)
    score = np.where(source == "one", 0.1, 0.9)
    table = Scores(
        np.array([f"k{n}" for n in range(200)]), np.array([f"g{n}" for n in range(200)]),
        np.full(200, "L"), np.full(200, "CC"), label, np.stack([1 - score, score], 1),
        ("no", "yes"), source=source,
    )  # fmt: skip
    assert oracle.roc_auc_score(label, score) > 0.75
    assert bootstrap.evaluate(Judged(table), 0)["auroc"].value == 0.5


def test_models_that_are_constants_are_found_though_each_has_its_own() -> None:
    table = simulated([0.0, 0.0, 0.0])
    share = np.array([0.1, 0.5, 0.8])[[int(fold[4:]) for fold in table.fold]]
    constant = table.with_values(np.stack([1 - share, share], axis=1))
    assert collapse.of_scores(constant).kind == "constant"
    assert collapse.of_scores(table).kind is None


def test_where_one_fold_chose_no_threshold_a_cv_decides_nothing_and_says_which() -> None:
    def part(threshold: float | None, reason: str = "") -> cross._Part:
        report = {"threshold": threshold, "threshold_reason": reason, "levels": {}}
        return cross._Part(None, {}, report)  # type: ignore[arg-type]

    both = {"fold0": part(0.2), "fold1": part(0.6)}
    assert cross._thresholds(both) == {"fold0": 0.2, "fold1": 0.6}
    assert cross._undecided(both) == ""
    one = {"fold0": part(0.2), "fold1": part(None, "20 are needed")}
    assert cross._thresholds(one) is None
    assert cross._undecided(one) == "fold1: 20 are needed"
