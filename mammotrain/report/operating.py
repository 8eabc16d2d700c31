"""Operating points, calibration and one class against the rest, for the page and the terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from mammotrain import one_against_rest
from mammotrain.operating import FIGURES, SCREENED, VALIDATION
from mammotrain.report import tables
from mammotrain.screening import CALIBRATION, POINTS, REST

Json = Mapping[str, Any]

RULES = {
    "specificity_at_sensitivity_90": "90 % sensitivity",
    "sensitivity_at_recall_3": "3 % recalled",
    "sensitivity_at_recall_5": "5 % recalled",
    "sensitivity_at_recall_10": "10 % recalled",
}
TERMINAL = ("specificity_at_sensitivity_90", "sensitivity_at_recall_5")  # rules; two are enough
COLUMNS = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "recall_rate": "Recalled",
    "ppv": "PPV",
    "cancers_per_1000": "Cancers found of 1,000",
}
BY = {"validation": "validation samples", "curve": "the curve itself"}
COUNTED = "cancers_per_1000"


def sections(report: Json) -> dict[str, Any]:
    """Return what ``operating.html.j2`` shows; empty parts of a report that has none."""
    return {"points": points(report), "calibration": calibration(report), "rest": rest(report)}


def points(report: Json) -> list[dict[str, Any]]:
    """Return one table a level, two rows a rule."""
    rows = {
        level: [row for row in report.get(POINTS, []) if row["level"] == level]
        for level in _shown(report)
    }
    return [_table(each, level) for level, each in rows.items() if each]


def _shown(report: Json) -> list[str]:
    """Return the levels that are shown: that which the report begins with, and what is screened."""
    return list(dict.fromkeys([tables.first_level(report)[0], SCREENED]))


def _table(rows: list[Json], level: str) -> dict[str, Any]:
    shown = [_row(row) for row in rows]
    cells = [cell for row in shown for cell in row["cells"]]
    share = rows[0]["prevalence"]
    return {
        "level": level,
        "columns": list(COLUMNS.values()),
        "rows": shown,
        "prevalence": "" if share is None else _percent(share),
        "reasons": list(dict.fromkeys(cell["reason"] for cell in cells if cell["reason"])),
    }


def _row(row: Json) -> dict[str, Any]:
    return {
        "rule": RULES[row["rule"]],
        "by": BY[row["by"]],
        "chosen": row["by"] == VALIDATION,
        "threshold": _threshold(row["threshold"]),
        "cells": [_cell(name, row[name]) for name in FIGURES],
    }


def _cell(name: str, estimate: Json) -> dict[str, Any]:
    found = tables.figure(estimate)
    if name == COUNTED and estimate["value"] is not None:
        ends = estimate["ci95"]
        found["value"] = f"{estimate['value']:.2f}"
        found["ends"] = f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else found["ends"]
    return found


def _threshold(threshold: float | Mapping[str, float] | None) -> str:
    if threshold is None:
        return "-"
    return "by fold" if isinstance(threshold, Mapping) else f"{threshold:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def calibration(report: Json) -> list[dict[str, Any]]:
    """Return one block a level: (name, text) pairs, and why probabilities were not moved."""
    found = report.get(CALIBRATION, {})
    return [_calibration(found[level], level) for level in _shown(report) if level in found]


def _calibration(found: Json, level: str) -> dict[str, Any]:
    facts = _at_large(found["large"], "At large")
    facts.append(("Brier score", _said(found["brier"])))
    facts += _line(found["line"])
    if again := found["recalibrated"]:
        facts += _at_large(again["large"], "At large, recalibrated")
        facts.append(("Brier score, recalibrated", _said(again["brier"])))
        facts.append(("Lower by", _said(again["gain"], "+.4f")))
    return {"level": level, "facts": facts, "reason": found["reason"]}


def _at_large(large: Json, name: str) -> list[tuple[str, str]]:
    return [
        (
            f"{name}, {label}",
            f"{each['predicted']:.3f} predicted, {each['observed']:.3f} observed: "
            f"{_said(each['difference'], '+.3f')}",
        )
        for label, each in large.items()
    ]


def _line(line: Json | None) -> list[tuple[str, str]]:
    if line is None:
        return []
    folds = {"": line} if "slope" in line else line
    texts = [
        f"{fold}{': ' if fold else ''}slope {each['slope']:.2f}, intercept {each['intercept']:+.2f}"
        for fold, each in folds.items()
    ]
    return [("By the validation samples", "; ".join(texts))]


def _said(estimate: Json, how: str = ".3f") -> str:
    if estimate["value"] is None:
        return f"- ({estimate['reason']})"
    ends = estimate["ci95"]
    interval = f"{ends[0]:{how}} to {ends[1]:{how}}" if ends else tables.NO_INTERVAL
    return f"{estimate['value']:{how}} ({interval})"


def rest(report: Json) -> list[dict[str, Any]]:
    """Return one table a level, one row a class, the one that a screening must find first."""
    found = report.get(REST, {})
    return [_against_rest(found[level], level) for level in _shown(report) if level in found]


def _against_rest(found: Json, level: str) -> dict[str, Any]:
    rows = [
        {
            "name": name,
            "n": each["n"],
            "first": name == found["headline"],
            "cells": [tables.figure(each[metric]) for metric in one_against_rest.METRICS],
        }
        for name, each in found["classes"].items()
    ]
    cells: Iterable[Json] = (cell for row in rows for cell in row["cells"])
    return {
        "level": level,
        "columns": [tables.title(metric) for metric in one_against_rest.METRICS],
        "rows": rows,
        "reasons": list(dict.fromkeys(cell["reason"] for cell in cells if cell["reason"])),
    }


def lines(report: Json) -> list[str]:
    """Return what the terminal says of a report: at most two points, calibration, one class."""
    first = tables.first_level(report)[0]
    rows = [
        row for row in report.get(POINTS, []) if row["by"] == VALIDATION and row["rule"] in TERMINAL
    ]
    level = SCREENED if any(row["level"] == SCREENED for row in rows) else first
    found = [_point(row) for row in rows if row["level"] == level]
    if (told := report.get(CALIBRATION, {}).get(first)) and len(report["classes"]) == 2:
        ((name, each),) = told["large"].items()
        found.append(f"calibration at large, {name}: {_said(each['difference'], '+.3f')}")
    against = report.get(REST, {}).get(first)
    if against and (name := against["headline"]):
        found.append(f"{name} against the rest: AUROC {_said(against['classes'][name]['auroc'])}")
    return found


def _point(row: Json) -> str:
    begin = f"{row['level']}, for {RULES[row['rule']]}:"
    if row["reason"]:
        return f"{begin} no threshold ({row['reason']})"
    told = [
        f"{name.replace('_', ' ')} {_said(row[name])}"
        for name in ("sensitivity", "specificity", "recall_rate")
    ]
    return f"{begin} {', '.join(told)}"
