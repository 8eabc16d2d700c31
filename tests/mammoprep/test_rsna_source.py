"""The rsna source: both tables, every column typed, structure errors named with their rows."""

import shutil
import zipfile
from pathlib import Path

import pytest

from mammoprep.core import cards
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.core.tree import open_tree
from mammoprep.inputs import read_inputs
from mammoprep.sources import rsna

HEADER = (
    "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,"
    "density,machine_id,difficult_negative_case"
)
ROW = "1,10,11,L,CC,61,1,1,0,0,0,B,29,False"


def read(folder: Path, train: str | bytes) -> list[Record]:
    content = train.encode() if isinstance(train, str) else train
    (folder / "train.csv").write_bytes(content)
    return rsna.read(open_tree(folder), cards.load("rsna"))


def test_every_column_lands_in_labels_with_its_type(tmp_path: Path) -> None:
    (record,) = read(tmp_path, f"{HEADER}\n{ROW}\n")
    assert record.labels == {
        "cancer": 1,
        "abnormal": None,
        "birads": "0",
        "density": "B",
        "site_id": 1,
        "age": 61.0,
        "implant": 0,
        "biopsy": 1,
        "invasive": 0,
        "machine_id": 29,
        "difficult_negative_case": False,
        "prediction_id": None,
    }
    assert (record.label, record.laterality, record.view) == (1, "L", "CC")
    assert record.input == "train_images/10/11.dcm"
    assert record.key == "rsna_10_11"
    assert isinstance(record.labels["age"], float)


def test_empty_cells_are_unknown_not_zero(tmp_path: Path) -> None:
    (record,) = read(tmp_path, f"{HEADER}\n2,10,11,R,MLO,,0,0,0,,0,,29,True\n")
    assert record.labels["age"] is None
    assert record.labels["birads"] is None
    assert record.labels["density"] is None
    assert record.labels["difficult_negative_case"] is True


def test_the_byte_order_mark_and_dos_line_ends_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    text = f"{HEADER}\n{ROW}\n".replace("\n", "\r\n")
    assert len(read(tmp_path, b"\xef\xbb\xbf" + text.encode())) == 1


def test_test_rows_have_no_label_and_the_official_split(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(
        "site_id,patient_id,image_id,laterality,view,age,implant,machine_id,prediction_id\n"
        "2,10008,736471439,L,MLO,81,0,21,10008_L\n"
    )
    records = rsna.read(open_tree(tmp_path), cards.load("rsna"))
    assert [(r.split, r.label, r.labels["prediction_id"]) for r in records] == [
        ("test", None, "10008_L")
    ]
    assert records[0].input == "test_images/10008/736471439.dcm"


BROKEN = {
    "missing column": (HEADER.replace(",age", "") + "\n", "row 1: missing column age"),
    "wrong separator": ((HEADER + "\n" + ROW).replace(",", ";"), "Is the separator a comma"),
    "no rows": (HEADER + "\n", "no rows"),
    "empty file": ("", "missing column"),
    "duplicate image": (f"{HEADER}\n{ROW}\n{ROW}\n", "row 3: the same image is in row 2"),
    "bad cancer": (
        f"{HEADER}\n{ROW.replace(',61,1,', ',61,2,')}\n",
        "row 2: cancer must be 0 or 1",
    ),
    "no cancer": (f"{HEADER}\n{ROW.replace(',61,1,', ',61,,')}\n", "row 2: cancer is empty"),
    "bad age": (f"{HEADER}\n{ROW.replace('61', 'old')}\n", "row 2: age must be"),
    "bad side": (f"{HEADER}\n{ROW.replace(',L,', ',left,')}\n", "row 2: laterality must be L or R"),
    "bad density": (f"{HEADER}\n{ROW.replace(',B,', ',E,')}\n", "row 2: density must be"),
    "path in an id": (
        f"{HEADER}\n{ROW.replace(',11,', ',../../etc,')}\n",
        "row 2: image_id must be",
    ),
    "short row": (f"{HEADER}\n{ROW}\n1,2\n", "row 3: 2 cells"),
    "NUL byte": (f"{HEADER}\n{ROW}\0\n", "row 2"),
    "repeated column": (f"{HEADER},age\n{ROW},3\n", "column age occurs twice"),
    "not text": (b"\xff\xff\x00\x01", "is not UTF-8 text: byte 0 is 0xff"),
    "huge field": (f"{HEADER}\n{'x' * 200_000}\n", "row 2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_table_stops_with_the_row(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_many_errors_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    rows = "\n".join(ROW.replace("11", str(100 + n)).replace("61", "x") for n in range(12))
    with pytest.raises(ConfigError, match="and 7 more"):
        read(tmp_path, f"{HEADER}\n{rows}\n")


def test_the_dataset_is_found_in_its_folder_its_parent_and_in_a_zip(
    phantom: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(phantom.rglob("*")):
            if path.is_file() and "truth" not in path.parts:
                file.write(path, f"rsna-2022/{path.relative_to(phantom)}")
    parent = tmp_path / "parent"
    shutil.copytree(phantom, parent / "download")
    trees = [read_inputs("rsna", place) for place in (phantom, parent, archive)]
    assert trees[0].records == trees[1].records == trees[2].records
    assert trees[0].sizes == trees[1].sizes == trees[2].sizes
    assert set(trees[0].sizes) >= {record.input for record in trees[0].records}


def test_a_folder_that_holds_something_else_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(ConfigError) as caught:
        read_inputs("rsna", tmp_path)
    message = str(caught.value)
    assert "train.csv" in message
    assert "holiday" in message
    assert "kaggle" in message


def test_a_cut_zip_is_a_plain_error(phantom: Path, tmp_path: Path) -> None:
    whole = shutil.make_archive(str(tmp_path / "data"), "zip", phantom)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(Path(whole).read_bytes()[:5000])
    with pytest.raises(ConfigError, match="cannot be read as a zip"):
        read_inputs("rsna", cut)


def test_the_real_table_reads_whole(real_data: Path) -> None:
    inputs = read_inputs("rsna", real_data / "rsna")
    training = [record for record in inputs.records if record.split is None]
    assert len(training) == 54706
    assert len({record.group for record in training}) == 11913
    assert sum(record.label or 0 for record in training) == 1158
    assert len(inputs.sizes) == 4


def test_patients_with_all_four_views_have_an_exam(phantom: Path) -> None:
    table = phantom / "train.csv"
    lines = table.read_text().splitlines()
    header = lines[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]
    patient = rows[0]["patient_id"]
    kept = [
        line
        for line, row in zip(lines[1:], rows, strict=True)
        if (row["patient_id"], row["laterality"], row["view"]) != (patient, "L", "CC")
    ]
    table.write_text("\n".join([lines[0], *kept]) + "\n")
    for record in read_inputs("rsna", phantom).records:
        expected = None if record.patient_id == patient else record.patient_id
        assert record.exam_id == expected
