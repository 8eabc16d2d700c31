"""Ours beside the peers, from file to finished picture, on real files and full-size phantoms.

    python benchmarks/decode_speed.py [--real DIR]... [--phantoms DIR] [--with-medip] [--quick]
    python benchmarks/decode_speed.py --markdown benchmarks/results/decode_speed.json

Every way runs in a process of its own on one and the same core, and the ways take turns file by
file. Ratios are of processor time, of the same file in the same round. See docs/benchmarks.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import machine
import png_encoders
import speed_build
from peers import MEDIP, NOTEBOOKS, install_medip, medip_seconds
from speed_goals import markdown

from mammoprep.bench import NAMES
from mammoprep.decode import gate, header
from mammoprep.manifest import versions
from mammoprep.phantoms import rsna
from mammoprep.worker import KEEP_MEMORY, ONE_THREAD

HERE = Path(__file__).parent
OURS = ("exact", "fast")
PEERS = tuple(NOTEBOOKS)
WAYS = (*OURS, *PEERS, "decode")
MEDIP_IMAGES = 5
FULL, QUICK = (3, 4, 50, 8, 1.0), (1, 1, 3, 2, 0.2)

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        rounds: How often every file goes through every way.
        files: Phantoms of each group.
        patients: Phantoms are made of so many patients, about four images each.
        shard_size: Mean images a shard of the builds.
        scale: Share of the real rows and columns of a phantom.
    """

    rounds: int
    files: int
    patients: int
    shard_size: int
    scale: float


@dataclass
class Group:
    """Files of one kind, encoding and stored size, and what was measured of them."""

    kind: str
    encoding: str
    stored_size: tuple[int, int]
    files: list[Path] = field(default_factory=list)
    rows: Rows = field(default_factory=dict)
    medip: list[dict[str, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.kind}, {self.encoding}, {self.stored_size[0]} x {self.stored_size[1]}"


class Contestant:
    """One way, in a process of its own."""

    def __init__(self, name: str, out: Path) -> None:
        """Start it; ours with the environment that a build's child has."""
        extra = {**ONE_THREAD, **KEEP_MEMORY} if name in OURS else ONE_THREAD
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "contestant.py"), name, str(out)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **extra},
        )  # fmt: skip

    def work(self, path: Path) -> dict[str, Any] | None:
        """Return the seconds for one file; None when this way cannot read it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None or self._process.poll() is not None:
            return None
        try:
            stdin.write(f"{path}\n")
            stdin.flush()
        except BrokenPipeError:
            return None
        line = stdout.readline()
        return json.loads(line) if line else None

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def one_core() -> Iterator[int]:
    """Keep this process, and those it starts, on one core."""
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def grouped(kind: str, files: Sequence[Path]) -> list[Group]:
    """Sort single-frame files by encoding and stored size; others are left out."""
    found: dict[str, Group] = {}
    for path in files:
        data = path.read_bytes()
        meta = gate.check_file(data)
        facts = header.read_facts(header.parse(data), meta.transfer_syntax, None)
        if (facts.kind.frames or 1) > 1:
            continue
        size = (facts.pixels.rows or 0, facts.pixels.columns or 0)
        group = Group(kind, NAMES.get(meta.transfer_syntax, "other"), size)
        found.setdefault(group.name, group).files.append(path)
    return list(found.values())


def race(groups: Sequence[Group], rounds: int, scratch: Path) -> None:
    """Send every file through every way, the ways taking turns; a first turn is not counted."""
    for group in groups:
        group.rows = {way: [] for way in WAYS}
        for path in group.files:
            runners = {way: Contestant(way, scratch) for way in WAYS}
            for turn in range(rounds + 1):
                for way, runner in runners.items():
                    told = runner.work(path)
                    if told is not None and turn:
                        group.rows[way].append({"file": path, "turn": turn, **told})
            for runner in runners.values():
                runner.end()
        print(f"  {group.name}: {len(group.files)} files", flush=True)


def race_medip(groups: Sequence[Group], program: Path, rounds: int, scratch: Path) -> str:
    """Let medip run over each group; say so when it cannot read one."""
    said = []
    for group in groups:
        files = (group.files * MEDIP_IMAGES)[:MEDIP_IMAGES]
        try:
            group.medip = [medip_seconds(program, files, scratch) for _ in range(rounds)]
        except (RuntimeError, subprocess.CalledProcessError) as error:
            said.append(f"{group.name}: {type(error).__name__}")
    return "; ".join(said) or "read every group"


def spread(values: Sequence[float]) -> list[float]:
    """Return [median, lowest, highest]."""
    return [round(v, 3) for v in (median(values), min(values), max(values))]


def ratios(peer: list[dict[str, Any]], own: list[dict[str, Any]], clock: str) -> list[float]:
    """Return peer over own for the same file in the same round."""
    mine = {(row["file"], row["turn"]): row[clock] for row in own}
    shared = [row for row in peer if (row["file"], row["turn"]) in mine]
    return [row[clock] / mine[row["file"], row["turn"]] for row in shared]


def summary(group: Group) -> dict[str, Any]:
    """Return a group's figures: milliseconds of each way, ratios, shares of decoding."""
    rows = {way: found for way, found in group.rows.items() if found}
    told: dict[str, Any] = {
        "group": group.name,
        "files": len(group.files),
        "cpu_ms": {way: round(1e3 * median(r["cpu"] for r in rows[way]), 1) for way in rows},
        "wall_ms": {way: round(1e3 * median(r["wall"] for r in rows[way]), 1) for way in rows},
    }
    if "decode" in rows:
        told["whole_decode_ms"] = round(1e3 * median(r["decode"] for r in rows["decode"]), 1)
    for own in (way for way in OURS if way in rows):
        mine = rows[own]
        told[own] = {
            "read_as": sorted({row["read_as"] for row in mine}),
            "outside_decoder": spread([1 - row["decode"] / row["cpu"] for row in mine]),
            **_against(group, rows, own),
        }
        if "whole_decode_ms" in told:
            share = told["cpu_ms"][own] / told["whole_decode_ms"]
            told[own]["to_whole_decode"] = round(share, 3)
    return told


def _against(group: Group, rows: Rows, own: str) -> dict[str, Any]:
    found = {}
    for clock in ("cpu", "wall"):
        for peer in (way for way in PEERS if way in rows):
            if values := ratios(rows[peer], rows[own], clock):
                found[f"{peer}_{clock}"] = spread(values)
        mine = median(row[clock] for row in rows[own])
        if group.medip:
            found[f"medip_{clock}"] = spread([one[clock] / mine for one in group.medip])
    return found


def finished(files: Sequence[Path], scratch: Path) -> list[Any]:
    """Return the finished pictures that the race left behind."""
    runner = Contestant("exact", scratch)
    for path in files:
        runner.work(path)
    runner.end()
    found = (cv2.imread(str(scratch / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED) for path in files)
    return [picture for picture in found if picture is not None]


def phantoms(given: Path | None, effort: Effort, scratch: Path) -> Path:
    """Return a folder of phantoms in the layout of rsna, made now unless one is given."""
    if given is not None:
        return given
    print(f"making phantoms of {effort.patients} patients ...", flush=True)
    folder, cores = scratch / "rsna", os.cpu_count() or 1
    rsna.write(folder, patients=effort.patients, seed=11, size_scale=effort.scale, workers=cores)
    return folder


def measure(options: argparse.Namespace, effort: Effort, scratch: Path) -> dict[str, Any]:
    """Run everything and return the result."""
    here = machine.described("dicomsdl", "pylibjpeg", "pylibjpeg-openjpeg")
    result: dict[str, Any] = {
        "what": "file to finished 728x1456 PNG; processor time, one core",
        **here,
        "quick": options.quick,
        "versions": {**versions(), **here["versions"]},
    }
    raw = phantoms(options.phantoms, effort, scratch)
    groups = [
        group
        for kind, folder in (*(("real", real) for real in options.real), ("phantom", raw))
        for group in grouped(kind, sorted(folder.rglob("*.dcm")))
    ]
    for group in groups:
        step = max(1, len(group.files) // effort.files) if group.kind == "phantom" else 1
        group.files = group.files[::step][: effort.files]
    pictures = scratch / "pictures"
    pictures.mkdir()
    print("ours, the notebooks and the bare decoder, in turns ...", flush=True)
    with one_core():
        race(groups, effort.rounds, pictures)
        # Files that a build excludes, such as pictures of specimens.
        result["refused"] = [group.name for group in groups if not group.rows["exact"]]
        groups = [group for group in groups if group.rows["exact"]]
        result["medip"] = medip(options, groups, effort, scratch)
        best = [g for g in groups if g.kind == "real"] or groups
        shown = finished([path for group in best for path in group.files], pictures)
        result["png_encoders"] = png_encoders.compare(shown)
        print("memory of a child ...", flush=True)
        files = {group.name: group.files for group in groups}
        result["memory"] = speed_build.memory(files, {g.name: g.stored_size for g in groups})
    result["groups"] = [summary(group) for group in groups]
    print("builds by one and by two workers ...", flush=True)
    result["scaling"] = speed_build.scaling(raw, effort.shard_size, rounds=1)
    return result


def medip(
    options: argparse.Namespace, groups: Sequence[Group], effort: Effort, scratch: Path
) -> str:
    """Let medip take part when asked for and there; return what became of it."""
    if not options.with_medip:
        return "left out: --with-medip was not given"
    program = install_medip(options.medip_venv or scratch / "medip")
    if program is None:
        return f"left out: {MEDIP[0]} could not be installed; is there a network?"
    print("medip ...", flush=True)
    return race_medip(groups, program, effort.rounds, scratch / "medip_pictures")


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--real", type=Path, action="append", default=[], help="a folder of real files; repeatable")
    add("--phantoms", type=Path, help="a folder in the layout of rsna; made now when left out")
    add("--with-medip", action="store_true", help=f"also {MEDIP[0]}, installed by pip when absent")
    add("--medip-venv", type=Path, help="where to keep its virtual environment")
    add("--quick", action="store_true", help="small phantoms, one round: a smoke test")
    add("--out", type=Path, default=HERE / "results" / "decode_speed.json")
    add("--markdown", type=Path, metavar="JSON", help="print the tables of a result, and end")
    return parser.parse_args(arguments)


def real_folders(given: Sequence[Path]) -> list[Path]:
    """Return the folders of real files: those given, else those below MAMMO_REAL_DATA."""
    below = os.environ.get("MAMMO_REAL_DATA")
    if given or not below:
        return list(given)
    folders = (Path(below) / name for name in ("rsna", "mg_dicom"))
    return [folder for folder in folders if folder.is_dir()]


def main() -> None:
    options = parsed()
    if options.markdown:
        print(markdown(json.loads(options.markdown.read_text(encoding="utf-8"))))
        return
    options.real = real_folders(options.real)
    scratch = Path(tempfile.mkdtemp())
    try:
        result: Mapping[str, Any] = measure(
            options, Effort(*(QUICK if options.quick else FULL)), scratch
        )
    finally:
        shutil.rmtree(scratch)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
