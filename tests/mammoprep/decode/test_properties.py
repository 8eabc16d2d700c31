"""Properties that hold for every header: monotone, complementary, local."""

from typing import Any

import numpy as np
from dicoms import RECORD, dicom, lut, ramp
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep.decode.dicom import render_stored

FUNCTIONS = st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"])
CENTERS = st.floats(-500, 4600).map(lambda value: round(value, 3))
WIDTHS = st.floats(1, 6000).map(lambda value: round(value, 3))
SEEDS = st.integers(0, 2**32 - 1)
thorough = settings(max_examples=250, derandomize=True, deadline=None)


def _window(function: str, center: float, width: float) -> dict[str, Any]:
    return {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function}


def shown(words: np.ndarray, *, bits: int = 16, **attributes: Any) -> np.ndarray:
    return render_stored(dicom(words, 12, **attributes), RECORD, bits=bits)


@thorough
@given(FUNCTIONS, CENTERS, WIDTHS)
def test_a_window_never_reverses_the_order_of_values(
    function: str, center: float, width: float
) -> None:
    picture = shown(ramp(12), **_window(function, center, width)).ravel().astype(int)
    assert (np.diff(picture) >= 0).all()


@thorough
@given(FUNCTIONS, CENTERS, WIDTHS, st.sampled_from([None, 0.5, 2.0, -1.0]))
def test_the_two_photometric_interpretations_add_up_to_white(
    function: str, center: float, width: float, slope: float | None
) -> None:
    attributes = _window(function, center, width)
    if slope is not None:
        attributes |= {"RescaleSlope": slope, "RescaleIntercept": 0}
    light = shown(ramp(12), **attributes).astype(int)
    dark = shown(ramp(12), PhotometricInterpretation="MONOCHROME1", **attributes)
    assert np.abs(light + dark - 65535).max() <= 1


@thorough
@given(SEEDS, FUNCTIONS, CENTERS, WIDTHS)
def test_shuffling_pixels_shuffles_the_picture(
    seed: int, function: str, center: float, width: float
) -> None:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 4096, (64, 64)).astype(np.uint16)
    order = rng.permutation(words.size)
    moved = words.ravel()[order].reshape(words.shape)
    attributes = _window(function, center, width)
    picture = shown(words, **attributes)
    np.testing.assert_array_equal(
        shown(moved, **attributes), picture.ravel()[order].reshape(words.shape)
    )


@thorough
@given(SEEDS, st.integers(0, 4095), st.integers(0, 200), FUNCTIONS, CENTERS, WIDTHS)
def test_padding_changes_no_other_pixel(
    seed: int, value: int, spread: int, function: str, center: float, width: float
) -> None:
    words = np.random.default_rng(seed).integers(0, 4096, (64, 64)).astype(np.uint16)
    attributes = _window(function, center, width)
    plain = shown(words, **attributes)
    limit = min(value + spread, 4095)
    padded = shown(words, PixelPaddingValue=value, PixelPaddingRangeLimit=limit, **attributes)
    outside = (words < value) | (words > limit)
    np.testing.assert_array_equal(padded[outside], plain[outside])
    assert set(np.unique(padded[~outside & (padded != plain)])) <= {0}


@thorough
@given(st.lists(st.tuples(CENTERS, WIDTHS), min_size=2, max_size=5), st.data(), FUNCTIONS)
def test_window_i_of_a_file_equals_a_file_with_only_that_window(
    windows: list[tuple[float, float]], data: st.DataObject, function: str
) -> None:
    index = data.draw(st.integers(0, len(windows) - 1))
    centers, widths = map(list, zip(*windows, strict=True))
    many = dicom(ramp(12), 12, **_window(function, centers, widths))  # type: ignore[arg-type]
    one = dicom(ramp(12), 12, **_window(function, *windows[index]))
    np.testing.assert_array_equal(
        render_stored(many, RECORD, voi=f"window:{index}"), render_stored(one, RECORD)
    )


@thorough
@given(SEEDS, st.integers(2, 3000), st.integers(0, 4000), st.integers(8, 16))
def test_a_table_is_read_entry_by_entry(seed: int, count: int, first: int, depth: int) -> None:
    entries = np.random.default_rng(seed).integers(0, 1 << depth, count)
    entries[0] = (1 << depth) - 1
    picture = shown(ramp(12), VOILUTSequence=[lut(entries, first, depth)])
    places = np.clip(ramp(12).astype(int) - first, 0, count - 1)
    expected = np.floor(entries[places] / ((1 << depth) - 1) * 65535 + 0.5)
    np.testing.assert_array_equal(picture, expected)
