"""Do trials differ by more than the patients that score them make any two trials differ?

A search over settings always finds something that explains its trials: of three at .5000, .5023 and
.5000 one setting explains everything. Before any share is shown, the trials must differ by more
than the error of the validation metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mammoprep.stats import resampling
from mammotrain import bootstrap, checkpoint, distributed, folder, measures, rehearsal, setup
from mammotrain.collapse import error_by_chance
from mammotrain.evaluate import Scored
from mammotrain.run import Request as RunRequest
from mammotrain.thresholds import Threshold

Floats = NDArray[np.float64]

DRAWS = 500  # a standard error to 3 %
# Of fewer the forest that shares out importances tells too little: a setting without any effect,
# beside one that moved an AUROC by .15, got .50 of 10 trials, .36 (up to .94) of 15, .18 of 20 and
# .10 of 40 (mean of 12 studies; noise .02).
FEWEST = 20
ALPHA = 0.05
RANKINGS = ("auroc", "macro_auroc")


@dataclass(frozen=True)
class Verdict:
    """Whether a study tells which settings mattered.

    Attributes:
        tells: Whether it does.
        reason: Why not, a sentence; empty where it does.
        error: Standard error of the best trial's validation metric, by drawing patients; None where
            nobody knows.
        spread: Standard deviation of the trials' values; None of fewer than two.
    """

    tells: bool
    reason: str
    error: float | None
    spread: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "tells": self.tells,
            "reason": self.reason,
            "error": self.error,
            "spread": self.spread,
        }


def judge(values: Sequence[float], error: float | None, monitor: str) -> Verdict:
    """Return whether trials differ by more than noise.

    Their sum of squares is compared with the chi-squared distribution that independent errors of
    this size give. Trials are scored on the same patients, so that their errors are alike and the
    true noise is smaller: what passes differs, and of what does not nobody can tell.

    Args:
        values: Of the finished trials.
        error: Standard error of one value, or None.
        monitor: What the values are of.
    """
    number = len(values)
    spread = float(np.std(values, ddof=1)) if number > 1 else None
    if number < FEWEST or spread is None:
        reason = (
            f"Too few trials came to an end to tell which settings mattered: {number}, and it "
            f"takes {FEWEST}."
        )
        return Verdict(False, reason, error, spread)
    if error is None:
        reason = (
            f"Which settings mattered cannot be told: how far {monitor} moves with other "
            "validation patients is not known here."
        )
        return Verdict(False, reason, error, spread)
    highest = float(stats.chi2.ppf(1 - ALPHA, number - 1))
    if spread**2 * (number - 1) <= highest * error**2:
        reason = (
            f"Which settings mattered cannot be told: the {number} trials differ by no more "
            f"(standard deviation {spread:.4f}) than other validation patients would make "
            f"{monitor} differ (standard error {error:.4f}). The best trial may be best by chance."
        )
        return Verdict(False, reason, error, spread)
    return Verdict(True, "", error, spread)


def error_of_trial(request: RunRequest) -> float | None:
    """Return the standard error of a trial's monitored validation metric; None where it has none.

    The trial is asked once more about its validation samples, with its best weights.

    Args:
        request: What the trial was; its folder has its checkpoints.
    """
    if not checkpoint.steps(request.out / folder.CHECKPOINTS):
        return None
    config = request.config
    with distributed.joined(request.device) as world:
        table = setup.open_shards(config, request.data)
        made, model = rehearsal.rehearse(config, table, request.side, world)
        saved = checkpoint.best(request.out / folder.CHECKPOINTS)
        model.load_state_dict(dict(saved.weights if saved.average is None else saved.average))
        scored, _ = rehearsal.validation(made, model, made.roles.validate)
    return error_of(scored, config.train.monitor)


def error_of(scored: Scored, monitor: str) -> float | None:
    """Return the standard error of a metric or measure over patients; None where there is none.

    Args:
        scored: Validation samples.
        monitor: The metric's name; ``auroc`` of more classes is the mean of theirs.
    """
    if monitor in scored.measures:
        pairs = {monitor: scored.measures[monitor]}
        drawn = measures.draw(pairs, scored.scores.group, DRAWS)[monitor].replicates
        return _error(drawn)
    scores = scored.scores.labelled()
    if monitor == "auroc" and len(scores.names) > 2:
        monitor = "macro_auroc"
    found = bootstrap.draw(scores, Threshold(None, None), DRAWS)
    if found.replicates is not None:
        return _error(found.replicates.get(monitor))
    return error_by_chance(scores) if monitor in RANKINGS else None


def _error(drawn: Floats | None) -> float | None:
    known = np.zeros(0) if drawn is None else drawn[np.isfinite(drawn)]
    if drawn is None or known.size < resampling.FEWEST_DEFINED * drawn.size:
        return None
    return float(known.std(ddof=1))
