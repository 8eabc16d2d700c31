"""Where a run augments its pictures: measured once, before the first step, and then kept.

The two ways differ in the last bits, so that a run that goes on must take the one it began with:
``config.toml`` holds the answer.
"""

import copy
from dataclasses import replace
from time import perf_counter

import torch
from torch import nn

from mammotrain.contracts import Batch, ask
from mammotrain.data import augment
from mammotrain.data.augment import Where
from mammotrain.setup import Setup

MEASURED = 8  # pictures


def settle(made: Setup, model: nn.Module) -> Where:
    """Return where to augment when the recipe says ``auto``: where training waits less.

    Without augmentation there is nothing to choose: pictures are made ready where the model is.

    Args:
        made: Of a run that has not begun.
        model: Its model; it is not changed.

    Raises:
        DamageError: a sample is damaged.
    """
    if made.config.data.augment_on != "auto" or not made.config.data.augmentation:
        return made.where
    batch, load = _batch(made)
    costs = augment.measure(
        batch.images, made.drawn(batch, 0), made.world.device, masks=batch.masks
    )
    if made.world.device.type == "cpu":
        return augment.choose("auto", made.world.device, costs)
    costs = replace(costs, load=load, step=_step(made, model, batch))
    return augment.choose("auto", made.world.device, costs, workers=made.config.data.workers)


def _batch(made: Setup) -> tuple[Batch, float]:
    """Return some pictures of the run, and the seconds that loading one takes on one thread."""
    rows = made.taught[:MEASURED]
    loader = made.loader(rows, training=False, workers=0)
    begun = perf_counter()
    batch = next(loader.epoch(0))
    return batch, (perf_counter() - begun) / len(batch.rows)


def _step(made: Setup, model: nn.Module, batch: Batch) -> float:
    """Return the seconds a picture takes to go through a copy of the model and back."""
    probe = copy.deepcopy(model).train()
    shown = made.shown(batch, None)
    targets = made.task.targets(shown)
    seconds = []
    for _ in range(3):  # the first pays for what is set up once
        begun = perf_counter()
        with made.autocast():
            loss = made.task.loss(ask(probe, shown), targets)
        loss.backward()
        torch.cuda.synchronize(made.world.device)
        seconds.append(perf_counter() - begun)
    return min(seconds) / len(shown)
