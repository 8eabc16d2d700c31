"""The changes on whole batches, in torch: on a GPU, or on a CPU as the oracle of the other way."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mammotrain.data._noise import SPREAD, bell
from mammotrain.data._parameters import Parameters, Size
from mammotrain.data._ways import MASK_SHARE, Way, groups, leaves, limits

_LEVELS = {torch.uint8: 255, torch.uint16: 65535}


def levels_of(images: Tensor) -> int:
    """Return the largest level that the type of the stored pixels can hold."""
    return _LEVELS[images.dtype]


def to_float(images: Tensor, table: NDArray[np.float32] | None) -> Tensor:
    """Return stored levels (B, C, H, W) as float32 in [0, 1], each sample by its own table."""
    if table is None:  # a tensor as divisor: a GPU would multiply by the inverse of a number
        return images.float() / torch.tensor(float(levels_of(images)), device=images.device)
    grey = torch.from_numpy(table).to(images.device)
    return grey.gather(1, images.flatten(1).long()).reshape(images.shape)


@dataclass(frozen=True)
class _Source:
    """Pictures that are sampled: (B, C, H, W) float32 and how much of the grid is picture."""

    pixels: Tensor
    extent: tuple[float, float]  # (rows, columns); less than the grid's where it was padded


def sample(source: Tensor, matrices: NDArray[np.float64], out: Size) -> Tensor:
    """Return (B, C, *out) bilinear samples of pictures; 0 where a centre lies outside.

    The half pixel along the edge, with a neighbour on one side only, takes the edge's value.

    Args:
        source: (B, C, H, W) float32.
        matrices: (B, 2, 3), maps output (x, y) to the source's (x, y).
        out: (rows, columns).
    """
    rows, columns = source.shape[-2:]
    return _sampled(_Source(source, (rows, columns)), matrices, out)


def _sampled(source: _Source, matrices: NDArray[np.float64], out: Size) -> Tensor:
    pixels, device = source.pixels, source.pixels.device
    rows, columns = pixels.shape[-2:]
    scaled = matrices * (2 / np.array([[columns], [rows]]))  # grid_sample's -1 to 1
    scaled[:, :, 2] -= 1
    numbers = torch.from_numpy(scaled.astype(np.float32)).to(device)
    x = torch.arange(out[1], device=device, dtype=torch.float32) + 0.5
    y = torch.arange(out[0], device=device, dtype=torch.float32) + 0.5
    along, down = numbers[:, :, 0, None] * x, numbers[:, :, 1, None] * y + numbers[:, :, 2, None]
    grid = torch.stack(
        [along[:, axis, None, :] + down[:, axis, :, None] for axis in (0, 1)], dim=-1
    )  # (B, h, w, 2); no matrix product, which a GPU may round to ten bits
    found = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    if leaves(matrices, source.extent, out):
        found *= _inside(grid, source)[:, None]
    return found


def _inside(grid: Tensor, source: _Source) -> Tensor:
    """Return (B, h, w), whether a place lies on the picture."""
    rows, columns = source.pixels.shape[-2:]
    kept = torch.ones(grid.shape[:-1], dtype=torch.bool, device=grid.device)
    for axis, (extent, pixels) in enumerate(
        ((source.extent[1], columns), (source.extent[0], rows))
    ):
        low, high = (edge * 2 / pixels - 1 for edge in limits(extent))
        kept &= (grid[..., axis] >= low) & (grid[..., axis] <= high)
    return kept


def warp(images: Tensor, masks: Tensor | None, parameters: Parameters) -> tuple[Tensor, ...]:
    """Return (B, C, *out) pictures, and masks of 0 and 1 where there are any.

    Args:
        images: (B, C, H, W) float32.
        masks: (B, 1, H, W) uint8, more than 0 where a lesion is, or None.
        parameters: Of these B samples.
    """
    flags = None if masks is None else (masks > 0).float()
    ways = groups(parameters)
    if len(ways) == 1:
        (way,) = ways
        return _warped(images, flags, parameters, way, list(range(len(parameters))))
    shape = (*images.shape[:2], *parameters.out)
    results = [images.new_empty(shape)]
    if flags is not None:
        results.append(flags.new_empty((shape[0], 1, *parameters.out)))
    for way, places in ways.items():
        picked = torch.tensor(places, device=images.device)
        some = None if flags is None else flags[picked]
        for result, part in zip(
            results, _warped(images[picked], some, parameters, way, places), strict=True
        ):
            result[picked] = part
    return tuple(results)


def _warped(
    images: Tensor, flags: Tensor | None, parameters: Parameters, way: Way, places: list[int]
) -> tuple[Tensor, ...]:
    """Return the pictures (and masks) of samples that all go one way."""
    given = (images,) if flags is None else (images, flags)
    if way.copied:
        turned = [axis for axis, chosen in ((2, way.flip_y), (3, way.flip_x)) if chosen]
        return tuple(one.flip(turned) if turned else one for one in given)
    extent = (parameters.size[0] / way.shrink_y, parameters.size[1] / way.shrink_x)
    shrunk = torch.cat(_shrunk(given, way), dim=1)
    fine = (parameters.out[0] * way.fine, parameters.out[1] * way.fine)
    found = _sampled(_Source(shrunk, extent), way.onto_shrunk(parameters.matrices[places]), fine)
    pictures, touched = found[:, : images.shape[1]], found[:, images.shape[1] :]
    if way.fine > 1:
        pictures = functional.avg_pool2d(pictures, way.fine)
    if flags is None:
        return (pictures,)
    covered = (touched >= MASK_SHARE).float()
    return pictures, functional.max_pool2d(covered, way.fine) if way.fine > 1 else covered


def _shrunk(given: tuple[Tensor, ...], way: Way) -> tuple[Tensor, ...]:
    """Return means of whole blocks of the pictures, and of the masks what a block touches."""
    block = (way.shrink_y, way.shrink_x)
    if block == (1, 1):
        return given
    rows, columns = given[0].shape[-2:]
    edges = (0, -columns % block[1], 0, -rows % block[0])
    padded = [functional.pad(one, edges, mode="replicate") for one in given]
    means = functional.avg_pool2d(padded[0], block)
    return (means, *(functional.max_pool2d(one, block) for one in padded[1:]))


def blur(images: Tensor, parameters: Parameters) -> Tensor:
    """Return pictures under each sample's Gaussian; sums in a fixed order, whatever the batch."""
    radius = parameters.blur_radius
    if radius == 0:
        return images
    weights = torch.from_numpy(kernels(parameters)).to(images.device)[:, :, None, None, None]
    for axis in (2, 3):
        edges = (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius)
        wide = functional.pad(images, edges, mode="replicate")
        total = torch.zeros_like(images)
        for place in range(2 * radius + 1):
            total += wide.narrow(axis, place, images.shape[axis]) * weights[:, place]
        images = total
    return images


def kernels(parameters: Parameters) -> NDArray[np.float32]:
    """Return (B, 2 * blur_radius + 1) weights that add to 1."""
    places = np.arange(-parameters.blur_radius, parameters.blur_radius + 1)
    spread = np.maximum(parameters.blur, 1e-3)[:, None]  # so narrow is no blur
    weights = np.exp(-0.5 * (places / spread) ** 2)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def add_noise(images: Tensor, parameters: Parameters) -> Tensor:
    """Return pictures with noise where they are not exactly 0, within [0, 1]."""
    if not parameters.noise.any():
        return images
    device = images.device
    count = images[0].numel()
    seeds = torch.from_numpy(parameters.noise_seeds).to(device)
    counters = torch.arange(count, device=device)[None]
    words = bell(counters, seeds[:, :1], seeds[:, 1:])
    strength = torch.from_numpy((parameters.noise / SPREAD).astype(np.float32)).to(device)
    added = images.flatten(1) + words.float() * strength[:, None]
    return (added.clamp(0, 1) * (images.flatten(1) > 0)).reshape(images.shape)


def cut_out(images: Tensor, parameters: Parameters) -> Tensor:
    """Return pictures whose cut-out boxes are 0."""
    boxes = parameters.cutouts
    if not boxes.any():
        return images
    device = images.device
    edges = torch.from_numpy(boxes).to(device)[..., None]  # (B, K, 4, 1)
    x = torch.arange(images.shape[3], device=device)
    y = torch.arange(images.shape[2], device=device)
    across = (x >= edges[:, :, 0]) & (x < edges[:, :, 2])  # (B, K, w)
    down = (y >= edges[:, :, 1]) & (y < edges[:, :, 3])
    kept = torch.ones((len(images), *images.shape[2:]), dtype=torch.bool, device=device)
    for box in range(boxes.shape[1]):
        kept &= ~(down[:, box, :, None] & across[:, box, None, :])
    return images * kept[:, None]
