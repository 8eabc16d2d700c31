"""Hostile and broken files are refused before anything is allocated or decoded."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from dicoms import (
    DEFLATED,
    EXPLICIT,
    HTJ2K,
    IMPLICIT,
    JPEG2000,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RECORD,
    RLE,
    breast,
    dataset,
    dicom,
    encode,
    write,
)
from pydicom.dataset import Dataset

from mammoprep.core.errors import RecordError
from mammoprep.decode import codecs, gate
from mammoprep.decode._codestream import read_codestream
from mammoprep.decode.dicom import read_image


class DecoderCalledError(BaseException):
    """Raised in place of every decoder; no code of the package catches it."""


@pytest.fixture(autouse=True)
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise out of the package when any decoder is called."""

    def refuse(*_: object) -> np.ndarray:
        raise DecoderCalledError

    for syntax in codecs.DECODERS:
        monkeypatch.setitem(codecs.DECODERS, syntax, (codecs.Decoder("none", "0", refuse),))


def code_of(data: bytes, *, most_bytes: int = 64 << 20) -> str:
    """Return the failure's code, and check that little memory was asked for."""
    tracemalloc.start()
    try:
        with pytest.raises(RecordError) as caught:
            read_image(data, RECORD)
        assert tracemalloc.get_traced_memory()[1] < most_bytes + 4 * len(data)
    finally:
        tracemalloc.stop()
    return caught.value.code


@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG2000, JPEG_LS, JPEG_LOSSLESS_SV1, HTJ2K])
def test_a_small_file_of_65535_rows_and_columns_is_out_of_bounds(syntax: str) -> None:
    assert code_of(dicom(breast(), 12, syntax=syntax, Rows=65535, Columns=65535)) == "header_bounds"


@pytest.mark.parametrize(
    ("rows", "columns"), [(63, 500), (500, 63), (16385, 64), (64, 16385), (10001, 10000), (0, 0)]
)
def test_sizes_outside_the_limits_are_refused(rows: int, columns: int) -> None:
    assert code_of(dicom(breast(), 12, Rows=rows, Columns=columns)) == "header_bounds"


def _siz(rows: int, columns: int, *, left: int = 0, step: int = 1, components: int = 1) -> bytes:
    sizes = (columns + left, rows, left, 0, columns, rows, 0, 0)
    body = struct.pack(">HHIIIIIIIIH", 38 + 3 * components, 0, *sizes, components)
    return b"\xff\x4f\xff\x51" + body + bytes([11, step, step]) * components + b"\xff\xd9"


@pytest.mark.parametrize("syntax", [JPEG2000, HTJ2K])
def test_a_codestream_of_60000_by_60000_is_a_mismatch(syntax: str) -> None:
    frame = _siz(60000, 60000)
    assert code_of(dicom(breast(), 12, syntax=syntax, frame=frame)) == "size_mismatch"


def test_a_codestream_in_a_box_is_found_and_compared() -> None:
    import imagecodecs

    frame = imagecodecs.jpeg2k_encode(breast(), level=0, codecformat="jp2", bitspersample=12)
    large = frame.replace(struct.pack(">II", 96, 128), struct.pack(">II", 60000, 60000))
    assert large != frame
    assert read_codestream(frame).rows == 128
    assert code_of(dicom(breast(), 12, syntax=JPEG2000, frame=large)) == "size_mismatch"


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_LOSSLESS_SV1])
def test_an_edited_frame_header_is_a_mismatch(syntax: str) -> None:
    frame = encode(breast(), syntax, 12)
    edited = frame.replace(struct.pack(">HH", 128, 96), struct.pack(">HH", 65500, 65500), 1)
    assert edited != frame
    assert code_of(dicom(breast(), 12, syntax=syntax, frame=edited)) == "size_mismatch"


def test_sizes_are_measured_from_the_codestreams_origin() -> None:
    found = read_codestream(_siz(128, 96, left=7))
    assert (found.rows, found.columns, found.precision, found.signed) == (128, 96, 12, False)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8" + b"\xff" * 500,
        b"\xff\xd8\x00\x00\x00\x00\x00\x00",
        b"\xff\xd8" + b"\xff\xe0\x00\x00" * 2000,
        b"\xff\x4f\xff\x51\x00",
        _siz(128, 96, step=2),
        b"\x00\x00\x00\x0cjP  \r\n\x87\n",
        b"\x00\x00\x00\x0cjP  \r\n\x87\n" + struct.pack(">I4s", 0, b"ftyp") * 9,
        b"\x00\x00\x00\x0cjP  \r\n\x87\n" + struct.pack(">I4sQ", 1, b"ftyp", 0) * 9,
    ],
)
def test_headers_that_are_none_are_told_apart(frame: bytes) -> None:
    assert read_codestream(frame) is None


def test_more_components_than_one_are_colour() -> None:
    frame = _siz(128, 96, components=3)
    assert code_of(dicom(breast(), 12, syntax=JPEG2000, frame=frame)) == "not_monochrome"


@pytest.mark.parametrize("frames", [2**31 - 1, 10_001, 0, -1])
def test_absurd_numbers_of_frames_are_out_of_bounds(frames: int) -> None:
    for syntax in (EXPLICIT, JPEG2000):
        assert code_of(dicom(breast(), 12, syntax=syntax, NumberOfFrames=frames)) == "header_bounds"


def test_a_number_of_frames_that_is_no_number_is_out_of_bounds() -> None:
    data = dicom(breast(), 12, NumberOfFrames=77).replace(b"IS\x02\x0077", b"IS\x02\x001A")
    assert code_of(data) == "header_bounds"


@pytest.mark.parametrize(
    "bits",
    [
        {"BitsStored": 17},
        {"BitsStored": 0},
        {"HighBit": 16},
        {"HighBit": 3},
    ],
)
def test_impossible_bits_are_out_of_bounds(bits: dict[str, int]) -> None:
    attributes = {"BitsStored": 12, "HighBit": bits.get("BitsStored", 12) - 1, **bits}
    assert (
        code_of(dicom(breast(), 12, **{k: v & 0xFFFF for k, v in attributes.items()}))
        == "header_bounds"
    )


@pytest.mark.parametrize("bits", [{"BitsAllocated": n} for n in (1, 12, 24, 32, 64)])
@pytest.mark.parametrize("syntax", [EXPLICIT, RLE, JPEG2000])
def test_numbers_of_bits_that_are_not_read_are_named_as_such(
    bits: dict[str, int], syntax: str
) -> None:
    for stored in (bits["BitsAllocated"], 12):
        data = dicom(breast(), 12, syntax=syntax, BitsStored=stored, HighBit=stored - 1, **bits)
        assert code_of(data) == "bits_unsupported"


def test_fewer_stored_bits_than_are_read_are_named_as_such() -> None:
    assert code_of(dicom(breast(8), 8, BitsStored=5, HighBit=4)) == "bits_unsupported"


def test_left_justified_bits_in_a_codestream_are_out_of_bounds() -> None:
    assert code_of(dicom(breast(), 12, syntax=JPEG2000, HighBit=15)) == "header_bounds"


@pytest.mark.parametrize(
    "name", ["Rows", "Columns", "BitsAllocated", "BitsStored", "PhotometricInterpretation"]
)
def test_missing_needed_attributes_are_named(name: str) -> None:
    with pytest.raises(RecordError) as caught:
        read_image(dicom(breast(), 12, **{name: None}), RECORD)
    assert caught.value.code == "header_missing"


def _deflated(data_set: bytes) -> bytes:
    head = dicom(breast(), 12, syntax=DEFLATED)
    end = gate.check_file(head).end
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return head[:end] + deflate.compress(data_set) + deflate.flush()


def test_a_deflated_file_that_grows_a_thousandfold_is_refused_before_it_does() -> None:
    zeros = b"\x11\x00\x10\x00OB\x00\x00" + struct.pack("<I", 300 << 20) + bytes(300 << 20)
    data = _deflated(zeros)
    assert len(data) < 1 << 20
    assert code_of(data, most_bytes=8 << 20) == "header_bounds"


def test_a_deflated_file_is_bounded_in_size_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MOST_INFLATED_BYTES", 10_000)
    assert code_of(dicom(breast(), 12, syntax=DEFLATED)) == "header_bounds"


def test_a_damaged_deflated_file_is_unreadable() -> None:
    data = bytearray(dicom(breast(), 12, syntax=DEFLATED))
    end = gate.check_file(bytes(data)).end
    data[end] = 0xFF
    assert code_of(bytes(data)) == "unreadable"


def test_a_file_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MOST_FILE_BYTES", 1000)
    assert code_of(dicom(breast(), 12)) == "header_bounds"


def _nested(depth: int, *, defined: bool) -> bytes:
    """Return a sequence in itself ``depth`` times, of undefined or defined lengths."""
    tag = b"\x40\x00\x75\x02"
    undefined = b"\xff\xff\xff\xff"
    if not defined:
        opening = tag + b"SQ\x00\x00" + undefined + b"\xfe\xff\x00\xe0" + undefined
        closing = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
        return opening * depth + closing * depth
    body = b""
    for _ in range(depth):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", len(body)) + body
        body = tag + b"SQ\x00\x00" + struct.pack("<I", len(item)) + item
    return body


def _with_elements(elements: bytes) -> bytes:
    plain = dicom(breast(), 12)
    at = plain.index(b"\xe0\x7f\x10\x00OW")
    return plain[:at] + elements + plain[at:]


@pytest.mark.parametrize("depth", [33, 40, 100, 300, 1000, 100_000])
def test_deep_nesting_is_out_of_bounds(depth: int) -> None:
    assert code_of(_with_elements(_nested(depth, defined=False))) == "header_bounds"


def test_nesting_up_to_the_limit_reaches_the_decoder() -> None:
    with pytest.raises(DecoderCalledError):
        read_image(_with_elements(_nested(32, defined=False)), RECORD)


def test_nesting_that_nobody_opens_costs_nothing() -> None:
    with pytest.raises(DecoderCalledError):
        read_image(_with_elements(_nested(3000, defined=True)), RECORD)


def test_nesting_inside_a_sequence_that_is_opened_is_bounded() -> None:
    body = _nested(2000, defined=True).replace(b"\x40\x00\x75\x02", b"\x28\x00\x10\x30")
    with pytest.raises(DecoderCalledError):
        read_image(_with_elements(body), RECORD)


@pytest.mark.parametrize("length", [0, 100, 131, 132, 133, 140, 150, 200])
def test_files_cut_in_their_meta_information_are_coded(length: int) -> None:
    assert code_of(dicom(breast(), 12)[:length]) in {
        "not_dicom",
        "unreadable",
        "no_transfer_syntax",
        "not_an_image",
    }


def test_other_files_are_not_dicom() -> None:
    for data in (b"", b"\x89PNG\r\n\x1a\n" + bytes(500), b"MZ" + bytes(200), bytes(4096)):
        assert code_of(data) == "not_dicom"


def test_an_executable_preamble_is_never_looked_at() -> None:
    data = b"MZ\x90\x00" + b"X" * 124 + dicom(breast(), 12)[128:]
    with pytest.raises(DecoderCalledError):
        read_image(data, RECORD)


def test_a_file_without_transfer_syntax_is_coded() -> None:
    data = dicom(breast(), 12, syntax=JPEG2000)
    data = data.replace((JPEG2000).encode(), bytes(len(JPEG2000)))
    assert code_of(data) == "no_transfer_syntax"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, JPEG2000])
def test_no_pixel_data_is_coded(syntax: str) -> None:
    ds = dataset(breast(), 12)
    assert code_of(write(ds, syntax)) == "no_pixels"
    ds.PixelData = b""
    assert code_of(write(ds, EXPLICIT)) == "no_pixels"


def test_reports_and_directories_are_no_images() -> None:
    for sop_class in ("1.2.840.10008.5.1.4.1.1.88.50", "1.2.840.10008.5.1.4.1.1.11.1"):
        assert code_of(write(dataset(breast(), 12, SOPClassUID=sop_class))) == "not_an_image"
    bare = Dataset()
    bare.PatientID = "x"
    bare.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    assert code_of(write(bare)) == "no_pixels"  # it says that it is an image, and is cut off
    bare.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.99"
    assert code_of(write(bare)) == "not_an_image"


def test_the_tests_own_files_are_good_dicom() -> None:
    ds = pydicom.dcmread(io.BytesIO(dicom(breast(), 12)))
    np.testing.assert_array_equal(ds.pixel_array, breast())
