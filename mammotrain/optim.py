"""Optimiser, learning rate and averaged weights, by timm and torch."""

from collections.abc import Iterable
from math import cos, pi
from typing import Any

import torch
from torch import nn

from mammoprep.core.errors import ConfigError
from mammotrain._torchvision import ensure_importable
from mammotrain.config import TrainConfig


def optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimiser: no weight decay on norms and biases, layer decay where asked for.

    Raises:
        ConfigError: layer decay of a model that does not tell in which order its layers are.
    """
    ensure_importable()
    import timm.optim

    name = "momentum" if config.optimiser == "sgd" else config.optimiser
    found: torch.optim.Optimizer = timm.optim.create_optimizer_v2(  # type: ignore[attr-defined]
        _by_layer(model, config) if config.layer_decay else model,
        opt=name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )
    return found


def _by_layer(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return groups of parameters with each layer's ``lr_scale``, 1 for the top.

    timm alone would put all of a model that it does not know into one layer, and go on.
    """
    import timm.optim

    ordered = model if hasattr(model, "group_matcher") else getattr(model, "encoder", None)
    if ordered is None or not hasattr(ordered, "group_matcher"):
        raise ConfigError(
            "train.layer_decay needs a model of timm, which tells in which order its layers are; "
            f"{type(model).__name__} does not. Leave it out: train.layer_decay=0."
        )
    groups: list[dict[str, Any]] = timm.optim.param_groups_layer_decay(  # type: ignore[attr-defined]
        ordered,
        weight_decay=config.weight_decay,
        no_weight_decay_list=getattr(ordered, "no_weight_decay", frozenset)(),
        layer_decay=config.layer_decay,
    )
    below = {id(value) for value in ordered.parameters()}
    rest = [value for value in model.parameters() if id(value) not in below]
    for group in groups if rest else ():  # a head stands on top of an encoder
        group["lr_scale"] *= config.layer_decay
    for decay, some in (
        (0.0, [value for value in rest if value.ndim <= 1]),
        (config.weight_decay, [value for value in rest if value.ndim > 1]),
    ):
        groups += [{"params": some, "weight_decay": decay}] if some else []
    return groups


def rate(config: TrainConfig, step: int, total: int) -> float:
    """Return the learning rate of a step, a pure function of its number.

    Args:
        config: Rate, schedule, warm-up.
        step: From 0.
        total: Steps of the whole training.
    """
    warmup = warmup_steps(config, total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    done = (step - warmup) / max(1, total - warmup)
    return config.min_lr + (config.lr - config.min_lr) * (1 + cos(pi * min(done, 1.0))) / 2


def warmup_steps(config: TrainConfig, total: int) -> int:
    """Return how many steps the rate rises for, of ``total``."""
    return int(config.warmup * total)


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
