"""Properties that hold for every header: monotone, complementary, local.

3,250 examples go through whole files, 7,500 more through the table that every file becomes.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dicoms import EXPLICIT, RECORD, dicom, lut, ramp
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep.decode._facts import Grey, PixelFormat
from mammoprep.decode.dicom import render_stored
from mammoprep.decode.grayscale import parse_voi, render

FUNCTIONS = st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"])
CENTERS = st.floats(-500, 4600).map(lambda value: round(value, 3))
WIDTHS = st.floats(1, 6000).map(lambda value: round(value, 3))
SEEDS = st.integers(0, 2**32 - 1)
thorough = settings(max_examples=250, derandomize=True, deadline=None)
many = settings(max_examples=1000, derandomize=True, deadline=None)
frequent = settings(max_examples=2500, derandomize=True, deadline=None)


def _window(function: str, center: float, width: float) -> dict[str, Any]:
    return {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function}


VOIS = st.sampled_from(["auto", "full", "percentile", "window:0"])
Layout = tuple[int, bool, bool]
LAYOUTS = st.tuples(st.sampled_from([8, 10, 12, 16]), st.booleans(), st.booleans())


def noise(seed: int, layout: Layout) -> np.ndarray:
    """Return any stored values of a layout: (bits, signed, MONOCHROME1)."""
    bits, signed, _ = layout
    low = -(1 << (bits - 1)) if signed else 0
    values = np.random.default_rng(seed).integers(low, low + (1 << bits), (64, 64))
    return values.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")


def drawn(words: np.ndarray, layout: Layout, voi: str, **attributes: Any) -> np.ndarray:
    bits, _, mono1 = layout
    attributes["PhotometricInterpretation"] = f"MONOCHROME{1 if mono1 else 2}"
    return render_stored(dicom(words, bits, **attributes), RECORD, voi=voi, bits=16)


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


@pytest.mark.slow
@many
@given(SEEDS, LAYOUTS, FUNCTIONS, CENTERS, WIDTHS, VOIS)
def test_no_transform_looks_at_where_a_pixel_is(
    seed: int, layout: Layout, function: str, center: float, width: float, voi: str
) -> None:
    words = noise(seed, layout)
    order = np.random.default_rng(seed + 1).permutation(words.size)
    attributes = _window(function, center, width)
    picture = drawn(words, layout, voi, **attributes)
    moved = drawn(words.ravel()[order].reshape(words.shape), layout, voi, **attributes)
    np.testing.assert_array_equal(moved, picture.ravel()[order].reshape(words.shape))


@thorough
@given(SEEDS, st.integers(0, 4095), st.integers(0, 200), FUNCTIONS, CENTERS, WIDTHS)
def test_declaring_padding_changes_no_other_pixel(
    seed: int, value: int, spread: int, function: str, center: float, width: float
) -> None:
    words = noise(seed, (12, False, False))
    attributes = _window(function, center, width)
    plain = shown(words, **attributes)
    limit = min(value + spread, 4095)
    padded = shown(words, PixelPaddingValue=value, PixelPaddingRangeLimit=limit, **attributes)
    outside = (words < value) | (words > limit)
    np.testing.assert_array_equal(padded[outside], plain[outside])
    assert set(np.unique(padded[~outside & (padded != plain)])) <= {0}


@pytest.mark.slow
@many
@given(SEEDS, LAYOUTS, FUNCTIONS, CENTERS, st.integers(0, 20), st.integers(1, 15), VOIS)
def test_adding_padding_changes_no_measured_pixel(
    seed: int, layout: Layout, function: str, center: float, spread: int, added: int, voi: str
) -> None:
    """Also under ``percentile``, where every measured pixel has a say and padding has none."""
    draw, words = np.random.default_rng(seed), noise(seed, layout)
    low = int(draw.choice(words.ravel()))
    high = min(low + spread, int(np.iinfo(words.dtype).max), int(words.max()))
    inside = (words >= low) & (words <= high)
    words[inside] = draw.choice(words[~inside])
    attributes = _window(function, center, 900.5)
    frame = ((added % 4, 0), (added // 2, added - added // 2))
    wide = np.pad(words, frame, constant_values=low)
    around = np.pad(np.zeros(words.shape, bool), frame, constant_values=True)
    wide[around] = draw.integers(low, high + 1, int(around.sum()))
    padding = {"PixelPaddingValue": low, "PixelPaddingRangeLimit": high}
    picture = drawn(wide, layout, voi, **attributes, **padding)
    assert not picture[around].any()
    measured = picture[~around].reshape(words.shape)
    np.testing.assert_array_equal(measured, drawn(words, layout, voi, **attributes))


@thorough
@given(st.lists(st.tuples(CENTERS, WIDTHS), min_size=2, max_size=5), st.data(), FUNCTIONS)
def test_window_i_of_a_file_equals_a_file_with_only_that_window(
    windows: list[tuple[float, float]], data: st.DataObject, function: str
) -> None:
    index = data.draw(st.integers(0, len(windows) - 1))
    centers, widths = map(list, zip(*windows, strict=True))
    several = dicom(ramp(12), 12, **_window(function, centers, widths))  # type: ignore[arg-type]
    one = dicom(ramp(12), 12, **_window(function, *windows[index]))
    np.testing.assert_array_equal(
        render_stored(several, RECORD, voi=f"window:{index}"), render_stored(one, RECORD)
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


# The same on tables, over every bit pattern


PLAIN = Grey(None, None, None, (), (), (), "LINEAR", None, None)
SHARES = st.floats(-0.3, 1.3)
SPREADS = st.floats(1e-3, 3)


def _format(layout: Layout) -> PixelFormat:
    bits, signed, mono1 = layout
    photometric = f"MONOCHROME{1 if mono1 else 2}"
    return PixelFormat(
        EXPLICIT, 64, 64, 1, photometric, 8 if bits == 8 else 16, bits, bits - 1, signed, 0, None
    )


def table(grey: Grey, layout: Layout, voi: str = "auto") -> np.ndarray:
    """Return presentation values by bit pattern."""
    dtype = np.dtype(f"{'i' if layout[1] else 'u'}{1 if layout[0] == 8 else 2}")
    return render(grey, _format(layout), dtype, parse_voi(voi), None).table


def in_order(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Return the part of a table that can be stored, from the lowest value to the highest."""
    half = 1 << (layout[0] - 1)
    return np.concatenate([values[-half:], values[:half]]) if layout[1] else values[: 2 * half]


def _windowed(function: str, *pairs: tuple[float, float]) -> Grey:
    centers, widths = zip(*pairs, strict=True)
    return replace(PLAIN, centers=centers, widths=widths, function=function)


def _pair(layout: Layout, center: float, width: float) -> tuple[float, float]:
    """Return the window that is given in shares of the stored range."""
    span = 1 << layout[0]
    return (center - 0.5 * layout[1]) * span, max(width * span, 1.0)


@pytest.mark.slow
@frequent
@given(LAYOUTS, FUNCTIONS, SHARES, SPREADS, st.sampled_from([None, 0.5, 3.0, -1.0, -0.25]))
def test_a_table_keeps_or_turns_the_order_of_all_values(
    layout: Layout, function: str, center: float, width: float, slope: float | None
) -> None:
    grey = replace(_windowed(function, _pair(layout, center, width)), slope=slope)
    steps = np.diff(in_order(table(grey, layout), layout))
    falling = layout[2] != (slope is not None and slope < 0)
    assert (steps <= 0).all() if falling else (steps >= 0).all()


@pytest.mark.slow
@frequent
@given(LAYOUTS, FUNCTIONS, SHARES, SPREADS, st.sampled_from(["auto", "full", "100.5,77"]))
def test_a_table_and_its_inverse_add_up_to_one(
    layout: Layout, function: str, center: float, width: float, voi: str
) -> None:
    grey = _windowed(function, _pair(layout, center, width))
    light, dark = (table(grey, (*layout[:2], mono1), voi) for mono1 in (False, True))
    np.testing.assert_array_equal(dark, 1 - light)
    assert light.min() >= 0
    assert light.max() <= 1


@pytest.mark.slow
@frequent
@given(LAYOUTS, FUNCTIONS, st.lists(st.tuples(SHARES, SPREADS), min_size=1, max_size=5), st.data())
def test_window_i_of_a_header_equals_a_header_with_only_that_window(
    layout: Layout, function: str, shares: list[tuple[float, float]], data: st.DataObject
) -> None:
    """A width of zero takes part: it gives the whole range in both."""
    pairs = [_pair(layout, center, width) for center, width in shares]
    pairs = [(c, w if w > 2 else 0.0) for c, w in pairs]
    index = data.draw(st.integers(0, len(pairs) - 1))
    np.testing.assert_array_equal(
        table(_windowed(function, *pairs), layout, f"window:{index}"),
        table(_windowed(function, pairs[index]), layout),
    )
