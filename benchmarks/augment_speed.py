"""Augmentation beside kornia and albumentations, all in one run; one JSON of seconds and ratios.

    python benchmarks/augment_speed.py [--threads 1] [--out benchmarks/results/augment_speed.json]

Every way does the same to the same uint8 pictures and masks: flip, affine (turn, scale, shift),
brightness and contrast, one cut-out. Ways take turns within a round, and a way's figure is its best
round, so that other load on the machine hurts all alike. Without a peer, which is said, the rest is
measured and nothing is written.
albumentations works on uint8 and gives uint8; ``float`` is what the model needs: the same and then
float32 in [0, 1] as a batch, as all other ways give it.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np
import optional_peers
import torch

from mammotrain.data import augment

SIZES = ((1456, 728, 4), (299, 299, 32))  # rows, columns, pictures in a batch
POLICY = augment.Augmentation(
    flip_horizontal=0.5,
    rotate_degrees=15.0,
    scale=(0.9, 1.1),
    shift=0.05,
    brightness=0.2,
    contrast=0.2,
    cutouts=1,
    cutout_size=(0.2, 0.3),
)
PACKAGES = ("torch", "numpy", "opencv-python-headless", "kornia", "albumentations")
Way = Callable[[int], Any]


def batch(rows: int, columns: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures with grain, and masks, as (B, 1, H, W) uint8."""
    random = np.random.default_rng(0)
    images = np.empty((count, 1, rows, columns), np.uint8)
    for image in images:
        soft = cv2.resize(random.random((9, 7), np.float32), (columns, rows))
        image[0] = np.clip(200 * soft + random.normal(0, 8, (rows, columns)), 0, 255)
    masks = np.zeros_like(images)
    for mask in masks:  # a large lesion: a quarter of each side
        middle = int(columns * random.uniform(0.3, 0.7)), int(rows * random.uniform(0.3, 0.7))
        cv2.ellipse(mask[0], middle, (columns // 8, rows // 8), 0, 0, 360, 255, -1)
    return images, masks


def ours(images: np.ndarray, masks: np.ndarray, device: torch.device) -> dict[str, Way]:
    keys = tuple(f"bench_{place}" for place in range(len(images)))
    size = images.shape[2:]
    there = torch.from_numpy(images).to(device), torch.from_numpy(masks).to(device)

    def draw(epoch: int) -> augment.Parameters:
        return augment.draw(POLICY, seed=0, epoch=epoch, keys=keys, size=size)

    def on_device(epoch: int) -> None:
        augment.apply(*there, draw(epoch))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return {
        "ours_cv2": lambda epoch: augment.apply_cpu(images, masks, draw(epoch)),
        f"ours_torch_{device.type}": on_device,
        "ours_draw_only": draw,
    }


def by_kornia(images: np.ndarray, masks: np.ndarray, device: torch.device) -> dict[str, Way]:
    if not optional_peers.there("kornia"):
        return {}
    import kornia.augmentation as ka

    steps = ka.AugmentationSequential(
        ka.RandomHorizontalFlip(p=0.5),
        ka.RandomAffine(degrees=15.0, translate=(0.05, 0.05), scale=(0.9, 1.1), p=1.0),
        ka.RandomBrightness((0.8, 1.2), p=1.0),
        ka.RandomContrast((0.8, 1.2), p=1.0),
        ka.RandomErasing(scale=(0.04, 0.09), ratio=(0.8, 1.25), p=0.5),
        data_keys=["input", "mask"],
    )
    there = torch.from_numpy(images).to(device), torch.from_numpy(masks).to(device)

    def work(_: int) -> None:
        with torch.no_grad():
            steps(there[0].float() / 255, (there[1] > 0).float())
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    return {f"kornia_{device.type}": work}


def by_albumentations(images: np.ndarray, masks: np.ndarray) -> dict[str, Way]:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if not optional_peers.there("albumentations"):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import albumentations as al

    share = (0.2, 0.3)
    steps = al.Compose(
        [
            al.HorizontalFlip(p=0.5),
            al.Affine(rotate=(-15, 15), scale=(0.9, 1.1), translate_percent=(-0.05, 0.05), p=1.0),
            al.RandomBrightnessContrast(0.2, 0.2, p=1.0),
            al.CoarseDropout((1, 1), share, share, p=0.5),
        ]
    )

    def plain(_: int) -> list[Any]:
        return [
            steps(image=image[0], mask=mask[0]) for image, mask in zip(images, masks, strict=True)
        ]

    def as_floats(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        found = plain(epoch)
        stacked = np.stack([one["image"] for one in found]).astype(np.float32) / np.float32(255)
        return stacked, np.stack([one["mask"] > 0 for one in found]).astype(np.float32)

    return {"albumentations_uint8": plain, "albumentations_float": as_floats}


def best(ways: dict[str, Way], rounds: int, count: int) -> dict[str, float]:
    """Milliseconds a picture of every way: the best of ``rounds``, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in range(rounds + 1):  # the first pays for what is set up once
        for name, work in ways.items():
            begun = time.perf_counter()
            work(epoch)
            times[name].append((time.perf_counter() - begun) / count * 1e3)
    return {name: round(min(values[1:]), 3) for name, values in times.items()}


def compared(size: tuple[int, int, int], rounds: int, device: torch.device) -> dict[str, Any]:
    images, masks = batch(*size)
    ways = ours(images, masks, device)
    ways |= by_kornia(images, masks, device) | by_albumentations(images, masks)
    found = best(ways, rounds, size[2])
    mine = [f"ours_torch_{device.type}", "ours_cv2"]
    others = [name for name in found if not name.startswith("ours")]
    ratios = {
        name: {other: round(found[other] / found[name], 2) for other in [*others, *mine[:1]]}
        for name in mine
    }
    return {
        "rows": size[0],
        "columns": size[1],
        "batch": size[2],
        "ms_a_picture": found,
        "times_as_fast_as": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    device = torch.device(options.device)
    result = {
        **machine.described(*PACKAGES, device=options.device),
        "threads": options.threads,
        "what": "flip, affine, brightness and contrast, cut-out; picture and mask",
        "sizes": [compared(size, options.rounds, device) for size in SIZES],
    }
    text = json.dumps(result, indent=1) + "\n"
    if options.out:
        optional_peers.write(options.out, text, "kornia", "albumentations")
    print(text)


if __name__ == "__main__":
    main()
