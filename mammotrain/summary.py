"""What the command line prints when something was scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mammotrain.report import by_fold, operating, others
from mammotrain.report.tables import first_alarms

IMAGE, BREAST = "image", "breast"
SHOWN = ("auroc", "average_precision", "macro_auroc", "f1", "macro_f1", "accuracy")
OF_BREASTS = ("auroc", "macro_auroc", "average_precision", "pf1", "pf1_binarised", "macro_f1")
MEASURES = ("dice", "lesion_recall", "false_positives")
WIDTH = 19

Json = Mapping[str, Any]


def summary(report: Json, out: Path) -> str:
    """Return what was scored, what is to be known before the scores, these, and where to look.

    Scores stand beside those of the baselines, at the level that the report begins with first.

    Args:
        report: The content of report.json.
        out: Where it lies.
    """
    if not report["n"]:
        return f"Every sample trained; none is scored. Look at: {out / 'report.html'}"
    images, breasts = _images(report), _breasts(report)
    parts = [images, breasts]
    if report["levels"].get("first", IMAGE) == BREAST:
        parts = [breasts, [f"{report['n']:,} images:", *(f"  {line}" for line in images)]]
    lines = [
        f"Scored {report['n']:,} samples of {report['groups']:,} groups ({report['split']}).",
        *first_alarms(report),
        *_measures(report),
        *(line for part in parts for line in part),
        *operating.lines(report),
        *by_fold.lines(report),
        *others.lines(report),
    ]
    return "\n".join([*lines, f"Look at: {out / 'report.html'}"])


def _measures(report: Json) -> list[str]:
    """Return Dice and its like, and then what else a task measures."""
    found = report.get("measures", {})
    names = [name for name in MEASURES if name in found]
    names += [name for name in found if name not in MEASURES]
    return [_line(name, found[name]) for name in names if found[name]["value"] is not None]


def _images(report: Json) -> list[str]:
    lines = []
    for name in SHOWN:
        if (own := report["metrics"].get(name)) is None or own["value"] is None:
            continue
        others = [
            f"{kind} {other['metrics'][name]['value']:.3f}"
            for kind, other in report["baselines"].items()
            if ((other["metrics"] or {}).get(name) or {}).get("value") is not None
        ]
        lines.append(f"{_line(name, own)}   beside: {', '.join(others) or '-'}")
    return lines


def _breasts(report: Json) -> list[str]:
    found = report["levels"][BREAST]
    if not found["n"]:
        return []
    names = [name for name in OF_BREASTS if name in found["metrics"]]
    known = [(name, found["metrics"][name]) for name in names]
    lines = [_line(f"  {name}", each) for name, each in known if each["value"] is not None]
    name, first = known[0]
    if first["value"] is None:
        lines.insert(0, f"{'  ' + name:<{WIDTH}} -     ({first['reason']})")
    return [f"{found['n']:,} breasts:", *lines]


def _line(name: str, estimate: Json) -> str:
    low, high = estimate.get("ci95") or (None, None)
    interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
    return f"{name:<{WIDTH}} {estimate['value']:.3f}{interval}"
