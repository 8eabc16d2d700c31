"""Ranges and windows of pictures through whole builds, ``inspect`` and ``prepare``."""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from helpers import run_cli

import mammoprep
from mammoprep import notices_ranges as notices
from mammoprep import options
from mammoprep.builder import Result, Watcher, build
from mammoprep.core.errors import ConfigError, RecordError

sys.path.append(str(Path(__file__).parent / "decode"))
from dicoms import breast, dicom
from pictures import pgm, png, tiff

REPORTED = Path(os.environ.get("MAMMO_REPORTED", "/nowhere"))


class Told(Watcher):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def folder(home: Path, **files: bytes) -> Path:
    """Write files (``a_png`` for a.png) and a table of them."""
    lines = ["path,patient_id,label"]
    for number, (name, content) in enumerate(files.items()):
        path = name.replace("_", ".", 1)
        (home / path).write_bytes(content)
        lines.append(f"{path},{number},{'ab'[number % 2]}")
    (home / "table.csv").write_text("\n".join(lines) + "\n")
    return home


def built(home: Path, **given: object) -> tuple[Result, dict[str, dict], list[str]]:
    """Build a folder; return the result, the rows by path, and what the user was told."""
    told = Told()
    given = {"size": "64x128", "folds": 1, "workers": 1, **given}
    config = options.build_config(
        {"source": "table", "input": str(home), "out": str(home / "out"), **given}
    )
    result = build(config, told)
    rows = pyarrow.parquet.read_table(home / "out" / "samples.parquet").to_pylist()
    return result, {row["image_id"]: row for row in rows}, told.lines


def failures(home: Path) -> dict[str, str]:
    lines = (home / "out" / "failures.jsonl").read_text().splitlines()
    return {item["input"]: item["code"] for item in map(json.loads, lines)}


DEEP = {"a_png": png(breast(12), 16), "b_png": png(breast(12) // 2, 16)}


def test_twelve_bits_in_sixteen_are_said_loudly_with_the_option_that_mends_them(
    tmp_path: Path,
) -> None:
    _, rows, lines = built(folder(tmp_path, **DEEP))
    assert all(row["warnings"] == ["range_unused"] for row in rows.values())
    (line,) = lines
    assert line.startswith("MOST PICTURES: 2 of 2 samples are dark")
    assert "--range 4095" in line
    _, rows, lines = built(tmp_path, range="4095", fresh=True)
    assert lines == []
    assert [row["warnings"] for row in rows.values()] == [[], []]
    whole, half = (rows[name]["intensity"] for name in ("a.png", "b.png"))
    np.testing.assert_allclose(whole, 2 * np.array(half), atol=2e-3)
    assert rows["a.png"]["acquisition.voi"] == "range"
    assert rows["a.png"]["acquisition.bits_stored"] == 12


@pytest.mark.parametrize("bits", [8, 16])
def test_eight_and_sixteen_bits_come_out_of_both(tmp_path: Path, bits: int) -> None:
    files = {"a_png": png(breast(16), 16), "b_png": png((breast(16) >> 8).astype("u1"), 8)}
    _, rows, lines = built(folder(tmp_path, **files), bits=bits)
    assert lines == []
    one, other = (np.array(rows[name]["intensity"]) for name in ("a.png", "b.png"))
    np.testing.assert_allclose(one, other, atol=1 / 200)


REFUSED = {
    "percentile": ({"window": "percentile"}, "--range percentile"),
    "a window": ({"window": "2048,4096"}, "add --range HIGH"),
    "a window of percentiles": (
        {"window": "2048,4096", "range": "percentile"},
        "give --range HIGH or LOW,HIGH",
    ),
    "no number": ({"range": "dark"}, "--range must be HIGH"),
    "upside down": ({"range": "9,3"}, "LOW below HIGH"),
    "three": ({"range": "1,2,3"}, "--range must be HIGH"),
    "endless": ({"range": "inf"}, "--range must be HIGH"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_that_applies_to_no_picture_is_refused_before_work(
    tmp_path: Path, name: str
) -> None:
    given, expected = REFUSED[name]
    with pytest.raises(ConfigError, match=expected):
        built(folder(tmp_path, **DEEP), **given)
    assert not (tmp_path / "out" / "samples.parquet").exists()


def test_a_range_for_dicom_alone_is_refused_before_work(tmp_path: Path) -> None:
    for names in (("a_dcm", "b_dcm"), ("a", "b")):  # by name, or by the first bytes
        files = {name: dicom(breast(12), 12) for name in names}
        with pytest.raises(ConfigError, match="every input is DICOM"):
            built(folder(tmp_path, **files), range="4095")


def test_where_both_kinds_are_mixed_each_gets_a_line_of_its_own(tmp_path: Path) -> None:
    home = folder(tmp_path, a_dcm=dicom(breast(12), 12), b_png=png(breast(12), 16))
    built(home, window="percentile", max_failures="9")
    assert failures(home) == {"b.png": "window_not_applicable"}
    built(home, window="2048,4096", max_failures="9", fresh=True)
    assert failures(home) == {"b.png": "window_not_applicable"}
    _, rows, _ = built(home, window="2048,4096", range="4095", fresh=True)
    assert rows["a.dcm"]["intensity"] == rows["b.png"]["intensity"]
    assert {row["acquisition.voi"] for row in rows.values()} == {"fixed"}
    _, rows, _ = built(home, range="4095", fresh=True)  # only the picture heeds it
    assert rows["a.dcm"]["intensity"] == rows["b.png"]["intensity"]


def test_windows_that_mean_the_range_are_taken(tmp_path: Path) -> None:
    home = folder(tmp_path, a_png=png(breast(8), 8))
    _, rows, lines = built(home, window="full")
    assert lines == []
    assert (rows["a.png"]["acquisition.voi"], rows["a.png"]["acquisition.window"]) == ("none", None)


def test_pictures_pass_the_checks_of_dicom_unless_no_breast_is_looked_for(tmp_path: Path) -> None:
    lost = breast(8)
    lost[64:] = 0
    home = folder(tmp_path, a_png=png(255 - breast(8), 8), b_png=png(lost, 8))
    built(home, max_failures="9")
    assert failures(home) == {"a.png": "polarity_suspect", "b.png": "half_lost"}
    _, rows, _ = built(home, crop="none", fresh=True)
    warned = [rows[name]["warnings"] for name in ("a.png", "b.png")]
    assert warned == [["polarity_suspect"], ["half_lost"]]


def test_tiff_and_jpeg_2000_are_built_like_png(tmp_path: Path) -> None:
    _, coded = cv2.imencode(".jp2", breast(8), [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    files = {"a_tif": tiff(breast(8)), "b_tiff": tiff(breast(16)), "c_jp2": coded.tobytes()}
    _, rows, _ = built(folder(tmp_path, p_png=png(breast(8), 8), **files))
    assert len(rows) == 4
    for row in rows.values():
        np.testing.assert_allclose(row["intensity"], rows["p.png"]["intensity"], atol=0.02)


def test_the_line_about_dark_pictures_tells_depths_apart_and_what_was_asked() -> None:
    def rows(*bits: int) -> list[dict]:
        return [{"warnings": ["range_unused"], "acquisition.bits_stored": n} for n in bits]

    good = {"warnings": [], "acquisition.bits_stored": 8}
    (line,) = notices.unused_range([*rows(10, 12), *[good] * 3], "auto")
    assert line.startswith("2 of 5 samples are dark")
    assert "10 to 12 bits" in line
    assert "--range 4095" in line
    assert "column" in line
    (line,) = notices.unused_range(rows(10), "4095")
    assert "--range 4095 does not fit" in line
    assert notices.unused_range([good, {**good, "warnings": None}], "auto") == []
    (line,) = notices.clipped([{"warnings": ["range_clipped"]}, good])
    assert line.startswith("1 of 2 samples is cut")


def test_inspect_tells_the_range_of_a_picture_and_saves_it(tmp_path: Path) -> None:
    values = breast(12)
    (tmp_path / "a.png").write_bytes(png(values, 16))
    file, saved = tmp_path / "a.png", tmp_path / "exact.png"
    done = run_cli("inspect", file, "--range", "4095", "--json", "--save", saved, "--bits", "16")
    facts = json.loads(done.stdout)
    assert (facts["range"], facts["range_from"]) == ([0.0, 4095.0], "--range")
    assert facts["values"] == [int(values.min()), int(values.max())]
    exact = np.floor(values * (65535 / 4095) + 0.5)
    assert np.abs(cv2.imread(str(saved), cv2.IMREAD_UNCHANGED) - exact).max() <= 1
    assert json.loads(run_cli("inspect", file, "--json").stdout)["warnings"] == ["range_unused"]
    done = run_cli("inspect", file, "--window", "percentile")
    assert (done.returncode, "--range percentile" in done.stderr) == (2, True)
    (tmp_path / "a.dcm").write_bytes(dicom(values, 12))
    assert run_cli("inspect", tmp_path / "a.dcm", "--range", "9").returncode == 2


def test_inspect_of_a_folder_says_what_to_do(tmp_path: Path, built: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    done = run_cli("inspect", tmp_path)
    assert done.returncode == 2
    assert "a.png" in done.stderr
    assert "mammoprep build --source" in " ".join(done.stderr.split())
    assert "report.html" in " ".join(run_cli("inspect", built).stderr.split())


def test_prepare_reads_pictures_and_refuses_what_does_not_apply(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(pgm(breast(12), 4095))
    image = mammoprep.prepare(path, size=(64, 128))
    assert image.pixels.shape == (128, 64)
    assert image.warnings == ()
    with pytest.raises(ConfigError, match="--range percentile"):
        mammoprep.prepare(path, size=(64, 128), window="percentile")
    path.write_bytes(png(255 - breast(8), 8))
    with pytest.raises(RecordError, match="polarity_suspect"):
        mammoprep.prepare(path, size=(64, 128))


def test_a_single_picture_is_prepared_for_predicting_and_another_file_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(breast(8), 8))
    (found,) = mammoprep.prepare_files(path, {"size": [64, 128]})
    assert (found.code, found.metadata is None) == ("", False)
    path.write_bytes(b"RIFF\0\0\0\0WEBP")
    (found,) = mammoprep.prepare_files(path, {"size": [64, 128]})
    assert found.code == "not_dicom"
    assert "WebP" in found.detail


@pytest.mark.skipif(not REPORTED.is_dir(), reason="MAMMO_REPORTED is not set")
def test_reported_pictures_are_right_or_said(tmp_path: Path) -> None:
    def of(name: str) -> dict[str, str]:
        out = tmp_path / name
        done = run_cli(
            "build", "--source", "table", "--size", "64x128", "--input", REPORTED / name,
            "--out", out, "--max-failures", "50", "--workers", "1",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = (out / "failures.jsonl").read_text().splitlines()
        return {item["input"]: item["code"] for item in map(json.loads, lines)}

    assert of("t_inverted") == {"1.png": "polarity_suspect"}
    assert of("t_halfblack") == {"1.png": "half_lost"}
    assert of("t_png16") == {"black.png": "blank_image"}
    rows = pyarrow.parquet.read_table(tmp_path / "t_png16" / "samples.parquet").to_pylist()
    dark = {row["image_id"] for row in rows if "range_unused" in row["warnings"]}
    assert dark == {"p1023.png", "p4095.png", "p16383.png"}
    formats = of("t_formats")
    assert {"j.jp2", "t16.tiff", "t8.tif", "p12.pgm"}.isdisjoint(formats)
    assert len(formats) == 9
