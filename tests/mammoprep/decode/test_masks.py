"""Mask files become the findings' area on the stored image, or a code that says why not."""

import io

import cv2
import numpy as np
import pytest
from dicoms import breast, dicom
from PIL import Image

from mammoprep.core.errors import RecordError
from mammoprep.core.schema import MaskFile
from mammoprep.decode import masks
from mammoprep.decode._mask_values import Part

SHAPE = (128, 96)
AREA = MaskFile("mass", "malignant", ("mask.png",))
WHOLE = Part(None, "mass", "malignant")


def disc(shape: tuple[int, int] = SHAPE, radius: float = 17.3) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.hypot(rows - shape[0] * 0.4, columns - shape[1] * 0.55) < radius
    return np.where(inside, np.uint8(255), np.uint8(0))


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


FORMS = {
    "grey": disc(),
    "one bit": disc() > 0,
    "0 and 1": (disc() > 0).astype(np.uint8),
    "RGB": np.repeat(disc()[..., None], 3, axis=2),
    "RGBA": np.dstack([np.repeat(disc()[..., None], 3, axis=2), np.full(SHAPE, 255, np.uint8)]),
    "16 bit": disc().astype(np.uint16) * 257,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_mask_gives_the_same_area(name: str) -> None:
    found = masks.read(AREA, [png(FORMS[name])], SHAPE)
    mask, odd = found.mask, found.warnings
    np.testing.assert_array_equal(mask, disc())
    assert odd == ()


def test_a_mask_in_dicom_is_read() -> None:
    data = dicom(disc(), 8, WindowCenter=[], WindowWidth=[])
    np.testing.assert_array_equal(masks.read(AREA, [data], SHAPE).mask, disc())


def test_an_empty_mask_is_empty() -> None:
    found = masks.read(AREA, [png(np.zeros(SHAPE, np.uint8))], SHAPE)
    assert not found.mask.any()
    assert (found.lesions, found.warnings) == ((), ())


def test_a_scaled_mask_is_brought_to_the_image() -> None:
    found = masks.read(AREA, [png(disc((256, 192), 34.6))], SHAPE)
    mask, odd = found.mask, found.warnings
    assert odd == ("mask_rescaled",)
    assert abs(int((mask > 0).sum()) / int((disc() > 0).sum()) - 1) < 0.01


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(RecordError) as caught:
        masks.read(AREA, [png(disc((128, 128)))], SHAPE)
    assert caught.value.code == "mask_size_mismatch"


# Sides of real masks and of their images: scaled by 0.87 and rounded, or of another picture.
@pytest.mark.parametrize(
    ("mask", "image", "fits"),
    [
        ((4386, 1789), (5041, 2056), True),
        ((4373, 2155), (5026, 2476), True),
        ((4688, 3088), (4624, 3056), False),
        ((4624, 3080), (4640, 3072), False),
    ],
)
def test_a_mask_may_be_off_by_the_rounding_of_its_scale_only(
    mask: tuple[int, int], image: tuple[int, int], fits: bool
) -> None:
    data = png(np.pad(np.full((300, 200), 255, np.uint8), ((0, mask[0] - 300), (0, mask[1] - 200))))
    if fits:
        assert masks.read(AREA, [data], image).warnings == ("mask_rescaled",)
        return
    with pytest.raises(RecordError) as caught:
        masks.read(AREA, [data], image)
    assert caught.value.code == "mask_size_mismatch"


def test_a_bright_cut_out_is_no_mask_that_covers_everything() -> None:
    bright = np.random.default_rng(1).integers(220, 256, SHAPE).astype(np.uint8)
    found = masks.read(AREA, [png(bright), png(disc())], SHAPE)
    mask, odd = found.mask, found.warnings
    np.testing.assert_array_equal(mask, disc())
    assert odd == ("mask_swapped",)


def test_a_swapped_mask_of_another_shape_is_refused_for_its_shape() -> None:
    with pytest.raises(RecordError) as caught:
        masks.read(AREA, [png(breast(8)), png(disc((128, 128)))], SHAPE)
    assert caught.value.code == "mask_size_mismatch"


def test_a_picture_in_place_of_the_mask_is_refused_or_passed_over() -> None:
    picture = png(breast(8))
    with pytest.raises(RecordError) as caught:
        masks.read(AREA, [picture], SHAPE)
    assert caught.value.code == "mask_not_binary"
    found = masks.read(AREA, [picture, png(disc())], SHAPE)
    mask, odd = found.mask, found.warnings
    np.testing.assert_array_equal(mask, disc())
    assert odd == ("mask_swapped",)


def drawn(polygon: tuple[tuple[float, float], ...], scale: int = 16) -> np.ndarray:
    """Fill a polygon on a grid ``scale`` times finer than the pixels."""
    fine = np.zeros((SHAPE[0] * scale, SHAPE[1] * scale), np.uint8)
    corners = (np.array(polygon) * scale - 0.5).round().astype(np.int32)
    return cv2.fillPoly(fine, [corners], 1)


@pytest.mark.parametrize("radius", [0.9, 4.0, 17.3, 40.0])
def test_an_outline_runs_along_the_edge_of_the_pixels(radius: float) -> None:
    mask = disc(radius=radius)
    (lesion,) = masks.lesions_of(mask, WHOLE, 1)
    points = np.array(lesion.polygon)
    down, across = np.nonzero(mask)
    assert points.min(axis=0).tolist() == [across.min(), down.min()]
    assert points.max(axis=0).tolist() == [across.max() + 1, down.max() + 1]
    area = cv2.contourArea(points.astype(np.float32))
    assert abs(area / np.count_nonzero(mask) - 1) < 0.02


def test_a_single_pixel_has_four_corners() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[7, 30] = 255
    (lesion,) = masks.lesions_of(mask, WHOLE, 3)
    assert sorted(lesion.polygon) == [(30, 7), (30, 8), (31, 7), (31, 8)]
    assert (lesion.id, lesion.kind, lesion.pathology) == (3, "mass", "malignant")


def test_each_part_of_a_mask_is_a_lesion() -> None:
    mask = disc(radius=9)
    mask[100:110, 10:40] = 255
    found = masks.lesions_of(mask, WHOLE, 4)
    assert [lesion.id for lesion in found] == [4, 5]


def test_a_drawn_line_is_filled_and_an_open_one_refused() -> None:
    line = np.zeros((400, 300), np.uint8)
    cv2.ellipse(line, (140, 180), (60, 40), 0, 0, 357, 255, 2)
    filled = masks.filled(line)
    truth = cv2.ellipse(np.zeros_like(line), (140, 180), (60, 40), 0, 0, 360, 255, -1)
    both, either = np.count_nonzero(filled & truth), np.count_nonzero(filled | truth)
    assert both / either > 0.95
    half = np.zeros_like(line)
    cv2.ellipse(half, (140, 180), (60, 40), 0, 0, 180, 255, 2)
    with pytest.raises(RecordError) as caught:
        masks.filled(half)
    assert caught.value.code == "outline_open"
