"""The tight crop: what lies well below the fold of a lateral view is cut, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tight_crop
from helpers import run_build, run_cli
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Lesion, Record
from mammoprep.decode import dicom
from mammoprep.image import Acquisition, MammoImage
from mammoprep.phantoms import rsna
from mammoprep.phantoms._layouts import Wanted
from mammoprep.samples import read_member, read_samples
from mammoprep.steps import crop, find_breast, orient

ROWS, COLUMNS, FOLD = 480, 300, 320
RECORD = Record(key="demo_1", source="demo", group="1", input="1.dcm", view="MLO")


def torso(*, fold=FOLD, notch=0.12, belly=0.3, arm=0.45, reach=200, rows=ROWS):
    """A mask from the axilla to the abdomen, the chest wall at the left; the notch is at ``fold``.

    The breast is half an ellipse from a quarter of the way down to the fold; notch, belly and arm
    are shares of its reach.
    """
    y = np.arange(rows)
    half = fold * 0.42
    middle = fold - half
    breast = np.sqrt(np.clip(1 - ((y - middle) / half) ** 2, 0, 1))
    above = np.interp(y, [0, middle], [arm, 0.8])
    under = np.interp(y, [fold, fold + 0.25 * rows], [notch, belly])
    out = np.where(y < middle, np.maximum(breast, above), np.where(y < fold, breast, 0))
    out = np.maximum(out, np.where(y >= fold, under, notch))
    return np.arange(COLUMNS) < (out * reach)[:, None]


def image_of(mask, *, spacing=None, record=RECORD, **acquisition):
    geometry = Geometry.of_stored(mask.shape, spacing)
    facts = Acquisition(**acquisition)
    return MammoImage(mask.astype(np.float32), geometry, record, facts, breast=mask)


def bottom(mask, **how):
    return crop.apply(image_of(mask, **how), region="tight", margin=0.0).geometry.crop[3]


def test_what_lies_ten_millimetres_below_the_fold_is_cut():
    low = bottom(torso(), spacing=(0.5, 0.5))
    assert FOLD + 20 <= low <= FOLD + 26 + 8


def test_without_a_spacing_it_is_a_share_of_the_boxs_height():
    low = bottom(torso())
    assert FOLD + 0.07 * ROWS <= low <= FOLD + 0.07 * ROWS + 8


def test_a_spacing_that_cannot_be_true_does_not_bring_the_cut_near_to_the_fold():
    assert bottom(torso(), spacing=(10.0, 10.0)) >= FOLD + 0.03 * ROWS


def test_only_the_lower_edge_differs_from_the_breasts_box():
    image = image_of(torso())
    breast, tight = (crop.apply(image, region=r).geometry.crop for r in ("breast", "tight"))
    assert tight[:3] == breast[:3]
    assert tight[3] < breast[3] == ROWS


def test_the_margin_is_added_below_the_cut():
    image = image_of(torso())
    none, wide = (crop.apply(image, region="tight", margin=m).geometry.crop for m in (0.0, 0.1))
    assert wide[3] == none[3] + np.ceil(0.1 * none[3])


def test_the_box_of_the_whole_breast_is_what_it_was():
    mask = torso()[20:470]
    down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    high, wide = down[-1] + 1 - down[0], across[-1] + 1
    for margin in (0.0, 0.02, 0.2):
        box = (0, 0, min(wide + int(np.ceil(margin * wide)), COLUMNS), high)
        out = crop.apply(image_of(mask), margin=margin)
        assert out.geometry.crop == box
        assert not {"fold", "fold_reason"} & set(out.notes)
        assert out.warnings == ()


def test_the_chest_wall_may_be_at_the_right():
    assert bottom(torso()[:, ::-1].copy()) == bottom(torso())


@pytest.mark.parametrize("view", ["MLO", "ML", "LM", "LMO"])
def test_lateral_views_are_cut_by_table_or_header(view):
    bare = replace(RECORD, view=None)
    assert bottom(torso(), record=replace(RECORD, view=view)) < ROWS
    assert bottom(torso(), record=bare, view=view) < ROWS


@pytest.mark.parametrize("view", ["CC", "XCCL", "AT", "SIO"])
def test_other_views_are_not_cut_and_it_is_not_worth_a_word(view):
    for image in (
        image_of(torso(), record=replace(RECORD, view=view)),
        image_of(torso(), view=view),  # the table says MLO
    ):
        out = crop.apply(image, region="tight")
        assert out.geometry == crop.apply(image).geometry
        assert (out.warnings, out.notes["fold_reason"]) == ((), "other_view")


def test_an_unknown_view_is_not_cut_and_said():
    image = image_of(torso(), record=replace(RECORD, view=None))
    out = crop.apply(image, region="tight")
    assert out.geometry == crop.apply(image).geometry
    assert out.warnings == ("view_unknown",)


def test_a_picture_upside_down_is_not_cut():
    assert bottom(torso(), column_direction="H") == ROWS
    assert bottom(torso(), column_direction="F") < ROWS
    assert bottom(torso(arm=0.5)[::-1].copy()) == ROWS  # by its outline alone


def test_a_breast_without_an_abdomen_is_not_cut():
    mask = torso()[:FOLD]
    assert bottom(mask) == FOLD


def test_a_breast_that_the_frame_cuts_off_is_not_cut():
    assert bottom(torso(fold=700, rows=700)[:480]) == 480


def test_an_arm_wider_than_the_breast_is_no_breast():
    """The notch between arm and breast lies above the nipple."""
    y = np.arange(ROWS)
    out = np.interp(y, [0, 110, 150, 300, 479], [250, 90, 60, 150, 5])
    assert bottom(np.arange(COLUMNS) < out[:, None]) == ROWS


@pytest.mark.parametrize("depth", [10, 30, 60])
def test_a_dent_of_the_breast_is_no_fold(depth):
    mask = torso()[:FOLD].copy()
    mask[200:230, 200 - depth :] = False
    assert bottom(mask) == FOLD


def test_an_abdomen_as_large_as_the_breast_may_be_the_breast():
    assert bottom(torso(belly=0.95)) == ROWS


def test_a_frame_kept_whole_is_kept_whole():
    image = image_of(np.ones((90, 60), bool))
    out = crop.apply(image, region="tight")
    assert (out.geometry.crop, out.notes["fold"]) == ((0, 0, 60, 90), None)
    without = replace(image, breast=None)
    assert crop.apply(without, region="tight").geometry.crop == (0, 0, 60, 90)


def test_the_crop_does_not_follow_the_annotation():
    low = Lesion(1, "mass", "malignant", ((5.0, 400.0), (25.0, 400.0), (25.0, 440.0)))
    annotated = replace(RECORD, annotation="full", lesions=(low,))
    assert bottom(torso(), record=annotated) == bottom(torso())


@settings(max_examples=150, deadline=None)
@given(
    fold=st.integers(260, 440),
    notch=st.floats(0.0, 0.3),
    belly=st.floats(0.0, 0.9),
    arm=st.floats(0.2, 0.9),
    spacing=st.sampled_from([None, (0.4, 0.4), (0.7, 0.7)]),
)
def test_the_cut_never_comes_nearer_than_promised(fold, notch, belly, arm, spacing):
    mask = torso(fold=fold, notch=notch, belly=max(notch, belly), arm=arm)
    gap = 0.07 * ROWS if spacing is None else 13 / spacing[0]
    assert bottom(mask, spacing=spacing) >= min(fold + gap - 2, np.flatnonzero(mask.any(1))[-1] + 1)


def check_torsos(patients, seed, *, spacing):
    cases = tight_crop.torso_cases(patients, seed, spacing=spacing)
    results = [tight_crop.measured(case) for case in cases]
    told = tight_crop.summed(results)
    assert told["images_with_lesions"] > 0
    assert told["lesion_pixels_lost_by_tight_alone"] == 0
    assert told["only_lower_edge_moves"]
    # What is thin as a frame, find_breast leaves out, now and then with a little of the breast.
    assert all(tight >= min(0.995, today) for today, tight in (r["tissue"] for r in results))
    assert told["tissue_kept_tight"]["mean"] >= 0.999
    assert told["cut"] >= 0.6 * told["images"]
    assert told["least_kept_below_fold_mm"] >= 10
    assert -3 <= told["fold_off_mm"]["lowest"] <= told["fold_off_mm"]["highest"] <= 6


@pytest.mark.parametrize("spacing", [False, True])
def test_phantoms_with_a_torso_keep_breast_and_lesions_and_lose_their_abdomen(spacing):
    check_torsos(12, 2, spacing=spacing)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "spacing"), [(41, False), (42, True)])
def test_many_phantoms_with_a_torso_keep_breast_and_lesions(seed, spacing):
    check_torsos(30, seed, spacing=spacing)


@pytest.mark.slow
@pytest.mark.parametrize("layout", tight_crop.LAYOUTS)
def test_no_lesion_of_any_layouts_phantoms_loses_a_pixel(layout):
    results = [tight_crop.measured(case) for case in tight_crop.layout_cases(layout, 6)]
    told = tight_crop.summed(results)
    assert told["images_with_lesions"] > 0
    assert told["lesion_pixels_lost_by_tight_alone"] == 0
    assert told["only_lower_edge_moves"]


@pytest.mark.slow
def test_labelled_film_keeps_its_tissue_when_tight(real_data: Path):
    folder = real_data / "ddsm_tissue" / "segmentation_data" / "train_valid"
    results = [tight_crop.measured(case) for case in tight_crop.tissue_cases(folder)]
    assert len(results) == 60
    assert min(r["tissue"][1] for r in results) >= 0.995
    assert sum(r["trusted"] for r in results) >= 15


@pytest.mark.slow
@pytest.mark.parametrize(("source", "folder"), [("mias", "minimias"), ("mini-ddsm", "miniddsm")])
def test_no_real_lesion_loses_a_pixel_to_the_tight_crop(real_data: Path, source, folder):
    cases = tight_crop.source_cases(source, real_data / folder)
    told = tight_crop.summed([tight_crop.measured(case) for case in cases])
    assert told["images_with_lesions"] >= 12
    assert told["lesion_pixels_lost_by_tight_alone"] == 0
    assert told["cut"] >= 1


def opened(shot, exposure, *, fast):
    image = dicom.open_image(shot.dicom(exposure), RECORD, voi="auto", fast=fast)
    found = orient.apply(find_breast.apply(image))
    return image, crop.apply(found, region="tight")


def test_fast_decoding_finds_the_same_fold():
    shots = Wanted(8, 3, 0.3, 0.2, 1, torso=True).shots()
    machine = "sigmoid-mono1-j2k"
    shot = next(s for s in shots if s.view == "MLO" and s.patient.machine.name == machine)
    exposure = shot.expose()
    (overview, exact), (_, fast) = (opened(shot, exposure, fast=fast) for fast in (False, True))
    assert overview.detail is not None  # it is only an overview that was looked at
    assert exact.notes["fold"] == fast.notes["fold"]
    assert exact.geometry == fast.geometry
    assert abs(exact.notes["fold"][0] - exposure.fold[1]) < 0.02 * exposure.stored.shape[0]


@pytest.fixture(scope="module")
def torsos(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("torsos") / "rsna"
    rsna.write_wanted(out, Wanted(3, 7, 0.1, 0.4, 1, torso=True))
    return out


def rows_of(out):
    """Key -> (view, stored rows shown) of a finished dataset."""
    _, rows = read_samples(out)
    boxes = {
        row["key"]: json.loads(read_member(out, row, "json"))["geometry"]["crop"] for row in rows
    }
    return {row["key"]: (row["view"], boxes[row["key"]][3] - boxes[row["key"]][1]) for row in rows}


def test_a_tight_build_has_fewer_rows_in_oblique_views_alone(torsos: Path, tmp_path: Path):
    rows = {}
    for region in ("breast", "tight"):
        run_build(torsos, tmp_path / region, crop=region)
        assert json.loads((tmp_path / region / "dataset.json").read_text())["counts"]["built"] > 0
        rows[region] = rows_of(tmp_path / region)
    for key, (view, before) in rows["breast"].items():
        after = rows["tight"][key][1]
        assert after <= before
        assert view == "MLO" or after == before
    assert any(rows["tight"][key][1] < before for key, (_, before) in rows["breast"].items())


def test_inspect_tells_where_the_fold_is_when_asked_for_a_tight_crop(torsos: Path):
    file = next(torsos.glob("train_images/*/*.dcm"))
    tight = run_cli("inspect", file, "--json", "--crop", "tight")
    assert tight.returncode == 0
    facts = json.loads(tight.stdout)
    assert {"fold", "fold_reason"} <= set(facts)  # the phantoms' headers do not tell the view
    assert (facts["fold_reason"], facts["warnings"].count("view_unknown")) == ("view_unknown", 1)
    assert "fold" not in json.loads(run_cli("inspect", file, "--json").stdout)
    assert run_cli("inspect", file, "--crop", "narrow").returncode == 2
