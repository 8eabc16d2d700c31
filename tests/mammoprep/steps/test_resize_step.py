"""Resizing: exact areas, exact sizes, padding where it belongs, no lesion lost."""

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError
from mammoprep.steps import resize


def area_weights(length: int, count: int) -> np.ndarray:
    """Share of each output cell that each input pixel covers, (count, length), float64."""
    edges = np.arange(count + 1) * (length / count)
    pixel = np.arange(length)
    low = np.maximum(edges[:-1, None], pixel)
    high = np.minimum(edges[1:, None], pixel + 1)
    return np.clip(high - low, 0, None) / (length / count)


def linear_weights(length: int, count: int) -> np.ndarray:
    """Half-pixel-centre interpolation weights, (count, length), float64."""
    out = np.zeros((count, length))
    for i in range(count):
        centre = (i + 0.5) * length / count - 0.5
        low = int(np.floor(centre))
        for index, weight in ((low, 1 - (centre - low)), (low + 1, centre - low)):
            out[i, min(max(index, 0), length - 1)] += weight
    return out


def reference(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = values.shape
    down = (area_weights if size[0] <= rows else linear_weights)(rows, size[0])
    across = (area_weights if size[1] <= columns else linear_weights)(columns, size[1])
    return down @ values.astype(np.float64) @ across.T


def slow_cover(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Any overlap, pixel by pixel, in whole numbers."""
    rows, columns = mask.shape
    out = np.zeros(size, np.uint8)
    for y in range(size[0]):
        y0, y1 = y * rows // size[0], -(-(y + 1) * rows // size[0])
        for x in range(size[1]):
            x0, x1 = x * columns // size[1], -(-(x + 1) * columns // size[1])
            out[y, x] = mask[y0:y1, x0:x1].max()
    return out


SIZES = [(40, 30), (33, 47), (90, 20), (20, 90), (121, 83), (97, 61), (1, 1), (13, 61), (97, 7)]


@pytest.mark.parametrize("size", SIZES)
def test_scaling_is_the_plain_area_average_in_float64(size):
    values = np.random.default_rng(1).random((97, 61), dtype=np.float32)
    assert np.abs(resize.scale(values, size) - reference(values, size)).max() < 1e-5


def test_an_edge_a_thousandth_into_a_pixel_still_counts():
    values = np.zeros((3001, 1), np.float32)
    values[::2] = 1
    assert np.abs(resize.scale(values, (3000, 1)) - reference(values, (3000, 1))).max() < 1e-5


@pytest.mark.parametrize("flip", [False, True])
def test_scaling_a_flipped_view_equals_scaling_a_copy(flip):
    values = np.random.default_rng(2).random((50, 70), dtype=np.float32)[:, :: -1 if flip else 1]
    copied = resize.scale(np.ascontiguousarray(values), (20, 33))
    np.testing.assert_array_equal(resize.scale(values, (20, 33)), copied)


def test_a_constant_stays_exactly_constant_outside_of_rounding():
    values = np.full((123, 77), 0.7, np.float32)
    assert np.abs(resize.scale(values, (50, 200)) - 0.7).max() < 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_a_lesion_covers_every_pixel_it_overlaps_and_no_other(size):
    rng = np.random.default_rng(3)
    mask = (rng.random((97, 61)) < 0.01).astype(np.uint8) * 255
    np.testing.assert_array_equal(resize.cover(mask, size), slow_cover(mask, size))


def test_a_one_pixel_lesion_survives_a_hundredfold_reduction(image_of):
    mask = np.zeros((1000, 800), np.uint8)
    mask[517, 333] = 255
    out = resize.apply(image_of(np.zeros((1000, 800), np.float32), mask=mask), size=(8, 10))
    assert np.count_nonzero(out.mask) == 1
    assert out.mask[5, 3] == 255


def test_the_breast_keeps_a_pixel_when_half_of_it_is_tissue(image_of):
    breast = np.zeros((8, 8), bool)
    breast[:, :5] = True
    out = resize.apply(image_of(np.zeros((8, 8), np.float32), breast=breast), size=(4, 4))
    np.testing.assert_array_equal(out.breast[0], [True, True, True, False])


@pytest.mark.parametrize(
    ("grid", "size", "content"),
    [
        ((400, 100), (300, 400), (0, 0, 100, 400)),
        ((100, 400), (400, 300), (0, 100, 400, 200)),
        ((100, 401), (400, 301), (0, 100, 400, 200)),
        ((333, 77), (64, 128), (0, 0, 30, 128)),
    ],
)
def test_padding_lies_right_above_and_below(image_of, grid, size, content):
    out = resize.apply(image_of(np.ones(grid, np.float32)), size=size)
    x0, y0, x1, y1 = content
    assert out.pixels.shape == size[::-1]
    filled = np.zeros(size[::-1], bool)
    filled[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(out.pixels > 0, filled)
    np.testing.assert_array_equal(out.padding, ~filled)


def test_centred_padding_lies_on_all_sides(image_of):
    out = resize.apply(image_of(np.ones((400, 100), np.float32)), size=(301, 400), centred=True)
    columns = np.flatnonzero(out.pixels.any(axis=0))
    assert (columns[0], columns[-1]) == (100, 199)
    assert out.geometry.from_stored([(0.0, 0.0)])[0, 0] == 100.0


def test_the_matrix_holds_the_true_scale_of_each_axis(image_of):
    out = resize.apply(image_of(np.ones((333, 77), np.float32)), size=(64, 128))
    corner = out.geometry.from_stored([(77.0, 333.0)])[0]
    np.testing.assert_allclose(corner, (30.0, 128.0), atol=1e-9)


def test_stretch_fills_the_frame(image_of):
    out = resize.apply(image_of(np.ones((40, 10), np.float32)), size=(33, 21), fit="stretch")
    assert out.pixels.min() == pytest.approx(1.0)
    assert out.padding is None
    np.testing.assert_allclose(out.geometry.from_stored([(10.0, 40.0)]), [(33.0, 21.0)])


def test_padding_of_the_file_stays_padding(image_of):
    padding = np.zeros((40, 40), bool)
    padding[:, 20:] = True
    out = resize.apply(image_of(np.ones((40, 40), np.float32), padding=padding), size=(10, 20))
    np.testing.assert_array_equal(out.padding[7], [False] * 5 + [True] * 5)
    assert out.padding[0].all()


def test_three_channels_are_kept(image_of):
    out = resize.apply(image_of(np.ones((40, 20, 3), np.float32)), size=(10, 10))
    assert out.pixels.shape == (10, 10, 3)


@pytest.mark.parametrize(
    "parameters", [{"size": (0, 5)}, {"size": (5,)}, {"size": (5, 5), "fit": "crop"}]
)
def test_a_wrong_parameter_is_a_config_error(image_of, parameters):
    with pytest.raises(ConfigError):
        resize.apply(image_of(np.ones((4, 4), np.float32)), **parameters)
