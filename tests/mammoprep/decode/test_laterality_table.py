"""Side, flip and warnings for 36 headers and pictures, from file to oriented image.

The side of the chest wall is read from pixels, and Patient Orientation must agree with it; which
breast it is says only how the picture is usually displayed (PS3.3 C.7.6.1.1.1 and C.8.11.3).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dicoms import RECORD, breast, dicom

from mammoprep.decode.dicom import read_image
from mammoprep.image import MammoImage
from mammoprep.steps import find_breast, orient

CONFLICT, MIRRORED = "orientation_conflict", "mirrored_display"
# Image Laterality, row direction of Patient Orientation, chest wall in the pixels: flip, warnings.
TABLE: tuple[tuple[str | None, str | None, str, bool, tuple[str, ...]], ...] = (
    ("L", "A", "left", False, ()),  # the usual left breast
    ("L", "A", "right", True, (CONFLICT, MIRRORED)),
    ("L", "P", "left", False, (CONFLICT,)),
    ("L", "P", "right", True, (MIRRORED,)),
    ("L", None, "left", False, ()),
    ("L", None, "right", True, (MIRRORED,)),
    ("R", "A", "left", False, (MIRRORED,)),
    ("R", "A", "right", True, (CONFLICT,)),
    ("R", "P", "left", False, (CONFLICT, MIRRORED)),
    ("R", "P", "right", True, ()),  # the usual right breast
    ("R", None, "left", False, (MIRRORED,)),
    ("R", None, "right", True, ()),
    (None, "A", "left", False, ()),
    (None, "A", "right", True, (CONFLICT,)),
    (None, "P", "left", False, (CONFLICT,)),
    (None, "P", "right", True, ()),
    (None, None, "left", False, ()),
    (None, None, "right", True, ()),
)
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def words_of(wall: str, photometric: str = "MONOCHROME2") -> np.ndarray:
    values = breast(shape=(256, 192))
    values = values if wall == "left" else values[:, ::-1]
    return values.copy() if photometric == "MONOCHROME2" else 4095 - values


def oriented(data: bytes, **record: Any) -> MammoImage:
    return orient.apply(find_breast.apply(read_image(data, replace(RECORD, **record))))


def file_of(
    laterality: str | None,
    row: str | None,
    wall: str,
    photometric: str = "MONOCHROME2",
    **more: Any,
) -> bytes:
    attributes: dict[str, Any] = {"PhotometricInterpretation": photometric, **WINDOW, **more}
    if laterality:
        attributes["ImageLaterality"] = laterality
    if row:
        attributes["PatientOrientation"] = [row, "FR" if row == "A" else "FL"]
    return dicom(words_of(wall, photometric), 12, **attributes)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("laterality", "row", "wall", "flip", "warnings"), TABLE)
def test_thirty_six_files_are_turned_as_the_table_says(
    laterality: str | None,
    row: str | None,
    wall: str,
    flip: bool,
    warnings: tuple[str, ...],
    photometric: str,
) -> None:
    image = oriented(file_of(laterality, row, wall, photometric))
    assert image.acquisition.laterality == laterality
    assert image.acquisition.patient_orientation == row
    assert image.notes["chest_wall_stored"] == wall
    assert image.notes["chest_wall_from"] == "pixels"
    assert image.geometry.flipped == flip
    assert image.warnings == warnings
    # Whatever the header said, the breast now lies at the left edge.
    np.testing.assert_allclose(image.pixels, words_of("left") / 4095, atol=1e-3)


@pytest.mark.parametrize(
    ("stated", "table", "wall", "warnings"),
    [
        (None, "L", "left", ()),
        (None, "L", "right", (MIRRORED,)),
        (None, "R", "left", (MIRRORED,)),
        (None, "R", "right", ()),
        ("L", "L", "left", ()),
        ("L", "R", "left", ("laterality_conflict",)),  # the header's side counts, and it is told
        ("L", "R", "right", ("laterality_conflict", MIRRORED)),
        ("R", "L", "right", ("laterality_conflict",)),
        ("R", "L", "left", ("laterality_conflict", MIRRORED)),
        ("B", "L", "right", (MIRRORED,)),  # both breasts: no side of its own, so the table's
        ("U", "R", "left", (MIRRORED,)),
        ("", "R", "right", ()),
    ],
)
def test_the_datasets_table_counts_after_the_header(
    stated: str | None, table: str, wall: str, warnings: tuple[str, ...]
) -> None:
    image = oriented(file_of(stated, None, wall), laterality=table)
    assert image.warnings == warnings
    assert image.geometry.flipped == (wall == "right")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("FieldOfViewHorizontalFlip", "YES"),
        ("FieldOfViewRotation", 180),
        ("PatientOrientation", ["a", "fr"]),
        ("PatientOrientation", ["AFR", "FPL"]),
        ("PatientOrientation", ["FR", "A"]),  # says nothing about left and right
        ("PatientOrientation", ["H", "F"]),
    ],
)
def test_what_the_device_already_did_is_not_done_again(field: str, value: Any) -> None:
    image = oriented(file_of("L", None, "left", **{field: value}))
    assert (image.geometry.flipped, image.warnings) == (False, ())


@pytest.mark.parametrize(
    ("row", "flip", "source", "warnings"),
    [
        ("A", False, "header", ()),
        ("P", True, "header", ()),
        (None, False, "nothing", ("orientation_unknown",)),
    ],
)
def test_without_evidence_in_the_pixels_the_header_decides_or_nothing_does(
    row: str | None, flip: bool, source: str, warnings: tuple[str, ...]
) -> None:
    words = words_of("left")
    even = np.maximum(words, words[:, ::-1])
    attributes = WINDOW if row is None else {"PatientOrientation": [row, "F"], **WINDOW}
    image = read_image(dicom(even, 12, **attributes), RECORD)
    image = orient.apply(replace(image, breast=image.pixels > 0.1))
    assert image.notes["chest_wall_from"] == source
    assert (image.geometry.flipped, image.warnings) == (flip, warnings)


def test_turning_an_image_twice_gives_every_array_back() -> None:
    data = dicom(words_of("right"), 12, PixelPaddingValue=81, **WINDOW)
    image = find_breast.apply(read_image(data, RECORD))
    mask = np.zeros(image.geometry.size, np.uint8)
    mask[100:110, 20:50] = 255
    image = replace(image, mask=mask)
    once = orient.apply(image)
    assert once.geometry.flipped
    twice = {name: getattr(once, name)[:, ::-1] for name in ("pixels", "padding", "breast", "mask")}
    for name, array in twice.items():
        np.testing.assert_array_equal(array, getattr(image, name))
    assert once.geometry.flipped_lr() == image.geometry
    assert orient.apply(once).pixels is once.pixels
