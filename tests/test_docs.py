"""Every command, option, plug-in, code and dependency is documented, and the documents are true."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mammoprep.core import plugins
from mammoprep.core.codes import CODES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = (
    "build",
    "verify",
    "inspect",
    "sources",
    "phantom",
    "report",
    "doctor",
    "bench",
    "export",
    "diff",
    "split",
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> set[str]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {re.split(r"[<>=!\[ ]", item)[0] for group in groups for item in group}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_section_in_the_manual(command: str) -> None:
    assert f"## mammoprep {command}" in (ROOT / "docs" / "commands.md").read_text()


def test_every_build_option_is_in_the_manual() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mammoprep", "build", "--help"],
        capture_output=True, text=True, check=True, env={"COLUMNS": "200", "TERM": "dumb"},
    )  # fmt: skip
    options = set(re.findall(r"--[a-z][a-z-]+", done.stdout)) - {"--help"}
    manual = (ROOT / "docs" / "commands.md").read_text()
    assert len(options) > 25
    assert not {option for option in options if f"`{option}" not in manual}


@pytest.mark.parametrize("name", plugins.names("mammoprep.sources"))
def test_every_source_has_a_page(name: str) -> None:
    text = (ROOT / "docs" / "sources" / f"{name}.md").read_text()
    assert f"mammoprep build --source {name}" in text


@pytest.mark.parametrize("name", plugins.names("mammoprep.steps"))
def test_every_step_is_described(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "steps.md").read_text()


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_described(code: str) -> None:
    assert f"`{code}`" in (ROOT / "docs" / "failures.md").read_text()


def test_every_code_that_the_program_uses_has_a_meaning() -> None:
    used = set()
    for path in (ROOT / "mammoprep").rglob("*.py"):
        text = path.read_text()
        used |= set(re.findall(r'RecordError\(\s*"([a-z_]+)"', text))
        used |= set(re.findall(r'\.warn\("([a-z_]+)"', text))
        used |= set(re.findall(r'ChildDiedError\("([a-z_]+)"', text))
    assert len(used) > 15
    assert not used - set(CODES)


def test_every_dependency_is_explained() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    assert not {name for name in requirements() if f"| {name} |" not in text}


def test_every_dependency_is_pinned() -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "constraints-cpu.txt").read_text().splitlines()
        if "==" in line
    }
    assert not {name for name in requirements() if name not in pinned}


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_two_commands_of_the_readme_exist_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"^\$ make (\w+)", README, flags=re.M):
        assert f"\n{command}:" in makefile
    assert {"demo", "test"} <= set(re.findall(r"^\$ make (\w+)", README, flags=re.M))


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    blocks = re.findall(r"<!-- run -->\n```console\n(.*?)```", README, flags=re.S)
    commands = re.findall(r"^\$ (mammoprep .*)$", "".join(blocks), flags=re.M)
    assert len(commands) >= 6
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", *command.split()], cwd=tmp_path, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    code = re.search(r"```python\n(.*?)```", README, flags=re.S)
    assert code is not None
    done = subprocess.run(
        [sys.executable, "-c", code.group(1)], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert done.stdout.count("(182, 364)") >= 12, done.stderr


def test_the_change_log_names_the_version() -> None:
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
