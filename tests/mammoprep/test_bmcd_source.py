"""The bmcd source: two sheets, two rounds, what a prior is known to be, hostile workbooks."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.inputs import Inputs, count_warnings, read_inputs
from mammoprep.phantoms import bmcd as layout
from mammoprep.phantoms._workbook import to_bytes
from mammoprep.samples import read_samples
from mammoprep.sources import bmcd

NORMAL = (7, "2019-2016", 3, "Left", 63, "b", 2)
SUSPICIOUS = (1, "2019-2017", 2, "Right", 57, "c", "4a", "BENIGN")
IMAGES = [f"{view}_{name}.dcm" for view, name in layout.SHOTS]

Cells = Sequence[object]


def changed(row: Cells, column: str, value: object) -> Cells:
    place = [*layout.COLUMNS, layout.BIOPSY].index(column)
    return (*row[:place], value, *row[place + 1 :])


def inputs(
    folder: Path,
    normal: Sequence[Cells] = (NORMAL,),
    suspicious: Sequence[Cells] = (SUSPICIOUS,),
    target: str = "",
) -> Inputs:
    (folder / "Description.xlsx").write_bytes(layout.table(normal, suspicious))
    return read_inputs("bmcd", folder, target)


def read(
    folder: Path,
    normal: Sequence[Cells] = (NORMAL,),
    suspicious: Sequence[Cells] = (SUSPICIOUS,),
    target: str = "",
) -> dict[str, Record]:
    return {record.key: record for record in inputs(folder, normal, suspicious, target).records}


def refused(folder: Path, **tables: Sequence[Cells]) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, **tables)
    return str(caught.value)


def touch(folder: Path, *places: str) -> None:
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).touch()


def test_a_row_makes_two_views_of_two_rounds_in_one_group(tmp_path: Path) -> None:
    touch(tmp_path, *(f"Dataset/Suspicious_cases/1/{name}" for name in IMAGES))
    found = inputs(tmp_path, normal=())
    assert [(r.view, r.labels["round"]) for r in found.records] == list(layout.SHOTS)
    assert {r.input for r in found.records} == set(found.sizes)
    assert [r.input.rpartition("/")[2] for r in found.records] == IMAGES
    assert {(r.group, r.patient_id, r.laterality, r.split) for r in found.records} == {
        ("suspicious-1", "suspicious-1", "R", None)
    }
    assert {r.stratum for r in found.records} == {"case=suspicious cancer=0 density=C"}
    assert {r.exam_id for r in found.records} == {"suspicious-1-prior", "suspicious-1-recent"}


def test_the_recent_image_has_what_the_table_says(tmp_path: Path) -> None:
    record = read(tmp_path)["bmcd_suspicious_1_mlo_recent"]
    assert record.labels == {
        "cancer": 0,
        "abnormal": 1,
        "birads": "4a",
        "density": "C",
        "suspicious": 1,
        "case": "suspicious",
        "round": "recent",
        "biopsy": "benign",
        "age": 57,
    }
    assert (record.label, record.annotation, record.masks) == (1, "none", ())


def test_of_a_prior_only_that_it_was_not_suspicious_is_known(tmp_path: Path) -> None:
    row = changed(SUSPICIOUS, layout.BIOPSY, "MALIGNANT")
    records = read(tmp_path, suspicious=[row])
    prior = records["bmcd_suspicious_1_cc_prior"]
    assert prior.labels == {
        "cancer": None,
        "abnormal": 0,
        "birads": None,
        "density": None,
        "suspicious": 0,
        "case": "suspicious",
        "round": "prior",
        "biopsy": None,
        "age": None,
    }
    assert prior.label == 0
    assert prior.stratum == records["bmcd_suspicious_1_cc_recent"].stratum
    assert read(tmp_path, target="cancer")["bmcd_suspicious_1_cc_prior"].label is None
    assert read(tmp_path, target="density")["bmcd_suspicious_1_cc_prior"].label is None


@pytest.mark.parametrize(
    ("text", "biopsy", "cancer"),
    [
        ("BENIGN", "benign", 0),
        ("Malignant", "malignant", 1),
        ("DCIS", "dcis", 1),
        ("NOT AVAILABLE", None, None),
        ("", None, None),
    ],
)
def test_what_follows_from_a_biopsy(
    text: str, biopsy: str | None, cancer: int | None, tmp_path: Path
) -> None:
    rows = [changed(SUSPICIOUS, layout.BIOPSY, text)]
    record = read(tmp_path, suspicious=rows, target="cancer")["bmcd_suspicious_1_cc_recent"]
    assert (record.labels["biopsy"], record.labels["cancer"], record.label) == (
        (biopsy, cancer, cancer)
    )


@pytest.mark.parametrize(
    ("cell", "birads", "label"),
    [(1, "1", 0), (2.0, "2", 0), ("4C", "4c", 1), (5, "5", 1), ("", None, None)],
)
def test_what_follows_from_a_category(
    cell: object, birads: str | None, label: int | None, tmp_path: Path
) -> None:
    rows = [changed(NORMAL, layout.COLUMNS[-1], cell)]
    record = read(tmp_path, normal=rows)["bmcd_normal_7_cc_recent"]
    assert (record.labels["birads"], record.label, record.labels["abnormal"]) == (
        (birads, label, label)
    )


def test_without_a_biopsy_nobody_is_free_of_cancer(tmp_path: Path) -> None:
    record = read(tmp_path)["bmcd_normal_7_cc_recent"]
    assert (record.label, record.labels["cancer"], record.labels["density"]) == (0, None, "B")


def test_equal_numbers_of_both_kinds_are_different_patients(tmp_path: Path) -> None:
    records = read(tmp_path, normal=[changed(NORMAL, "Folder #", 1)])
    assert {record.group for record in records.values()} == {"normal-1", "suspicious-1"}


def test_cases_that_may_be_one_woman_share_a_group(tmp_path: Path) -> None:
    numbers = (46, 47, 48, 49, 50)
    records = read(
        tmp_path,
        normal=[changed(NORMAL, "Folder #", number) for number in numbers],
        suspicious=[changed(SUSPICIOUS, "Folder #", number) for number in numbers],
    )
    groups = {r.patient_id: r.group for r in records.values()}
    assert [groups[f"suspicious-{n}"][-2:] for n in numbers] == ["46", "47", "48", "46", "47"]
    assert [groups[f"normal-{n}"] for n in numbers] == [f"normal-{n}" for n in numbers]


def test_the_full_set_raises_no_warning_about_its_size(tmp_path: Path) -> None:
    numbers = range(1, 51)
    whole = inputs(
        tmp_path,
        [changed(NORMAL, "Folder #", number) for number in numbers],
        [changed(SUSPICIOUS, "Folder #", number) for number in numbers],
    )
    assert count_warnings("bmcd", whole) == []
    assert count_warnings("bmcd", inputs(tmp_path)) != []


@pytest.mark.parametrize("folder", ["", "Dataset/", "Dataset_v3/", "a/b/Dataset/"])
def test_images_are_found_below_any_folder_and_in_any_case(folder: str, tmp_path: Path) -> None:
    place = f"{folder}Suspicious_cases/1/CC_recent.DCM"
    touch(tmp_path, place, f"{folder}Suspicious_cases/1/._CC_prior.dcm")
    records = read(tmp_path)
    assert records["bmcd_suspicious_1_cc_recent"].input == place
    absent = records["bmcd_normal_7_mlo_prior"].input
    assert absent == f"{folder}Normal_cases/7/MLO_prior.dcm"


def test_an_absent_image_keeps_its_record(tmp_path: Path) -> None:
    found = inputs(tmp_path)
    assert len(found.records) == 8
    assert found.records[0].input == "Dataset/Normal_cases/7/CC_prior.dcm"
    assert not found.sizes


def test_two_files_of_one_image_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{top}/Normal_cases/7/CC_prior.dcm" for top in ("Dataset", "copy")))
    assert "two files of the image Normal_cases/7/CC_prior.dcm" in refused(tmp_path)


def test_files_without_a_row_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "Dataset/Normal_cases/8/CC_prior.dcm", "Dataset/Normal_cases/7/CC_other.dcm")
    assert len(read(tmp_path)) == 8


SECOND = changed(SUSPICIOUS, "Folder #", 2)
DAMAGED = {
    "same case twice": ("row 5: the same image is in row 4", (SUSPICIOUS, SUSPICIOUS)),
    "path": ("row 4: Folder # must be the number", (changed(SUSPICIOUS, "Folder #", "../../etc"),)),
    "zero": ("row 4: Folder # must be the number", (changed(SUSPICIOUS, "Folder #", 0),)),
    "half": ("row 4: Folder # must be the number", (changed(SUSPICIOUS, "Folder #", 1.5),)),
    "no number": ("row 4: Folder # is empty", (changed(SUSPICIOUS, "Folder #", ""),)),
    "side": (
        "row 5: Breast (Right/Left) must be one of LEFT, RIGHT",
        (SUSPICIOUS, changed(SECOND, layout.COLUMNS[3], "both")),
    ),
    "no side": ("(Right/Left) is empty", (changed(SUSPICIOUS, layout.COLUMNS[3], ""),)),
    "age": (
        "must be an age in years, got '-3'",
        (changed(SUSPICIOUS, layout.COLUMNS[4], -3),),
    ),
    "density": (
        "density must be one of A, B, C, D, got 'e'",
        (changed(SUSPICIOUS, layout.COLUMNS[5], "e"),),
    ),
    "category": (
        "classification must be a BI-RADS category such as 2 or 4a, got '4d'",
        (changed(SUSPICIOUS, layout.COLUMNS[6], "4d"),),
    ),
    "biopsy": (
        "Biopsy results must be one of BENIGN, MALIGNANT, DCIS, got 'pending'",
        (changed(SUSPICIOUS, layout.BIOPSY, "pending"),),
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_sheet_stops_with_its_name_and_the_row(name: str, tmp_path: Path) -> None:
    message, rows = DAMAGED[name]
    said = refused(tmp_path, suspicious=rows)
    assert said.startswith("Description.xlsx, sheet Suspicious_cases: row ")
    assert message in said


def test_several_bad_rows_are_told_at_once(tmp_path: Path) -> None:
    rows = [changed(NORMAL, "Folder #", f"x{n}") for n in range(7)]
    said = refused(tmp_path, normal=rows)
    assert said.startswith("Description.xlsx, sheet Normal_cases: row 4: ")
    assert "row 8: " in said
    assert "row 9: " not in said
    assert "(and 2 more)" in said


def test_empty_rows_and_notes_beside_the_columns_are_passed_over(tmp_path: Path) -> None:
    rows = [NORMAL, (), ("", "a note", "", "", "", "", ""), changed(NORMAL, "Folder #", 9)]
    assert {r.patient_id for r in read(tmp_path, normal=rows).values()} == {
        "normal-7",
        "normal-9",
        "suspicious-1",
    }


def test_a_sheet_may_be_empty_but_not_both(tmp_path: Path) -> None:
    assert len(read(tmp_path, normal=())) == 4
    assert "no case" in refused(tmp_path, normal=(), suspicious=())


def book(folder: Path, header: Cells, *rows: Cells, above: int = 2) -> Path:
    """Write a workbook whose sheet of normal cases has a header of its own."""
    first = to_bytes([*[("title",)] * above, header, *rows], layout.SHEETS[0])
    second = to_bytes([(*layout.COLUMNS, layout.BIOPSY), SUSPICIOUS], layout.SHEETS[1])
    (folder / "Description.xlsx").write_bytes(layout._joined(first, second))
    return folder


@pytest.mark.parametrize("above", [0, 2, 9])
def test_the_header_is_found_by_its_first_column(above: int, tmp_path: Path) -> None:
    book(tmp_path, layout.COLUMNS, NORMAL, above=above)
    assert len(read_inputs("bmcd", tmp_path).records) == 8
    book(tmp_path, layout.COLUMNS, NORMAL, changed(NORMAL, "Folder #", "?"), above=above)
    with pytest.raises(ConfigError, match=f"row {above + 3}: Folder"):
        read_inputs("bmcd", tmp_path)


def test_columns_may_differ_in_spaces_signs_case_and_order(tmp_path: Path) -> None:
    header = [" folder", *(name.upper().replace(" ", "  ") for name in layout.COLUMNS[1:])]
    records = read_inputs("bmcd", book(tmp_path, header[::-1], NORMAL[::-1])).records
    (recent,) = (r for r in records if r.key == "bmcd_normal_7_cc_recent")
    assert (recent.laterality, recent.labels["age"]) == ("L", 63)
    assert (recent.labels["density"], recent.labels["birads"]) == ("B", "2")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (layout.COLUMNS[:-1], "sheet Normal_cases: row 3: missing column BI-RADS categories for"),
        ((*layout.COLUMNS, "FOLDER"), "sheet Normal_cases: row 3: column Folder # occurs twice"),
        (layout.COLUMNS[1:], "none of the first 10 rows is a header with the column Folder #"),
    ],
)
def test_a_header_that_lacks_a_column_is_refused(
    header: Cells, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_inputs("bmcd", book(tmp_path, header, NORMAL))
    assert message in str(caught.value)


def test_suspicious_cases_need_their_biopsies(tmp_path: Path) -> None:
    sheets = (to_bytes([layout.COLUMNS, NORMAL], name) for name in layout.SHEETS)
    (tmp_path / "Description.xlsx").write_bytes(layout._joined(*sheets))
    with pytest.raises(ConfigError, match="Suspicious_cases: row 1: missing column Biopsy results"):
        read_inputs("bmcd", tmp_path)


def test_a_workbook_without_a_sheet_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "Description.xlsx").write_bytes(to_bytes([layout.COLUMNS, NORMAL], "Sheet1"))
    with pytest.raises(ConfigError, match=r"no sheet Normal_cases. Found: Sheet1\."):
        read_inputs("bmcd", tmp_path)


def test_a_workbook_that_inflates_too_much_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bmcd, "INFLATED_LIMIT", 1000)
    assert "inflates" in refused(tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and then nothing", b"Folder #,Age\n1,57\n"])
def test_what_is_no_workbook_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "Description.xlsx").write_bytes(data)
    with pytest.raises(ConfigError, match=r"Description\.xlsx is no readable Excel file"):
        read_inputs("bmcd", tmp_path)


def test_rounds_stay_together_and_drawings_are_not_needed(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    layout.write(raw, patients=7, seed=1, size_scale=0.04, prevalence=0.3)
    for drawing in raw.rglob("*_GT.jpg"):
        drawing.write_bytes(b"no picture")
    packed = Path(shutil.make_archive(str(tmp_path / "bmcd"), "zip", raw))
    build(
        BuildConfig(
            source="bmcd", settings=Settings(size=(64, 128), folds=3), input=packed, out=out
        )
    )
    _, rows = read_samples(out)
    assert len(rows) == 28
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert len(splits) == 7
    assert all(len(found) == 1 for found in splits.values())
    assert len(set.union(*splits.values())) == 3


def test_phantoms_have_their_findings_in_the_recent_round_only(tmp_path: Path) -> None:
    layout.write(tmp_path / "raw", patients=6, seed=1, size_scale=0.04)
    found: dict[tuple[str, str], set[int]] = {}
    for path in sorted((tmp_path / "raw" / "truth").rglob("*.json")):
        kind, name = path.parts[-3], path.stem.rpartition("_")[2]
        count = len(json.loads(path.read_text())["lesions"])
        found.setdefault((kind, name), set()).add(count)
    assert found == {
        ("Normal_cases", "prior"): {0},
        ("Normal_cases", "recent"): {0},
        ("Suspicious_cases", "prior"): {0},
        ("Suspicious_cases", "recent"): {1},
    }
    names = {path.suffix for path in (tmp_path / "raw" / "Dataset").rglob("*.*")}
    assert names == {".dcm", ".DCM", ".jpg"}


def test_phantoms_are_the_same_for_one_and_two_workers(tmp_path: Path) -> None:
    trees = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        layout.write(out, patients=3, seed=5, size_scale=0.03, workers=workers)
        trees.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert trees[0] == trees[1]
