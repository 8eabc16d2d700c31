"""The mias source: circles from the bottom, rows without a place, two films a woman."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from outlines import area_and_centre, built

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.core.tree import open_tree
from mammoprep.decode import raster
from mammoprep.inputs import read_inputs
from mammoprep.phantoms import mias as phantom
from mammoprep.pipeline import bind
from mammoprep.sources import mias


def read(folder: Path, *lines: str) -> list[Record]:
    (folder / "Info.txt").write_bytes("\r\n".join(lines).encode())
    return mias.read(open_tree(folder), cards.load("mias"))


def config(folder: Path, out: Path, **changes: object) -> BuildConfig:
    settings = Settings(size=(256, 256), folds=2, **changes)  # type: ignore[arg-type]
    return BuildConfig(source="mias", settings=settings, input=folder, out=out)


def test_a_circle_counts_its_y_from_the_bottom(tmp_path: Path) -> None:
    (record,) = read(tmp_path, "mdb010 F CIRC B 525 425 33")
    (lesion,) = record.lesions
    points = np.array(lesion.polygon)
    assert (points.min(axis=0) + points.max(axis=0)) / 2 == pytest.approx([525, 1024 - 425])
    assert np.hypot(*(points - [525, 599]).T) == pytest.approx(33, abs=0.01)
    assert (lesion.id, lesion.kind, lesion.pathology) == (1, "circumscribed mass", "benign")
    assert record.annotation == "full"


def test_every_label_of_a_row_arrives(tmp_path: Path) -> None:
    (record,) = read(tmp_path, "mdb028 F CIRC M 338 314 56")
    assert record.labels == {
        "cancer": 1,
        "abnormal": 1,
        "birads": None,
        "density": None,
        "tissue": "fatty",
        "kind": "circumscribed mass",
        "severity": "malignant",
    }
    assert (record.label, record.key, record.input) == (2, "mias_mdb028", "mdb028.pgm")


def test_a_normal_film_was_looked_at(tmp_path: Path) -> None:
    (record,) = read(tmp_path, "mdb003 D NORM ")
    assert (record.label, record.annotation, record.lesions) == (0, "full", ())
    assert (record.labels["cancer"], record.labels["abnormal"]) == (0, 0)
    assert record.labels["severity"] is None


@pytest.mark.parametrize("rest", ["", " *NOTE 3*", " *NOTE 3* "])
def test_a_finding_without_a_place_is_a_partial_annotation(rest: str, tmp_path: Path) -> None:
    (record,) = read(tmp_path, f"mdb216 D CALC M{rest}")
    assert (record.label, record.annotation, record.lesions) == (2, "partial", ())


def test_the_rows_of_one_film_are_its_findings_and_the_worst_is_its_label(tmp_path: Path) -> None:
    lines = ("mdb144 F MISC B 233 994 29", "mdb144 F MISC M 313 540 27", "mdb145 D SPIC B")
    both, other = read(tmp_path, *lines)
    assert [(lesion.id, lesion.pathology) for lesion in both.lesions] == [
        (1, "benign"),
        (2, "malignant"),
    ]
    assert (both.label, both.annotation) == (2, "full")
    assert (other.label, other.annotation) == (1, "partial")


def test_two_films_are_one_woman_and_odd_ones_are_left(tmp_path: Path) -> None:
    found = read(tmp_path, *(f"mdb{n:03d} G NORM" for n in range(1, 7)))
    assert [record.group for record in found] == ["001", "001", "002", "002", "003", "003"]
    assert [record.laterality for record in found] == list("LRLRLR")
    assert {record.view for record in found} == {"MLO"}


def test_prose_around_the_list_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    found = read(tmp_path, "\ufeffmdb001 G NORM", "INFORMATION:", "1st column: number", "====", "")
    assert [record.key for record in found] == ["mias_mdb001"]


BROKEN = {
    "tissue": ("mdb001 X NORM", "row 2: tissue must be one of F, G, D, got 'X'"),
    "class": ("mdb001 G BALL B 1 2 3", "row 2: class must be one of CALC"),
    "severity": ("mdb001 G CIRC", "row 2: severity must be one of B, M"),
    "number": ("mdb000 G NORM", "row 2: an image is mdb001 to mdb999"),
    "path": ("mdb../1 G NORM", "row 2: an image is"),
    "short": ("mdb001 G", "row 2: 2 cells"),
    "circle": ("mdb001 G CIRC B 500 500", "row 2: expected x, y and radius"),
    "words": ("mdb001 G CIRC B a b c", "row 2: expected x, y and radius"),
    "outside": ("mdb001 G CIRC B 500 2000 9", "row 2: the circle does not lie in 1024 x 1024"),
    "no radius": ("mdb001 G CIRC B 500 200 0", "row 2: the circle does not lie"),
    "more": ("mdb001 G NORM B 500 200 9", "row 2: NORM with more cells"),
    "both": ("mdb009 G CIRC B", "row 2: mdb009 is NORM in one row and has a finding in another"),
    "twice": ("mdb009 F NORM", "row 2: mdb009 is listed twice"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_list_stops_with_the_row(name: str, tmp_path: Path) -> None:
    line, message = BROKEN[name]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "mdb009 F NORM", line)
    assert message in str(caught.value)


def test_two_tissues_of_one_film_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="row 2: mdb001 has two tissues"):
        read(tmp_path, "mdb001 G CIRC B 1 2 3", "mdb001 F CIRC B 4 5 6")


def test_a_list_without_films_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no line that begins with an image"):
        read(tmp_path, "The films", "")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "mias"
    phantom.write(folder, patients=6, seed=3, size_scale=0.1, prevalence=0.5)
    return folder


def test_the_set_is_found_wherever_it_is_named(films: Path, tmp_path: Path) -> None:
    parent = tmp_path / "parent" / "download"
    shutil.copytree(films, parent)
    archive = shutil.make_archive(str(tmp_path / "films"), "zip", films)
    places = (films, films / "all-mias", parent.parent, parent, Path(archive))
    trees = [read_inputs("mias", place) for place in places]
    assert all(tree.records == trees[0].records for tree in trees)
    assert all(tree.sizes == trees[0].sizes for tree in trees)
    assert len(trees[0].sizes) == 12


def test_the_list_may_lie_beside_the_folder(films: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mias"
    shutil.copytree(films / "all-mias", folder / "all-mias")
    (folder / "all-mias" / "Info.txt").rename(folder / "Info.txt")
    found = read_inputs("mias", folder)
    assert found.records[0].input == "all-mias/mdb001.pgm"
    assert len(found.sizes) == 12


def test_built_films_hold_the_true_findings(films: Path, tmp_path: Path) -> None:
    result = build(config(films, tmp_path / "out"))
    assert result.exit_code == 0
    samples = built(tmp_path / "out")
    assert len(samples) == 12
    compared = 0
    for sample in samples:
        name = sample.about["image_id"]
        truth = json.loads((films / "truth" / f"{name}.json").read_text())["lesions"]
        assert sample.about["labels"]["abnormal"] == int(bool(truth))
        assert sample.about["annotation"] == (
            "full" if len(truth) == len(sample.about["rois"]) else "partial"
        )
        if sample.about["annotation"] == "partial":
            continue
        for points, lesion in zip(sample.stored_rois(), truth, strict=True):
            polygon = np.array(lesion["polygon"])
            (x, y), radius = cv2.minEnclosingCircle(polygon.astype(np.float32))
            assert np.abs(area_and_centre(points)[1] - [x, y]).max() < 1
            assert np.hypot(*(polygon - area_and_centre(points)[1]).T).max() < radius + 1.5
            compared += 1
    assert compared >= 3
    assert any(sample.about["annotation"] == "partial" for sample in samples)


def test_phantoms_show_the_chest_wall_where_the_real_films_do(films: Path, tmp_path: Path) -> None:
    build(config(films, tmp_path / "out"))
    for sample in built(tmp_path / "out"):
        truth = json.loads((films / "truth" / f"{sample.about['image_id']}.json").read_text())
        assert sample.about["geometry"]["flipped"] == (truth["chest_wall"] == "right")


def test_the_real_circles_lie_in_the_breast(real_data: Path) -> None:
    found = read_inputs("mias", real_data / "minimias")
    assert len(found.records) == 322
    assert len({record.group for record in found.records}) == 161
    labels = [record.label for record in found.records]
    assert [labels.count(n) for n in range(3)] == [207, 63, 52]
    assert sum(record.annotation == "partial" for record in found.records) == 4
    find, checked = bind("find-breast"), 0
    for record in found.records:
        if not record.lesions or record.input not in found.sizes:
            continue
        image = raster.open_image(found.tree.read(record.input), record)
        breast = find(image).breast
        for lesion in record.lesions:
            drawn = np.zeros(breast.shape, np.uint8)
            cv2.fillPoly(drawn, [np.round(np.array(lesion.polygon) - 0.5).astype(np.int32)], 1)
            assert breast[drawn > 0].mean() > 0.99, record.image_id
            checked += 1
    assert checked == 17


@pytest.mark.slow
def test_the_real_films_build(real_data: Path, tmp_path: Path) -> None:
    result = build(config(real_data / "minimias", tmp_path / "out", missing="skip"))
    assert result.exit_code == 0
    assert result.summary["counts"]["built"] == 60
    samples = built(tmp_path / "out")
    for sample in samples:
        left = sample.about["laterality"] == "L"
        assert sample.about["geometry"]["flipped"] == left  # the films are shown mirrored
    split = {sample.about["group"]: sample.about["split"] for sample in samples}
    assert all(sample.about["split"] == split[sample.about["group"]] for sample in samples)
