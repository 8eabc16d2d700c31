import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scored import make, small
from sklearn.metrics import f1_score

from mammoprep.core.errors import ConfigError
from mammotrain import bootstrap, metrics, priors, scores, summary
from mammotrain.priors import Prior
from mammotrain.report import assemble, page, pictures, plots, training
from mammotrain.report.assemble import About
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged

ABOUT = About("deq", "demo", "fold0", draws=40)
VOID = {"meta", "img", "br", "hr", "link", "input"}


def log(steps: int = 30) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        rows.append({
            "step": step, "epoch": 0, "lr": 1e-3, "images_per_second": 40.0 + step % 3,
            "data_wait": 0.01, "loss": 1 / step, "loss_hex": (1 / step).hex(),
            "solver_steps": 8.0 + step % 2, "solver_residual": 10.0 ** -(step % 4),
            "adjoint_steps": float("nan"),
        })  # fmt: skip
    rows.append({"step": steps, "epoch": 1, "best": True,
                 "validation": {"auroc": 0.8, "f1": float("nan"), "loss": 0.5}})  # fmt: skip
    return rows


def picture(key: str) -> np.ndarray:
    grey = np.linspace(0, 255, 64 * 48).reshape(64, 48)
    return np.roll(grey, len(key)).astype(np.uint8)


def report(table: Scores, **changes: Any) -> dict[str, Any]:
    validation = make(seed=8, classes=len(table.names))
    others = {
        "majority": Judged(
            table.with_values(np.tile(np.bincount(table.label) / len(table), (len(table), 1)))
        ),
        "shortcut": Judged(make_noise(table), validation),
        "metadata": "the table holds nothing for it",
    }
    about = changes.pop("about", ABOUT)
    parts = {"view": table.view, "density": np.where(table.view == "CC", "A", "unknown")}
    return assemble.assemble(changes.pop("judged", Judged(table, validation)), about, others, parts)


def make_noise(table: Scores) -> Scores:
    values = np.random.default_rng(3).random((len(table), len(table.names)))
    return table.with_values(values / values.sum(axis=1, keepdims=True))


def rendered(table: Scores, **changes: Any) -> str:
    return page.render(report(table, **changes), log(), table, picture)


def test_the_report_has_what_the_contract_names() -> None:
    found = report(make())
    wanted = {
        "recipe", "data", "split", "n", "groups", "prevalence", "threshold", "metrics",
        "baselines", "slices",
    }  # fmt: skip
    assert wanted <= set(found)
    assert tuple(found["metrics"]) == metrics.BINARY
    assert set(found["metrics"]["auroc"]) == {"value", "ci95", "level"}
    assert found["metrics"]["auroc"]["level"] == "image"
    assert set(found["baselines"]) == {"majority", "shortcut", "metadata"}
    assert found["levels"]["breast"]["metrics"]["pf1"]["level"] == "breast"
    assert set(found["slices"]["view"]) == {"CC", "MLO"}


def test_the_figures_are_those_of_the_bootstrap() -> None:
    table = make()
    found = report(table)
    wanted = bootstrap.evaluate(Judged(table, make(seed=8)), 40)
    for name, estimate in wanted.items():
        assert found["metrics"][name]["value"] == pytest.approx(estimate.value, abs=1e-6)
        if estimate.low is not None:
            ends = [estimate.low, estimate.high]
            assert found["metrics"][name]["ci95"] == pytest.approx(ends, abs=1e-6)
    assert found["prevalence"] == pytest.approx(table.label.mean(), abs=1e-6)
    assert found["groups"] == len(np.unique(table.group))
    assert np.sum(found["confusion"]) == len(table)


def test_a_slice_has_the_scores_of_its_rows_alone() -> None:
    table = make()
    inside = table.take(table.view == "CC")
    wanted = metrics.point(inside.label, inside.values, None)["auroc"]
    assert report(table)["slices"]["view"]["CC"]["metrics"]["auroc"]["value"] == pytest.approx(
        wanted, abs=1e-6
    )


def test_the_majority_says_one_class_and_has_an_auroc_of_one_half() -> None:
    found = report(make(prevalence=0.3))["baselines"]["majority"]
    assert found["metrics"]["auroc"]["value"] == 0.5
    assert found["metrics"]["sensitivity"]["value"] == 0
    assert found["metrics"]["specificity"]["value"] == 1
    assert found["gain"]["auroc"]["difference"] > 0


def test_the_json_is_strict_and_null_has_a_reason(tmp_path: Path) -> None:
    table = small([1, 0, 0], [0.9, 0.2, 0.1])
    found = report(table, judged=Judged(table))
    assemble.write(tmp_path / "report.json", found)
    text = (tmp_path / "report.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == found
    for level in (found, *(found["levels"][name] for name in ("breast", "patient"))):
        for estimate in level["metrics"].values():
            missing = estimate["value"] is None or estimate["ci95"] is None
            assert missing == bool(estimate.get("reason"))
    assert found["threshold"] is None
    assert "no validation" in found["threshold_reason"]
    assert not list(tmp_path.glob("*.partial"))


def test_a_number_that_json_does_not_know_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        assemble.write(tmp_path / "report.json", {"auroc": float("nan")})
    assert not (tmp_path / "report.json").exists()


def test_a_level_that_does_not_exist_says_why() -> None:
    table = small([1, 0] * 8, [0.9, 0.2] * 8, laterality=[""] * 16)
    found = report(table)
    assert found["levels"]["breast"] == {
        "n": None,
        "reason": "16 of 16 images have no laterality",
    }
    assert found["levels"]["patient"]["n"] == 16


def test_figures_are_of_corrected_probabilities_and_the_file_has_both(tmp_path: Path) -> None:
    prior = Prior((0.5, 0.5), (0.9, 0.1))
    table, validation = (priors.corrected(make(seed=seed), prior) for seed in (0, 8))
    about = About("deq", "demo", "fold0", prior, draws=10)
    found = assemble.assemble(Judged(table, validation), about)
    by_hand = [part.with_values(priors.correct(part.given, prior)) for part in (table, validation)]
    wanted = bootstrap.evaluate(Judged(*by_hand), 10)
    plain = assemble.assemble(Judged(make(), make(seed=8)), ABOUT)
    for name in ("brier", "f1", "pf1", "auroc"):
        assert found["metrics"][name]["value"] == pytest.approx(wanted[name].value, abs=1e-6)
    assert found["metrics"]["auroc"]["value"] == plain["metrics"]["auroc"]["value"]
    assert found["metrics"]["brier"]["value"] != plain["metrics"]["brier"]["value"]
    assert assemble.prior_of(found) == prior
    scores.write(tmp_path / "scores.csv", table)
    read = scores.read(tmp_path / "scores.csv")
    np.testing.assert_array_equal(read.given, make().values)
    np.testing.assert_array_equal(read.values, table.values)


def test_the_page_says_by_which_rule_the_threshold_was_chosen() -> None:
    table, validation = make(), make(seed=8)
    rules = {
        "the highest F1 on the validation": Judged(table, validation),
        "a specificity of 95 % on the validation": Judged(table, validation, specificity=0.95),
        "as it was chosen by the run on the validation": Judged(
            table, fixed=0.3, fixed_above={"breast": 0.3}
        ),
    }
    for rule, judged in rules.items():
        found = assemble.assemble(judged, ABOUT)
        html = page.render(found, [], table, picture)
        assert [each for each in rules if each in html] == [rule]
        assert found["levels"]["breast"]["threshold_rule"] in rule
    folded = scores.join({
        "fold0": table.take(np.arange(200)), "fold1": table.take(np.arange(200, 400))
    })  # fmt: skip
    own = {"fold0": 0.3, "fold1": 0.4}
    found = assemble.assemble(Judged(folded, fixed=own, specificity=0.9), ABOUT)
    html = page.render(found, [], folded, picture)
    assert "a specificity of 90 % on each fold&#39;s own validation samples: 0.300 for" in html


def test_what_a_figure_is_of_stands_beside_it() -> None:
    html = rendered(make())
    assert "<small>400 images of 90 groups</small>" in html
    assert re.search(r"<small>\d+ breasts of 90 groups</small>", html)
    assert "A breast has the mean of its views" in html
    assert "image by image" not in html
    by_breast = rendered(make(), about=About("deq", "rsna", "fold0", first="breast", draws=40))
    assert "image by image: the figures at the top are by breast" in by_breast
    table = small([1, 0] * 8, [0.9, 0.2] * 8, laterality=[""] * 16)
    assert "A breast has" not in page.render(report(table), [], table, picture)


@pytest.mark.parametrize(("rows", "columns"), [(128, 64), (20, 20), (300, 100), (60, 200)])
def test_a_picture_fills_its_tile_whatever_its_size(rows: int, columns: int) -> None:
    _, width, height, zoomed = pictures.thumbnail(np.zeros((rows, columns), np.uint8))
    assert height == pictures.HEIGHT or width == pictures.WIDTH
    assert height <= pictures.HEIGHT
    assert width <= pictures.WIDTH
    assert width / height == pytest.approx(columns / rows, rel=0.02)
    assert zoomed == (rows == 20)


def test_the_widest_tick_ends_before_the_name_of_its_axis() -> None:
    below, gap = 3, 7  # pixels that letters reach below their line; between a tick and the axis
    for low, high in ((0, 1), (0, 0.0093), (-0.009, 0.009), (0.00123, 0.00124), (-1e6, 1e6)):
        plot = plots.draw("", plots.Axis(0, 1, ""), plots.Axis(low, high, ""), [])
        widest = max(len(text) for _, text in plot.y_ticks)
        assert 12 <= plot.y_name <= plot.left - gap - plots.GLYPH * widest - below, (low, high)


def test_folds_have_a_threshold_each() -> None:
    table = make()
    folded = scores.join({
        "fold0": table.take(np.arange(200)), "fold1": table.take(np.arange(200, 400))
    })  # fmt: skip
    own = {"fold0": 0.3, "fold1": 0.6}
    found = assemble.assemble(Judged(folded, fixed=own), ABOUT)
    assert found["threshold"] == own
    said = folded.values[:, 1] >= np.where(folded.fold == "fold0", 0.3, 0.6)
    assert found["metrics"]["f1"]["value"] == pytest.approx(f1_score(folded.label, said), abs=1e-6)
    assert found["folds"]["fold1"]["f1"] == pytest.approx(
        f1_score(folded.label[200:], said[200:]), abs=1e-6
    )
    assert "fold1" in page.render(found, [], folded, picture)


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no sample has a label"):
        assemble.assemble(Judged(small([-1], [0.5])), ABOUT)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_page_is_whole_and_asks_for_nothing(classes: int) -> None:
    html = rendered(make(classes=classes, prevalence=0.6))
    assert "<script" not in html
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", html)
    assert not re.findall(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html
    Balanced().feed(html)


class Balanced(HTMLParser):
    """Fails where tags do not nest, or two elements share an id."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.stack.append(tag)
        name = dict(attrs).get("id")
        assert name is None or name not in self.ids
        self.ids |= {name} if name else set()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_the_page_is_the_same_every_time() -> None:
    assert rendered(make()) == rendered(make())


def test_the_page_shows_the_figures_curves_and_pictures() -> None:
    html = rendered(make())
    found = report(make())
    assert f"{found['metrics']['auroc']['value']:.3f}" in html
    for title in (
        "ROC", "Precision and recall", "Calibration", "Scores by class", "Loss", "Solver steps",
        "Solver residual", "Worst: cancer", "Best: negative", "Density",
    ):  # fmt: skip
        assert f"<h3>{title}</h3>" in html, title
    assert "Adjoint steps" not in html  # nothing but NaN
    assert html.count("data:image/jpeg;base64,") == 4 * pictures.EACH
    # Counts of the confusion matrix are there, by class.
    for row in found["confusion"]:
        for count in row:
            assert f"{count:,}<small>" in html


def test_names_cannot_break_the_page() -> None:
    table = make()
    nasty = Scores(
        table.key, table.group, table.laterality, table.view, table.label, table.values,
        ("<script>alert(1)</script>", "a\u202eb\"'"),
    )  # fmt: skip
    about = About("<b>", "d&d", "fold0", draws=10)
    html = page.render(assemble.assemble(Judged(nasty), about), [], nasty, picture)
    assert "<script" not in html
    assert "\u202e" not in html
    assert "d&amp;d" in html
    Balanced().feed(html)


def test_a_run_that_is_no_better_than_grey_level_is_told_so() -> None:
    table = make()
    noise = make_noise(table)
    others = {"shortcut": Judged(table)}
    html = page.render(assemble.assemble(Judged(noise), ABOUT, others), [], noise, picture)
    assert "Not shown to be better than a baseline" in html
    assert "Chance is not ruled out" in html
    good = page.render(
        assemble.assemble(Judged(table), ABOUT, {"shortcut": Judged(noise)}), [], table, picture
    )
    assert "Not shown" not in good
    assert "Chance is not" not in good


@pytest.mark.parametrize(
    "table", [small([0], [0.5]), small([1, 0], [0.5, 0.5]), small([1], [1.0])], ids=str
)
def test_the_smallest_runs_have_a_page(table: Scores) -> None:
    found = assemble.assemble(Judged(table), ABOUT)
    Balanced().feed(page.render(found, [], table, lambda key: None))
    Balanced().feed(page.render(found, log(1), table, lambda key: np.zeros((0, 0), np.uint8)))


def test_without_resamples_there_are_values_and_no_intervals() -> None:
    about = About("deq", "demo", "fold0", draws=0)
    found = report(make(), about=about)
    assert found["metrics"]["auroc"]["ci95"] is None
    assert found["metrics"]["auroc"]["reason"] == bootstrap.NOT_DRAWN
    assert found["baselines"]["shortcut"]["gain"]["auroc"]["reason"] == bootstrap.NOT_DRAWN
    page.render(found, [], make(), picture)


def test_many_classes_list_their_worst_confusions() -> None:
    names = tuple(f"class {place}" for place in range(20))
    rng = np.random.default_rng(0)
    values = rng.random((300, 20))
    values /= values.sum(axis=1, keepdims=True)
    text = np.array([str(place) for place in range(300)])
    table = Scores(text, text, text, text, rng.integers(0, 20, 300), values, names)
    html = page.render(assemble.assemble(Judged(table), ABOUT), [], table, picture)
    assert "The most frequent confusions" in html


def test_the_worst_samples_are_those_whose_own_class_got_least() -> None:
    table = small(
        [1, 1, 1, 0, 0, 0], [0.9, 0.2, 0.3, 0.8, 0.1, 0.4], group=["a", "b", "b", "c", "d", "e"]
    )
    found = {sheet.title: [t.key for t in sheet.tiles] for sheet in pictures.sheets(table, picture)}
    assert found["Worst: cancer"] == ["k1", "k0"]  # one of each group
    assert found["Best: cancer"] == ["k0", "k2"]
    assert found["Worst: negative"] == ["k3", "k5", "k4"]
    assert found["Best: negative"] == ["k4", "k5", "k3"]


def test_a_picture_is_asked_for_only_where_it_is_shown() -> None:
    asked: list[str] = []

    def count(key: str) -> None:
        asked.append(key)

    pictures.sheets(make(), count)
    assert len(asked) == 4 * pictures.EACH


def test_colour_pictures_keep_their_colours() -> None:
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    table = small([1, 0], [0.9, 0.1])
    tile = pictures.sheets(table, lambda key: red)[0].tiles[0]
    data = np.frombuffer(b64decode(tile.uri.split(",")[1]), np.uint8)
    blue, _, shown = cv2.imdecode(data, cv2.IMREAD_COLOR)[10, 10]
    assert shown > 240
    assert blue < 20
    assert tile.zoomed


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 17), (0.0021, 0.0022), (0, 54321), (7, 9)])
def test_ticks_are_round_and_on_the_axis(low: float, high: float) -> None:
    found = plots.ticks(plots.Axis(low, high, ""))
    assert 3 <= len(found) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in found)
    assert len({text for _, text in found}) == len(found)


@pytest.mark.parametrize(("low", "high"), [(1e-9, 1e-3), (0.003, 0.9), (1, 60), (2e-5, 7e4)])
def test_logarithmic_ticks_are_on_the_axis(low: float, high: float) -> None:
    found = plots.ticks(plots.Axis(low, high, "", log=True))
    assert 2 <= len(found) <= 9
    assert all(low * 0.99 <= value <= high * 1.01 for value, _ in found)


def test_a_wide_range_gets_a_logarithmic_axis() -> None:
    assert plots.fitted(np.array([1e-6, 1e-1]), "").log
    assert not plots.fitted(np.array([0.2, 0.9]), "").log
    assert not plots.fitted(np.array([0.0, 1e9]), "").log


def test_a_thinned_curve_keeps_its_ends_and_its_shape() -> None:
    x = np.linspace(0, 1, 100_000)
    y = np.sqrt(x)
    few_x, few_y = plots.thinned(x, y)
    assert len(few_x) <= plots.POINTS
    assert (few_x[0], few_x[-1]) == (0, 1)
    assert np.abs(np.interp(x, few_x, few_y) - y).max() < 0.01


def test_a_bucket_has_mean_lowest_and_highest() -> None:
    x, mean, low, high = plots.bucketed(np.arange(4.0), np.array([1.0, 3.0, 10.0, 20.0]), 2)
    assert x.tolist() == [0.5, 2.5]
    assert mean.tolist() == [2, 15]
    assert low.tolist() == [1, 10]
    assert high.tolist() == [3, 20]


def test_the_log_is_summed_up() -> None:
    found = dict(training.summary(log()))
    assert found["Steps"] == "30"
    assert found["Best checkpoint"] == "step 30"
    assert found["Median speed"] == "41.0 images/s"
    assert training.summary([]) == []


def test_a_rendered_page_is_written_whole(tmp_path: Path) -> None:
    page.write(tmp_path / "report.html", "text")
    assert (tmp_path / "report.html").read_text() == "text"
    assert not list(tmp_path.glob("*.partial"))


def test_the_closing_lines_have_measures_breasts_and_baselines_with_intervals(
    tmp_path: Path,
) -> None:
    found = report(make())
    cell = {"value": 0.7251, "ci95": [0.61, 0.8049], "level": "image", "reason": ""}
    none = {"value": None, "ci95": None, "level": "image", "reason": "no lesion"}
    found["measures"] = {
        "age_error": cell | {"ci95": None}, "false_positives": cell, "dice": cell, "iou": none,
        "collapsed": cell,
    }  # fmt: skip
    lines = summary.summary(found, tmp_path).splitlines()
    assert lines[0] == "Scored 400 samples of 90 groups (fold0)."
    names = ["dice", "false_positives", "age_error", "collapsed", "auroc"]
    assert [line.split()[0] for line in lines[1:6]] == names
    assert lines[1].split(maxsplit=1)[1] == "0.725 (0.610 to 0.805)"
    assert lines[3].split(maxsplit=1)[1] == "0.725"
    own = found["metrics"]["auroc"]
    ends = f"({own['ci95'][0]:.3f} to {own['ci95'][1]:.3f})"
    auroc = next(line for line in lines if line.startswith("auroc"))
    assert f"{own['value']:.3f} {ends}   beside: majority 0.500, shortcut 0." in auroc
    breasts = found["levels"]["breast"]
    assert f"{breasts['n']} breasts:" in lines
    pf1 = breasts["metrics"]["pf1"]
    ends = f"({pf1['ci95'][0]:.3f} to {pf1['ci95'][1]:.3f})"
    assert f"  {'pf1':<17} {pf1['value']:.3f} {ends}" in lines
    assert lines[-1] == f"Look at: {tmp_path / 'report.html'}"


def test_closing_lines_of_what_has_neither_breasts_nor_measures(tmp_path: Path) -> None:
    table = small([1, 0] * 8, [0.9, 0.2] * 8, laterality=[""] * 16)
    said = summary.summary(assemble.assemble(Judged(table), ABOUT), tmp_path)
    assert "breasts" not in said
    assert "f1" not in said  # without a threshold there are no decisions
