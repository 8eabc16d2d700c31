"""Files that begin otherwise than PS3.10 demands: read as DCMTK reads them, or named for it."""

import io
import random
import shutil
import struct
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG2000,
    MG,
    RECORD,
    breast,
    dataset,
    dicom,
    encode,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from mammoprep.core.errors import RecordError
from mammoprep.decode import gate
from mammoprep.decode.dicom import read_image

PREFIX = bytes(128) + b"DICM"
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def data_set(*, implicit: bool = False, little: bool = True, frame: bytes | None = None) -> bytes:
    """Return a mammogram's elements without anything before them."""
    ds = dataset(breast(), 12, **WINDOW)
    words = breast().astype("<u2" if little else ">u2").tobytes()
    ds.add_new(0x7FE00010, "OW" if frame is None else "OB", words if frame is None else frame)
    ds[0x7FE00010].is_undefined_length = frame is not None
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = implicit, little
    write_dataset(out, ds)
    return out.getvalue()


def _element(number: int, vr: bytes, value: bytes, *, implicit: bool, little: bool) -> bytes:
    order = "<" if little else ">"
    value += b"\0" * (len(value) % 2)
    tag = struct.pack(order + "HH", 2, number)
    if implicit:
        return tag + struct.pack(order + "I", len(value)) + value
    if vr == b"OB":
        return tag + struct.pack(order + "2sHI", vr, 0, len(value)) + value
    return tag + struct.pack(order + "2sH", vr, len(value)) + value


def meta(
    syntax: str | None, *, implicit: bool = False, little: bool = True, off: int | None = 0
) -> bytes:
    """Return meta information; ``off`` is the error of its length, None leaves that out."""
    form = {"implicit": implicit, "little": little}
    body = _element(1, b"OB", b"\0\1", **form) + _element(2, b"UI", MG.encode(), **form)
    body += _element(3, b"UI", b"1.2.3.4", **form)
    if syntax is not None:
        body += _element(16, b"UI", syntax.encode(), **form)
    body += _element(18, b"UI", b"1.2.3", **form)
    if off is None:
        return body
    length = struct.pack("<I" if little else ">I", max(len(body) + off, 0))
    return _element(0, b"UL", length, **form) + body


PLAIN, BARE_WORDS, SWAPPED = data_set(), data_set(implicit=True), data_set(little=False)
ODD = {
    "no_preamble": meta(EXPLICIT) + PLAIN,
    "no_preamble_implicit": meta(IMPLICIT) + BARE_WORDS,
    "no_preamble_big": meta(BIG_ENDIAN) + SWAPPED,
    "nothing_before_explicit": PLAIN,
    "nothing_before_implicit": BARE_WORDS,
    "nothing_before_big": SWAPPED,
    "prefix_only_explicit": PREFIX + PLAIN,
    "prefix_only_implicit": PREFIX + BARE_WORDS,
    "prefix_only_big": PREFIX + SWAPPED,
    "meta_implicit": PREFIX + meta(EXPLICIT, implicit=True) + PLAIN,
    "meta_implicit_no_preamble": meta(EXPLICIT, implicit=True) + PLAIN,
    "meta_big": PREFIX + meta(EXPLICIT, little=False) + PLAIN,
    "meta_big_of_big": PREFIX + meta(BIG_ENDIAN, little=False) + SWAPPED,
    "meta_one_element": PREFIX
    + _element(16, b"UI", EXPLICIT.encode(), implicit=True, little=True)
    + PLAIN,
    "no_syntax_explicit": PREFIX + meta(None) + PLAIN,
    "no_syntax_implicit": PREFIX + meta(None) + BARE_WORDS,
    "no_syntax_big": PREFIX + meta(None) + SWAPPED,
    "empty_syntax": PREFIX + meta("") + PLAIN,
    "length_short": PREFIX + meta(EXPLICIT, off=-20) + PLAIN,
    "length_ends_before_the_syntax": PREFIX + meta(EXPLICIT, off=-42) + PLAIN,
    "length_zero": PREFIX + meta(EXPLICIT, off=-999) + PLAIN,
    "length_long": PREFIX + meta(EXPLICIT, off=20) + PLAIN,
}
# DCMTK refuses or loses these; pydicom reads them.
ODD_FOR_DCMTK = {
    "length_huge": PREFIX + meta(EXPLICIT, off=1 << 30) + PLAIN,
    "implicit_against_the_syntax": PREFIX + meta(EXPLICIT) + BARE_WORDS,
    "explicit_against_the_syntax": PREFIX + meta(IMPLICIT) + PLAIN,
}


def code_of(data: bytes) -> str:
    with pytest.raises(RecordError) as caught:
        read_image(data, RECORD)
    return caught.value.code


@pytest.mark.parametrize("name", [*ODD, *ODD_FOR_DCMTK])
def test_a_file_with_an_odd_beginning_is_the_same_picture_with_a_warning(name: str) -> None:
    found = read_image({**ODD, **ODD_FOR_DCMTK}[name], RECORD)
    sound = read_image(dicom(breast(), 12, **WINDOW), RECORD)
    np.testing.assert_array_equal(found.pixels, sound.pixels)
    assert (found.warnings, sound.warnings) == (("file_meta_odd",), ())
    assert found.acquisition.window == (2048, 4096)


@pytest.mark.parametrize("name", ODD)
def test_dcmtk_reads_the_same_of_an_odd_beginning(name: str, tmp_path: Path) -> None:
    tool = shutil.which("dcmconv")
    if tool is None:
        pytest.skip("DCMTK is not installed")
    (tmp_path / "a.dcm").write_bytes(ODD[name])
    subprocess.run(
        [tool, "-q", "+te", tmp_path / "a.dcm", tmp_path / "b.dcm"], check=True, capture_output=True
    )
    theirs = pydicom.dcmread(tmp_path / "b.dcm").pixel_array
    np.testing.assert_array_equal(theirs, breast())


@pytest.mark.parametrize("name", [*ODD_FOR_DCMTK, "meta_implicit", "length_zero"])
def test_pydicom_reads_the_same_of_what_dcmtk_refuses(name: str) -> None:
    data = {**ODD, **ODD_FOR_DCMTK}[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(io.BytesIO(data)).pixel_array
    np.testing.assert_array_equal(theirs, breast())


def test_a_meta_information_without_its_length_is_no_oddity() -> None:
    assert read_image(PREFIX + meta(EXPLICIT, off=None) + PLAIN, RECORD).warnings == ()


def test_deflated_bytes_that_look_like_an_element_are_no_meta_information() -> None:
    plain = dicom(breast(), 12, syntax=DEFLATED, **WINDOW)
    end = gate.check_file(plain).end
    # An empty block of fixed codes, an empty stored block, and the stream goes on.
    disguised = plain[:end] + b"\x02\x00\x00\x00\xff\xff" + plain[end:]
    assert gate.check_file(disguised).end == end


@pytest.mark.parametrize("extra", [b"DICM", bytes(128)])
@pytest.mark.parametrize("body", [meta(EXPLICIT) + PLAIN, PLAIN, BARE_WORDS])
def test_elements_at_a_place_where_nobody_looks_are_named_so(extra: bytes, body: bytes) -> None:
    assert code_of(extra + body) == "prefix_missing"
    assert gate.is_dicom(extra + body)


def test_another_byte_order_than_the_syntax_says_is_named_so() -> None:
    assert code_of(PREFIX + meta(BIG_ENDIAN) + PLAIN) == "syntax_mismatch"
    assert code_of(PREFIX + meta(EXPLICIT) + SWAPPED) == "syntax_mismatch"


def test_a_data_set_that_is_not_deflated_as_its_syntax_says_is_named_so() -> None:
    assert code_of(PREFIX + meta(DEFLATED) + PLAIN) == "syntax_mismatch"


def test_compressed_pixels_without_a_stated_syntax_are_refused() -> None:
    body = data_set(frame=encapsulate([encode(breast(), JPEG2000, 12)]))
    for start in (b"", PREFIX, PREFIX + meta(None)):
        assert code_of(start + body) == "no_transfer_syntax"


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_no_bytes_are_taken_for_a_data_set_by_chance(noise: bytes) -> None:
    for data in (noise, b"\x08\x00" + noise, b"\x02\x00" + noise):
        assert not gate.is_dicom(data) or data[128:132] == b"DICM"


TEXTS = (
    b"\x08\x00\x05\x00CS\x04\x00like" + b"one element, and then nothing of the kind" * 9,
    b"\x08\x00\x05\x00\x04\x00\x00\x00like" + b"one element, and then nothing more" * 9,
    b"patient,side,view\n1,L,CC\n" * 40,
    b"\x08\x00the first words happen to follow a backspace and a zero" * 9,
    b"{}" * 300,
    "\ufeffname;seite\n".encode("utf-16-le") * 30,
)


@pytest.mark.parametrize("data", TEXTS)
def test_a_text_is_not_taken_for_a_data_set(data: bytes) -> None:
    assert code_of(data) == "not_dicom"


def test_every_cut_of_a_file_without_preamble_ends_in_a_code() -> None:
    data = ODD["no_preamble"]
    draw = random.Random(1)
    for cut in [*range(200), *(draw.randrange(200, len(data)) for _ in range(60))]:
        with pytest.raises(RecordError):
            read_image(data[:cut], RECORD)
