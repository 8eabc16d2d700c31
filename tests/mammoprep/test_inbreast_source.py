"""The inbreast source: contours in their place, discs for points, hostile XML, whole patients."""

import json
import math
import plistlib
from pathlib import Path
from typing import Any

import numpy as np
import outlines
import pytest

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.inputs import Inputs, read_inputs
from mammoprep.phantoms import inbreast as layout
from mammoprep.sources import inbreast

HEADER = ";".join(layout.COLUMNS)
ROW = "removed;removed;R;CC;201001;20586908;3;4a"
FILE = "ALL-IMGS/20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm"
SQUARE = ["(10.0, 20.0)", "(30.0, 20.0)", "(30.0, 50.0)", "(10.0, 50.0)"]


def roi(name: str, points: list[str], **changes: Any) -> dict[str, Any]:
    return {"Name": name, "NumberOfPoints": len(points), "Point_px": points, **changes}


def plist(*rois: dict[str, Any]) -> bytes:
    return plistlib.dumps({"Images": [{"NumberOfROIs": len(rois), "ROIs": list(rois)}]})


def inputs(folder: Path, *rows: str, xml: bytes | None = None, target: str = "") -> Inputs:
    (folder / "INbreast.csv").write_text("\n".join((HEADER, *(rows or (ROW,)))) + "\n")
    for name in ("ALL-IMGS", "ALL-XML"):
        (folder / name).mkdir(exist_ok=True)
    (folder / FILE).touch()
    if xml is not None:
        (folder / "ALL-XML" / "20586908.xml").write_bytes(xml)
    return read_inputs("inbreast", folder, target)


def read(folder: Path, *rows: str, xml: bytes | None = None, target: str = "") -> list[Record]:
    return inputs(folder, *rows, xml=xml, target=target).records


def test_a_row_and_its_contour_make_a_record(tmp_path: Path) -> None:
    (record,) = read(tmp_path, xml=plist(roi("Mass", SQUARE)))
    assert record.key == "inbreast_20586908"
    assert record.input == FILE
    assert record.group == record.patient_id == "6c613a14b80a8591"
    assert (record.laterality, record.view, record.split) == ("R", "CC", None)
    assert record.labels == {
        "cancer": None,
        "abnormal": 1,
        "birads": "4a",
        "density": "C",
        "suspicious": 1,
    }
    (lesion,) = record.lesions
    assert (lesion.kind, lesion.pathology) == ("mass", None)
    assert lesion.polygon == ((10.5, 20.5), (30.5, 20.5), (30.5, 50.5), (10.5, 50.5))
    assert record.annotation == "full"


@pytest.mark.parametrize(
    ("birads", "label", "abnormal"),
    [("1", 0, 0), ("2", 0, 0), ("3", 0, 1), ("4A", 1, 1), ("6", 1, 1), ("", None, 0)],
)
def test_what_follows_from_a_category(
    birads: str, label: int | None, abnormal: int, tmp_path: Path
) -> None:
    row = ROW.replace("4a", birads)
    (record,) = read(tmp_path, row)
    assert (record.label, record.labels["abnormal"]) == (label, abnormal)
    assert record.labels["birads"] == (birads.lower() or None)
    assert read(tmp_path, row, target="density")[0].label == 2


def test_a_contour_makes_an_image_of_category_2_abnormal(tmp_path: Path) -> None:
    (record,) = read(tmp_path, ROW.replace("4a", "2"), xml=plist(roi("Mass", SQUARE)))
    assert (record.label, record.labels["abnormal"]) == (0, 1)


def test_no_contour_file_is_no_finding_and_no_folder_of_them_is_not_looked(tmp_path: Path) -> None:
    (record,) = read(tmp_path)
    assert (record.annotation, record.lesions) == ("full", ())
    (tmp_path / "ALL-XML").rmdir()
    (record,) = read_inputs("inbreast", tmp_path).records
    assert record.annotation == "none"


def test_a_single_point_becomes_a_disc_around_the_pixels_centre(tmp_path: Path) -> None:
    (record,) = read(tmp_path, xml=plist(roi("Calcification", ["(100.0, 200.0)"])))
    area, centre = outlines.area_and_centre(np.array(record.lesions[0].polygon))
    assert record.lesions[0].kind == "calcification"
    assert centre == pytest.approx([100.5, 200.5])
    assert area == pytest.approx(math.pi * 5**2, rel=0.01)


def test_two_points_become_what_lies_around_their_line(tmp_path: Path) -> None:
    (record,) = read(tmp_path, xml=plist(roi("Cluster", ["(10.0, 20.0)", "(40.0, 60.0)"])))
    area, centre = outlines.area_and_centre(np.array(record.lesions[0].polygon))
    assert centre == pytest.approx([25.5, 40.5])
    expected = math.pi * 5**2 + 2 * 5 * 50
    assert area == pytest.approx(expected, rel=0.01)


def test_a_contour_without_points_makes_the_annotation_partial(tmp_path: Path) -> None:
    (record,) = read(tmp_path, xml=plist(roi("Mass", SQUARE), roi("Mass", [])))
    assert (record.annotation, len(record.lesions)) == ("partial", 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Calcifications", "calcification"),
        ("Point 3", "calcification"),
        ("Espiculated Region", "spiculated region"),
        ("Assymetry", "asymmetry"),
        ("Distortion ", "architectural distortion"),
        ("Unnamed", None),
        ("Maria Silva, 3 Oct", None),
    ],
)
def test_names_of_contours_become_kinds_and_free_text_is_left_out(
    name: str, kind: str | None, tmp_path: Path
) -> None:
    (record,) = read(tmp_path, xml=plist(roi(name, SQUARE)))
    assert record.lesions[0].kind == kind


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "ha">'
    + b"".join(
        b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
    )
    + b"]><plist><string>&j;</string></plist>"
)  # fmt: skip
HOSTILE = {
    "billion laughs": LAUGHS,
    "external entity": (
        b'<!DOCTYPE plist [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
        b"<plist><string>&x;</string></plist>"
    ),
    "parameter entity": (
        b'<!DOCTYPE plist [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]><plist><dict/></plist>'
    ),
    "no XML": b"\x00\x01nonsense",
    "empty": b"",
    "cut": plist(roi("Mass", SQUARE))[:300],
    "binary property list": plistlib.dumps(
        {"Images": [{"ROIs": [roi("Mass", SQUARE)]}]}, fmt=plistlib.FMT_BINARY
    ),
    "unknown encoding": b'<?xml version="1.0" encoding="klingon"?><plist><dict/></plist>',
    "huge number": b"<plist><integer>" + b"9" * 50_000 + b"</integer></plist>",
    "bad date": b"<plist><date>yesterday</date></plist>",
    "key without dict": b"<plist><key>a</key></plist>",
    "deep": b"<plist>" + b"<array>" * 50_000,
    "a text": plistlib.dumps("hello"),
    "no images": plistlib.dumps({"Images": []}),
    "no regions": plistlib.dumps({"Images": [{}]}),
    "regions of text": plistlib.dumps({"Images": [{"ROIs": ["a", "b"]}]}),
    "other count": plist(roi("Mass", SQUARE, NumberOfPoints=7)),
    "not a point": plist(roi("Mass", ["(1, 2)", "(3; 4)", "(5, 6)"])),
    "infinite point": plist(roi("Mass", ["(1, 2)", "(1e300, 4)", "(5, 6)"])),
    "not a number": plist(roi("Mass", ["(nan, 4)"])),
    "point is a number": plist(roi("Mass", [1, 2, 3])),  # type: ignore[list-item]
    "points are a text": plist(roi("Mass", SQUARE, Point_px="(10)")),
}  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_contours_cost_their_own_image(name: str, tmp_path: Path) -> None:
    damaged, sound = read(tmp_path, ROW, ROW.replace("20586908", "20586909"), xml=HOSTILE[name])
    assert damaged.failed is not None
    assert damaged.failed["code"] == "outlines_damaged"
    assert damaged.failed["detail"].startswith("XML file: ")
    assert len(damaged.failed["detail"]) < 100
    assert (damaged.lesions, damaged.annotation) == ((), "none")
    assert (sound.failed, sound.annotation) == (None, "full")


@pytest.mark.parametrize(
    "declared",
    [b'<!ENTITY a "b">', b'<!ENTITY a SYSTEM "file:///etc/hostname">', b'<!ENTITY % a "b">'],
)
def test_a_sound_file_that_declares_an_entity_is_refused(declared: bytes, tmp_path: Path) -> None:
    head, _, body = plist(roi("Mass", SQUARE)).partition(b"<plist")
    xml = b"<!DOCTYPE plist [" + declared + b"]><plist" + body
    assert len(read(tmp_path, xml=head + b"<plist" + body)[0].lesions) == 1
    assert "no property list" in str(read(tmp_path, xml=xml)[0].failed)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbreast, "XML_LIMIT", 100)
    (record,) = read(tmp_path, xml=plist(roi("Mass", SQUARE)))
    assert "limit 100" in str(record.failed)


def test_the_real_documents_have_a_doctype_that_names_a_file_elsewhere(tmp_path: Path) -> None:
    named = b'<!DOCTYPE plist SYSTEM "file://localhost/System/Library/DTDs/PropertyList.dtd">'
    head, _, body = plist(roi("Mass", SQUARE)).partition(b"<plist")
    assert b"DOCTYPE" in head
    xml = b'<?xml version="1.0" encoding="UTF-8"?>' + named + b"<plist" + body
    assert len(read(tmp_path, xml=xml)[0].lesions) == 1


DAMAGED = {
    "missing column": ("row 1: missing column ACR", HEADER.replace(";ACR", ""), ROW),
    "commas": ("Is the separator a semicolon", HEADER.replace(";", ","), ROW.replace(";", ",")),
    "no rows": ("no rows", HEADER),
    "same image twice": ("row 3: the same image is in row 2", HEADER, ROW, ROW),
    "category": ("row 2: Bi-Rads must be a BI-RADS category", HEADER, ROW.replace("4a", "4d")),
    "density": ("row 2: ACR must be one of 1, 2, 3, 4", HEADER, ROW.replace(";3;", ";5;")),
    "side": ("row 2: Laterality must be L or R", HEADER, ROW.replace(";R;", ";X;")),
    "view": ("row 2: View must be a view", HEADER, ROW.replace(";CC;", ";;")),
    "name": ("row 2: File Name must be a number", HEADER, ROW.replace("20586908", "../../etc")),
    "short row": ("row 3: 2 cells", HEADER, ROW, "removed;R"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_stops_with_the_row(name: str, tmp_path: Path) -> None:
    message, *lines = DAMAGED[name]
    (tmp_path / "INbreast.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError) as caught:
        read_inputs("inbreast", tmp_path)
    assert message in str(caught.value)


def test_an_image_that_is_absent_keeps_its_row(tmp_path: Path) -> None:
    found = inputs(tmp_path, ROW, ROW.replace("20586908", "555"))
    assert [record.input for record in found.records] == [FILE, "ALL-IMGS/555.dcm"]
    assert found.records[1].group == "555"
    assert set(found.sizes) == {FILE}


def test_two_files_of_one_image_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ALL-IMGS").mkdir()
    (tmp_path / FILE.replace("6c61", "0000")).touch()
    with pytest.raises(ConfigError, match="two files of image 20586908"):
        read(tmp_path)


def test_the_folder_names_of_the_first_release_work_too(tmp_path: Path) -> None:
    read(tmp_path, xml=plist(roi("Mass", SQUARE)))
    (tmp_path / "ALL-IMGS").rename(tmp_path / "AllDICOMs")
    (tmp_path / "ALL-XML").rename(tmp_path / "AllXML")
    (record,) = read_inputs("inbreast", tmp_path).records
    assert record.input.startswith("AllDICOMs/20586908_")
    assert len(record.lesions) == 1


@pytest.mark.slow
def test_patients_stay_whole_and_contours_lie_where_they_should(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    layout.write(raw, patients=6, seed=1, size_scale=0.1, prevalence=0.7)
    settings = Settings(size=(91, 182), folds=3)
    build(BuildConfig(source="inbreast", settings=settings, input=raw, out=out))
    split_of: dict[str, str] = {}
    compared = {"mass": 0, "cluster": 0, "calcification": 0}
    for sample in outlines.built(out):
        about = sample.about
        assert split_of.setdefault(about["group"], about["split"]) == about["split"]
        truth = raw / "truth" / about["patient_id"] / f"{about['image_id']}.json"
        lesions = json.loads(truth.read_text())["lesions"]
        true = []
        for lesion in lesions:
            points = np.array(lesion["polygon"])
            true += [points, *([points.mean(0)] if lesion["kind"] == "calcification" else [])]
        for found, about_it, points in zip(sample.stored_rois(), about["rois"], true, strict=True):
            compared[about_it["kind"]] += 1
            if points.ndim == 2:
                outlines.check(found, points)
            else:
                assert np.abs(found.mean(0) - points).max() < 0.01
        areas = [points for points in true if points.ndim == 2]
        if len(areas) == len(true):
            outlines.check_mask(sample, areas)
    assert len(split_of) == 6
    assert len(set(split_of.values())) == 3
    assert min(compared.values()) >= 2
