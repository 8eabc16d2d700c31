"""Losses by name; each returns one value a sample, so that whoever asks can weigh them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]

WEIGHTS = ("none", "balanced", "effective")
SSIM_SIDE, SSIM_SIGMA = 11, 1.5  # of the Gaussian window, pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # of the paper, for a grey range of 1


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


def binary(
    logits: Tensor, targets: Tensor, kind: str, gamma: float = 2.0, smoothing: float = 0.0
) -> Tensor:
    """``focal`` where ``kind`` says so, else ``bce``, of targets (B,) in [0, 1] after smoothing."""
    wanted = smoothed(targets, smoothing)
    return focal(logits, wanted, gamma) if kind == "focal" else bce(logits, wanted)


def focal_cross_entropy(
    logits: Tensor, targets: Tensor, gamma: float = 2.0, smoothing: float = 0.0
) -> Tensor:
    """Focal loss of logits (B, classes) and class numbers (B,), for any number of classes.

    A sample's cross-entropy counts by ``(1 - p)^gamma``, p the probability of its own class. With
    smoothing its target is spread over all classes, and p is the mean probability by that target;
    of two classes that is ``focal`` of the ``smoothed`` targets.
    """
    plain = cross_entropy(logits, targets)
    each, other = plain, -torch.expm1(-plain)
    if smoothing:
        each = cross_entropy(logits, targets, smoothing)
        other = (1 - smoothing) * other + smoothing * (1 - 1 / logits.shape[1])
    return other.clamp_min(torch.finfo(each.dtype).tiny) ** gamma * each


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, classes) and class numbers (B,), each sample's own."""
    return functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Return binary targets moved towards one half: 0.1 makes .05 of 0 and .95 of 1."""
    return targets * (1 - smoothing) + smoothing / 2 if smoothing else targets


def squared_error(given: Tensor, made: Tensor) -> Tensor:
    """Mean squared difference of pictures (B, C, H, W), each sample's own."""
    return (given - made).square().mean(dim=(1, 2, 3))


def ssim(given: Tensor, made: Tensor) -> Tensor:
    """Structural similarity of pictures (B, C, H, W), 0-1, each sample's own (Wang et al. 2004).

    With a Gaussian window of 11 pixels and sigma 1.5, where it fits into the picture; 1 for equal
    pictures. Pictures of fewer than 11 pixels have a smaller window.
    """
    # variances are small differences, of which half precision leaves nothing
    with torch.autocast(given.device.type, enabled=False):
        return _ssim(given.float(), made.float())


def _ssim(given: Tensor, made: Tensor) -> Tensor:
    window = _window(min(SSIM_SIDE, *given.shape[-2:]), given)
    mean_a, mean_b = _blurred(given, window), _blurred(made, window)
    # rounding must not make a variance negative
    spread_a = (_blurred(given.square(), window) - mean_a.square()).clamp_min(0)
    spread_b = (_blurred(made.square(), window) - mean_b.square()).clamp_min(0)
    together = _blurred(given * made, window) - mean_a * mean_b
    light = (2 * mean_a * mean_b + SSIM_C1) / (mean_a.square() + mean_b.square() + SSIM_C1)
    shape = (2 * together + SSIM_C2) / (spread_a + spread_b + SSIM_C2)
    return (light * shape).mean(dim=(1, 2, 3))


def _window(side: int, like: Tensor) -> Tensor:
    place = torch.arange(side, dtype=like.dtype, device=like.device) - (side - 1) / 2
    weight = torch.exp(-place.square() / (2 * SSIM_SIGMA**2))
    return weight / weight.sum()


def _blurred(pictures: Tensor, window: Tensor) -> Tensor:
    """Return pictures averaged by a window along both sides, where it fits."""
    channels = pictures.shape[1]
    down = window.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    across = window.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    found = functional.conv2d(pictures, down, groups=channels)
    return functional.conv2d(found, across, groups=channels)


def uncorrected(kind: str, smoothing: float) -> str:
    """Return why no probabilities at the prevalence of training come of a loss; empty if they do.

    Args:
        kind: ``focal``, or a cross-entropy.
        smoothing: Label smoothing.
    """
    if kind == "focal":
        return "a focal loss gives no probabilities: it makes them less sure by its gamma"
    if smoothing:
        return f"label smoothing of {smoothing:g} moves probabilities towards one half"
    return ""


def class_weights(counts: NDArray[np.int64], kind: str, beta: float = 0.9999) -> Tensor:
    """Return what each class weighs in a loss, float32 (classes,).

    ``balanced`` weighs by one over the number of samples. ``effective`` (class-balanced loss, Cui
    et al. 2019, arXiv:1901.05555) weighs by one over the effective number
    (1 - beta^n) / (1 - beta): like ``none`` with beta 0, like ``balanced`` with beta near 1. The
    paper lets the weights sum to the number of classes; here a training sample weighs 1 on the
    mean, so that the loss has the same scale with any kind.

    Args:
        counts: (classes,) training samples of each; a class without any weighs nothing.
        kind: One of ``WEIGHTS``.
        beta: Of the effective number, at least 0 and below 1.
    """
    present = counts > 0
    if kind == "none" or not present.any():
        return torch.ones(len(counts))
    many = counts.astype(np.float64)
    if kind == "effective":
        # expm1 and log1p: 1 - beta^n is a difference of nearly equal numbers
        many = np.expm1(many * np.log(beta)) / (beta - 1) if beta > 0 else present.astype(float)
    weights = np.divide(1.0, many, out=np.zeros(len(many)), where=present)
    mean = (weights * counts).sum() / counts.sum()
    return torch.from_numpy(weights / mean).float()
