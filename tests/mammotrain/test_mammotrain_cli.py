"""mammotrain's command line: what is there, what is coming, nothing heavy before it is needed."""

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from mammotrain import cli, comparison, tuning


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
        (["eval", "/nowhere", "--data", "/nowhere"], "/nowhere does not exist"),
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


def test_no_help_text_loses_words_as_markup() -> None:
    commands = typer.main.get_command(cli.app).commands
    assert {"run", "cv", "tune", "predict", "export"} <= set(commands)
    for name, command in commands.items():
        texts = [command.help, *(getattr(each, "help", None) for each in command.params)]
        for text in filter(None, texts):
            shown = Text.from_markup(text).plain
            assert shown == text.replace("\\[", "["), (name, text)
    for name, word in (("cv", "[ablate]"), ("tune", "[tune]")):
        shown = CliRunner().invoke(cli.app, [name, "--help"], env={"COLUMNS": "200"}).stdout
        assert word in shown


def test_a_study_says_how_to_train_its_best_recipe_on_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = str(tmp_path / "s" / "best.toml")
    noise = {"reason": "Too few trials."}
    found = {
        "monitor": "auroc", "value": 0.5, "settings": {}, "path": best, "importances": {},
        "noise": noise,
    }  # fmt: skip
    monkeypatch.setattr(tuning, "tune", lambda request, watcher: found)
    options = [
        "--data", "my shards", "--data", "b", "--out", str(tmp_path / "s"), "--device", "cpu",
        "--fold", "2",
    ]  # fmt: skip
    said = CliRunner().invoke(cli.app, ["tune", "resnext", *options]).stdout
    again = f"mammotrain run {tmp_path / 's' / 'best.toml'} --data 'my shards' --data b"
    assert f"Train it: {again} --fold 2 --device cpu\n" in said
    assert "Too few trials." in said
    found["importances"] = {"train.lr": 0.8125, "train.ema": 0.1875}
    found["path"] = str(tmp_path / "tuned.toml")
    said = CliRunner().invoke(cli.app, ["tune", "resnext", "--out", str(tmp_path / "s")]).stdout
    assert f"Train it: mammotrain run {tmp_path / 'tuned.toml'}\n" in said
    assert "Which settings mattered: train.lr 0.81, train.ema 0.19" in said


def test_a_page_that_exists_is_refused_before_runs_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "compare", lambda runs: pytest.fail("compared"))
    page = tmp_path / "page.html"
    for path, message in ((tmp_path / "no" / "x.html", "existing folder"), (page, "exists")):
        page.write_text("mine")
        done = CliRunner().invoke(cli.app, ["compare", "a", "b", "--html", str(path)])
        assert message in str(done.exception)
    assert page.read_text() == "mine"


def test_a_narrow_terminal_shows_whole_names_and_what_each_variant_sets() -> None:
    metrics = {"sensitivity_at_specificity_90": {"value": 0.123}}
    gain = {"sensitivity_at_specificity_90": {"difference": 0.1, "ci95": [-0.123, 0.456]}}
    names = ["full", "no-augmentation-at-all", "without-pretrained-weights", "natural"]
    found = {
        "n": 9, "groups": 3, "reference": "x/full",
        "runs": [
            {"run": f"x/{name}", "metrics": metrics, "gains": gain if place else None}
            for place, name in enumerate(names)
        ],
    }  # fmt: skip
    notes = {"full": "", names[1]: "data.augmentation={}", names[2]: "train.pretrained=[none]"}
    console = Console(file=StringIO(), width=80)
    console.print(comparison.table(found, notes))
    said = console.file.getvalue()
    assert "…" not in said
    cells = [line.split("│")[1].strip() for line in said.splitlines() if line.startswith("│")]
    assert " ".join(filter(None, cells)) == "sensitivity at specificity 90"
    for line in (f"{names[1]}: data.augmentation={{}}", f"{names[2]}: train.pretrained=[none]"):
        assert line in said
    assert "full:" not in said
