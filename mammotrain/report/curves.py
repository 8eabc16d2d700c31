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
SHARES = 25  # bars of the histogram


def of_scores(scores: Scores, confusion: NDArray[np.int64] | None) -> list[Plot]:
    """Return the plots of some scores: two classes have four, more have two.

    Args:
        scores: All labelled, corrected as the report's figures are.
        confusion: The table at the chosen threshold, which is marked on the curves; or None.
    """
    if len(np.unique(scores.label)) < 2:
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


def _roc(scores: Scores, confusion: NDArray[np.int64] | None) -> Plot:
    false, true, _ = roc_curve(scores.label == 1, scores.values[:, 1])
    lines = [_guide([0, 1], [0, 1], "chance"), Line(*thinned(false, true))]
    if confusion is not None:
        sides = confusion.sum(axis=1)
        lines.append(_mark(confusion[0, 1] / sides[0], confusion[1, 1] / sides[1]))
    return draw("ROC", _unit("1 - specificity"), _unit("sensitivity"), lines)


def _one_versus_rest(scores: Scores) -> Plot:
    lines = [_guide([0, 1], [0, 1], "chance")]
    present = np.unique(scores.label)
    for colour, place in enumerate(int(each) for each in present[:CLASSES]):
        false, true, _ = roc_curve(scores.label == place, scores.values[:, place])
        lines.append(Line(*thinned(false, true), f"c{colour}", scores.names[place]))
    title = "ROC, each class against the rest"
    title += f" (the first {CLASSES})" if len(present) > CLASSES else ""
    return draw(title, _unit("1 - specificity"), _unit("sensitivity"), lines)


def _precision_recall(scores: Scores, confusion: NDArray[np.int64] | None) -> Plot:
    positive = scores.label == 1
    precision, recall, _ = precision_recall_curve(positive, scores.values[:, 1])
    share = float(positive.mean())
    # The last point, (0, 1), is a convention and no threshold's; a line to it would mislead.
    precision[-1] = precision[-2]
    lines = [_guide([0, 1], [share, share], "prevalence")]
    lines.append(Line(*thinned(recall, precision)))
    if confusion is not None and confusion[:, 1].any():
        hits = confusion[1, 1]
        lines.append(_mark(hits / confusion[1].sum(), hits / confusion[:, 1].sum()))
    return draw("Precision and recall", _unit("recall (sensitivity)"), _unit("precision"), lines)


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
