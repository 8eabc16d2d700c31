"""Optimiser, learning rate and averaged weights, by timm and torch."""

from collections.abc import Iterable
from math import cos, pi
from typing import Any

import torch
from torch import nn

from mammotrain._torchvision import ensure_importable
from mammotrain.config import TrainConfig


def optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser: no weight decay on norms and biases, layer decay where asked for."""
    ensure_importable()
    import timm.optim

    name = "momentum" if config.optimiser == "sgd" else config.optimiser
    found: torch.optim.Optimizer = timm.optim.create_optimizer_v2(  # type: ignore[attr-defined]
        model,
        opt=name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        layer_decay=config.layer_decay or None,
    )
    return found


def rate(config: TrainConfig, step: int, total: int) -> float:
    """Return the learning rate of a step, a pure function of its number.

    Args:
        config: Rate, schedule, warm-up.
        step: From 0.
        total: Steps of the whole training.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return config.min_lr + (config.lr - config.min_lr) * (1 + cos(pi * min(done, 1.0))) / 2


def set_rate(groups: Iterable[dict[str, Any]], value: float) -> None:
    """Give every parameter group its rate; layer decay is each group's ``lr_scale``."""
    for group in groups:
        group["lr"] = value * float(group.get("lr_scale", 1.0))


def average(model: nn.Module, config: TrainConfig) -> Any:
    """Return the averaged copy of a model (timm's ModelEmaV3), or None where none is asked for."""
    if not config.ema:
        return None
    ensure_importable()
    import timm.utils

    return timm.utils.ModelEmaV3(  # type: ignore[attr-defined]
        model, decay=config.ema, use_warmup=True
    )
