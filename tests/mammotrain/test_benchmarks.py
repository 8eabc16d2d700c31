"""Benchmarks run, all of them by one command, and the page shows what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
NAMES = ("decode_speed", "loader_speed", "augment_speed", "deq_solver", "step_rate")


def output(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_the_page_shows_the_committed_figures() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert output("benchmarks/figures.py").strip() in page


@pytest.mark.parametrize("name", NAMES)
def test_one_command_runs_every_benchmark_of_speed(name: str) -> None:
    parts = (ROOT / "Makefile").read_text().split("\n\n")
    (target,) = (part for part in parts if part.startswith("bench:"))
    assert f"benchmarks/{name}.py" in target
    assert f"| `{name}.py` |" in (ROOT / "docs" / "benchmarks.md").read_text()
    assert (BENCHMARKS / "results" / f"{name}.json").is_file()


def test_without_a_peer_its_result_stays_and_how_to_install_it_is_said(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    out.write_text("as it was")
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(BENCHMARKS)!r})
import optional_peers
optional_peers.find_spec = lambda name: None
optional_peers.write(Path({str(out)!r}), "other", "torchdeq")
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.read_text() == "as it was"
    assert "pip install -c constraints-cpu.txt torchdeq==0.1.0" in done.stderr
    assert "NOT WRITTEN" in done.stderr


@pytest.mark.slow
def test_the_step_rate_is_measured_in_turns() -> None:
    found = json.loads(output("benchmarks/step_rate.py", "--quick", "--only", "tiny, batch 8"))
    assert len(found["cases"]) == 2
    for case in found["cases"].values():
        assert case["cpu"]["bare_ms_a_step"] > 0
        assert 0 < case["cpu"]["rate_ours_to_bare"] < 2
