"""ROC, precision and recall, calibration: what scores look like, as plots."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from mammotrain import calibration
from mammotrain.report.plots import Axis, Line, Plot, draw, thinned
from mammotrain.scores import Scores

Floats = NDArray[np.float64]
Point = tuple[float, float]

CLASSES = 8  # as many colours as there are
RECALLS = 201  # points of a mean curve
SHARES = 25  # bars of the histogram


def of_scores(scores: Scores, confusion: NDArray[np.int64] | None) -> list[Plot]:
    """Return the plots of some scores: two classes have four, more have two.

    Args:
        scores: All labelled, corrected as the report's figures are.
        confusion: The table at the chosen threshold, which is marked on the curves; or None.
    """
    if not any(_apart(scores.label == each, scores) for each in np.unique(scores.label)):
        return []
    if len(scores.names) > 2:
        return [_one_versus_rest(scores), _calibration(scores)]
    return [
        _roc(scores, confusion),
        _precision_recall(scores, confusion),
        _calibration(scores),
        _histogram(scores),
    ]


def _unit(label: str) -> Axis:
    return Axis(0.0, 1.0, label)


def _guide(x: list[float], y: list[float], name: str) -> Line:
    return Line(np.array(x), np.array(y), "guide", name)


def _mark(x: float, y: float) -> Line:
    return Line(np.array([x]), np.array([y]), "mark", "chosen threshold", dots=True)


def _apart(positive: NDArray[np.bool_], scores: Scores) -> list[tuple[NDArray[np.bool_], int]]:
    """Return what is ranked apart and how many positives it has; one class alone is left out."""
    strata = scores.strata
    inside = [np.full(len(scores), True)]
    if strata is not None:
        inside = [strata == number for number in np.unique(strata)]
    both = [rows for rows in inside if 0 < positive[rows].sum() < rows.sum()]
    return [(rows, int(positive[rows].sum())) for rows in both]


def _receiver(positive: NDArray[np.bool_], score: Floats, scores: Scores) -> tuple[Floats, Floats]:
    """Return the points of a ROC curve, whose area is the AUROC of the report.

    Of folds that is the mean of their curves at each specificity, weighed by their pairs.
    """
    parts = _apart(positive, scores)
    curves = [roc_curve(positive[rows], score[rows], drop_intermediate=False) for rows, _ in parts]
    if len(parts) == 1:
        return curves[0][0], curves[0][1]
    false = np.unique(np.concatenate([each[0] for each in curves]))
    weights = [count * (int(rows.sum()) - count) for rows, count in parts]
    # a step is a jump: what comes before it (numpy takes the last of equal places), what after
    before = [np.interp(-false, -x[::-1], y[::-1]) for x, y, _ in curves]
    after = [np.interp(false, x, y) for x, y, _ in curves]
    heights = [np.average(each, axis=0, weights=weights) for each in (before, after)]
    return np.repeat(false, 2), np.stack(heights, axis=1).ravel()


def _roc(scores: Scores, confusion: NDArray[np.int64] | None) -> Plot:
    false, true = _receiver(scores.label == 1, scores.values[:, 1], scores)
    lines = [_guide([0, 1], [0, 1], "chance"), Line(*thinned(false, true))]
    if confusion is not None:
        sides = confusion.sum(axis=1)
        lines.append(_mark(confusion[0, 1] / sides[0], confusion[1, 1] / sides[1]))
    return draw("ROC", _unit("1 - specificity"), _unit("sensitivity"), lines)


def _one_versus_rest(scores: Scores) -> Plot:
    lines = [_guide([0, 1], [0, 1], "chance")]
    present = [each for each in np.unique(scores.label) if _apart(scores.label == each, scores)]
    for colour, place in enumerate(int(each) for each in present[:CLASSES]):
        false, true = _receiver(scores.label == place, scores.values[:, place], scores)
        lines.append(Line(*thinned(false, true), f"c{colour}", scores.names[place]))
    title = "ROC, each class against the rest"
    title += f" (the first {CLASSES})" if len(present) > CLASSES else ""
    return draw(title, _unit("1 - specificity"), _unit("sensitivity"), lines)


def _precision_recall(scores: Scores, confusion: NDArray[np.int64] | None) -> Plot:
    positive = scores.label == 1
    share = float(positive.mean())
    lines = [_guide([0, 1], [share, share], "prevalence")]
    lines.append(Line(*thinned(*_retrieval(positive, scores.values[:, 1], scores))))
    if confusion is not None and confusion[:, 1].any():
        hits = confusion[1, 1]
        lines.append(_mark(hits / confusion[1].sum(), hits / confusion[:, 1].sum()))
    return draw("Precision and recall", _unit("recall (sensitivity)"), _unit("precision"), lines)


def _retrieval(positive: NDArray[np.bool_], score: Floats, scores: Scores) -> tuple[Floats, Floats]:
    """Return recall and precision; of folds the mean at each recall, weighed by positives."""
    parts = _apart(positive, scores)
    curves = []
    for rows, _ in parts:
        precision, recall, _ = precision_recall_curve(positive[rows], score[rows])
        # The last point, (0, 1), is a convention and no threshold's; a line to it would mislead.
        precision[-1] = precision[-2]
        curves.append((recall[::-1], precision[::-1]))
    if len(curves) == 1:
        return curves[0]
    recall = np.linspace(0, 1, RECALLS)
    # a recall is reached at the first point that has at least as much
    each = [p[np.minimum(np.searchsorted(r, recall), len(r) - 1)] for r, p in curves]
    return recall, np.average(each, axis=0, weights=[count for _, count in parts])


def _calibration(scores: Scores) -> Plot:
    if len(scores.names) == 2:
        labels = (f"mean probability of {scores.names[1]}", f"share of {scores.names[1]}")
    else:
        labels = ("mean probability of the class said", "share of right answers")
    found = calibration.bins(scores)
    said, share = (np.array([each[name] for each in found]) for name in ("predicted", "observed"))
    low, high = np.array([each["ci95"] for each in found]).T
    lines = [
        _guide([0, 1], [0, 1], "perfect"),
        Line(said, low, "band", "95 % of the bin", high),
        Line(said, share, dots=True),
    ]
    return draw("Calibration", _unit(labels[0]), _unit(labels[1]), lines)


def _histogram(scores: Scores) -> Plot:
    borders = np.linspace(0, 1, SHARES + 1)
    across = np.repeat(borders, 2)[1:-1]
    lines, top = [], 0.0
    for place, kind in ((0, "main"), (1, "second")):
        inside = scores.values[scores.label == place, 1]
        share = np.histogram(inside, borders)[0] / max(inside.size, 1)
        top = max(top, float(share.max()))
        lines.append(Line(across, np.repeat(share, 2), kind, scores.names[place]))
    vertical = Axis(0.0, 1.05 * top, "share of the class")
    return draw("Scores by class", _unit(f"probability of {scores.names[1]}"), vertical, lines)
