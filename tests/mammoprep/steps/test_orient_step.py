"""The chest wall goes to the left: pixels first, then the header, else nothing."""

from itertools import product

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError
from mammoprep.image import Acquisition
from mammoprep.steps import find_breast, orient

HEADER = {"A": "left", "P": "right", None: None}
USUAL = {"L": "left", "R": "right", None: None}
CASES = list(product(("left", "right", "unclear"), HEADER, USUAL))


def picture(side, breast):
    if side == "unclear":
        return np.full(breast.shape, 0.5, np.float32)
    return breast if side == "left" else breast[:, ::-1].copy()


@pytest.mark.parametrize(("side", "row", "laterality"), CASES)
def test_every_combination_of_pixels_and_header(breast, image_of, side, row, laterality):
    acquisition = Acquisition(patient_orientation=row, laterality=laterality)
    image = image_of(picture(side, breast), acquisition=acquisition)
    mask = np.ones(breast.shape, bool) if side == "unclear" else image.pixels > 0.05
    image = image_of(image.pixels, acquisition=acquisition, breast=mask)
    out = orient.apply(image)
    truth = side if side != "unclear" else HEADER[row]
    assert out.geometry.flipped == (truth == "right")
    assert out.notes["chest_wall_stored"] == (truth or "unknown")
    conflict = side != "unclear" and row is not None and HEADER[row] != side
    assert ("orientation_conflict" in out.warnings) == conflict
    assert ("orientation_unknown" in out.warnings) == (truth is None)
    mirrored = bool(truth and laterality and USUAL[laterality] != truth)
    assert ("mirrored_display" in out.warnings) == mirrored


def test_the_tables_laterality_counts_where_the_header_is_silent(breast, image_of):
    from dataclasses import replace

    image = image_of(breast, breast=breast > 0.05)
    image = replace(image, record=replace(image.record, laterality="R"))
    assert orient.apply(image).warnings == ("mirrored_display",)


def test_every_array_and_the_geometry_flip_together(breast, image_of):
    stored = breast[:, ::-1].copy()
    lesion = np.zeros(stored.shape, np.uint8)
    lesion[100:110, 120:130] = 255
    padding = np.zeros(stored.shape, bool)
    padding[:, :9] = True
    image = image_of(stored, breast=stored > 0.05, mask=lesion, padding=padding)
    out = orient.apply(image)
    np.testing.assert_array_equal(out.pixels, breast)
    np.testing.assert_array_equal(out.breast, breast > 0.05)
    np.testing.assert_array_equal(out.mask[100:110, 50:60], 255)
    assert out.padding[:, -9:].all()
    assert out.geometry.from_stored([(125.0, 105.0)]).tolist() == [[55.0, 105.0]]


def test_a_label_on_the_far_side_does_not_turn_the_image(breast, image_of):
    pixels = breast.copy()
    pixels[10:60, 130:175] = 1.0
    assert not orient.apply(find_breast.apply(image_of(pixels))).geometry.flipped


def test_a_stray_line_beyond_the_chest_wall_does_not_turn_the_image(image_of):
    mask = np.zeros((200, 200), bool)
    y, x = np.mgrid[:200, :200]
    mask[((x - 60) / 100) ** 2 + ((y - 100) / 80) ** 2 < 1] = True
    mask[:, :60] = False
    mask[30:33, 20:60] = True
    out = orient.apply(image_of(mask.astype(np.float32), breast=mask))
    assert out.notes["chest_wall_stored"] == "left"


@pytest.mark.parametrize(("mirrored", "side"), [(False, "left"), (True, "right")])
def test_without_a_mask_the_bright_half_decides(breast, image_of, mirrored, side):
    pixels = breast[:, ::-1].copy() if mirrored else breast
    pixels[100:140, 85:95] = 1.0
    whole = image_of(pixels, breast=np.ones(pixels.shape, bool))
    assert orient.apply(whole).notes["chest_wall_stored"] == side


def test_hardware_in_a_corner_does_not_turn_an_image_without_a_mask(image_of):
    pixels = np.full((200, 300), 0.05, np.float32)
    pixels[60:], pixels[:50, 240:] = 0.3, 1.0
    whole = image_of(pixels, breast=np.ones(pixels.shape, bool))
    assert orient.apply(whole).warnings == ("orientation_unknown",)


def test_none_changes_nothing(breast, image_of):
    image = image_of(breast[:, ::-1].copy())
    assert orient.apply(image, to="none") is image


def test_another_side_is_a_config_error(breast, image_of):
    with pytest.raises(ConfigError):
        orient.apply(image_of(breast), to="right")
