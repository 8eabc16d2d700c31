"""The mini-ddsm source: chain codes first, drawings else, and a status that is the case's."""

import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from outlines import area_and_centre, built
from PIL import Image

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.decode import masks, raster
from mammoprep.inputs import read_inputs
from mammoprep.phantoms import _workbook
from mammoprep.phantoms import mini_ddsm as phantom
from mammoprep.pipeline import bind
from mammoprep.sources import _overlay
from mammoprep.sources.mini_ddsm import COLUMNS

NUMBERS = {"Age": 66, "Density": 3}
SQUARE = "100 200 " + " ".join("2" * 40 + "4" * 20 + "6" * 40 + "0" * 20) + " #"


def row(
    status: str = "Cancer", name: str = "C_0029_1.LEFT_CC", contours: int = 0, **changes: object
) -> tuple[object, ...]:
    side, _, view = name.split(".")[1].partition("_")
    folder = f"{status}\\{name.split('_')[1]}\\"
    cells: dict[str, object] = {
        "fullPath": f"{folder}{name}.jpg",
        "fileName": f"{name}.jpg",
        "View": view,
        "Side": side,
        "Status": status,
        "Tumour_Contour": f"{folder}{name}_Mask.jpg" if contours else "-",
        "Tumour_Contour2": f"{folder}{name}_MASK2.jpg" if contours > 1 else "-",
        **NUMBERS,
        **changes,
    }
    return tuple(cells[column] for column in COLUMNS)


def overlay(*pathologies: str, chain: str = SQUARE, kind: str = "MASS SHAPE OVAL") -> str:
    lines = [f"TOTAL_ABNORMALITIES {len(pathologies)}"]
    for place, pathology in enumerate(pathologies, 1):
        lines += [f"ABNORMALITY {place}", f"LESION_TYPE {kind}", f"ASSESSMENT {2 + place}"]
        lines += ["SUBTLETY 3", f"PATHOLOGY {pathology}", "TOTAL_OUTLINES 1 ", "BOUNDARY", chain]
    return "\n".join([*lines, ""])


def read(folder: Path, *rows: tuple[object, ...], target: str = "", **files: str) -> list[Record]:
    """Read a table; ``files`` are overlays by the stem of their picture's place in the table."""
    (folder / "DataWMask.xlsx").write_bytes(_workbook.to_bytes([COLUMNS, *rows], "Data"))
    for place, text in files.items():
        path = str(rows[int(place.removeprefix("row"))][0]).replace("\\", "/")
        target_file = (folder / path).with_suffix(".OVERLAY")
        target_file.parent.mkdir(parents=True, exist_ok=True)
        target_file.write_text(text)
    return read_inputs("mini-ddsm", folder, target).records


def config(folder: Path, out: Path, **changes: object) -> BuildConfig:
    settings = Settings(size=(256, 512), folds=2, **changes)  # type: ignore[arg-type]
    return BuildConfig(source="mini-ddsm", settings=settings, input=folder, out=out)


def test_a_row_arrives_with_its_types(tmp_path: Path) -> None:
    (record,) = read(tmp_path, row("Benign", contours=2))
    assert record.key == "mini-ddsm_c_0029_1-left_cc"
    assert record.input == "Benign/0029/C_0029_1.LEFT_CC.jpg"
    assert (record.laterality, record.view, record.group) == ("L", "CC", "C_0029")
    assert record.labels == {
        "cancer": 0,
        "abnormal": 1,
        "birads": None,
        "density": "C",
        "age": 66.0,
        "status": "benign",
        "kind": None,
        "outline": "drawn",
    }
    assert [mask.inputs for mask in record.masks] == [
        ("Benign/0029/C_0029_1.LEFT_CC_Mask.jpg",),
        ("Benign/0029/C_0029_1.LEFT_CC_MASK2.jpg",),
    ]
    assert all(mask.outline and mask.pathology == "benign" for mask in record.masks)


@pytest.mark.parametrize(
    ("status", "contours", "image", "case", "cancer", "abnormal", "annotation"),
    [
        ("Normal", 0, 0, 0, 0, 0, "full"),
        ("Benign", 1, 1, 1, 0, 1, "full"),
        ("Benign", 0, None, 1, 0, None, "none"),
        ("Cancer", 1, 2, 2, 1, 1, "full"),
        ("Cancer", 0, None, 2, None, None, "none"),
    ],
)
def test_the_status_is_the_case_s_and_an_image_without_outline_is_unknown(
    status, contours, image, case, cancer, abnormal, annotation, tmp_path: Path
) -> None:
    (one,) = read(tmp_path, row(status, contours=contours))
    (other,) = read(tmp_path, row(status, contours=contours), target="case")
    assert (one.label, other.label) == (image, case)
    assert (one.labels["cancer"], one.labels["abnormal"]) == (cancer, abnormal)
    assert one.annotation == annotation


@pytest.mark.parametrize(
    ("pathologies", "label"),
    [
        (("MALIGNANT",), 2),
        (("BENIGN", "MALIGNANT"), 2),
        (("BENIGN",), 1),
        (("BENIGN_WITHOUT_CALLBACK", "BENIGN"), 1),
        (("UNPROVEN",), 2),
    ],
)
def test_an_image_of_a_cancer_case_has_the_class_of_its_own_findings(
    pathologies: tuple[str, ...], label: int, tmp_path: Path
) -> None:
    (record,) = read(tmp_path, row(contours=1), row0=overlay(*pathologies))
    assert record.label == label
    assert record.labels["cancer"] == int(label == 2)
    assert record.labels["birads"] == str(2 + len(pathologies))


def test_an_overlay_comes_before_the_drawing_at_half_its_scale(tmp_path: Path) -> None:
    (record,) = read(tmp_path, row(contours=1), row0=overlay("MALIGNANT"))
    (lesion,) = record.lesions
    assert sorted(lesion.polygon) == [
        (50.25, 100.25),
        (50.25, 110.25),
        (70.25, 100.25),
        (70.25, 110.25),
    ]
    assert (lesion.kind, lesion.pathology) == ("mass", "malignant")
    assert record.masks == ()
    assert (record.labels["kind"], record.labels["outline"]) == ("mass", "overlay")


DAMAGED = {
    "empty": "",
    "cut": overlay("MALIGNANT")[:-60],
    "a letter": overlay("MALIGNANT").replace(" 6 6 ", " 6 x ", 1),
    "a direction too many": overlay("MALIGNANT").replace(" 6 6 ", " 6 8 ", 1),
    "open": overlay("MALIGNANT", chain="100 200 " + "2 " * 60 + "#"),
    "off the film": overlay("MALIGNANT", chain="0 200 " + "6 4 2 0 " * 60 + "#"),
    "no start": overlay("MALIGNANT", chain="#"),
    "fewer than told": overlay("MALIGNANT").replace("ABNORMALITIES 1", "ABNORMALITIES 2"),
    "not text": "\x00\xff" * 40,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_overlay_leaves_the_drawing(name: str, tmp_path: Path) -> None:
    (record,) = read(tmp_path, row(contours=1), row0=DAMAGED[name])
    assert record.lesions == ()
    assert len(record.masks) == 1
    assert (record.label, record.labels["outline"], record.failed) == (2, "drawn", None)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_overlay_without_a_drawing_costs_its_image(name: str, tmp_path: Path) -> None:
    (record,) = read(tmp_path, row(), row0=DAMAGED[name])
    assert record.failed is not None
    assert record.failed["code"] == "outlines_damaged"
    assert (record.label, record.annotation) == (None, "none")


def test_a_core_inside_of_a_boundary_is_no_finding_of_its_own() -> None:
    text = overlay("BENIGN").replace("TOTAL_OUTLINES 1 ", "TOTAL_OUTLINES 2")
    (finding,) = _overlay.parse(f"{text}\tCORE\n110 205 2 2 4 4 6 6 0 0 #\n".encode())
    assert finding.outline[0] == (100, 200)
    assert len(finding.outline) == 4


def test_a_chain_s_eight_directions_start_in_the_north_and_turn_clockwise() -> None:
    steps = "10 10 " + " ".join(str(code) * 1 for code in (1, 3, 5, 7)) + " #"
    (finding,) = _overlay.parse(overlay("BENIGN", chain=steps).encode())
    assert finding.outline == ((10, 10), (11, 9), (12, 10), (11, 11))
    square = "10 10 2 2 4 4 6 6 0 0 #"
    (finding,) = _overlay.parse(overlay("BENIGN", chain=square).encode())
    assert finding.outline == ((10, 10), (12, 10), (12, 12), (10, 12))


def test_the_patient_s_letter_keeps_equal_numbers_apart(tmp_path: Path) -> None:
    found = read(tmp_path, row(name="C_0029_1.LEFT_CC"), row(name="A_0029_1.LEFT_CC"))
    assert [record.group for record in found] == ["C_0029", "A_0029"]


def test_hyphens_and_zeros_are_unknown(tmp_path: Path) -> None:
    cells = [("-", "-"), ("NaN", 0), ("", "")]
    rows = [
        row(name=f"C_000{n}_1.LEFT_CC", Age=age, Density=density)
        for n, (age, density) in enumerate(cells)
    ]
    for record in read(tmp_path, *rows):
        assert (record.labels["age"], record.labels["density"]) == (None, None)


BROKEN = {
    "leaves the folder": ({"fullPath": "..\\..\\C_0029_1.LEFT_CC.jpg"}, "fullPath must be a path"),
    "absolute": ({"fullPath": "\\etc\\C_0029_1.LEFT_CC.jpg"}, "fullPath must be a path"),
    "drive": ({"fullPath": "C:\\C_0029_1.LEFT_CC.jpg"}, "fullPath must be a path"),
    "no path": ({"fullPath": "-"}, "fullPath is empty"),
    "mask outside": ({"Tumour_Contour": "..\\m.jpg"}, "Tumour_Contour must be a path"),
    "other name": ({"fileName": "C_0030_1.LEFT_CC.jpg"}, "fileName must be that of fullPath"),
    "side": ({"Side": "RIGHT"}, "names another side or view"),
    "status": ({"Status": "Unclear"}, "Status must be one of Normal, Benign, Cancer"),
    "no status": ({"Status": ""}, "Status is empty"),
    "density": ({"Density": 7}, "Density must be one of"),
    "age": ({"Age": "old"}, "Age must be an age in years"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_table_stops_with_the_row(name: str, tmp_path: Path) -> None:
    changes, message = BROKEN[name]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, row(name="C_0001_1.LEFT_CC"), row(**changes))
    assert message in str(caught.value)
    assert "row 3" in str(caught.value)


def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="row 3: the same image is in row 2"):
        read(tmp_path, row(), row())


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "mini-ddsm"
    phantom.write(folder, patients=6, seed=7, size_scale=0.1, prevalence=0.5)
    return folder


def test_the_set_is_found_in_its_folder_its_parent_and_in_a_zip(
    films: Path, tmp_path: Path
) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(films, parent / "download")
    archive = shutil.make_archive(str(tmp_path / "films"), "zip", films)
    trees = [read_inputs("mini-ddsm", place) for place in (films, parent, Path(archive))]
    assert trees[0].records == trees[1].records == trees[2].records
    assert trees[0].sizes == trees[1].sizes == trees[2].sizes
    assert {record.labels["outline"] for record in trees[0].records} == {"overlay", "drawn", None}


def test_built_films_hold_the_true_findings_by_either_outline(films: Path, tmp_path: Path) -> None:
    assert build(config(films, tmp_path / "out")).exit_code == 0
    seen = {"overlay": 0, "drawn": 0}
    for sample in built(tmp_path / "out"):
        name = sample.about["image_id"]
        truth = json.loads((films / "truth" / f"{name}.json").read_text())["lesions"]
        outline = sample.about["labels"]["outline"]
        if outline is None:
            assert not truth
            continue
        found = sample.stored_rois()
        assert len(found) == len(truth)
        for lesion in truth:
            true = np.array(lesion["polygon"])
            area, centre = area_and_centre(true)
            off = [np.abs(area_and_centre(points)[1] - centre).max() for points in found]
            assert min(off) < 1
            best = found[int(np.argmin(off))]
            assert abs(area_and_centre(best)[0] / area - 1) < (
                0.12 if outline == "overlay" else 0.5
            )
            seen[outline] += 1
    assert min(seen.values()) >= 2


@pytest.mark.slow
def test_a_target_of_the_case_gives_every_film_of_it_one_label(films: Path, tmp_path: Path) -> None:
    image = build(config(films, tmp_path / "image"))
    case = build(config(films, tmp_path / "case", target="case"))
    assert image.summary["settings"]["target"] == "image"
    assert case.summary["settings"]["target"] == "case"
    by_case: dict[str, set[int]] = {}
    for sample in built(tmp_path / "case"):
        by_case.setdefault(sample.about["group"], set()).add(sample.about["label"])
        assert sample.about["label_name"] == sample.about["labels"]["status"]
    assert all(len(labels) == 1 for labels in by_case.values())
    assert any(sample.about["label"] is None for sample in built(tmp_path / "image"))


def test_a_drawing_that_does_not_close_is_reported(films: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    shutil.copytree(films, folder)
    record = next(r for r in read_inputs("mini-ddsm", folder).records if r.masks)
    path = folder / record.masks[0].inputs[0]
    line = cv2.imread(str(path), 0)
    x, y, wide, high = cv2.boundingRect((line > 127).astype(np.uint8))
    line[y : y + high, x : x + wide // 2] = 0
    cv2.imwrite(str(path), line)
    result = build(config(folder, tmp_path / "out"))
    assert result.summary["counts"]["failed"] == {"outline_open": 1}


def test_a_listed_drawing_that_is_missing_is_reported(films: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    shutil.copytree(films, folder)
    record = next(r for r in read_inputs("mini-ddsm", folder).records if r.masks)
    (folder / record.masks[0].inputs[0]).unlink()
    result = build(config(folder, tmp_path / "out"))
    assert result.summary["counts"]["failed"] == {"mask_missing": 1}


def area_of(record: Record, shape: tuple[int, ...]) -> np.ndarray:
    area = np.zeros(shape, np.uint8)
    for lesion in record.lesions:
        corners = np.round((np.array(lesion.polygon) - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(area, [corners], 255, shift=4)
    return area


def test_the_real_table_reads_whole(real_data: Path) -> None:
    found = read_inputs("mini-ddsm", real_data / "miniddsm").records
    case = read_inputs("mini-ddsm", real_data / "miniddsm", "case").records
    assert len(found) == 7808
    assert len({record.group for record in found}) == 1952
    labels, cases = ([record.label for record in records] for records in (found, case))
    assert [labels.count(n) for n in (0, 1, 2, None)] == [2408, 1402, 1428, 2570]
    assert [cases.count(n) for n in (0, 1, 2, None)] == [2408, 2684, 2716, 0]
    assert sum(len(record.masks) == 2 for record in found) == 234
    assert sum(record.labels["age"] is None for record in found) == 12
    assert sum(record.labels["density"] is None for record in found) == 4


def test_real_drawings_and_chain_codes_agree_inside_of_the_breast(real_data: Path) -> None:
    found = read_inputs("mini-ddsm", real_data / "miniddsm")
    find, agreement = bind("find-breast"), []
    for record in found.records:
        if not record.lesions:
            continue
        image = raster.open_image(found.tree.read(record.input), record)
        breast = find(image).breast
        area = area_of(record, breast.shape)
        assert breast[area > 0].mean() > 0.99, record.image_id
        drawing = found.tree.read(record.input.replace(".jpg", "_Mask.jpg"))
        lines = np.asarray(Image.open(io.BytesIO(drawing)))
        filled = masks.filled(np.where(lines > 127, np.uint8(255), np.uint8(0)))
        assert filled.mean() / 255 < 0.1  # not inverted
        both, either = np.count_nonzero(area & filled), np.count_nonzero(area | filled)
        agreement.append(both / either)
    assert len(agreement) == 12
    assert min(agreement) > 0.98
    assert np.mean(agreement) > 0.987


@pytest.mark.slow
@pytest.mark.parametrize("overlays", [True, False])
def test_the_real_films_build_with_either_outline(
    overlays: bool, real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "miniddsm"
    if not overlays:
        folder = tmp_path / "films"
        ignored = shutil.ignore_patterns("*.OVERLAY")
        shutil.copytree(real_data / "miniddsm", folder, ignore=ignored, copy_function=shutil.copy)
    result = build(config(folder, tmp_path / "out", missing="skip"))
    assert result.exit_code == 0
    samples = built(tmp_path / "out")
    assert len(samples) == 24
    marked = [sample for sample in samples if sample.about["label"] == 1]
    assert len(marked) == 12
    for sample in samples:
        assert (sample.mask is not None) == (sample in marked)
        assert sample.about["geometry"]["flipped"] == (sample.about["laterality"] == "R")
    for sample in marked:
        assert 0.002 < (sample.mask > 0).mean() < 0.2
        assert len(sample.about["rois"]) == 1
    split = {sample.about["group"]: sample.about["split"] for sample in samples}
    assert len(split) == 6
    assert all(sample.about["split"] == split[sample.about["group"]] for sample in samples)
    assert overlays or {s.about["labels"]["outline"] for s in marked} == {"drawn"}
