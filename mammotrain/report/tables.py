"""The tables of a run's page, as plain values in the order they are shown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mammotrain.levels import LEVELS
from mammotrain.report import by_fold

Json = Mapping[str, Any]

TITLES = {
    "auroc": "AUROC",
    "macro_auroc": "Macro AUROC",
    "average_precision": "Average precision",
    "f1": "F1",
    "macro_f1": "Macro F1",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "sensitivity_at_specificity_90": "Sensitivity at 90 % specificity, read off this curve",
    "sensitivity_at_specificity_95": "Sensitivity at 95 % specificity, read off this curve",
    "sensitivity_at_recall_3": "Sensitivity at 3 % recall rate, read off this curve",
    "sensitivity_at_recall_5": "Sensitivity at 5 % recall rate, read off this curve",
    "sensitivity_at_recall_10": "Sensitivity at 10 % recall rate, read off this curve",
    "specificity_at_sensitivity_90": "Specificity at 90 % sensitivity, read off this curve",
    "pf1": "pF1, of probabilities",
    "pf1_binarised": "pF1, of decisions",
    "brier": "Brier score",
    "ece": "Calibration error",
    "dice": "Dice, images with a lesion",
    "iou": "IoU, images with a lesion",
    "lesion_recall": "Share of lesions found",
    "false_positives": "False positives an image",
    "collapsed": "Collapsed, share of images",
}
IMAGE = "image"
MAIN = ("auroc", "macro_auroc")
MASKS = ("dice", "lesion_recall", "false_positives")
LEADING = ("average_precision", "f1", "macro_f1", "balanced_accuracy")
PF1 = ("pf1", "pf1_binarised")  # what a challenge was scored by; of decisions it is the F1
FIGURES = 5  # at the top
OF_BASELINES = (
    *MAIN, "average_precision", "f1", "macro_f1", "accuracy", "balanced_accuracy", "pf1", "brier",
)  # fmt: skip
BASELINES = {
    "majority": "Majority class",
    "shortcut": "Grey level alone",
    "metadata": "Age, machine, view",
    "mask": "Shape of the mask, grey level inside",
}
TOLD = {
    "truth": "True masks were shown: that there is a mask, and its outline, tell the label. This "
    "is no score of a model that finds lesions.",
    "taught": "The masks were predicted by models that have learned from these very samples: they "
    "are too good, and so are the scores.",
}
NO_INTERVAL = "no interval"
COLUMNS = (
    "scores.csv has both: score_ as the model gave it, corrected_ as judged here, which is what "
    "the threshold fits"
)
CONFUSION = 12  # classes of which every cell is shown
PAIRS = 20


def title(name: str) -> str:
    """Return what a metric is called for people."""
    return TITLES.get(name, name.replace("_", " "))


def main_metric(report: Json) -> str:
    """Return the metric that a report begins with."""
    return next(name for name in MAIN if name in report["metrics"])


def figure(estimate: Json | None) -> dict[str, Any]:
    """Return a metric's cell: ``value`` and ``ends`` as texts, and why something is missing."""
    if estimate is None:
        return {"value": "", "ends": "", "reason": ""}
    ends, missing = estimate["ci95"], estimate["value"] is None
    return {
        "value": "-" if missing else f"{estimate['value']:.3f}",
        "ends": f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "" if missing else NO_INTERVAL,
        "reason": estimate.get("reason", ""),
    }


def _reasons(cells: Iterable[Json]) -> list[str]:
    """Return why values or intervals are missing in some cells, each reason once."""
    return list(dict.fromkeys(cell["reason"] for cell in cells if cell["reason"]))


def first_level(report: Json) -> tuple[str, Json]:
    """Return the level that a report begins with, and its metrics."""
    first = report["levels"].get("first", IMAGE)
    return first, report["metrics"] if first == IMAGE else report["levels"][first]["metrics"]


def _named(metric: str, level: str) -> str:
    return title(metric) if level == IMAGE else f"{title(metric)}, by {level}"


def headline(report: Json) -> dict[str, Any]:
    """Return the figures at the top and the sentences that warn."""
    level, metrics = first_level(report)
    shown = [main_metric(report), *LEADING]
    if level != IMAGE:
        shown = [*PF1, *(name for name in shown if name != "f1")]
    of_masks = {n: v for n, v in report.get("measures", {}).items() if n in MASKS}
    ordered = [(title(n), of_masks[n]) for n in MASKS if n in of_masks]
    ordered += [(_named(n, level), metrics[n]) for n in shown if n in metrics]
    return {
        "figures": [{"name": name, **figure(found)} for name, found in ordered[:FIGURES]],
        "prevalence": _prevalence(report),
        "alarms": alarms(report),
    }


def _prevalence(report: Json) -> str:
    share = report["prevalence"]
    if isinstance(share, Mapping):
        return ", ".join(f"{100 * value:.1f} % {name}" for name, value in share.items())
    return f"{100 * share:.1f} % {report['classes'][1]}"


def first_alarms(report: Json) -> list[str]:
    """Return what makes scores no scores.

    True masks in the pictures, flips that no threshold was chosen with, a collapsed model, a class
    that is not among the scored samples, or one that was never trained.
    """
    masks = report.get("input", {}).get("masks")
    found = [TOLD[masks]] if masks in TOLD else []
    found += [report["tta"]["reason"]] if "tta" in report else []
    found += [report["collapsed"]["reason"]] if report["collapsed"]["found"] else []
    return [*found, *_not_scored(report), *_not_trained(report)]


def _not_scored(report: Json) -> list[str]:
    """Return which classes no scored sample is of."""
    share = report["prevalence"]
    if isinstance(share, Mapping):
        missing = [name for name, value in share.items() if not value]
    else:
        missing = [name for name, value in zip(report["classes"], (1 - share, share), strict=True)
                   if not value]  # fmt: skip
    return [
        f"No scored sample is {name}: these scores say nothing of how it is told from the others."
        for name in missing
    ]


def _not_trained(report: Json) -> list[str]:
    """Return which classes no training sample was of; of reports of before nobody knows."""
    return [
        f"No training sample is {name}: the model was never shown it and cannot say it rightly."
        for name, count in (report.get("trained") or {}).items()
        if not count
    ]


def alarms(report: Json) -> list[str]:
    """Return what a reader must know before believing the scores."""
    name = main_metric(report)
    level, metrics = first_level(report)
    found = [*first_alarms(report), *by_fold.alarms(report)]
    ends = metrics[name]["ci95"]
    if ends is None:
        found.append(f"{_named(name, level)} has no interval: {metrics[name]['reason']}.")
    elif ends[0] <= 0.5 <= ends[1]:
        found.append(
            f"Chance is not ruled out: the interval of {_named(name, level)} holds 0.5 "
            f"({ends[0]:.3f} to {ends[1]:.3f})."
        )
    for baseline, other in report["baselines"].items():
        gain = (other.get("gain") or {}).get(name)
        if baseline != "majority" and gain and gain["ci95"] and gain["ci95"][0] <= 0:
            what = BASELINES.get(baseline, baseline)
            found.append(
                f"Not shown to be better than a baseline that never looks for a disease ({what}): "
                f"{title(name)} differs by {gain['difference']:+.3f} "
                f"({gain['ci95'][0]:+.3f} to {gain['ci95'][1]:+.3f})."
            )
    return found


def facts(report: Json) -> list[tuple[str, str]]:
    """Return what was scored and how, as (name, text) pairs."""
    found = [
        ("Recipe", str(report["recipe"])),
        ("Data", str(report["data"])),
        ("Split", str(report["split"])),
        ("Classes", ", ".join(report["classes"])),
        ("Prevalence", _prevalence(report)),
        ("Threshold", _threshold(report)),
        ("Intervals", _intervals(report["bootstrap"])),
    ]
    if report["prior"] is not None:
        found.append(("Probabilities", _prior(report)))
    if report.get("uncorrected"):
        found.append(("Probabilities", f"not corrected for the sampling: {report['uncorrected']}"))
    if report.get("unlabelled"):
        found.append(("Left out", f"{report['unlabelled']:,} samples without a label"))
    return found


def _threshold(report: Json) -> str:
    shown = report["threshold"]
    if shown is None:
        return f"none: {report['threshold_reason']}"
    rule = report.get("threshold_rule", "chosen")  # not told in reports of before
    if isinstance(shown, Mapping):
        each = ", ".join(f"{value:.3f} for {fold}" for fold, value in shown.items())
        return f"{rule} on each fold's own validation samples: {each}"
    return f"{shown:.4g}, {rule} on the validation samples"


def _intervals(bootstrap: Json) -> str:
    if not bootstrap["draws"]:
        return "not computed"
    apart = " and ".join(bootstrap.get("strata", ()))
    drawn = f", drawn by {apart}" if apart else ""
    covers = bootstrap.get("covers", "")
    told = f"; {covers}" if covers else ""
    return f"95 %, {bootstrap['draws']:,} resamples of whole groups{drawn}{told}"


def _prior(report: Json) -> str:
    if (parts := report["prior"].get("folds")) is not None:
        count = sum(each is not None for each in parts.values())
        return (
            "corrected to the prevalence of each fold's own training split "
            f"({count} of {len(parts)} folds). {COLUMNS}"
        )
    sampled, natural = report["prior"]["sampled"], report["prior"]["natural"]
    each = [
        f"{name} {100 * new:.2f} % instead of {100 * old:.2f} %"
        for name, new, old in zip(report["classes"], natural, sampled, strict=True)
    ]
    return f"corrected to the prevalence of the training split: {', '.join(each)}. {COLUMNS}"


def scores(report: Json) -> dict[str, Any]:
    """Return the metrics of every level, one row a metric."""
    # no exams in reports of before
    upper = {n: report["levels"][n] for n in LEVELS[1:] if n in report["levels"]}
    present = {IMAGE: report} | {k: v for k, v in upper.items() if v["n"] is not None}
    first = first_level(report)[0]
    present = {first: present[first]} | present
    rows: list[dict[str, Any]] = [
        {
            "title": title(name),
            "cells": [figure(level["metrics"][name]) for level in present.values()],
        }
        for name in report["metrics"]
    ]
    return {
        "levels": [
            {"name": name, "n": level["n"], "groups": level["groups"]}
            for name, level in present.items()
        ],
        "has_breasts": "breast" in present,
        "has_exams": "exam" in present,
        "assumed": report["levels"].get("exams_assumed", 0),
        "rows": rows,
        "reasons": _reasons(cell for row in rows for cell in row["cells"]),
        "missing": [(k, v["reason"]) for k, v in upper.items() if v["n"] is None],
        "combine": report["levels"]["combine"],
    }


def measures(report: Json) -> dict[str, Any]:
    """Return what scores do not say, one row a measure."""
    found = report.get("measures", {})
    ordered = [name for name in TITLES if name in found]
    ordered += [name for name in found if name not in TITLES]
    cells = {name: figure(found[name]) for name in ordered}
    rows = [{"title": title(name), "cell": cell} for name, cell in cells.items()]
    return {"rows": rows, "reasons": _reasons(cells.values())}


def baselines(report: Json) -> dict[str, Any]:
    """Return the model's metrics beside those of the baselines, one row a metric."""
    order = [*BASELINES, *(n for n in report["baselines"] if n not in BASELINES)]
    chosen = [n for n in order if (report["baselines"].get(n) or {}).get("metrics")]
    tables = [report["metrics"], *(report["baselines"][name]["metrics"] for name in chosen)]
    main = main_metric(report)
    gains = [_gain(report["baselines"][name]["gain"][main]) for name in chosen]
    rows: list[dict[str, Any]] = [
        {"title": title(name), "cells": [figure(table.get(name)) for table in tables]}
        for name in OF_BASELINES
        if name in report["metrics"]
    ]
    return {
        "names": [BASELINES.get(name, name) for name in chosen],
        "rows": rows,
        "main": title(main),
        "gains": gains,
        "reasons": _reasons([*(cell for row in rows for cell in row["cells"]), *gains]),
        "missing": [
            (BASELINES.get(name, name), other["reason"])
            for name, other in report["baselines"].items()
            if not other["metrics"]
        ],
    }


def _gain(gain: Json) -> dict[str, Any]:
    ends = gain["ci95"]
    return {
        "value": "-" if gain["difference"] is None else f"{gain['difference']:+.3f}",
        "ends": NO_INTERVAL if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}",
        "reason": gain.get("reason", ""),
    }


def slices(report: Json) -> list[dict[str, Any]]:
    """Return one table a slice, one row a part."""
    main = main_metric(report)
    found = []
    for name, parts in report["slices"].items():
        others = [m for m in next(iter(parts.values()))["metrics"] if m != main]
        rows = [_part(part, values, main, others) for part, values in parts.items()]
        cells = (cell for row in rows for cell in (row["main"], *row["others"]))
        found.append(
            {
                "name": name.capitalize(),
                "main": title(main),
                "others": [title(metric) for metric in others],
                "rows": rows,
                "whole": report["metrics"][main]["value"],
                "reasons": _reasons(cells),
            }
        )
    return found


def _part(part: str, values: Json, main: str, others: Sequence[str]) -> dict[str, Any]:
    share, estimate = values["prevalence"], values["metrics"][main]
    return {
        "name": part,
        "n": values["n"],
        "groups": values["groups"],
        "prevalence": "" if isinstance(share, Mapping) else f"{100 * share:.1f} %",
        "main": figure(estimate),
        "place": estimate["value"],
        "ends": estimate["ci95"],
        "others": [figure(values["metrics"][metric]) for metric in others],
    }


def confusion(report: Json) -> dict[str, Any] | None:
    """Return the table of decisions with shares of each true class; the worst pairs of many."""
    table = report["confusion"]
    if table is None:
        return None
    names = report["classes"]
    cells = [
        [{"count": count, "share": count / max(sum(row), 1)} for count in row] for row in table
    ]
    if len(names) <= CONFUSION:
        return {"names": names, "rows": list(zip(names, cells, strict=True)), "pairs": []}
    pairs = [
        (-cell["count"], names[true], names[said], cell)
        for true, row in enumerate(cells)
        for said, cell in enumerate(row)
        if true != said and cell["count"]
    ]
    pairs.sort(key=lambda pair: pair[:3])
    shown = [{"true": true, "said": said, **cell} for _, true, said, cell in pairs[:PAIRS]]
    return {"names": names, "rows": [], "pairs": shown}
