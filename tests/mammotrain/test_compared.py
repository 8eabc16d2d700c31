"""What is said of compared runs: each with its own interval, masks too, trainings apart."""

import csv
import json
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import noisy, recipe, run_of
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats
from scored import make
from typer.testing import CliRunner

from mammoprep.core.errors import ConfigError
from mammotrain import bootstrap, cli, comparison, measures, repeats, scores
from mammotrain.levels import LEVELS
from mammotrain.report import written_tables
from mammotrain.thresholds import Judged

TABLE = make(300, 80)
EVIL = "=a_b%&#$~^{}[x]<b>|`--"


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def said(found: Mapping[str, Any]) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(comparison.table(found))
    return console.file.getvalue()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, Any]]:
    home = tmp_path_factory.mktemp("two")
    others = {"shortcut": Judged(noisy(TABLE, 9, 3.0)), "metadata": "nothing is known"}
    places = [
        run_of(home / "plain", TABLE, recipe(), others=others),
        run_of(home / EVIL, noisy(TABLE, 1, lift=0.5), recipe(lr=1e-2)),
    ]
    return places, comparison.compare(places, draws=100)


# --- every run's own interval


def test_every_run_has_its_own_interval_everywhere(
    two: tuple[list[Path], dict[str, Any]], tmp_path: Path
) -> None:
    _, found = two
    written_tables.write_comparison(tmp_path, found, "Two runs")
    for run in found["runs"]:
        own = run["metrics"]["auroc"]
        low, high = own["ci95"]
        ends = f"{low:.3f} to {high:.3f}"
        assert ends in said(found)
        assert ends in comparison.page(found, "Two runs")
        for kind in ("md", "tex"):
            text = (tmp_path / f"comparison.{kind}").read_text()
            assert f"{own['value']:.3f} ({ends})" in text
    gain = found["runs"][1]["gains"]["auroc"]
    mine, first = (found["runs"][n]["metrics"]["auroc"]["value"] for n in (1, 0))
    assert gain["difference"] == pytest.approx(mine - first) != 0
    assert f"{gain['difference']:+.3f}" in said(found)
    assert f"{gain['p']:.3f}" in (tmp_path / "comparison.md").read_text()


def test_the_table_for_programs_has_every_number_as_it_is(
    two: tuple[list[Path], dict[str, Any]], tmp_path: Path
) -> None:
    _, found = two
    written_tables.write_comparison(tmp_path, found, "Two runs")
    rows = rows_of((tmp_path / "comparison.csv").read_text())
    assert tuple(rows[0]) == written_tables.HEADER
    named = {(r["kind"], r["run"].removeprefix("'"), r["level"], r["metric"]): r for r in rows}
    assert len(named) == len(rows)
    for run in found["runs"]:
        tables = {"image": run, **run["levels"]}
        for level, table in tables.items():
            for metric, each in table["metrics"].items():
                row = named["run", run["run"], level, metric]
                assert row["value"] == ("" if each["value"] is None else repr(each["value"]))
                if each["ci95"]:
                    assert [float(row["ci95_low"]), float(row["ci95_high"])] == each["ci95"]
                if table["gains"] and table["gains"][metric]["p"] is not None:
                    assert float(row["p"]) == table["gains"][metric]["p"]
                    assert float(row["difference"]) == table["gains"][metric]["difference"]
    assert {row["level"] for row in rows} >= {"image", "breast", "patient"}


def test_a_baseline_is_a_row_with_its_own_interval_and_how_far_below_it_is(
    two: tuple[list[Path], dict[str, Any]], tmp_path: Path
) -> None:
    places, found = two
    written_tables.write_comparison(tmp_path, found, "Two runs")
    report = json.loads((places[0] / "report.json").read_text())["baselines"]["shortcut"]
    rows = rows_of((tmp_path / "comparison.csv").read_text())
    row = next(r for r in rows if r["kind"] == "baseline" and r["metric"] == "auroc")
    assert row["run"] == "shortcut"
    assert float(row["value"]) == report["metrics"]["auroc"]["value"]
    gain = report["gain"]["auroc"]
    assert float(row["difference"]) == -gain["difference"] < 0
    assert float(row["difference_ci95_low"]) == -gain["ci95"][1]
    assert float(row["difference_ci95_high"]) == -gain["ci95"][0]
    assert "Grey level alone" in (tmp_path / "comparison.md").read_text()


def test_a_baseline_of_another_run_is_not_said_to_be_below_the_reference(tmp_path: Path) -> None:
    others = {"shortcut": Judged(noisy(TABLE, 9, 3.0))}
    places = [
        run_of(tmp_path / "one", TABLE),
        run_of(tmp_path / "other", noisy(TABLE, 1), others=others),
    ]
    found = comparison.compare(places, draws=0)
    assert "shortcut" in found["baselines"]
    assert found["baseline_gains"] == {}


def test_levels_above_the_image_are_compared_at_their_own_thresholds(
    two: tuple[list[Path], dict[str, Any]],
) -> None:
    places, found = two
    for place, run in zip(places, found["runs"], strict=True):
        report = json.loads((place / "report.json").read_text())
        for level in LEVELS[1:]:
            if not report["levels"].get(level, {}).get("n"):
                continue
            assert run["levels"][level]["n"] == report["levels"][level]["n"]
            for name, each in run["levels"][level]["metrics"].items():
                told = report["levels"][level]["metrics"][name]["value"]
                if each["value"] is None:
                    assert told is None
                else:
                    assert each["value"] == pytest.approx(told, abs=1e-6), (level, name)
    for level in found["runs"][1]["levels"].values():
        assert level["gains"]["auroc"]["ci95"] is not None


# --- texts of unknown origin


def test_a_folder_of_any_name_breaks_no_table(
    two: tuple[list[Path], dict[str, Any]], tmp_path: Path
) -> None:
    _, found = two
    written_tables.write_comparison(tmp_path, found, EVIL, {EVIL: "x=1|<script>"})
    for line in (tmp_path / "comparison.md").read_text().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6
    tex = (tmp_path / "comparison.tex").read_text()
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == tex.count("longtable}{")
    for line in tex.splitlines():
        if line.endswith(r"\\") and "caption" not in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 4
            assert not line.startswith("[")
    assert "<script>" not in (tmp_path / "comparison.html").read_text()
    assert "<script>" not in (tmp_path / "comparison.md").read_text()


@given(st.text(max_size=30))
def test_no_text_means_anything_to_latex_markdown_or_a_spreadsheet(text: str) -> None:
    bare = re.sub(
        r"\\text\w+\{\}|\\[{}$&#_%]|\$-\$|-\{\}-|\{\[\}", "", written_tables.plain_tex(text)
    )
    assert not set(bare) & set('\\{}$&#_%^~<>|"[')
    assert "--" not in bare
    bare = re.sub(r"\\[\\`*_\[\]#|~$]", "", written_tables.plain_md(text))
    assert not set(bare) & set("\\`*_[]#|~$<>\n\r")
    cell = next(csv.reader([written_tables.as_csv(["a"], iter([[text]])).split("\n", 1)[1]]), [""])
    assert not (cell and cell[0].startswith(written_tables.FORMULA))


def test_a_negative_number_is_a_number_for_programs() -> None:
    text = written_tables.as_csv(["a", "b"], iter([[-0.125, "-0.125"]]))
    assert text == "a,b\n-0.125,'-0.125\n"


# --- measures of masks


def pairs_of(table: scores.Scores, seed: int = 0, lift: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    bearing = (table.label == 1).astype(float)
    dice = np.clip(rng.uniform(0.2, 0.8, len(table)) + lift, 0, 1) * bearing
    wrong = rng.poisson(0.5, len(table)).astype(float)
    return {
        "dice": np.stack([dice, bearing], axis=1),
        "false_positives": np.stack([wrong, np.ones(len(table))], axis=1),
    }


def by_hand(table: scores.Scores, pair: np.ndarray, draws: int) -> np.ndarray:
    """The ratio of sums of every resample, by copying the samples of each drawn group."""
    groups = np.unique(table.group)
    counts = np.concatenate(list(bootstrap.draws(len(groups), draws, 0, draws)))
    found = []
    for row in counts:
        taken = np.concatenate(
            [
                np.repeat(np.flatnonzero(table.group == g), c)
                for g, c in zip(groups, row, strict=True)
            ]
        )
        found.append(pair[taken, 0].sum() / pair[taken, 1].sum())
    return np.array(found)


def test_dice_is_compared_in_the_same_resamples(tmp_path: Path) -> None:
    one, other = pairs_of(TABLE), pairs_of(TABLE, 1, lift=0.1)
    order = np.random.default_rng(0).permutation(len(TABLE))
    shuffled = {name: pair[order] for name, pair in other.items()}
    places = [
        run_of(tmp_path / "one", TABLE, pairs=one),
        run_of(tmp_path / "other", TABLE.take(order)),
    ]
    back = np.argsort(order)  # its rows are in another order than those of its scores
    again = {name: pair[back] for name, pair in shuffled.items()}
    measures.write(places[1] / "measures.csv", TABLE.take(order).key[back], again)
    found = comparison.compare(places, draws=60)
    first, second = (by_hand(TABLE, pairs["dice"], 60) for pairs in (one, other))
    gain = found["runs"][1]["gains"]["dice"]
    assert gain["ci95"] == pytest.approx(np.percentile(second - first, (2.5, 97.5)))
    value = other["dice"].sum(axis=0)
    assert found["runs"][1]["metrics"]["dice"]["value"] == pytest.approx(value[0] / value[1])
    assert found["runs"][1]["metrics"]["dice"]["ci95"] == pytest.approx(
        np.percentile(second, (2.5, 97.5))
    )
    written_tables.write_comparison(tmp_path, found, "Masks")
    for text in (
        said(found), comparison.page(found, "Masks"), (tmp_path / "comparison.md").read_text(),
        (tmp_path / "comparison.tex").read_text(),
    ):  # fmt: skip
        assert f"{gain['difference']:+.3f}" in text
    names = {row["metric"] for row in rows_of((tmp_path / "comparison.csv").read_text())}
    assert {"dice", "false_positives"} <= names


def test_a_run_without_masks_beside_one_with_them_has_no_dice_and_no_gain(tmp_path: Path) -> None:
    places = [
        run_of(tmp_path / "one", TABLE),
        run_of(tmp_path / "other", TABLE, pairs=pairs_of(TABLE)),
    ]
    found = comparison.compare(places, draws=20)
    assert "dice" not in found["runs"][0]["metrics"]
    assert "dice" in found["runs"][1]["metrics"]
    assert "dice" not in found["runs"][1]["gains"]
    assert "dice" in said(found)
    written_tables.write_comparison(tmp_path, found, "Masks")


@pytest.mark.parametrize(
    ("text", "message"),
    [("key,dice_sum\nk,1\n", "columns"), ("key,dice_sum,dice_of\nk,x,1\n", "could not convert"),
     ("key,dice_sum,dice_of\nk,1\n", "reshape"),
     ("key,dice_sum,dice_of\nk,1,1\n", "other samples")],
)  # fmt: skip
def test_measures_that_are_none_are_refused(tmp_path: Path, text: str, message: str) -> None:
    place = run_of(tmp_path / "one", TABLE)
    (place / "measures.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        comparison.compare([place, place], draws=0)


def test_measures_are_read_as_they_were_written(tmp_path: Path) -> None:
    pairs = pairs_of(TABLE)
    measures.write(tmp_path / "measures.csv", TABLE.key, pairs)
    keys, again = measures.read(tmp_path / "measures.csv")
    assert keys.tolist() == TABLE.key.tolist()
    assert all(np.array_equal(pairs[name], again[name]) for name in pairs)


# --- training again


def trained(home: Path, name: str, lift: float, count: int, lr: float = 1e-3) -> list[Path]:
    return [
        run_of(home / f"{name}{seed}", noisy(TABLE, 10 * seed + int(lr * 1e4), 0.5, lift),
               recipe(seed, lr=lr, data={"workers": seed + 1}))
        for seed in range(count)
    ]  # fmt: skip


def test_single_runs_are_no_evidence_of_a_better_recipe_and_that_is_said_once(
    two: tuple[list[Path], dict[str, Any]], tmp_path: Path
) -> None:
    _, found = two
    written_tables.write_comparison(tmp_path, found, "Two runs")
    for text in (
        comparison.page(found, "x"),
        (tmp_path / "comparison.md").read_text(),
        said(found),
    ):
        plain = " ".join(text.replace("\\_", "_").split())
        assert plain.count("training again is not in them") == 1
        assert plain.count("at least 3 times") == 1
        assert plain.count("2104.00673") == 1
    assert "mammotrain run deq --set train.seed=1" in found["advice"]
    assert found["recipes"] == []


def test_a_cv_is_told_to_repeat(tmp_path: Path) -> None:
    folds = np.where(np.arange(len(TABLE)) % 2, "fold0", "fold1")
    table = scores.join({f: TABLE.take(folds == f) for f in ("fold0", "fold1")})
    places = [
        run_of(tmp_path / n, table, recipe(lr=lr, by="fold")) for n, lr in (("a", 1), ("b", 2))
    ]
    found = comparison.compare(places, draws=20)
    assert "mammotrain cv deq --repeats 3" in found["advice"]


def test_two_seeds_of_one_recipe_need_no_advice_and_two_recipes_of_two_do(tmp_path: Path) -> None:
    one, other = trained(tmp_path, "a", 0.3, 2), trained(tmp_path, "b", 0.5, 2, lr=2e-3)
    assert comparison.compare(one, draws=0)["advice"] == ""
    assert "2 of 2 have fewer" in comparison.compare([*one, *other], draws=0)["advice"]


def test_the_same_training_given_three_times_is_one(tmp_path: Path) -> None:
    place = run_of(tmp_path / "a", TABLE, recipe())
    found = comparison.compare([place, place, place], draws=0)
    assert found["recipes"] == []


def test_three_seeds_a_recipe_have_a_mean_and_a_spread_apart_from_patients(tmp_path: Path) -> None:
    one, other = trained(tmp_path, "a", 0.3, 3), trained(tmp_path, "b", 1.5, 4, lr=2e-3)
    found = comparison.compare([*one, *other], draws=30)
    assert found["advice"] == ""
    values = [
        [run["metrics"]["auroc"]["value"] for run in found["runs"] if Path(run["run"]).name[0] == n]
        for n in "ab"
    ]
    first, second = (each["levels"]["image"]["auroc"] for each in found["recipes"])
    assert second["mean"] == pytest.approx(np.mean(values[1]))
    assert second["sd"] == pytest.approx(np.std(values[1], ddof=1))
    assert (first["lowest"], first["highest"]) == (min(values[0]), max(values[0]))
    gap = found["recipe_differences"][0]["image"]["auroc"]
    wanted = stats.ttest_ind(values[1], values[0], equal_var=False).confidence_interval()
    assert gap["ci95"] == pytest.approx([wanted.low, wanted.high])
    assert gap["difference"] == pytest.approx(np.mean(values[1]) - np.mean(values[0]))
    assert "b0 and 3 more, auroc over 4 trainings" in " ".join(said(found).split())
    assert "Trained again" in comparison.page(found, "x")
    written_tables.write_comparison(tmp_path, found, "Recipes")
    rows = rows_of((tmp_path / "trainings.csv").read_text())
    row = next(r for r in rows if r["metric"] == "auroc" and r["recipe"].startswith("b0"))
    assert float(row["sd"]) == second["sd"]
    assert float(row["difference"]) == gap["difference"]
    assert row["trainings"] == "4"


def test_another_setting_is_another_recipe_and_another_machine_is_not(tmp_path: Path) -> None:
    settings = [
        recipe(0), recipe(1, data={"workers": 8}), recipe(2, data={"augment_on": "device"}),
        recipe(2, lr=0.5), recipe(3, data={"size": [8, 8]}), recipe(4, fold=1),
    ]  # fmt: skip
    places = [run_of(tmp_path / str(n), TABLE, each) for n, each in enumerate(settings)]
    found = repeats.by_recipe([repeats.training(place) for place in places])
    assert [[each.place.name for each in group] for group in found] == [
        ["0", "1", "2"], ["3"], ["4"], ["5"],
    ]  # fmt: skip


def test_a_cv_with_repeats_is_the_mean_of_them_in_the_same_resamples(tmp_path: Path) -> None:
    homes = []
    for name, lift, lr in (("a", 0.2, 1.0), ("b", 1.0, 2.0)):
        for number in range(3):
            run_of(
                tmp_path / name / f"repeat{number}", noisy(TABLE, number + int(lr), 0.5, lift),
                recipe(7, lr=lr, by="fold"), pairs=pairs_of(TABLE, number),
            )  # fmt: skip
        homes.append(tmp_path / name)
    found = comparison.compare(homes, draws=50)
    assert found["advice"] == ""
    alone = comparison.compare(repeats.members(homes[1]), draws=50)
    for name in ("auroc", "dice"):
        each = [run["metrics"][name]["value"] for run in alone["runs"]]
        assert found["runs"][1]["metrics"][name]["value"] == pytest.approx(np.mean(each))
        assert found["recipes"][1]["levels"]["image"][name]["values"] == pytest.approx(each)
    judged = [Judged(scores.read(p / "scores.csv")) for p in repeats.members(homes[1])]
    drawn = [bootstrap.replicates(j.scores, None, 50)["auroc"] for j in judged]
    wanted = np.percentile(np.mean(drawn, axis=0), (2.5, 97.5))
    assert found["runs"][1]["metrics"]["auroc"]["ci95"] == pytest.approx(wanted)
    assert "b (3 repeats)" in said(found)


def test_ten_repeats_are_in_order(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / f"repeat{number}").mkdir()
        (tmp_path / f"repeat{number}" / "report.json").write_text("{}")
    assert [path.name for path in repeats.members(tmp_path)] == [f"repeat{n}" for n in range(11)]


def test_trainings_that_agree_to_the_last_bit_have_no_interval() -> None:
    one = repeats.spread({"auroc": [0.5, 0.5, 0.5]})
    assert repeats.differences(one, one)["auroc"] == {"difference": 0, "error": 0, "ci95": None}
    assert repeats.spread({"f1": [0.5, np.nan, 0.5]}) == {}


# --- one report


def test_a_run_has_its_tables_by_level_and_fold(tmp_path: Path) -> None:
    place = run_of(tmp_path / "one", TABLE, pairs=pairs_of(TABLE))
    report = json.loads((place / "report.json").read_text())
    part = {"n": 9, "groups": 5, "metrics": {"auroc": {"value": 0.625, "ci95": [0.5, 0.75]}}}
    report["folds"] = {"fold0": part, "fold1": {"metrics": {"auroc": 0.75}}}
    written_tables.write_run(tmp_path, report)
    rows = rows_of((tmp_path / "report.csv").read_text())
    named = {(row["part"], row["level"], row["metric"]): row for row in rows}
    assert len(named) == len(rows)
    for level in ("breast", "patient"):
        for name, each in report["levels"][level]["metrics"].items():
            row = named["all", level, name]
            assert row["value"] == ("" if each["value"] is None else repr(each["value"]))
    assert named["all", "image", "dice"]["ci95_low"] != ""
    assert named["fold0", "image", "auroc"]["ci95_high"] == "0.75"
    assert named["fold1", "image", "auroc"]["value"] == "0.75"
    markdown = (tmp_path / "report.md").read_text()
    assert "| Metric | Image | Breast | Exam | Patient |" in markdown
    assert "0.625 (0.500 to 0.750)" in markdown
    assert r"\begin{longtable}" in (tmp_path / "report.tex").read_text()


def test_a_cv_of_before_has_its_folds_from_its_slices(tmp_path: Path) -> None:
    place = run_of(tmp_path / "one", TABLE)
    report = json.loads((place / "report.json").read_text())
    report["slices"] = {"fold": {"fold0": {"n": 1, "metrics": {"auroc": {"value": 0.5}}}}}
    written_tables.write_run(tmp_path, report)
    assert "## By folds" in (tmp_path / "report.md").read_text()


# --- the command line


def test_the_command_line_writes_all_tables_and_replaces_none(
    two: tuple[list[Path], dict[str, Any]], tmp_path: Path
) -> None:
    arguments = ["compare", *map(str, two[0])]
    out = tmp_path / "new" / "folder"
    done = CliRunner().invoke(cli.app, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.exception
    names = {path.name for path in out.iterdir()}
    assert names == {f"comparison.{kind}" for kind in ("md", "tex", "csv", "html")}
    for path in out.iterdir():
        if path.suffix != ".md":
            path.unlink()
    done = CliRunner().invoke(cli.app, [*arguments, "--out", str(out)])
    assert "comparison.md exists" in str(done.exception)
    assert len(list(out.iterdir())) == 1
    done = CliRunner().invoke(cli.app, [*arguments, "--out", str(out / "comparison.md")])
    assert "is a file" in str(done.exception)
