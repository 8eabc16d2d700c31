"""How long each stage takes on this machine, for a user's own files: ``mammoprep bench``.

Files are only opened in a child process (``bench_child``): one that crashes a decoder is a counted
line. Times are processor time; what the storage makes a reader wait for is told apart. Neither a
name of a file nor a text of a header is shown.
"""

import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from rich.table import Table

from mammoprep.bench_child import STAGES, Group, Times
from mammoprep.config import DECODES, Limits, Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.text import by
from mammoprep.core.tree import Folder, Tree, open_tree
from mammoprep.worker import Child

COLUMNS = (*STAGES, "other", "wait")
ROUNDS = 2
LOOKED_AT = 10
WORTH_IT = 1.1
WAITING = 0.25
COMMAND = (sys.executable, "-P", "-m", "mammoprep.bench_child")
LIMITS = Limits(wall_seconds=300)
NAMES = {
    "1.2.840.10008.1.2": "uncompressed",
    "1.2.840.10008.1.2.1": "uncompressed",
    "1.2.840.10008.1.2.1.99": "deflated",
    "1.2.840.10008.1.2.2": "uncompressed, big endian",
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.201": "HTJ2K",
    "1.2.840.10008.1.2.4.202": "HTJ2K",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
}
ADVICE = {
    "decode": "These files have to be decoded as a whole: more cores (--workers) are what helps.",
    "read": "A faster disk, or an unpacked folder instead of a zip, would help.",
    "resize": "A smaller --size, or more cores (--workers), would help.",
    "encode": "A smaller --size, or more cores (--workers), would help.",
}
File = tuple[str, float]
Item = TypeVar("Item")


def bench(
    path: Path,
    *,
    size: tuple[int, int],
    limit: int = 20,
    decode: str = "both",
    command: tuple[str, ...] = COMMAND,
) -> dict[str, Any]:
    """Measure what one core needs for some of the files below a folder.

    Args:
        path: A folder, a zip or one DICOM file; files of other kinds are counted and left out.
        size: (width, height) of the finished picture in pixels.
        limit: How many images to measure, spread over transfer syntaxes and stored sizes.
        decode: ``exact``, ``fast`` or ``both``.
        command: How to start the child.

    Returns:
        ``groups`` (one a transfer syntax and stored size) and ``all`` (weighted as the groups were
        found): for each way to decode, milliseconds an image by stage, ``wait`` for what the
        storage takes, and ``images_per_second`` of one core. ``failures``: code -> files.
        ``bottleneck``: a sentence.

    Raises:
        ConfigError: an option is wrong, or there is no image to measure.
    """
    modes = _modes(decode)
    settings = Settings(size=size)
    if limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {limit}.")
    tree, names = _files(path)
    hello = {"settings": settings.to_json(), "locator": tree.locator(), "device": "cpu"}
    child = Child(hello, LIMITS, threading.Event(), command)
    try:
        found, failures = _look(child, _spread(names, limit * LOOKED_AT))
        measured = _measure_all(child, _chosen(found, limit), modes, failures)
    finally:
        child.kill()
    if not measured:
        counted = ", ".join(f"{n} {code}" for code, n in failures.items()) or "no files"
        raise ConfigError(f"{path} has no DICOM image that could be measured ({counted}).")
    groups = [_group_row(group, len(found[group]), rows) for group, rows in measured.items()]
    groups.sort(key=lambda row: -row["files"])
    whole = {mode: _weighted(groups, mode) for mode in modes}
    return {
        "size": list(size),
        "looked_at": min(len(names), limit * LOOKED_AT),
        "measured": sum(row["images"] for row in groups),
        "failures": dict(failures),
        "groups": groups,
        "all": whole,
        "bottleneck": advice(whole),
    }


def _modes(decode: str) -> tuple[str, ...]:
    if decode == "both":
        return DECODES
    if decode not in DECODES:
        raise ConfigError(f"--decode must be exact, fast or both; got {decode!r}.")
    return (decode,)


def _files(path: Path) -> tuple[Tree, list[str]]:
    if path.is_file() and not zipfile.is_zipfile(path):
        return Folder(path.parent.resolve()), [path.name]
    tree = open_tree(path)
    if path.is_dir():
        return tree, sorted(tree.sizes("."))
    return tree, sorted(name for top in tree.folders() for name in tree.sizes(top))


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return ``count`` items, or all, evenly spread."""
    step = max(1.0, len(items) / count)
    return [items[int(i * step)] for i in range(min(count, len(items)))]


def _look(child: Child, names: Sequence[str]) -> tuple[dict[Group, list[File]], Counter[str]]:
    """Return the files by group; each is read for the first time, so that storage waits show."""
    found: dict[Group, list[File]] = {}
    failures: Counter[str] = Counter()
    for name in names:
        answer = child.ask({"look": name}).header
        if "failure" in answer:
            failures[answer["failure"]["code"]] += 1
        else:
            found.setdefault(tuple(answer["group"]), []).append((name, answer["wait"]))
    return found, failures


def _chosen(found: Mapping[Group, list[File]], limit: int) -> list[tuple[Group, File]]:
    """Return ``limit`` files, one of each group in turn, spread within each."""
    rows = [[(group, file) for file in _spread(files, limit)] for group, files in found.items()]
    turns = [item for turn in zip_longest(*rows) for item in turn if item is not None]
    return turns[:limit]


def _measure_all(
    child: Child,
    chosen: Sequence[tuple[Group, File]],
    modes: tuple[str, ...],
    failures: Counter[str],
) -> dict[Group, dict[str, list[Times]]]:
    """Return the times of every image by group and mode; the modes take turns."""
    measured: dict[Group, dict[str, list[Times]]] = {}
    for group, (name, waited) in chosen:
        times: dict[str, list[Times]] = {mode: [] for mode in modes}
        code = None
        for mode in modes * ROUNDS:
            answer = child.ask({"measure": name, "mode": mode}).header
            if "failure" in answer:
                code = answer["failure"]["code"]
                break
            times[mode].append(answer["times"])
        if code is not None:
            failures[code] += 1
            continue
        rows = measured.setdefault(group, {mode: [] for mode in modes})
        for mode, rounds in times.items():
            best: Times = min(rounds, key=_total)
            rows[mode].append({**best, "wait": waited})
    return measured


def _total(times: Times) -> float:
    return sum(times.values())


def _group_row(group: Group, files: int, rows: Mapping[str, list[Times]]) -> dict[str, Any]:
    syntax, high, wide = group
    images = len(next(iter(rows.values())))
    figures = {
        mode: _figures({name: 1e3 * median(row[name] for row in times) for name in COLUMNS})
        for mode, times in rows.items()
    }
    return {
        "transfer_syntax": syntax,
        "encoding": NAMES.get(syntax, "another syntax"),
        "stored_size": [high, wide],
        "files": files,
        "images": images,
        **figures,
    }


def _figures(ms: Mapping[str, float]) -> dict[str, Any]:
    total = max(sum(ms.values()), 1e-6)
    return {
        "ms": {name: round(ms[name], 2) for name in COLUMNS},
        "share": {name: round(ms[name] / total, 4) for name in COLUMNS},
        "total_ms": round(total, 2),
        "images_per_second": round(1e3 / total, 2),
    }


def _weighted(groups: Sequence[Mapping[str, Any]], mode: str) -> dict[str, Any]:
    files = sum(row["files"] for row in groups)
    return _figures(
        {
            name: sum(row["files"] * row[mode]["ms"][name] for row in groups) / files
            for name in COLUMNS
        }
    )


def advice(whole: Mapping[str, Any]) -> str:
    """Return what takes longest, and what would help, in a sentence or two.

    Args:
        whole: ``all`` of what ``bench`` returns.
    """
    mode = next(iter(whole))
    share, total = whole[mode]["share"], whole[mode]["total_ms"]
    if share["wait"] >= WAITING:
        return (
            f"Waiting for the storage is {share['wait']:.0%}: copy the files to a local disk, or "
            "run more --workers than cores."
        )
    largest = max(STAGES, key=lambda name: share[name])
    said = f"{largest.capitalize()} is {share[largest]:.0%} of the time with --decode {mode}. "
    gain = total / whole["fast"]["total_ms"] if "fast" in whole else 1.0
    if mode == "exact" and gain >= WORTH_IT:
        return f"{said}--decode fast would give {gain:.1f}x here."
    return said + ADVICE.get(largest, "More cores (--workers) would help.")


def tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """Yield a table of stages for every group, then one of all files when there are several."""
    groups = result["groups"]
    for row in groups:
        rows, columns = row["stored_size"]
        title = f"{row['encoding']}, {by(rows, columns)}: {row['images']} images measured"
        yield _table(title, row)
    if len(groups) > 1:
        yield _table("All, weighted as the files were found", result["all"])


def _table(title: str, row: Mapping[str, Any]) -> Table:
    modes = [mode for mode in DECODES if mode in row]
    table = Table(title=title, title_justify="left")
    table.add_column("one core, an image")
    for mode in modes:
        table.add_column(f"{mode}, ms", justify="right")
        table.add_column("%", justify="right")
    for name in COLUMNS:
        cells = ((f"{row[m]['ms'][name]:.1f}", f"{row[m]['share'][name]:.1%}") for m in modes)
        table.add_row(name, *(cell for pair in cells for cell in pair))
    totals = ((f"{row[m]['total_ms']:.1f}", "") for m in modes)
    table.add_row("together", *(cell for pair in totals for cell in pair))
    speeds = ((f"{row[m]['images_per_second']:.2f}", "") for m in modes)
    table.add_row("images/s", *(cell for pair in speeds for cell in pair))
    return table
