"""``mammoprep doctor``: frames with known values, and decoders that are right, wrong or dead."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).parent / "decode"))  # its files import each other by name

from write_samples import LARGE, SMALL, digest, drawn

from mammoprep import doctor, manifest
from mammoprep.cli import app
from mammoprep.config import Settings
from mammoprep.core.errors import EXIT_DAMAGE, EXIT_OK
from mammoprep.decode import codecs, selftest
from mammoprep.decode._codestream import read_codestream
from mammoprep.decode.codecs import DECODERS, NATIVE, RLE

FAULTY = Path(__file__).parents[1] / "faulty_decoders.py"
JPEG_LS, JPEG2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


@pytest.fixture(scope="module")
def here() -> doctor.Examination:
    return doctor.examine()


@pytest.fixture(scope="module")
def sick() -> doctor.Examination:
    """Four faults at once: wrong values, wrong parts, an error, a crash."""
    faults = "jpegls_decode=off,parts=off,rle=refuses,jpeg2k_decode=dies"
    return doctor.examine((sys.executable, str(FAULTY), "doctor", faults))


def lines(found: doctor.Examination, syntax: str) -> dict[str, doctor.Line]:
    return {line.name.split(" 2")[0]: line for line in found.lines if line.syntax == syntax}


# The frames


@pytest.mark.parametrize("syntax", DECODERS)
def test_every_syntax_has_frames(syntax: str) -> None:
    assert [sample for sample in selftest._samples() if syntax in sample.syntaxes]


def test_the_frames_have_every_depth_signs_and_boxes() -> None:
    for syntax in set(DECODERS) - {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51)}:
        depths, signs = set(), set()
        for sample in selftest._samples():
            if syntax in sample.syntaxes:
                depths.add(sample.entry["bits_stored"])
                signs.add(sample.entry["signed"])
        assert depths == {8, 12, 16}, syntax
        assert signs == {True, False}, syntax
    frames = {sample.name: sample.frame(sample.syntaxes[0]) for sample in selftest._samples()}
    assert frames["j2k_box_12"].data[4:8] == b"jP  "
    assert frames["jpeg_12"].precision == 12
    assert b"\xff\xdd" in frames["jpegll_restart_12"].data


def test_the_frames_are_what_their_syntax_says() -> None:
    families = {"50": "jpeg", "51": "jpeg", "57": "jpeg", "70": "jpeg", "80": "jpegls"}
    families |= {"81": "jpegls", "90": "jpeg2000", "91": "jpeg2000"}
    for sample in selftest._samples():
        for syntax in set(sample.syntaxes) - {*NATIVE, RLE}:
            found = read_codestream(sample.frame(syntax).data)
            assert found is not None
            assert found.family == families.get(syntax.split(".4.")[1], "jpeg2000"), sample.name
            assert (found.rows, found.columns) == (sample.entry["rows"], sample.entry["columns"])


def test_the_expected_values_are_those_that_were_drawn() -> None:
    checked = 0
    for sample in selftest._samples():
        lossy = sample.name.startswith(("jpeg_", "near_", "j2k_lossy", "ht_lossy"))
        if lossy or sample.name == "jpegll_shifted_12":
            continue
        shape = LARGE if sample.name.startswith(("j2k", "ht")) else SMALL
        entry = sample.entry
        values = drawn(entry["bits_stored"], shape, signed=entry["signed"])
        assert digest(values) == entry["sha256"], sample.name
        checked += 1
    assert checked >= 30


def test_the_frames_are_small() -> None:
    folder = Path(selftest.__file__).parent / "samples"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 40_000


def test_the_hash_of_values_does_not_depend_on_their_type() -> None:
    values = np.arange(12).reshape(3, 4)
    assert selftest.digest(values.astype("u1")) == selftest.digest(values.astype(">i2"))
    assert selftest.digest(values) != selftest.digest(values + 1)


# Healthy


def test_every_decoder_on_this_machine_is_right(here: doctor.Examination) -> None:
    assert here.healthy
    assert here.exit_code == EXIT_OK
    assert not here.unread
    assert {line.syntax for line in here.lines} == {*DECODERS, ""}
    assert {line.role for line in here.lines} == {"build", "check", "parts", "write"}
    for syntax, row in DECODERS.items():
        assert [line.name for line in here.lines if line.syntax == syntax] == [
            decoder.label for decoder in row
        ]


def test_the_first_decoder_of_every_syntax_reads_all_frames(here: doctor.Examination) -> None:
    for syntax in DECODERS:
        assert next(line for line in here.lines if line.syntax == syntax).outcome == "exact"


def test_every_decoder_says_its_version(here: doctor.Examination) -> None:
    assert all(any(letter.isdigit() for letter in line.name) for line in here.lines)
    assert any("openjpeg 2." in line.name for line in here.lines)
    assert any("libjpeg_turbo 3" in line.name for line in here.lines)


# Sick


@pytest.mark.slow
def test_a_decoder_that_is_off_by_one_is_wrong(sick: doctor.Examination) -> None:
    line = lines(sick, JPEG_LS)["imagecodecs jpegls"]
    assert line.outcome == "wrong"
    assert line.detail
    assert not sick.healthy
    assert sick.exit_code == EXIT_DAMAGE


@pytest.mark.slow
def test_parts_that_are_off_by_one_are_wrong(sick: doctor.Examination) -> None:
    found = {line.name.split()[0]: line.outcome for line in sick.lines if line.role == "parts"}
    assert found == {"openjpeg": "wrong", "pillow": "exact"}


@pytest.mark.slow
def test_a_syntax_whose_only_decoder_refuses_is_unread(sick: doctor.Examination) -> None:
    assert RLE in sick.unread
    outcomes = [line.outcome for line in sick.lines if line.syntax == RLE]
    assert outcomes == ["refused", "exact"]  # the second one only checks


@pytest.mark.slow
def test_a_crash_is_a_line_and_the_others_are_still_tried(sick: doctor.Examination) -> None:
    found = lines(sick, JPEG2000)
    assert found["imagecodecs jpeg2k"].outcome == "crashed"
    assert "process ended" in found["imagecodecs jpeg2k"].detail
    assert [line.outcome for line in sick.lines if line.name.startswith("opencv")] == ["exact"]


def test_one_wrong_decoder_is_enough_to_be_sick(here: doctor.Examination) -> None:
    wrong = doctor.Line(JPEG2000, "any 1", "build", "wrong", 1, "x: other values")
    assert not doctor.Examination((*here.lines, wrong), (), here.gpu).healthy
    assert not doctor.Examination(here.lines, (RLE,), here.gpu).healthy
    assert doctor.Examination(here.lines, (), {"cupy": False}).healthy


# The command


def run(monkeypatch: pytest.MonkeyPatch, found: doctor.Examination, *options: str) -> object:
    monkeypatch.setattr(doctor, "examine", lambda: found)
    return CliRunner().invoke(app, ["doctor", *options], env={"COLUMNS": "200"})


@pytest.mark.slow
def test_the_command_is_red_or_green(
    monkeypatch: pytest.MonkeyPatch, here: doctor.Examination, sick: doctor.Examination
) -> None:
    good, bad = run(monkeypatch, here), run(monkeypatch, sick)
    assert (good.exit_code, bad.exit_code) == (0, 4)
    assert "JPEG2000Lossless" in good.stdout
    assert "Every decoder is right" in good.stdout
    for word in ("wrong", "crashed", "no decoder reads all frames", "Do not build"):
        assert word in bad.stdout
        assert word not in good.stdout


@pytest.mark.slow
def test_a_program_may_read_the_result(
    monkeypatch: pytest.MonkeyPatch, sick: doctor.Examination
) -> None:
    done = run(monkeypatch, sick, "--json")
    assert done.exit_code == 4
    found = json.loads(done.stdout)
    assert not found["healthy"]
    by_uid = {syntax["uid"]: syntax for syntax in found["syntaxes"]}
    assert set(by_uid) == set(DECODERS)
    assert not by_uid[RLE]["readable"]
    assert by_uid[JPEG_LS]["decoders"][0]["outcome"] == "wrong"
    assert set(found["gpu"]) == {"nvidia.nvimgcodec", "cupy"}


def test_a_line_may_hold_what_looks_like_markup() -> None:
    line = doctor.Line("", "openjpeg 2", "parts", "wrong", 1, "rows [0, 7], [bold]: other values")
    found = doctor.Examination((line,), (), {})
    cells = list(doctor.table(found).columns[2].cells)
    assert "\\[bold]" in cells[0]


# What the manifest says


def test_another_version_of_a_library_builds_every_shard_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(size=(64, 128))
    before = manifest.settings_hash("rsna", settings)
    assert manifest.versions()["openjpeg"] == codecs.libraries()["openjpeg"]
    monkeypatch.setattr(codecs, "libraries", lambda: {"openjpeg": "2.5.99"})
    assert manifest.versions()["openjpeg"] == "2.5.99"
    assert manifest.settings_hash("rsna", settings) != before
