"""The cbis-ddsm source: rows become views, every mask is repaired or refused by name."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.core.tree import open_tree
from mammoprep.inputs import count_warnings, read_inputs
from mammoprep.phantoms import cbis_ddsm as layout
from mammoprep.sources import cbis_ddsm

CARD = cards.load("cbis-ddsm")
MASS, CALC = "mass_case_description_{}_set.csv", "calc_case_description_{}_set.csv"
SHARED = "left or right breast,image view,abnormality id,abnormality type"
REST = "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"
HEADERS = {
    MASS: f"patient_id,breast_density,{SHARED},mass shape,mass margins,{REST}",
    CALC: f"patient_id,breast density,{SHARED},calc type,calc distribution,{REST}",
}


def row(name: str = "Mass-Training_P_00001_LEFT_CC", **changes: str) -> str:
    """Return one line of a table; the folder's name says the rest."""
    part, _, number, side, view = name.replace("-", "_", 1).split("_", 1)[1].split("_")
    mass = name.startswith("Mass")
    cells = {
        "patient": f"P_{number}", "density": "3", "side": side, "view": view, "id": "1",
        "type": "mass" if mass else "calcification",
        "shape": "OVAL" if mass else "AMORPHOUS",
        "margins": "CIRCUMSCRIBED" if mass else "CLUSTERED",
        "assessment": "4", "pathology": "BENIGN", "subtlety": "3",
        "image": f"{name}/1.2/1.3/000000.dcm",
        "crop": f"{name}_1/1.4/1.5/000000.dcm",
        "mask": f'"{name}_1/1.4/1.5/000001.dcm\n"',
    }  # fmt: skip
    assert part in ("Training", "Test")
    return ",".join({**cells, **changes}.values())


def write_tables(folder: Path, *rows: str) -> None:
    for table in HEADERS:
        for part, name in (("Training", "train"), ("Test", "test")):
            start = "mass" if table == MASS else "calcification"
            lines = [r for r in rows if f"-{part}_" in r and f",{start}," in r]
            text = "\n".join([HEADERS[table], *lines]) + "\n"
            (folder / table.format(name)).write_text(text)


def read(folder: Path, *rows: str) -> list[Record]:
    write_tables(folder, *rows)
    return cbis_ddsm.read(open_tree(folder), CARD)


def test_a_row_becomes_a_view_with_its_labels_and_clean_paths(tmp_path: Path) -> None:
    (record,) = read(tmp_path, row(pathology="BENIGN_WITHOUT_CALLBACK", margins="NA"))
    assert record.labels == {
        "cancer": 0,
        "abnormal": 1,
        "birads": "4",
        "density": "C",
        "kind": "mass",
        "pathology": "BENIGN_WITHOUT_CALLBACK",
        "subtlety": 3,
        "findings": 1,
        "mass_shape": "OVAL",
        "mass_margins": None,
        "calc_type": None,
        "calc_distribution": None,
        "tables": "train",
    }
    assert (record.label, record.laterality, record.view, record.split) == (0, "L", "CC", None)
    assert record.key == "cbis-ddsm_p_00001_l_cc"
    assert record.group == "P_00001"
    assert record.annotation == "full"
    assert record.masks[0].inputs == ("Mass-Training_P_00001_LEFT_CC_1/1.4/1.5/000001.dcm",)
    assert record.masks[0].pathology == "benign"


def test_unknown_density_subtlety_and_assessment_are_null(tmp_path: Path) -> None:
    (record,) = read(tmp_path, row(density="0", subtlety="0", assessment=""))
    assert record.labels["density"] is None
    assert record.labels["subtlety"] is None
    assert record.labels["birads"] is None


def test_a_view_with_a_benign_and_a_malignant_finding_is_malignant(tmp_path: Path) -> None:
    (record,) = read(
        tmp_path,
        row(subtlety="2", assessment="0"),
        row(id="2", shape="ROUND", pathology="MALIGNANT", subtlety="5", assessment="3"),
    )
    assert record.label == 1
    assert [mask.pathology for mask in record.masks] == ["benign", "malignant"]
    assert record.labels["pathology"] == "BENIGN+MALIGNANT"
    assert record.labels["mass_shape"] == "OVAL+ROUND"
    assert (record.labels["birads"], record.labels["subtlety"]) == ("0", 5)
    assert record.labels["findings"] == 2


def test_a_view_in_both_kinds_of_table_is_one_record(tmp_path: Path) -> None:
    (record,) = read(tmp_path, row(), row("Calc-Training_P_00001_LEFT_CC"))
    assert [mask.kind for mask in record.masks] == ["mass", "calcification"]
    assert record.labels["kind"] == "calcification+mass"
    assert record.labels["calc_type"] == "AMORPHOUS"


def test_a_participant_in_both_parts_is_in_test_only(tmp_path: Path) -> None:
    records = read(
        tmp_path,
        row(pathology="MALIGNANT"),
        row("Calc-Test_P_00001_LEFT_CC"),
        row("Mass-Training_P_00001_RIGHT_CC"),
        row("Mass-Training_P_00002_RIGHT_CC"),
    )
    found = {r.key.removeprefix("cbis-ddsm_p_"): (r.split, r.excluded) for r in records}
    assert found == {
        "00001_l_cc": ("test", None),
        "00001_r_cc": ("test", "patient_in_official_test"),
        "00002_r_cc": (None, None),
    }
    both = records[0]
    assert both.labels["tables"] == "test+train"
    assert both.label == 1
    assert both.image_id == "Calc-Test_P_00001_LEFT_CC"


def test_the_kind_can_be_the_label(tmp_path: Path) -> None:
    write_tables(tmp_path, row(), row("Calc-Training_P_00002_LEFT_CC"))
    inputs = read_inputs("cbis-ddsm", tmp_path, "kind")
    assert [record.label for record in inputs.records] == [0, 1]


ROI = "Mass-Training_P_00001_LEFT_CC_1"
FOLDERS = {  # what is on disk: the likeliest file, then the other one
    "the table's own": (f"{ROI}/1.4/1.5/000001.dcm", f"{ROI}/1.4/1.5/000000.dcm"),
    "named after the series": (
        f"CBIS-DDSM/{ROI}/1.4/1.5/1-1.dcm",
        f"CBIS-DDSM/{ROI}/1.4/0.9/1-2.dcm",
    ),
    "named after the kind": (
        f"m/CBIS-DDSM/{ROI}/study/1.0-ROI mask images-2/1-1.dcm",
        f"m/CBIS-DDSM/{ROI}/study/1.0-cropped images-1/1-2.dcm",
    ),
    "in one series": (f"{ROI}/study/1.0-ROI mask-2/1-2.dcm", f"{ROI}/study/1.0-ROI mask-2/1-1.dcm"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_likeliest_file_of_a_findings_folder_comes_first(name: str, tmp_path: Path) -> None:
    for path in FOLDERS[name]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    (record,) = read(tmp_path, row())
    assert record.masks[0].inputs == FOLDERS[name]


BROKEN = {
    "bad participant": (row(patient="1"), "row 2: patient_id must be a participant"),
    "bad side": (row(side="left"), "row 2: left or right breast must be one of LEFT, RIGHT"),
    "bad pathology": (row(pathology="UNPROVEN"), "row 2: pathology must be one of MALIGNANT"),
    "no pathology": (row(pathology=""), "row 2: pathology is empty"),
    "bad density": (row(density="5"), "row 2: breast_density must be one of"),
    "other kind": (
        row(type="calcification").replace(",calcification,", ",asymmetry,mass,"),
        "15 cells",
    ),
    "bad path": (
        row(image="../../etc/passwd/000000.dcm"),
        "row 2: image file path must be a path of four parts",
    ),
    "hidden folder": (
        row(mask="Mass-Training_P_00001_LEFT_CC_1/../1.5/000001.dcm"),
        "row 2: ROI mask file path must be",
    ),
    "same finding twice": (f"{row()}\n{row()}", "row 3: the same finding is in row 2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_table_stops_with_the_row(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    write_tables(tmp_path, row())
    (tmp_path / MASS.format("train")).write_text(f"{HEADERS[MASS]}\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        cbis_ddsm.read(open_tree(tmp_path), CARD)
    assert message in str(caught.value)


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    write_tables(tmp_path, row())
    (tmp_path / CALC.format("test")).unlink()
    with pytest.raises(ConfigError, match=r"calc_case_description_test_set[.]csv is missing"):
        cbis_ddsm.read(open_tree(tmp_path), CARD)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cbis") / "raw"
    layout.write(folder, patients=5, seed=1, size_scale=0.25, workers=2)
    return folder


def make(folder: Path, out: Path) -> tuple[dict[str, dict], dict[str, str], dict]:
    """Build; return samples by key, failure codes by image, and the counts."""
    settings = Settings(size=(128, 256), folds=2)
    result = build(BuildConfig(source="cbis-ddsm", settings=settings, input=folder, out=out))
    rows = pyarrow.parquet.read_table(out / "samples.parquet").to_pylist()
    lines = map(json.loads, (out / "failures.jsonl").read_text().splitlines())
    failures = {line["input"].split("/")[-4 if "CBIS" in line["input"] else 0]: line["code"]
                for line in lines}  # fmt: skip
    short = {row["key"].removeprefix("cbis-ddsm_p_"): row for row in rows}
    return short, failures, result.summary["counts"]


@pytest.fixture(scope="module")
def built(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return make(raw, tmp_path_factory.mktemp("cbis") / "out")


def about_masks(sample: dict) -> list[str]:
    return sorted(code for code in sample["warnings"] if code.startswith("mask"))


def test_every_odd_mask_is_repaired_or_refused_by_name(built: tuple) -> None:
    samples, failures, counts = built
    odd = {key: about_masks(sample) for key, sample in samples.items() if about_masks(sample)}
    assert odd == {
        "00001_l_cc": ["mask_swapped"],
        "00001_l_mlo": ["mask_rescaled"],
        "00029_l_cc": ["mask_rescaled", "mask_swapped"],
    }
    assert failures == {
        "Mass-Training_P_00029_LEFT_MLO": "mask_missing",
        "Calc-Training_P_00029_RIGHT_CC": "mask_not_binary",
        "Calc-Training_P_00029_RIGHT_MLO": "mask_size_mismatch",
    }
    assert counts["excluded"] == {"patient_in_official_test": 2}
    assert (counts["inputs"], counts["built"]) == (20, 15)


def test_no_participant_is_on_both_sides(built: tuple) -> None:
    sides = {(s["group"], s["split"] == "test") for s in built[0].values()}
    assert len(sides) == len({group for group, _ in sides})
    assert {group for group, test in sides if test} == {"P_00015", "P_00022"}


def test_the_area_of_every_finding_is_the_truth_within_one_percent(raw: Path, built: tuple) -> None:
    for key, sample in built[0].items():
        participant, side, view = key.split("_")
        place = raw / "truth" / f"P_{participant}"
        name = f"{'LEFT' if side == 'l' else 'RIGHT'}_{view.upper()}"
        truth = json.loads((place / f"{name}.json").read_text())["lesions"]
        drawn = np.count_nonzero(cv2.imread(str(place / f"{name}.lesions.png"), 0))
        geometry = Geometry.from_json(json_geometry(sample))
        found = sum(area(geometry, roi) for roi in sample["rois"])
        assert abs(found / drawn - 1) < 0.01, key
        kinds = Counter((roi["kind"], roi["pathology"]) for roi in sample["rois"])
        assert kinds == Counter((lesion["kind"], lesion["pathology"]) for lesion in truth)


def json_geometry(sample: dict) -> dict:
    start = "geometry."
    return {k.removeprefix(start): v for k, v in sample.items() if k.startswith(start)}


def area(geometry: Geometry, roi: dict) -> float:
    points = geometry.to_stored([tuple(point) for point in roi["polygon"]])
    return float(cv2.contourArea(np.asarray(points, np.float32)))


def test_the_tables_own_folders_give_the_same_samples(
    raw: Path, built: tuple, tmp_path: Path
) -> None:
    """Lay the files out as the tables name them, and build again."""
    old = tmp_path / "old"
    for name in cbis_ddsm.TABLES:
        old.mkdir(exist_ok=True)
        shutil.copy(raw / name, old / name)
        for line in csv.DictReader((raw / name).read_text().splitlines(keepends=True)):
            image, crop, mask = (line[path].strip() for path in cbis_ddsm.PATHS)
            copy_series(raw, old, image)
            copy_series(raw, old, mask, crop)
    samples, failures, counts = make(old, tmp_path / "out")
    assert counts == built[2]
    assert failures == built[1]
    assert {k: s["png.sha256"] for k, s in samples.items()} == {
        k: s["png.sha256"] for k, s in built[0].items()
    }
    assert {k: about_masks(s) for k, s in samples.items()} == {
        k: about_masks(s) for k, s in built[0].items()
    }


def copy_series(raw: Path, old: Path, *names: str) -> None:
    """Copy the files of a folder to the paths of a table: by series, else in their order."""
    files = sorted((raw / "CBIS-DDSM" / names[0].split("/")[0]).rglob("*.dcm"))
    apart = len({name.split("/")[2] for name in names}) > 1
    for name, file in zip(names if apart else sorted(names), files, strict=bool(files)):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, old / name)


@pytest.fixture(scope="module")
def published(real_data: Path) -> list[Record]:
    inputs = read_inputs("cbis-ddsm", real_data / "tables" / "cbis_ddsm")
    assert count_warnings("cbis-ddsm", inputs) == []
    return inputs.records


def test_the_real_tables_give_the_known_numbers(published: list[Record]) -> None:
    assert len(published) == 3032
    assert sum(len(record.masks) for record in published) == 3568
    assert len({record.group for record in published}) == 1566
    training = [r for r in published if r.split is None]
    test = [r for r in published if r.split == "test" and r.excluded is None]
    left_out = [r for r in published if r.excluded]
    assert (len(training), sum(r.label for r in training)) == (2356, 1065)
    assert (len(test), sum(r.label for r in test)) == (641, 267)
    assert len(left_out) == 35
    assert {r.excluded for r in left_out} == {"patient_in_official_test"}
    assert len({r.group for r in test}) == 349
    assert not {r.group for r in test} & {r.group for r in training}


def test_the_real_views_in_several_tables_are_the_known_ones(published: list[Record]) -> None:
    both_parts = [r for r in published if r.labels["tables"] == "test+train"]
    assert len(both_parts) == 29
    assert {r.split for r in both_parts} == {"test"}
    assert sum(r.labels["kind"] == "calcification+mass" for r in published) == 71
    mixed = [r for r in published if {m.pathology for m in r.masks} == {"benign", "malignant"}]
    assert len(mixed) == 33
    assert {r.label for r in mixed} == {1}


def test_thirty_one_real_participants_are_in_both_parts(
    real_data: Path, published: list[Record]
) -> None:
    parts: dict[str, set[str]] = {}
    for path in sorted((real_data / "tables" / "cbis_ddsm").glob("*.csv")):
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                parts.setdefault(line["patient_id"], set()).add(path.stem.split("_")[3])
    both = {participant for participant, found in parts.items() if len(found) == 2}
    assert len(both) == 31
    kept = {r.group for r in published if r.excluded is None and r.split is None}
    assert not both & kept
    touched = {r.group for r in published if r.excluded or r.labels["tables"] == "test+train"}
    assert touched == both


def test_no_real_path_keeps_its_line_end(published: list[Record]) -> None:
    assert all(name == name.strip() for record in published for name in record.files)
