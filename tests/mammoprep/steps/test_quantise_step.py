"""Quantising: once, half up, with the intensity of the measured breast."""

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError
from mammoprep.steps import quantise


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (16, np.uint16)])
def test_halves_are_rounded_up(image_of, bits, kind):
    top = 2**bits - 1
    halves = np.array([[0.0, 0.5 / top, 1.5 / top, 2.5 / top, 1.0, 1.2, -0.1]])
    out = quantise.apply(image_of(halves), bits=bits)
    assert out.pixels.dtype == kind
    assert out.pixels.tolist() == [[0, 1, 2, 3, top, top, 0]]


def test_the_result_is_read_only(image_of):
    with pytest.raises(ValueError, match="read-only"):
        quantise.apply(image_of(np.zeros((2, 2), np.float32))).pixels[0, 0] = 1


def test_intensity_counts_the_measured_breast_only(image_of):
    pixels = np.zeros((10, 101), np.float32)
    pixels[:, :] = np.linspace(0, 1, 101)
    breast = np.zeros(pixels.shape, bool)
    breast[:, 20:61] = True
    padding = np.zeros(pixels.shape, bool)
    padding[:, 41:] = True
    image = image_of(pixels, breast=breast, padding=padding)
    assert quantise.apply(image).notes["intensity"] == [0.2, 0.25, 0.3, 0.35, 0.4]


def test_intensity_has_four_digits(image_of):
    values = np.random.default_rng(0).random((50, 50), dtype=np.float32)
    noted = quantise.apply(image_of(values)).notes["intensity"]
    assert noted == [round(v, 4) for v in noted]
    assert noted == sorted(noted)


def test_an_empty_mask_falls_back_to_what_was_measured(image_of):
    pixels = np.full((4, 4), 0.5, np.float32)
    image = image_of(pixels, breast=np.zeros((4, 4), bool), padding=np.ones((4, 4), bool))
    assert quantise.apply(image).notes["intensity"] == [0.5] * 5


def test_other_depths_are_a_config_error(image_of):
    with pytest.raises(ConfigError):
        quantise.apply(image_of(np.zeros((2, 2), np.float32)), bits=12)
