"""Training goes on bit for bit wherever it was stopped, and keeps what was good."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mammoprep.core.errors import DamageError, DivergedError, ResourceError
from mammotrain import checkpoint, optim, trainer
from mammotrain.config import TrainConfig
from mammotrain.contracts import Batch, Output, Shown
from mammotrain.distributed import World
from mammotrain.trainer import Job, Progress
from mammotrain.watching import Watcher

SAMPLES, BATCH = 48, 8
ALONE = World(0, 1, torch.device("cpu"))


class Net(nn.Module):
    """A little of everything that has a state: batch norm, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
            nn.Linear(4 * 36, 1),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> Output:
        logits = self.layers(images)
        return Output(logits, penalty=1e-3 * logits.square().mean(), stats={"steps": logits[:, 0]})


class Learn:
    """Whether a picture is bright, with some noise."""

    outputs, score_names, wants_masks, specificity = 1, ("dark", "bright"), False, None

    def __init__(self, labels: np.ndarray) -> None:
        self.classes = labels

    def learns_from(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def conditions(self, rows: np.ndarray) -> None:
        return None

    def targets(self, shown: Shown) -> torch.Tensor:
        return torch.from_numpy(self.classes[shown.rows])

    def loss(self, output: Output, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(output.logits[:, 0], targets.float())

    def scores(self, output: Output, shown: Shown) -> torch.Tensor:
        positive = torch.sigmoid(output.logits)
        return torch.cat([1 - positive, positive], dim=1)

    def measures(self, output: Output, shown: Shown) -> dict:
        return {}


class Diary(Watcher):
    def __init__(self) -> None:
        self.lines: list[dict] = []
        self.metrics: list[dict] = []
        self.said: list[str] = []

    def warn(self, message: str) -> None:
        self.said.append(message)

    def step(self, line: dict) -> None:
        self.lines.append(line)

    def validated(self, line: dict) -> None:
        self.metrics.append(line)


RNG = np.random.default_rng(0)
LABELS = (RNG.random(SAMPLES) < 0.5).astype(np.int64)
IMAGES = (RNG.random((SAMPLES, 1, 8, 8)) * 150 + 60 * LABELS[:, None, None, None]).astype(np.uint8)


def batches(epoch: int, position: int):
    order = np.random.default_rng(epoch).permutation(SAMPLES)
    for start in range(position * BATCH, SAMPLES, BATCH):
        rows = order[start : start + BATCH]
        keys = tuple(f"k{row}" for row in rows)
        yield Batch(torch.from_numpy(IMAGES[rows]), None, rows.astype(np.int64), keys)


def showing(pictures: Callable[[Batch, int], torch.Tensor]) -> Callable[[Batch, int], Shown]:
    """Return what shows these pictures and no masks."""
    return lambda batch, epoch: Shown(pictures(batch, epoch), None, batch.rows)


def times(shown: Shown, factor: float) -> Shown:
    return replace(shown, images=shown.images * factor)


def job(folder: Path, diary: Watcher | None = None, **changes) -> Job:
    config = TrainConfig(**{"epochs": 4, "batch_size": BATCH, "ema": 0.9, "lr": 3e-3, **changes})
    torch.manual_seed(0)
    model = Net()
    return Job(
        model=model,
        task=Learn(LABELS),
        optimiser=optim.optimiser(model, config),
        average=optim.average(model, config),
        batches=batches,
        steps_per_epoch=SAMPLES // BATCH,
        prepare=showing(lambda batch, epoch: batch.images.float() / 255 + 0.01 * epoch),
        validate=validate,
        config=config,
        world=ALONE,
        folder=folder,
        watcher=diary or Watcher(),
        about={"recipe": "test"},
    )


def validate(model: nn.Module) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(IMAGES).float() / 255).logits[:, 0]
    return {"auroc": float((logits[LABELS == 1].mean() - logits[LABELS == 0].mean()).sigmoid())}


def weights_of(folder: Path) -> dict[str, bytes]:
    found = checkpoint.load(checkpoint.steps(folder)[-1])
    tensors = {**found.weights, **{f"ema {k}": v for k, v in (found.average or {}).items()}}
    return {name: value.numpy().tobytes() for name, value in tensors.items()}


OPTIONS = [
    {"optimiser": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.1},
    {"optimiser": "adam"},
    {"optimiser": "sgd", "clip_norm": 0.5, "accumulate": 2},
    {"amp": "bf16", "channels_last": True},
    {"amp": "fp16", "clip_norm": 1.0},
]


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o)))
def test_twenty_stops_at_random_steps_change_no_bit(tmp_path: Path, options: dict) -> None:
    whole = Diary()
    trainer.fit(job(tmp_path / "whole", whole, **options), Progress())
    pieces: list[dict] = []
    chance = random.Random(1)
    options = {**options, "checkpoint_every": 1}
    progress = Progress()
    for _ in range(200):
        diary, left = Diary(), chance.randint(0, 3)

        def step(line: dict, diary: Diary = diary, left: int = left) -> None:
            diary.lines.append(line)
            if len(diary.lines) > left:
                raise StoppedError

        diary.step = step  # type: ignore[method-assign]
        again = job(tmp_path / "pieces", diary, **options)
        saved, _ = checkpoint.newest(again.folder)
        progress = Progress() if saved is None else trainer.restore(again, saved)
        at = progress.step
        pieces = [line for line in pieces if line["step"] <= at]
        try:
            trainer.fit(again, progress)
        except StoppedError:
            pieces += diary.lines
            continue
        pieces += diary.lines
        break
    assert [line["loss_hex"] for line in pieces] == [line["loss_hex"] for line in whole.lines]
    assert len(whole.lines) == 24
    assert weights_of(tmp_path / "pieces") == weights_of(tmp_path / "whole")


def test_a_loss_that_is_no_number_stops_with_its_batch_and_spares_the_checkpoint(
    tmp_path: Path,
) -> None:
    one = job(tmp_path, checkpoint_every=1)
    plain = one.prepare
    one.prepare = lambda batch, epoch: times(plain(batch, epoch), math.nan if epoch == 1 else 1.0)
    with pytest.raises(DivergedError, match="Its batch: k") as error:
        trainer.fit(one, Progress())
    assert error.value.exit_code == 6
    saved, _ = checkpoint.newest(tmp_path)
    assert saved is not None
    assert saved.state["progress"]["step"] == 6
    assert all(bool(value.isfinite().all()) for value in saved.weights.values())


def test_training_learns_and_the_best_checkpoint_is_kept(tmp_path: Path) -> None:
    diary = Diary()
    progress = trainer.fit(job(tmp_path, diary, epochs=8, keep=1), Progress())
    losses = [line["loss"] for line in diary.lines]
    assert np.mean(losses[-6:]) < np.mean(losses[:6])
    assert progress.best == max(line["validation"]["auroc"] for line in diary.metrics)
    kept = {path.name for path in checkpoint.steps(tmp_path)}
    assert kept == {f"step-{progress.best_step:08d}", "step-00000048"}


def test_patience_ends_training(tmp_path: Path) -> None:
    diary = Diary()
    one = job(tmp_path, diary, epochs=50, patience=2)
    values = iter([0.5, 0.6, 0.4, 0.3, 0.9])
    one.validate = lambda _: {"auroc": next(values)}
    progress = trainer.fit(one, Progress())
    assert (progress.epoch, progress.best, progress.best_step) == (4, 0.6, 12)
    assert diary.said == ["Stopped after epoch 4: no better auroc for 2 validations."]


def test_a_training_that_ends_as_planned_does_not_say_that_it_was_stopped(tmp_path: Path) -> None:
    diary = Diary()
    one = job(tmp_path, diary, epochs=2, patience=1)
    one.validate = lambda _: {"auroc": 0.5}
    trainer.fit(one, Progress())
    assert diary.said == []


@pytest.mark.parametrize("number", [1, 4])  # in the middle, and when all steps are done
def test_a_stop_during_validation_leaves_it_and_loses_neither_step_nor_score(
    tmp_path: Path, number: int
) -> None:
    whole, first, second = Diary(), Diary(), Diary()
    trainer.fit(job(tmp_path / "whole", whole), Progress())
    one = job(tmp_path / "parts", first)
    asked = []

    def interrupted(model: nn.Module) -> dict[str, float]:
        asked.append(model)
        if len(asked) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(model)

    one.validate = interrupted
    with pytest.raises(ResourceError, match="--resume"):
        trainer.fit(one, Progress())
    assert len(first.metrics) == number - 1
    assert not any(model._forward_pre_hooks for model in asked)
    again = job(tmp_path / "parts", second)
    saved, _ = checkpoint.newest(again.folder)
    trainer.fit(again, trainer.restore(again, saved))
    hexes = [line["loss_hex"] for line in first.lines + second.lines]
    assert hexes == [line["loss_hex"] for line in whole.lines]
    assert first.metrics + second.metrics == whole.metrics
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")


def test_max_steps_ends_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    diary = Diary()
    progress = trainer.fit(job(tmp_path, diary, max_steps=8), Progress())
    assert (progress.step, len(diary.lines), len(diary.metrics)) == (8, 8, 2)
    assert [line["position"] for line in diary.metrics] == [0, 2]  # what was validated is known
    assert {line["monitor"] for line in diary.metrics} == {"auroc"}


def test_a_run_that_max_steps_ended_in_the_middle_goes_on_as_if_it_had_not(
    tmp_path: Path,
) -> None:
    whole, first, rest = Diary(), Diary(), Diary()
    trainer.fit(job(tmp_path / "whole", whole), Progress())
    trainer.fit(job(tmp_path / "parts", first, max_steps=8), Progress())
    again = job(tmp_path / "parts", rest)
    saved, _ = checkpoint.newest(tmp_path / "parts")
    progress = trainer.restore(again, saved)
    progress.ended = False
    trainer.fit(again, progress)
    hexes = [line["loss_hex"] for line in (*first.lines, *rest.lines)]
    assert hexes == [line["loss_hex"] for line in whole.lines]


def test_sigterm_writes_a_checkpoint_and_ends_with_five(tmp_path: Path) -> None:
    one = job(tmp_path)
    plain, calls = one.prepare, []

    def prepare(batch: Batch, epoch: int) -> Shown:
        calls.append(epoch)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(batch, epoch)

    one.prepare = prepare
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ResourceError, match="--resume") as error:
        trainer.fit(one, Progress())
    assert error.value.exit_code == 5
    assert signal.getsignal(signal.SIGTERM) is before
    assert checkpoint.newest(tmp_path)[0].state["progress"]["step"] == 3


def test_the_learning_rate_is_a_function_of_the_step() -> None:
    config = TrainConfig(lr=1.0, schedule="cosine", warmup=0.1, min_lr=0.1)
    rates = [optim.rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert sorted(rates[10:], reverse=True) == rates[10:]
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


# ------------------------------------------------------------------------------------- checkpoints


def some(value: float = 1.0) -> checkpoint.Checkpoint:
    tensor = torch.full((3, 3), value)
    state = {"progress": {"step": 1}, "optimiser": {"x": tensor}, "list": [1, "a", None]}
    return checkpoint.Checkpoint({"w": tensor, "same": tensor}, {"w": tensor + 1}, state)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    back = checkpoint.load(checkpoint.save(tmp_path, 7, some()))
    assert torch.equal(back.weights["same"], torch.ones(3, 3))
    assert torch.equal(back.average["w"], torch.full((3, 3), 2.0))
    assert back.state["list"] == [1, "a", None]


@pytest.mark.parametrize("name", ["weights.safetensors", "average.safetensors", "state.pt"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, name: str, how: str
) -> None:
    checkpoint.save(tmp_path, 1, some(1.0))
    path = checkpoint.save(tmp_path, 2, some(2.0)) / name
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 1
    path.unlink() if how == "remove" else path.write_bytes(data[: -9 if how == "cut" else None])
    with pytest.raises(DamageError):
        checkpoint.load(path.parent)
    found, lines = checkpoint.newest(tmp_path)
    assert torch.equal(found.weights["w"], torch.ones(3, 3))
    assert len(lines) == 1
    assert "step-00000002" in lines[0]


def test_a_half_written_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, some())
    part = tmp_path / ".step-00000002.part"
    part.mkdir()
    (part / "weights.safetensors").write_bytes(b"half")
    assert [path.name for path in checkpoint.steps(tmp_path)] == ["step-00000001"]
    checkpoint.tidy(tmp_path, 2, None)
    assert not part.exists()


def test_a_checkpoint_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    import hashlib
    import pickle

    path = checkpoint.save(tmp_path, 1, some())
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {marker}",)

    (path / "state.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    seal = json.loads((path / "seal.json").read_text())
    seal["state.pt"] = hashlib.sha256((path / "state.pt").read_bytes()).hexdigest()
    (path / "seal.json").write_text(json.dumps(seal))
    with pytest.raises(DamageError):
        checkpoint.load(path)
    assert not marker.exists()


TWO_RANKS = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_trainer as t
from mammotrain import distributed, trainer
from mammotrain.contracts import Batch

torch.set_num_threads(1)
with distributed.joined("cpu") as world:
    def part(epoch, position):
        for batch in t.batches(epoch, position):
            mine = slice(world.rank, None, world.size)
            yield Batch(batch.images[mine], None, batch.rows[mine], batch.keys[mine])

    class Plain(t.Net):
        def __init__(self):
            super().__init__()
            self.layers[4].p = 0.0  # dropout differs from rank to rank by design
            self.layers[1] = torch.nn.GroupNorm(2, 4)

    t.Net = Plain
    t.ALONE = world
    job = t.job(Path({out!r}) / str(world.size), optimiser="sgd", lr=0.05, ema=0.0)
    job.batches = part
    trainer.fit(job, trainer.Progress())
"""


@pytest.mark.slow
def test_two_ranks_train_as_one_does(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    here = str(Path(__file__).parent)
    script.write_text(TWO_RANKS.format(tests=here, out=str(tmp_path)))
    for ranks in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={ranks}", str(script)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (checkpoint.newest(tmp_path / n)[0].weights for n in ("1", "2"))
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-6), name


def test_a_batch_is_cut_with_everything_that_belongs_to_a_sample() -> None:
    rows = np.arange(7)
    column = torch.arange(7.0)[:, None]
    shown = Shown(column[..., None, None], column[..., None, None] > 3, rows, column)
    parts = shown.parts(3)
    assert [len(part) for part in parts] == [3, 2, 2]
    for part in parts:
        assert part.images.flatten().tolist() == part.conditions.flatten().tolist()
        assert part.rows.tolist() == part.images.flatten().tolist()
        assert part.masks.flatten().tolist() == [row > 3 for row in part.rows]
    assert Shown(column, None, rows).parts(2)[0].masks is None
