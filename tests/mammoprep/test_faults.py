"""What goes wrong outside: decoders that crash, hang or eat memory, kills at any moment."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers import config, run_build, tree_of

from mammoprep.builder import Result, build
from mammoprep.config import Limits
from mammoprep.repack import repack
from mammoprep.state import read_json_lines

FAULTY = Path(__file__).parents[1] / "faulty_child.py"
KILLS = 20


def build_with(
    fault: str, raw: Path, out: Path, *marker: Path, **limits: int
) -> tuple[Result, str]:
    target = sorted(raw.glob("train_images/*/*.dcm"))[5]
    name = str(target.relative_to(raw))
    command = (sys.executable, str(FAULTY), fault, name, *map(str, marker))
    result = build(config(raw, out, limits=Limits(**limits)), command=command)
    counts = result.summary["counts"]
    assert counts["built"] + sum(counts["failed"].values()) == counts["inputs"] > 20
    return result, name


DEATHS = {
    "segfault": ("decode_crash", "signal 11"),
    "abort": ("decode_crash", "signal 6"),
    "kill": ("decode_crash", "signal 9"),
    "exit": ("decode_crash", "status 3"),
}


@pytest.mark.parametrize(
    "fault",
    ["segfault", *(pytest.param(n, marks=pytest.mark.slow) for n in ("abort", "kill", "exit"))],
)
def test_a_decoder_that_dies_costs_one_record_after_a_second_try(
    fault: str, phantom_once: Path, tmp_path: Path
) -> None:
    result, name = build_with(fault, phantom_once, tmp_path / "out")
    code, detail = DEATHS[fault]
    assert result.summary["counts"]["failed"] == {code: 1}
    (failure,) = read_json_lines(tmp_path / "out" / "failures.jsonl")
    assert failure["input"] == name
    assert detail in failure["detail"]
    assert "2 attempts" in failure["detail"]


def test_a_decoder_that_dies_once_costs_nothing(
    phantom_once: Path, built_once: Path, tmp_path: Path
) -> None:
    result, _ = build_with("segfault", phantom_once, tmp_path / "out", tmp_path / "once")
    assert (tmp_path / "once").exists()
    assert result.exit_code == 0
    assert tree_of(tmp_path / "out") == tree_of(built_once)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["spin in c", pytest.param("spin", marks=pytest.mark.slow)])
def test_a_decoder_that_loops_is_ended_by_its_processor_time(
    fault: str, phantom_once: Path, tmp_path: Path
) -> None:
    result, _ = build_with(fault, phantom_once, tmp_path / "out", cpu_seconds=1)
    assert result.summary["counts"]["failed"] == {"decode_timeout": 1}


@pytest.mark.slow
def test_a_decoder_that_sleeps_is_ended_by_the_backstop(phantom_once: Path, tmp_path: Path) -> None:
    result, _ = build_with("sleep", phantom_once, tmp_path / "out", wall_seconds=3)
    assert result.summary["counts"]["failed"] == {"decode_timeout": 1}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["eat", "memory error"])
def test_a_decoder_that_eats_memory_is_stopped_at_its_limit(
    fault: str, phantom_once: Path, tmp_path: Path
) -> None:
    result, _ = build_with(fault, phantom_once, tmp_path / "out", memory=2 << 30)
    assert result.summary["counts"]["failed"] == {"decode_oom": 1}


@pytest.mark.parametrize(
    "fault",
    [
        "panic",
        "stop",
        "generator exit",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("recursion", "deep", "interrupt", "sys exit")
        ),
    ],
)
def test_exceptions_that_are_no_exception_become_a_code_without_their_text(
    fault: str, phantom_once: Path, tmp_path: Path
) -> None:
    result, _ = build_with(fault, phantom_once, tmp_path / "out")
    assert result.summary["counts"]["failed"] == {"decode_error": 1}
    assert "DOE" not in (tmp_path / "out" / "failures.jsonl").read_text()


def test_a_decoder_that_prints_does_not_reach_the_answers(
    phantom_once: Path, built_once: Path, tmp_path: Path
) -> None:
    build_with("chatter", phantom_once, tmp_path / "out")
    assert tree_of(tmp_path / "out") == tree_of(built_once)


def test_a_child_that_does_not_start_is_a_bug_not_thousands_of_failures(
    phantom_once: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="does not start"):
        build(config(phantom_once, tmp_path / "out"), command=(sys.executable, "-c", "pass"))


def start(raw: Path, out: Path) -> subprocess.Popen[bytes]:
    options = f"--source rsna --size 64x128 --folds 3 --shard-size 4 --workers 2 --input {raw}"
    return subprocess.Popen(
        [sys.executable, "-m", "mammoprep", "build", *options.split(), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_for_child(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Wait until the build works on its first shard."""
    for _ in range(2000):
        if children := family(process):
            return children
        if process.poll() is not None:
            return []
        time.sleep(0.005)
    return []


@pytest.fixture
def span(phantom_once: Path, tmp_path: Path) -> float:
    """Seconds from the first child's start to the end of an undisturbed build, here and now."""
    process = start(phantom_once, tmp_path / "undisturbed")
    wait_for_child(process)
    started = time.monotonic()
    assert process.wait(timeout=60) == 0
    return time.monotonic() - started


@pytest.mark.slow
def test_kill_9_of_the_parent_at_any_moment_is_mended_by_a_plain_run(
    phantom_once: Path, built_once: Path, tmp_path: Path, span: float
) -> None:
    rng, out, killed = random.Random(1), tmp_path / "out", 0
    for _ in range(5 * KILLS):
        process = start(phantom_once, out)
        children = wait_for_child(process)
        time.sleep(rng.uniform(0, 0.8 * span))
        children += family(process)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive, "children must end with their parent"
        if killed == KILLS:
            break
        finished = sorted((out / "shards").glob("*.tar"))
        for shard in rng.sample(finished, len(finished) // 2):
            shard.unlink()  # so that there is always something left to interrupt
    assert killed == KILLS
    run_build(phantom_once, out)
    assert tree_of(out) == tree_of(built_once)


@pytest.mark.slow
def test_kill_9_of_a_child_at_any_moment_does_not_change_a_byte(
    phantom_once: Path, built_once: Path, tmp_path: Path, span: float
) -> None:
    rng, killed = random.Random(2), 0
    for attempt in range(5 * KILLS):
        out = tmp_path / str(attempt)
        process = start(phantom_once, out)
        wait_for_child(process)
        time.sleep(rng.uniform(0, 0.8 * span))
        if children := family(process):
            rng.choice(children).kill()
            killed += 1
        assert process.wait(timeout=60) == 0
        assert tree_of(out) == tree_of(built_once)
        if killed == KILLS:
            break
    assert killed == KILLS


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_signals_end_within_ten_seconds_and_resume(
    number: signal.Signals, phantom_once: Path, built_once: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(phantom_once, out)
    children = wait_for_child(process)
    while process.poll() is None and not list((out / "shards").glob("*.tar")):
        time.sleep(0.002)  # signal in the middle: one shard is there, the others are not
    children += family(process)
    os.kill(process.pid, number)
    assert process.wait(timeout=10) == 5
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert not (out / "dataset.json").exists()
    run_build(phantom_once, out)
    assert tree_of(out) == tree_of(built_once)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Files that got their final name before all of them was on disk, or whose folder was not."""
    faults: list[str] = []
    synced: set[tuple[int, int]] = set()
    owed: dict[int, str] = {}
    fsync, rename = os.fsync, os.replace

    def record(handle: int) -> None:
        fsync(handle)
        stat = os.fstat(handle)
        synced.add((stat.st_ino, stat.st_size))
        owed.pop(stat.st_ino, None)

    def check(source: Path, target: Path) -> None:
        stat = Path(source).stat()
        if (stat.st_ino, stat.st_size) not in synced:
            faults.append(f"{target.name}: renamed before it was synced")
        rename(source, target)
        folder = Path(target).parent.stat().st_ino
        if folder in owed:
            faults.append(f"{owed[folder]}: its folder was not synced")
        owed[folder] = Path(target).name

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "replace", check)
    yield faults
    faults += [f"{name}: its folder was not synced" for name in owed.values()]
    assert not faults


def test_every_shard_of_a_build_is_on_disk_before_it_has_its_name(
    phantom: Path, tmp_path: Path, unsynced: list[str]
) -> None:
    result = run_build(phantom, tmp_path / "out", max_failures="1")
    assert len(result.summary["shards"]) > 1
    assert unsynced == []


def test_every_shard_of_a_split_is_on_disk_before_it_has_its_name(
    built: Path, tmp_path: Path, unsynced: list[str]
) -> None:
    repack(built, tmp_path / "new", folds=2, seed=0)
    assert unsynced == []
