"""Several processes train as one: same losses, same scores; and one goes on where two stopped."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mammotrain import folder, scores

SMALL = (
    "model.width=8", "model.groups=4", "data.size=[32, 32]", "train.batch_size=8", "data.workers=1",
    "train.epochs=2", "data.augmentation={flip_horizontal = 0.5}", "model.tol=1e-5",
    "model.adjoint_tol=1e-5",
)  # fmt: skip


def mammotrain(command: str, ranks: int, shards: Path, out: Path, *more: str) -> str:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    start = [sys.executable, *(torchrun if ranks > 1 else []), "-m", "mammotrain"]
    changes = [part for change in (*SMALL, *more) for part in ("--set", change)]
    done = subprocess.run(
        [*start, command, "deq", "--data", str(shards), "--out", str(out), "--device", "cpu",
         "--resume", *changes],
        capture_output=True, text=True, check=False, timeout=300, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def environment() -> dict[str, str]:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1"}


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in folder.read_log(out) if "loss" in line]


@pytest.mark.slow
def test_two_ranks_give_the_losses_and_scores_of_one(patches: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    alone, together = mammotrain("run", 1, patches, one), mammotrain("run", 2, patches, two)
    assert alone.count("Scored ") == together.count("Scored ") == 1  # one of them talks
    assert len(losses(one)) >= 4
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    first, second = (scores.read(out / "scores.csv") for out in (one, two))
    assert np.array_equal(first.key, second.key)
    assert np.allclose(first.values, second.values, atol=1e-3)
    assert json.loads((two / "env.json").read_text())["ranks"] == 2
    reports = [json.loads((out / "report.json").read_text()) for out in (one, two)]
    for name, own in reports[0]["metrics"].items():
        assert reports[1]["metrics"][name]["value"] == pytest.approx(own["value"], abs=0.01), name


@pytest.mark.slow
def test_one_rank_goes_on_where_two_stopped(patches: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    mammotrain("run", 1, patches, whole)
    mammotrain("run", 2, patches, parts, "train.max_steps=3")
    assert len(losses(parts)) == 3
    mammotrain("run", 1, patches, parts)
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)


@pytest.mark.slow
def test_two_ranks_pool_folds(patches: Path, tmp_path: Path) -> None:
    mammotrain("cv", 2, patches, tmp_path / "cv", "train.epochs=1")
    pooled = scores.read(tmp_path / "cv" / "scores.csv")
    assert set(pooled.fold) == {"fold0", "fold1", "fold2"}
