"""Models that say the same of every picture, or nothing that it tells, expose themselves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scored import make, small
from sklearn.metrics import roc_auc_score
from torch import nn

import mammoprep
from mammotrain import collapse, config, distributed, evaluate, finished, priors, setup, summary
from mammotrain.config import RunConfig
from mammotrain.data.splits import Side
from mammotrain.evaluate import Terms
from mammotrain.report import assemble, page, tables
from mammotrain.report.assemble import About
from mammotrain.run import Request, run
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged
from mammotrain.trainer import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")
COUNT = 300


class Telling(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def by_logits(table: Scores, logits: np.ndarray) -> Scores:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return table.with_values(odds / odds.sum(axis=1, keepdims=True))


def noise(table: Scores, spread: float, lead: float = 0.0, seed: int = 3) -> Scores:
    """Return scores that know nothing; the first class is ahead by ``lead``."""
    logits = np.random.default_rng(seed).normal(0, spread, (len(table), len(table.names)))
    logits[:, 0] += lead
    return by_logits(table, logits)


# --- the rule


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_healthy_classifier_is_not_flagged(classes: int) -> None:
    for seed in range(5):
        for prevalence in (0.1, 0.5):
            found = collapse.of_scores(make(1500, 300, prevalence, classes, seed))
            assert found.kind is None, found
            assert found.reason == ""


def test_a_healthy_detector_of_something_rare_says_one_class_and_is_not_flagged() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(2000) < 0.02).astype(int)
    score = 1 / (1 + np.exp(-rng.normal(-4 + 1.5 * label, 1.0)))
    table = small(label.tolist(), score.tolist())
    found = collapse.of_scores(table, np.zeros(2000, np.int64))
    assert found.share > 0.98
    assert found.kind is None


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("spread", [0.0, 1e-8, 1e-3])
def test_constant_probabilities_are_flagged_whatever_they_are(classes: int, spread: float) -> None:
    for lead in (-6.0, 0.0, 3.0, 40.0):
        found = collapse.of_scores(noise(make(classes=classes), spread, lead))
        assert found.kind == "constant"
        assert "the same probabilities" in found.reason
    assert collapse.of_scores(noise(make(classes=classes), 0.2)).kind != "constant"


def test_a_correction_for_the_prevalence_hides_no_constant_and_makes_none() -> None:
    prior = priors.Prior((0.5, 0.5), (0.999, 0.001))
    for spread, kind in ((1e-3, "constant"), (0.2, None)):
        table = noise(make(), spread)
        corrected = priors.corrected(table, prior)
        assert (collapse.of_scores(corrected).kind == "constant") == (kind == "constant")


def test_one_class_of_three_always_is_flagged_for_all_its_accuracy() -> None:
    rng = np.random.default_rng(1)
    table = make(900, 300, classes=3)
    label = rng.choice(3, 900, p=[0.47, 0.33, 0.20]).astype(np.int64)
    table = noise(replace(table, label=label), 0.3, lead=3.0)
    assert (table.values.argmax(1) == table.label).mean() == pytest.approx(0.47, abs=0.03)
    found = collapse.of_scores(table)
    assert found.kind == "one-class"
    assert "says a of 100 % of the samples" in found.reason
    assert "no better than chance" in found.reason


def test_one_decision_at_the_threshold_counts_too() -> None:
    table = noise(make(seed=5), 0.5)
    said = np.ones(len(table), np.int64)
    assert collapse.of_scores(table, said).kind == "one-class"
    assert "says cancer" in collapse.of_scores(table, said).reason
    assert collapse.of_scores(table).kind == "untrained"


def test_one_class_always_with_an_order_that_is_right_is_not_flagged() -> None:
    table = make(seed=2)
    odds = np.log(table.values / (1 - table.values)) + np.array([40.0, 0.0])
    assert collapse.of_scores(by_logits(table, odds)).share == 1
    assert collapse.of_scores(by_logits(table, odds)).kind is None


def test_an_order_that_is_wrong_is_no_better_than_chance() -> None:
    table = make(seed=2)
    assert collapse.of_scores(table.with_values(table.values[:, ::-1])).kind == "untrained"


def test_patients_are_counted_and_not_images() -> None:
    """A hundred images of six patients each: what is above chance by images is not by patients."""
    rng = np.random.default_rng(4)
    label = np.repeat([0, 1], 600)
    group = [f"g{place // 100}" for place in range(1200)]
    score = 1 / (1 + np.exp(-rng.normal(0.3 * label - 8, 1.0)))
    alone = small(label.tolist(), score.tolist())
    together = small(label.tolist(), score.tolist(), group=group)
    assert collapse.of_scores(alone).kind is None
    assert collapse.of_scores(together).kind == "one-class"


def test_where_too_few_patients_tell_nothing_chance_is_not_looked_at() -> None:
    table = small([0, 1, 0, 1, 0, 1], [0.9, 0.1, 0.8, 0.2, 0.7, 0.3])
    assert collapse.of_scores(table).kind is None
    assert collapse.of_scores(table.with_values(np.full((6, 2), 0.5))).kind == "constant"
    assert collapse.of_scores(small([0], [0.5])).kind is None
    assert collapse.of_scores(small([-1, -1], [0.5, 0.5])).kind is None


def test_samples_without_a_label_have_no_part_in_it() -> None:
    table = make()
    label = np.where(np.arange(len(table)) < 200, table.label, -1)
    values = np.where(label[:, None] < 0, table.values, 0.5)
    found = collapse.of_scores(replace(table, label=label, values=values), table.label)
    assert found.kind == "constant"
    assert "all 200 samples" in found.reason


def test_an_auroc_by_chance_strays_by_as_much_as_is_said() -> None:
    rng = np.random.default_rng(0)
    label = [0] * 40 + [1] * 15
    found = [roc_auc_score(label, rng.random(55)) for _ in range(1000)]
    assert collapse.error_by_chance(small(label, [0.5] * 55)) == pytest.approx(
        np.std(found), rel=0.05
    )


@pytest.mark.parametrize(
    ("measured", "kind", "text"),
    [
        ({"collapsed": 0.95, "dice": 0.1}, "masks", "in 95 % of the images with a lesion"),
        ({"collapsed": 0.95, "squared_error_cancer": 0.1}, "pictures", "95 % of the pictures"),
        ({"collapsed": 0.5, "dice": 0.4}, None, ""),
        ({"collapsed": float("nan"), "dice": 0.4}, None, ""),
    ],
)
def test_tasks_that_look_at_pictures_say_it_themselves(
    measured: dict[str, float], kind: str | None, text: str
) -> None:
    found = collapse.of_measures(measured)
    assert found.kind == kind
    assert text in found.reason
    json.dumps(found.to_json(), allow_nan=False)
    assert collapse.of_measures({"age_error": 3.0}) is None


# --- where it is said


def reported(table: Scores) -> dict[str, Any]:
    about = About("efficientnet", "demo", "fold0", draws=20)
    return assemble.assemble(Judged(table, make(seed=8)), about)


def test_the_report_begins_with_it_and_the_last_lines_of_the_command_have_it(
    tmp_path: Path,
) -> None:
    table = noise(make(), 0.0, lead=1.0)
    found = reported(table)
    assert found["collapsed"]["found"] is True
    assert found["collapsed"]["kind"] == "constant"
    sentence = found["collapsed"]["reason"]
    assert tables.alarms(found)[0] == sentence
    html = page.render(found, [], table, lambda key: None)
    assert html.index(sentence[:60]) < html.index("<h2>Scores</h2>")
    assert summary.summary(found, tmp_path).splitlines()[1] == sentence
    good = reported(make())
    assert good["collapsed"] == {
        "found": False, "kind": None, "reason": "",
        "spread": good["collapsed"]["spread"], "share": good["collapsed"]["share"],
    }  # fmt: skip
    assert not any("collapsed" in line for line in tables.alarms(good))
    assert "collapsed" not in summary.summary(good, tmp_path)


def test_training_says_it_when_a_validation_begins_to_show_it() -> None:
    told = Telling()
    warner = collapse.Warner(told.warn)
    healthy, flat, idle = make(), noise(make(), 0.0), noise(make(seed=5), 0.5)
    for table in (healthy, flat, flat, healthy, flat, idle):
        warner.look(table, {})
    words = ("same probabilities", "not collapsed any more", "untrained")
    kinds = [next(word for word in words if word in line) for line in told.lines]
    assert kinds == [words[0], words[1], words[0], words[2]]
    warner.look(flat, {"collapsed": np.ones((3, 2)), "dice": np.ones((3, 2))})
    assert "all background or all lesion" in told.lines[-1]


# --- networks


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, of noise with a bright blob, with a dark one, with none; read only."""
    home = tmp_path_factory.mktemp("blobs")
    (home / "images").mkdir()
    rng = np.random.default_rng(0)
    classes = np.arange(COUNT) % 3
    rows, columns = np.mgrid[:64, :64]
    for place, height in enumerate(np.array([0.0, 90.0, -90.0])[classes]):
        top, left = rng.uniform(16, 48, 2)
        blob = np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / (2 * 6**2))
        grey = 128 + 12 * rng.normal(size=(64, 64)) + height * blob
        cv2.imwrite(str(home / "images" / f"{place:03d}.png"), grey.clip(0, 255).astype(np.uint8))
    for name, known in (("right", classes), ("shuffled", rng.permutation(classes))):
        lines = [f"{place:03d}.png,p{place},{'abc'[known[place]]}" for place in range(COUNT)]
        (home / f"{name}.csv").write_text("\n".join(["path,patient_id,label", *lines]))
        mammoprep.build(
            source="table", input=home / "images", table=home / f"{name}.csv", out=home / name,
            size="64x64", crop="none", orient="none", folds=3, label_names="a,b,c", workers=1,
        )  # fmt: skip
    return home


def asked(*more: str) -> RunConfig:
    return config.load("deq", (
        "task.target=label", "model.width=8", "model.groups=4", "data.size=[32, 32]",
        "data.workers=1", "train.batch_size=8", "train.lr=3e-3", "train.epochs=4",
        "train.validate=next-fold", *more,
    ))  # fmt: skip


def normed() -> RunConfig:
    """A network with batch norm, whose statistics only training finds."""
    return config.load("densenet", (
        "data.size=[32, 32]", "data.workers=1", "train.pretrained=none", "train.amp=none",
        "data.sampling=natural", "data.augmentation={}",
    ))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made_by", "shards", "head", "kinds"),
    [
        (asked, "right", "zeroed", {"constant"}),
        (normed, "right", "as it begins", {"constant", "one-class"}),
        (asked, "shuffled", "as it begins", {"one-class", "untrained"}),
    ],
)
def test_a_network_that_never_learned_is_exposed(
    home: Path, made_by: Callable[[], RunConfig], shards: str, head: str, kinds: set[str]
) -> None:
    with distributed.joined("cpu") as world:
        table = setup.open_shards(made_by(), (str(home / shards),))
        made = setup.prepare(made_by(), table, Side(), world)
        model = made.model()
        if head == "zeroed":
            last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
            nn.init.zeros_(last.weight)
        scored = evaluate.score(made, model, made.roles.score)
    found = evaluate.summed_up(made, Judged(scored.scores), scored.measures, {}, Terms("x"))
    assert found["collapsed"]["kind"] in kinds, found["collapsed"]


@pytest.mark.slow
def test_a_network_that_learned_from_shuffled_labels_is_exposed_and_a_healthy_one_is_not(
    home: Path, tmp_path: Path
) -> None:
    for name, healthy in (("right", True), ("shuffled", False)):
        told = Telling()
        report = run(Request(asked(), (str(home / name),), tmp_path / name, device="cpu"), told)
        assert report["collapsed"]["found"] != healthy, report["collapsed"]
        assert (report["metrics"]["macro_auroc"]["value"] > 0.9) == healthy
        if not healthy:
            assert any(line.startswith("Validation: The model") for line in told.lines)
        written = json.loads((tmp_path / name / "report.json").read_text())
        assert written["collapsed"] == report["collapsed"]
    assert finished.open_run(tmp_path / "right").report["collapsed"]["kind"] is None
