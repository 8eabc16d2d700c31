"""One process or several: the same code. ``torchrun`` says who is who."""

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from mammoprep.core.errors import ConfigError
from mammotrain.checks import one_of

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class World:
    """Who this process is.

    Attributes:
        rank: From 0; 0 writes files.
        size: How many processes train together.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0


def processes() -> int:
    """Return how many processes ``torchrun`` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def leads() -> bool:
    """Return whether this process is the one that talks to the user."""
    return _rank() == 0


def check_device(device: str, needed: int = 1) -> None:
    """Look whether there is such a device.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        needed: How many GPUs, where these are wanted.

    Raises:
        ConfigError: there is none.
    """
    one_of("--device", device, DEVICES)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = device == "cuda" or (device == "auto" and found > 0)
    if wanted and found < needed:
        several, fewer = ("s", ", fewer processes") if needed > 1 else ("", "")
        raise ConfigError(
            f"--device {device} needs {needed} GPU{several}, and torch {torch.__version__} finds "
            f"{found}. Take --device cpu{fewer}, or a build of torch for CUDA."
        )


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """Join the other processes of ``torchrun``, or be alone; leave them in the end.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Raises:
        ConfigError: no such device, or this machine has fewer GPUs than processes.
    """
    size, rank = processes(), _rank()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    check_device(device, local + 1)
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    place = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    if size == 1:
        yield World(0, 1, place)
        return
    # Its functions have the group of their first import as a default value; DistributedDataParallel
    # imports it. Before there is a group they keep none alive, with threads that torch cannot end.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield World(rank, size, place)
    finally:
        dist.destroy_process_group()


def agreed(flag: bool, world: World) -> bool:
    """Return whether any process says so; all get the same answer."""
    if world.size == 1:
        return flag
    value = torch.tensor(int(flag), device=world.device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def mean(value: torch.Tensor, world: World) -> torch.Tensor:
    """Return the mean over all processes."""
    if world.size == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world.size


def gathered(value: Any, world: World) -> list[Any]:
    """Return what every process gave, in the order of ranks, to all of them."""
    if world.size == 1:
        return [value]
    found: list[Any] = [None] * world.size
    dist.all_gather_object(found, value)
    return found


def level(values: Iterable[torch.Tensor], world: World) -> None:
    """Put what the first process has into the tensors of all."""
    if world.size > 1:
        for value in values:
            dist.broadcast(value, src=0)


def wait(world: World) -> None:
    """Return when all processes have come here."""
    if world.size > 1:
        dist.barrier()
