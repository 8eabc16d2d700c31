"""What can decide which checkpoint is best: levels above images, and the best decisions."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import make, small
from sklearn.metrics import f1_score, roc_auc_score

from mammoprep.core.errors import ConfigError
from mammotrain import (
    checkpoint,
    config,
    cross,
    folder,
    levels,
    metrics,
    monitors,
    rehearsal,
    setup,
)
from mammotrain.data.splits import Side
from mammotrain.distributed import joined
from mammotrain.run import Request, run
from mammotrain.scores import Scores
from mammotrain.watching import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.width=8", "model.groups=4", "data.size=[32, 32]", "train.batch_size=8", "train.epochs=2",
    "data.workers=1", "train.validate=next-fold",
)  # fmt: skip


def breasts(table: Scores) -> tuple[list[int], list[float]]:
    """Return labels and scores of breasts by a plain loop: means within a view, then of views."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    label: dict[tuple[str, str], int] = defaultdict(int)
    for row in range(len(table)):
        breast = (table.group[row], table.laterality[row])
        found[breast][table.view[row]].append(table.values[row, 1])
        label[breast] = max(label[breast], int(table.label[row]))
    score = [np.mean([np.mean(images) for images in views.values()]) for views in found.values()]
    return [label[breast] for breast in found], score


def brute(label: list[int], score: list[float]) -> float:
    """Return the highest F1 of all thresholds, by scikit-learn."""
    return max(f1_score(label, np.array(score) >= cut) for cut in score)


def test_breast_auroc_is_that_of_scikit_learn_on_the_means_of_views() -> None:
    table = make()
    (found,) = monitors.measure(table, "breast_auroc").values()
    assert found == pytest.approx(roc_auc_score(*breasts(table)), abs=1e-12)
    assert found != pytest.approx(monitors.of_images(table)["auroc"], abs=1e-3)


@pytest.mark.parametrize("name", ["best_f1", "best_pf1"])
def test_the_best_decisions_are_those_of_the_best_of_all_thresholds(name: str) -> None:
    table = make(n=120, groups=40)
    assert monitors.measure(table, name) == {
        name: pytest.approx(brute(table.label.tolist(), table.values[:, 1].tolist()))
    }
    above = f"breast_{name}"
    assert monitors.measure(table, above) == {above: pytest.approx(brute(*breasts(table)))}
    assert monitors.measure(table, above)[above] != monitors.measure(table, name)[name]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30))
def test_no_threshold_gives_a_higher_f1_than_best_f1(drawn: list[tuple[bool, int]]) -> None:
    label, score = [int(one) for one, _ in drawn], [two / 6 for _, two in drawn]
    if len(set(label)) < 2:
        label[:2] = [0, 1]
    found = monitors.measure(small(label, score), "best_f1")["best_f1"]
    assert found == pytest.approx(brute(label, score))


def test_only_what_is_asked_for_is_computed() -> None:
    table = make()
    assert monitors.measure(table, "auroc") == {}
    assert monitors.measure(table, "loss") == {}
    assert monitors.measure(table, "solver_steps") == {}
    assert list(monitors.measure(table, "patient_auroc")) == ["patient_auroc"]


def test_one_class_and_no_label_are_no_number_and_no_error() -> None:
    one = small([0, 0, 0], [0.1, 0.2, 0.3])
    for name in ("best_f1", "breast_best_pf1", "breast_auroc"):
        assert np.isnan(monitors.measure(one, name)[name])
        unknown = replace(one, label=np.full(3, -1))
        assert np.isnan(monitors.measure(unknown, name)[name])


def test_several_classes_have_no_threshold_to_be_best_at() -> None:
    table = make(classes=4)
    assert "best_f1" not in monitors.names(4)
    assert {"auroc", "macro_auroc", "macro_f1", "accuracy"} < monitors.names(4)
    assert monitors.of_images(table)["auroc"] == monitors.of_images(table)["macro_auroc"]
    assert monitors.undecided("accuracy", 4) == ""
    # one breast, one class: then there is the level
    table = replace(table, group=np.array([f"g{row}" for row in range(len(table))]))
    found = monitors.measure(table, "breast_auroc")["breast_auroc"]
    assert found == pytest.approx(monitors.of_images(table)["macro_auroc"])


def test_datasets_are_ranked_apart_as_in_a_report() -> None:
    one, two = (make(n=100, seed=seed) for seed in (1, 2))
    lifted = 0.5 + two.values[:, 1] / 2
    shifted = two.with_values(np.stack([1 - lifted, lifted], axis=1))
    arrays = {
        name: np.concatenate([getattr(one, name), getattr(shifted, name)])
        for name in ("group", "laterality", "view", "label", "values")
    }
    source = np.repeat(["a", "b"], 100)
    key = np.array([f"k{row}" for row in range(200)])
    table = Scores(key=key, **arrays, names=one.names, source=source)
    pairs = [t.label.sum() * (t.label == 0).sum() for t in (one, shifted)]
    each = [roc_auc_score(t.label, t.values[:, 1]) for t in (one, shifted)]
    assert monitors.of_images(table)["auroc"] == pytest.approx(np.average(each, weights=pairs))


def test_every_name_is_the_better_the_way_its_metric_is() -> None:
    for classes in (2, 4):
        for name in monitors.names(classes):
            found = monitors.parse(name, classes)
            assert found is not None
            costs = found.metric in ("brier", "ece")
            assert metrics.lower_is_better(name) == costs, name
            assert found.level in levels.LEVELS


# ----------------------------------------------------------------------------------------- in a run


def request(shards: Path, out: Path, *more: str) -> Request:
    return Request(config.load("deq", (*SMALL, *more)), (str(shards),), out, device="cpu")


@pytest.mark.parametrize("monitor", ["best_pf1", "brier"])
def test_a_run_keeps_the_checkpoint_that_is_best_by_what_is_monitored(
    patches: Path, tmp_path: Path, monitor: str
) -> None:
    run(request(patches, tmp_path / "run", f"train.monitor={monitor}"), Watcher())
    lines = [line for line in folder.read_log(tmp_path / "run") if "validation" in line]
    assert len(lines) == 2
    values = [line["validation"][monitor] for line in lines]
    assert all(0 <= value <= 1 for value in values)
    assert {line["monitor"] for line in lines} == {monitor}
    saved = checkpoint.best(tmp_path / "run" / "checkpoints").state["progress"]
    best = min if monitor == "brier" else max
    assert saved["best"] == pytest.approx(best(values))


def refused(patches: Path, name: str) -> str:
    asked = request(patches, Path("unused"), f"train.monitor={name}")
    with joined("cpu") as world:
        table = setup.open_shards(asked.config, asked.data)
        with pytest.raises(ConfigError) as error:
            rehearsal.rehearse(asked.config, table, Side(), world)
    return str(error.value)


def test_a_level_that_the_validation_samples_lack_is_refused_with_the_reason(
    patches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "7 of 30 images have no laterality"
    monkeypatch.setattr(levels, "why_not", lambda scores, level: why if level == "breast" else "")
    said = refused(patches, "breast_auroc")
    assert f"'breast_auroc': of the validation samples there is no breast level: {why}." in said


def test_a_level_of_one_class_has_nothing_to_rank() -> None:
    both = small([1, 0, 1], [0.5, 0.5, 0.5], group=["a", "a", "b"])
    assert monitors.why_not(both, "patient_auroc") == "all at patient level are of one class"
    assert monitors.why_not(both, "patient_best_f1") != ""
    assert monitors.why_not(both, "brier") == ""
    assert monitors.why_not(both, "best_f1") == ""
    sideless = replace(both, laterality=np.array(["L", "", "R"]))
    said = monitors.why_not(sideless, "breast_auroc")
    assert said.startswith("there is no breast level: ")


def test_what_a_later_part_of_a_cv_lacks_is_refused_before_the_first_is_trained(
    patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter(["", "", "there is none"])  # of the three folds
    monkeypatch.setattr(monitors, "why_not", lambda scores, name: next(given))
    asked = request(patches, tmp_path / "cv", "train.monitor=breast_auroc")
    with pytest.raises(ConfigError, match=r"parts cannot be left out\. fold2: .*there is none"):
        cross.cross(asked, Watcher())
    assert not list((tmp_path / "cv").glob("fold*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("f1", "train.monitor=best_f1 is of the best decisions"),
        ("breast_sensitivity", "train.monitor=breast_best_f1 is of the best decisions"),
        ("breast_aurocc", "Did you mean 'breast_auroc'"),
        ("best_f2", "Did you mean 'best_f1'"),
        ("image_auroc", "there is no such metric"),
    ],
)
def test_what_cannot_be_monitored_is_refused_with_what_can(
    patches: Path, name: str, message: str
) -> None:
    said = refused(patches, name)
    assert message in said
    assert "and metrics of breast, " in said
