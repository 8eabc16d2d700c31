"""Screening with auxiliary heads: what is unknown teaches nothing, what is weighed counts."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error
from torch import nn
from torch.nn import functional

import mammoprep
from mammoprep.core.errors import ConfigError
from mammotrain import config as configs
from mammotrain import losses, scores
from mammotrain.contracts import Output, Shown
from mammotrain.data import order
from mammotrain.data.order import Pool
from mammotrain.run import Request, run
from mammotrain.tasks import _heads, classify, screen
from mammotrain.trainer import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT = 400
ALL = {"age": 0.1, "density": 0.3, "biopsy": 0.2, "invasive": 0.4, "birads": 0.5}
NAMES = ("negative", "cancer")
# columns of the logits by head
PLACES = {"age": [1], "density": [2, 3, 4, 5], "biopsy": [6], "invasive": [7],
          "birads": list(range(8, 15))}  # fmt: skip


def column(values: list[Any]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def table(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def some(values: list[Any], known: float = 0.7) -> np.ndarray:
        drawn = [values[int(place)] for place in rng.integers(0, len(values), COUNT)]
        return column([value if rng.random() < known else None for value in drawn])

    return {
        "label": some([0, 1], 1.0),
        "labels.cancer": column([int(value) for value in rng.random(COUNT) < 0.1]),
        "labels.age": some([38.0, 50.0, 61.0, 89.0]),
        "labels.density": some(["A", "B", "C", "D"]),
        "labels.biopsy": some([0, 1]),
        "labels.invasive": some([0, 1]),
        "labels.birads": some(["0", "1", "2"]),
        "labels.site_id": some([1, 2], 1.0),
    }


def build(columns: dict[str, np.ndarray] | None = None, **options: Any) -> screen.Screen:
    return screen.build(
        screen.Config(**{**ALL, **options}), columns or table(), NAMES, np.arange(COUNT)
    )


def shown() -> Shown:
    return Shown(torch.zeros(COUNT, 1, 1, 1), None, np.arange(COUNT))


def said(task: screen.Screen, seed: int = 3) -> Output:
    generator = torch.Generator().manual_seed(seed)
    return Output(torch.randn(COUNT, task.outputs, generator=generator).requires_grad_())


def known(columns: dict[str, np.ndarray], name: str) -> np.ndarray:
    found = np.array([value is not None for value in columns[f"labels.{name}"]])
    return found & (columns["labels.site_id"] == 1) if name == "birads" else found


# Losses


def test_the_loss_is_that_of_torch_head_by_head() -> None:
    columns, task = table(), build(smoothing=0.1)
    found = said(task)
    logits, expected = found.logits, 0.0
    cancer = torch.tensor(columns["labels.cancer"].astype(float)).float()
    bce = functional.binary_cross_entropy_with_logits
    expected += bce(logits[:, 0], cancer * 0.9 + 0.05, reduction="sum")
    for name, weight in ALL.items():
        there = known(columns, name)
        own = logits[there][:, PLACES[name]]
        values = columns[f"labels.{name}"][there]
        if name == "age":
            wanted = torch.tensor((values.astype(float) - 60) / 10).float()
            part = functional.smooth_l1_loss(own[:, 0], wanted, reduction="sum")
        elif name in ("biopsy", "invasive"):
            part = bce(own[:, 0], torch.tensor(values.astype(float)).float(), reduction="sum")
        else:
            wanted = torch.tensor([("ABCD" if name == "density" else "0123456").index(v)
                                   for v in values])  # fmt: skip
            part = functional.cross_entropy(own, wanted, reduction="sum")
        expected += weight * part
    torch.testing.assert_close(task.loss(found, task.targets(shown())), expected / COUNT)


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_label_gives_exactly_no_gradient(name: str) -> None:
    columns, task = table(), build()
    found = said(task)
    task.loss(found, task.targets(shown())).backward()
    gradient = found.logits.grad[:, PLACES[name]].abs().sum(1).numpy()
    there = known(columns, name)
    assert 0 < there.sum() < COUNT
    assert (gradient[~there] == 0).all()
    assert (gradient[there] > 0).all()


def test_a_batch_without_any_known_label_is_finite_and_teaches_the_target_alone() -> None:
    columns, task = table(), build()
    lone = np.flatnonzero(~np.any([known(columns, name) for name in ALL], axis=0))[:1]
    assert lone.size
    found = Output(torch.full((1, task.outputs), 3.0, requires_grad=True))
    loss = task.loss(
        found, task.targets(replace(shown(), images=torch.zeros(1, 1, 1, 1), rows=lone))
    )
    loss.backward()
    assert loss.isfinite()
    assert found.logits.grad[0, 0] != 0
    assert (found.logits.grad[0, 1:] == 0).all()


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    task = build(class_weights="balanced")
    found, wanted = said(task), task.targets(shown())
    whole = task.loss(found, wanted)
    cut = [0, 37, 250, COUNT]
    parts = [
        task.loss(Output(found.logits[a:b]), wanted[a:b]) * (b - a) / COUNT
        for a, b in pairwise(cut)
    ]
    torch.testing.assert_close(sum(parts), whole)


@pytest.mark.parametrize("name", ALL)
def test_a_heads_weight_is_a_factor_and_zero_takes_its_columns_away(name: str) -> None:
    full, twice, without = build(), build(**{name: 2 * ALL[name]}), build(**{name: 0.0})
    found, wanted = said(full), full.targets(shown())
    kept = [column for column in range(full.outputs) if column not in PLACES[name]]
    head = 1 + list(ALL).index(name)
    fewer = wanted[:, [place for place in range(6) if place != head]]
    bare = without.loss(Output(found.logits[:, kept]), fewer)
    torch.testing.assert_close(
        twice.loss(found, wanted) - full.loss(found, wanted), full.loss(found, wanted) - bare
    )
    assert without.outputs == full.outputs - len(PLACES[name])
    assert name not in {head.name for head in without.heads}


def test_without_heads_it_is_a_plain_classifier() -> None:
    task = build(auxiliary=0.0)
    assert (task.outputs, task.heads) == (1, ())
    assert task.measures(said(task), shown()) == {}


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_classes_weigh_as_they_are_told(loss: str) -> None:
    columns = table()
    plain, weighed = (
        build(auxiliary=0.0, loss=loss, class_weights=kind) for kind in ("none", "balanced")
    )
    found, wanted = said(plain), plain.targets(shown())
    cancer = columns["labels.cancer"] == 1
    own = [
        plain.loss(Output(found.logits[rows]), wanted[rows])
        for rows in (torch.from_numpy(~cancer), torch.from_numpy(cancer))
    ]
    torch.testing.assert_close(weighed.loss(found, wanted), (own[0] + own[1]) / 2)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99, 0.9999])
def test_weights_by_effective_number_are_those_of_the_paper(beta: float) -> None:
    counts = np.array([9000, 700, 13, 1])
    found = losses.class_weights(counts, "effective", beta).double()
    # E_n is a geometric series: the sum of beta^i over n samples
    series = [sum(beta**i for i in range(n)) for n in counts.tolist()]
    paper = torch.tensor([1 / each for each in series], dtype=torch.float64)
    torch.testing.assert_close(found / found.sum(), paper / paper.sum(), rtol=1e-5, atol=0)
    assert float((found * torch.tensor(counts)).sum() / counts.sum()) == pytest.approx(1, rel=1e-5)


def test_effective_weights_lie_between_none_and_balanced() -> None:
    counts = np.array([980, 20])
    none, balanced = (losses.class_weights(counts, kind) for kind in ("none", "balanced"))
    torch.testing.assert_close(losses.class_weights(counts, "effective", 0.0), none)
    torch.testing.assert_close(
        losses.class_weights(counts, "effective", 1 - 1e-9), balanced, rtol=1e-4, atol=0
    )
    ratio = [
        float(w[1] / w[0])
        for w in (losses.class_weights(counts, "effective", b) for b in (0.9, 0.99, 0.999))
    ]
    assert 1 < ratio[0] < ratio[1] < ratio[2] < 49


def test_a_class_without_samples_weighs_nothing_and_spoils_nothing() -> None:
    for kind in ("balanced", "effective"):
        found = losses.class_weights(np.array([5, 0, 5]), kind)
        torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 1.0]))
    assert losses.class_weights(np.array([0, 0]), "balanced").tolist() == [1, 1]


def test_focal_of_many_classes_is_that_of_two_and_without_gamma_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 1, generator=generator)
    targets = (torch.rand(50, generator=generator) < 0.5).long()
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(
        losses.focal_cross_entropy(both, targets, 2.0),
        losses.focal(logits[:, 0], targets.float(), 2.0),
    )
    many = torch.randn(50, 5, generator=generator)
    classes = torch.randint(0, 5, (50,), generator=generator)
    torch.testing.assert_close(
        losses.focal_cross_entropy(many, classes, 0.0), losses.cross_entropy(many, classes)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_smoothed_focal_of_many_classes_is_its_closed_form(gamma: float, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(60, 4, generator=generator, dtype=torch.float64)
    classes = torch.randint(0, 4, (60,), generator=generator)
    wanted = functional.one_hot(classes, 4) * (1 - smoothing) + smoothing / 4
    share = logits.softmax(1)
    right = (wanted * share).sum(1)
    expected = (1 - right) ** gamma * -(wanted * share.log()).sum(1)
    found = losses.focal_cross_entropy(logits, classes, gamma, smoothing)
    torch.testing.assert_close(found, expected)


def test_smoothed_focal_of_two_columns_is_that_of_one_logit() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 1, generator=generator)
    targets = (torch.rand(50, generator=generator) < 0.5).long()
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(
        losses.focal_cross_entropy(both, targets, 2.0, 0.2),
        losses.focal(logits[:, 0], losses.smoothed(targets.float(), 0.2), 2.0),
    )


def three(**options: Any) -> classify.Classify:
    columns = {"label": column([0] * 300 + [1] * 90 + [2] * 10)}
    config = classify.Config(**options)
    return classify.build(config, columns, ("normal", "benign", "cancer"), np.arange(400))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", losses.WEIGHTS)
def test_classify_takes_every_loss_and_weight_with_any_number_of_classes(
    kind: str, smoothing: float
) -> None:
    task = three(loss="focal", gamma=1.5, class_weights=kind, beta=0.99, smoothing=smoothing)
    logits = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    classes = torch.from_numpy(task.classes)
    each = losses.focal_cross_entropy(logits, classes, 1.5, smoothing)
    counts = [300, 90, 10]
    number = {"none": [1, 1, 1], "balanced": counts,
              "effective": [sum(0.99**i for i in range(n)) for n in counts]}[kind]  # fmt: skip
    weights = 1 / torch.tensor(number).double()
    weights = (weights * 400 / (weights * torch.tensor(counts)).sum()).float()
    torch.testing.assert_close(task.weights, weights)
    expected = (each * weights[classes]).mean()
    torch.testing.assert_close(task.loss(Output(logits), classes), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_of_a_sure_model_has_a_gradient_that_is_a_number(gamma: float) -> None:
    for smoothing in (0.0, 0.1):
        logits = torch.tensor([[100.0, 0, 0], [0, 100.0, 0]], requires_grad=True)
        targets = torch.tensor([0, 0])
        losses.focal_cross_entropy(logits, targets, gamma, smoothing).sum().backward()
        assert logits.grad.isfinite().all()


# Undersampling


def pool(counts: tuple[int, ...] = (50, 7, 20)) -> Pool:
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(labels))
    return Pool(rows, rows % 4, labels, rows // 3)


def test_an_undersampled_epoch_has_as_many_of_each_class_as_the_rarest_has() -> None:
    for epoch in range(5):
        rows = order.epoch_order(pool(), order.sampling("undersampled"), seed=0, epoch=epoch)
        assert np.bincount(pool().labels[rows]).tolist() == [7, 7, 7]
        assert set(range(50, 57)) <= set(rows.tolist())


def test_undersampling_passes_by_all_samples_before_one_is_seen_again() -> None:
    how, some = order.sampling("undersampled"), pool((70, 7))
    epochs = [order.epoch_order(some, how, seed=3, epoch=epoch) for epoch in range(10)]
    frequent = np.concatenate([rows[some.labels[rows] == 0] for rows in epochs])
    assert sorted(frequent.tolist()) == list(range(70))
    assert not np.array_equal(np.sort(epochs[0]), np.sort(epochs[1]))
    again = order.epoch_order(some, how, seed=3, epoch=4)
    assert np.array_equal(again, epochs[4])
    assert not np.array_equal(order.epoch_order(some, how, seed=4, epoch=4), again)


def test_undersampling_needs_labels_and_says_so() -> None:
    some = pool()
    unknown = Pool(some.rows, some.shards, np.where(some.rows == 3, -1, some.labels), some.groups)
    with pytest.raises(ConfigError, match="needs labels"):
        order.epoch_order(unknown, order.sampling("undersampled"), seed=0, epoch=0)
    with pytest.raises(ConfigError, match="natural, balanced, undersampled, per-patient"):
        order.sampling("undersample")


# What is known of whom


def test_birads_is_learned_at_site_one_alone_by_default() -> None:
    columns = table()
    targets = build().targets(shown())[:, 5]
    assert (~targets.isnan().numpy() == known(columns, "birads")).all()
    everywhere = build(birads_sites=()).targets(shown())[:, 5]
    there = np.array([value is not None for value in columns["labels.birads"]])
    assert (~everywhere.isnan().numpy() == there).all()
    assert there.sum() > known(columns, "birads").sum()


def test_a_categorys_letter_does_not_matter_and_other_texts_are_unknown() -> None:
    columns = {"labels.birads": column(["4a", "4B", 4, "x", "", None, "9"]),
               "labels.density": column(["a", "D", "E", "AB", 1, None, "C"]),
               "labels.age": column([60.0, 70, "61", float("nan"), None, True, 30.0]),
               "labels.biopsy": column([0, 1, 2, True, "1", None, 0.0])}  # fmt: skip
    nan = float("nan")
    for name, expected in {
        "birads": [4, 4, 4, nan, nan, nan, nan],
        "density": [0, 3, nan, nan, nan, nan, 2],
        "biopsy": [0, 1, nan, 1, nan, nan, 0],
    }.items():
        np.testing.assert_array_equal(_heads.values_of(name, columns, 7), expected)
    age = _heads.values_of("age", columns, 7)
    np.testing.assert_allclose(age[[0, 1, 6]], [0, 1, -3])
    assert np.isnan(age[[2, 3, 4]]).all()


def test_a_head_whose_label_nobody_has_is_refused_with_the_way_out() -> None:
    columns = table()
    columns["labels.density"] = column([None] * COUNT)
    with pytest.raises(ConfigError, match=r"--set task\.density=0"):
        build(columns)
    columns["labels.density"] = table()["labels.density"]
    columns["labels.site_id"] = column([2] * COUNT)
    with pytest.raises(ConfigError, match=r"of site 1 .*--set task\.birads=0"):
        build(columns)
    del columns["labels.site_id"], columns["labels.birads"]
    with pytest.raises(ConfigError, match=r"--set task\.birads=0"):
        build(columns)


def test_a_finished_model_is_asked_about_samples_of_which_nothing_is_known() -> None:
    bare = {"label": column([0, 1]), "labels.cancer": column([None, 1])}
    task = screen.build(screen.Config(**ALL), bare, NAMES, np.zeros(0, np.int64))
    assert task.outputs == build().outputs
    pair = Shown(torch.zeros(2, 1, 1, 1), None, np.arange(2))
    measured = task.measures(Output(torch.zeros(2, task.outputs)), pair)
    assert all((found == 0).all() for found in measured.values())


def test_more_than_two_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="classify takes more"):
        screen.build(screen.Config(target="label"), table(), ("a", "b", "c"), np.arange(COUNT))


# Scores and measures


def test_no_score_looks_at_an_auxiliary_column() -> None:
    task = build()
    found = said(task)
    other = found.logits.detach().clone()
    other[:, 1:] = torch.randn(COUNT, task.outputs - 1) * 50
    given = shown()
    assert torch.equal(task.scores(found, given), task.scores(Output(other), given))
    torch.testing.assert_close(task.scores(found, given)[:, 1], found.logits[:, 0].sigmoid())


def test_the_model_is_told_nothing_besides_the_picture() -> None:
    assert build().conditions(np.arange(COUNT)) is None


def test_measures_are_those_of_scikit_learn_on_the_known_labels() -> None:
    columns, task = table(), build()
    found = said(task)
    logits = found.logits.detach()
    measured = {k: float((v[:, 0].sum() / v[:, 1].sum()).detach())
                for k, v in task.measures(found, shown()).items()}  # fmt: skip
    assert set(measured) == {
        "age_error", "density_accuracy", "biopsy_loss", "invasive_loss", "birads_accuracy",
    }  # fmt: skip
    there = known(columns, "age")
    years = 60 + 10 * logits[:, 1].numpy()
    expected = mean_absolute_error(columns["labels.age"][there].astype(float), years[there])
    assert measured["age_error"] == pytest.approx(expected, rel=1e-5)
    there = known(columns, "density")
    guess = np.array(list("ABCD"))[logits[:, 2:6].argmax(1).numpy()]
    expected = accuracy_score(columns["labels.density"][there].astype(str), guess[there])
    assert measured["density_accuracy"] == pytest.approx(expected, rel=1e-5)
    there = known(columns, "biopsy")
    truth = columns["labels.biopsy"][there].astype(int)
    expected = log_loss(truth, logits[:, 6].sigmoid().double().numpy()[there])
    assert measured["biopsy_loss"] == pytest.approx(expected, rel=1e-5)


def test_heads_help_a_model_to_learn_what_they_say() -> None:
    """Two numbers of a picture, one for the cancer and one for the age: both are found."""
    rng = np.random.default_rng(0)
    cancer = rng.random(COUNT) < 0.5
    age = rng.uniform(40, 80, COUNT)
    columns = table()
    columns["labels.cancer"] = column([int(value) for value in cancer])
    columns["labels.age"] = column([value if row % 3 else None for row, value in enumerate(age)])
    task = build(columns, age=0.5, density=0.0, biopsy=0.0, invasive=0.0, birads=0.0)
    pictures = torch.tensor(np.stack([cancer, (age - 60) / 10], 1)).float()
    torch.manual_seed(0)
    model = nn.Linear(2, task.outputs)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    given = shown()
    for _ in range(300):
        optimiser.zero_grad()
        task.loss(Output(model(pictures)), task.targets(given)).backward()
        optimiser.step()
    output = Output(model(pictures).detach())
    assert ((task.scores(output, given)[:, 1] > 0.5).numpy() == cancer).all()
    unknown = np.array([value is None for value in columns["labels.age"]])
    years = 60 + 10 * output.logits[:, 1].numpy()
    assert np.abs(years - age)[unknown].mean() < 1  # also of those who never taught it


# A whole run


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("screening")
    mammoprep.phantom("rsna", home / "raw", patients=20, seed=4, size_scale=0.05, prevalence=0.5)
    mammoprep.build(
        source="rsna", input=home / "raw", out=home / "shards", size="32x64", folds=4, workers=1
    )
    return home / "shards"


SMALL = (
    "data.size=[32, 64]", "model.variant=resnet10t", "train.batch_size=8", "train.epochs=1",
    "data.workers=1", "train.pretrained=none", "train.amp=none", "train.ema=0",
)  # fmt: skip


@pytest.mark.slow
def test_a_run_of_the_recipe_reports_what_the_heads_come_to(shards: Path, tmp_path: Path) -> None:
    found = configs.load("resnext", SMALL)
    report = run(Request(found, (str(shards),), tmp_path / "run", device="cpu"), Watcher())
    assert {"age_error", "density_accuracy", "biopsy_loss", "invasive_loss", "birads_accuracy"} == (
        set(report["measures"])
    )
    assert 0 < report["measures"]["age_error"]["value"] < 100
    assert scores.read(tmp_path / "run" / "scores.csv").names == ("not_cancer", "cancer")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["measures"]


ABLATED = configs.load("resnext").ablate
OTHERS = {"focal": ("task.loss=focal",), "undersampled": ("data.sampling=undersampled",)}


def test_the_recipe_can_leave_out_each_of_its_ingredients() -> None:
    assert {"no-heads", "no-weights", "no-augmentation"} <= set(ABLATED)


@pytest.mark.parametrize("changes", [*ABLATED.values(), *OTHERS.values()], ids=" ".join)
def test_without_an_ingredient_it_runs(
    changes: tuple[str, ...], shards: Path, tmp_path: Path
) -> None:
    found = configs.load("resnext", (*SMALL, "train.max_steps=1", *changes))
    assert found != configs.load("resnext", (*SMALL, "train.max_steps=1"))
    report = run(Request(found, (str(shards),), tmp_path / "run", device="cpu"), Watcher())
    assert bool(report["measures"]) == ("task.auxiliary=0" not in changes)
