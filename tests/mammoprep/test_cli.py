"""The command line as a person meets it: exit statuses, one-line errors, helpful texts."""

import contextlib
import json
import sys
from pathlib import Path

import cv2
import pytest
from helpers import run_cli

from mammoprep import cli
from mammoprep.core.errors import ConfigError
from mammoprep.options import build_config

WRONG = {
    "no source": ("build --size 64x128", "--source is missing"),
    "no size": ("build --source rsna", "--size is missing"),
    "unknown source": ("build --source rsan --size 64x128", "Did you mean 'rsna'"),
    "bad size": ("build --source rsna --size 64", "WIDTHxHEIGHT"),
    "tiny size": ("build --source rsna --size 1x1", "16 to 16384"),
    "unknown fit": ("build --source rsna --size 64x128 --fit squash", "pad, stretch"),
    "bad bits": ("build --source rsna --size 64x128 --bits 12", "8, 16"),
    "lossy 16 bits": (
        "build --source rsna --size 64x128 --bits 16 --format jpeg",
        "Use --format png",
    ),
    "bad window": ("build --source rsna --size 64x128 --window 5", "CENTRE,WIDTH"),
    "bad folds": ("build --source rsna --size 64x128 --folds 0", "--folds must be"),
    "bad share": ("build --source rsna --size 64x128 --max-failures many", "1%"),
    "bad crosscheck": ("build --source rsna --size 64x128 --crosscheck 1", "such as 1%"),
    "bad decode": ("build --source rsna --size 64x128 --decode quick", "exact, fast"),
    "engine": ("build --source rsna --size 64x128 --engine dask://h:1", "not built yet"),
    "bad device": ("build --source rsna --size 64x128 --device gpu", "cpu, cuda"),
    "fast on a GPU": (
        "build --source rsna --size 64x128 --device cuda --decode fast",
        "give one of the two",
    ),
    "roi and size": ("build --source busi --size 64x128 --roi 99x99", "leave --size out"),
    "roi not a size": ("build --source busi --roi 99", "--roi must be WIDTHxHEIGHT"),
    "roi copies alone": ("build --source busi --size 64x64 --roi-copies 2", "is for --roi WxH"),
    "roi target": ("build --source busi --roi 99x99 --target class", "kind-pathology"),
    "roi ratio": ("build --source busi --roi 99x99 --roi-ratio 2", "LESIONS:TILES"),
    "views": ("build --source rsna --size 64x128 --views CC,MLA", "Did you mean 'ML'"),
    "scale": ("build --source rsna --size 64x128 --mm-per-pixel 0.001", "0.01 to 10"),
    "scale and stretch": (
        "build --source rsna --size 64x128 --mm-per-pixel 0.1 --fit stretch",
        "give one",
    ),
    "url": ("build --source rsna --size 64x128 --out s3://b/x", "not built yet"),
    "target": ("build --source rsna --size 64x128 --target density", "has the targets cancer"),
    "no input": (
        "build --source rsna --size 64x128 --input /nowhere",
        "kaggle competitions download",
    ),
    "split nothing": ("split /nowhere --out x", "is no dataset"),
    "export nothing": ("export /nowhere --out x", "is no dataset"),
    "diff nothing": ("diff /nowhere /nowhere", "is no dataset"),
    "bench nothing": ("bench --input /nowhere", "/nowhere"),
    "unknown option": ("build --sauce rsna", "No such option"),
    "verify nothing": ("verify /nowhere", "is no dataset"),
    "phantom layout": ("phantom --layout rsan --out /nowhere/x", "Did you mean 'rsna'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_users_mistake_is_exit_2_and_says_what_to_do(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    command, message = WRONG[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mammoprep", *command.split()])
    with contextlib.suppress(SystemExit):  # what the parser refuses ends the program with 2
        assert cli.run() == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not list(tmp_path.iterdir()), "nothing may be written before the mistake is found"


def test_a_mistake_ends_the_program_with_2_and_no_traceback(tmp_path: Path) -> None:
    command, message = WRONG["unknown source"]
    done = run_cli(*command.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_build_prints_its_summary_and_verify_its_verdict(phantom: Path, tmp_path: Path) -> None:
    options = "--source rsna --size 64x128 --folds 3 --workers 2"
    done = run_cli("build", *options.split(), "--input", phantom, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "not the full rsna set" in done.stderr
    assert "report.html" in done.stderr
    assert done.stdout == ""
    checked = run_cli("verify", tmp_path / "out")
    assert checked.returncode == 0
    assert "is whole" in checked.stdout


def test_damage_is_exit_4_on_the_command_line(built: Path) -> None:
    next((built / "shards").glob("*.tar")).write_bytes(b"")
    done = run_cli("verify", built, "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["damages"]


def test_failures_are_exit_3_with_the_code_and_the_list(phantom: Path, tmp_path: Path) -> None:
    next(phantom.glob("train_images/*/*.dcm")).unlink()
    options = "--source rsna --size 64x128 --folds 3 --workers 2"
    done = run_cli("build", *options.split(), "--input", phantom, "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "file_missing" in done.stderr
    assert "failures.jsonl" in done.stderr


def test_a_table_error_is_exit_2_with_its_row(phantom: Path, tmp_path: Path) -> None:
    table = phantom / "train.csv"
    table.write_text(table.read_text().replace(",CC,", ",cc?,", 1))
    done = run_cli(
        "build", "--source", "rsna", "--size", "64x128", "--input", phantom, "--out", tmp_path / "o"
    )
    assert done.returncode == 2
    assert "train.csv: row" in done.stderr
    assert not (tmp_path / "o").exists()


def test_inspect_shows_every_decision_and_saves_pictures(phantom: Path, tmp_path: Path) -> None:
    file = next(phantom.glob("train_images/*/*.dcm"))
    done = run_cli("inspect", file, "--json", "--save", tmp_path / "exact.png")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    for name in ("transfer_syntax", "decoder", "voi", "matrix", "crop", "photometric", "warnings"):
        assert name in facts
    exact = cv2.imread(str(tmp_path / "exact.png"), cv2.IMREAD_UNCHANGED)
    assert list(exact.shape) == facts["stored_size"]
    assert (
        run_cli("inspect", file, "--size", "64x128", "--save", tmp_path / "f.png").returncode == 0
    )
    assert cv2.imread(str(tmp_path / "f.png"), cv2.IMREAD_UNCHANGED).shape == (128, 64)


def test_inspect_of_a_bad_file_is_exit_3_with_the_code(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"no DICOM at all" * 100)
    done = run_cli("inspect", tmp_path / "x.dcm")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert run_cli("inspect", tmp_path / "absent.dcm").returncode == 3


def test_sources_prints_the_cards() -> None:
    done = run_cli("sources")
    assert "RSNA" in done.stdout
    assert "54,706 images" in done.stdout
    assert "rsna" in json.loads(run_cli("sources", "--json").stdout)


def test_report_can_be_written_again(built: Path) -> None:
    before = (built / "report.html").read_bytes()
    (built / "report.html").write_text("gone")
    assert run_cli("report", built).returncode == 0
    assert (built / "report.html").read_bytes() == before
    assert run_cli("verify", built).returncode == 0


def test_a_toml_file_holds_the_same_options_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text('source = "rsna"\nsize = "64x128"\nbits = 16\nshard-size = 9\nfresh = true\n')
    made = build_config({"config": path, "bits": 8})
    assert (made.source, made.settings.bits, made.settings.shard_size) == ("rsna", 8, 9)
    assert made.fresh


def test_a_misspelt_option_in_the_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text('sorce = "rsna"\n')
    with pytest.raises(ConfigError, match="Did you mean 'source'"):
        build_config({"config": path})


def test_the_help_of_every_command_teaches(tmp_path: Path) -> None:
    for command in ("build", "verify", "inspect", "sources", "phantom", "report", "doctor"):
        done = run_cli(command, "--help")
        assert done.returncode == 0
        assert len(done.stdout) > 200
