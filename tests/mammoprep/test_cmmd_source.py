"""The cmmd source: pictures and rows meet by patient and side; what does not meet is counted."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest

from mammoprep import plan
from mammoprep.builder import Watcher, build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.core.tree import open_tree
from mammoprep.inputs import read_inputs
from mammoprep.phantoms import cmmd as layout
from mammoprep.phantoms._workbook import to_bytes
from mammoprep.sources import cmmd

CARD = cards.load("cmmd")
ROW = ("D1-0001", "R", 44, 2, "calcification", "Benign", "")


def write_sheet(folder: Path, *rows: tuple, header: tuple = layout.COLUMNS) -> Path:
    (folder / cmmd.TABLE).write_bytes(to_bytes([header, *rows], "Sheet1"))
    return folder


def with_file(folder: Path, patient: str = "D1-0001", name: str = "1-1") -> str:
    path = f"CMMD/{patient}/07-18-2010-NA-NA-1/1.000000-NA-2/{name}.dcm"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(b"x")
    return path


def settled(folder: Path, headers: dict[str, dict], target: str = "cancer") -> list[Record]:
    return cmmd.settle(read_inputs("cmmd", folder, target).records, headers)[0]


def test_a_picture_gets_the_row_of_its_patient_and_side(tmp_path: Path) -> None:
    write_sheet(tmp_path, ROW, ("D1-0001", "L", 44, 2, "mass", "Malignant", "Luminal A"))
    paths = [with_file(tmp_path, name=f"1-{n}") for n in (1, 2)]
    headers = {
        paths[0]: {"laterality": "R", "view": "CC"},
        paths[1]: {"laterality": "L", "view": "MLO"},
    }
    right, left = settled(tmp_path, headers)
    assert (right.laterality, right.view, right.label) == ("R", "CC", 0)
    assert (left.laterality, left.view, left.label) == ("L", "MLO", 1)
    assert left.labels == {
        "cancer": 1, "abnormal": 1, "birads": None, "density": None, "age": 44, "kind": "mass",
        "subtype": "Luminal A", "subset": "D1", "in_sheet": True,
    }  # fmt: skip
    assert right.labels["subtype"] is None
    assert right.group == left.group == "D1-0001"
    assert right.key == "cmmd_d1-0001_07-18-2010-na-na-1_1-000000-na-2_1-1"


@pytest.mark.parametrize("header", [{"laterality": "L", "view": "CC"}, {"laterality": None}, {}])
def test_a_picture_without_a_row_is_never_taken_for_normal(header: dict, tmp_path: Path) -> None:
    write_sheet(tmp_path, ROW)
    path = with_file(tmp_path)
    picture, row = settled(tmp_path, {path: header})
    assert picture.input == path
    assert picture.label is None
    assert picture.labels["cancer"] is None
    assert picture.labels["abnormal"] is None
    assert picture.labels["in_sheet"] is False
    assert picture.labels["age"] == 44
    assert row.input == "CMMD/D1-0001/R"


def test_a_row_without_a_picture_is_counted(tmp_path: Path) -> None:
    write_sheet(tmp_path, ROW, ("D2-0007", "L", 60, 2, "both", "Malignant", ""))
    path = with_file(tmp_path)
    inputs = read_inputs("cmmd", tmp_path)
    records = settled(tmp_path, {path: {"laterality": "R", "view": "CC"}})
    assert [record.input for record in records] == [path, "CMMD/D2-0007/L"]
    planned = plan.make(records, inputs.sizes, Settings(size=(64, 128), missing="skip"))
    assert planned.excluded == {"no_file": 1}
    assert planned.inputs == 2


def test_what_is_left_over_is_told_in_numbers(tmp_path: Path) -> None:
    write_sheet(tmp_path, ROW, ("D2-0007", "L", 60, 2, "both", "Malignant", ""))
    paths = [with_file(tmp_path, name=f"1-{n}") for n in (1, 2, 3)]
    headers = {
        paths[0]: {"laterality": "R", "view": "CC"},
        paths[1]: {"laterality": "L", "view": "CC"},
        paths[2]: {"failure": "unreadable"},
    }
    _, lines = cmmd.settle(read_inputs("cmmd", tmp_path).records, headers)
    assert lines == [
        f"2 of 3 images have no row in {cmmd.TABLE}, 1 of them because no side is stated; "
        "their labels are unknown.",
        f"1 of 2 rows in {cmmd.TABLE} have no image.",
    ]


def test_files_whose_names_a_key_cannot_tell_apart_get_keys_that_differ(tmp_path: Path) -> None:
    write_sheet(tmp_path, ROW)
    for name in ("1 1", "1-1", "2-1"):
        with_file(tmp_path, "D1-0009", name)
    keys = [r.key for r in read_inputs("cmmd", tmp_path).records if r.group == "D1-0009"]
    plain = "cmmd_d1-0009_07-18-2010-na-na-1_1-000000-na-2"
    assert len(set(keys)) == 3
    assert f"{plain}_2-1" in keys
    assert sum(key.startswith(f"{plain}_1-1-") for key in keys) == 2


def test_the_kind_and_the_subtype_can_be_the_label(tmp_path: Path) -> None:
    write_sheet(tmp_path, ("D2-0001", "R", 44, 2, "both", "Malignant", "triple negative"), ROW)
    paths = [with_file(tmp_path, patient) for patient in ("D1-0001", "D2-0001")]
    headers = {path: {"laterality": "R", "view": "CC"} for path in paths}
    assert [record.label for record in settled(tmp_path, headers, "kind")] == [1, 2]
    assert [record.label for record in settled(tmp_path, headers, "subtype")] == [None, 3]


BROKEN = {
    "bad patient": ((*("../etc",), *ROW[1:]), "row 2: ID1 must be a patient"),
    "bad side": (("D1-0001", "B", *ROW[2:]), "row 2: LeftRight must be one of L, R"),
    "bad age": (("D1-0001", "R", "old", *ROW[3:]), "row 2: Age must be an age"),
    "bad kind": ((*ROW[:4], "cyst", *ROW[5:]), "row 2: abnormality must be one of"),
    "bad class": ((*ROW[:5], "Unsure", ""), "row 2: classification must be one of"),
    "no class": ((*ROW[:5], "", ""), "row 2: classification is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_sheet_stops_with_the_row(name: str, tmp_path: Path) -> None:
    row, message = BROKEN[name]
    write_sheet(tmp_path, row)
    with pytest.raises(ConfigError) as caught:
        cmmd.read(open_tree(tmp_path), CARD)
    assert message in str(caught.value)


def test_a_breast_with_two_rows_is_refused(tmp_path: Path) -> None:
    write_sheet(tmp_path, ROW, ROW)
    with pytest.raises(ConfigError, match="row 3: the same image is in row 2"):
        cmmd.read(open_tree(tmp_path), CARD)


def test_an_absent_column_is_named(tmp_path: Path) -> None:
    write_sheet(tmp_path, ROW[:5], header=layout.COLUMNS[:5])
    with pytest.raises(ConfigError, match="missing column classification, subtype"):
        cmmd.read(open_tree(tmp_path), CARD)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cmmd") / "raw"
    layout.write(folder, patients=5, seed=1, size_scale=0.1)
    return folder


def test_every_header_of_the_phantom_says_its_side_and_view(raw: Path) -> None:
    tree = open_tree(raw)
    found = Counter()
    for record in cmmd.read(tree, CARD):
        header = cmmd.survey(tree.read(record.input))
        found[header["laterality"], header["view"]] += 1
    assert found == {("L", "CC"): 4, ("L", "MLO"): 4, ("R", "CC"): 5, ("R", "MLO"): 4,
                     (None, "MLO"): 1}  # fmt: skip


def test_a_removed_patient_leaves_rows_without_files(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "part"
    shutil.copytree(raw, folder)
    shutil.rmtree(folder / "CMMD" / "D1-0003")
    inputs = read_inputs("cmmd", folder)
    headers = {
        record.input: cmmd.survey(inputs.tree.read(record.input))
        for record in inputs.records
        if record.input in inputs.sizes
    }
    records = settled(folder, headers)
    absent = [record.input for record in records if record.input not in inputs.sizes]
    assert absent == ["CMMD/D1-0003/L", "CMMD/D1-0003/R"]
    assert len(records) == 16


def test_the_real_sheet_gives_the_known_numbers(real_data: Path) -> None:
    records = read_inputs("cmmd", real_data / "tables" / "cmmd").records
    assert len(records) == 1872
    assert len({record.group for record in records}) == 1775
    assert Counter(record.label for record in records) == {0: 556, 1: 1316}
    assert Counter(record.labels["kind"] for record in records) == {
        "mass": 1149,
        "both": 461,
        "calcification": 262,
    }
    assert Counter(record.labels["subset"] for record in records) == {"D1": 1107, "D2": 765}
    assert sum(r.labels["subset"] == "D2" and r.label == 0 for r in records) == 12
    assert sum(record.labels["subtype"] is not None for record in records) == 749
    sides = Counter(record.group for record in records)
    assert sum(count == 2 for count in sides.values()) == 97


def test_the_real_sheet_and_the_real_list_agree(real_data: Path) -> None:
    folder = real_data / "tables" / "cmmd"
    with (folder / "cmmd_raw_label.csv").open(newline="") as file:
        listed = {(line["ID1"], line["LeftRight"], line["classification"], line["Age"])
                  for line in csv.DictReader(file)}  # fmt: skip
    found = {
        (r.group, r.laterality, ["Benign", "Malignant"][r.label], str(r.labels["age"]))
        for r in read_inputs("cmmd", folder).records
    }
    assert found == listed


class Told(Watcher):
    """Keeps what a build tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def test_a_build_joins_sheet_and_headers_and_tells_what_is_left(raw: Path, tmp_path: Path) -> None:
    told, out = Told(), tmp_path / "out"
    config = BuildConfig(
        source="cmmd", settings=Settings(size=(64, 128), folds=2), input=raw, out=out, workers=2
    )
    result = build(config, told)
    rows = pyarrow.parquet.read_table(out / "samples.parquet").to_pylist()
    assert result.summary["counts"]["built"] == 18
    met = [row for row in rows if row["labels.in_sheet"]]
    assert len(met) == 13
    assert {row["label"] for row in met} == {0, 1}
    assert {row["label"] for row in rows if row not in met} == {None}
    assert {(row["laterality"], row["view"]) for row in met} == {
        (side, view) for side in "LR" for view in ("CC", "MLO")
    }
    expected = "5 of 18 images have no row in CMMD_clinicaldata_revision.xlsx, 1 of them because"
    assert any(expected in line for line in told.lines), told.lines
