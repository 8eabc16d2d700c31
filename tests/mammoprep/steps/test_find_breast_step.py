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


def noisy(pixels, amount=0.015):
    return np.clip(pixels + np.random.default_rng(5).normal(0, amount, pixels.shape), 0, 1)


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
    pixels = np.zeros((600, 700), np.float32)
    film = draw(480, 360, level=0.03)
    film += np.random.default_rng(1).normal(0, 0.001, film.shape).astype(np.float32)
    pixels[60:540, 160:520] = film
    pixels[590:592, 20:680] = 0.3  # a mark of the scanner, beside the sheet
    out = find_breast.apply(image_of(pixels))
    assert overlap(found_box(out), (160, 142, 358, 458)) > 0.9


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


def noise_only():
    return 0.4 + 0.2 * np.random.default_rng(0).random((200, 150), dtype=np.float32)


def full_frame():
    y, x = np.mgrid[:200, :150]
    return np.where(x + y > 40, 0.5, 0.0).astype(np.float32)


def side_to_side():
    y, x = np.mgrid[:200, :150]
    return np.where(y > 80 + 40 * np.cos(x / 75 - 1), 0.5, 0.0).astype(np.float32)


def tiny():
    y, x = np.mgrid[:400, :400]
    return np.where((x - 200) ** 2 + (y - 180) ** 2 < 300, 0.5, 0.0).astype(np.float32)


def two_breasts():
    y, x = np.mgrid[:300, :300]
    left = ((x / 100) ** 2 + ((y - 150) / 90) ** 2) < 1
    return np.where(left | left[:, ::-1], 0.5, 0.0).astype(np.float32)


@pytest.mark.parametrize("make", [noise_only, full_frame, side_to_side, tiny, two_breasts])
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


def test_what_is_thin_and_hangs_on_the_breast_is_part_of_it(breast, image_of):
    pixels = breast.copy()
    pixels[119:121, 95:110] = 0.3
    out = find_breast.apply(image_of(pixels))
    assert out.breast[119:121, 95:108].all()


def test_noise_decides_the_threshold_not_a_fixed_number(draw, image_of):
    dim = (draw() * 0.06).astype(np.float32)  # brighter than black by less than 4 % at its best
    assert overlap(found_box(find_breast.apply(image_of(dim))), BOX) > 0.9
    clean, grainy = draw(level=0.1), noisy(draw(level=0.1), 0.04).astype(np.float32)
    rises = [find_breast.apply(image_of(p)).notes["background"][2] for p in (clean, grainy)]
    assert rises[1] > rises[0]


@pytest.mark.parametrize("brightness", [0.15, 1.0])
def test_dim_print_is_a_label_too(breast, image_of, text_on, brightness):
    ink = text_on(np.zeros_like(breast), "LMLO", (110, 30)) * np.float32(brightness)
    out = find_breast.apply(image_of(np.maximum(breast, ink)))
    inside = np.zeros(breast.shape, bool)
    for x0, y0, x1, y1 in out.notes["labels"]:
        inside[y0:y1, x0:x1] = True
    assert inside[ink > 0.05].all()


def test_soft_tissue_beside_the_breast_is_no_label(breast, image_of):
    y, x = np.mgrid[:240, :180]
    fold = 0.3 * np.clip(1 - ((x / 25) ** 2 + ((y - 232) / 25) ** 2) ** 0.5, 0, 1)
    out = find_breast.apply(image_of(np.maximum(breast, fold).astype(np.float32)))
    assert out.notes["labels"] == []


def test_label_boxes_are_in_stored_pixels(breast, image_of, text_on):
    image = image_of(text_on(breast, "L", (150, 30)))
    from dataclasses import replace

    turned = replace(image, pixels=image.pixels[:, ::-1], geometry=image.geometry.flipped_lr())
    assert find_breast.apply(turned).notes["labels"] == find_breast.apply(image).notes["labels"]


def test_a_doubt_is_no_warning_where_nothing_is_cropped(image_of) -> None:
    image = image_of(full_frame())
    doubtful = find_breast.apply(image)
    assert doubtful.warnings == ("crop_fallback",)
    told = find_breast.apply(image, cropped=False)
    assert told.warnings == ()
    assert told.notes["crop_reason"] == doubtful.notes["crop_reason"]
