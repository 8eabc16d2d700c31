"""The vindr source: both tables, boxes where they belong, whole studies, the official split."""

import csv
import json
from pathlib import Path

import numpy as np
import outlines
import pytest

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.core.tree import open_tree
from mammoprep.inputs import read_inputs
from mammoprep.phantoms import vindr as layout
from mammoprep.sources import vindr

HEADER = ",".join(layout.IMAGE_COLUMNS)
ROW = "s1,e1,i1,L,CC,3518,2800,BI-RADS 4,DENSITY C,training"
FOUND = ",".join(layout.FINDING_COLUMNS)
BOX = (
    "s1,e1,i1,L,CC,3518,2800,BI-RADS 4,DENSITY C,"
    "\"['Mass', 'Suspicious Calcification']\",BI-RADS 4,100.5,200.25,300,400.75,training"
)
EMPTY = "s1,e1,i1,L,CC,3518,2800,BI-RADS 1,DENSITY C,['No Finding'],,,,,,training"


def read(folder: Path, images: str, findings: str | None = None, target: str = "") -> list[Record]:
    (folder / vindr.IMAGES).write_text(images)
    if findings is not None:
        (folder / vindr.FINDINGS).write_text(findings)
    return read_inputs("vindr", folder, target).records


def table(*rows: str, header: str = HEADER) -> str:
    return "\n".join((header, *rows)) + "\n"


def test_an_image_has_its_labels_and_its_finding_as_a_box(tmp_path: Path) -> None:
    (record,) = read(tmp_path, table(ROW), table(BOX, header=FOUND))
    assert record.key == "vindr_s1_i1"
    assert record.input == "images/s1/i1.dicom"
    assert (record.laterality, record.view, record.split) == ("L", "CC", "train")
    assert (record.group, record.study_id, record.patient_id) == ("s1", "s1", None)
    assert record.labels == {
        "cancer": None,
        "abnormal": 1,
        "birads": "4",
        "density": "C",
        "suspicious": 1,
        "findings": "calcification, mass",
        "finding_birads": "4",
    }
    (lesion,) = record.lesions
    assert (lesion.kind, lesion.pathology) == ("mass, calcification", None)
    assert lesion.polygon == ((100.5, 200.25), (300, 200.25), (300, 400.75), (100.5, 400.75))
    assert record.annotation == "full"


def test_a_row_without_finding_says_that_somebody_looked(tmp_path: Path) -> None:
    (record,) = read(tmp_path, table(ROW.replace("RADS 4", "RADS 1")), table(EMPTY, header=FOUND))
    assert (record.annotation, record.lesions) == ("full", ())
    assert (record.labels["abnormal"], record.labels["findings"]) == (0, "")


def test_without_a_row_in_the_table_of_findings_nobody_looked(tmp_path: Path) -> None:
    (alone,) = read(tmp_path, table(ROW))
    assert (alone.annotation, alone.labels["findings"]) == ("none", None)
    both = read(tmp_path, table(ROW, ROW.replace("i1", "i2")), table(BOX, header=FOUND))
    assert [record.annotation for record in both] == ["full", "none"]


@pytest.mark.parametrize(
    ("birads", "abnormal", "suspicious"),
    [("1", 0, 0), ("2", 0, 0), ("3", 1, 0), ("4", 1, 1), ("5", 1, 1), ("0", None, None)],
)
def test_what_follows_from_a_category(
    birads: str, abnormal: int | None, suspicious: int | None, tmp_path: Path
) -> None:
    rows = table(ROW.replace("RADS 4", f"RADS {birads}"))
    (record,) = read(tmp_path, rows)
    assert (record.labels["abnormal"], record.labels["suspicious"]) == (abnormal, suspicious)
    assert record.label == suspicious
    assert read(tmp_path, rows, target="abnormal")[0].label == abnormal
    assert read(tmp_path, rows, target="density")[0].label == 2


def test_a_finding_makes_a_breast_of_category_2_abnormal(tmp_path: Path) -> None:
    (record,) = read(tmp_path, table(ROW.replace("RADS 4", "RADS 2")), table(BOX, header=FOUND))
    assert record.labels["abnormal"] == 1


def test_empty_cells_are_unknown(tmp_path: Path) -> None:
    (record,) = read(tmp_path, table(ROW.replace("BI-RADS 4,DENSITY C", ",")))
    assert [record.labels[name] for name in ("birads", "density", "abnormal")] == [None] * 3
    assert record.label is None


def test_a_box_over_the_edge_is_left_to_the_check_that_all_sources_share(tmp_path: Path) -> None:
    over = BOX.replace("100.5,200.25,300,400.75", "-3.5,200,2801.25,3600")
    (record,) = read(tmp_path, table(ROW), table(over, header=FOUND))
    corners = ((-3.5, 200), (2801.25, 200), (2801.25, 3600), (-3.5, 3600))
    assert record.lesions[0].polygon == corners


IMAGES = {
    "missing column": (table(header=HEADER.replace(",split", "")), "row 1: missing column split"),
    "semicolons": (table(ROW).replace(",", ";"), "Is the separator a comma"),
    "no rows": (table(), "no rows"),
    "same image twice": (table(ROW, ROW), "row 3: the same image is in row 2"),
    "category": (table(ROW.replace("RADS 4", "RADS 7")), "row 2: breast_birads must be one of"),
    "density": (table(ROW.replace("TY C", "TY E")), "row 2: breast_density must be one of"),
    "side": (table(ROW.replace(",L,", ",left,")), "row 2: laterality must be one of L, R"),
    "split": (table(ROW.replace("training", "holdout")), "row 2: split must be one of training"),
    "no split": (table(ROW.replace("training", "")), "row 2: split is empty"),
    "a path as identifier": (table(ROW.replace("i1", "../x")), "row 2: image_id must be"),
    "dots as identifier": (table(ROW.replace("s1", "..")), "row 2: study_id must be"),
    "short row": (table(ROW, "s1,e1"), "row 3: 2 cells"),
}
FINDINGS = {
    "missing column": (table(header=FOUND.replace(",ymax", "")), "row 1: missing column ymax"),
    "not a list": (table(BOX.replace("['Mass', ", "['Mass "), header=FOUND), "row 2: finding_cate"),
    "not a number": (table(BOX.replace("100.5", "nine"), header=FOUND), "row 2: xmin must be a nu"),
    "infinite": (table(BOX.replace("100.5", "1e9"), header=FOUND), "row 2: xmin must be a number"),
    "no width": (table(BOX.replace("100.5", "300"), header=FOUND), "row 2: the box 300, 200.25"),
    "half a box": (table(BOX.replace("100.5", ""), header=FOUND), "row 2: a finding must have"),
    "box of nothing": (
        table(BOX.replace("'Mass', 'Suspicious Calcification'", "'No Finding'"), header=FOUND),
        "row 2: a finding must have a box",
    ),
    "finding of nothing": (
        table(EMPTY, EMPTY.replace("No Finding", "Mass"), header=FOUND),
        "row 3: a finding must have a box",
    ),
    "category": (table(BOX.replace("BI-RADS 4,100", "4,100"), header=FOUND), "row 2: finding_bir"),
    "unknown image": (table(BOX, BOX.replace("i1", "i7"), header=FOUND), "row 3: its image is not"),
    "other study": (table(BOX.replace("s1", "s7"), header=FOUND), "row 2: its image is not"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_a_damaged_table_of_images_stops_with_the_row(name: str, tmp_path: Path) -> None:
    text, message = IMAGES[name]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", FINDINGS)
def test_a_damaged_table_of_findings_stops_with_the_row(name: str, tmp_path: Path) -> None:
    text, message = FINDINGS[name]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, table(ROW), text)
    assert message in str(caught.value)


def test_many_errors_are_counted(tmp_path: Path) -> None:
    rows = [BOX.replace("100.5", "x")] * 12
    with pytest.raises(ConfigError, match="and 7 more"):
        read(tmp_path, table(ROW), table(*rows, header=FOUND))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vindr") / "raw"
    layout.write(folder, patients=5, seed=3, size_scale=0.1, prevalence=0.6)
    return folder


def test_studies_stay_whole_and_the_official_split_is_kept(made: Path) -> None:
    records = vindr.read(open_tree(made), cards.load("vindr"))
    with (made / vindr.IMAGES).open() as file:
        official = {row["study_id"]: row["split"] for row in csv.DictReader(file)}
    assert set(official.values()) == {"training", "test"}
    for record in records:
        assert record.group == record.study_id
        assert record.split == {"training": "train", "test": "test"}[official[record.group]]


def test_boxes_lie_around_the_true_outlines_after_a_build(made: Path, tmp_path: Path) -> None:
    settings = Settings(size=(91, 182))
    build(BuildConfig(source="vindr", settings=settings, input=made, out=tmp_path / "out"))
    compared = 0
    for sample in outlines.built(tmp_path / "out"):
        about = sample.about
        assert about["annotation"] == "full"
        if not about["rois"]:
            assert about["labels"]["birads"] in ("1", "2")
            assert not sample.mask.any()
            continue
        name = f"truth/{about['study_id']}/{about['image_id']}.json"
        lesions = json.loads((made / name).read_text())["lesions"]
        true = [outlines.box_of(np.array(lesion["polygon"])) for lesion in lesions]
        for found, lesion, roi, box in zip(
            sample.stored_rois(), lesions, about["rois"], true, strict=True
        ):
            assert lesion["kind"] in roi["kind"]
            outlines.check(found, box)
            compared += 1
        outlines.check_mask(sample, true)
    assert compared >= 4
