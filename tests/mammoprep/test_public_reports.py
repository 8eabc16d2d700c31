"""Further public reports about other tools, each rebuilt small: right, or said; never neither.

docs/conditions.md names the reports. Where a file can be read rightly or refused with a word, both
are accepted: what must not be is a wrong picture, mask or table without a word.
"""

import contextlib
import io
import json
import re
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import webdataset
from numpy.typing import NDArray
from odd_inputs import (
    SHAPE,
    Outcome,
    Sample,
    deep_png,
    dicom,
    dicom_file,
    encoded,
    failures_of,
    grey,
    samples_of,
    square,
    with_chunk,
    write_table,
)
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from mammoprep import cli

Once = Callable[[Any, Callable[[Path], None]], Path]
BRIGHT = 150  # the brightest tissue is 179 of 255
TOP12 = 4095


def build(folder: Path, out: Path, *options: object) -> Outcome:
    """Build in this process, which is faster than a new one; as ``odd_inputs.build`` otherwise."""
    arguments = [
        "build", "--source", "table", "--input", folder, "--out", out, "--max-failures", "50",
        "--workers", "1", *(() if "--roi" in options else ("--size", "64x128")), *options,
    ]  # fmt: skip
    said, before = io.StringIO(), sys.argv
    sys.argv = ["mammoprep", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(said):
            status = cli.run()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv = before
    # Without the names of folders, which are those of tests and hold words that are looked for.
    words = said.getvalue().replace(str(out.parent), "")
    return Outcome(status, words, out, samples_of(out), failures_of(out))


def outcome(home: Path) -> Outcome:
    """Return what a build left that another test process may have made."""
    status, said = json.loads((home / "said.json").read_text())
    return Outcome(status, said, home / "out", samples_of(home / "out"), failures_of(home / "out"))


def made(once: Once, name: str, write: Callable[[Path], None], *options: object) -> Outcome:
    """Return the outcome of a build that all tests share."""

    def make(home: Path) -> None:
        write(home / "in")
        found = build(home / "in", home / "out", *options)
        (home / "said.json").write_text(json.dumps([found.status, found.said]))

    return outcome(once(["public reports", name, *map(str, options)], make))


def tables(folder: Path, *lines: str, pictures: int = 4, name: str = "table.csv") -> Path:
    """Write a table as it stands and the pictures 1.png, 2.png, ... beside it."""
    folder.mkdir(parents=True)
    (folder / name).write_text("\n".join(lines) + "\n")
    for number in range(1, pictures + 1):
        (folder / f"{number}.png").write_bytes(encoded(grey(seed=number)))
    return folder


def difference(sample: Sample, expected: Sample) -> float:
    return float(np.abs(sample.picture.astype(float) - expected.picture.astype(float)).mean())


def said(found: Outcome, name: str) -> bool:
    """Return whether anything is said about an input: its code, a warning, or the whole refused."""
    if found.status == 2:
        return re.search(r"\brows? \d+|--[a-z-]+", found.said) is not None
    return name in found.failures or bool(found.samples[name].warnings)


def refused_with_a_row(found: Outcome) -> bool:
    return found.status == 2 and re.search(r"\brows? \d+", found.said) is not None


# Pictures


def tiff(values: NDArray[Any], photometric: int = 1, orientation: int = 1) -> bytes:
    """Return a TIFF of one strip: what Pillow writes is inverted by itself for white is zero."""
    rows, columns = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    tags = {
        256: columns, 257: rows, 258: values.dtype.itemsize * 8, 259: 1, 262: photometric,
        273: 8, 274: orientation, 277: 1, 278: rows, 279: len(data), 339: kind,
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def turned() -> bytes:
    """Return EXIF that says: show this rotated by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def pictures(folder: Path) -> None:
    flat, deep, twelve = grey(), grey(65535), grey(TOP12)
    several = {"save_all": True, "append_images": [Image.fromarray(grey(seed=5))]}
    palette = Image.frombytes("P", SHAPE[::-1], (255 - flat).tobytes())
    palette.putpalette([255 - value for value in range(256) for _ in range(3)])
    files = {
        "plain.png": encoded(flat),
        "deep.png": deep_png(deep),
        "deep_rgb.png": deep_png(np.repeat(deep[..., None], 3, axis=2)),
        "deep_alpha.png": deep_png(np.dstack([deep, np.full(SHAPE, 65535, np.uint16)])),
        "twelve_rgb.png": deep_png(np.repeat(twelve[..., None], 3, axis=2)),
        "twelve_alpha.png": deep_png(np.dstack([twelve, np.full(SHAPE, 65535, np.uint16)])),
        "turned_jpeg.jpg": encoded(flat, "JPEG", exif=turned(), quality=95),
        "turned_png.png": encoded(flat, "PNG", exif=turned()),
        "turned_tiff.tif": tiff(flat, orientation=6),
        "white_zero_8.tif": tiff(255 - flat, photometric=0),
        "white_zero_16.tif": tiff(65535 - deep, photometric=0),
        "float.tif": tiff((flat / np.float32(255)).astype(np.float32)),
        "signed.tif": tiff((deep.astype(np.int32) - 32768).astype(np.int16)),
        "pages.tif": encoded(Image.fromarray(flat), "TIFF", **several),
        "animated.png": encoded(Image.fromarray(flat), "PNG", **several),
        "dim.png": encoded((flat // 3).astype(np.uint8)),
        "cmyk.jpg": encoded(Image.fromarray(flat).convert("CMYK"), "JPEG", quality=95),
        "palette.png": encoded(palette),
        "gamma.png": with_chunk(encoded(flat), b"gAMA", struct.pack(">I", 100000)),
        "hundred.pgm": b"P5\n120 160\n100\n" + grey(100).tobytes(),
    }
    write_table(folder, files)


@pytest.fixture
def shown(once: Once) -> Outcome:
    return made(once, "pictures", pictures)


@pytest.mark.parametrize("name", ["deep_rgb.png", "deep_alpha.png"])
def test_sixteen_bits_of_every_channel_are_kept(once: Once, name: str) -> None:
    found = made(once, "pictures", pictures, "--bits", 16)
    if name in found.samples:
        assert np.array_equal(found.samples[name].picture, found.samples["deep.png"].picture)
    else:
        assert found.failures[name]["code"]


@pytest.mark.parametrize("name", ["twelve_rgb.png", "twelve_alpha.png"])
def test_twelve_bits_in_a_colour_file_are_not_black_without_a_word(
    shown: Outcome, name: str
) -> None:
    assert said(shown, name) or shown.samples[name].picture.max() >= BRIGHT


@pytest.mark.parametrize("name", ["turned_jpeg.jpg", "turned_png.png", "turned_tiff.tif"])
def test_a_picture_that_says_it_is_turned_is_said_in_every_format(
    shown: Outcome, name: str
) -> None:
    assert said(shown, name)


@pytest.mark.parametrize("name", ["white_zero_8.tif", "white_zero_16.tif"])
def test_white_may_be_zero(shown: Outcome, name: str) -> None:
    if name in shown.samples:
        assert difference(shown.samples[name], shown.samples["plain.png"]) < 1
    else:
        assert shown.failures[name]["code"] not in ("not_dicom", "unreadable")


@pytest.mark.parametrize("name", ["float.tif", "signed.tif"])
def test_numbers_that_are_no_grey_levels_are_read_rightly_or_not_at_all(
    shown: Outcome, name: str
) -> None:
    if name in shown.samples:
        assert difference(shown.samples[name], shown.samples["plain.png"]) < 1
    else:
        assert shown.failures[name]["code"] not in ("not_dicom", "unreadable")


@pytest.mark.parametrize("name", ["pages.tif", "animated.png"])
def test_several_pictures_in_a_file_are_said(shown: Outcome, name: str) -> None:
    assert said(shown, name)


def test_a_dim_picture_stays_dim(shown: Outcome) -> None:
    assert shown.samples["dim.png"].picture.max() == pytest.approx(60, abs=2)


def test_four_inks_are_read_rightly_or_refused(shown: Outcome) -> None:
    if "cmyk.jpg" in shown.samples:
        assert difference(shown.samples["cmyk.jpg"], shown.samples["plain.png"]) < 1
    else:
        assert shown.failures["cmyk.jpg"]["code"] not in ("not_dicom", "unreadable")


@pytest.mark.parametrize("name", ["palette.png", "gamma.png", "hundred.pgm"])
def test_the_same_picture_in_other_clothes_is_the_same(shown: Outcome, name: str) -> None:
    assert difference(shown.samples[name], shown.samples["plain.png"]) < 1


# Masks


def masks(folder: Path) -> None:
    two = square()
    two[100:120, 20:40] = 255
    index = np.where(two, 1, 0).astype(np.uint8)
    index[100:120, 20:40] *= 2
    blank = np.zeros(SHAPE, np.uint8)

    def palette(*colours: int) -> bytes:
        image = Image.frombytes("P", SHAPE[::-1], index.tobytes())
        image.putpalette(colours)
        return encoded(image)

    ones = (two > 0).astype(np.uint16)
    files = {
        "plain": encoded(two),
        "inverted": encoded(255 - two),
        "palette": palette(0, 0, 0, 128, 0, 0, 0, 128, 0),
        "palette_black": palette(0, 0, 0, 0, 0, 0, 0, 0, 0),
        "palette_white": palette(255, 255, 255, 0, 0, 0, 0, 0, 0),
        "alpha": encoded(np.dstack([blank, blank, blank, two])),
        "grey_alpha": encoded(np.dstack([blank, two])),
        "void": encoded(np.where(index == 2, 255, index).astype(np.uint8)),
        "jpeg_ones": encoded(ones.astype(np.uint8), "JPEG", quality=95),
        "deep_ones": deep_png(np.repeat(ones[..., None], 3, axis=2)),
        "colours": encoded(
            np.dstack([255 * (index == 1), 255 * (index == 2), blank]).astype(np.uint8)
        ),
        "other_shape": encoded(cv2.resize(two, (130, 150), interpolation=cv2.INTER_NEAREST)),
    }
    rows = {name: f"masks/{name}.png" for name in files}
    write_table(folder, {f"{name}.png": encoded(grey()) for name in files}, "mask", **rows)
    (folder / "masks").mkdir()
    for name, data in files.items():
        (folder / "masks" / f"{name}.png").write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "inverted", "palette", "palette_black", "palette_white", "alpha", "grey_alpha", "void",
        "jpeg_ones", "deep_ones", "colours",
    ],
)  # fmt: skip
def test_a_mask_covers_its_lesions_or_that_is_said(once: Once, name: str) -> None:
    found = made(once, "masks", masks)
    expected = found.samples["plain.png"].mask
    assert expected is not None
    assert np.count_nonzero(expected) > 400
    sample = found.samples.get(f"{name}.png")
    if sample is not None and not sample.warnings:
        assert sample.mask is not None
        assert np.count_nonzero(sample.mask != expected) < 0.1 * np.count_nonzero(expected)
    else:
        assert said(found, f"{name}.png")


def test_a_mask_of_another_shape_is_refused(once: Once) -> None:
    found = made(once, "masks", masks)
    assert found.failures["other_shape.png"]["code"] == "mask_size_mismatch"


# Boxes

BOXES = "path,patient_id,label,xmin,ymin,xmax,ymax"


@pytest.mark.parametrize("options", [(), ("--roi", "32x32")])
def test_boxes_of_shares_instead_of_pixels_are_said(
    tmp_path: Path, options: tuple[object, ...]
) -> None:
    rows = (BOXES, "1.png,1,a,0.1,0.4,0.3,0.6", "2.png,2,b,0.2,0.3,0.4,0.5")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out", *options)
    if refused_with_a_row(found):
        return
    assert not [key for key in found.samples if "_r" in key]
    assert options or (said(found, "1.png") and said(found, "2.png"))
    assert not options or {"1.png", "2.png"} <= set(found.failures)


def test_boxes_of_width_and_height_are_refused_where_they_turn_around(tmp_path: Path) -> None:
    rows = (BOXES, "1.png,1,a,40,60,30,20", "2.png,2,b,10,40,30,60")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    assert refused_with_a_row(found)


# Tables

HEADER = "path,patient_id,label"


def workbook(path: Path, *rows: tuple[str | float, ...], dates: bool = False) -> None:
    """Write an Excel file of one sheet; with ``dates`` its numbers are shown as days."""
    name = "http://schemas.openxmlformats.org"

    def cell(value: str | float) -> str:
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return f'<c s="{int(dates)}"><v>{value}</v></c>'

    sheet = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    office = f"{name}/officeDocument/2006/relationships"
    links = f'<Relationships xmlns="{name}/package/2006/relationships">'
    styles = "<fonts><font/></fonts><fills><fill/></fills><borders><border/></borders>"
    formats = '<cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
    main = f"{name}/spreadsheetml/2006/main"
    parts = {
        "_rels/.rels": f'{links}<Relationship Id="a" Type="{office}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "[Content_Types].xml": f'<Types xmlns="{name}/package/2006/content-types"/>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="a" sheetId="1" r:id="a"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'{links}<Relationship Id="a" Type="{office}/worksheet" '
        f'Target="worksheets/sheet1.xml"/><Relationship Id="b" Type="{office}/styles" '
        'Target="styles.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{main}">{styles}'
        f"<cellStyleXfs><xf/></cellStyleXfs>{formats}</styleSheet>",
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{sheet}'
        "</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w") as file:
        for part, text in parts.items():
            file.writestr(part, text)


def excel(folder: Path, *rows: tuple[str | float, ...], dates: bool = False) -> Path:
    tables(folder, "", pictures=len(rows))
    (folder / "table.csv").unlink()
    workbook(folder / "table.xlsx", ("path", "patient_id", "label"), *rows, dates=dates)
    return folder


def test_numbers_too_long_for_excel_are_not_read_as_other_ids(tmp_path: Path) -> None:
    rows = (("1.png", 12345678901234567890, "a"), ("2.png", 12345678901234567891, "b"))
    assert refused_with_a_row(build(excel(tmp_path / "in", *rows), tmp_path / "out"))


def test_numbers_that_excel_holds_stay_as_they_are(tmp_path: Path) -> None:
    rows = (("1.png", 123456789012345, "a"), ("2.png", 123456789012346, "b"))
    found = build(excel(tmp_path / "in", *rows), tmp_path / "out")
    patients = {name: sample.about["patient_id"] for name, sample in found.samples.items()}
    assert patients == {"1.png": "123456789012345", "2.png": "123456789012346"}


def test_ids_that_excel_has_made_dates_are_said(tmp_path: Path) -> None:
    rows = (("1.png", 45000, "a"), ("2.png", "MAR1", "b"))
    found = build(excel(tmp_path / "in", *rows, dates=True), tmp_path / "out")
    assert refused_with_a_row(found) or "date" in found.said


def test_ids_that_excel_has_shortened_are_said(tmp_path: Path) -> None:
    rows = (HEADER, "1.png,1.23457E+17,a", "2.png,1.23457E+17,b", "3.png,123456789012345678,a")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    assert refused_with_a_row(found) or "1.23457E+17" in found.said


@pytest.mark.parametrize("twin", ["p1\u200b", "\ufeffp1", "p1\u00ad", "p1\u00a0"], ids=ascii)
def test_signs_that_nobody_sees_do_not_make_another_patient(tmp_path: Path, twin: str) -> None:
    rows = (HEADER, "1.png,p1,a", f"2.png,{twin},b", "3.png,p2,a")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    if not refused_with_a_row(found):
        about = {name: sample.about["group"] for name, sample in found.samples.items()}
        assert about["1.png"] == about["2.png"]


def test_an_accent_written_in_two_ways_is_one_patient(tmp_path: Path) -> None:
    rows = (HEADER, "1.png,Mu\u0308ller,a", "2.png,M\u00fcller,b", "3.png,p2,a")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    if not refused_with_a_row(found):
        about = {name: sample.about["group"] for name, sample in found.samples.items()}
        assert about["1.png"] == about["2.png"]


@pytest.mark.parametrize("twin", ["mg17", "\uff2d\uff27\uff11\uff17"], ids=ascii)
def test_ids_that_differ_in_case_are_one_patient_or_said(tmp_path: Path, twin: str) -> None:
    rows = (HEADER, "1.png,MG17,a", f"2.png,{twin},b", "3.png,p2,a")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    if not refused_with_a_row(found):
        about = {name: sample.about["group"] for name, sample in found.samples.items()}
        assert about["1.png"] == about["2.png"] or "MG17" in found.said


@pytest.mark.parametrize("twin", ["benign", "BENIGN", "Benign\u200b"], ids=ascii)
def test_labels_that_differ_in_case_are_one_class_or_said(tmp_path: Path, twin: str) -> None:
    rows = (HEADER, "1.png,1,Benign", f"2.png,2,{twin}", "3.png,3,Malignant")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    if not refused_with_a_row(found):
        classes = json.loads((found.out / "dataset.json").read_text())["label_names"]
        # The names stand in the table of classes too: only a warning counts.
        assert len(classes) == 2 or re.search(r"warning: .*\bBenign\b", found.said)


def test_rows_of_nothing_but_commas_are_no_rows(tmp_path: Path) -> None:
    rows = (HEADER, "1.png,1,a", ",,", "2.png,2,b", ",,", ",,")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    assert found.status == 0, found.said
    assert set(found.samples) == {"1.png", "2.png"}


def test_na_and_none_are_names_like_others(tmp_path: Path) -> None:
    rows = (HEADER, "1.png,NA,None", "2.png,None,NA", "3.png,null,None")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    assert found.status == 0
    about = {name: sample.about for name, sample in found.samples.items()}
    assert [about[name]["patient_id"] for name in sorted(about)] == ["NA", "None", "null"]
    assert [about[name]["label_name"] for name in sorted(about)] == ["None", "NA", "None"]


def test_a_workbook_called_csv_is_called_a_workbook(tmp_path: Path) -> None:
    folder = tables(tmp_path / "in", "")
    workbook(folder / "table.csv", ("path", "patient_id", "label"), ("1.png", "1", "a"))
    found = build(folder, tmp_path / "out")
    assert found.status == 0 or "Excel" in found.said
    assert "\0" not in found.said


def test_a_file_of_another_case_is_named(tmp_path: Path) -> None:
    rows = (HEADER, "1.PNG,1,a", "2.png,2,b", "3.png,3,b")
    found = build(tables(tmp_path / "in", *rows), tmp_path / "out")
    if "1.PNG" not in found.samples:
        assert re.search(r"\bcase\b", found.failures["1.PNG"]["detail"] + found.said)


# Archives and names


def test_what_a_mac_adds_to_a_zip_is_no_image(tmp_path: Path) -> None:
    folder = tables(tmp_path / "in", HEADER, "1.png,1,a", "2.png,2,b", pictures=2)
    fork = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(50)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr("__MACOSX/._set", fork)
        for path in sorted(folder.iterdir()):
            file.writestr(f"__MACOSX/set/._{path.name}", fork)
            file.write(path, f"set/{path.name}")
    found = build(tmp_path / "set.zip", tmp_path / "out")
    assert found.status == 0
    assert set(found.samples) == {"1.png", "2.png"}


def test_a_zip_with_backslashes_is_read_or_named(tmp_path: Path) -> None:
    folder = tables(tmp_path / "in", HEADER, "1.png,1,a", "2.png,2,b", pictures=2)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for path in sorted(folder.iterdir()):
            info = zipfile.ZipInfo()
            info.filename = f"set\\{path.name}"
            file.writestr(info, path.read_bytes())
    found = build(tmp_path / "set.zip", tmp_path / "out")
    assert set(found.samples) == {"1.png", "2.png"} or "backslash" in found.said


def test_dots_in_names_do_not_mix_samples_up(tmp_path: Path) -> None:
    names = ("1.2.840/a.b.c.png", "1.2.840/a.b.png", "x.png.png")
    write_table(tmp_path / "in", {name: encoded(grey(seed=len(name))) for name in names})
    found = build(tmp_path / "in", tmp_path / "out")
    shards = [str(path) for path in sorted((found.out / "shards").glob("*.tar"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the reader leaves its files open
        read = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert sorted(json.loads(sample["json"])["image_id"] for sample in read) == sorted(names)
    assert all({"__key__", "png", "json"} <= set(sample) for sample in read)


# DICOM


def with_icon() -> Dataset:
    icon = Dataset()
    icon.Rows = icon.Columns = 64
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation, icon.SamplesPerPixel = 7, 0, 1
    icon.PhotometricInterpretation = "MONOCHROME2"
    icon.add_new("PixelData", "OB", bytes(4096))
    found = dicom()
    found.IconImageSequence = Sequence([icon])
    return found


def with_overlay_bits() -> Dataset:
    """Return a mammogram with an overlay in bit 15, as its header says (retired in 2004)."""
    found = dicom(grey(TOP12) | np.where(square(), 0x8000, 0).astype(np.uint16))
    for tag, vr, value in (
        (0x60000010, "US", SHAPE[0]), (0x60000011, "US", SHAPE[1]), (0x60000040, "CS", "G"),
        (0x60000050, "SS", [1, 1]), (0x60000100, "US", 16), (0x60000102, "US", 15),
    ):  # fmt: skip
        found.add_new(tag, vr, value)
    return found


def mammograms(folder: Path) -> None:
    twelve, flat = grey(TOP12), grey()
    signed = twelve.astype(np.int32) - 2048
    stream = imagecodecs.jpeg2k_encode(twelve, level=0, reversible=True, codecformat="j2k")
    half = len(stream) // 4 * 2
    small = imagecodecs.jpeg8_encode(flat, level=95)
    lost = twelve.copy()
    lost[SHAPE[0] // 2 :] = 0
    eight = {"BitsStored": 8, "HighBit": 7, "WindowCenter": 128, "WindowWidth": 256}
    jpeg_2000, jpeg = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50"
    bare = {"WindowCenter": None, "WindowWidth": None}
    centred = {"PixelRepresentation": 1, "WindowCenter": 0}
    found = {
        "plain": dicom(),
        "no_window": dicom(**bare),
        "left_aligned": dicom((twelve << 4).astype(np.uint16), HighBit=15),
        "overlay_bits": with_overlay_bits(),
        "icon": with_icon(),
        "fragments": dicom(
            syntax=jpeg_2000, PixelData=encapsulate([stream[:half], stream[half:]], has_bot=False)
        ),
        "sign_not_extended": dicom((signed & 0x0FFF).astype(np.uint16), **centred),
        "sign_extended": dicom(signed.astype(np.int16), **centred),
        "monochrome1": dicom(
            (TOP12 - twelve).astype(np.uint16), PhotometricInterpretation="MONOCHROME1"
        ),
        "palette": dicom(flat, **{**eight, **bare}, PhotometricInterpretation="PALETTE COLOR"),
        "high_and_narrow": dicom(ImagerPixelSpacing=[0.1, 0.05]),
        "aspect": dicom(ImagerPixelSpacing=None, PixelAspectRatio=[2, 1]),
        "dark": dicom(BitsStored=16, HighBit=15, **bare),
        "eight_in_twelve": dicom(
            flat, jpeg, PixelData=encapsulate([small]), BitsAllocated=16, BitsStored=12, HighBit=11
        ),
        "burnt_out": dicom(WindowCenter=128, WindowWidth=256),
        "two_levels": dicom(WindowCenter=2048, WindowWidth=1),
        "half_lost": dicom(lost),
    }
    files = {f"{name}.dcm": dicom_file(dataset) for name, dataset in found.items()}
    decimal = {"comma_window": (b"2048", b"20,8"), "comma_spacing": (b"0.1\\0.1", b"0,1\\0,1")}
    for name, (text, comma) in decimal.items():
        files[f"{name}.dcm"] = files["plain.dcm"].replace(text, comma)
    write_table(folder, files)


@pytest.fixture
def taken(once: Once) -> Outcome:
    return made(once, "mammograms", mammograms)


@pytest.mark.parametrize(
    "name",
    [
        "left_aligned", "overlay_bits", "icon", "fragments", "sign_not_extended", "sign_extended",
        "monochrome1",
    ],
)  # fmt: skip
def test_the_same_mammogram_stored_otherwise_is_the_same(taken: Outcome, name: str) -> None:
    assert difference(taken.samples[f"{name}.dcm"], taken.samples["plain.dcm"]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "palette", "high_and_narrow", "aspect", "half_lost", "comma_window", "comma_spacing",
    ],
)  # fmt: skip
def test_a_mammogram_that_would_mislead_is_said(taken: Outcome, name: str) -> None:
    assert said(taken, f"{name}.dcm")


@pytest.mark.parametrize("name", ["burnt_out", "two_levels"])
def test_a_window_that_leaves_no_grey_is_said(taken: Outcome, name: str) -> None:
    sample = taken.samples.get(f"{name}.dcm")
    if sample is None:
        assert taken.failures[f"{name}.dcm"]["code"]
    else:
        assert set(sample.warnings) - {"label_removed", "crop_fallback"}


@pytest.mark.parametrize("name", ["dark", "eight_in_twelve"])
def test_a_mammogram_that_comes_out_black_is_said(taken: Outcome, name: str) -> None:
    sample = taken.samples.get(f"{name}.dcm")
    if sample is not None and sample.picture.max() < BRIGHT:
        harmless = {*taken.samples["no_window.dcm"].warnings, "precision_below_stored"}
        assert set(sample.warnings) - harmless, "said is only what a good picture has too"


def test_a_good_mammogram_is_built_without_a_word(taken: Outcome) -> None:
    assert taken.samples["plain.dcm"].warnings == []
    assert taken.samples["plain.dcm"].picture.max() >= BRIGHT
