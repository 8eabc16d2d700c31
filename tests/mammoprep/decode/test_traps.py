"""Every trap of bits, padding, modality, VOI and presentation that real files are known to set."""

from typing import Any

import numpy as np
import pytest
from dicoms import (
    BIG_ENDIAN,
    EXPLICIT,
    IMPLICIT,
    JPEG2000,
    RECORD,
    breast,
    dicom,
    lut,
    ramp,
)
from pydicom.dataset import Dataset

from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.decode.dicom import read_image, render_stored


def shown(words: np.ndarray, bits: int | None = None, **attributes: Any) -> np.ndarray:
    """Return the 16-bit picture of words with a header."""
    voi = attributes.pop("voi", "auto")
    return render_stored(dicom(words, bits, **attributes), RECORD, voi=voi, bits=16)


def warnings_of(words: np.ndarray, bits: int | None = None, **attributes: Any) -> tuple[str, ...]:
    return read_image(dicom(words, bits, **attributes), RECORD).warnings


def code_of(data: bytes, **options: Any) -> str:
    with pytest.raises(RecordError) as caught:
        read_image(data, RECORD, **options)
    return caught.value.code


# Bits


def test_left_justified_values_are_shifted_down() -> None:
    plain = ramp(12)
    np.testing.assert_array_equal(shown(plain << 4, 12, HighBit=15), shown(plain, 12))


def test_bits_above_the_stored_ones_are_refused() -> None:
    words = breast()
    words[3, 3] = 0x1FFF
    assert code_of(dicom(words, 12)) == "bits_exceed_stored"


def test_bits_below_left_justified_values_are_refused() -> None:
    assert code_of(dicom((breast() << 4) | 1, 12, HighBit=15)) == "bits_exceed_stored"


def test_an_overlay_may_own_the_high_bits() -> None:
    words = breast()
    words[::2] |= 0x8000
    assert code_of(dicom(words, 12)) == "bits_exceed_stored"
    owned = dicom(words, 12, overlay_bit=15)
    np.testing.assert_array_equal(
        render_stored(owned, RECORD), render_stored(dicom(words & 0xFFF, 12), RECORD)
    )


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_twelve_bit_signed_values_get_their_sign(syntax: str) -> None:
    signed = ramp(12, signed=True)
    expected = np.rint((signed.astype(float) + 2048) / 4095 * 65535)
    for words in (signed, (signed.view("u2") & 0xFFF).view("i2")):
        picture = render_stored(dicom(words, 12, syntax=syntax), RECORD, bits=16)
        assert np.abs(picture - expected).max() <= 1


def test_eight_bit_words_in_big_endian_are_not_swapped() -> None:
    words = ramp(8)
    picture = render_stored(dicom(words, 8, syntax=BIG_ENDIAN), RECORD)
    np.testing.assert_array_equal(picture, words)


def test_odd_numbers_of_bytes_may_end_in_one_padding_byte() -> None:
    words = ramp(8, shape=(65, 67))
    for extra in (0, 1):
        frame = words.tobytes() + b"\0" * extra
        picture = render_stored(dicom(words, 8, frame=frame), RECORD)
        np.testing.assert_array_equal(picture, words)


@pytest.mark.parametrize("change", [-2, -64, 128 * 96 * 2, 128 * 96 * 2 + 2, 128 * 96 * 8])
def test_too_few_bytes_or_a_frame_too_many_are_a_mismatch(change: int) -> None:
    raw = breast().tobytes()
    frame = raw[:change] if change < 0 else raw + b"\0" * change
    assert code_of(dicom(breast(), 12, frame=frame)) == "pixel_length_mismatch"


@pytest.mark.parametrize(("rows", "columns"), [(64, 128), (128, 65), (127, 64)])
def test_an_edited_size_of_a_compressed_picture_is_a_mismatch(rows: int, columns: int) -> None:
    words = breast(shape=(128, 64))
    data = dicom(words, 12, syntax=JPEG2000, Rows=rows, Columns=columns)
    assert code_of(data) == "size_mismatch"


def test_a_codestream_of_sixteen_bits_may_hold_twelve_stored_ones() -> None:
    import imagecodecs

    words = breast()
    frame = imagecodecs.jpeg2k_encode(words, level=0, codecformat="jp2", bitspersample=16)
    data = dicom(words, 12, syntax=JPEG2000, frame=frame)
    np.testing.assert_array_equal(
        render_stored(data, RECORD, bits=16), render_stored(dicom(words, 12), RECORD, bits=16)
    )


def test_a_codestream_of_fewer_bits_is_recorded() -> None:
    words = breast(10)
    image = read_image(dicom(words, 12, syntax=JPEG2000, frame=_j2k(words, 10)), RECORD)
    assert "precision_below_stored" in image.warnings
    assert image.notes["codestream_precision"] == 10


def test_a_codestream_of_more_bits_than_allocated_is_refused() -> None:
    words = breast(8)
    data = dicom(words, 8, syntax=JPEG2000, frame=_j2k(words.astype("u2"), 12))
    assert code_of(data) == "precision_mismatch"


def test_colour_is_refused() -> None:
    assert (
        code_of(dicom(breast(8), PhotometricInterpretation="RGB", SamplesPerPixel=3))
        == "not_monochrome"
    )
    assert code_of(dicom(breast(8), PhotometricInterpretation="PALETTE COLOR")) == "not_monochrome"


def _j2k(words: np.ndarray, bits: int) -> bytes:
    import imagecodecs

    return imagecodecs.jpeg2k_encode(
        words, level=0, codecformat="j2k", bitspersample=bits, reversible=True
    )


# Padding


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("first", "last"), [(10, 20), (20, 10)])
def test_padding_range_is_inclusive_at_both_ends_and_in_any_order(
    photometric: str, first: int, last: int
) -> None:
    words = np.full((64, 64), 1000, np.uint16)
    words[:, 60:] = (9, 21, 10, 20)
    limits = {"PixelPaddingValue": first, "PixelPaddingRangeLimit": last}
    picture = shown(words, 12, PhotometricInterpretation=photometric, **limits)
    assert (picture[0, 60:] == 0).tolist() == [False, False, True, True]


def test_padding_is_black_in_both_polarities() -> None:
    words = breast()
    words[:, 60:] = 4000
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        data = dicom(words, 12, PixelPaddingValue=4000, PhotometricInterpretation=photometric)
        assert render_stored(data, RECORD)[:, 60:].max() == 0


def test_padding_values_inside_the_picture_stay_and_are_reported() -> None:
    words = breast()
    words[:, 80:] = 7
    words[60:70, 4:14] = 7
    image = read_image(dicom(words, 12, PixelPaddingValue=7), RECORD)
    assert image.padding is not None
    assert image.padding[:, 80:].all()
    assert not image.padding[60:70, 4:14].any()
    assert "padding_inside" in image.warnings


def test_padding_reaches_through_corners() -> None:
    words = breast()
    for step in range(8):
        words[step, step] = 7
    image = read_image(dicom(words, 12, PixelPaddingValue=7), RECORD)
    assert image.padding is not None
    assert image.padding.sum() == 8


def test_an_enclosed_row_of_padding_does_not_count_as_touching() -> None:
    words = breast()
    words[:, 90:] = 7
    words[30:40, 50:60] = 7
    image = read_image(dicom(words, 12, PixelPaddingValue=7), RECORD)
    assert image.padding is not None
    assert image.padding.sum() == 128 * 6


def test_nearly_everything_padding_is_a_warning() -> None:
    words = np.full((128, 128), 5, np.uint16)
    words[60:72, 60:72] = np.arange(144).reshape(12, 12) * 20 + 50
    assert "padding_excessive" in warnings_of(words, 12, PixelPaddingValue=5)


def test_a_padding_value_of_the_wrong_sign_type_is_read_by_the_pixels_sign() -> None:
    words = breast(16)
    words[:, 80:] = 0xF000
    data = dicom(words, 16, PixelPaddingValue=0xF000)
    wrong = data.replace(b"\x28\x00\x20\x01US", b"\x28\x00\x20\x01SS")
    assert wrong != data
    np.testing.assert_array_equal(render_stored(wrong, RECORD), render_stored(data, RECORD))


def test_padding_does_not_move_percentiles() -> None:
    words = breast()
    wide = np.concatenate([words, np.full((128, 96), 4095, np.uint16)], axis=1)
    narrow = shown(words, 12, voi="percentile")
    padded = shown(wide, 12, voi="percentile", PixelPaddingValue=4095)
    np.testing.assert_array_equal(padded[:, :96], narrow)


# Modality


def test_empty_rescale_values_count_as_absent() -> None:
    plain = shown(ramp(12), 12)
    np.testing.assert_array_equal(shown(ramp(12), 12, RescaleSlope="", RescaleIntercept=""), plain)


def test_a_negative_slope_inverts() -> None:
    plain = shown(ramp(12), 12).astype(int)
    inverted = shown(ramp(12), 12, RescaleSlope=-1, RescaleIntercept=0)
    np.testing.assert_array_equal(inverted[::-1, ::-1], plain)


def test_a_slope_of_zero_is_not_applied() -> None:
    assert "rescale_invalid" in warnings_of(breast(), 12, RescaleSlope=0, RescaleIntercept=5)


def test_a_modality_lut_is_applied_and_its_range_is_the_full_one() -> None:
    table = np.arange(4096)[::-1]
    picture = shown(ramp(12), 12, ModalityLUTSequence=[lut(table, 0, 12)])
    np.testing.assert_array_equal(picture[::-1, ::-1], shown(ramp(12), 12))


def test_a_modality_lut_clamps_below_its_first_value() -> None:
    picture = shown(ramp(12), 12, ModalityLUTSequence=[lut(np.arange(0, 4096, 2), 1000, 12)])
    assert (picture[ramp(12) <= 1000] == 0).all()
    assert (picture[ramp(12) >= 1000 + 2047] == picture.max()).all()


def test_a_modality_lut_wins_over_a_rescale() -> None:
    words = breast()
    table = [lut(np.arange(4096), 0, 12)]
    found = warnings_of(words, 12, ModalityLUTSequence=table, RescaleSlope=2, RescaleIntercept=1)
    assert {"modality_lut", "modality_conflict"} <= set(found)


# VOI: which


WINDOWS = {"WindowCenter": [1000, 2000, 3000], "WindowWidth": [500, 600, 700]}


def test_the_first_table_wins_over_windows() -> None:
    table = lut(np.arange(4096), 0, 12)
    image = read_image(dicom(breast(), 12, VOILUTSequence=[table, table], **WINDOWS), RECORD)
    assert (image.acquisition.voi, image.acquisition.window) == ("lut:0", None)


@pytest.mark.parametrize("missing", ["LUTDescriptor", "LUTData"])
def test_an_incomplete_table_counts_as_absent(missing: str) -> None:
    table = lut(np.arange(4096), 0, 12)
    del table[missing]
    image = read_image(dicom(breast(), 12, VOILUTSequence=[table], **WINDOWS), RECORD)
    assert image.acquisition.voi == "window:0"


def test_an_empty_table_sequence_counts_as_absent() -> None:
    image = read_image(dicom(breast(), 12, VOILUTSequence=[], **WINDOWS), RECORD)
    assert image.acquisition.voi == "window:0"


def test_a_table_of_zeros_is_passed_over() -> None:
    image = read_image(dicom(breast(), 12, VOILUTSequence=[lut([0] * 16, 0, 8)], **WINDOWS), RECORD)
    assert image.acquisition.voi == "window:0"
    assert "lut_invalid" in image.warnings


def test_a_missing_window_is_reported_and_gives_the_full_range() -> None:
    image = read_image(dicom(breast(), 12), RECORD)
    assert image.acquisition.voi == "none"
    assert "voi_missing" in image.warnings
    np.testing.assert_allclose(image.pixels, breast() / 4095, atol=1e-6)


def test_uneven_numbers_of_centres_and_widths_pair_up_as_far_as_they_go() -> None:
    data = dicom(breast(), 12, WindowCenter=[1000, 2000], WindowWidth=[500])
    image = read_image(data, RECORD)
    assert image.acquisition.window == (1000, 500)
    assert "window_count_mismatch" in image.warnings


@pytest.mark.parametrize("voi", ["window:7", "lut:3"])
def test_an_index_past_the_end_falls_back_to_the_full_range(voi: str) -> None:
    image = read_image(dicom(breast(), 12, **WINDOWS), RECORD, voi=voi)
    assert image.acquisition.voi == "range"
    assert "voi_missing" in image.warnings


@pytest.mark.parametrize("index", [0, 1, 2])
def test_window_i_equals_a_file_with_only_pair_i(index: int) -> None:
    alone = {name: values[index] for name, values in WINDOWS.items()}
    np.testing.assert_array_equal(
        shown(ramp(12), 12, voi=f"window:{index}", **WINDOWS), shown(ramp(12), 12, **alone)
    )


def test_fractions_of_a_window_are_kept() -> None:
    low = shown(ramp(12), 12, WindowCenter="2047.5", WindowWidth="2999")
    high = shown(ramp(12), 12, WindowCenter="2048", WindowWidth="3000")
    assert not np.array_equal(low, high)


@pytest.mark.parametrize("function", ["", "SIGMOID ", " sigmoid", "LINEAR_EXACT ", "LINEAR"])
def test_a_padded_or_lower_case_function_is_understood(function: str) -> None:
    image = read_image(dicom(breast(), 12, VOILUTFunction=function, **WINDOWS), RECORD)
    assert image.acquisition.voi_function == (function.strip().upper() or "LINEAR")


def test_an_unknown_function_is_refused_only_where_a_window_is_used() -> None:
    data = dicom(breast(), 12, VOILUTFunction="CUBIC", **WINDOWS)
    assert code_of(data) == "voi_invalid"
    assert read_image(data, RECORD, voi="full").acquisition.voi == "range"


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_an_invalid_width_falls_to_the_next_pair_and_then_to_the_range(width: float) -> None:
    image = read_image(
        dicom(breast(), 12, WindowCenter=[1, 2000], WindowWidth=[width, 600]), RECORD
    )
    assert image.acquisition.voi == "window:1"
    assert "window_invalid" in image.warnings
    image = read_image(dicom(breast(), 12, WindowCenter=[1], WindowWidth=[width]), RECORD)
    assert image.acquisition.voi == "range"


def test_a_width_below_one_is_valid_outside_linear() -> None:
    data = dicom(breast(), 12, WindowCenter=1000, WindowWidth=0.5, VOILUTFunction="SIGMOID")
    assert read_image(data, RECORD).acquisition.voi == "window:0"


# VOI: how


def test_linear_of_width_one_is_a_threshold() -> None:
    picture = shown(ramp(12), 12, WindowCenter=2000, WindowWidth=1)
    np.testing.assert_array_equal(picture, np.where(ramp(12) > 1999.5, 65535, 0))


def test_the_full_range_window_is_the_identity() -> None:
    full = shown(ramp(12), 12, WindowCenter=2048, WindowWidth=4096)
    np.testing.assert_array_equal(full, shown(ramp(12), 12, voi="full"))


def test_the_sigmoid_has_a_slope_of_four_and_is_not_stretched() -> None:
    x = ramp(12).astype(float)
    picture = shown(ramp(12), 12, WindowCenter=1800, WindowWidth=1000, VOILUTFunction="SIGMOID")
    expected = 1 / (1 + np.exp(-4 * (x - 1800) / 1000))
    assert np.abs(picture / 65535 - expected).max() < 1e-5
    assert picture.min() > 0


def test_a_very_narrow_sigmoid_does_not_overflow() -> None:
    picture = shown(ramp(16), 16, WindowCenter=30000, WindowWidth=0.01, VOILUTFunction="SIGMOID")
    assert set(np.unique(picture)) <= {0, 32768, 65535}


def test_eight_bit_entries_may_be_packed_or_padded_to_words() -> None:
    table = np.arange(256)[::-1]
    packed = shown(ramp(8), 8, VOILUTSequence=[lut(table, 0, 8, width=1)])
    padded = shown(ramp(8), 8, VOILUTSequence=[lut(table, 0, 8, width=2)])
    np.testing.assert_array_equal(packed, padded)
    np.testing.assert_array_equal(packed, shown(ramp(8), 8)[::-1, ::-1])


def test_an_eight_bit_table_of_4096_entries_is_indexed_in_full() -> None:
    table = np.arange(4096) // 16
    picture = shown(ramp(12), 12, VOILUTSequence=[lut(table, 0, 8)])
    np.testing.assert_array_equal(picture, ramp(12) // 16 * 257)


def test_a_packed_table_of_odd_length_ignores_its_padding_byte() -> None:
    table = np.arange(255)
    picture = shown(ramp(8), 8, VOILUTSequence=[lut(table, 0, 8, width=1)])
    assert picture.max() == round(254 / 255 * 65535)


def test_zero_entries_mean_65536() -> None:
    table = np.arange(65536)
    data = dicom(ramp(16), 16, VOILUTSequence=[lut(table, 0, 16)])
    np.testing.assert_array_equal(render_stored(data, RECORD, bits=16), ramp(16))


def test_trailing_bytes_of_a_table_are_ignored() -> None:
    table = np.concatenate([np.arange(1024), [60000, 60000]])
    picture = shown(ramp(10), 10, VOILUTSequence=[lut(table, 0, 10, count=1024)])
    np.testing.assert_array_equal(picture, shown(ramp(10), 10))


def test_a_short_table_clamps_to_its_last_entry_and_is_reported() -> None:
    short = lut(np.arange(0, 1024, 2), 0, 10, count=1024)
    image = read_image(dicom(breast(10), 10, VOILUTSequence=[short]), RECORD)
    assert "lut_short" in image.warnings
    assert shown(ramp(10), 10, VOILUTSequence=[short])[-1, -1] == round(1022 / 1023 * 65535)


def test_values_above_the_declared_depth_widen_it() -> None:
    deep = lut(np.arange(4096), 0, 10)
    image = read_image(dicom(breast(), 12, VOILUTSequence=[deep]), RECORD)
    assert "lut_depth_understated" in image.warnings
    np.testing.assert_array_equal(shown(ramp(12), 12, VOILUTSequence=[deep]), shown(ramp(12), 12))


def test_a_depth_that_is_never_reached_yields_to_the_largest_entry() -> None:
    shallow = lut(np.arange(4001), 0, 16)
    image = read_image(dicom(breast(), 12, VOILUTSequence=[shallow]), RECORD)
    assert "lut_depth_overstated" in image.warnings
    assert shown(ramp(12), 12, VOILUTSequence=[shallow]).max() == 65535


def test_a_negative_first_value_is_read_by_its_vr_or_by_the_images_sign() -> None:
    table = lut(np.arange(4096), -2048, 12, vr="SS")
    mistaken = lut(np.arange(4096), 65536 - 2048, 12, vr="US")
    signed = ramp(12, signed=True)
    np.testing.assert_array_equal(
        shown(signed, 12, VOILUTSequence=[mistaken]), shown(signed, 12, VOILUTSequence=[table])
    )
    picture = shown(ramp(12), 12, VOILUTSequence=[table])
    assert picture[0, 0] == round(2048 / 4095 * 65535)


def test_a_first_value_above_32767_stays_positive_on_unsigned_images() -> None:
    picture = shown(ramp(16), 16, VOILUTSequence=[lut(np.arange(4096) * 16, 40000, 16)])
    assert (picture[ramp(16) <= 40000] == 0).all()
    assert picture[-1, -1] > 0


def test_a_table_is_entered_with_rounded_rescaled_values() -> None:
    picture = shown(
        ramp(12),
        12,
        RescaleSlope=0.5,
        RescaleIntercept=0,
        VOILUTSequence=[lut(np.arange(2048), 0, 11)],
    )
    expected = np.floor(np.minimum(np.floor(ramp(12) * 0.5 + 0.5), 2047) / 2047 * 65535 + 0.5)
    np.testing.assert_array_equal(picture, expected)


# Options


def test_a_window_of_the_users_own_is_linear() -> None:
    np.testing.assert_array_equal(
        shown(ramp(12), 12, voi="1000,500"), shown(ramp(12), 12, WindowCenter=1000, WindowWidth=500)
    )


@pytest.mark.parametrize("voi", ["", "auto ", "1000", "1,2,3", "a,b", "1,0", "nan,5", "5,inf"])
def test_a_window_that_makes_no_sense_is_the_users_mistake(voi: str) -> None:
    with pytest.raises(ConfigError):
        read_image(dicom(breast(), 12), RECORD, voi=voi)


def test_percentiles_are_reached_by_the_pixels() -> None:
    image = read_image(dicom(breast(), 12, **WINDOWS), RECORD, voi="percentile")
    assert image.acquisition.voi == "percentile"
    low, high = np.percentile(breast(), [1, 99], method="inverted_cdf")
    assert image.acquisition.window == ((low + high) / 2, high - low)
    assert (image.pixels.min(), image.pixels.max()) == (0, 1)


# Presentation


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "warned"),
    [
        ("MONOCHROME2", None, False, False),
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME2", "INVERSE", False, True),
        ("MONOCHROME1", None, True, False),
        ("MONOCHROME1", "INVERSE", True, False),
        ("MONOCHROME1", "IDENTITY", True, True),
    ],
)
def test_photometric_and_shape_describe_one_inversion(
    photometric: str, shape: str | None, inverted: bool, warned: bool
) -> None:
    words = 4095 - breast() if inverted else breast()
    attributes = {"PhotometricInterpretation": photometric}
    if shape:
        attributes["PresentationLUTShape"] = shape
    image = read_image(dicom(words, 12, **attributes), RECORD)
    np.testing.assert_allclose(image.pixels, breast() / 4095, atol=1e-6)
    assert ("presentation_conflict" in image.warnings) == warned


def test_inversion_uses_the_full_range_not_the_largest_pixel() -> None:
    words = np.array([[500, 1000, 2000]] * 64, np.uint16).repeat(32, axis=1)
    picture = render_stored(
        dicom(words, 12, PhotometricInterpretation="MONOCHROME1"), RECORD, bits=16
    )
    expected = np.floor((4095 - words.astype(float)) / 4095 * 65535 + 0.5)
    np.testing.assert_array_equal(picture, expected)


def test_pixel_intensity_relationship_never_inverts() -> None:
    plain = shown(ramp(12), 12)
    signed = shown(
        ramp(12), 12, PixelIntensityRelationship="LOG", PixelIntensityRelationshipSign=-1
    )
    np.testing.assert_array_equal(plain, signed)


def test_a_picture_shown_as_its_negative_is_refused() -> None:
    data = dicom(4095 - breast(), 12)
    assert code_of(data) == "polarity_suspect"
    assert code_of(data, gate_kind=False) == "polarity_suspect"
    turned = dicom(4095 - breast(), 12, PhotometricInterpretation="MONOCHROME1")
    assert read_image(turned, RECORD).pixels[64, 4] > 0.6


def test_a_negative_whose_air_is_padding_is_refused_by_the_skins_brightness() -> None:
    words = 4095 - breast(shape=(512, 384))
    words[breast(shape=(512, 384)) < 100] = 4095
    words = words.astype(np.uint16)
    padded = {"PixelPaddingValue": 4095}
    assert code_of(dicom(words, 12, **padded)) == "polarity_suspect"
    right = dicom(words, 12, PhotometricInterpretation="MONOCHROME1", **padded)
    assert read_image(right, RECORD).notes["border_median"] < 0.6


def test_an_x_ray_that_nobody_calls_a_breast_is_only_warned_about() -> None:
    cr = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "CR"}
    image = read_image(dicom(4095 - breast(), 12, **cr), RECORD)
    assert {"computed_radiography", "polarity_suspect"} <= set(image.warnings)


@pytest.mark.parametrize("value", [0, 700, 4095])
def test_a_constant_picture_is_blank(value: int) -> None:
    assert code_of(dicom(np.full((128, 128), value, np.uint16), 12)) == "blank_image"


def test_a_picture_of_padding_only_is_blank() -> None:
    assert (
        code_of(dicom(np.full((128, 128), 9, np.uint16), 12, PixelPaddingValue=9)) == "blank_image"
    )


def test_white_noise_is_no_picture_also_beside_padding() -> None:
    noise = np.random.default_rng(0).integers(1, 4096, (256, 256)).astype(np.uint16)
    assert code_of(dicom(noise, 12)) == "nonsense_image"
    noise[:, 128:] = 0
    assert code_of(dicom(noise, 12, PixelPaddingValue=0)) == "nonsense_image"


def test_an_item_that_is_no_table_at_all_counts_as_absent() -> None:
    image = read_image(dicom(breast(), 12, VOILUTSequence=[Dataset()], **WINDOWS), RECORD)
    assert image.acquisition.voi == "window:0"


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"RescaleSlope": "1e-20", "RescaleIntercept": "1"}, "rescale_invalid"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "0"}, "rescale_invalid"),
        ({"WindowCenter": "10", "WindowWidth": "1e-310"}, "window_invalid"),
        ({"WindowCenter": "-1e308", "WindowWidth": "1e308"}, "window_invalid"),
    ],
)
def test_numbers_at_the_edge_of_floats_are_not_used(attributes: dict[str, str], code: str) -> None:
    data = dicom(breast(), 12, VOILUTFunction="LINEAR_EXACT", **attributes)
    image = read_image(data, RECORD)
    assert code in image.warnings
    assert np.isfinite(image.pixels).all()
    assert image.pixels.max() > image.pixels.min()
