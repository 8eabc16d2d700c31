"""``--mm-per-pixel``: a finished pixel is as wide as asked for, in both directions."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import RECORD

from mammoprep.core.errors import RecordError
from mammoprep.core.geometry import Geometry
from mammoprep.image import MammoImage
from mammoprep.steps import resize


def image(spacing: tuple[float, float] | None, shape: tuple[int, int] = (300, 200)) -> MammoImage:
    pixels = np.random.default_rng(1).random(shape).astype(np.float32)
    return MammoImage(pixels, Geometry.of_stored(shape, spacing), RECORD)


@pytest.mark.parametrize("spacing", [(0.1, 0.1), (0.07, 0.07), (0.1, 0.05)])
@pytest.mark.parametrize("mm_per_pixel", [0.1, 0.15, 0.4])
def test_a_pixel_is_as_wide_as_asked_for(spacing: tuple[float, float], mm_per_pixel: float) -> None:
    done = resize.apply(image(spacing), size=(260, 320), mm_per_pixel=mm_per_pixel)
    assert done.geometry.size == (320, 260)
    found = done.geometry.spacing_mm
    assert found is not None
    for side, value in zip((300, 200), found, strict=True):
        pixels = side * spacing[(300, 200).index(side)] / mm_per_pixel
        assert abs(value - mm_per_pixel) <= mm_per_pixel * 0.5 / pixels + 1e-12


def test_a_distance_is_the_same_in_two_images_of_one_scale() -> None:
    lengths = []
    for spacing, shape in (((0.1, 0.1), (300, 200)), ((0.05, 0.05), (600, 400))):
        done = resize.apply(image(spacing, shape), size=(200, 300), mm_per_pixel=0.2)
        ends = done.geometry.from_stored([(0, 0), (10 / spacing[1], 0)])
        lengths.append(float(ends[1, 0] - ends[0, 0]))
    assert lengths == pytest.approx([50, 50])


def test_what_is_not_covered_is_padding() -> None:
    done = resize.apply(image((0.1, 0.1)), size=(260, 320), mm_per_pixel=0.2)
    assert done.padding is not None
    assert done.padding.mean() == pytest.approx(1 - 150 * 100 / (320 * 260))


def test_without_spacing_or_room_there_is_no_picture() -> None:
    with pytest.raises(RecordError) as caught:
        resize.apply(image(None), size=(260, 320), mm_per_pixel=0.2)
    assert caught.value.code == "no_spacing"
    with pytest.raises(RecordError) as caught:
        resize.apply(image((0.1, 0.1)), size=(260, 320), mm_per_pixel=0.05)
    assert caught.value.code == "larger_than_frame"


def test_nothing_is_scaled_by_itself() -> None:
    plain = resize.apply(image((0.1, 0.1)), size=(260, 320))
    other = resize.apply(replace(image((0.1, 0.1))), size=(260, 320), mm_per_pixel=None)
    np.testing.assert_array_equal(plain.pixels, other.pixels)
