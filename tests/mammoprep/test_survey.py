"""The look at every file before planning: isolated, kept, and the same however it was done."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import tree_of
from outlines import built
from PIL import Image

from mammoprep import builder
from mammoprep.builder import Result, Watcher, build
from mammoprep.config import BuildConfig, Limits, Settings
from mammoprep.core.errors import RecordError, ResourceError
from mammoprep.decode import near_duplicates
from mammoprep.phantoms import busi as phantom

FOLDER = phantom.FOLDER
FIRST = f"{FOLDER}/benign/benign (1).png"
COPIES = ("busi_benign_7", "busi_malignant_4")  # of benign (1)
FATAL = f"{FOLDER}/malignant/malignant (4).png"  # no other file has its bytes

# A child whose survey of one file is fatal: python -c FAULTY FAULT NAME [MARKER].
FAULTY = """
import ctypes, os, sys, time
from pathlib import Path
from mammoprep import child
from mammoprep.sources import busi
fault, digest = sys.argv[1:3]
marker = Path(sys.argv[3]) if len(sys.argv) > 3 else None
plain = busi.survey
def survey(data):
    from hashlib import sha256
    if sha256(data).hexdigest() == digest and not (marker and marker.exists()):
        if marker:
            marker.touch()
        {"segfault": lambda: ctypes.string_at(0), "sleep": lambda: time.sleep(3600)}[fault]()
    return plain(data)
busi.survey = survey
child.main()
"""


class Counting(Watcher):
    """Remembers what the survey told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.lines: list[str] = []

    def survey(self, done: int, total: int) -> None:
        self.seen.append((done, total))

    def warn(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def raw_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey") / "raw"
    phantom.write(folder, patients=4, seed=5, size_scale=0.1, prevalence=0.25)
    return folder


@pytest.fixture
def raw(raw_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(raw_once, tmp_path / "raw")


def run(raw: Path, out: Path, watcher: Watcher | None = None, **places: object) -> Result:
    chosen = Settings(size=(32, 32), crop="none", orient="none", folds=3, shard_size=4)
    command = places.pop("command", builder.COMMAND)
    config = BuildConfig("busi", chosen, raw, out, **{"workers": 2, **places})
    return build(config, watcher, command)


def groups(out: Path) -> dict[str, str]:
    return {sample.about["key"]: sample.about["group"] for sample in built(out)}


def digest(path: Path) -> str:
    from hashlib import sha256

    return sha256(path.read_bytes()).hexdigest()


def faulty(fault: str, *arguments: object) -> tuple[str, ...]:
    return (sys.executable, "-c", FAULTY, fault, *map(str, arguments))


@pytest.mark.slow
def test_one_and_three_workers_and_a_kept_survey_make_the_same_bytes(
    raw: Path, tmp_path: Path
) -> None:
    one, three = Counting(), Counting()
    run(raw, tmp_path / "one", one, workers=1)
    run(raw, tmp_path / "three", three, workers=3)
    assert tree_of(tmp_path / "one") == tree_of(tmp_path / "three")
    assert one.lines == three.lines
    again = Counting()
    before = tree_of(tmp_path / "one")
    result = run(raw, tmp_path / "one", again)
    assert tree_of(tmp_path / "one") == before
    assert (again.seen, again.lines) == ([], one.lines)
    assert result.local["shards_built"] == []


@pytest.mark.slow
def test_the_survey_tells_how_far_it_is(raw: Path, tmp_path: Path) -> None:
    watcher = Counting()
    run(raw, tmp_path / "out", watcher)
    assert watcher.seen == [(done, 17) for done in range(18)]


@pytest.mark.slow
def test_a_copy_of_the_data_elsewhere_makes_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "here")
    shutil.copytree(raw, tmp_path / "moved", copy_function=shutil.copyfile)
    run(tmp_path / "moved", tmp_path / "there")
    assert tree_of(tmp_path / "here") == tree_of(tmp_path / "there")


@pytest.mark.slow
def test_only_a_changed_file_is_looked_at_again_and_its_group_follows(
    raw: Path, tmp_path: Path
) -> None:
    run(raw, tmp_path / "out")
    assert {groups(tmp_path / "out")[key] for key in COPIES} == {"benign_1"}
    shutil.copy(raw / FOLDER / "normal" / "normal (1).png", raw / FIRST)
    os.utime(raw / FIRST, ns=(1, 1))
    watcher = Counting()
    run(raw, tmp_path / "out", watcher)
    assert watcher.seen == [(0, 1), (1, 1)]
    found = groups(tmp_path / "out")
    assert found["busi_benign_1"] == "normal_1"
    assert {found[key] for key in COPIES} == {"benign_7"}
    run(raw, tmp_path / "anew")
    assert tree_of(tmp_path / "anew") == tree_of(tmp_path / "out")


@pytest.mark.slow
def test_a_damaged_or_foreign_cache_is_not_believed(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "out")
    before = tree_of(tmp_path / "out")
    cache = tmp_path / "out" / ".state" / "survey.json"
    cache.write_bytes(cache.read_bytes().replace(b"96", b"95", 1))
    watcher = Counting()
    run(raw, tmp_path / "out", watcher)
    assert watcher.seen[-1] == (17, 17)
    assert tree_of(tmp_path / "out") == before
    fresh = Counting()
    run(raw, tmp_path / "out", fresh, fresh=True)
    assert fresh.seen[-1] == (17, 17)


@pytest.mark.slow
def test_a_file_that_crashes_the_survey_costs_only_its_own_group(raw: Path, tmp_path: Path) -> None:
    watcher = Counting()
    result = run(raw, tmp_path / "out", watcher, command=faulty("segfault", digest(raw / FATAL)))
    assert result.exit_code == 0
    found = groups(tmp_path / "out")
    assert [found[key] for key in COPIES] == ["benign_1", "malignant_4"]
    again = Counting()
    run(raw, tmp_path / "out", again)
    assert again.seen == []
    run(raw, tmp_path / "out", again, retry_failed=True)
    assert again.seen == [(0, 1), (1, 1)]
    assert {groups(tmp_path / "out")[key] for key in COPIES} == {"benign_1"}


@pytest.mark.slow
def test_a_crash_that_does_not_repeat_changes_nothing(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "plain")
    command = faulty("segfault", digest(raw / FATAL), tmp_path / "marker")
    run(raw, tmp_path / "out", command=command)
    assert (tmp_path / "marker").exists()
    assert tree_of(tmp_path / "out") == tree_of(tmp_path / "plain")


@pytest.mark.slow
def test_a_survey_that_sleeps_is_ended_by_the_backstop(raw: Path, tmp_path: Path) -> None:
    command = faulty("sleep", digest(raw / FATAL))
    watcher = Counting()
    run(raw, tmp_path / "out", watcher, command=command, limits=Limits(wall_seconds=2))
    assert "Not compared: 1 of 17 images" in watcher.lines[-1]


@pytest.mark.slow
def test_an_interrupted_survey_keeps_what_it_found(raw: Path, tmp_path: Path) -> None:
    class Stopping(Counting):
        def survey(self, done: int, total: int) -> None:
            super().survey(done, total)
            if done == 5:
                raise ResourceError("Interrupted by SIGINT.")

    with pytest.raises(ResourceError):
        run(raw, tmp_path / "out", Stopping())
    assert not (tmp_path / "out" / "dataset.json").exists()
    watcher = Counting()
    run(raw, tmp_path / "out", watcher)
    assert watcher.seen[0][1] <= 12
    run(raw, tmp_path / "plain")
    assert tree_of(tmp_path / "out") == tree_of(tmp_path / "plain")


@pytest.mark.slow
def test_a_signal_during_the_survey_ends_it_and_its_children_soon(
    raw: Path, tmp_path: Path
) -> None:
    command = faulty("sleep", digest(raw / FATAL))
    program = (
        "import sys; from mammoprep import builder; from mammoprep.__main__ import main;"
        f"builder.build.__defaults__ = (None, {command!r}); main()"
    )
    arguments = ("build", "--source", "busi", "--size", "32x32", "--input", raw, "--out",
                 tmp_path / "out", "--workers", "2")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stderr=subprocess.PIPE
    )
    lock = tmp_path / "out" / ".state" / "lock"
    deadline = time.monotonic() + 60
    while not lock.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(4)  # all but the sleeper are done by now
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 5, told.decode()
    assert (tmp_path / "out" / ".state" / "survey.json").exists()


def test_sources_without_a_survey_are_left_alone(built_once: Path) -> None:
    assert not (built_once / ".state" / "survey.json").exists()


def coded(pixels: np.ndarray, folder: Path) -> bytes:
    Image.fromarray(pixels).save(folder / "picture.png")
    return (folder / "picture.png").read_bytes()


@pytest.fixture(scope="module")
def frames(raw_once: Path, tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    folder = tmp_path_factory.mktemp("frames")
    phantom.write(folder / "raw", patients=3, seed=8, size_scale=0.5)
    names = sorted((folder / "raw" / FOLDER).rglob("*[0-9]).png"))
    found = []
    for name in names[:6]:
        with Image.open(name) as picture:
            found.append(np.array(picture.convert("L")))
    return found


CHANGES = {
    "cropped left by a third": lambda a: a[:, a.shape[1] // 3 :],
    "cropped everywhere": lambda a: a[8:-10, 12:-15],
    "half the scale": lambda a: a[::2, ::2],
    "darker": lambda a: (a * 0.6).astype(np.uint8),
    "in colour": lambda a: np.stack([a, a, a], axis=2),
    "16 bits": lambda a: a.astype(np.uint16) * 201,
    "a word upon it": lambda a: np.where(np.indices(a.shape).sum(0) % 97 < 2, 255, a).astype("u1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_still_the_same_frame_and_no_other(
    change: str, frames: list[np.ndarray], tmp_path: Path
) -> None:
    prints = {str(n): near_duplicates.fingerprint(coded(a, tmp_path)) for n, a in enumerate(frames)}
    copy = coded(CHANGES[change](frames[0]), tmp_path)
    prints["copy"] = near_duplicates.fingerprint(copy)
    known = near_duplicates.clusters({n: p for n, p in prints.items() if n != "copy"})
    joined = [names for names in near_duplicates.clusters(prints) if "copy" in names]
    assert len(joined) == 1
    turned = near_duplicates.clusters(dict(reversed(prints.items())))
    assert joined[0] == next(names for names in turned if "copy" in names)[::-1]
    assert "0" in joined[0]
    before = next((names for names in known if "0" in names), ["0"])
    assert sorted(joined[0]) == sorted([*before, "copy"])


def test_flat_and_narrow_pictures_are_like_nothing(tmp_path: Path) -> None:
    flat = np.full((90, 120), 70, np.uint8)
    narrow = np.full((64, 6000), 70, np.uint8)
    prints = {
        str(place): near_duplicates.fingerprint(coded(pixels, tmp_path))
        for place, pixels in enumerate([flat, flat, narrow, narrow])
    }
    assert prints["2"]["size"] == [8, 96]
    assert near_duplicates.clusters(prints) == []
    assert near_duplicates.clusters({}) == []


def test_a_chain_of_pairs_is_one_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    linked = [(3, 4, 0.9), (0, 2, 0.9), (2, 4, 0.7)]
    monkeypatch.setattr(near_duplicates, "pairs", lambda _: linked)
    prints = {name: {} for name in "abcdef"}
    assert near_duplicates.clusters(prints) == [["a", "c", "d", "e"]]


def test_the_survey_gates_the_size_before_decoding(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        near_duplicates.fingerprint(coded(np.zeros((40, 40), np.uint8), tmp_path))
    assert caught.value.code == "header_bounds"
