"""Conditions that users of other tools reported: every folder of MAMMO_REPORTED, its right answer.

The answers are those of the README there, asked for from outside: the command line, its exit
status and its words, and what it leaves. Where a message or a code may have any name, only that
something is said is tested.
"""

import io
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from odd_inputs import (
    Outcome,
    Sample,
    build,
    command,
    dicom,
    dicom_file,
    encoded,
    grey,
    inspected,
    write_table,
)

from mammoprep.core.codes import CODES
from mammoprep.core.geometry import Geometry

BRIGHT = 150  # the brightest tissue of every picture here is 217 of 255 or more
TESTED: dict[str, str] = {}


def of(*folders: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Note which folders a test is of, and give it each as ``folder``."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        TESTED.update(dict.fromkeys(folders, test.__name__))
        return pytest.mark.parametrize("folder", folders, indirect=True)(test)

    return mark


@pytest.fixture(scope="session")
def reported() -> Path:
    """The folder of reported conditions, named by MAMMO_REPORTED; tests skip without."""
    found = os.environ.get("MAMMO_REPORTED")
    if not found or not Path(found).is_dir():
        pytest.skip("MAMMO_REPORTED is not set")
    return Path(found)


@pytest.fixture
def folder(reported: Path, request: pytest.FixtureRequest) -> Path:
    return reported / str(request.param)


def test_every_reported_condition_has_a_test(reported: Path) -> None:
    assert {path.name for path in reported.iterdir() if path.is_dir()} <= set(TESTED)


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conditions.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| condition ")
]


def test_every_row_of_the_page_has_a_condition_a_source_an_answer_and_tests_that_exist() -> None:
    defined = {
        name
        for path in (ROOT / "tests" / "mammoprep").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), flags=re.M)
    }
    assert len(ROWS) >= 50
    for row in ROWS:
        condition, reports, answer, folders, tests = row
        assert condition, row
        assert answer, row
        assert re.search(r"\w#\d+", reports) or not reports, row
        named = re.findall(r"`(\w+)`", tests)
        assert named, row
        assert not set(named) - defined, row
        assert set(filter(None, folders.split(", "))) <= set(TESTED), row


def test_every_folder_and_every_test_of_a_report_stands_on_the_page() -> None:
    folders = {name for row in ROWS for name in row[3].split(", ")}
    assert set(TESTED) <= folders
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert set(TESTED.values()) <= named


def test_the_codes_on_the_page_are_those_of_the_program() -> None:
    words = {word for row in ROWS for word in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", row[2])}
    assert len(words) > 15
    assert not words - set(CODES)


def changed(folder: Path, to: Path, *rows: str, **files: bytes) -> Path:
    """Return a copy of a folder, with another table or further files (``__`` for a dot)."""
    shutil.copytree(folder, to)
    if rows:
        (to / "table.csv").write_text("\n".join(rows) + "\n")
    for name, data in files.items():
        (to / name.replace("__", ".")).write_bytes(data)
    return to


def nothing_built(out: Path) -> bool:
    return not list(out.rglob("*.tar"))


def stored_boxes(sample: Sample) -> list[tuple[float, float, float, float]]:
    """Return (xmin, ymin, xmax, ymax) of a sample's rois in stored pixels."""
    grid = Geometry.from_json(sample.about["geometry"])
    found = [np.asarray(grid.to_stored(roi["polygon"])) for roi in sample.about["rois"]]
    return [(*points.min(0), *points.max(0)) for points in found]


def refused_with_rows(outcome: Outcome) -> bool:
    named = re.search(r"\brows? \d+", outcome.said) is not None
    return outcome.status == 2 and named and nothing_built(outcome.out)


# Masks


@of("t_mask16")
def test_masks_of_two_values_cover_the_same_lesion_whatever_the_numbers(
    folder: Path, tmp_path: Path
) -> None:
    found = build(folder, tmp_path / "out")
    assert found.status == 0
    assert len(found.samples) == 10
    expected = found.samples["u8_255.png"].mask
    assert expected is not None
    assert expected.any()
    for name, sample in found.samples.items():
        assert sample.mask is not None, name
        assert np.array_equal(sample.mask, expected), name
        assert len(sample.about["rois"]) == 1, name
        assert sample.about["annotation"] == "full", name


@of("t_mask16")
def test_a_mask_without_any_foreground_beside_a_finding_is_said(
    folder: Path, tmp_path: Path
) -> None:
    empty = encoded(np.zeros((128, 96), np.uint8))
    rows = ["path,patient_id,label,mask", "u8_255.png,0,a,u8_255_mask.png", "u8_1.png,1,b,none.png"]
    found = build(changed(folder, tmp_path / "in", *rows, none__png=empty), tmp_path / "out")
    assert found.status == 0
    assert not found.samples["u8_255.png"].warnings
    (code,) = found.samples["u8_1.png"].warnings
    assert code in found.said, "an empty mask passes for a picture without findings"


@of("t_mask_inst")
def test_numbered_lesions_are_all_in_the_mask_and_each_is_a_roi(
    folder: Path, tmp_path: Path
) -> None:
    found = build(folder, tmp_path / "out", "--size", "192x256")
    assert found.status == 0
    for name, sample in found.samples.items():
        assert sample.mask is not None
        assert cv2.connectedComponents(sample.mask)[0] - 1 == 2, name
        assert len(sample.about["rois"]) == 2, name


@of("t_mask_inst")
def test_numbers_are_kinds_if_the_user_says_so(folder: Path, tmp_path: Path) -> None:
    found = build(folder, tmp_path / "out", "--mask-values", "classes")
    assert found.status == 0
    for sample in found.samples.values():
        assert len({roi["kind"] for roi in sample.about["rois"]}) == 2


# Pictures


@of("t_png16")
def test_a_picture_is_never_nearly_black_without_a_word(folder: Path, tmp_path: Path) -> None:
    found = build(folder, tmp_path / "out")
    assert found.samples["p65535.png"].picture.max() >= BRIGHT
    assert not found.samples["p65535.png"].warnings
    assert "black.png" in found.failures
    dark = [
        name for name in ("p16383.png", "p4095.png", "p1023.png")
        if name in found.samples and found.samples[name].picture.max() < BRIGHT
    ]  # fmt: skip
    for name in dark:
        assert found.samples[name].warnings, name
    assert not dark or "--range" in found.said


@of("t_png16")
def test_a_stated_range_makes_pictures_as_bright_as_they_are(folder: Path, tmp_path: Path) -> None:
    rows = ["path,patient_id,label", "p4095.png,1,a"]
    found = build(changed(folder, tmp_path / "in", *rows), tmp_path / "out", "--range", "0,4095")
    assert found.status == 0
    assert found.samples["p4095.png"].picture.max() >= BRIGHT
    assert not found.samples["p4095.png"].warnings


@of("t_png16")
@pytest.mark.parametrize("window", ["percentile", "2048,4096"])
def test_a_window_that_does_not_apply_is_refused_before_work(
    folder: Path, tmp_path: Path, window: str
) -> None:
    found = build(folder, tmp_path / "out", "--window", window)
    assert found.status == 2
    assert "--range" in found.said
    assert nothing_built(found.out)


def twin(png: Path) -> bytes:
    """Return a mammogram in DICOM with the pixels of a picture of 8 bits."""
    values = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
    assert values is not None
    depth = {"BitsStored": 8, "HighBit": 7, "WindowCenter": 128, "WindowWidth": 256}
    return dicom_file(dicom(values, **depth))


@of("t_inverted", "t_halfblack")
def test_pictures_go_through_the_checks_of_dicom(folder: Path, tmp_path: Path) -> None:
    rows = ["path,patient_id,label", "0.png,1,a", "1.png,2,b", "twin0.dcm,3,a", "twin1.dcm,4,b"]
    twins = {f"twin{number}__dcm": twin(folder / f"{number}.png") for number in (0, 1)}
    found = build(changed(folder, tmp_path / "in", *rows, **twins), tmp_path / "out")
    assert {"0.png", "twin0.dcm"} <= set(found.samples)
    assert not found.samples["0.png"].warnings

    def answer(name: str) -> object:
        failed = found.failures.get(name)
        return failed["code"] if failed else sorted(found.samples[name].warnings)

    assert answer("1.png"), "built without a word"
    assert answer("1.png") == answer("twin1.dcm")


# Boxes and the crop


@of("t_boxes")
def test_boxes_outside_are_clipped_or_dropped_and_the_image_stays(
    folder: Path, tmp_path: Path
) -> None:
    found = build(folder, tmp_path / "out")
    assert found.status == 0
    assert len(found.samples) == 5
    outside = found.samples["2.png"]
    assert outside.about["annotation"] == "unusable"
    assert outside.mask is None
    assert outside.about["rois"] == []
    assert outside.warnings
    assert "unusable" in found.said + (found.out / "report.html").read_text()
    ((x0, y0, x1, y1),) = stored_boxes(found.samples["3.png"])
    assert (x0, y0, x1, y1) == pytest.approx((0, 40, 20, 60), abs=0.01)
    assert found.samples["3.png"].mask_area > 0
    clipped = found.samples["1.png"]
    assert clipped.about["annotation"] == "full"
    assert clipped.warnings
    assert all(box[2] <= 96.01 for box in stored_boxes(clipped))
    for name in ("0.png", "4.png"):
        assert not found.samples[name].warnings
        assert found.samples[name].mask_area > 0


@of("t_boxes")
def test_no_patch_is_named_after_a_lesion_that_it_does_not_hold(
    folder: Path, tmp_path: Path
) -> None:
    found = build(folder, tmp_path / "out", "--roi", "32x32")
    assert found.status == 0
    lesions = [key for key in found.samples if re.search(r"_r\d", key)]
    assert {key.split("_r")[0] for key in lesions} >= {"table_0", "table_3", "table_4"}
    assert not [key for key in found.samples if key.startswith("table_2_")]
    assert found.failures["2.png"]["code"]
    assert all(found.samples[key].mask_area > 0 for key in lesions)


@of("t_lesion_cropped")
def test_a_lesion_that_the_crop_cuts_is_said_with_the_margin_that_would_not(
    folder: Path, tmp_path: Path
) -> None:
    found = build(folder, tmp_path / "out")
    assert found.status == 0
    cut = set(found.samples["a.png"].warnings)
    assert cut
    assert any(code in found.said for code in cut)
    assert not cut & set(found.samples["b.png"].warnings)
    margin = re.search(r"--crop-margin[ =](\d*\.\d+)", found.said)
    assert margin is not None, found.said
    wider = build(folder, tmp_path / "wider", "--crop-margin", margin[1])
    assert wider.status == 0
    assert wider.samples["a.png"].mask_area > 0
    cut -= set(wider.samples["a.png"].warnings)
    assert cut, "the margin does not help"
    narrower = f"{float(margin[1]) * 0.9:.3f}"
    again = build(folder, tmp_path / "narrower", "--crop-margin", narrower)
    assert cut <= set(again.samples["a.png"].warnings), "the margin is not the smallest"


@of("t_lesion_cropped")
def test_the_crop_does_not_follow_the_annotation(folder: Path, tmp_path: Path) -> None:
    rows = ["path,patient_id,label,xmin,ymin,xmax,ymax", "a.png,1,x,,,,", "b.png,2,y,,,,"]
    with_box = build(folder, tmp_path / "out").samples["a.png"]
    without = build(changed(folder, tmp_path / "in", *rows), tmp_path / "none").samples["a.png"]
    assert with_box.about["geometry"] == without.about["geometry"]
    assert np.array_equal(with_box.picture, without.picture)


# Tables


@of("t_float_leak")
def test_an_id_written_in_two_ways_is_one_patient(folder: Path, tmp_path: Path) -> None:
    found = build(folder, tmp_path / "out")
    if refused_with_rows(found):
        return
    assert found.status == 0
    groups: dict[str, set[str]] = {}
    patients: dict[str, set[str]] = {}
    for row in found.rows:
        groups.setdefault(row["group"], set()).add(row["split"])
        patients.setdefault(row["image_id"].split("_")[0], set()).add(row["group"])
    assert len(found.rows) == 40
    assert len(groups) == 20
    assert all(len(names) == 1 for names in patients.values())
    assert all(len(splits) == 1 for splits in groups.values())


@of("t_float_leak")
def test_an_id_of_a_split_file_is_the_same_however_it_is_written(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "splits.csv").write_text("group,split\n100.0,test\n101,test\n0,test\n")
    found = build(folder, tmp_path / "out", "--split-file", tmp_path / "splits.csv")
    if found.status == 2:
        return
    places = {row["image_id"]: row["split"] for row in found.rows}
    chosen = {places[name] for name in ("0_0.png", "0_1.png", "1_0.png", "1_1.png")}
    assert chosen == {"test"}


@of("t_float_ids")
def test_a_label_written_in_two_ways_is_one_class(folder: Path, tmp_path: Path) -> None:
    found = build(folder, tmp_path / "out")
    if refused_with_rows(found):
        return
    about = {name: sample.about for name, sample in found.samples.items()}
    assert about["a.png"]["patient_id"] == about["b.png"]["patient_id"]
    assert about["b.png"]["patient_id"] != about["d.png"]["patient_id"]
    assert about["a.png"]["label_name"] == about["c.png"]["label_name"]
    assert about["b.png"]["label_name"] == about["d.png"]["label_name"]
    assert len(json.loads((found.out / "dataset.json").read_text())["label_names"]) == 2


def read_as_it_stands(found: Outcome, patients: dict[str, str]) -> None:
    assert found.status == 0, found.said
    assert {n: s.about["patient_id"] for n, s in found.samples.items()} == patients
    names = {sample.about["label_name"] for sample in found.samples.values()}
    assert names == {"negative", "cancer"}


FOUR = {"a.png": "001", "b.png": "002", "c.png": "010", "d.png": "10"}


@of("t_excel_sep", "t_utf16", "t_header_spaces", "t_bool")
def test_a_table_is_read_where_that_is_safe(folder: Path, tmp_path: Path) -> None:
    found = build(folder, tmp_path / "out")
    read_as_it_stands(found, FOUR)
    if folder.name == "t_bool":
        cancer = {name: sample.about["labels"]["cancer"] for name, sample in found.samples.items()}
        assert cancer == {"a.png": 0, "b.png": 1, "c.png": 0, "d.png": 1}


@of("t_latin1")
def test_a_table_of_another_encoding_is_read_or_names_the_option(
    folder: Path, tmp_path: Path
) -> None:
    patients = {**FOUR, "d.png": "M\u00fcller"}
    found = build(folder, tmp_path / "out")
    if found.status == 2:
        assert "--encoding" in found.said
        assert nothing_built(found.out)
    else:
        read_as_it_stands(found, patients)
    read_as_it_stands(build(folder, tmp_path / "said", "--encoding", "cp1252"), patients)


@of("t_col_ext")
def test_names_that_differ_in_their_extension_are_two_samples(folder: Path, tmp_path: Path) -> None:
    found = build(folder, tmp_path / "out")
    assert found.status == 0
    assert set(found.samples) == {"s/x.png", "s/x.jpg"}
    assert len({sample.about["key"] for sample in found.samples.values()}) == 2


@of("t_nul", "t_longname")
def test_a_name_that_no_file_can_have_is_refused_with_its_row(folder: Path, tmp_path: Path) -> None:
    found = build(folder, tmp_path / "out")
    assert found.status == 2
    assert "row 2" in found.said
    assert nothing_built(found.out)


READ = (
    "UP.PNG", "j.jp2", "la.png", "p.png", "p12.pgm", "really_png.jpg", "rgba.png", "t16.tiff",
    "t8.tif",
)  # fmt: skip
NAMED = {
    "empty.png": r"empty|0 bytes|no bytes",
    "g.gif": r"\bGIF\b",
    "html.dcm": r"\bHTML\b",
    "lfs.dcm": r"\bLFS\b",
    "n.npy": r"NumPy|\bnpy\b",
    "w.webp": r"WebP",
    "z.dcm.gz": r"gzip",
}


@of("t_formats")
def test_formats_are_read_or_named_for_what_they_are(folder: Path, tmp_path: Path) -> None:
    found = build(folder, tmp_path / "out")
    assert set(found.samples) == set(READ)
    shown = found.samples["p.png"].picture.astype(float)
    for name in READ:
        sample = found.samples[name]
        # The 16-bit ones are another exposure of the same breast: as bright, with other noise.
        allowed = 6 if name in ("p12.pgm", "t16.tiff") else 1
        assert np.abs(sample.picture.astype(float) - shown).mean() < allowed, name
    for name, pattern in NAMED.items():
        line = found.failures[name]
        assert re.search(pattern, f"{line['code']} {line['detail']}", re.IGNORECASE), line
    assert {"trunc.jpg", "trunc2.png"} <= set(found.failures)
    said = found.said + json.dumps(list(found.failures.values()))
    assert re.search(r"PNG.*TIFF|TIFF.*PNG", said, re.DOTALL), "what is read is not named"


# DICOM


def read_inside(path: Path) -> NDArray[np.float64]:
    """Return the pixels of a native file at the window 2048, 4096 (PS3.3 C.11.2.1.2), 0 to 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom about the odd beginning
        found = pydicom.dcmread(path, force=True)
        data = found.PixelData
    rows, columns = found.Rows, found.Columns
    values = np.frombuffer(data, "<u2")[: rows * columns].reshape(rows, columns)
    return np.clip((values - 2047.5) / 4095 + 0.5, 0, 1)


def close(picture: NDArray[Any], expected: NDArray[np.float64]) -> bool:
    return bool(np.abs(picture.astype(float) / 65535 - expected).max() < 1 / 4096)


@of("lut_first40000_ss")
@pytest.mark.parametrize("name", ["a.dcm", "b.dcm"])
def test_the_first_value_of_a_lut_is_what_the_pixels_can_be(
    folder: Path, tmp_path: Path, name: str
) -> None:
    found = inspected(folder / name, tmp_path / "exact.png")
    assert found.status == 0, found.said
    dataset = pydicom.dcmread(folder / name)
    lut = dataset.VOILUTSequence[0]
    count, first, bits = lut.LUTDescriptor
    assert first == 40000 - (1 << 16)
    table = np.frombuffer(lut.LUTData, "<u2").astype(float)[:count]
    stored = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
    index = np.clip(stored.astype(int) - 40000, 0, count - 1)
    assert close(found.picture, table[index] / (2**bits - 1))


@of("excess_padding")
def test_bytes_after_the_pixels_are_left_out_and_said(folder: Path, tmp_path: Path) -> None:
    found = inspected(folder / "a.dcm", tmp_path / "exact.png")
    assert found.status == 0, found.said
    assert found.facts["warnings"]
    assert close(found.picture, read_inside(folder / "a.dcm"))


@of("no_preamble", "meta_implicit")
def test_a_file_with_an_odd_beginning_is_read_and_that_is_said(
    folder: Path, tmp_path: Path
) -> None:
    found = inspected(folder / "a.dcm", tmp_path / "exact.png")
    assert found.status == 0, found.said
    assert found.facts["warnings"]
    assert close(found.picture, read_inside(folder / "a.dcm"))


@of("no_preamble", "meta_implicit")
def test_the_source_of_bare_folders_reads_them_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    (tmp_path / "key").chmod(0o600)
    done = build(folder, tmp_path / "out", "--key-file", tmp_path / "key", source="dicom")
    assert done.status == 0
    (sample,) = done.samples.values()
    assert sample.warnings


@of("j2k_unsigned_pr1")
def test_the_sign_of_the_codestream_counts_and_that_is_said(folder: Path, tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    found = inspected(folder / "a.dcm", tmp_path / "exact.png")
    assert found.status == 0, found.said
    assert found.facts["warnings"]
    data = pydicom.dcmread(folder / "a.dcm").PixelData
    values = imagecodecs.jpeg2k_decode(data[data.index(b"\xff\x4f\xff\x51") :])
    assert close(found.picture, np.clip((values - 2047.5) / 4095 + 0.5, 0, 1))


@of("fg_voi_Shared")
@pytest.mark.parametrize("place", ["shared", "per frame"])
def test_a_window_in_the_functional_groups_is_found(
    folder: Path, tmp_path: Path, place: str
) -> None:
    dataset = pydicom.dcmread(folder / "a.dcm")
    if place == "per frame":
        dataset.PerFrameFunctionalGroupsSequence = dataset.SharedFunctionalGroupsSequence
        del dataset.SharedFunctionalGroupsSequence
    out = io.BytesIO()
    dataset.save_as(out)
    (tmp_path / "a.dcm").write_bytes(out.getvalue())
    found = inspected(tmp_path / "a.dcm", tmp_path / "exact.png")
    assert found.status == 0, found.said
    assert "voi_missing" not in found.facts["warnings"]
    assert found.facts["window"] == [1800, 3000]
    values = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
    assert close(found.picture, np.clip((values - 1799.5) / 2999 + 0.5, 0, 1))


SAID = {
    "native_as_j2k_defined": r"native|uncompressed|not compressed",
    "j2k_as_native": r"JPEG 2000|codestream|(?<!un)compressed",
    "float_pixels": r"Float Pixel Data",
    "alloc32": r"\b32\b.*bits|bits.*\b32\b",
}


@of(*SAID)
def test_what_cannot_be_read_is_called_what_it_is(folder: Path) -> None:
    done = command("inspect", folder / "a.dcm")
    said = " ".join(done.stderr.split())
    assert done.returncode == 3
    assert re.search(SAID[folder.name], said, re.IGNORECASE), said
    assert not re.search(r"hostile|absent|\bcut\b|download it again|probably damaged", said), said


# What lies between: a zip, other bits


@of("t_mask16")
def test_a_zip_gives_the_same_bytes_as_its_folder(folder: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", folder)
    inside = build(Path(archive), tmp_path / "zip")
    beside = build(folder, tmp_path / "folder")
    assert inside.status == beside.status == 0
    assert (inside.out / "samples.parquet").read_bytes() == (
        beside.out / "samples.parquet"
    ).read_bytes()


@of("t_nul", "t_longname")
def test_a_zip_is_refused_as_its_folder_is(folder: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", folder)
    found = build(Path(archive), tmp_path / "out")
    assert found.status == 2
    assert "row 2" in found.said


def test_the_helpers_see_a_good_dataset_as_good(tmp_path: Path) -> None:
    write_table(tmp_path / "in", {"a.png": encoded(grey()), "b.png": encoded(grey(seed=2))})
    found = build(tmp_path / "in", tmp_path / "out")
    assert found.status == 0
    assert found.failures == {}
    assert [sample.warnings for sample in found.samples.values()] == [[], []]
