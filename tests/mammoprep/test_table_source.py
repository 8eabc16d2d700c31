"""The table source: anybody's columns, boxes and masks, any format, and errors with their rows."""

import csv
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import outlines
import pytest
from helpers import run_cli, tree_of

from mammoprep import options
from mammoprep.builder import Result, build, own_table, resolve
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import MaskFile
from mammoprep.inputs import Inputs, read_inputs
from mammoprep.phantoms import table as layout


def config(folder: Path, out: Path | None = None, **given: object) -> BuildConfig:
    return options.build_config(
        {"source": "table", "size": "64x128", "input": str(folder), "out": str(out), **given}
    )


def read(folder: Path, *lines: str, **given: object) -> Inputs:
    """Read a table; its cells are separated by commas."""
    if lines:
        (folder / "table.csv").write_text("\n".join(lines) + "\n")
    found = config(folder, **given)
    return read_inputs("table", folder, resolve(found).target, own_table(found))


def test_three_columns_are_enough(tmp_path: Path) -> None:
    found = read(tmp_path, "path,patient_id,label", "a/1.png,p1,yes", "a/2.png,p1,no")
    first, second = found.records
    assert (first.key, first.input, first.group, first.label) == ("table_a-1", "a/1.png", "p1", 1)
    assert (second.label, found.card.targets) == (0, {"label": ["no", "yes"]})
    assert first.annotation == "none"
    assert list(first.labels.items()) == [
        ("cancer", None), ("abnormal", None), ("birads", None), ("density", None), ("label", "yes"),
    ]  # fmt: skip


def test_every_optional_column_has_its_place(tmp_path: Path) -> None:
    (record,) = read(
        tmp_path,
        "path,patient_id,label,laterality,view,study_id,split,cancer,abnormal,birads,density",
        "x.dcm,7,b,Left,MLO,s3,val,1,1,4A,B",
    ).records
    assert (record.laterality, record.view, record.split) == ("L", "MLO", "val")
    assert (record.patient_id, record.study_id, record.label) == ("7", "s3", 0)
    assert record.labels == {
        "cancer": 1, "abnormal": 1, "birads": "4a", "density": "B", "label": "b",
    }  # fmt: skip


def test_columns_are_named_by_the_user(tmp_path: Path) -> None:
    found = read(
        tmp_path, "file,pid,outcome", "1.png,p,0", "2.png,q,1",
        columns="path=file, patient_id=pid, label=outcome",
    )  # fmt: skip
    assert [record.label for record in found.records] == [0, 1]


def test_the_mapping_can_stand_in_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "options.toml").write_text(
        'label_names = ["yes", "no"]\n[columns]\npath = "the file, really"\n'
    )
    found = read(
        tmp_path, '"the file, really",patient_id,label', "1.png,p,yes",
        config=str(tmp_path / "options.toml"),
    )  # fmt: skip
    assert found.records[0].label == 0
    assert found.card.targets == {"label": ["yes", "no"]}


def test_a_column_can_be_left_out(tmp_path: Path) -> None:
    lines = ("path,patient_id,label,cancer", "1.png,p,a,perhaps")
    with pytest.raises(ConfigError, match="row 2: cancer must be one of"):
        read(tmp_path, *lines)
    assert read(tmp_path, *lines, columns="cancer=").records[0].labels["cancer"] is None


def test_classes_are_sorted_numbers_by_value(tmp_path: Path) -> None:
    rows = [f"{n}.png,p,{name}" for n, name in enumerate(("10", "9", "b", "-1", "B"))]
    found = read(tmp_path, "path,patient_id,label", *rows)
    assert found.card.targets["label"] == ["-1", "9", "10", "B", "b"]


def test_an_empty_label_is_unknown(tmp_path: Path) -> None:
    found = read(tmp_path, "path,patient_id,label", "1.png,p,", "2.png,p,nan", "3.png,p,None")
    assert [record.label for record in found.records] == [None, None, 0]
    assert found.card.targets["label"] == ["None"]


def test_a_table_elsewhere_with_semicolons_or_tabs_or_in_excel(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for separator in ";\t,":
        table = tmp_path / "mine.csv"
        table.write_text("path,patient_id,label\n1.png,p,a\n".replace(",", separator))
        (record,) = read(tmp_path / "images", table=str(table)).records
        assert record.input == "1.png"
    with pytest.raises(ConfigError, match="file_missing"):
        read(tmp_path / "images", table=str(tmp_path / "other.csv"))
    (tmp_path / "bad.xlsx").write_bytes(b"PK")
    with pytest.raises(ConfigError, match="no readable Excel file"):
        read(tmp_path / "images", table=str(tmp_path / "bad.xlsx"))


def cell(text: str) -> str:
    return f'<c t="inlineStr"><is><t>{text}</t></is></c>'


def test_an_excel_table_is_read(tmp_path: Path) -> None:
    rows = [("path", "patient_id", "label"), ("1.png", "12", "a")]
    sheet = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    name = "http://schemas.openxmlformats.org"
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{name}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{name}/officeDocument/2006/relationships/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "[Content_Types].xml": f'<Types xmlns="{name}/package/2006/content-types"/>',
        "xl/workbook.xml": f'<workbook xmlns="{name}/spreadsheetml/2006/main" xmlns:r="{name}/'
        'officeDocument/2006/relationships"><sheets><sheet name="a" sheetId="1" r:id="r1"/>'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{name}/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{name}/officeDocument/2006/relationships/worksheet" '
        'Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{name}/spreadsheetml/2006/main">'
        f"<sheetData>{sheet}</sheetData></worksheet>",
    }
    with zipfile.ZipFile(tmp_path / "table.xlsx", "w") as file:
        for part, text in parts.items():
            file.writestr(part, text)
    (record,) = read(tmp_path).records
    assert (record.input, record.group, record.label) == ("1.png", "12", 0)


def test_paths_are_brought_to_one_form(tmp_path: Path) -> None:
    found = read(tmp_path, "path,patient_id,label", r".\a\b.png,p,x", "./c//d.png,p,x")
    assert [record.input for record in found.records] == ["a/b.png", "c/d.png"]


def test_names_that_a_key_cannot_hold_stay_apart(tmp_path: Path) -> None:
    found = read(
        tmp_path, "path,patient_id,label", "左.png,p,x", "右.png,p,x", "1.2.3,p,x", "1.2.4,p,x"
    )
    keys = {record.key for record in found.records}
    assert len(keys) == 4
    assert "table_1-2-3" in keys


BOXES = "path,patient_id,label,kind,pathology,xmin,ymin,xmax,ymax"


def test_rows_of_one_image_are_its_findings(tmp_path: Path) -> None:
    found = read(
        tmp_path, BOXES, "1.png,p,a,mass,benign,1,2,3.5,4", "2.png,p,b,,,,,,",
        "1.png,p,a,,malignant,5,6,7,8",
    )  # fmt: skip
    first, second = found.records
    assert [lesion.id for lesion in first.lesions] == [1, 2]
    assert first.lesions[0].polygon == ((1, 2), (3.5, 2), (3.5, 4), (1, 4))
    assert [(lesion.kind, lesion.pathology) for lesion in first.lesions] == [
        ("mass", "benign"), (None, "malignant"),
    ]  # fmt: skip
    assert (first.annotation, second.annotation, second.lesions) == ("full", "full", ())


def test_a_mask_is_a_file_to_be_read_later_and_annotation_can_be_said(tmp_path: Path) -> None:
    found = read(
        tmp_path, "path,patient_id,label,mask,kind,annotation", "1.png,p,a,m/1.png,mass,partial",
        "2.png,p,a,,,none", "3.png,p,a,,,",
    )  # fmt: skip
    assert found.records[0].masks == (MaskFile("mass", None, ("m/1.png",)),)
    assert [record.annotation for record in found.records] == ["partial", "none", "full"]


HEADER = "path,patient_id,label"
DAMAGED = {
    "missing column": ("row 1: missing column patient_id", "path,label", "1.png,a"),
    "no rows": ("no rows", HEADER),
    "empty file": ("row 1: missing column", ""),
    "no path": ("row 2: path is empty", HEADER, ",p,a"),
    "no patient": ("row 3: patient_id is empty", HEADER, "1.png,p,a", "2.png,,a"),
    "leaves": ("row 2: path must be a path inside", HEADER, "../1.png,p,a"),
    "absolute": ("row 2: path must be a path inside", HEADER, "/etc/passwd,p,a"),
    "windows": ("row 2: path must be a path inside", HEADER, r"C:\a.png,p,a"),
    "windows parent": ("row 2: path must be a path inside", HEADER, r"a\..\..\b.png,p,a"),
    "NUL": ("row 2: path must be a path inside", HEADER, "\0a.png,p,a"),
    "long": ("row 2: path must be a path whose names have at most 255", HEADER, f"{'x' * 256},p,a"),
    "deep": ("row 2: path must be a path whose names", HEADER, f"{'x/' * 2100}a.png,p,a"),
    "the folder": ("row 2: path must be a path inside", HEADER, ".,p,a"),
    "control": ("row 3: patient_id must be a name", HEADER, '1.png,"p\nq",a'),
    "twice": ("row 3: the same image is in row 2", HEADER, "1.png,p,a", "./1.png,p,a"),
    "half a box": ("row 2: a box needs all of xmin", BOXES, "1.png,p,a,,,1,2,3,"),
    "empty box": ("row 2: the box 3, 2, 1, 4 is empty", BOXES, "1.png,p,a,,,3,2,1,4"),
    "no number": ("row 2: xmin must be a number of pixels", BOXES, "1.png,p,a,,,inf,2,1,4"),
    "pathology": ("row 2: pathology must be one of", BOXES, "1.png,p,a,,bad,1,2,3,4"),
    "same box twice": (
        "row 3: the same image is in row 2", BOXES, "1.png,p,a,,,1,2,3,4", "1.png,p,a,,,1,2,3,4",
    ),
    "contradiction": (
        "row 3: patient_id is not that of row 2", BOXES, "1.png,p,a,,,1,2,3,4",
        "1.png,q,a,,,5,6,7,8",
    ),
    "box and mask": (
        "a row of its own", f"{BOXES},mask", "1.png,p,a,,,1,2,3,4,m.png",
    ),
    "mask leaves": ("row 2: mask must be a path inside", f"{HEADER},mask", "1.png,p,a,../m.png"),
    "short row": ("row 3: 2 cells", HEADER, "1.png,p,a", "2.png,p"),
    "no labels": ("column label has 0 different labels", HEADER, "1.png,p,"),
    "labels like names": (
        "column label has 101 different labels", HEADER, *[f"{n}.png,p,{n}" for n in range(101)],
    ),
    "repeated": ("column label occurs twice", f"{HEADER},label", "1.png,p,a,b"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_stops_with_the_row(name: str, tmp_path: Path) -> None:
    message, *lines = DAMAGED[name]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, *lines)
    assert message in str(caught.value)


WRONG = {
    "unknown meaning": ({"columns": "paht=file"}, "unknown meaning 'paht'. Did you mean 'path'"),
    "no sign": ({"columns": "path"}, "--columns must be MEANING=COLUMN"),
    "twice": ({"columns": "path=a,path=b"}, "each meaning once"),
    "left out": ({"columns": "label="}, "path, patient_id, label cannot be left out"),
    "not there": ({"columns": "view=projection"}, "row 1: missing column projection"),
    "names twice": ({"label_names": "a,a"}, "--label-names must be different names"),
    "empty name": ({"label_names": "a,"}, "--label-names must be different names"),
    "other label": ({"label_names": "b,c"}, "row 2: label must be one of b, c; got 'a'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_says_what_was_expected(name: str, tmp_path: Path) -> None:
    given, message = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, HEADER, "1.png,p,a", **given)
    assert message in str(caught.value)


@pytest.mark.parametrize("given", [{"table": "x.csv"}, {"columns": "path=a"}, {"label_names": "a"}])
def test_other_sources_have_their_own_table(given: dict[str, str], tmp_path: Path) -> None:
    found = options.build_config({"source": "rsna", "size": "64x128", **given})
    with pytest.raises(ConfigError, match="is for --source table; rsna has its own"):
        resolve(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table") / "raw"
    layout.write(folder, patients=6, seed=1, size_scale=0.1, prevalence=0.5)
    return folder


def make(made: Path, out: Path, **given: object) -> Result:
    return build(config(made, out, size="91x182", folds=3, **given))


def test_every_format_builds_and_findings_lie_where_they_should(made: Path, tmp_path: Path) -> None:
    result = make(made, tmp_path / "out")
    assert result.summary["counts"]["failed"] == {}
    assert result.summary["label_names"] == ["cancer", "negative"]
    compared = {"dcm": 0, "png": 0, "pgm": 0}
    for sample in outlines.built(tmp_path / "out"):
        about = sample.about
        assert about["label_name"] == about["labels"]["label"]
        name, _, suffix = about["image_id"].rpartition("/")[2].partition(".")
        truth = made / "truth" / about["patient_id"] / f"{name}.json"
        true = [np.array(each["polygon"]) for each in json.loads(truth.read_text())["lesions"]]
        if not true:
            assert (about["rois"], sample.mask.any()) == ([], False)
            continue
        compared[suffix] += 1
        if suffix != "png":
            for found, points in zip(sample.stored_rois(), true, strict=True):
                outlines.check(found, outlines.box_of(points))
            continue
        # The mask file holds every pixel that the outline touches: compare with its own area. The
        # findings of files come after the boxes.
        area, centre = outlines.area_and_centre(sample.stored_rois()[-1])
        stored = cv2.imread(str(made / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert area == pytest.approx(np.count_nonzero(stored))
        assert np.abs(centre - outlines.area_and_centre(true[0])[1]).max() < 0.5
    assert min(compared.values()) >= 2


@pytest.mark.slow
def test_a_row_more_builds_its_own_shard_and_another_mapping_is_refused(
    made: Path, tmp_path: Path
) -> None:
    lines = (made / "table.csv").read_text().splitlines()
    one_image = [line for line in lines[1:] if line.startswith(lines[-1].split(",")[0])]
    fewer = [line for line in lines if line not in one_image]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(fewer) + "\n")
    given = {"table": str(table), "shard_size": 2}
    make(made, tmp_path / "out", **given)
    table.write_text("\n".join(lines) + "\n")
    result = make(made, tmp_path / "out", **given)
    assert result.local["shards_kept"] > 0
    make(made, tmp_path / "again", **given)
    assert tree_of(tmp_path / "out") == tree_of(tmp_path / "again")
    with pytest.raises(ConfigError, match=r"columns: \{\} -> \{'view': ''\}"):
        make(made, tmp_path / "out", **given, columns="view=")


def test_one_command_builds_a_folder_of_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "pid", "outcome"))
        for number in range(6):
            rows.writerow((f"{number}.png", f"p{number}", number % 2))
            picture = rng.integers(0, 255, (200, 100), np.uint8)
            cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    done = run_cli(
        "build", "--source", "table", "--input", tmp_path, "--table", tmp_path / "mine.csv",
        "--columns", "path=file,patient_id=pid,label=outcome", "--label-names", "0,1",
        "--size", "32x64", "--crop", "none", "--orient", "none", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert summary["counts"]["built"] == 6
    assert summary["label_names"] == ["0", "1"]
    assert summary["settings"]["columns"] == {
        "label": "outcome", "path": "file", "patient_id": "pid",
    }  # fmt: skip


def test_images_beside_the_table_have_a_size_in_a_folder_and_in_a_zip(
    made: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        for path in sorted(made.rglob("*")):
            file.write(path, path.relative_to(made))
    folder = read_inputs("table", made)
    root = [record.input for record in folder.records if "/" not in record.input]
    assert len(root) > 2
    assert all(folder.sizes[name] == (made / name).stat().st_size for name in root)
    zipped = read_inputs("table", tmp_path / "data.zip").sizes
    assert {record.input: zipped[record.input] for record in folder.records} == {
        record.input: folder.sizes[record.input] for record in folder.records
    }


def test_settings_of_an_own_table_survive_the_pipe_to_a_child() -> None:
    settings = Settings(size=(64, 128), columns={"path": "file"}, label_names=("a", "b"))
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_a_real_excel_table_of_another_dataset_builds(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "miniddsm"
    given = {
        "table": str(folder / "DataWMask.xlsx"),
        "columns": "path=fullPath,patient_id=fullPath,label=Status,laterality=Side,view=View",
        "missing": "skip",
    }
    found = read(folder, **given)
    assert len(found.records) == 7808
    assert found.card.targets["label"] == ["Benign", "Cancer", "Normal"]
    result = build(config(folder, tmp_path / "out", **{**given, "size": "64x128", "workers": 2}))
    assert result.summary["counts"]["built"] == 24
    assert result.summary["counts"]["excluded"] == {"no_file": 7784}
