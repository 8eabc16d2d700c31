"""Masks of all depths, numbers and kinds of files: the right area, or a code; never silence."""

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
from dicoms import breast, dicom
from hypothesis import given, settings
from mask_files import (
    KINDS,
    SHAPE,
    VOC,
    frame_of,
    palette,
    pillow,
    ppm,
    rgb,
    segment,
    segmentation,
    shallow_png,
    u8,
    u16,
)

from mammoprep.core import mask_values
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.schema import Lesion, MaskFile
from mammoprep.decode import masks

AREA = MaskFile("mass", "malignant", ("mask.png",))
PLACES = [(8, 10), (8, 50), (40, 10), (40, 50)]  # of four findings that lie apart


def squares(numbers: list[int], side: int = 12) -> np.ndarray:
    values = np.zeros(SHAPE, np.int64)
    for number, (row, column) in zip(numbers, PLACES, strict=False):
        values[row : row + side, column : column + side + 4] = number
    return values


def read(data: bytes, values: str = "instances", shape: tuple[int, int] = SHAPE) -> masks.Found:
    return masks.read(AREA, [data], shape, mask_values.parse(values))


def refused(data: bytes, values: str = "instances", shape: tuple[int, int] = SHAPE) -> RecordError:
    with pytest.raises(RecordError) as caught:
        read(data, values, shape)
    return caught.value


def shown(lesion: Lesion) -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    corners = np.round((np.array(lesion.polygon) - 0.5) * 16).astype(np.int32)
    return cv2.fillPoly(drawn, [corners], 1, shift=4)


@settings(max_examples=120, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_a_mask_of_two_values_is_fore_and_background_in_every_file(
    kind: str, data: st.DataObject
) -> None:
    top, write = KINDS[kind]
    value = data.draw(
        st.sampled_from(sorted({1, min(2, top), top // 2 or 1, top})) | st.integers(1, top)
    )
    count, side = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 20))
    values = squares([value] * count, side)
    found = read(write(values))
    np.testing.assert_array_equal(found.mask > 0, values > 0)
    assert len(found.lesions) == count
    (number,) = {lesion.number for lesion in found.lesions}
    assert number is None or 1 < number <= 32  # which may be a kind's
    assert set(found.warnings) <= {"mask_in_alpha"}


@settings(max_examples=120, deadline=None)
@given(kind=st.sampled_from([name for name in sorted(KINDS) if KINDS[name][0] > 2]), data=st.data())
def test_a_mask_of_a_few_integers_is_numbered_findings_in_every_file(
    kind: str, data: st.DataObject
) -> None:
    top, write = KINDS[kind]
    numbers = data.draw(st.lists(st.integers(1, top), min_size=2, max_size=4, unique=True))
    values = squares(numbers, data.draw(st.integers(1, 20)))
    found = read(write(values))
    np.testing.assert_array_equal(found.mask > 0, values > 0)
    assert [lesion.number for lesion in found.lesions] == sorted(numbers)
    for lesion in found.lesions:
        assert not np.any((shown(lesion) > 0) & (values != lesion.number) & (values > 0))
    assert "mask_instances" in found.warnings
    united = read(write(values), "binary")
    np.testing.assert_array_equal(united.mask, found.mask)
    assert "mask_instances" not in united.warnings


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 255), min_size=4, max_size=4),
    side=st.integers(1, 20),
    blur=st.sampled_from([0, 3, 5, 9]),
    lossy=st.booleans(),
)
def test_no_finding_is_lost_in_silence_however_a_mask_was_smoothed(
    values: list[int], side: int, blur: int, lossy: bool
) -> None:
    drawn = wide(u8(squares(values, side)))
    picture = cv2.GaussianBlur(drawn, (blur, blur), 0) if blur else drawn
    data = pillow(picture, "JPEG", quality=92) if lossy else pillow(picture)
    try:
        found = read(data, shape=drawn.shape)
    except RecordError:
        return
    if found.warnings:
        return
    for (row, column), value in zip(PLACES, values, strict=True):
        if value > (masks_noise(picture) if lossy or blur else 0):
            place = found.mask[row : row + side, column : column + side + 4]
            assert place.any(), (value, found.warnings)


def masks_noise(picture: np.ndarray) -> float:
    """What is as dark as the noise of a JPEG cannot be told from it."""
    return max(int(picture.max()) * 32 / 255 + 12, 44)


@pytest.mark.parametrize("values", [(1, 2), (100, 200), (7, 9)])
def test_without_a_0_the_border_is_background_and_that_is_said(values: tuple[int, int]) -> None:
    for low, high in (values, values[::-1]):
        drawn = np.where(squares([1]) > 0, high, low)
        found = read(pillow(u8(drawn)))
        np.testing.assert_array_equal(found.mask > 0, drawn == high)
        assert found.warnings == ("mask_background",)


def test_a_mask_with_fore_and_background_exchanged_is_said() -> None:
    data = pillow(np.where(squares([1] * 4, 20) > 0, 0, 255).astype(np.uint8))
    assert read(data).warnings == ("mask_inverted", "mask_hole")
    named = read(data, "0=mass,255=background")
    np.testing.assert_array_equal(named.mask > 0, squares([1] * 4, 20) > 0)
    assert named.warnings == ()


def test_a_file_of_one_value_is_empty_or_refused() -> None:
    assert not read(pillow(u8(squares([])))).mask.any()
    assert refused(pillow(u8(squares([]) + 1))).code == "mask_not_binary"


def test_a_smooth_edge_is_no_finding() -> None:
    sharp = np.pad(u8(squares([255, 255])), ((0, 240), (0, 288)))
    for size in (3, 5):
        smooth = cv2.GaussianBlur(sharp, (size, size), 0)
        found = read(pillow(smooth), shape=smooth.shape)
        np.testing.assert_array_equal(found.mask > 0, smooth > 127)
        assert (found.warnings, len(found.lesions)) == ((), 2)
        shallow = read(shallow_png(smooth // 17, 4), shape=smooth.shape)
        assert (shallow.warnings, len(shallow.lesions)) == ((), 2)


def test_numbers_that_touch_and_that_lie_in_each_other_are_kept_apart() -> None:
    values = squares([1])
    values[8:20, 26:40] = 2
    values[12:15, 30:34] = 3
    found = read(pillow(u8(values)))
    assert [lesion.number for lesion in found.lesions] == [1, 2, 3]
    np.testing.assert_array_equal(found.mask > 0, values > 0)


def test_as_many_numbers_as_a_program_counts_parts_are_findings() -> None:
    values = np.zeros(SHAPE, np.uint16)
    values[2:-2:4, 2:-2:4] = np.arange(1, 1 + values[2:-2:4, 2:-2:4].size).reshape(19, 23)
    found = read(pillow(values))
    assert len(found.lesions) == values.max() == 437


def test_parts_of_one_number_are_findings_that_share_it() -> None:
    found = read(pillow(u8(squares([5, 7, 7]))))
    assert [(lesion.id, lesion.number) for lesion in found.lesions] == [(1, 5), (2, 7), (3, 7)]


def test_a_mask_in_grey_levels_of_a_picture_is_refused() -> None:
    assert refused(pillow(breast(8, shape=SHAPE))).code == "mask_not_binary"
    assert refused(pillow(breast(16, shape=SHAPE))).code == "mask_not_binary"
    assert refused(dicom(breast(12, shape=SHAPE), 12)).code == "mask_not_binary"
    ramp = np.tile(np.arange(96) // 3, (80, 1)).astype(np.uint8)
    assert refused(pillow(ramp)).code == "mask_not_binary"


def test_a_jpeg_that_is_nearly_black_is_empty_and_that_is_said() -> None:
    found = read(pillow(u8(squares([9, 20])), "JPEG", quality=95))
    assert (found.mask.any(), found.warnings) == (False, ("mask_faint",))
    assert read(pillow(u8(squares([])), "JPEG")).warnings == ()


def wide(values: np.ndarray) -> np.ndarray:
    """The same in a picture so large that hardly any of its pixels are between black and white."""
    return np.pad(values, ((0, 4 * SHAPE[0]), (0, 4 * SHAPE[1])))


@pytest.mark.parametrize("data", [
    pillow(wide(u8(squares([100, 200]))), "JPEG", quality=95),
    pillow(cv2.GaussianBlur(wide(u8(squares([90, 255]))), (3, 3), 0)),
    pillow(cv2.GaussianBlur(wide(u16(squares([90, 255])) * 200), (7, 7), 0)),
])  # fmt: skip
def test_findings_that_a_smooth_mask_would_lose_fail_it(data: bytes) -> None:
    error = refused(data, shape=wide(squares([])).shape)
    assert error.code == "mask_not_binary"
    assert "at the edge" in error.detail or "areas of a grey" in error.detail


def test_classes_are_kinds_and_names_are_kinds_or_pathologies() -> None:
    data = pillow(u8(squares([1, 2, 3, 1])))
    found = read(data, "classes")
    assert [lesion.kind for lesion in found.lesions] == ["1", "1", "2", "3"]
    assert {lesion.pathology for lesion in found.lesions} == {"malignant"}
    found = read(data, "1=calcification,2=benign,3=benign asymmetry")
    assert {(lesion.kind, lesion.pathology) for lesion in found.lesions} == {
        ("calcification", "malignant"), ("mass", "benign"), ("asymmetry", "benign")
    }  # fmt: skip
    found = read(data, "0=background,1=mass,2=ignore,3=mass")
    assert len(found.lesions) == 3
    assert not found.mask[8:20, 50:66].any()
    error = refused(data, "1=mass")
    assert (error.code, "2 (192 pixels), 3 (192 pixels)" in error.detail) == ("mask_unnamed", True)


def test_one_class_alone_has_its_number() -> None:
    (lesion,) = read(pillow(u8(squares([2]))), "classes").lesions
    assert lesion.kind == "2"


def test_kinds_are_not_guessed_from_a_smooth_file() -> None:
    smooth = pillow(cv2.GaussianBlur(u8(squares([255])), (5, 5), 0))
    for values in ("classes", "255=mass"):
        assert refused(smooth, values).code in ("mask_not_binary", "mask_unnamed")
        assert refused(pillow(u8(squares([255])), "JPEG"), values).code == "mask_not_binary"


def coloured() -> np.ndarray:
    picture = rgb(u8(squares([])))
    picture[8:20, 10:26], picture[8:20, 50:66] = (255, 0, 0), (0, 255, 0)
    return picture


def test_colours_need_names() -> None:
    error = refused(pillow(coloured()))
    assert error.code == "mask_colours"
    assert "#ff0000 (192 pixels)" in error.detail
    assert refused(pillow(coloured()), "classes").code == "mask_colours"
    assert refused(pillow(coloured(), "JPEG", quality=95)).code == "mask_colours"
    found = read(pillow(coloured()), "#ff0000=mass,#00FF00=benign calcification")
    assert [lesion.kind for lesion in found.lesions] == ["calcification", "mass"]
    assert refused(pillow(coloured()), "#ff0000=mass").code == "mask_unnamed"
    only = read(pillow(coloured()), "#ff0000=mass,#00ff00=background")
    assert only.mask[8:20, 10:26].all()
    assert np.count_nonzero(only.mask) == 192


def test_colours_of_a_palette_are_labels_where_0_is_black() -> None:
    found = read(palette(squares([1, 2]), VOC))
    assert [lesion.number for lesion in found.lesions] == [1, 2]
    assert read(palette(squares([1, 2]), VOC), "1=mass,2=benign").lesions[0].kind == "mass"
    by_colour = read(palette(squares([1, 2]), VOC), "#800000=mass,#008000=ignore")
    assert len(by_colour.lesions) == 1
    smaller = [(255, 0, 0), (0, 0, 0), (0, 255, 0)]
    turned = np.array([1, 0, 2])[squares([1, 2])]
    assert refused(palette(turned, smaller)).code == "mask_colours"


def test_deep_colours_are_not_read_by_their_upper_half() -> None:
    with_two_bytes = b"P6\n96 80\n65535\n" + rgb(u16(squares([1]))).astype(">u2").tobytes()
    assert np.array_equal(read(with_two_bytes).mask > 0, squares([1]) > 0)
    assert read(ppm(squares([9]), 9)).mask.any()


def test_a_smaller_image_keeps_every_number_and_every_part() -> None:
    values = np.zeros((320, 384), np.uint8)
    values[40:80, 40:80], values[200, 200], values[300:302, 21:23] = 1, 2, 3
    found = read(pillow(values))
    assert found.warnings == ("mask_instances", "mask_rescaled")
    assert [lesion.number for lesion in found.lesions] == [1, 2, 3]
    larger = read(pillow(u8(squares([3, 9]))), shape=(160, 192))
    assert [lesion.number for lesion in larger.lesions] == [3, 9]


@pytest.mark.parametrize("wrong", ["", "some", "1", "1=", "=mass", "1=mass,1=benign", "#12=mass",
                                   "70000000=mass", "1=mass;2=x", "1=<b>"])  # fmt: skip
def test_a_meaning_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="--mask-values"):
        mask_values.parse(wrong)


# DICOM Segmentations


def test_a_dicom_mask_of_several_frames_is_no_mask() -> None:
    two = dicom(np.concatenate([u8(squares([1]))] * 2), 8, Rows=SHAPE[0], NumberOfFrames=2)
    assert refused(two).code == "mask_planes"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1",
                                    "1.2.840.10008.1.2.1.99"])  # fmt: skip
@pytest.mark.parametrize("shape", [SHAPE, (79, 97)])
def test_a_binary_segmentation_is_a_mask(syntax: str, shape: tuple[int, int]) -> None:
    values = squares([1, 2])[: shape[0], : shape[1]]
    values = np.pad(values, ((0, 0), (0, shape[1] - values.shape[1])))
    frames = [(2, values == 2), (1, values == 1)]
    found = read(segmentation(frames, syntax=syntax), shape=shape)
    np.testing.assert_array_equal(found.mask > 0, values > 0)
    assert [lesion.number for lesion in found.lesions] == [1, 2]
    assert found.warnings == ("mask_instances",)


def test_segments_may_overlap() -> None:
    one = squares([1]) > 0
    two = np.roll(one, 4, axis=1)
    found = read(segmentation([(1, one), (2, two)]))
    np.testing.assert_array_equal(found.mask > 0, one | two)
    for lesion, truth in zip(found.lesions, (one, two), strict=True):
        assert np.count_nonzero(shown(lesion)) >= np.count_nonzero(truth)
    (both,) = read(segmentation([(1, one), (2, two)]), "binary").lesions
    assert both.number is None


def test_a_fraction_counts_from_a_half_on() -> None:
    values = squares([255, 128, 127])
    found = read(segmentation([(1, values)], kind="FRACTIONAL"))
    np.testing.assert_array_equal(found.mask > 0, values > 127)
    low = squares([60])
    assert refused(segmentation([(1, low)], kind="FRACTIONAL")).code == "mask_not_binary"
    found = read(segmentation([(1, low)], kind="FRACTIONAL", MaximumFractionalValue=100))
    np.testing.assert_array_equal(found.mask > 0, low > 0)


def test_a_label_map_is_read_by_its_numbers() -> None:
    values = squares([4, 9])
    segments = [segment(4), segment(9)]
    found = read(segmentation([(4, values)], kind="LABELMAP", segments=segments))
    assert [lesion.number for lesion in found.lesions] == [4, 9]
    unknown = segmentation([(4, values)], kind="LABELMAP", segments=segments[:1])
    assert refused(unknown).code == "header_missing"


def test_codes_of_segments_are_kinds_and_anatomy_is_no_finding() -> None:
    values = squares([1, 2, 3])
    segments = [segment(1, "129769006"), segment(2, "4147007"), segment(3, "39937001", "85756007")]
    data = segmentation([(n, values == n) for n in (1, 2, 3)], segments=segments)
    found = read(data)
    assert [lesion.kind for lesion in found.lesions] == ["calcification", "mass"]
    assert set(found.warnings) == {"mask_instances", "mask_anatomy"}
    assert not found.mask[values == 3].any()
    named = read(data, "1=mass,2=ignore,3=skin")
    assert [lesion.kind for lesion in named.lesions] == ["mass", "skin"]
    assert refused(data, "1=mass").code == "mask_unnamed"


def test_no_word_of_a_segmentation_is_told() -> None:
    found = read(segmentation([(1, squares([1]))]), "classes")
    assert "JANE" not in repr(found)


def test_a_segmentation_of_several_planes_or_tiles_is_refused_by_name() -> None:
    one = squares([1]) > 0
    apart = segmentation([(1, one), (2, one)], positions=[(0, 0, 0), (0, 0, 5)])
    assert refused(apart).code == "mask_planes"
    twice = segmentation([(1, one), (1, one)])
    assert refused(twice).code == "mask_planes"
    tiles = segmentation([(1, one)], TotalPixelMatrixRows=800, TotalPixelMatrixColumns=960)
    assert refused(tiles).code == "mask_planes"


@pytest.mark.parametrize("changes", [
    {"NumberOfFrames": 9999},
    {"Rows": 16000, "Columns": 16000},
    {"SegmentSequence": []},
    {"PerFrameFunctionalGroupsSequence": [frame_of(8)]},
    {"PerFrameFunctionalGroupsSequence": [frame_of(1), frame_of(2)]},
    {"Rows": 8},
    {"NumberOfFrames": 0},
])  # fmt: skip
def test_a_segmentation_that_cannot_be_is_refused_before_memory_is_asked_for(
    changes: dict[str, object],
) -> None:
    error = refused(segmentation([(1, squares([1]))], **changes))
    assert error.code in (
        "header_bounds", "header_missing", "mask_planes", "pixel_length_mismatch"
    )  # fmt: skip


def test_a_segmentation_of_another_shape_is_refused() -> None:
    assert refused(segmentation([(1, squares([1]))]), shape=(96, 96)).code == "mask_size_mismatch"


def test_a_hole_that_is_filled_is_said() -> None:
    values = u8(squares([255], 20))
    values[12:14, 14:16] = 0  # 4 of 480 pixels: a brush's
    assert read(pillow(values)).warnings == ()
    values[12:18, 14:20] = 0
    assert read(pillow(values)).warnings == ("mask_hole",)


def test_a_name_that_contradicts_the_row_is_believed_and_said() -> None:
    data = cv2.imencode(".png", squares([1]).astype(np.uint8))[1].tobytes()
    meaning = mask_values.parse("1=malignant")
    row = MaskFile("mass", "benign", ("m.png",))
    found = masks.read(row, [data], SHAPE, meaning)
    assert found.lesions[0].pathology == "malignant"
    assert "mask_conflict" in found.warnings
    same = masks.read(MaskFile("mass", "malignant", ("m.png",)), [data], SHAPE, meaning)
    assert "mask_conflict" not in same.warnings
