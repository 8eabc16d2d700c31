"""The loader beside a raw read of its tars, bare decoding, and webdataset, all in one run.

    python benchmarks/loader_speed.py [--patients 12] [--size 728x1456] [--rounds 9]

Builds a phantom dataset in 8 and in 16 bits, then takes turns: in every round each contestant reads
all samples, those that decode nothing ten times, once the machine is idle (but waits 20 s at most).
A ratio is of one round, the result the median of the rounds. ``cpu`` is by the seconds that the
process computed, which other programs on the machine hardly change. Needs ``webdataset``. Writes
results/loader_speed.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np
import webdataset

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.phantoms import rsna
from mammotrain.data import order
from mammotrain.data.loader import Loader, Options
from mammotrain.data.shards import Table, open_table

RESULT = Path(__file__).parent / "results" / "loader_speed.json"
BLOCK = 1 << 20
REPEATS = 10  # of what takes no time: a turn must be long enough to be measured
SMALL = (299, 299)
Contestant = Callable[[], int]  # returns how many samples it read


def raw_read(table: Table, shards: list[Path]) -> int:
    """Read whole tars, block by block, as fast as Python can."""
    for path in shards * REPEATS:
        with path.open("rb", buffering=0) as file:
            while file.read(BLOCK):
                pass
    return len(table) * REPEATS


def ours_plain(table: Table) -> int:
    """Read every picture's bytes in training order."""
    rows = np.arange(len(table))
    pool = order.Pool(rows, table.shards, np.zeros_like(rows), rows)
    count = 0
    for epoch in range(REPEATS):
        for row in order.epoch_order(pool, order.Sampling(), seed=0, epoch=epoch):
            count += len(table.read(int(row), "png")) > 0
    return count


def ours(loader: Loader) -> int:
    repeats = REPEATS if loader.cached else 1
    return sum(len(batch.keys) for epoch in range(repeats) for batch in loader.epoch(epoch))


def peer_plain(shards: list[Path]) -> int:
    names = [str(path) for path in shards]
    samples = webdataset.WebDataset(names * REPEATS, shardshuffle=False)
    return sum(len(sample["png"]) > 0 for sample in samples)


def picture(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def peer_decoded(shards: list[Path], workers: int) -> int:
    names = [str(path) for path in shards]
    samples = webdataset.WebDataset(names, shardshuffle=False).map_dict(png=picture)
    batches = samples.to_tuple("png").batched(8)
    loader = webdataset.WebLoader(batches, batch_size=None, num_workers=workers)
    return sum(len(pictures) for (pictures,) in loader)


def decode_alone(pictures: list[bytes]) -> int:
    return sum(picture(data).shape[0] > 0 for data in pictures)


def decode_on_threads(pictures: list[bytes], threads: int) -> int:
    """What this machine, as busy as it is, gives to several threads at most."""
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(decode_alone, [pictures[n::threads] for n in range(threads)]))


def contestants(table: Table, shards: list[Path], cache: Path) -> Iterator[tuple[str, Contestant]]:
    rows = np.arange(len(table))
    held = [table.read(int(row), "png") for row in rows]
    yield "raw tar read", lambda: raw_read(table, shards)
    yield "ours, no decode", lambda: ours_plain(table)
    yield "webdataset, no decode", lambda: peer_plain(shards)
    yield "decode alone, 1 thread", lambda: decode_alone(held)
    yield "decode alone, 2 threads", lambda: decode_on_threads(held, 2)
    for workers in (0, 2):
        loader = Loader(table, rows, Options(batch_size=8, workers=workers))
        yield f"ours, decoded, {workers} workers", lambda loader=loader: ours(loader)
        yield (
            f"webdataset, decoded, {workers} workers",
            lambda workers=workers: peer_decoded(shards, workers),
        )
        small = Options(batch_size=8, workers=workers, size=SMALL, cache_dir=cache)
        copies = Loader(table, rows, small)
        yield (
            f"ours, {SMALL[0]}x{SMALL[1]} copies, {workers} workers",
            (lambda copies=copies: ours(copies)),
        )


def wait_for_quiet(seconds: float = 20, share: float = 0.9) -> None:
    """Wait until nobody else uses the machine, but not for ever."""

    def times() -> tuple[int, int]:
        values = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return values[3] + values[4], sum(values)  # idle, all

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        idle, total = times()
        time.sleep(0.2)
        idle_after, total_after = times()
        if idle_after - idle >= share * (total_after - total):
            return


def measured(table: Table, shards: list[Path], rounds: int, cache: Path) -> dict[str, Any]:
    runs = dict(contestants(table, shards, cache))
    rates: dict[str, list[float]] = {name: [] for name in runs}
    costs: dict[str, list[float]] = {name: [] for name in runs}
    for place in range(rounds + 1):
        for name, run in runs.items():
            wait_for_quiet()
            started, worked = time.perf_counter(), time.process_time()
            count = run()
            if place:  # the first round fills caches and checks hashes
                rates[name].append(count / (time.perf_counter() - started))
                costs[name].append((time.process_time() - worked) / count)
    alone = statistics.median(costs["decode alone, 1 thread"])
    return {
        "samples_per_second": {n: round(statistics.median(r), 1) for n, r in rates.items()},
        "ratios": ratios(rates),
        "cpu": {
            f"decode alone / decoded, {workers} workers": round(
                alone / statistics.median(costs[f"ours, decoded, {workers} workers"]), 3
            )
            for workers in (0, 2)
        },
    }


def ratios(rates: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    pairs = {
        "no decode / raw tar read (goal 0.8)": ("ours, no decode", "raw tar read", 1),
        "no decode / webdataset (goal 1.5)": ("ours, no decode", "webdataset, no decode", 1),
        "decoded, 0 workers / decode alone (goal 0.9)": (
            "ours, decoded, 0 workers", "decode alone, 1 thread", 1),
        "decoded, 2 workers / 2 x decode alone (goal 0.8)": (
            "ours, decoded, 2 workers", "decode alone, 1 thread", 2),
        "decode alone, 2 threads / 2 x 1 thread (what the machine had to give)": (
            "decode alone, 2 threads", "decode alone, 1 thread", 2),
        "decoded, 2 workers / decode alone, 2 threads": (
            "ours, decoded, 2 workers", "decode alone, 2 threads", 1),
        "decoded, 2 workers / webdataset": (
            "ours, decoded, 2 workers", "webdataset, decoded, 2 workers", 1),
    }  # fmt: skip
    found = {}
    for name, (above, below, times) in pairs.items():
        each = [a / (times * b) for a, b in zip(rates[above], rates[below], strict=True)]
        found[name] = {
            "median": round(statistics.median(each), 3),
            "low": round(min(each), 3),
            "high": round(max(each), 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--size", default="728x1456")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # webdataset leaves files open
    width, height = map(int, options.size.split("x"))
    folder = Path(tempfile.mkdtemp())
    rsna.write(folder / "raw", patients=options.patients, seed=5, size_scale=0.4)
    result: dict[str, Any] = machine.described(
        "numpy", "opencv-python-headless", "torch", "webdataset"
    )
    for bits in (8, 16):
        out = folder / f"{bits}"
        settings = Settings(size=(width, height), bits=bits, shard_size=16)
        build(BuildConfig("rsna", settings, folder / "raw", out, os.cpu_count() or 1))
        table = open_table([out])
        shards = sorted((out / "shards").glob("*.tar"))
        sizes = [len(table.read(row, "png")) for row in range(len(table))]
        result[f"{bits} bits"] = {
            "samples": len(table),
            "png_bytes": round(statistics.mean(sizes)),
            **measured(table, shards, options.rounds, folder / "copies"),
        }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
