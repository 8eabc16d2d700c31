"""A study of noise tells no setting's share, and one of a real effect does."""

from dataclasses import replace

import numpy as np
import pytest
from compared import noisy
from scored import make, small
from sklearn.metrics import roc_auc_score

from mammotrain import bootstrap, trial_noise
from mammotrain.evaluate import Scored
from mammotrain.scores import Scores

TRIALS = 20


def scored(table: Scores, **measured: np.ndarray) -> Scored:
    return Scored(table, 0.0, {}, measured)


def study(table: Scores, lifts: np.ndarray, seed: int) -> trial_noise.Verdict:
    """Judge trials of models that differ by ``lifts`` and by what each training adds."""
    tables = [noisy(table, 1000 * seed + place, 1.0, lift) for place, lift in enumerate(lifts)]
    values = [float(roc_auc_score(each.label, each.values[:, 1])) for each in tables]
    best = tables[int(np.argmax(values))]
    return trial_noise.judge(values, trial_noise.error_of(scored(best), "auroc"), "auroc")


def test_trials_that_differ_by_chance_alone_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    told = [
        trial_noise.judge(rng.normal(0.7, 0.04, TRIALS).tolist(), 0.04, "auroc").tells
        for _ in range(2000)
    ]
    assert np.mean(told) == pytest.approx(trial_noise.ALPHA, abs=0.015)


def test_models_without_a_difference_on_the_same_patients_tell_nothing() -> None:
    verdicts = [study(make(120, 60, seed=s), np.zeros(TRIALS), s) for s in range(12)]
    assert not any(each.tells for each in verdicts)
    assert "may be best by chance" in verdicts[0].reason
    assert verdicts[0].spread < verdicts[0].error * 1.3


def test_a_real_effect_is_found() -> None:
    lifts = np.linspace(-1.5, 1.5, TRIALS)
    assert all(study(make(200, 90, seed=s), lifts, s).tells for s in range(6))


def test_the_three_trials_of_the_complaint_are_too_few() -> None:
    found = trial_noise.judge([0.5, 0.5023, 0.5], 0.05, "auroc")
    assert not found.tells
    assert found.reason.startswith("Too few trials came to an end")
    assert "3, and it takes 20" in found.reason
    many = trial_noise.judge([0.5, 0.5023, 0.5, 0.5] * 5, 0.05, "auroc")
    assert "cannot be told" in many.reason
    assert trial_noise.judge([], None, "auroc").spread is None


def test_what_nobody_knows_the_error_of_tells_nothing() -> None:
    found = trial_noise.judge(np.linspace(0, 1, TRIALS).tolist(), None, "loss")
    assert not found.tells
    assert "loss moves with other validation patients is not known" in found.reason
    assert trial_noise.error_of(scored(make()), "loss") is None


def test_the_error_is_that_of_drawing_patients() -> None:
    table = make(300, 40)
    drawn = bootstrap.replicates(table, None, trial_noise.DRAWS)["auroc"]
    assert trial_noise.error_of(scored(table), "auroc") == pytest.approx(drawn.std(ddof=1))
    each = replace(table, group=table.key)  # more patients, more certain
    assert trial_noise.error_of(scored(each), "auroc") < drawn.std()
    several = make(300, 60, classes=3)
    assert trial_noise.error_of(scored(several), "auroc") > 0


def test_a_measure_has_an_error_too() -> None:
    table = make(300, 60)
    dice = np.random.default_rng(0).uniform(size=(300, 1))
    pairs = np.concatenate([dice, np.ones((300, 1))], axis=1)
    found = trial_noise.error_of(scored(table, dice=pairs), "dice")
    assert found == pytest.approx(np.sqrt(1 / 12 / 300), rel=0.35)


def test_too_few_patients_for_a_bootstrap_have_the_error_of_chance() -> None:
    few = small([1, 1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.2, 0.1, 0.3, 0.4, 0.5])
    assert trial_noise.error_of(scored(few), "auroc") == pytest.approx(np.sqrt(8 / (12 * 12)))
    assert trial_noise.error_of(scored(few), "average_precision") is None
