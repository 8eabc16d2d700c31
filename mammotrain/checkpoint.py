"""Weights and everything else that training needs to go on bit for bit; whole or absent.

A checkpoint is a folder ``step-00000123``: ``weights.safetensors``, ``average.safetensors`` where
weights are averaged, ``state.pt`` (loaded with ``weights_only``) and last ``seal.json`` with the
SHA-256 of the others. It is written under another name and renamed.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mammoprep.core.errors import ConfigError, DamageError, ResourceError

WEIGHTS, AVERAGE, STATE, SEAL = (
    "weights.safetensors",
    "average.safetensors",
    "state.pt",
    "seal.json",
)
PREFIX = "step-"
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What is saved.

    Attributes:
        weights: The model's state.
        average: That of its averaged copy, or None.
        state: Plain values and tensors: step, epoch, position, optimiser, scaler, random numbers.
    """

    weights: Tensors
    average: Tensors | None
    state: Mapping[str, Any]


def save(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint whole or not at all; return its folder.

    Raises:
        ResourceError: the disk is full, or the folder cannot be written.
    """
    final, part = folder / f"{PREFIX}{step:08d}", folder / f".{PREFIX}{step:08d}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _save_tensors(checkpoint.weights, part / WEIGHTS)
        if checkpoint.average is not None:
            _save_tensors(checkpoint.average, part / AVERAGE)
        torch.save(dict(checkpoint.state), part / STATE)
        seal = {path.name: _digest(path) for path in sorted(part.iterdir())}
        (part / SEAL).write_text(json.dumps(seal))
        for path in part.iterdir():
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        _sync(folder)
    except OSError as error:
        raise ResourceError(
            f"The checkpoint {final} cannot be written: {error.strerror}."
        ) from None
    return final


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest whole checkpoint, or None, and a line for each damaged one passed over."""
    damaged: list[str] = []
    for path in reversed(steps(folder)):
        try:
            return load(path), damaged
        except DamageError as error:
            damaged.append(f"{error} Going back to the one before.")
    return None, damaged


def best(folder: Path) -> Checkpoint:
    """Return the checkpoint of the best validation; the newest where there was none.

    Raises:
        ConfigError: there is no checkpoint.
        DamageError: it is not what was written.
    """
    found, damaged = newest(folder)
    if found is None:
        raise ConfigError(
            damaged[0] if damaged else f"{folder} has no checkpoint. Train first: mammotrain run."
        )
    step = found.state["progress"]["best_step"]
    if step in (None, found.state["progress"]["step"]):
        return found
    return load(folder / f"{PREFIX}{step:08d}")


def steps(folder: Path) -> list[Path]:
    """Return the folders of all checkpoints, the oldest first."""
    return sorted(folder.glob(f"{PREFIX}*")) if folder.is_dir() else []


def load(path: Path) -> Checkpoint:
    """Return a checkpoint after comparing every file with its hash.

    Raises:
        DamageError: it is not what was written.
    """
    try:
        seal = json.loads((path / SEAL).read_text())
        if any(_digest(path / Path(name).name) != digest for name, digest in seal.items()):
            raise DamageError(f"Checkpoint {path} is damaged: its bytes changed.")
        average = load_file(path / AVERAGE) if AVERAGE in seal else None
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
        return Checkpoint(load_file(path / WEIGHTS), average, state)
    except (OSError, ValueError, AttributeError, SafetensorError, UnpicklingError) as error:
        raise DamageError(f"Checkpoint {path} is damaged ({type(error).__name__}).") from None


def tidy(folder: Path, keep: int, best: int | None) -> None:
    """Remove all but the newest ``keep`` checkpoints and that of step ``best``."""
    found = steps(folder)
    for path in found[:-keep] if keep else found:
        if best is None or path.name != f"{PREFIX}{best:08d}":
            shutil.rmtree(path)
    for part in folder.glob(f".{PREFIX}*.part"):
        shutil.rmtree(part, ignore_errors=True)


def _save_tensors(tensors: Tensors, path: Path) -> None:
    # safetensors refuses tensors that share memory; a copy of each is on the CPU anyway
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, path
    )


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
