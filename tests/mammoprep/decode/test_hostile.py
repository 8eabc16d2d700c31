"""Damaged files end in a picture or a code, and nothing of a header's text gets out."""

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from dicoms import (
    EXPLICIT,
    IMPLICIT,
    JPEG2000,
    RECORD,
    breast,
    dataset,
    dicom,
    lut,
    write,
)
from mutations import damaged, outcome, seeds
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset

from mammoprep.core.codes import CODES
from mammoprep.core.errors import RecordError
from mammoprep.decode.dicom import read_image
from mammoprep.image import MammoImage

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("count", "start"), [(1000, 0), pytest.param(10_000, 10_000, marks=pytest.mark.slow)]
)
def test_mutated_files_of_every_syntax_end_in_a_picture_or_a_code(count: int, start: int) -> None:
    program = [sys.executable, HERE / "mutations.py", str(count), str(start)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"the process ended with {done.returncode}"
    found = json.loads(done.stdout)
    assert sum(found["ended"].values()) == count
    assert found["bad"] == []
    coded = {name for name in found["ended"] if not name.startswith("base")} - {"built"}
    assert coded <= set(CODES)


def test_the_files_that_are_damaged_are_good_before() -> None:
    assert {outcome(data) for data in seeds()} == {"built"}
    assert {data for _, data in damaged(60, 0)}.isdisjoint(seeds())


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, JPEG2000])
def test_a_file_cut_anywhere_is_coded_or_the_same_picture(syntax: str) -> None:
    data = dicom(breast(), 12, syntax=syntax)
    whole = read_image(data, RECORD).pixels
    codes = set()
    for part in range(1, 64):
        try:
            image = read_image(data[: len(data) * part // 64], RECORD)
        except RecordError as error:
            codes.add(error.code)
        else:
            np.testing.assert_array_equal(image.pixels, whole)
    assert codes <= set(CODES)


def _canary(number: int) -> str:
    return f"CNRY{number:012d}"


def _poisoned(**attributes: object) -> bytes:
    """Return a mammogram with a canary in every text attribute that a data set may have."""
    ds = dataset(breast(), 12)
    kept = {element.keyword for element in ds}
    texts = {
        "LO",
        "SH",
        "PN",
        "ST",
        "LT",
        "UT",
        "UC",
        "CS",
        "UI",
        "DA",
        "TM",
        "DT",
        "AS",
        "AE",
        "UR",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (tag, (vr, *_)) in enumerate(sorted(DicomDictionary.items())):
            keyword = keyword_for_tag(tag)
            if vr in texts and tag >> 16 not in (0, 2) and keyword not in kept:
                ds.add_new(tag, vr, _canary(number))
        for group in range(0x0009, 0x0049, 2):
            ds.add_new((group << 16) | 0x0010, "LO", _canary(group))
            ds.add_new((group << 16) | 0x1001, "UN", _canary(group).encode())
        inner = Dataset()
        inner.PatientName = _canary(77)
        inner.CodeValue = _canary(78)
        inner.CodingSchemeDesignator = "SCT"
        ds.ViewCodeSequence = [inner]
        ds.AnatomicRegionSequence = [inner]
        ds.RequestAttributesSequence = [inner]
        ds.VOILUTSequence = [lut(np.arange(4096), 0, 12)]
        for name in ("VOILUTFunction", "PresentationIntentType", "PatientOrientation"):
            del ds[name]
        for name, value in attributes.items():
            setattr(ds, name, value)
        ds.add_new(0x7FE00010, "OW", breast().tobytes())
        return write(ds)


def _visible(image: MammoImage) -> str:
    return repr((image.acquisition, image.warnings, dict(image.notes), image.geometry))


ODD = (
    {},
    {"Rows": 65535},
    {"Columns": 60},
    {"BitsStored": 40},
    {"PhotometricInterpretation": _canary(1)},
    {"SOPClassUID": _canary(2)},
    {"VOILUTFunction": _canary(3), "VOILUTSequence": [], "WindowCenter": 5, "WindowWidth": 9},
    {"ImageType": [_canary(4)] * 4},
    {"Modality": _canary(5), "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
    {"NumberOfFrames": 99},
    {"PixelRepresentation": 1},
    {"BurnedInAnnotation": "YES"},
    {"ImageLaterality": _canary(6)},
    {"ViewPosition": _canary(7)},
    {"Manufacturer": _canary(8)},
    {"PatientOrientation": [_canary(9), "F"]},
    {"SpecificCharacterSet": _canary(10)},
)


@pytest.mark.parametrize("gate_kind", [True, False])
@pytest.mark.parametrize("attributes", ODD)
def test_no_text_of_a_header_gets_out(
    attributes: dict[str, object],
    gate_kind: bool,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    data = _poisoned(**attributes)
    assert data.count(b"CNRY") > 1000
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="pydicom")
    caplog.clear()
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            seen = _visible(read_image(data, RECORD, gate_kind=gate_kind))
        except RecordError as error:
            seen = f"{error!r} {error} {error.code} {error.detail} {error.__cause__}"
            seen += "" if error.__suppress_context__ else repr(error.__context__)
    seen += "".join(str(w.message) for w in caught) + caplog.text + "".join(capfd.readouterr())
    assert "CNRY" not in seen


@pytest.mark.parametrize("place", ["header.dcmread", "codecs.generate_fragments"])
def test_no_message_of_a_librarys_exception_gets_out(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError(_canary(1))

    monkeypatch.setattr(f"mammoprep.decode.{place}", fails)
    with pytest.raises(RecordError) as caught:
        read_image(dicom(breast(), 12, syntax=JPEG2000), RECORD)
    assert "CNRY" not in str(caught.value)
    assert "ValueError" in caught.value.detail


def test_text_in_numbers_gets_out_neither_as_value_nor_as_message() -> None:
    plain = dicom(
        breast(),
        12,
        WindowCenter=[1234567890123456],
        WindowWidth=[1234567890123456],
        RescaleSlope="1234567890123456",
        ImagerPixelSpacing=["1234567890123456", "1234567890123456"],
    )
    data = plain.replace(b"1234567890123456", b"CNRY000000000001")
    assert data.count(b"CNRY") == 5
    assert "CNRY" not in _visible(read_image(data, RECORD))
