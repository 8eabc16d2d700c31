"""The same build with `--device cpu` and `--device cuda`: equal shards, and how fast each is.

    python benchmarks/gpu_decode.py [--input RSNA-FOLDER] [--images 192] [--workers 1 4 16]

Also times batches of 4096 x 3328 frames in JPEG 2000 and JPEG Lossless on the device alone. Without
a GPU it says so, and what it writes is then only about the CPU. Writes results/gpu_decode.json.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import imagecodecs
import machine
import numpy as np

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.decode import gpu
from mammoprep.manifest import versions
from mammoprep.phantoms import rsna

RSNA_IMAGES = 54_706
FRAME = (4096, 3328)
BATCH = 8
RESULT = Path(__file__).parent / "results" / "gpu_decode.json"


def one_build(raw: Path, workers: int, device: str, images: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp())
    settings = Settings(size=(728, 1456), shard_size=16, missing="skip", limit=images)
    config = BuildConfig("rsna", settings, raw, folder / "out", workers, device=device)
    result = build(config)
    digest = hashlib.sha256()
    for shard in sorted((folder / "out" / "shards").glob("*.tar")):
        digest.update(shard.read_bytes())
    shutil.rmtree(folder)
    rate = result.local["images_per_second"]
    return {
        "images_per_second": rate,
        "hours_for_rsna": round(RSNA_IMAGES / rate / 3600, 2),
        "device": result.local["device"],
        "shards_sha256": digest.hexdigest(),
    }


def builds(raw: Path, workers: list[int], images: int) -> dict[str, Any]:
    one_build(raw, max(workers), "cpu", images)  # fills the disk cache
    table = {}
    for count in workers:
        pair = {device: one_build(raw, count, device, images) for device in ("cpu", "cuda")}
        same = pair["cpu"].pop("shards_sha256") == pair["cuda"].pop("shards_sha256")
        ratio = pair["cuda"]["images_per_second"] / pair["cpu"]["images_per_second"]
        table[f"{count} workers"] = {**pair, "same_shards": same, "ratio": round(ratio, 2)}
    return table


def frames() -> dict[str, bytes]:
    """Return one smooth noisy 12-bit frame in both syntaxes that GPUs decode."""
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]]
    noise = np.random.default_rng(1).normal(0, 12, FRAME)
    words = (2000 + 1500 * np.sin(rows / 700) * np.cos(columns / 500) + noise).astype(np.uint16)
    return {
        "JPEG 2000": imagecodecs.jpeg2k_encode(
            words, level=0, codecformat="j2k", bitspersample=12, reversible=True
        ),
        "JPEG Lossless": imagecodecs.ljpeg_encode(words, bitspersample=12),
    }


def decoding(device: gpu.Device) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, frame in frames().items():
        device.decode([frame] * BATCH)
        started = time.perf_counter()
        for _ in range(4):
            words = device.decode([frame] * BATCH)
        last = words[-1]
        if last is None:
            table[name] = "not decoded"
            continue
        last.limits()  # waits for the device
        seconds = (time.perf_counter() - started) / (4 * BATCH)
        table[name] = {"frames_per_second": round(1 / seconds, 1), "batch": BATCH}
    return table


def hardware() -> str:
    if shutil.which("nvidia-smi") is None:
        return "no GPU"
    query = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, help="an RSNA folder; default: phantoms, made first")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, os.cpu_count() or 1])
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    raw = options.input
    if raw is None:
        raw = Path(tempfile.mkdtemp()) / "rsna"
        rsna.write(raw, patients=max(4, options.images // 4), seed=5)
    here = machine.described()
    result: dict[str, Any] = {
        **here,
        "machine": {**here["machine"], "gpu": hardware()},
        "versions": {**versions(), **{k: v for k, v in gpu.versions().items() if v}},
        "builds": builds(raw, sorted(set(options.workers)), options.images),
    }
    try:
        result["decode_alone"] = decoding(gpu.open_device())
    except gpu.DeviceError as error:
        result["decode_alone"] = f"no device: {error}"
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["builds"], indent=2), result["decode_alone"])


if __name__ == "__main__":
    main()
