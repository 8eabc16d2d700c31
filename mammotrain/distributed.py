"""One process or several: the same code. ``torchrun`` says who is who."""

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


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


def leads() -> bool:
    """Return whether this process is the one that talks to the user."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """Join the other processes of ``torchrun``, or be alone; leave them in the end.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
    """
    size, rank = processes(), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
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
