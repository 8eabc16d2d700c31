"""Steps a second of ``trainer.fit`` beside a bare loop, both in one run, turn by turn.

    python benchmarks/step_rate.py [--quick] [--threads 1] [--rounds 30] [--device cpu]

Both take the same steps: same model, optimiser and batch, tensors that lie on the device already.
The bare loop is zero_grad, forward, loss, backward, step. Ours is all that a run does around them:
seeds, rate, checks, timing, the model's statistics, log.jsonl, and what a person sees. Our own
stream of batches lets the bare loop have its turn, so that the two alternate within one call of
``fit``. A turn is ``steps`` steps; a ratio is of two turns that follow each other; the figures are
medians. ``cpu`` is by the seconds that the process computed, which other programs on the machine
hardly change. The tiny net is the worst case: what we add is the same, but there is nothing to
hide it behind. Writes benchmarks/results/step_rate.json.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from mammotrain import optim, trainer
from mammotrain._torchvision import ensure_importable
from mammotrain.config import TrainConfig
from mammotrain.contracts import Batch, Output, Shown
from mammotrain.distributed import World
from mammotrain.folder import Log
from mammotrain.live import Screen
from mammotrain.models import deq
from mammotrain.run import Logging
from mammotrain.tasks.classify import Classify
from mammotrain.tasks.classify import Config as TaskConfig

RESULT = Path(__file__).parent / "results" / "step_rate.json"
PIXELS = 64
GOALS = {"deq": 0.97, "efficientnet_b0": 0.97}  # times the bare loop's rate, at least
MOST_ADDED_MS = 0.1  # a step of the tiny net


class Tiny(nn.Module):
    """Two convolutions and a layer: less work than a step of any model that one would train."""

    def __init__(self) -> None:
        """Lay the layers out."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Output:
        """Return one logit a picture."""
        return Output(self.layers(images))


class Timm(nn.Module):
    """A classifier of timm in our form."""

    def __init__(self, name: str) -> None:
        """Take the model of this name."""
        super().__init__()
        ensure_importable()
        import timm

        self.encoder = timm.create_model(name, in_chans=1, num_classes=1)

    def forward(self, images: Tensor) -> Output:
        """Return one logit a picture."""
        return Output(self.encoder(images))


def fixed_point() -> nn.Module:
    return deq.build(deq.Config(), channels=1, outputs=1, size=(PIXELS, PIXELS))


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        name: In the result.
        build: Makes the model.
        batch: Samples a step.
        steps: Of a turn.
        screen: Whether a live table is drawn, as on a terminal.
    """

    name: str
    build: Callable[[], nn.Module]
    batch: int
    steps: int
    screen: bool = False


CASES = (
    Case("deq, batch 8", fixed_point, 8, 4),
    Case("deq, batch 32", fixed_point, 32, 1),
    Case("efficientnet_b0, batch 8", lambda: Timm("efficientnet_b0"), 8, 2),
    Case("tiny, batch 8", Tiny, 8, 100),
    Case("tiny, batch 8, live table", Tiny, 8, 100, screen=True),
)


@dataclass
class Turns:
    """What each turn took: wall and processor seconds a step."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, before: tuple[float, float], steps: int, device: torch.device) -> None:
        """Take in a turn that began at ``before``."""
        now = clocks(device)
        self.wall.append((now[0] - before[0]) / steps)
        self.cpu.append((now[1] - before[1]) / steps)


def clocks(device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def measure(case: Case, rounds: int, device: torch.device) -> dict[str, Any]:
    config = TrainConfig(optimiser="adam", batch_size=case.batch, epochs=1)
    images = torch.rand(case.batch, 1, PIXELS, PIXELS, device=device)
    classes = np.arange(case.batch) % 2
    rows = np.arange(case.batch)
    resident = Batch(images, None, rows, tuple(f"bench_{row:06d}" for row in rows))
    bare, mine, theirs = bare_loop(case, config, images, classes), Turns(), Turns()

    def batches(_epoch: int, _position: int) -> Iterator[Batch]:
        for turn in range(rounds + 1):
            before = clocks(device)
            for _ in range(case.steps):
                bare()
            if turn:  # the first pays for what is set up once
                theirs.add(before, case.steps, device)
            before = clocks(device)
            for _ in range(case.steps):
                yield resident
            if turn:
                mine.add(before, case.steps, device)
        yield resident  # what follows the last step of all is no step

    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, force_terminal=case.screen, width=80)
        screen = Screen(console)
        model = made(case, device)
        job = trainer.Job(
            model=model,
            task=Classify(TaskConfig(), classes, ("no", "yes"), torch.ones(2)),
            optimiser=optim.optimiser(model, config),
            average=None,
            batches=batches,
            steps_per_epoch=(rounds + 1) * case.steps + 1,
            prepare=lambda batch, _epoch: Shown(batch.images, None, batch.rows),
            validate=lambda _model: {"auroc": 0.5},
            config=config,
            world=World(0, 1, device),
            folder=Path(folder) / "checkpoints",
            watcher=Logging(Log(Path(folder)), screen),
        )
        trainer.fit(job, trainer.Progress())
        screen.stop()
    return figures(case, mine, theirs)


def made(case: Case, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return case.build().to(device).train()


def bare_loop(
    case: Case, config: TrainConfig, images: Tensor, classes: np.ndarray
) -> Callable[[], None]:
    model = made(case, images.device)
    optimiser = optim.optimiser(model, config)
    targets = torch.from_numpy(classes).to(images.device).float()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = functional.binary_cross_entropy_with_logits(model(images).logits[:, 0], targets)
        loss.backward()
        optimiser.step()

    return step


def figures(case: Case, mine: Turns, theirs: Turns) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for clock in ("wall", "cpu"):
        ours, bare = getattr(mine, clock), getattr(theirs, clock)
        ratios = sorted(b / o for o, b in zip(ours, bare, strict=True))
        found[clock] = {
            "bare_ms_a_step": round(1e3 * statistics.median(bare), 4),
            "ours_ms_a_step": round(1e3 * statistics.median(ours), 4),
            "added_ms_a_step": round(
                1e3 * statistics.median(o - b for o, b in zip(ours, bare, strict=True)), 4
            ),
            "rate_ours_to_bare": round(statistics.median(ratios), 4),
            "low": round(ratios[len(ratios) // 10], 4),
            "high": round(ratios[-1 - len(ratios) // 10], 4),
        }
    goal = GOALS.get(case.name.partition(",")[0])
    if goal is not None:
        found["goal_rate"] = goal
        found["reached"] = found["cpu"]["rate_ours_to_bare"] >= goal
    else:
        found["goal_added_ms"] = MOST_ADDED_MS
        found["reached"] = found["cpu"]["added_ms_a_step"] <= MOST_ADDED_MS
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing written")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="cases whose name holds this; nothing written")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    cases = {}
    result = {
        "what": f"a training step of {PIXELS} x {PIXELS} grey pictures, Adam, resident tensors",
        **machine.described("torch", "timm", "numpy", device=options.device),
        "threads": options.threads,
        "cases": cases,
    }
    for case in CASES:
        if options.only in case.name:
            cases[case.name] = measure(case, 2 if options.quick else options.rounds, device)
            print(case.name, json.dumps(cases[case.name]), file=sys.stderr)
    text = json.dumps(result, indent=1) + "\n"
    if not options.quick and not options.only:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
