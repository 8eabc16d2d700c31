"""What is said before the first step: who has which role, how long it will take, at what rate."""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mammotrain import optim, setup
from mammotrain.contracts import Shown
from mammotrain.setup import Setup
from mammotrain.trainer import Job, forward, in_format

Json = Mapping[str, Any]
LOOKS = 2  # batches that are timed; the first one also pays for what is set up once
LONG = 20.0  # seconds; a first batch that takes longer is all that is measured


def roles(told: Json) -> list[str]:
    """Return the table of datasets and roles as lines of text.

    Args:
        told: What ``splits.counts`` returns.
    """
    datasets = told["datasets"]
    names = names_of(told)
    reasons = list(dict.fromkeys(why for each in datasets.values() for why in each["left_out"]))
    head = ["samples (groups)", *names, *(f"out: {why}" for why in reasons)]
    body = [
        [name, *(_cell(each[n]) for n in names), *(_cell(each["left_out"].get(w)) for w in reasons)]
        for name, each in datasets.items()
    ]
    widths = [max(len(row[place]) for row in (head, *body)) for place in range(len(head))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)) for r in (head, *body)]
    return [line.rstrip() for line in lines] + warnings(told)


def names_of(told: Json) -> list[str]:
    """Return the roles that samples of any dataset have, in order."""
    parts = (name for each in told["datasets"].values() for name in each)
    return [name for name in dict.fromkeys(parts) if name != "left_out"]


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

    The time is that of two batches, forward and back on a copy of the model: weights, buffers and
    random numbers are as before.
    """
    config, total = job.config, job.total_steps
    epochs = total / max(job.steps_per_epoch, 1)
    warmup = optim.warmup_steps(config, total)
    found = roles(setup.described(made))
    found.append(
        f"{total:,} steps of {config.batch_size} samples, {epochs:.3g} epochs of "
        f"{job.steps_per_epoch:,}; "
        f"peak rate {config.lr:g} after {warmup:,} steps of warm-up"
        f"{f'; about {_duration(_seconds(made, job) * total)}' if total else ''}."
    )
    slow = getattr(made.config.model, "warmup_steps", 0)
    if slow > total:
        found.append(
            f"model.warmup_steps is {slow:,} and there are {total:,} steps: what rises in it never "
            "gets to its value."
        )
    return [*found, *_of_ranks(job)]


def _of_ranks(job: Job) -> list[str]:
    """Return in what several processes differ from one, and by more than rounding."""
    if job.world.size == 1:
        return []
    layers = list(job.bare.modules())
    normed = [each for each in layers if isinstance(each, _BatchNorm)]
    found = []
    if any(not isinstance(each, nn.SyncBatchNorm) for each in normed):
        found.append(
            f"batch norm sees the {job.config.batch_size // job.world.size} samples of each "
            "process by themselves (train.sync_batchnorm=true joins them, on GPUs)"
        )
    if any(_drops(each) for each in layers):
        found.append("dropout and drop path draw on each process by itself")
    if not found:
        return []
    return [f"{job.world.size} processes do not give the losses of one: {'; '.join(found)}."]


def _drops(layer: nn.Module) -> bool:
    """Return whether a layer is a dropout, or timm's DropPath, that drops something."""
    rate = getattr(layer, "drop_prob", None) if type(layer).__name__ == "DropPath" else None
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        rate = layer.p
    return bool(rate)


def _seconds(made: Setup, job: Job) -> float:
    """Return how long a step takes, with its batch, tried on a copy of the model."""
    seconds = 0.0
    loader = made.loader(made.taught, training=True)
    with _untouched(job.device), closing(made.stream(loader, 0)) as batches:  # type: ignore[type-var]
        probe = copy.deepcopy(job.bare).train()
        for _ in range(min(LOOKS, job.steps_per_epoch)):
            begun = time.perf_counter()
            _forth_and_back(job, probe, job.prepare(next(batches), 0))
            seconds = time.perf_counter() - begun
            if seconds > LONG:
                break
    return seconds


def _forth_and_back(job: Job, probe: nn.Module, shown: Shown) -> None:
    for part in in_format(job.config, shown).parts(job.config.accumulate):
        forward(job, probe, part)[0].backward()
    if job.device.type == "cuda":
        torch.cuda.synchronize(job.device)


@contextmanager
def _untouched(device: torch.device) -> Iterator[None]:
    """Put torch's random numbers, and what is known of the most memory, back as they were."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        yield
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _cell(count: Json | None) -> str:
    return f"{count['samples']:,} ({count['groups']:,})" if count and count["samples"] else "-"
