"""Augmentation: parameters from (seed, epoch, key); one fused warp on the device, the same by cv2.

A batch comes as integers at the shard's size and leaves as float32 in [0, 1] at the model's:
grey table (normalisation, gamma, contrast, brightness), warp (flip, turn, crop, resize in one
sampling, for pictures and masks), blur, noise, cut-outs. Validation takes the same way with
``NONE``. See docs/augmentation.md.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoprep.core.errors import ConfigError
from mammotrain.data import _grey, _warp, _warp_cpu
from mammotrain.data._parameters import Parameters, draw, on_lesions
from mammotrain.data._policy import NONE, Augmentation
from mammotrain.data._ways import way_of

__all__ = [
    "NONE",
    "Augmentation",
    "Costs",
    "Parameters",
    "apply",
    "apply_cpu",
    "choose",
    "draw",
    "faster",
    "maps_to_shard",
    "measure",
    "on_lesions",
]
Where = Literal["cpu", "device"]
_WHERE: dict[str, Where] = {"cpu": "cpu", "device": "device"}
_REPEATS = 3


@torch.no_grad()
def apply(
    images: Tensor,
    masks: Tensor | None,
    parameters: Parameters,
    *,
    curves: NDArray[np.float64] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return augmented pictures and masks, made on the device that holds them.

    Args:
        images: (B, C, H, W), uint8 or uint16.
        masks: (B, 1, H, W) uint8, more than 0 where a lesion is, or None.
        parameters: Of these B samples; ``size`` must be (H, W).
        curves: (B, 2, n) of ``normalise``, or None.

    Returns:
        (B, C, h, w) float32 in [0, 1], and (B, 1, h, w) float32 of 0 and 1, or None.
    """
    _check_size(images.shape, parameters)
    table = _grey.tables(parameters, _warp.levels_of(images), curves)
    moved = _warp.warp(_warp.to_float(images, table), masks, parameters)
    pictures = _warp.add_noise(_warp.blur(moved[0], parameters), parameters)
    return _warp.cut_out(pictures, parameters), moved[1] if masks is not None else None


def apply_cpu(
    images: NDArray[Any],
    masks: NDArray[np.uint8] | None,
    parameters: Parameters,
    *,
    curves: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return what ``apply`` returns, to within a grey level of 255, by cv2.

    Safe to call from several threads; most of its time the interpreter's lock is free.

    Args:
        images: (B, C, H, W), uint8 or uint16.
        masks: (B, 1, H, W) uint8, or None.
        parameters: Of these B samples; ``size`` must be (H, W).
        curves: (B, 2, n) of ``normalise``, or None.
    """
    _check_size(images.shape, parameters)
    levels = int(np.iinfo(images.dtype).max)
    table = _grey.tables(parameters, levels, curves)
    if table is None:
        table = np.broadcast_to(_warp_cpu.plain_table(levels), (len(images), levels + 1))
    kernels = _warp.kernels(parameters)
    pictures = np.empty((*images.shape[:2], *parameters.out), np.float32)
    flags = None if masks is None else np.zeros((len(images), 1, *parameters.out), np.float32)
    for place, matrix in enumerate(parameters.matrices):
        way = way_of(matrix, parameters.size, parameters.out)
        for channel, plane in enumerate(images[place]):
            grey = _warp_cpu.to_float(plane, table[place])
            _warp_cpu.warp(grey, matrix, way, pictures[place, channel])
            _warp_cpu.blur(pictures[place, channel], kernels[place])
        _warp_cpu.add_noise(pictures[place], parameters, place)
        _warp_cpu.cut_out(pictures[place], parameters, place)
        if masks is not None and flags is not None:
            _warp_cpu.warp_mask(masks[place, 0], matrix, way, flags[place, 0])
    return pictures, flags


def maps_to_shard(maps: Tensor, parameters: Parameters) -> Tensor:
    """Return heat maps on the grid of the shard's pictures; 0 where the model saw nothing.

    Args:
        maps: (B, C, h, w) float32, of any resolution: their grid spans the model's input.
        parameters: What was done to these samples.

    Returns:
        (B, C, H, W) float32, bilinear.
    """
    rows, columns = maps.shape[-2:]
    linear = np.linalg.inv(parameters.matrices[:, :, :2])
    back = np.concatenate([linear, -linear @ parameters.matrices[:, :, 2:]], axis=2)
    back *= np.array([[columns / parameters.out[1]], [rows / parameters.out[0]]])
    return _warp.sample(maps, back, parameters.size)


@dataclass(frozen=True)
class Costs:
    """Seconds a picture takes.

    Attributes:
        cpu: To augment by cv2, on one thread.
        device: To augment on the device.
        load: To read and decode, on one thread.
        step: The model's forward and backward pass.
    """

    cpu: float
    device: float
    load: float = 0.0
    step: float = 0.0


def faster(costs: Costs, *, workers: int, shared: bool) -> Where:
    """Return where augmentation lets more pictures through a second; a tie goes to the device.

    Loading and stepping overlap, so the slower of the two decides: augmentation by cv2 adds to
    what the workers do, on the device to the step. On a CPU (``shared``) both draw on the same
    cores, and the cheaper one wins.

    Args:
        costs: As measured.
        workers: Threads that load; 0 counts as 1.
        shared: Whether the model runs on the CPU too.
    """
    if shared:
        return "cpu" if costs.cpu < costs.device else "device"
    many = max(workers, 1)
    by_cpu = max((costs.load + costs.cpu) / many, costs.step)
    by_device = max(costs.load / many, costs.step + costs.device)
    return "cpu" if by_cpu < by_device else "device"


def measure(
    images: Tensor, parameters: Parameters, device: torch.device, *, masks: Tensor | None = None
) -> Costs:
    """Return what both ways take a picture, the best of three runs each.

    Args:
        images: (B, C, H, W) of the run, uint8 or uint16, on the CPU.
        parameters: Of a batch of training, not ``NONE``.
        device: Where the model is.
        masks: (B, 1, H, W) uint8, or None.
    """
    there = images.to(device), None if masks is None else masks.to(device)
    arrays = images.numpy(), None if masks is None else masks.numpy()
    cpu, on_device = [], []
    for _ in range(1 + _REPEATS):  # the first pays for what is set up once
        begun = perf_counter()
        apply_cpu(*arrays, parameters)
        cpu.append(perf_counter() - begun)
        begun = perf_counter()
        apply(*there, parameters)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        on_device.append(perf_counter() - begun)
    count = max(len(images), 1)
    return Costs(cpu=min(cpu[1:]) / count, device=min(on_device[1:]) / count)


def choose(
    setting: str,
    device: torch.device,
    costs: Costs | None = None,
    *,
    workers: int = 0,
) -> Where:
    """Return where to augment under ``data.augment_on``.

    ``auto`` follows ``faster``; before anything was measured it is ``cpu`` for a model on the CPU
    and ``device`` otherwise. The two ways differ in the last bits: a run that is to resume bit for
    bit must ask once and keep the answer.

    Args:
        setting: ``cpu``, ``device`` or ``auto``.
        device: Where the model is.
        costs: Of ``measure``, with ``load`` and ``step`` of the run filled in; None for not yet.
        workers: Threads that load.

    Raises:
        ConfigError: another setting.
    """
    if setting in _WHERE:
        return _WHERE[setting]
    if setting != "auto":
        raise ConfigError(f"data.augment_on must be cpu, device or auto, got {setting!r}.")
    shared = device.type == "cpu"
    if costs is None:
        return "cpu" if shared else "device"
    return faster(costs, workers=workers, shared=shared)


def _check_size(shape: tuple[int, ...], parameters: Parameters) -> None:
    if tuple(shape[-2:]) != parameters.size or shape[0] != len(parameters):
        raise ValueError(
            f"parameters are for {len(parameters)} pictures of {parameters.size}, "
            f"got {tuple(shape)}"
        )
