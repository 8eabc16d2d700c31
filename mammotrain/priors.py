"""Probabilities as they would be, had training seen classes as often as they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammotrain.scores import Scores

Floats = NDArray[np.float64]

NOT_SAID = (
    "the task does not say that its scores are probabilities at the prevalence of training "
    "(contracts.Corrects)"
)


@dataclass(frozen=True)
class Prior:
    """How often each class was seen, and how often it is; shares that sum to 1.

    Attributes:
        sampled: Share of each class among what was trained on, as sampled (and weighted).
        natural: Share of each class in the training split.
    """

    sampled: tuple[float, ...]
    natural: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the shares; raises ConfigError."""
        for name, shares in (("sampled", self.sampled), ("natural", self.natural)):
            if len(shares) < 2 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
                raise ConfigError(f"The {name} prevalence must be shares of 1, got {shares}.")
        if len(self.sampled) != len(self.natural):
            raise ConfigError(f"Two prevalences of different classes: {self}.")
        for seen, real in zip(self.sampled, self.natural, strict=True):
            if real > 0 and seen == 0:
                raise ConfigError(f"A class was never sampled: {self.sampled}, is {self.natural}.")

    @property
    def changes(self) -> bool:
        """Whether sampling changed the prevalence at all."""
        return not np.allclose(self.sampled, self.natural, rtol=0, atol=1e-6)


def allowed(task: object) -> str:
    """Return why a task's scores are not corrected for the prevalence; an empty text if they are.

    Bayes' rule asks for probabilities at the prevalence that training saw. What a focal loss, label
    smoothing, an error or a mean of pixels gives are none, and the rule would only move them. A
    task says so itself (``contracts.Corrects``); of one that does not nothing is known.
    """
    return str(getattr(task, "uncorrected", NOT_SAID))


def of_labels(
    sampled: NDArray[np.int64],
    natural: NDArray[np.int64],
    classes: int,
    weights: Floats | None = None,
) -> Prior:
    """Return the prior by the labels as sampled and as they are in the training split.

    Args:
        sampled: Classes of the samples of an epoch, -1 where unknown.
        natural: Classes of the training split.
        classes: How many there are.
        weights: (classes,) what each counts in the loss; None for alike.
    """
    return Prior(_shares(sampled, classes, weights), _shares(natural, classes))


def _shares(
    labels: NDArray[np.int64], classes: int, weights: Floats | None = None
) -> tuple[float, ...]:
    counts = np.bincount(labels[labels >= 0], minlength=classes).astype(np.float64)
    counted: Sequence[float] = (counts if weights is None else counts * weights).tolist()
    return tuple(count / (sum(counted) or 1.0) for count in counted)


def correct(values: Floats, prior: Prior) -> Floats:
    """Return (n, classes) probabilities for the natural prevalence; the rows sum to 1.

    By Bayes' rule: each class's probability times natural by sampled share, normalised. Of two
    classes the order of samples stays.
    """
    factor = np.divide(prior.natural, prior.sampled, out=np.zeros(len(prior.sampled)),
                       where=np.array(prior.sampled) > 0)  # fmt: skip
    odds = values * factor
    total = odds.sum(axis=1, keepdims=True)
    # A sample that is surely of a class that does not occur has no odds at all: it stays.
    return np.where(total > 0, odds / np.where(total > 0, total, 1.0), values)


def corrected(scores: Scores, prior: Prior | None) -> Scores:
    """Return scores judged by probabilities for the natural prevalence; see ``correct``."""
    if prior is None or not prior.changes:
        return scores
    return scores.corrected(correct(scores.given, prior))
