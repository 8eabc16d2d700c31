"""mammotrain's command line: what is there, what is coming, nothing heavy before it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from mammotrain import cli


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mammotrain", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd
    )


def test_recipes_and_models_are_listed_with_what_they_are_for() -> None:
    lines = run("recipes").stdout.splitlines()
    names = {line.split()[0] for line in lines}
    assert {"deq", "deq-long", "resnext", "densenet-balanced"} <= names
    assert all(len(line.split(maxsplit=1)[1]) > 20 for line in lines)
    assert {"deq", "resnext", "vit"} <= set(run("models").stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "dqe"], "Did you mean 'deq'"),
        (["run", "deq"], "mammoprep build --source ddsm --size 299x299"),
        (["run", "deq", "--set", "train.epohcs=3"], "Did you mean 'epochs'"),
        (["run", "deq", "--data", "/nowhere"], "/nowhere"),
        (["cv", "deq", "--data", "/nowhere"], "/nowhere"),
        (["cv", "deq", "--by", "scanner"], "mammoprep build --source ddsm"),
        (["eval", "/nowhere", "--data", "/nowhere"], "/nowhere holds no run"),
        (["compare", "/nowhere"], "two or more"),
    ],
)
def test_a_users_mistake_is_exit_2_and_says_what_to_do(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mammotrain", *arguments])
    assert cli.main() == 2
    assert message in " ".join(capfd.readouterr().err.split())


def test_a_mistake_ends_the_program_with_2_and_no_traceback() -> None:
    done = run("run", "dqe")
    assert done.returncode == 2, done.stderr
    assert "Did you mean 'deq'" in done.stderr
    assert "Traceback" not in done.stderr


def test_neither_package_imports_torch() -> None:
    code = "import sys, mammoprep.cli, mammotrain.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
