"""The run's page: one self-contained HTML document, the same for the same input.

It asks for nothing outside itself and holds no script. Every text is escaped by the template
engine, whatever its source.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from mammoprep.core.text import visible
from mammotrain.report import (
    by_fold,
    curves,
    operating,
    others,
    pictures,
    roles,
    segmentation,
    tables,
    training,
)
from mammotrain.report.pictures import Picture
from mammotrain.report.segmentation import NO_MASKS, Masks
from mammotrain.scores import Scores


def render(
    report: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    scores: Scores,
    picture: Picture,
    masks: Masks = NO_MASKS,
) -> str:
    """Return the page of a run.

    Args:
        report: What ``assemble.assemble`` returned, or report.json.
        log: Rows of log.jsonl, in order; may be empty. A step has ``step`` and numbers by name, a
            validation has ``validation``, a mapping of metrics.
        scores: What the report's figures are of.
        picture: Gives a sample's picture by its key; see ``pictures.sheets``.
        masks: Of a task that segments; rows of the measures are those of ``scores``.
    """
    shown = scores.labelled()
    table = report["confusion"]
    decisions = None if table is None else np.array(table, np.int64)
    context = {
        "report": report,
        "head": tables.headline(report),
        "facts": tables.facts(report),
        "scores": tables.scores(report),
        "measures": tables.measures(report),
        "baselines": tables.baselines(report),
        "operating": operating.sections(report),
        "slices": tables.slices(report),
        "folds": by_fold.table(report),
        "roles": roles.table(report),
        "others": others.tables(report),
        "confusion": tables.confusion(report),
        "curves": curves.of_scores(shown, decisions),
        "training": training.curves(log),
        "summary": training.summary(log),
        "validations": training.validations(log),
        "statistics": training.statistics(log),
        "sheets": pictures.sheets(shown, picture),
        "masks": segmentation.sheets(scores, masks, picture),
    }
    return fill("run.html.j2", context)


def trained(report: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of a run that scores nobody: who trained, and how it went."""
    context = {"report": report, "roles": roles.table(report), "summary": training.summary(log)}
    return fill("trained.html.j2", context)


def fill(template: str, context: Mapping[str, Any]) -> str:
    """Return a template of this package with its gaps filled; every text is escaped."""
    return _environment().get_template(template).render(context)


def write(path: Path, page: str) -> None:
    """Write ``report.html``, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8", newline="\n")
    partial.replace(path)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mammotrain", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_cell,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(thousands=lambda count: f"{count:,}")
    return environment


def _cell(value: Any) -> Any:
    # Markup is a subclass of str: what is already safe passes unchanged.
    return visible(value) if type(value) is str else value
