"""`mammoprep bench` and the benchmark's own arithmetic; no time is asserted."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import run_cli

from mammoprep import bench as module
from mammoprep.bench import COLUMNS, advice, bench, tables
from mammoprep.bench_child import STAGES
from mammoprep.config import Settings
from mammoprep.core.errors import ConfigError
from mammoprep.preparation import steps
from mammoprep.worker import COMMAND

ROOT = Path(__file__).parents[2]
SIZE = (64, 128)


@pytest.fixture(scope="module")
def measured(phantom_once: Path) -> dict[str, object]:
    return bench(phantom_once, size=SIZE, limit=4)


def whole(decode: float, *, fast: float | None = None, wait: float = 0.0) -> dict[str, object]:
    def mode(ms: float) -> dict[str, object]:
        total = 20.0 + ms + wait
        share = {**dict.fromkeys(COLUMNS, 0.0), "decode": ms / total, "wait": wait / total}
        return {"share": {**share, "resize": 20.0 / total}, "total_ms": total}

    return {"exact": mode(decode), **({} if fast is None else {"fast": mode(fast)})}


def test_every_step_has_a_column() -> None:
    known = {stage for stages in STAGES.values() for stage in stages}
    assert {step.name for step in steps(Settings(size=SIZE))} <= known


def test_the_stages_sum_up_to_the_whole(measured: dict[str, object]) -> None:
    rows = [*measured["groups"], measured["all"]]
    for row in rows:
        for mode in ("exact", "fast"):
            figures = row[mode]
            assert sum(figures["ms"].values()) == pytest.approx(figures["total_ms"], abs=0.1)
            assert sum(figures["share"].values()) == pytest.approx(1, abs=0.01)
            assert min(figures["ms"][name] for name in ("mask", "encode", "other")) > 0
            assert figures["images_per_second"] == pytest.approx(
                1e3 / figures["total_ms"], rel=0.01
            )


def test_the_images_are_spread_over_encodings_and_sizes(phantom_once: Path) -> None:
    found = bench(phantom_once, size=SIZE, limit=2, decode="exact")
    assert found["measured"] == 2
    assert [row["images"] for row in found["groups"]] == [1, 1]
    first, second = ((row["transfer_syntax"], row["stored_size"]) for row in found["groups"])
    assert first != second


def test_a_bad_file_is_counted_and_not_the_end(phantom: Path) -> None:
    (phantom / "notes.txt").write_text("no image")
    for victim, kept in zip(sorted(phantom.rglob("*.dcm")), (0.02, 0.7), strict=False):
        data = victim.read_bytes()
        victim.write_bytes(data[: int(kept * len(data))])
    found = bench(phantom, size=SIZE, limit=60, decode="exact")
    assert found["failures"]["not_dicom"] >= 1
    assert sum(found["failures"].values()) >= 3
    assert found["measured"] + sum(found["failures"].values()) == found["looked_at"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["_look", "_measure"])
def test_a_file_that_kills_the_child_is_counted_and_not_the_end(phantom: Path, method: str) -> None:
    deadly = sorted(phantom.rglob("*.dcm"))[1].name
    program = (
        "import os, mammoprep.bench_child as b\n"
        f"true = b._Meter.{method}\n"
        "def planted(meter, name, *rest):\n"
        f"    return os.abort() if name.endswith({deadly!r}) else true(meter, name, *rest)\n"
        f"b._Meter.{method} = planted\n"
        "b.main()\n"
    )
    command = (sys.executable, "-P", "-c", program)
    found = bench(phantom, size=SIZE, limit=60, decode="exact", command=command)
    assert found["failures"]["decode_crash"] == 1
    assert found["measured"] > 1


def test_one_file_and_a_zip_will_do(phantom_once: Path, tmp_path: Path) -> None:
    file = sorted(phantom_once.rglob("*.dcm"))[0]
    assert bench(file, size=SIZE, decode="fast")["measured"] == 1
    archive = tmp_path / "raw.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(file, "a/b/picture.dcm")
    found = bench(archive, size=SIZE, decode="exact")
    assert found["measured"] == 1
    assert "fast" not in found["all"]


def test_an_empty_folder_is_a_mistake_that_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no DICOM image"):
        bench(tmp_path, size=SIZE)
    with pytest.raises(ConfigError, match="--limit"):
        bench(tmp_path, size=SIZE, limit=0)
    with pytest.raises(ConfigError, match="--decode"):
        bench(tmp_path, size=SIZE, decode="slow")


def test_the_advice_names_the_largest_stage_and_what_helps() -> None:
    assert "--decode fast would give 2.4x" in advice(whole(80.0, fast=21.0))
    assert "as a whole" in advice(whole(80.0, fast=80.0))
    assert "Decode is 80%" in advice(whole(80.0))
    assert "Resize is 91%" in advice(whole(2.0))
    assert "local disk" in advice(whole(80.0, fast=21.0, wait=60.0))


def test_the_command_prints_tables_or_json_and_no_names(phantom_once: Path) -> None:
    options = ("bench", "--input", phantom_once, "--size", "64x128", "--limit", "2")
    told = run_cli(*options)
    assert told.returncode == 0, told.stderr
    assert "images/s" in told.stdout
    assert " is " in told.stdout.strip().splitlines()[-1]
    as_json = run_cli(*options, "--json")
    assert json.loads(as_json.stdout)["measured"] == 2
    names = {path.stem for path in phantom_once.rglob("*.dcm")}
    words = set(as_json.stdout.replace('"', " ").split()) | set(told.stdout.split())
    assert not names & words


def test_a_table_is_made_of_every_group_and_of_all(measured: dict[str, object]) -> None:
    found = list(tables(measured))
    assert len(found) == len(measured["groups"]) + 1
    assert found[-1].row_count == len(COLUMNS) + 2


def test_the_child_is_started_like_a_builds_child() -> None:
    assert module.COMMAND[:-1] == COMMAND[:-1]


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    script = ROOT / "benchmarks" / "decode_speed.py"
    subprocess.run(
        [sys.executable, str(script), "--quick", "--out", str(out)], check=True, timeout=300,
        capture_output=True,
    )  # fmt: skip
    result = json.loads(out.read_text())
    for row in result["groups"]:
        assert {"exact", "fast", "notebook_dicomsdl", "decode"} <= set(row["cpu_ms"])
        assert row["exact"]["notebook_dicomsdl_cpu"][0] > 0
    assert result["scaling"]["images"] > 1
    assert min(row["exact"]["above_idle_mb"] for row in result["memory"].values()) > 0
    done = subprocess.run(
        [sys.executable, str(script), "--markdown", str(out)], check=True, timeout=60,
        capture_output=True, text=True,
    )  # fmt: skip
    assert "| PNG encoder" in done.stdout
    assert "nothing is aimed at" in done.stdout
