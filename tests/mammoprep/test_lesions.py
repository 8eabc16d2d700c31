"""Outlines off the image, lesions that the crop cuts, frames that stay empty: all are said."""

import csv
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from helpers import run_cli
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep import lesions, notices
from mammoprep.builder import Result, build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Lesion, Record
from mammoprep.image import MammoImage
from mammoprep.patches import Cutter
from mammoprep.steps import crop

ROWS, COLUMNS = 240, 160


def square(x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[float, float], ...]:
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def image(*polygons: tuple[tuple[float, float], ...], annotation: str = "full") -> MammoImage:
    found = tuple(Lesion(n, "mass", None, shape) for n, shape in enumerate(polygons, 1))
    record = Record("t_1", "t", "1", "1.png", annotation=annotation, lesions=found)
    pixels = np.zeros((ROWS, COLUMNS), np.float32)
    return MammoImage(pixels, Geometry.of_stored((ROWS, COLUMNS)), record)


# --- outlines on the image -----------------------------------------------------------------------

whole = st.integers(-300, 500)


@given(whole, whole, st.integers(1, 300), st.integers(1, 300))
def test_a_box_anywhere_keeps_just_the_pixels_that_it_has_on_the_image(x, y, wide, high):
    drawn = np.zeros((1200, 1200), bool)  # a canvas around the image, which begins at (400, 400)
    drawn[y + 400 : y + high + 400, x + 400 : x + wide + 400] = True
    left = np.count_nonzero(drawn[400 : 400 + ROWS, 400 : 400 + COLUMNS])
    found = lesions.clipped(square(x, y, x + wide, y + high), (ROWS, COLUMNS))
    assert bool(found) == bool(left)
    if found:
        (x0, y0), (x1, y1) = np.min(found, axis=0), np.max(found, axis=0)
        assert (x1 - x0) * (y1 - y0) == left


@settings(deadline=None)
@given(st.lists(st.tuples(whole, whole), min_size=3, max_size=8))
def test_a_polygon_anywhere_is_cut_as_a_drawing_of_it_is(points):
    scale = 1 << 4
    inside = lesions.clipped(tuple((float(x), float(y)) for x, y in points), (ROWS, COLUMNS))

    def drawn(shape):
        out = np.zeros((900, 900), np.uint8)
        moved = np.round((np.asarray(shape) + 350 - 0.5) * scale).astype(np.int32)
        cv2.fillPoly(out, [moved], 1, shift=4)
        return out[350 : 350 + ROWS, 350 : 350 + COLUMNS]

    expected = np.count_nonzero(drawn(points))
    got = np.count_nonzero(drawn(inside)) if inside else 0
    # The drawing also takes the pixels that an edge touches: a border's worth may differ.
    assert abs(expected - got) <= 2 * (ROWS + COLUMNS)
    assert all(0 <= x <= COLUMNS and 0 <= y <= ROWS for x, y in inside)


def test_an_outline_on_the_image_is_left_as_it_is():
    inside = image(square(0, 0, COLUMNS, ROWS), ((3.5, 4.5),))
    assert lesions.settle(inside, needed=True) is inside


def test_an_outline_over_the_edge_is_clipped_and_said():
    found = lesions.settle(image(square(-20, 40, 20, 60)), needed=True)
    assert set(found.record.lesions[0].polygon) == set(square(0, 40, 20, 60))
    assert (found.warnings, found.record.annotation) == (("roi_clipped",), "full")


def test_an_outline_elsewhere_is_dropped_and_the_image_stays():
    found = lesions.settle(image(square(300, 300, 400, 400)), needed=False)
    assert (found.record.lesions, found.record.annotation) == ((), "unusable")
    assert found.warnings == ("roi_outside",)


def test_an_outline_that_only_touches_the_edge_is_elsewhere():
    found = lesions.settle(image(square(COLUMNS, 0, COLUMNS + 9, 9)), needed=False)
    assert found.record.annotation == "unusable"


def test_what_is_left_of_several_outlines_is_a_part_of_the_annotation():
    found = lesions.settle(image(square(9, 9, 19, 19), square(300, 0, 310, 9)), needed=False)
    assert [lesion.id for lesion in found.record.lesions] == [1]
    assert found.record.annotation == "partial"


def test_an_outline_elsewhere_fails_where_patches_are_cut_around_it():
    with pytest.raises(RecordError) as caught:
        lesions.settle(image(square(300, 0, 310, 9)), needed=True)
    assert caught.value.code == "roi_outside"
    assert "the image is 160x240" in str(caught.value)


def test_an_outline_in_shares_of_the_image_is_no_lesion_of_a_pixel():
    found = lesions.settle(image(square(0.2, 0.3, 0.4, 0.5)), needed=False)
    assert (found.warnings, found.record.annotation) == (("roi_shares",), "unusable")
    with pytest.raises(RecordError, match=r"goes from 0\.2, 0\.3"):
        lesions.settle(image(square(0.2, 0.3, 0.4, 0.5)), needed=True)


def test_no_patch_is_named_after_a_lesion_that_it_does_not_show():
    away = image(square(300, 300, 400, 400))
    settings = Settings(size=(32, 32), roi=(32, 32), target="lesion")
    with pytest.raises(RecordError, match="does not show it"):
        list(Cutter(away, settings).patches([0], 0))


# --- lesions that the crop cuts ------------------------------------------------------------------


def with_breast(*polygons: tuple[tuple[float, float], ...]) -> MammoImage:
    opened = image(*polygons)
    breast = np.zeros((ROWS, COLUMNS), bool)
    breast[60:180, 0:100] = True
    return MammoImage(opened.pixels, opened.geometry, opened.record, breast=breast)


def test_the_share_of_the_lesions_that_a_crop_loses_is_noted():
    cut = crop.apply(with_breast(square(90, 100, 110, 120)), margin=0.0)
    assert cut.warnings == ("lesion_cut",)
    assert cut.notes["lesion_lost"] == pytest.approx(0.5, abs=0.03)


def test_a_lesion_inside_of_the_crop_is_not_spoken_of():
    cut = crop.apply(with_breast(square(10, 100, 30, 120)), margin=0.0)
    assert (cut.warnings, dict(cut.notes)) == ((), {})


def test_a_lost_point_is_a_lost_lesion():
    cut = crop.apply(with_breast(((150.5, 10.5),)), margin=0.0)
    assert cut.notes["lesion_lost"] == 1


@settings(deadline=None)
@given(st.integers(0, COLUMNS - 9), st.integers(0, ROWS - 9), st.sampled_from([0.0, 0.02, 0.1]))
def test_the_margin_that_is_named_cuts_no_lesion_and_the_crop_never_moves_for_one(x, y, margin):
    opened = with_breast(square(x, y, x + 9, y + 9))
    cut = crop.apply(opened, margin=margin)
    plain = crop.apply(with_breast(), margin=margin)
    assert cut.geometry.crop == plain.geometry.crop
    if "lesion_cut" in cut.warnings:
        wider = crop.apply(opened, margin=cut.notes["margin_needed"])
        assert "lesion_cut" not in wider.warnings
        smaller = crop.apply(opened, margin=max(0.0, cut.notes["margin_needed"] - 0.02))
        assert "lesion_cut" in smaller.warnings


# --- a whole build -------------------------------------------------------------------------------


def breast_png(path: Path, turned: bool = False) -> None:
    y, x = np.mgrid[:ROWS, :COLUMNS]
    inside = (x / 80) ** 2 + ((y - ROWS / 2) / 100) ** 2 < 1
    texture = (x * 7 + y * 13) % 40
    pixels = np.where(inside, 120 + texture, 2).astype(np.uint8)
    cv2.imwrite(str(path), pixels.T if turned else pixels)


def folder(tmp_path: Path, boxes: list[tuple[object, ...]], turned: bool = False) -> Path:
    raw = tmp_path / "raw"
    raw.mkdir()
    with (raw / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "patient_id", "label", "xmin", "ymin", "xmax", "ymax"])
        for number, box in enumerate(boxes):
            breast_png(raw / f"{number}.png", turned)
            table.writerow([f"{number}.png", number, "cancer" if any(box) else "negative", *box])
    return raw


def made(raw: Path, out: Path, **changes: object) -> Result:
    chosen = {"size": (64, 128), "folds": 2, **changes}
    return build(BuildConfig("table", Settings(**chosen), raw, out))  # type: ignore[arg-type]


def rows_of(out: Path) -> list[dict]:
    return pyarrow.parquet.read_table(out / "samples.parquet").to_pylist()


NONE = ("", "", "", "")


def test_a_build_counts_what_is_outside_by_class_and_writes_no_mask(tmp_path):
    boxes = [(20, 100, 40, 120), (300, 300, 400, 400), NONE]
    result = made(folder(tmp_path, boxes), tmp_path / "out")
    assert result.summary["counts"]["built"] == 3
    assert result.summary["warnings"]["roi_outside"] == {"samples": 1, "labels": {"cancer": 1}}
    assert any("cancer 1" in line and "roi_outside" in line for line in result.summary["notices"])
    found = {row["key"]: row for row in rows_of(tmp_path / "out")}
    assert [found[f"table_{n}"]["annotation"] for n in range(3)] == ["full", "unusable", "full"]
    names = set()
    for path in (tmp_path / "out" / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            names |= set(tar.getnames())
    assert "table_0.mask.png" in names
    assert "table_1.mask.png" not in names


def test_patches_of_an_image_whose_box_is_elsewhere_are_a_coded_failure(tmp_path):
    boxes = [(20, 100, 40, 120), (300, 300, 400, 400)]
    out = tmp_path / "out"
    made(folder(tmp_path, boxes), out, size=(32, 32), roi=(32, 32))
    lines = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [(line["input"], line["code"]) for line in lines] == [("1.png", "roi_outside")]
    assert all(row["parent"] == "table_0" for row in rows_of(out))


def test_the_margin_that_the_summary_names_cuts_none(tmp_path):
    raw = folder(tmp_path, [(90, 20, 110, 40), (20, 100, 40, 120), NONE])
    first = made(raw, tmp_path / "first")
    (line,) = [line for line in first.summary["notices"] if "lesion_cut" in line]
    margin = float(line.split("--crop-margin ")[1].split()[0])
    assert "1 of them all of it" in line
    second = made(raw, tmp_path / "second", crop_margin=margin)
    assert "lesion_cut" not in second.summary["warnings"]


def test_the_report_shows_what_the_crop_cut_and_what_lies_outside(tmp_path):
    made(folder(tmp_path, [(90, 20, 110, 40), (300, 0, 310, 9), NONE]), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    suspicious = page.split('id="suspicious"')[1]
    assert "100.0% of the lesions lost to the crop" in suspicious
    assert "roi_outside" in suspicious
    assert page.count('class="notice"') == 2


def test_a_frame_with_width_and_height_mixed_up_is_said_with_the_other_order(tmp_path):
    raw = folder(tmp_path, [NONE, NONE])
    done = run_cli(
        "build", "--source", "table", "--size", "128x64", "--input", raw, "--out", tmp_path / "o",
    )  # fmt: skip
    assert "--size is WIDTHxHEIGHT: 64x128 would be filled" in done.stderr
    page = (tmp_path / "o" / "report.html").read_text()
    assert "Pictures are 128x64 (width x height)" in page
    assert "<code>128x64</code>" in page


def test_a_frame_in_the_right_order_is_not_spoken_of(tmp_path):
    assert made(folder(tmp_path, [NONE, NONE]), tmp_path / "out").summary["notices"] == []


def test_a_frame_that_no_order_fills_is_said_with_the_shape_of_the_pictures(tmp_path):
    result = made(folder(tmp_path, [NONE]), tmp_path / "out", size=(64, 512))
    (line,) = result.summary["notices"]
    assert "Their shape is that of --size 64x1" in line


def test_a_stretched_frame_is_full(tmp_path):
    result = made(folder(tmp_path, [NONE]), tmp_path / "out", size=(512, 64), fit="stretch")
    assert result.summary["notices"] == []
    assert result.summary["frame"]["filled"] == [1.0, 1.0, 1.0]


def test_samples_without_a_class_are_said_and_counted(tmp_path):
    raw = folder(tmp_path, [NONE, NONE, NONE])
    table = (raw / "table.csv").read_text().replace("1.png,1,negative", "1.png,1,")
    (raw / "table.csv").write_text(table)
    result = made(raw, tmp_path / "out")
    assert any("1 of 3 samples have no label" in line for line in result.summary["notices"])
    done = run_cli("build", "--source", "table", "--size", "64x128", "--input", raw, "--out",
                   tmp_path / "cli")  # fmt: skip
    assert "(no label)" in done.stderr


def test_a_physical_scale_of_pictures_is_refused_before_work(tmp_path):
    raw = folder(tmp_path, [NONE])
    with pytest.raises(ConfigError, match="--mm-per-pixel needs the spacing"):
        made(raw, tmp_path / "out", mm_per_pixel=0.1)


def test_warnings_of_copies_are_not_counted_twice():
    row = {"warnings": ["roi_clipped"], "label_name": "a"}
    rows = [{**row, "augmented": False}, {**row, "augmented": True}]
    assert notices.warnings(rows) == {"roi_clipped": {"samples": 1, "labels": {"a": 1}}}
