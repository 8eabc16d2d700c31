"""Pictures that are black, white, burnt out, of two levels or out of shape are said to be so."""

from typing import Any

import numpy as np
import pytest
from dicoms import RECORD, breast, dicom

from mammoprep import notices_ranges
from mammoprep.core.errors import RecordError
from mammoprep.decode.dicom import read_image


def said(words: np.ndarray, bits: int, **attributes: Any) -> set[str]:
    return set(read_image(dicom(words, bits, **attributes), RECORD).warnings)


def test_values_of_fewer_bits_than_the_header_states_are_said_where_no_window_helps() -> None:
    assert "range_unused" in said(breast(12), 16)
    assert "range_unused" not in said(breast(12), 12)


def test_a_window_of_other_values_is_said() -> None:
    assert "range_unused" in said(breast(8).astype("u2"), 12, WindowCenter=2048, WindowWidth=4096)
    burnt = said(breast(12), 12, WindowCenter=1000, WindowWidth=200)
    assert "voi_saturated" in burnt
    right = said(breast(12), 12, WindowCenter=2048, WindowWidth=4096)
    assert not {"range_unused", "voi_saturated"} & right


def test_a_picture_of_two_levels_is_no_mammogram() -> None:
    mask = np.where(breast(12) > 1000, 4000, 10).astype("u2")
    with pytest.raises(RecordError) as caught:
        read_image(dicom(mask, 12), RECORD)
    assert caught.value.code == "two_levels"


@pytest.mark.parametrize(
    ("attributes", "odd"),
    [
        ({"ImagerPixelSpacing": [0.1, 0.1]}, False),
        ({"ImagerPixelSpacing": [0.1, 0.0995]}, False),
        ({"ImagerPixelSpacing": [0.1, 0.05]}, True),
        ({"PixelAspectRatio": ["2", "1"]}, True),
    ],
)
def test_pixels_that_are_not_square_are_said(attributes: dict[str, Any], odd: bool) -> None:
    assert ("pixels_not_square" in said(breast(12), 12, **attributes)) == odd


def test_a_spacing_whose_magnification_cannot_be_is_not_used() -> None:
    nought = {"ImagerPixelSpacing": [0.1, 0.1], "EstimatedRadiographicMagnificationFactor": "0"}
    found = read_image(dicom(breast(12), 12, **nought), RECORD)
    assert "spacing_invalid" in found.warnings
    assert found.geometry.stored_spacing_mm is None


def test_a_presentation_lut_that_is_not_applied_is_said() -> None:
    assert "presentation_lut_ignored" in said(breast(12), 12, PresentationLUTShape="LIN OD")
    assert "presentation_lut_ignored" not in said(breast(12), 12, PresentationLUTShape="IDENTITY")


def test_the_summary_names_the_option_that_helps_the_kind_of_file() -> None:
    row = {"warnings": ["range_unused"], "acquisition.bits_stored": 12}
    picture, file = (
        {**row, "acquisition.transfer_syntax": syntax} for syntax in (None, "1.2.840.10008.1.2.1")
    )
    (line,) = notices_ranges.lines([picture], "auto")
    assert "--range 4095" in line
    (line,) = notices_ranges.lines([file], "auto")
    assert "--window" in line
    assert "--range" not in line
