"""Losses by name; each returns one value a sample, so that whoever asks can weigh them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of logits (B,) and targets (B,) in [0, 1], each sample's own."""
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def focal(logits: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of logits (B,) and targets (B,) in [0, 1] (Lin et al. 2017, arXiv:1708.02002).

    A sample's cross-entropy counts by ``(1 - p)^gamma``, p the probability of its own class.
    """
    probability = torch.sigmoid(logits)
    own = probability * targets + (1 - probability) * (1 - targets)
    # a power below 1 has no gradient at 0, where a model is sure
    other = (1 - own).clamp_min(torch.finfo(own.dtype).tiny)
    return other**gamma * bce(logits, targets)


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, classes) and class numbers (B,), each sample's own."""
    return functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Return binary targets moved towards one half: 0.1 makes .05 of 0 and .95 of 1."""
    return targets * (1 - smoothing) + smoothing / 2 if smoothing else targets
