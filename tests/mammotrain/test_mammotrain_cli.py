"""mammotrain so far: it lists what is coming, refuses the rest, and loads nothing heavy."""

import subprocess
import sys

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mammotrain", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_recipes_lists_what_is_coming() -> None:
    done = run("recipes")
    assert done.returncode == 0
    assert "deq" in done.stdout
    assert "coming" in done.stdout


@pytest.mark.parametrize("command", ["run", "cv", "eval", "predict", "compare", "tune", "export"])
def test_what_is_not_built_is_refused_in_one_line(command: str) -> None:
    done = run(command, "deq", "--data", "demo")
    assert done.returncode == 2
    assert "not built yet" in done.stderr
    assert "Traceback" not in done.stderr


def test_neither_package_imports_torch() -> None:
    code = "import sys, mammoprep.cli, mammotrain.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
