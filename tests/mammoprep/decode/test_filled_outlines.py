"""Drawn outlines become areas, and what does not close is said."""

import cv2
import numpy as np
import pytest

from mammoprep.core.errors import RecordError
from mammoprep.core.schema import MaskFile
from mammoprep.decode import masks

SHAPE = (600, 500)
DRAWN = MaskFile(None, None, ("a_Mask.jpg",), outline=True)


def ring(
    canvas: np.ndarray,
    centre: tuple[int, int],
    radii: tuple[int, int],
    *,
    end: int = 360,
    width: int = 2,
) -> np.ndarray:
    return cv2.ellipse(canvas, centre, radii, 0, 0, end, 255, width)


def empty() -> np.ndarray:
    return np.zeros(SHAPE, np.uint8)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


def jpeg(picture: np.ndarray, quality: int = 60) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def refused(lines: np.ndarray) -> str:
    with pytest.raises(RecordError) as caught:
        masks.filled(lines)
    assert caught.value.code == "outline_open"
    return caught.value.detail


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("radii", [(4, 4), (6, 9), (60, 40), (180, 90)])
def test_a_closed_line_is_filled_whatever_its_width_and_size(
    radii: tuple[int, int], width: int
) -> None:
    found = masks.filled(ring(empty(), (240, 300), radii, width=width))
    true = ring(empty(), (240, 300), radii, width=-1)
    assert overlap(found, true) > (0.96 if min(radii) > 20 else 0.7)


def test_the_noise_of_jpeg_changes_little() -> None:
    lines = ring(empty(), (240, 300), (60, 40), width=1)
    found = masks.read(DRAWN, [jpeg(lines)], SHAPE)
    assert overlap(found.mask, ring(empty(), (240, 300), (60, 40), width=-1)) > 0.95
    assert found.warnings == ()


def test_a_bay_narrower_than_a_gap_stays_open() -> None:
    corners = [(100, 100), (198, 100), (198, 200), (202, 200), (202, 100), (300, 100), (300, 300)]
    shape = np.array([*corners, (100, 300)])
    lines = cv2.polylines(empty(), [shape], True, 255, 1)
    found = masks.filled(lines)
    assert found[150, 200] == 0
    assert found[250, 200] == 255


def test_a_gap_is_closed_up_to_one_percent_of_the_longer_side() -> None:
    small = ring(empty(), (240, 300), (60, 60))
    small[240 - 4 : 240 + 4, 238:242] = 0
    assert overlap(masks.filled(small), ring(empty(), (240, 300), (60, 60), width=-1)) > 0.95
    wide = ring(empty(), (240, 300), (60, 60), end=330)
    assert "encloses nothing" in refused(wide)


@pytest.mark.parametrize(("radius", "end"), [(5, 180), (8, 180), (15, 290), (20, 180), (60, 180)])
def test_a_part_of_an_outline_is_refused_at_every_size(radius: int, end: int) -> None:
    refused(ring(np.zeros((2400, 1800), np.uint8), (240, 300), (radius, radius), end=end))


def test_one_open_line_among_closed_ones_is_refused() -> None:
    lines = ring(empty(), (140, 150), (60, 40))
    ring(lines, (300, 400), (60, 40))
    masks.filled(lines.copy())
    ring(lines, (400, 150), (40, 40), end=200)
    assert "of 3" in refused(lines)


def test_a_loose_end_is_no_part_of_the_finding() -> None:
    lines = ring(empty(), (240, 300), (60, 60), width=1)
    cv2.line(lines, (300, 300), (330, 300), 255, 2)
    found = masks.filled(lines)
    assert not found[:, 306:].any()
    assert overlap(found, ring(empty(), (240, 300), (60, 60), width=-1)) > 0.97


def test_a_finding_at_the_edge_of_the_picture_is_filled() -> None:
    lines = cv2.rectangle(empty(), (0, 100), (40, 160), 255, 2)
    found = masks.filled(lines)
    assert found[101:160, 1:40].all()
    assert found.sum() / 255 < 44 * 64


def test_an_outline_inside_of_another_is_part_of_it() -> None:
    lines = ring(ring(empty(), (240, 300), (60, 60)), (240, 300), (20, 20))
    true = ring(empty(), (240, 300), (60, 60), width=-1)
    assert overlap(masks.filled(lines), true) > 0.95


def test_a_black_jpeg_has_no_outline() -> None:
    noise = np.random.default_rng(1).integers(0, 9, SHAPE).astype(np.uint8)
    with pytest.raises(RecordError) as caught:
        masks.read(DRAWN, [jpeg(noise)], SHAPE)
    assert (caught.value.code, caught.value.detail) == ("outline_open", "no line is drawn")


def test_a_dot_is_no_outline() -> None:
    lines = empty()
    lines[100:102, 100:102] = 255
    refused(lines)
