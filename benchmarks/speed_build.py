"""Whole builds by one and by two workers, and the memory of a working child."""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from mammoprep import preparation
from mammoprep.builder import build
from mammoprep.config import BuildConfig, Limits, Settings
from mammoprep.core.tree import Folder
from mammoprep.worker import Child

SIZE = (728, 1456)
BYTES_A_PIXEL = 2
MODES = ("exact", "fast")
MOST_IMAGES = 200


def scaling(raw: Path, shard_size: int, *, rounds: int) -> dict[str, Any]:
    """Build a folder by one and by two workers, in turns; images a second and their ratio."""
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, found in runs.items():
            found.append(_build(raw, workers, shard_size))
    best = {
        workers: max(one["images_per_second"] for one in found) for workers, found in runs.items()
    }
    return {
        "cores": len(os.sched_getaffinity(0)),
        "images": runs[1][0]["images"],
        "shards": runs[1][0]["shards"],
        "one_worker": best[1],
        "two_workers": best[2],
        "ratio": round(best[2] / best[1], 3),
    }


def _build(raw: Path, workers: int, shard_size: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp())
    config = BuildConfig(
        "rsna",
        Settings(SIZE, shard_size=shard_size, limit=MOST_IMAGES),
        raw,
        folder / "out",
        workers,
    )
    begun = time.perf_counter()
    result = build(config)
    seconds = time.perf_counter() - begun
    shards = len(list((folder / "out" / "shards").glob("*.tar")))
    shutil.rmtree(folder)
    images = result.summary["counts"]["built"]
    speed = round(images / seconds, 3)
    return {"images": images, "shards": shards, "images_per_second": speed}


def memory(
    groups: Mapping[str, Sequence[Path]], sizes: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """Return what a group's files add to an idle child, as a multiple of the decoded image."""
    found: dict[str, Any] = {}
    for name, files in groups.items():
        decoded = sizes[name][0] * sizes[name][1] * BYTES_A_PIXEL
        for mode in MODES:
            idle, peak = _child(files, mode)
            found.setdefault(name, {"decoded_mb": round(decoded / 1e6, 1)})[mode] = {
                "idle_mb": round(idle / 1e6, 1),
                "above_idle_mb": round((peak - idle) / 1e6, 1),
                "above_idle_to_decoded": round((peak - idle) / decoded, 2),
            }
    return found


def _child(files: Sequence[Path], mode: str) -> tuple[int, int]:
    """Return resident bytes of an idle child that has everything loaded, and its peak at work."""
    tree = Folder(Path(os.path.commonpath([path.resolve().parent for path in files])))
    hello = {
        "settings": Settings(SIZE, decode=mode).to_json(),
        "label_names": [],
        "locator": tree.locator(),
        "device": "cpu",
        "colour": False,
    }
    child = Child(hello, Limits(), threading.Event())
    before = {process.pid for process in psutil.Process().children()}
    try:
        _ask(child, "absent", 0)
        (process,) = (p for p in psutil.Process().children() if p.pid not in before)
        idle = process.memory_info().rss
        for path in files:
            _ask(child, str(path.resolve().relative_to(tree.root)), path.stat().st_size)
        return idle, _peak(process.pid)
    finally:
        child.kill()


def _ask(child: Child, name: str, size: int) -> None:
    record = preparation.record_of(Path("picture.dcm")).to_json()
    child.ask({"record": {**record, "input": name}, "size": size, "ahead": []})


def _peak(number: int) -> int:
    status = Path(f"/proc/{number}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) << 10
