"""What is measured of a finished picture, against plain numpy and shapes with known answers."""

import cv2
import numpy as np
import pytest

from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.image import MammoImage
from mammoprep.writers.measures import DIGITS, NAMES, measure


def image(pixels, mask=None, padding=None):
    record = Record(key="a", source="a", group="a", input="a")
    geometry = Geometry.of_stored(pixels.shape[:2])
    return MammoImage(pixels, geometry, record, mask=mask, padding=padding)


def noise(shape=(90, 70), dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def drawn(shape=(400, 400)):
    return np.zeros(shape, np.uint8)


def test_every_name_is_there_and_without_a_mask_its_part_is_unknown():
    found = measure(image(noise()))
    assert tuple(found) == NAMES
    assert {name for name, value in found.items() if value is None} == {
        name for name in NAMES if name.startswith("mask_")
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mean_spread_and_maximum_are_those_of_numpy(dtype):
    pixels = noise(dtype=dtype)
    found, top = measure(image(pixels)), np.iinfo(dtype).max
    assert found["mean"] == pytest.approx(pixels.mean() / top, rel=1e-5)
    assert found["spread"] == pytest.approx(pixels.std() / top, rel=1e-5)
    assert found["maximum"] == pytest.approx(pixels.max() / top, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_sharpness_is_the_variance_of_the_laplacian(dtype):
    pixels = noise((64, 64), dtype)
    wide = np.pad(pixels / np.iinfo(dtype).max, 1, mode="reflect")
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    expected = np.log10((around - 4 * wide[1:-1, 1:-1]).var())
    assert measure(image(pixels))["sharpness"] == pytest.approx(expected, abs=1e-5)


def test_blur_lowers_the_fine_sharpness_most_and_contrast_lowers_all_alike():
    names = ("sharpness", "sharpness_half", "sharpness_quarter")
    pixels = noise((256, 256))
    sharp = measure(image(pixels))
    blurred = measure(image(cv2.GaussianBlur(pixels, (0, 0), 1.0)))
    faint = measure(image(pixels // 4))
    lost = [sharp[name] - blurred[name] for name in names]
    assert lost[0] > lost[1] + 0.5 > lost[2] + 1
    for name in names:
        assert sharp[name] - faint[name] == pytest.approx(np.log10(16), abs=0.05)


def test_a_flat_picture_has_a_floor_of_sharpness():
    assert measure(image(np.full((20, 20), 7, np.uint8)))["sharpness"] == -10


def test_padding_never_counts():
    inner = noise((60, 40))
    padded = np.zeros((100, 80), np.uint8)
    padded[:60, :40] = inner
    padding = np.ones((100, 80), bool)
    padding[:60, :40] = False
    found, alone = measure(image(padded, padding=padding)), measure(image(inner))
    for name in ("mean", "spread", "maximum"):
        assert found[name] == alone[name]
    assert found["sharpness"] == pytest.approx(alone["sharpness"], abs=0.05)
    flat = np.where(padding, 0, 200).astype(np.uint8)
    for name in ("sharpness", "sharpness_half", "sharpness_quarter"):
        assert measure(image(flat, padding=padding))[name] == -10


def test_a_picture_of_padding_alone_is_measured_whole():
    assert measure(image(np.full((9, 9), 51, np.uint8), padding=np.ones((9, 9), bool)))["mean"] == (
        0.2
    )


def test_a_colour_picture_is_measured_by_its_luma():
    red = np.zeros((9, 9, 3), np.uint8)
    red[..., 0] = 255
    assert measure(image(red))["mean"] == pytest.approx(0.299, abs=0.002)


def test_an_empty_mask_says_so():
    found = measure(image(noise(), mask=np.zeros((90, 70), np.uint8)))
    assert found["mask_area"] == found["mask_pieces"] == 0
    assert found["mask_mean"] is None
    assert found["mask_solidity"] is None


def test_a_disc_is_round_solid_and_compact():
    mask = drawn()
    cv2.circle(mask, (200, 180), 90, 255, -1)
    found = measure(image(noise((400, 400)), mask))
    assert found["mask_area"] == pytest.approx(np.pi * 90**2 / 400**2, rel=0.02)
    assert found["mask_elongation"] == pytest.approx(1, abs=0.01)
    assert found["mask_solidity"] == pytest.approx(1, abs=0.01)
    assert found["mask_compactness"] == pytest.approx(4 * np.pi, rel=0.15)
    assert found["mask_aspect"] == 1


@pytest.mark.parametrize("angle", [0, 30, 90])
def test_elongation_does_not_depend_on_the_direction(angle):
    mask = drawn()
    cv2.ellipse(mask, (200, 200), (150, 50), angle, 0, 360, 255, -1)
    assert measure(image(noise((400, 400)), mask))["mask_elongation"] == pytest.approx(3, abs=0.1)


def test_a_star_is_less_solid_and_less_compact_than_a_disc():
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    reach = np.where(np.arange(24) % 2, 50, 150)
    corners = 200 + np.stack([reach * np.cos(turns), reach * np.sin(turns)], axis=1)
    mask = drawn()
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    found = measure(image(noise((400, 400)), mask))
    assert found["mask_solidity"] < 0.6
    assert found["mask_compactness"] > 30


def test_height_by_width_and_pieces():
    mask = drawn()
    mask[10:110, 20:45] = 255
    mask[2:4, 300:310] = mask[300:310, 300:310] = 255
    found = measure(image(noise((400, 400)), mask))
    assert found["mask_pieces"] == 3
    assert found["mask_aspect"] == 4
    assert found["mask_area"] == (2500 + 20 + 100) / 160_000


def test_grey_inside_and_against_the_ring_around():
    pixels = np.full((200, 200), 51, np.uint8)
    mask = drawn((200, 200))
    mask[80:120, 80:120] = 255
    pixels[mask > 0] = 204
    found = measure(image(pixels, mask))
    assert found["mask_mean"] == 0.8
    assert found["mask_spread"] == 0
    assert found["mask_contrast"] == pytest.approx(0.6)


def test_the_ring_is_a_quarter_of_the_lesion_wide_and_leaves_out_padding():
    pixels = np.zeros((200, 200), np.uint8)
    pixels[70:130, 70:130] = 255
    mask = drawn((200, 200))
    mask[80:120, 80:120] = 255
    assert measure(image(pixels, mask))["mask_contrast"] == 0
    pixels = pixels.copy()
    pixels[70, 100] = 0
    assert measure(image(pixels, mask))["mask_contrast"] > 0
    padding = pixels == 0
    assert measure(image(pixels, mask, padding))["mask_contrast"] == 0


def test_a_mask_that_leaves_nothing_around_it_has_no_contrast():
    found = measure(image(noise((30, 30)), np.full((30, 30), 255, np.uint8)))
    assert found["mask_area"] == 1
    assert found["mask_contrast"] is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2)])
def test_the_smallest_pictures_and_masks_are_measured(shape):
    mask = np.zeros(shape, np.uint8)
    mask[0, 0] = 255
    found = measure(image(noise(shape), mask))
    assert found["mask_elongation"] == 1
    assert found["mask_solidity"] == 1
    assert found["mask_compactness"] == 0


def test_values_have_six_digits():
    mask = drawn((90, 70))
    mask[5:30, 7:19] = 255
    for value in measure(image(noise(), mask)).values():
        assert value == float(f"{value:.{DIGITS}g}")
