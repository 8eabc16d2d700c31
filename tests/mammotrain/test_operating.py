"""Operating points of screening: chosen on validation samples, applied to those that are scored."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from mammoprep.core.errors import ConfigError
from mammotrain import metrics, operating, thresholds
from mammotrain.operating import Asked
from mammotrain.resampled import Draws
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged
from tests.scored import make, small

FEW = Draws(40)
NONE = Draws(0)
SENSITIVE, RECALL_5 = "specificity_at_sensitivity_90", "sensitivity_at_recall_5"


def rows_of(judged: Judged, **asked: Any) -> dict[tuple[str, str], dict[str, Any]]:
    found = operating.points(judged, Asked(**{"draws": NONE, **asked}))
    return {(row["rule"], row["by"]): row for row in found}


def folds(table: Scores, shift: float = 0.4) -> Scores:
    """Three folds of whole groups, each on a scale of its own."""
    number = np.array([int(each[1:]) % 3 for each in table.group])
    score = np.clip(table.values[:, 1] * 0.5 + shift * number / 2, 0, 1)
    values = np.stack([1 - score, score], axis=1)
    return replace(table, values=values, fold=np.array([f"fold{n}" for n in number]))


def recall_of(table: Scores, threshold: float, share: float | None) -> float:
    said, positive = table.values[:, 1] >= threshold, table.label == 1
    if share is None:
        return float(said.mean())
    return float(share * said[positive].mean() + (1 - share) * said[~positive].mean())


@pytest.mark.parametrize("grid", [0, 20])
@pytest.mark.parametrize("share", [None, 0.006, 0.3])
def test_the_threshold_of_a_recall_rate_is_the_lowest_that_does_not_recall_more(
    grid: int, share: float | None
) -> None:
    for seed in range(5):
        table = make(n=600, seed=seed, grid=grid)
        for rule, rate in metrics.RECALLS.items():
            found = operating.choose(rule, table, share)
            each = np.unique(table.values[:, 1])
            allowed = [t for t in each if recall_of(table, t, share) <= rate + 1e-9]
            if not allowed:
                assert found is None
                continue
            assert found is not None
            assert recall_of(table, found, share) == pytest.approx(
                recall_of(table, min(allowed), share)
            )
            lower = each[each < min(allowed)]
            assert found > (lower.max() if lower.size else -1)


def test_the_threshold_of_a_sensitivity_is_the_highest_that_reaches_it() -> None:
    for positives in (5, 10, 19, 20):
        table = small([1] * positives + [0] * 5, [*np.arange(1, positives + 1) / 100, *[0.001] * 5])
        found = operating.choose(SENSITIVE, table)
        assert found is not None
        reached = int((table.values[table.label == 1, 1] >= found).sum())
        assert reached == int(np.ceil(0.9 * positives - 1e-9))


def test_a_point_is_chosen_on_the_validation_samples_whatever_it_comes_to() -> None:
    table, validation = make(seed=1), make(seed=2)
    weaker = validation.with_values(validation.values**2 / (validation.values**2).sum(1)[:, None])
    row = rows_of(Judged(table, weaker))[SENSITIVE, "validation"]
    wanted = operating.choose(SENSITIVE, weaker)
    said, positive = table.values[:, 1] >= wanted, table.label == 1
    assert row["threshold"] == wanted
    assert row["sensitivity"]["value"] == pytest.approx(said[positive].mean(), abs=1e-6)
    assert row["specificity"]["value"] == pytest.approx((~said[~positive]).mean(), abs=1e-6)
    assert row["recall_rate"]["value"] == pytest.approx(said.mean(), abs=1e-6)
    assert abs(row["sensitivity"]["value"] - 0.9) > 1e-3


def test_without_validation_samples_the_row_has_the_reason_and_the_curve_its_own() -> None:
    found = rows_of(Judged(make(), reason="too few groups to validate on"))
    row = found[RECALL_5, "validation"]
    assert row["threshold"] is None
    assert row["reason"] == row["sensitivity"]["reason"] == "too few groups to validate on"
    assert found[RECALL_5, "curve"]["sensitivity"]["value"] is not None
    assert thresholds.NOBODY in rows_of(Judged(make()))[RECALL_5, "validation"]["reason"]
    one = make()
    one = one.take(one.label == 0)
    assert "only one class" in rows_of(Judged(make(), one))[RECALL_5, "validation"]["reason"]
    few = small([0, 1] * 8, list(np.arange(16) / 16))
    assert "3 % of 16" in rows_of(Judged(make(), few))[
        "sensitivity_at_recall_3", "validation"
    ]["reason"]  # fmt: skip


@pytest.mark.parametrize("grid", [0, 15])
def test_the_curve_says_what_the_metrics_of_the_curve_say(grid: int) -> None:
    for table in (make(grid=grid), folds(make(grid=grid))):
        wanted = metrics.point(table.label, table.values, None, table.strata)
        found = rows_of(Judged(table))
        for rule in operating.RULES:
            name = "specificity" if rule in metrics.SENSITIVITIES else "sensitivity"
            value = found[rule, "curve"][name]["value"]
            assert value == pytest.approx(wanted[rule], abs=1e-6)


def test_the_curve_of_a_stated_prevalence_is_read_where_scikit_learn_has_its_points() -> None:
    table, share = make(prevalence=0.5, grid=30), 0.01
    false, true, _ = roc_curve(table.label == 1, table.values[:, 1], drop_intermediate=False)
    recall = share * true + (1 - share) * false
    row = rows_of(Judged(table), prevalence={"image": share})[RECALL_5, "curve"]
    place = np.flatnonzero(recall <= 0.05).max()
    assert row["sensitivity"]["value"] == pytest.approx(true[place], abs=1e-6)
    assert row["specificity"]["value"] == pytest.approx(1 - false[place], abs=1e-6)
    assert row["recall_rate"]["value"] == pytest.approx(recall[place], abs=1e-6)
    assert row["ppv"]["value"] == pytest.approx(share * true[place] / recall[place], abs=1e-6)
    assert row["cancers_per_1000"]["value"] == pytest.approx(10 * true[place], abs=1e-5)


def test_a_set_s_own_share_of_cancers_is_never_that_of_screening() -> None:
    judged = Judged(make(prevalence=0.5), make(prevalence=0.5, seed=3))
    for row in operating.points(judged, Asked(draws=FEW, level="exam")):
        assert row["prevalence"] is None
        for name in operating.OF_SCREENING:
            assert row[name] == {"value": None, "ci95": None, "reason": "state --prevalence"}
    stated = Asked("breast", {"exam": 0.006}, draws=NONE)
    assert operating.points(judged, stated)[0]["ppv"]["reason"] == (
        "state --prevalence breast=SHARE"
    )


def test_a_stated_prevalence_gives_the_same_figures_whatever_the_set_s_share_is() -> None:
    table, validation = make(n=2000, groups=400), make(n=2000, groups=400, seed=5)
    kept = (table.label == 1) | (np.arange(len(table)) % 2 == 0)
    thinned = (validation.label == 1) | (np.arange(len(validation)) % 2 == 0)
    pairs = [(table, validation), (table.take(kept), validation.take(thinned))]
    for each, validation in pairs:  # half of the negatives: enriched
        row = rows_of(Judged(each, validation), prevalence={"image": 0.006})[RECALL_5, "validation"]
        said = each.values[:, 1] >= row["threshold"]
        hit, alarm = (said[each.label == c].mean() for c in (1, 0))
        recall = 0.006 * hit + 0.994 * alarm
        assert row["recall_rate"]["value"] == pytest.approx(recall, abs=1e-6)
        assert recall == pytest.approx(0.05, abs=0.03)  # other patients
        assert row["ppv"]["value"] == pytest.approx(0.006 * hit / recall, abs=1e-6)
        assert row["cancers_per_1000"]["value"] == pytest.approx(6 * hit, abs=1e-5)


def test_every_fold_of_a_cv_is_decided_by_its_own_threshold() -> None:
    table, parts = folds(make(n=900, groups=200)), {}
    for name in np.unique(table.fold):  # type: ignore[arg-type]
        inside = table.take(table.fold == name)
        validation = folds(make(n=900, groups=200, seed=4))
        own = replace(validation.take(validation.fold == name), fold=None)
        parts[str(name)] = operating.points(Judged(replace(inside, fold=None), own), Asked("image"))
    fixed = operating.by_fold(parts, "image")
    row = rows_of(Judged(table), fixed=fixed)[RECALL_5, "validation"]
    assert row["threshold"] == fixed[RECALL_5]
    each = np.array([fixed[RECALL_5][name] for name in table.fold])  # type: ignore
    said = table.values[:, 1] >= each
    assert row["recall_rate"]["value"] == pytest.approx(said.mean(), abs=1e-6)
    assert said.mean() == pytest.approx(0.05, abs=0.03)
    del parts["fold1"]
    missing = operating.by_fold(parts, "image")
    row = rows_of(Judged(table), fixed=missing)[RECALL_5, "validation"]
    assert row["reason"].startswith("fold1: no validation samples")
    assert operating.by_fold({}, "image") == {rule: {} for rule in operating.RULES}
    row = rows_of(Judged(table, reason="none"), fixed=operating.by_fold({}, "image"))
    assert row[RECALL_5, "validation"]["reason"] == "none"


def test_the_thresholds_of_a_run_are_handed_on_by_level() -> None:
    judged = Judged(make(), make(seed=3))
    rows = [
        *operating.points(judged, Asked("image", draws=NONE)),
        *operating.points(judged, Asked("exam", draws=NONE)),
    ]
    found = operating.chosen(rows, "exam")
    assert set(found) == set(operating.RULES)
    again = rows_of(Judged(make()), level="exam", fixed=found)
    assert again[RECALL_5, "validation"]["threshold"] == found[RECALL_5]


def test_intervals_are_those_of_patients_drawn_with_replacement() -> None:
    table, validation = make(), make(seed=3)
    draws = Draws(30, 5)
    rows = {
        (row["rule"], row["by"]): row
        for row in operating.points(Judged(table, validation), Asked(draws=draws))
    }
    owners, group = np.unique(table.group, return_inverse=True)
    (counts,) = draws.tables(table)
    again: dict[str, list[float]] = {"validation": [], "curve": []}
    for count in counts:
        rows_drawn = np.repeat(np.arange(len(table)), count[group])
        drawn = make(n=len(rows_drawn))
        drawn = replace(drawn, label=table.label[rows_drawn], values=table.values[rows_drawn])
        for by, threshold in (
            ("validation", rows[RECALL_5, "validation"]["threshold"]),
            ("curve", operating.choose(RECALL_5, drawn)),
        ):
            again[by].append(float((drawn.values[drawn.label == 1, 1] >= threshold).mean()))
    for by, each in again.items():
        low, high = np.percentile(each, [2.5, 97.5])
        assert rows[RECALL_5, by]["sensitivity"]["ci95"] == pytest.approx([low, high], abs=1e-6)
    assert len(owners) == counts.shape[1]


def test_few_patients_and_more_classes_say_why_or_nothing() -> None:
    few = small([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.7])
    row = operating.points(Judged(few, make()), Asked(draws=FEW))[0]
    assert "fewer than 5 groups" in row["sensitivity"]["reason"]
    assert operating.points(Judged(make(classes=3)), Asked()) == []


def test_nobody_recalled_has_no_positive_predictive_value() -> None:
    judged = Judged(make(), fixed=None)
    asked = {"fixed": {RECALL_5: 2.0}, "prevalence": {"image": 0.01}}
    row = rows_of(judged, **asked)[RECALL_5, "validation"]
    assert row["ppv"]["reason"] == "nobody is recalled"
    assert row["recall_rate"]["value"] == 0


def test_a_prevalence_is_a_share_of_exams_unless_it_names_a_level() -> None:
    assert operating.prevalence_of("0.6%") == pytest.approx({"exam": 0.006})
    assert operating.prevalence_of("0.006") == {"exam": 0.006}
    assert operating.prevalence_of("exam=0.6%, breast=0.3 %") == pytest.approx(
        {"exam": 0.006, "breast": 0.003}
    )
    assert operating.prevalence_of("30%") == pytest.approx({"exam": 0.3})
    assert operating.prevalence_of("") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.6", "Write 60% if it is meant, or 0.6% for 0.006"),
        ("x", "a share above 0"),
        ("0", "a share above 0"),
        ("100%", "a share above 0"),
        ("-1%", "a share above 0"),
        ("nan", "a share above 0"),
        ("woman=1%", "levels are image, breast, exam, patient"),
        ("1%,exam=2%", "each once"),
    ],
)
def test_what_is_no_prevalence_is_refused_with_what_is_wanted(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        operating.prevalence_of(text)
