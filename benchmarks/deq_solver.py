"""Training steps of the deep equilibrium model: our solvers beside those of torchdeq.

    python benchmarks/deq_solver.py [--quick]

One cell, one stem, the same start and the same relative tolerances; only the code that finds the
fixed point and passes the gradient through it differs. Measured on the weights as drawn and on
weights trained for a few hundred steps to find a faint blob: training gives the cell's Jacobian a
few large eigenvalues, and acceleration is about those. Contestants take turns, each round in a new
order; the time is processor time on one thread, so that neighbours hardly matter. torchdeq
differentiates implicitly (``ift``); who does not converge is no rival. Without torchdeq,
which is said, ours are measured alone and nothing is written.
Writes benchmarks/results/deq_solver.json.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import optional_peers
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from mammotrain.models.deq import DEQ, Config, _pool, build

TOLERANCE, LIMIT, BATCH = 1e-3, 40, 8
OURS = ("anderson", "broyden", "picard")
THEIRS = ("fixed_point_iter", "anderson", "broyden")
BLOB_SIGMA, BLOB_HEIGHT, NOISE = 3.0, 0.8, 0.12  # pixels, noise deviations, grey level

Forward = Callable[[Tensor], tuple[Tensor, float, bool]]  # logits, steps, all converged


@dataclass(frozen=True)
class Case:
    """What a step is measured on.

    Attributes:
        pixels: Side of the images.
        weights: State of the model.
        trained_steps: Training steps behind them.
    """

    pixels: int
    weights: dict[str, Tensor]
    trained_steps: int

    def model(self, **settings: Any) -> DEQ:
        """Return the model with these weights."""
        limits = {"max_iter": LIMIT, "adjoint_max_iter": LIMIT}
        tolerances = {"tol": TOLERANCE, "adjoint_tol": TOLERANCE}
        made = fresh(Config(**limits, **tolerances, **settings))
        made.load_state_dict(self.weights)
        return made


def fresh(config: Config) -> DEQ:
    torch.manual_seed(0)
    model = build(config, channels=1, outputs=1, size=(64, 64))
    if not isinstance(model, DEQ):
        raise TypeError(type(model))
    return model


def blobs(count: int, pixels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return pictures of noise, every second with a blob at an unknown place, and their labels.

    At 64 pixels an observer who knows the blob's shape but not its place has AUROC 0.97.
    """
    images = torch.randn(count, 1, pixels, pixels, generator=generator)
    labels = torch.arange(count) % 2.0
    centres = torch.rand(count, 2, 1, generator=generator) * (pixels - 24) + 12
    away = (torch.arange(pixels) + 0.5 - centres) ** 2
    rows, columns = torch.exp(-away / (2 * BLOB_SIGMA**2)).unbind(1)
    heights = BLOB_HEIGHT * labels[:, None, None]
    images[:, 0] += heights * rows[:, :, None] * columns[:, None, :]
    return 0.5 + NOISE * images, labels


def trained(steps: int) -> dict[str, Tensor]:
    model, generator = fresh(Config()), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        images, labels = blobs(32, 64, generator)
        optimiser.zero_grad()
        bce(model(images).logits[:, 0], labels).backward()
        optimiser.step()
    return model.state_dict()


def ours(case: Case, solver: str) -> tuple[DEQ, Forward]:
    model = case.model(solver=solver)

    def forward(images: Tensor) -> tuple[Tensor, float, bool]:
        found = model(images)
        converged = not found.stats["solver_unconverged"].any()
        return found.logits, found.stats["solver_steps"].max().item(), converged

    return model, forward


def theirs(case: Case, solver: str) -> tuple[DEQ, Forward]:
    from torchdeq import get_deq

    model = case.model()
    deq = get_deq(
        ift=True, f_solver=solver, b_solver=solver, f_max_iter=LIMIT, b_max_iter=LIMIT,
        f_tol=TOLERANCE, b_tol=TOLERANCE, f_stop_mode="rel", b_stop_mode="rel",
    )  # fmt: skip

    def forward(images: Tensor) -> tuple[Tensor, float, bool]:
        injected = model.stem(images).contiguous(memory_format=torch.channels_last)
        filters = model.cell.filters(torch.float32)
        found, info = deq(lambda z: model.cell(z, injected, filters), model.cell.start(injected))
        converged = bool(info["rel_lowest"].max() <= TOLERANCE)
        return model.head(_pool(found[-1])), info["nstep"].max().item(), converged

    return model, forward


def step(model: DEQ, forward: Forward, images: Tensor) -> tuple[float, float, bool]:
    """Return a step's processor seconds, its solver steps, and whether it converged."""
    begun = time.process_time()
    logits, steps, converged = forward(images)
    bce(logits[:, 0], torch.arange(len(images)) % 2.0).backward()
    seconds = time.process_time() - begun
    model.zero_grad()
    return seconds, steps, converged


def measure(case: Case, rounds: int) -> dict[str, Any]:
    images, _ = blobs(BATCH, case.pixels, torch.Generator().manual_seed(1))
    runs = {f"ours, {name}": ours(case, name) for name in OURS}
    for name in THEIRS if optional_peers.there("torchdeq") else ():
        runs[f"torchdeq, {name}"] = theirs(case, name)
    times: dict[str, list[float]] = {name: [] for name in runs}
    last: dict[str, tuple[float, float, bool]] = {}
    for turn in range(rounds + 1):
        for name in random.Random(turn).sample(sorted(runs), len(runs)):
            last[name] = step(*runs[name], images)
            if turn:  # the first round warms up
                times[name].append(last[name][0])
    return report(case, {name: statistics.median(values) for name, values in times.items()}, last)


def report(
    case: Case, seconds: dict[str, float], last: dict[str, tuple[float, float, bool]]
) -> dict[str, Any]:
    """Return the figures of a case; who did not converge is no rival."""
    rivals = {name for name in seconds if name.startswith("torchdeq") and last[name][2]}
    best = min(rivals, key=seconds.__getitem__, default=None)
    images, _ = blobs(2, case.pixels, torch.Generator().manual_seed(1))
    probe = case.model(radius_iterations=40).train(False)(images)
    good = best is not None and last["ours, anderson"][2]
    return {
        "pixels": case.pixels,
        "training_steps_before": case.trained_steps,
        "spectral_radius": round(probe.stats["spectral_radius"].max().item(), 3),
        "seconds_a_step": {name: round(value, 4) for name, value in seconds.items()},
        "solver_steps": {name: last[name][1] for name in seconds},
        "not_converged": [name for name in seconds if not last[name][2]],
        "best_of_torchdeq": best,
        "ours_anderson_is_faster_by": round(seconds[best] / seconds["ours, anderson"], 2)
        if good
        else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, nothing written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    optional_peers.there("torchdeq")
    steps = 60 if quick else 450
    states = ((0, fresh(Config()).state_dict()), (steps, trained(steps)))
    cases = [Case(pixels, state, count) for pixels in (64, 299) for count, state in states]
    result = {
        "what": f"one training step, batch {BATCH}, tolerance {TOLERANCE:g} forward and adjoint; "
        "processor seconds on one thread, median",
        **machine.described("torch", "torchdeq"),
        "cases": [measure(case, 2 if quick else 3 if case.pixels > 64 else 11) for case in cases],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if not quick:
        out = Path(__file__).parent / "results" / "deq_solver.json"
        optional_peers.write(out, text + "\n", "torchdeq")


if __name__ == "__main__":
    main()
