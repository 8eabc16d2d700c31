"""Operating points, calibration and classes against the rest, as a report shows them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mammotrain import cli, levels, rescore, screening
from mammotrain.report import assemble, operating, page
from mammotrain.report.assemble import About
from mammotrain.resampled import Draws
from mammotrain.scores import Scores
from mammotrain.screening import Asked
from mammotrain.thresholds import Judged
from tests.scored import make

FEW = Draws(40)


def every_level(table: Scores, validation: Scores | None) -> dict[str, Judged]:
    found = {}
    for level in levels.LEVELS:
        if not levels.why_not(table, level):
            raised = None if validation is None else levels.aggregate(validation, level)
            found[level] = Judged(levels.aggregate(table, level), raised, reason="too few patients")
    return found


def report(table: Scores, validation: Scores | None, **asked: Any) -> dict[str, Any]:
    judged = Judged(table, validation)
    found = assemble.assemble(judged, About("deq", "rsna", "fold0", draws=20))
    by_level = every_level(table, validation)
    return found | screening.figures(by_level, Asked(**{"draws": FEW, **asked}))


def html(found: dict[str, Any], table: Scores) -> str:
    return page.render(found, [], table, lambda key: None)


def test_the_page_has_the_points_of_exams_and_of_what_it_begins_with() -> None:
    table = make()
    found = report(table, make(seed=8), prevalence={"exam": 0.006})
    text = html(found, table)
    assert [each["level"] for each in operating.points(found)] == ["image", "exam"]
    assert "By exam" in text
    assert "in which 0.6 % are positive, as it was stated" in text
    assert "no screening's: how many are positive among those screened" in text
    assert "state --prevalence image=SHARE" in text
    exam = operating.points(found)[1]
    assert [row["by"] for row in exam["rows"]] == ["validation samples", "the curve itself"] * 4
    assert all(cell["value"] != "-" for row in exam["rows"] for cell in row["cells"])
    row = next(r for r in found["operating_points"] if r["level"] == "exam")
    assert f"{row['cancers_per_1000']['value']:.2f}" in text


def test_a_report_without_validation_says_so_on_the_page_and_in_the_terminal() -> None:
    table = make()
    found = report(table, None)
    assert "too few patients" in html(found, table)
    lines = operating.lines(found)
    assert lines[0] == "exam, for 90 % sensitivity: no threshold (too few patients)"
    assert len(lines) == 3


def test_the_terminal_has_two_points_of_exams_and_calibration_at_large() -> None:
    found = report(make(), make(seed=8))
    lines = operating.lines(found)
    assert len(lines) == 3
    assert lines[1].startswith("exam, for 5 % recalled: sensitivity 0.")
    assert lines[2].startswith("calibration at large, cancer: ")
    assert " to " in lines[2]


def test_the_page_shows_slope_intercept_and_what_recalibration_changes() -> None:
    table = make()
    found = report(table, make(seed=8))
    text = html(found, table)
    line = found["calibration"]["image"]["line"]
    assert f"slope {line['slope']:.2f}, intercept {line['intercept']:+.2f}" in text
    assert "At large, recalibrated, cancer" in text
    folds = replace(table, fold=np.where(np.arange(len(table)) % 2, "fold0", "fold1"))
    parts = {"fold0": found, "fold1": found}
    pooled = found | screening.figures(
        {"image": Judged(folds)}, Asked(chosen=screening.chosen_by_folds(parts), draws=FEW)
    )
    text = html(pooled, folds)
    assert f"fold1: slope {line['slope']:.2f}" in text
    assert "by fold" in text


def test_what_a_run_chose_is_what_its_later_scoring_goes_by() -> None:
    table, validation = make(), make(seed=8)
    found = report(table, validation)
    chosen = screening.chosen_by(found)
    again = screening.figures(every_level(table, None), Asked(chosen=chosen, draws=FEW))
    assert again == {name: found[name] for name in again}
    nothing = screening.chosen_by(report(table, None))
    later = screening.figures(every_level(table, None), Asked(chosen=nothing, draws=FEW))
    assert later["operating_points"][0]["reason"] == "too few patients"
    assert later["calibration"]["image"]["reason"] == "too few patients"
    before = screening.chosen_by({"classes": []})
    assert before == screening.Chosen({}, {})


def test_a_fold_is_judged_by_what_its_own_run_chose_at_every_level() -> None:
    table = make(n=800, groups=160)
    fold = np.array([f"fold{int(each[1:]) % 2}" for each in table.group])
    parts = {}
    for place, name in enumerate(("fold0", "fold1")):
        own = table.take(fold == name)
        parts[name] = screening.figures(every_level(own, make(seed=place)), Asked(draws=FEW))
    chosen = screening.chosen_by_folds(parts)
    found = screening.figures(
        every_level(replace(table, fold=fold), None), Asked(chosen=chosen, draws=FEW)
    )
    for row in found["operating_points"]:
        if row["by"] == "validation":
            own = {
                name: next(
                    r["threshold"]
                    for r in part["operating_points"]
                    if (r["rule"], r["level"], r["by"]) == (row["rule"], row["level"], row["by"])
                )
                for name, part in parts.items()
            }
            assert row["threshold"] == own
    for level, each in found["calibration"].items():
        for name, part in parts.items():
            assert each["line"][name] == part["calibration"][level]["line"]


def test_malignant_against_the_rest_comes_first_on_the_page_and_names_are_escaped() -> None:
    table = replace(make(classes=3, prevalence=0.6), names=("<b>", "benign", "malignant"))
    found = report(table, None)
    assert found["operating_points"] == []
    text = html(found, table)
    section = text[text.index("<h2>One class against the rest</h2>") :]
    assert section.index("malignant") < section.index("benign")
    assert "&lt;b&gt;" in section
    assert '<th scope="row"><b>' not in text
    assert operating.lines(found)[0].startswith("malignant against the rest: AUROC 0.")


def test_a_report_of_before_has_no_such_sections() -> None:
    table = make()
    found = assemble.assemble(Judged(table), About("deq", "rsna", "fold0", draws=20))
    for name in (screening.POINTS, screening.CALIBRATION, screening.REST):
        found.pop(name, None)
    assert '<section id="operating">' not in html(found, table)
    assert operating.lines(found) == []


def test_groups_of_which_no_exam_is_told_are_counted_on_the_page() -> None:
    table = make()
    found = report(table, None)
    found["levels"]["exams_assumed"] = levels.assumed(table)
    assert "Of 90 groups no exam is told: they are taken to have one each." in html(found, table)


def test_a_prevalence_reaches_the_request_and_a_slip_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    asked = []

    def stop(request: rescore.Request, screen: Any) -> Any:
        asked.append(request)
        raise SystemExit(0)

    monkeypatch.setattr(rescore, "rescore", stop)
    told = ["eval", str(tmp_path), "--data", "x", "--prevalence"]
    CliRunner().invoke(cli.app, [*told, "0.6%"])
    assert asked[0].prevalence == pytest.approx({"exam": 0.006})
    found = CliRunner().invoke(cli.app, [*told, "0.6"])
    assert "Write 60% if it is meant" in str(found.exception)
    assert len(asked) == 1
