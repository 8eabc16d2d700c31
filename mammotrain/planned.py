"""What is said before the first step: who has which role, how long it will take, at what rate."""

import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from torch import nn

from mammotrain import optim, setup
from mammotrain.contracts import ask
from mammotrain.setup import Setup
from mammotrain.trainer import Job, autocast, seed_all

Json = Mapping[str, Any]
LOOKS = 2  # batches that are timed; the first one also pays for what is set up once
LONG = 5.0  # seconds, after which one look is enough


def roles(told: Json) -> list[str]:
    """Return the table of datasets and roles as lines of text.

    Args:
        told: What ``splits.counts`` returns.
    """
    datasets = told["datasets"]
    names = list(dict.fromkeys(n for each in datasets.values() for n in each if n != "left_out"))
    reasons = list(dict.fromkeys(why for each in datasets.values() for why in each["left_out"]))
    head = ["samples (groups)", *names, *(f"out: {why}" for why in reasons)]
    body = [
        [name, *(_cell(each[n]) for n in names), *(_cell(each["left_out"].get(w)) for w in reasons)]
        for name, each in datasets.items()
    ]
    widths = [max(len(row[place]) for row in (head, *body)) for place in range(len(head))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)) for r in (head, *body)]
    return [line.rstrip() for line in lines] + warnings(told)


def warnings(told: Json) -> list[str]:
    """Return what a person must know of the roles: datasets that give nothing, no validation."""
    found = []
    for name, each in told["datasets"].items():
        parts = {n: count for n, count in each.items() if n != "left_out"}
        if not any(count["samples"] for count in parts.values()):
            why = ", ".join(f"{c['samples']:,} {w}" for w, c in each["left_out"].items())
            found.append(f"{name} has no part in this run: {why}.")
    if told["fixed"]:
        found.append(
            f"Nothing validates: {told['fixed']}. Training takes all its epochs, the last weights "
            "are scored, and no threshold is chosen. train.validate=next-fold validates on a fold."
        )
    return found


def lines(made: Setup, job: Job) -> list[str]:
    """Return everything that is said before the first step.

    The time is that of two batches, forward and back, which leave no trace: weights, buffers and
    random numbers are as before.
    """
    config, total = job.config, job.total_steps
    epochs = total / max(job.steps_per_epoch, 1)
    warmup = optim.warmup_steps(config, total)
    found = roles(setup.described(made))
    found.append(
        f"{total:,} steps of {config.batch_size}, {epochs:.3g} epochs of {job.steps_per_epoch:,}; "
        f"peak rate {config.lr:g} after {warmup:,} steps of warm-up"
        f"{f'; about {_duration(_seconds(made, job) * total)}' if total else ''}."
    )
    slow = getattr(made.config.model, "warmup_steps", 0)
    if slow > total:
        found.append(
            f"model.warmup_steps is {slow:,} and there are {total:,} steps: what rises in it never "
            "gets to its value."
        )
    return [*found, *_of_ranks(made, job)]


def _of_ranks(made: Setup, job: Job) -> list[str]:
    """Return where several processes differ from one, and by more than rounding."""
    if made.world.size == 1:
        return []
    kinds = (nn.modules.batchnorm._BatchNorm,)
    normed = any(isinstance(part, kinds) for part in job.bare.modules())
    found = []
    if normed and not job.config.sync_batchnorm:
        each = job.config.batch_size // made.world.size
        found.append(
            f"{made.world.size} processes: batch norm sees the {each} samples of each, not the "
            f"whole batch of {job.config.batch_size}; losses differ from those of one process."
        )
    dropping = (nn.modules.dropout._DropoutNd,)
    if any(isinstance(part, dropping) and part.p for part in job.bare.modules()):
        found.append(
            f"{made.world.size} processes: each draws its own dropout; losses differ from those of "
            "one process."
        )
    return found


def _seconds(made: Setup, job: Job) -> float:
    """Return how long a step will take, by trying."""
    saved = [value.clone() for value in job.bare.buffers()]
    training = job.bare.training
    job.bare.train()
    taken = 0.0
    batches = made.loader(made.taught, training=True, workers=0).epoch(0)
    for batch in islice(batches, LOOKS):
        if taken > LONG:
            break
        begun = time.perf_counter()
        seed_all(job.config.seed, setup.INITIAL, made.world.rank)
        shown = job.prepare(batch, 0)
        with autocast(job.config, job.device):
            output = ask(job.bare, shown)
            loss = job.task.loss(output, job.task.targets(shown))
        loss.backward()
        if job.device.type == "cuda":
            torch.cuda.synchronize(job.device)
        taken = time.perf_counter() - begun
    job.optimiser.zero_grad(set_to_none=True)
    job.bare.train(training)
    for value, before in zip(job.bare.buffers(), saved, strict=True):
        value.copy_(before)
    return taken


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _cell(count: Json | None) -> str:
    return f"{count['samples']:,} ({count['groups']:,})" if count and count["samples"] else "-"
