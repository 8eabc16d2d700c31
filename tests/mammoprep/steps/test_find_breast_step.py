"""The breast is found whatever lies beside it, and never cut when in doubt."""

import numpy as np
import pytest

from mammoprep.core.errors import RecordError
from mammoprep.steps import crop, find_breast

BOX = (0, 41, 99, 199)  # of the drawn breast, (240, 180)


def found_box(image):
    return crop.breast_box(image, 0.0)


def overlap(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(area) - common)


def noisy(pixels):
    return np.clip(pixels + np.random.default_rng(5).normal(0, 0.015, pixels.shape), 0, 1)


def framed(pixels):
    pixels[:5], pixels[-5:], pixels[:, -4:] = 0.95, 0.95, 0.95
    return pixels


def lined(pixels):
    pixels[:, 150:153] = 0.4
    return pixels


def wedged(pixels):
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    pixels[x > 170 - y * 0.06] = 0.9
    return pixels


def plated(pixels):
    pixels[60:80, 70:110] = 1.0  # reaches over the skin line
    return pixels


def sloping(pixels):
    return pixels + np.linspace(0.06, 0, pixels.shape[0], dtype=np.float32)[:, None]


BESIDE = {
    "nothing": lambda p: p,
    "noise": noisy,
    "a white frame": framed,
    "a paddle line": lined,
    "a tilted bright wedge": wedged,
    "a sloping background": sloping,
    "an inverted ramp": lambda p: p**2,
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("level", [0.0, 0.06])
def test_the_box_is_right_beside(draw, image_of, name, level):
    pixels = np.asarray(BESIDE[name](draw(level=level)), dtype=np.float32)
    out = find_breast.apply(image_of(pixels))
    assert "crop_fallback" not in out.warnings
    assert overlap(found_box(out), BOX) > 0.9


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_mask_reaches_the_faint_skin_line(breast, skin, image_of, mirrored):
    step = -1 if mirrored else 1
    out = find_breast.apply(image_of(breast[:, ::step].copy()))
    truth = skin()[:, ::step]
    assert (out.breast & truth).sum() > 0.985 * truth.sum()
    assert (out.breast & ~truth).sum() < 0.02 * truth.sum()


def test_a_plate_over_the_skin_line_is_not_breast(breast, image_of):
    out = find_breast.apply(image_of(plated(breast.copy())))
    assert not out.breast[60:80, 100:110].any()
    assert overlap(found_box(out), BOX) > 0.9


def test_a_breast_cut_off_at_top_and_bottom_is_still_cropped(draw, image_of):
    out = find_breast.apply(image_of(draw()[70:170].copy()))
    assert "crop_fallback" not in out.warnings
    assert overlap(found_box(out), (0, 0, 99, 100)) > 0.9


def test_a_scanned_sheet_of_film_is_not_a_breast(draw, image_of):
    pixels = np.zeros((300, 300), np.float32)
    film = draw(level=0.04)
    film += np.random.default_rng(1).normal(0, 0.004, film.shape).astype(np.float32)
    pixels[30:270, 60:240] = film
    out = find_breast.apply(image_of(pixels))
    assert overlap(found_box(out), (60, 71, 159, 229)) > 0.9


def test_padding_is_neither_breast_nor_background_noise(breast, image_of):
    padding = breast <= 0.001
    pixels = np.where(padding, 0, breast).astype(np.float32)
    out = find_breast.apply(image_of(pixels, padding=padding))
    assert not (out.breast & padding).any()
    assert overlap(found_box(out), BOX) > 0.95


@pytest.mark.parametrize("scale", [1, 4])
def test_the_reduced_copy_finds_the_same_box(draw, image_of, scale):
    out = find_breast.apply(image_of(draw(240 * scale, 180 * scale)))
    assert overlap(found_box(out), tuple(v * scale for v in BOX)) > 0.95


def full_frame():
    return 0.4 + 0.2 * np.random.default_rng(0).random((200, 150), dtype=np.float32)


def side_to_side():
    pixels = np.zeros((200, 150), np.float32)
    pixels[80:] = 0.5
    return pixels


def tiny():
    pixels = np.zeros((400, 400), np.float32)
    pixels[190:210, 190:210] = 0.5
    return pixels


@pytest.mark.parametrize("make", [full_frame, side_to_side, tiny])
def test_in_doubt_the_whole_frame_is_kept(image_of, make):
    image = image_of(make())
    out = find_breast.apply(image)
    assert out.warnings == ("crop_fallback",)
    assert out.notes["crop_confidence"] < 0.5
    assert out.breast.all()
    assert crop.apply(out).pixels.shape == image.pixels.shape


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_an_empty_image_has_no_tissue(image_of, grey):
    with pytest.raises(RecordError, match="no_tissue") as caught:
        find_breast.apply(image_of(np.full((80, 60), grey, np.float32)))
    assert caught.value.code == "no_tissue"


def test_an_image_of_padding_alone_has_no_tissue(image_of):
    pixels, padding = np.zeros((80, 60), np.float32), np.ones((80, 60), bool)
    with pytest.raises(RecordError, match="no_tissue"):
        find_breast.apply(image_of(pixels, padding=padding))


def test_confidence_and_labels_are_noted(breast, image_of, text_on):
    out = find_breast.apply(image_of(text_on(breast, "L", (150, 30))))
    assert 0.5 <= out.notes["crop_confidence"] <= 1
    (box,) = out.notes["labels"]
    assert box[0] <= 150
    assert box[2] >= 158


def test_label_boxes_are_in_stored_pixels(breast, image_of, text_on):
    image = image_of(text_on(breast, "L", (150, 30)))
    from dataclasses import replace

    turned = replace(image, pixels=image.pixels[:, ::-1], geometry=image.geometry.flipped_lr())
    assert find_breast.apply(turned).notes["labels"] == find_breast.apply(image).notes["labels"]
