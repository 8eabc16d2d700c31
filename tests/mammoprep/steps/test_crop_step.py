"""Cropping: the breast's box and a margin, no label, no tissue blanked."""

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError
from mammoprep.steps import blank_labels, crop, find_breast, orient


def box_image(image_of, box, shape=(100, 80)):
    x0, y0, x1, y1 = box
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return image_of(np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape), breast=mask)


def test_the_margin_is_a_share_of_the_box_on_each_side(image_of):
    out = crop.apply(box_image(image_of, (20, 30, 60, 80)), margin=0.1)
    assert out.geometry.crop == (16, 25, 64, 85)
    assert out.pixels[0, 0] == 25 * 80 + 16


def test_every_array_is_cut_at_the_same_place(image_of):
    marks = np.zeros((100, 80), bool)
    marks[50, 40] = True
    breast = np.zeros((100, 80), bool)
    breast[30:80, 20:60] = True
    image = image_of(
        marks.astype(np.float32), breast=breast, padding=marks, mask=marks.astype(np.uint8) * 255
    )
    out = crop.apply(image, margin=0.0)
    for array in (out.pixels, out.padding, out.mask):
        assert np.argwhere(array).tolist() == [[20, 20]]


def test_the_margin_ends_at_the_frame(image_of):
    assert crop.apply(box_image(image_of, (0, 2, 79, 100)), margin=0.5).geometry.crop == (
        0,
        0,
        80,
        100,
    )


def test_no_margin_is_the_box_itself(image_of):
    out = crop.apply(box_image(image_of, (20, 30, 60, 80)), margin=0.0)
    assert (out.geometry.crop, bool(out.breast.all())) == ((20, 30, 60, 80), True)


def test_none_keeps_frame_and_label(image_of):
    image = box_image(image_of, (20, 30, 60, 80)).note(labels=[[0, 0, 9, 9]])
    assert crop.apply(image, region="none") is image


def test_without_a_mask_the_frame_is_kept(image_of):
    out = crop.apply(image_of(np.ones((9, 7), np.float32)))
    assert out.geometry.crop == (0, 0, 7, 9)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_label_inside_the_box_is_blanked_and_told(breast, image_of, text_on, mirrored):
    labelled = text_on(breast, "RMLO", (48, 62))
    stored = labelled[:, ::-1].copy() if mirrored else labelled
    found = orient.apply(find_breast.apply(image_of(stored)))
    out = blank_labels.apply(crop.apply(found))
    assert "label_removed" in out.warnings
    outside = ~out.breast
    assert out.pixels[outside].max() < 0.3
    assert out.geometry.crop != found.geometry.crop


def test_blanking_leaves_every_pixel_of_the_breast(breast, image_of, text_on):
    found = find_breast.apply(image_of(text_on(breast, "RMLO", (48, 62))))
    whole = found.note(labels=[[0, 0, 180, 240]])
    out = blank_labels.apply(crop.apply(whole, margin=0.0))
    x0, y0, x1, y1 = out.geometry.crop
    stored = found.pixels[y0:y1, x0:x1]
    np.testing.assert_array_equal(out.pixels[out.breast], stored[out.breast])
    assert not out.pixels[~out.breast].any()


def test_a_label_outside_the_box_is_not_worth_a_word(breast, image_of, text_on):
    out = blank_labels.apply(
        crop.apply(find_breast.apply(image_of(text_on(breast, "R", (150, 30)))))
    )
    assert "label_removed" not in out.warnings


@pytest.mark.parametrize("parameters", [{"region": "tissue"}, {"margin": -0.1}])
def test_a_wrong_parameter_is_a_config_error(image_of, parameters):
    with pytest.raises(ConfigError):
        crop.apply(image_of(np.ones((4, 4), np.float32)), **parameters)
