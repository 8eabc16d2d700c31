"""Where pydicom 3.0.2 differs from the standard: a test that fails here tells of an upstream fix.

Every case states the right picture by the standard's own formula. Ours must give it, pydicom must
not, and DCMTK must agree with it wherever DCMTK can read the header.
"""

import io
import shutil
import struct
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicoms import HTJ2K, JPEG2000, RECORD, breast, dicom, encode, lut, ramp
from pydicom.dataset import Dataset
from pydicom.pixels import (
    apply_modality_lut,
    apply_presentation_lut,
    apply_voi,
    apply_voi_lut,
    apply_windowing,
)

from mammoprep.core.errors import RecordError
from mammoprep.decode.dicom import render_stored

# Twelve bits in order, so that a stored value is its own expected value times 4095.
X = ramp(12).astype(np.float64)
WORDS = ramp(12)


def window(x: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, LINEAR."""
    return np.clip((x - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def sigmoid(x: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.1, SIGMOID."""
    return 1 / (1 + np.exp(-4 * (x - center) / width))


def _stored(ds: Dataset) -> np.ndarray:
    return ds.pixel_array / 4095


def _rescaled(ds: Dataset) -> np.ndarray:
    return apply_modality_lut(ds.pixel_array, ds) / 4095


def _windowed(ds: Dataset, index: int = 0) -> np.ndarray:
    return apply_windowing(apply_modality_lut(ds.pixel_array, ds), ds, index) / 4095


def _table(ds: Dataset) -> np.ndarray:
    depth = ds.VOILUTSequence[0].LUTDescriptor[2]
    return apply_voi(ds.pixel_array, ds) / (2**depth - 1)


def _presented(ds: Dataset) -> np.ndarray:
    shown = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds)
    return apply_presentation_lut(shown, ds) / 4095


@dataclass(frozen=True)
class Known:
    """A header that pydicom gets wrong.

    Attributes:
        expected: The right picture, on [0, 1].
        theirs: pydicom's way to that picture, on the same range.
        error: What pydicom raises instead of a picture, None when it gives a wrong one.
        oracle: DCMTK's options for the same picture, None where it cannot be asked.
        voi: The transform to ask ours for.
    """

    expected: np.ndarray
    theirs: Callable[[Dataset], np.ndarray] = _windowed
    error: type[Exception] | None = None
    oracle: tuple[str, ...] | None = ("+Wi", "1")
    words: np.ndarray = field(default_factory=lambda: WORDS)
    bits: int = 12
    attributes: dict[str, Any] = field(default_factory=dict)
    voi: str = "auto"
    frame: bytes | None = None

    @property
    def data(self) -> bytes:
        return dicom(self.words, self.bits, frame=self.frame, **self.attributes)


def _as_words(item: Dataset) -> Dataset:
    """Return a LUT item whose data are US, as pydicom reads them entry by entry."""
    values = list(struct.unpack(f"<{len(item.LUTData) // 2}H", item.LUTData))
    del item["LUTData"]
    item.add_new(0x00283006, "US", values)
    return item


def _overlaid(syntax: str) -> Known:
    words = breast()
    marked = words.copy()
    marked[::3] |= 0x4000
    attributes = {"syntax": syntax, "overlay_bit": 14}
    expected = words / 4095
    return Known(
        expected,
        _stored,
        None,
        None,
        words=words,
        attributes=attributes,
        frame=encode(marked, syntax, 16),
    )


IDENTITY = {"WindowCenter": 2048, "WindowWidth": 4096}
NARROW = {"WindowCenter": 2000, "WindowWidth": 900}
CASES = {
    # PS3.5 8.1.1: the value ends at High Bit; pydicom takes the lowest bits of the word.
    "left_justified": Known(
        X / 4095,
        _stored,
        None,
        ("-W",),
        words=(WORDS << 4).astype(np.uint16),
        attributes={"HighBit": 15},
    ),
    # PS3.3 C.11.1.1.2: output = m*SV + b, so a negative m inverts; pydicom inverts it back.
    "negative_slope_window": Known(
        window(4095 - X, 2048, 4096),
        attributes={"RescaleSlope": -1, "RescaleIntercept": 4095, **IDENTITY},
    ),
    # PS3.3 C.11.2.1.1: entries of 8 bits in words of 16; pydicom indexes them in uint8.
    "deep_table_of_8_bits": Known(
        np.floor(X / 16) / 255,
        _table,
        None,
        ("+Wl", "1"),
        attributes={"VOILUTSequence": [lut(np.arange(4096) // 16, 0, 8)]},
    ),
    # PS3.3 C.11.2.1.1, note: the length tells that two entries lie in a word.
    "packed_table": Known(
        1 - ramp(8) / 255,
        _table,
        struct.error,
        ("+Wl", "1"),
        words=ramp(8),
        bits=8,
        attributes={"VOILUTSequence": [lut(np.arange(256)[::-1], 0, 8, width=1)]},
    ),
    # PS3.3 C.11.2.1.1: first may be negative by its VR; DCMTK 3.6.7 reads it as unsigned.
    "negative_first_value_of_an_unsigned_image": Known(
        np.minimum((X + 100) * 16, 65520) / 65535,
        _table,
        OverflowError,
        None,
        attributes={"VOILUTSequence": [lut(np.arange(4096) * 16, -100, 16, vr="SS")]},
    ),
    "first_value_above_an_8_bit_image": Known(
        np.zeros((64, 64)),
        _table,
        OverflowError,
        ("+Wl", "1"),
        words=ramp(8),
        bits=8,
        attributes={"VOILUTSequence": [lut(np.arange(1024) * 64 // 65, 300, 10)]},
    ),
    # Fewer entries than stated: what is there is used, and its last entry goes on (our policy).
    "short_table_of_words": Known(
        np.minimum(X * 2, 4094) / 4095,
        _table,
        IndexError,
        None,
        attributes={"VOILUTSequence": [_as_words(lut(np.arange(0, 4096, 2), 0, 12, count=4096))]},
    ),
    "short_table_of_bytes": Known(
        np.minimum(X * 2, 4094) / 4095,
        _table,
        struct.error,
        None,
        attributes={"VOILUTSequence": [lut(np.arange(0, 4096, 2), 0, 12, count=4096)]},
    ),
    # PS3.3 C.11.1.1.1 allows any depth; pydicom makes a type named uint12 of it.
    "modality_table_of_12_bits": Known(
        1 - X / 4095,
        _rescaled,
        TypeError,
        ("-W",),
        attributes={"ModalityLUTSequence": [lut(np.arange(4096)[::-1], 0, 12)]},
    ),
    # Present but empty counts as absent.
    "empty_rescale": Known(
        X / 4095,
        _rescaled,
        TypeError,
        ("-W",),
        attributes={"RescaleSlope": "", "RescaleIntercept": ""},
    ),
    "empty_function": Known(
        window(X, 2000, 900), error=ValueError, attributes={"VOILUTFunction": "", **NARROW}
    ),
    # PS3.5 6.2: blanks around a code string say nothing; pydicom removes those behind it only.
    "function_after_a_blank": Known(
        sigmoid(X, 2000, 900),
        error=ValueError,
        attributes={"VOILUTFunction": " SIGMOID", **NARROW},
    ),
    # A pair that is no window is passed over (our policy); the standard knows no such width.
    "width_of_zero_before_a_good_pair": Known(
        window(X, 2000, 600),
        error=ValueError,
        oracle=("+Wi", "2"),
        attributes={"WindowCenter": [1000, 2000], "WindowWidth": [0, 600]},
    ),
    # An index past the end gives the whole range (our policy), not an exception in a worker.
    "window_past_the_end": Known(
        X / 4095,
        lambda ds: _windowed(ds, 7),
        IndexError,
        ("-W",),
        attributes={"WindowCenter": [1000, 2000], "WindowWidth": [500, 600]},
        voi="window:7",
    ),
    # Two centres and one width: there is no second pair; pydicom makes one of both.
    "second_centre_without_a_width": Known(
        X / 4095,
        lambda ds: _windowed(ds, 1),
        None,
        ("-W",),
        attributes={"WindowCenter": [1000, 2000], "WindowWidth": [500]},
        voi="window:1",
    ),
    # PS3.3 C.11.6.1.2: inverted within the possible range; pydicom takes the largest pixel for it.
    "inverse_of_a_picture_without_white": Known(
        1 - np.minimum(X, 2000) / 4095,
        _presented,
        None,
        ("-W",),
        words=np.minimum(WORDS, 2000),
        attributes={
            "PhotometricInterpretation": "MONOCHROME1",
            "PresentationLUTShape": "INVERSE",
        },
    ),
    # PS3.3 C.7.6.3.1.2: MONOCHROME1 alone says that 0 is white; no function of pydicom asks for it.
    "monochrome1_without_a_shape": Known(
        1 - X / 4095,
        _presented,
        None,
        ("-W",),
        attributes={"PhotometricInterpretation": "MONOCHROME1"},
    ),
    # PS3.5 8.1.1: bits above High Bit are no part of the value; codecs hand them through.
    "overlay_bits_in_jpeg2000": _overlaid(JPEG2000),
    "overlay_bits_in_htj2k": _overlaid(HTJ2K),
}
named = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@named
def test_ours_is_the_picture_of_the_standards_formula(case: Known) -> None:
    ours = render_stored(case.data, RECORD, voi=case.voi, bits=16)
    np.testing.assert_array_equal(ours, np.floor(case.expected * 65535 + 0.5))


@named
def test_pydicom_still_gives_another_picture_or_none(case: Known) -> None:
    ds = pydicom.dcmread(io.BytesIO(case.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case.error is not None:
            with pytest.raises(case.error):
                case.theirs(ds)
            return
        theirs = case.theirs(ds)
    assert np.abs(theirs - case.expected).max() > 0.1


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if case.oracle],
    ids=[name for name, case in CASES.items() if case.oracle],
)
def test_dcmtk_shows_the_same_picture(case: Known, tmp_path: Path) -> None:
    source, target = tmp_path / "in.dcm", tmp_path / "out.pgm"
    source.write_bytes(case.data)
    command = ["dcm2pnm", "-q", "+op", *(case.oracle or ()), source, target]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    pixels = np.frombuffer(target.read_bytes().split(b"\n", 3)[3], np.uint8)
    expected = np.floor(case.expected * 255 + 0.5)
    assert np.abs(pixels.reshape(expected.shape) - expected).max() <= 1


def test_a_sound_header_is_read_alike() -> None:
    """The comparison itself is fair: what pydicom gets right is far below the limit."""
    for case in (
        Known(window(X, 2000, 900), attributes=NARROW),
        Known(sigmoid(X, 2000, 900), attributes={"VOILUTFunction": "SIGMOID", **NARROW}),
        Known(X / 4095, _table, attributes={"VOILUTSequence": [lut(np.arange(4096), 0, 12)]}),
    ):
        theirs = case.theirs(pydicom.dcmread(io.BytesIO(case.data)))
        assert np.abs(theirs - case.expected).max() < 1e-9


# What ours refuses with a code, and pydicom shows as if nothing were wrong

REFUSED = {
    # Bits above High Bit that nothing claims: the header is wrong; pydicom cuts 0x400 to 0.
    "understated_bits_stored": (
        dicom(np.full((64, 64), 0x400, np.uint16), 10),
        "bits_exceed_stored",
        lambda pixels: not pixels.any(),
    ),
    # Rows and Columns of another picture: pydicom fills them in the codestream's order.
    "another_size_than_the_codestreams": (
        dicom(breast(shape=(128, 64)), 12, syntax=JPEG2000, Rows=64, Columns=128),
        "size_mismatch",
        lambda pixels: pixels.shape == (64, 128),
    ),
    "another_sign_than_the_codestreams": (
        dicom(ramp(12, signed=True), 12, syntax=JPEG2000, PixelRepresentation=0),
        "precision_mismatch",
        lambda pixels: not np.array_equal(pixels, ramp(12, signed=True)),
    ),
}


@pytest.mark.parametrize(("data", "code", "wrong"), REFUSED.values(), ids=REFUSED)
def test_what_pydicom_shows_wrongly_without_a_word_is_refused(
    data: bytes, code: str, wrong: Callable[[np.ndarray], bool]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert wrong(pydicom.dcmread(io.BytesIO(data)).pixel_array)
    with pytest.raises(RecordError) as caught:
        render_stored(data, RECORD)
    assert caught.value.code == code
