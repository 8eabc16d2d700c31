"""What a report says besides its metrics, level by level: operating points, calibration, classes.

The figures of one level come from ``operating``, ``calibration`` and ``one_against_rest``; here is
what a run hands on to a cv, or to whoever scores with it later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mammotrain import calibration, one_against_rest, operating
from mammotrain.calibration import Lines
from mammotrain.resampled import Draws
from mammotrain.thresholds import Fixed, Judged

Json = dict[str, Any]
POINTS, CALIBRATION, REST = "operating_points", "calibration", "one_against_rest"


@dataclass(frozen=True)
class Chosen:
    """What was chosen before, on validation samples.

    Attributes:
        points: Level -> rule -> threshold, one by fold for scores of several folds.
        lines: Level -> slope and intercept, one by fold for scores of several folds.
    """

    points: Mapping[str, Mapping[str, Fixed]]
    lines: Mapping[str, Lines]


@dataclass(frozen=True)
class Asked:
    """What is wanted.

    Attributes:
        prevalence: Level -> share of positives among those screened, as somebody stated it.
        chosen: What was chosen before; None for choosing it on the validation samples.
        draws: The resamples.
    """

    prevalence: Mapping[str, float] = field(default_factory=dict)
    chosen: Chosen | None = None
    draws: Draws = Draws()  # noqa: RUF009 - frozen


def figures(judged: Mapping[str, Judged], asked: Asked) -> Json:
    """Return three entries of report.json.

    ``operating_points``: the rows of all levels. ``calibration``: level -> figures.
    ``one_against_rest``: level -> figures, of more than two classes.

    Args:
        judged: Level -> its scores and validation samples, of the levels that there are.
        asked: What is wanted.
    """
    points: list[Json] = []
    lines, rest = dict[str, Json](), dict[str, Json]()
    for level, each in judged.items():
        points += operating.points(each, _points(level, asked))
        before = None if asked.chosen is None else asked.chosen.lines.get(level, {})
        lines[level] = calibration.of(each, level, before, asked.draws)
        if (found := one_against_rest.of(each.scores, asked.draws)) is not None:
            rest[level] = found
    return {POINTS: points, CALIBRATION: lines, REST: rest}


def _points(level: str, asked: Asked) -> operating.Asked:
    fixed = {} if asked.chosen is None else asked.chosen.points.get(level, {})
    return operating.Asked(level, asked.prevalence, fixed, asked.draws)


def chosen_by(report: Mapping[str, Any]) -> Chosen:
    """Return what a run chose on its validation samples, by its report.json."""
    rows, lines = report.get(POINTS, []), report.get(CALIBRATION, {})
    found = {level: calibration.line_of(each) for level, each in lines.items()}
    return Chosen(
        {level: operating.chosen(rows, level) for level in lines},
        {level: line for level, line in found.items() if line is not None},
    )


def chosen_by_folds(reports: Mapping[str, Mapping[str, Any]]) -> Chosen:
    """Return what the run of every fold chose on its own validation samples.

    Args:
        reports: Fold, as ``Scores.fold`` names it -> the run's report.json.
    """
    levels = dict.fromkeys(level for each in reports.values() for level in each[CALIBRATION])
    points, lines = {}, {}
    for level in levels:
        rows = {fold: each[POINTS] for fold, each in reports.items()}
        points[level] = operating.by_fold(rows, level)
        told = {fold: each[CALIBRATION].get(level) for fold, each in reports.items()}
        lines[level] = calibration.by_fold({fold: each for fold, each in told.items() if each})
    return Chosen(points, lines)
