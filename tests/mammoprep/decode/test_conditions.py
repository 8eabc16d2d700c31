"""Conditions that users of other programs met: read where it is safe, else named for what it is."""

import io
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicoms import (
    EXPLICIT,
    HTJ2K,
    IMPLICIT,
    JPEG,
    JPEG2000,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RECORD,
    RLE,
    breast,
    dataset,
    dicom,
    encode,
    lut,
    ramp,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended

from mammoprep.core.errors import RecordError
from mammoprep.decode import ahead, partial
from mammoprep.decode._luts import LutItem
from mammoprep.decode.codecs import decode
from mammoprep.decode.dicom import frame_of, read_image, render_stored

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
COMPRESSED = (RLE, JPEG, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG2000, HTJ2K)


def failure(data: bytes) -> RecordError:
    with pytest.raises(RecordError) as caught:
        read_image(data, RECORD)
    return caught.value


def warnings_of(data: bytes) -> tuple[str, ...]:
    return read_image(data, RECORD).warnings


def pydicoms(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(data)).pixel_array


# The first value of a table


TABLE = np.rint(np.linspace(0, 1, 20000) ** 0.5 * 65535)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_first_value_above_32767_of_unsigned_values_has_no_sign(syntax: str) -> None:
    words = np.ascontiguousarray(ramp(16).T)  # across: half of the rows in one value is lost
    expected = TABLE[np.clip(words.astype(int) - 40000, 0, 19999)]
    for first, vr in ((40000, "US"), (40000 - 65536, "SS")):
        data = dicom(words, 16, syntax=syntax, VOILUTSequence=[lut(TABLE, first, 16, vr=vr)])
        np.testing.assert_array_equal(render_stored(data, RECORD, bits=16), expected)
        contradicted = vr == "SS" and syntax != IMPLICIT
        assert ("lut_first_sign" in warnings_of(data)) == contradicted


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_a_first_value_is_negative_where_the_intercept_is(vr: str) -> None:
    words = ramp(12)
    table = [lut(np.arange(4096) * 16, -1024, 16, vr="SS")]
    data = dicom(words, 12, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=table)
    data = data.replace(b"\x28\x00\x02\x30SS", b"\x28\x00\x02\x30" + vr.encode())
    np.testing.assert_array_equal(
        render_stored(data, RECORD, bits=16), np.rint(words.astype(float) * 16 / 65520 * 65520)
    )
    assert ("lut_first_sign" in warnings_of(data)) == (vr == "US")


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_a_first_value_is_negative_where_the_pixels_are(vr: str) -> None:
    words = ramp(12, signed=True)
    for name in ("VOILUTSequence", "ModalityLUTSequence"):
        data = dicom(words, 12, **{name: [lut(np.arange(4096) * 16, -2048, 16, vr="SS")]})
        data = data.replace(b"\x28\x00\x02\x30SS", b"\x28\x00\x02\x30" + vr.encode())
        expected = (words.astype(int) + 2048) * 16
        np.testing.assert_array_equal(render_stored(data, RECORD, bits=16), expected)


def test_a_modality_tables_first_value_above_32767_has_no_sign_over_unsigned_pixels() -> None:
    words = np.ascontiguousarray(ramp(16).T)  # across: half of the rows in one value is lost
    table = lut(TABLE, 40000 - 65536, 16, vr="SS")
    data = dicom(words, 16, ModalityLUTSequence=[table])
    expected = TABLE[np.clip(words.astype(int) - 40000, 0, 19999)]
    np.testing.assert_array_equal(render_stored(data, RECORD, bits=16), expected)
    assert "lut_first_sign" in warnings_of(data)


def test_a_voi_table_behind_a_modality_table_starts_without_sign() -> None:
    """The output of a Modality LUT is never negative, whatever the pixels are."""
    words = ramp(12, signed=True)
    modality = lut(np.arange(4096) * 16, -2048, 16, vr="SS")
    voi = lut(TABLE, 40000 - 65536, 16, vr="SS")
    data = dicom(words, 12, ModalityLUTSequence=[modality], VOILUTSequence=[voi])
    inner = (words.astype(int) + 2048) * 16
    expected = TABLE[np.clip(inner - 40000, 0, 19999)]
    np.testing.assert_array_equal(render_stored(data, RECORD, bits=16), expected)


def test_where_only_a_negative_first_value_reaches_the_pixels_it_is_one() -> None:
    words = ramp(12)
    data = dicom(words, 12, VOILUTSequence=[lut(np.arange(5120) * 8, -1024, 16, vr="SS")])
    found = render_stored(data, RECORD, bits=16)
    np.testing.assert_array_equal(found, (words.astype(int) + 1024) * 8)
    assert "lut_first_sign" in warnings_of(data)


def test_a_number_of_entries_written_with_a_sign_is_read_without() -> None:
    table = lut(TABLE, 0, 16, count=20000)
    wide = np.rint(np.linspace(0, 65535, 40000))
    for entries, item in ((TABLE, table), (wide, lut(wide, 0, 16, count=40000))):
        data = dicom(ramp(16), 16, VOILUTSequence=[item])
        signed = data.replace(b"\x28\x00\x02\x30US", b"\x28\x00\x02\x30SS")
        expected = entries[np.minimum(ramp(16), len(entries) - 1)]
        np.testing.assert_array_equal(render_stored(signed, RECORD, bits=16), expected)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    """Return the least and largest output of a modality step that 16 bits can name."""
    bits = draw(st.integers(6, 16))
    low = draw(st.integers(-(1 << 15), (1 << 16) - (1 << bits)))
    return low, low + (1 << bits) - 1


@given(ranges(), st.data(), st.sampled_from([None, True, False]), st.integers(1, 300))
@settings(max_examples=500, deadline=None)
def test_a_first_value_inside_the_range_is_meant_whatever_its_type(
    span: tuple[int, int], data: st.DataObject, stated: bool | None, count: int
) -> None:
    low, high = span
    meant = data.draw(st.integers(low, high))
    if low < 0 and high > 32767:  # then the type has to be right
        stated = meant < 0
    item = LutItem(meant & 0xFFFF, stated, 16, np.arange(1.0, count + 1))
    found, odd = item.first_in(low, high)
    assert found == meant
    contradicted = stated is not None and stated != (meant < 0) and meant & 0x8000 != 0
    assert bool(odd) >= contradicted
    if low >= 0 or high < 32768:
        assert bool(odd) == contradicted


# Bytes behind the picture


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("extra", [2, 64, 240, 128 * 96 * 2 - 2])
def test_bytes_behind_native_pixels_are_passed_over_with_a_warning(syntax: str, extra: int) -> None:
    words, behind = breast(), bytes(range(256)) * 100
    data = dicom(words, 12, syntax=syntax, frame=words.tobytes() + behind[:extra], **WINDOW)
    found = read_image(data, RECORD)
    sound = read_image(dicom(words, 12, syntax=syntax, **WINDOW), RECORD)
    np.testing.assert_array_equal(found.pixels, sound.pixels)
    assert (found.warnings, sound.warnings) == (("excess_bytes",), ())
    np.testing.assert_array_equal(pydicoms(data), words)


def test_one_byte_of_padding_is_no_excess() -> None:
    words = ramp(8, shape=(65, 67))
    assert "excess_bytes" not in warnings_of(dicom(words, 8, frame=words.tobytes() + b"\0"))


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS_SV1, JPEG_LS, JPEG2000, HTJ2K])
@pytest.mark.parametrize(
    ("behind", "odd"), [(bytes(40), False), (b"\xff" * 6, False), (b"what is this", True)]
)
def test_bytes_behind_a_codestream_are_passed_over(syntax: str, behind: bytes, odd: bool) -> None:
    frame = encode(breast(), syntax, 12)
    data = dicom(breast(), 12, syntax=syntax, frame=frame + behind, **WINDOW)
    found = read_image(data, RECORD)
    sound = read_image(dicom(breast(), 12, syntax=syntax, frame=frame, **WINDOW), RECORD)
    np.testing.assert_array_equal(found.pixels, sound.pixels)
    assert set(found.warnings) - set(sound.warnings) == ({"excess_bytes"} if odd else set())


# The sign of JPEG 2000


def _signed_frame(words: np.ndarray, bits: int, syntax: str = JPEG2000) -> bytes:
    if syntax == HTJ2K:
        return imagecodecs.htj2k_encode(words, reversible=True)
    return imagecodecs.jpeg2k_encode(
        words, level=0, codecformat="j2k", bitspersample=bits, reversible=True
    )


def test_an_unsigned_codestream_below_the_sign_bit_is_read_under_a_signed_header() -> None:
    words = breast(shape=(900, 700))
    frame = _signed_frame(words, 13)
    data = dicom(words, 13, syntax=JPEG2000, frame=frame, PixelRepresentation=1, **WINDOW)
    found = read_image(data, RECORD)
    sound = read_image(dicom(words, 13, **WINDOW), RECORD)
    np.testing.assert_array_equal(found.pixels, sound.pixels)
    assert found.warnings == ("sign_mismatch",)
    np.testing.assert_array_equal(pydicoms(data), words)
    np.testing.assert_array_equal(decode(frame_of(data, RECORD)).stored, words)


@pytest.mark.parametrize("fast", [False, True])
def test_an_unsigned_codestream_that_reaches_the_sign_bit_is_refused(fast: bool) -> None:
    from mammoprep.decode.dicom import open_image

    words = breast(shape=(900, 700))
    words[450, 300] = 4096  # one pixel, which no overview shows
    frame = _signed_frame(words, 13)
    data = dicom(words, 13, syntax=JPEG2000, frame=frame, PixelRepresentation=1, **WINDOW)
    with pytest.raises(RecordError) as caught:
        open_image(data, RECORD, fast=fast)
    assert caught.value.code == "precision_mismatch"
    assert "4096" in caught.value.detail
    assert not np.array_equal(pydicoms(data), words)


def test_a_codestream_of_fewer_bits_counts_its_own_highest_one() -> None:
    words = breast(12)
    frame = _signed_frame(words, 12)
    data = dicom(words, 13, syntax=JPEG2000, frame=frame, PixelRepresentation=1, **WINDOW)
    assert words.max() >= 2048
    assert not np.array_equal(pydicoms(data), words)
    assert failure(data).code == "precision_mismatch"


def test_a_signed_codestream_without_negative_values_is_read_under_an_unsigned_header() -> None:
    words = breast(12)
    frame = _signed_frame(words.astype(np.int16), 13)
    data = dicom(words, 12, syntax=JPEG2000, frame=frame, **WINDOW)
    found = read_image(data, RECORD)
    np.testing.assert_array_equal(
        found.pixels, read_image(dicom(words, 12, **WINDOW), RECORD).pixels
    )
    assert found.warnings == ("sign_mismatch",)
    np.testing.assert_array_equal(pydicoms(data), words)


def test_a_signed_codestream_with_one_negative_value_is_refused_under_an_unsigned_header() -> None:
    words = breast(12, shape=(900, 700)).astype(np.int16)
    words[450, 300] = -1
    data = dicom(
        words, 12, syntax=JPEG2000, frame=_signed_frame(words, 13), PixelRepresentation=0, **WINDOW
    )
    assert failure(data).code == "precision_mismatch"
    assert not np.array_equal(pydicoms(data).astype(int), words)


def test_a_sign_that_agrees_is_no_oddity() -> None:
    words = ramp(12, signed=True)
    data = dicom(words, 12, syntax=JPEG2000, frame=_signed_frame(words, 12))
    assert "sign_mismatch" not in warnings_of(data)
    np.testing.assert_array_equal(decode(frame_of(data, RECORD)).stored, words)


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_LOSSLESS_SV1])
def test_codestreams_that_know_no_sign_take_the_headers(syntax: str) -> None:
    words = ramp(12, signed=True)
    frame = encode(words.view("u2") & 0xFFF, syntax, 12)
    data = dicom(words, 12, syntax=syntax, frame=frame)
    np.testing.assert_array_equal(decode(frame_of(data, RECORD)).stored, words)
    assert "sign_mismatch" not in warnings_of(data)


def test_htj2k_of_another_sign_is_treated_alike() -> None:
    words = breast(12)
    data = dicom(words, 14, syntax=HTJ2K, PixelRepresentation=1, **WINDOW)
    assert "sign_mismatch" in warnings_of(data)
    words[3, 3] = 9000
    assert failure(dicom(words, 14, syntax=HTJ2K, PixelRepresentation=1, **WINDOW)).code == (
        "precision_mismatch"
    )


def test_a_doubtful_sign_is_decoded_neither_in_parts_nor_ahead() -> None:
    words = breast(shape=(900, 700))
    plain = frame_of(dicom(words, 13, syntax=JPEG2000), RECORD)
    doubtful = frame_of(
        dicom(words, 13, syntax=JPEG2000, frame=plain.data, PixelRepresentation=1), RECORD
    )
    assert (partial.levels(plain) > 0, ahead.kind_of(plain)) == (True, ("JPEG 2000", 13))
    assert (partial.levels(doubtful), ahead.kind_of(doubtful)) == (0, None)


# Functional groups


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item


def grouped(place: str, macros: dict[str, Dataset], **attributes: Any) -> bytes:
    """Return a file with functional group macros, shared or of its frame."""
    groups = _item(**{name: [item] for name, item in macros.items()})
    return dicom(breast(), 12, **{place: [groups]}, **attributes)


PLACES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@pytest.mark.parametrize("place", PLACES)
def test_a_window_in_functional_groups_is_found(place: str) -> None:
    window = {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"}
    found = read_image(grouped(place, {"FrameVOILUTSequence": _item(**window)}), RECORD)
    sound = read_image(dicom(breast(), 12, **window), RECORD)
    np.testing.assert_array_equal(found.pixels, sound.pixels)
    assert found.warnings == sound.warnings == ()
    assert (found.acquisition.window, found.acquisition.voi_function) == ((1500, 900), "SIGMOID")


@pytest.mark.parametrize("place", PLACES)
def test_a_table_in_functional_groups_is_found(place: str) -> None:
    tables = {"VOILUTSequence": [lut(np.arange(4096)[::-1] * 16, 0, 16)]}
    found = render_stored(grouped(place, {"FrameVOILUTSequence": _item(**tables)}), RECORD)
    np.testing.assert_array_equal(found, render_stored(dicom(breast(), 12, **tables), RECORD))


@pytest.mark.parametrize("place", PLACES)
def test_a_rescale_in_functional_groups_is_found(place: str) -> None:
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"}
    macros = {"PixelValueTransformationSequence": _item(**rescale)}
    found = read_image(grouped(place, macros, **WINDOW), RECORD)
    sound = read_image(dicom(breast(), 12, **rescale, **WINDOW), RECORD)
    np.testing.assert_array_equal(found.pixels, sound.pixels)
    assert found.warnings == sound.warnings == ("modality_not_identity",)


@pytest.mark.parametrize("place", PLACES)
def test_a_spacing_in_functional_groups_is_found(place: str) -> None:
    macros = {"PixelMeasuresSequence": _item(PixelSpacing=[0.07, 0.08])}
    found = read_image(grouped(place, macros, **WINDOW), RECORD)
    assert found.geometry.stored_spacing_mm == (0.07, 0.08)


def test_of_several_frames_the_first_ones_window_is_taken() -> None:
    frames = [
        _item(FrameVOILUTSequence=[_item(WindowCenter=1000 * n, WindowWidth=500)]) for n in (1, 2)
    ]
    data = dicom(
        breast(), 12, frame=breast().tobytes() * 2, NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip
    found = read_image(data, RECORD, gate_kind=False)
    assert found.acquisition.window == (1000, 500)


@pytest.mark.parametrize("place", PLACES)
def test_the_headers_own_window_wins_and_a_difference_is_said(place: str) -> None:
    for window, odd in ((WINDOW, ()), ({**WINDOW, "WindowWidth": 90}, ("frame_groups_conflict",))):
        data = grouped(place, {"FrameVOILUTSequence": _item(**window)}, **WINDOW)
        found = read_image(data, RECORD)
        assert (found.acquisition.window, found.warnings) == ((2048, 4096), odd)


def test_shared_and_frames_own_groups_that_differ_are_said() -> None:
    own, shared = (_item(RescaleSlope=slope, RescaleIntercept=0) for slope in (1, 2))
    groups = [[_item(PixelValueTransformationSequence=[item])] for item in (shared, own)]
    data = dicom(breast(), 12, **dict(zip(PLACES, groups, strict=True)), **WINDOW)
    assert warnings_of(data) == ("frame_groups_conflict",)


def test_tables_that_differ_in_a_value_only_are_said() -> None:
    one, other = (lut([*range(4095), last], 0, 12) for last in (4095, 4000))
    macros = {"FrameVOILUTSequence": _item(VOILUTSequence=[other])}
    data = grouped(PLACES[0], macros, VOILUTSequence=[one])
    assert "frame_groups_conflict" in warnings_of(data)
    macros = {"FrameVOILUTSequence": _item(VOILUTSequence=[one])}
    assert warnings_of(grouped(PLACES[1], macros, VOILUTSequence=[one])) == ()


# More pictures than stated


def _fragmented(syntax: str, value: bytes, **attributes: Any) -> bytes:
    ds = dataset(breast(), 12, **WINDOW, **attributes)
    ds.add_new(0x7FE00010, "OB", value)
    ds[0x7FE00010].is_undefined_length = True
    return write(ds, syntax)


def _two(syntax: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield two frames in every kind of fragments, and attributes of the file."""
    frames = [encode(words, syntax, 12) for words in (breast(), breast() // 2)]
    yield encapsulate(frames, has_bot=True), {}
    yield encapsulate(frames, has_bot=False), {}
    value, offsets, lengths = encapsulate_extended(frames)
    yield value, {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    if syntax != RLE:
        yield encapsulate(frames, fragments_per_frame=3, has_bot=False), {}
        yield encapsulate([b"".join(frames)]), {}


@pytest.mark.parametrize("stated", [{}, {"NumberOfFrames": 1}])
@pytest.mark.parametrize("syntax", [s for s in COMPRESSED if s != JPEG])
def test_two_codestreams_without_number_of_frames_are_refused(
    syntax: str, stated: dict[str, int]
) -> None:
    for value, attributes in _two(syntax):
        found = failure(_fragmented(syntax, value, **attributes, **stated))
        assert found.code == "frames_mismatch"


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.parametrize("syntax", [s for s in COMPRESSED if s not in (JPEG, RLE)])
def test_one_codestream_in_several_fragments_is_read(syntax: str, pieces: int, table: bool) -> None:
    frame = encode(breast(), syntax, 12)
    value = encapsulate([frame], fragments_per_frame=pieces, has_bot=table)
    found = read_image(_fragmented(syntax, value), RECORD)
    sound = read_image(dicom(breast(), 12, syntax=syntax, frame=frame, **WINDOW), RECORD)
    np.testing.assert_array_equal(found.pixels, sound.pixels)
    assert "frames_mismatch" not in found.warnings


def test_an_offset_for_each_fragment_of_one_codestream_does_not_cut_it() -> None:
    frame = encode(breast(), JPEG2000, 12)
    half = len(frame) // 4 * 2
    pieces = [frame[:half], frame[half:]]
    value = encapsulate(pieces, has_bot=True)
    found = read_image(_fragmented(JPEG2000, value), RECORD)
    np.testing.assert_array_equal(
        found.pixels, read_image(dicom(breast(), 12, **WINDOW), RECORD).pixels
    )


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_empty_fragments_change_nothing(syntax: str) -> None:
    bits = 8 if syntax == JPEG else 12
    words = breast(bits)
    frame = encode(words, syntax, bits)
    value = encapsulate([frame + b"\0" * (len(frame) % 2)])
    ds = dataset(words, bits)
    ds.add_new(0x7FE00010, "OB", value + b"\xfe\xff\x00\xe0" + bytes(4))
    ds[0x7FE00010].is_undefined_length = True
    np.testing.assert_array_equal(
        render_stored(write(ds, syntax), RECORD),
        render_stored(dicom(words, bits, syntax=syntax, frame=frame), RECORD),
    )


# What is said of pixels that are not read


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_native_pixels_under_a_compressed_syntax_are_named_so(syntax: str) -> None:
    bits = 8 if syntax == JPEG else 12
    ds = dataset(breast(bits), bits)
    ds.add_new(0x7FE00010, "OW", breast(bits).tobytes())
    found = failure(_with_syntax(ds, syntax))
    assert found.code == "syntax_mismatch"
    assert "uncompressed data" in found.detail


def _with_syntax(ds: Dataset, syntax: str) -> bytes:
    """Return a native data set behind meta information that names a compressed syntax."""
    plain = write(ds, EXPLICIT)
    end = plain.index(b"\x08\x00\x08\x00")
    head = write(Dataset(), syntax)
    return head + plain[end:]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("family", COMPRESSED)
def test_fragments_under_a_native_syntax_are_named_so(syntax: str, family: str) -> None:
    bits = 8 if family == JPEG else 12
    value = encapsulate([encode(breast(bits), family, bits)])
    found = failure(dicom(breast(bits), bits, syntax=syntax, frame=value))
    assert found.code == "syntax_mismatch"
    assert "fragments" in found.detail


@pytest.mark.parametrize("family", [f for f in COMPRESSED if f not in (JPEG, RLE)])
def test_a_bare_codestream_is_named_so(family: str) -> None:
    frame = encode(breast(), family, 12)
    found = failure(dicom(breast(), 12, frame=frame))
    assert (found.code, "codestream" in found.detail) == ("syntax_mismatch", True)
    ds = dataset(breast(), 12)
    ds.add_new(0x7FE00010, "OB", frame + b"\0" * (len(frame) % 2))
    found = failure(_with_syntax(ds, family))
    assert (found.code, "without fragments" in found.detail) == ("syntax_mismatch", True)


@pytest.mark.parametrize(("syntax", "other"), [(JPEG2000, JPEG_LS), (JPEG_LS, JPEG2000),
    (JPEG_LOSSLESS_SV1, JPEG2000), (RLE, JPEG2000), (RLE, JPEG_LOSSLESS_SV1)])  # fmt: skip
def test_another_codec_than_the_syntax_names_is_named_so(syntax: str, other: str) -> None:
    found = failure(dicom(breast(), 12, syntax=syntax, frame=encode(breast(), other, 12)))
    assert found.code == "syntax_mismatch"


@pytest.mark.parametrize(
    ("tag", "vr", "kind"),
    [(0x7FE00008, "OF", "<f4"), (0x7FE00009, "OD", "<f8")],
)
def test_floating_point_pixels_are_named_so(tag: int, vr: str, kind: str) -> None:
    ds = dataset(breast(), 12, BitsAllocated=8 * np.dtype(kind).itemsize, BitsStored=None)
    ds.add_new(tag, vr, breast().astype(kind).tobytes())
    assert failure(write(ds)).code == "float_pixels"


@pytest.mark.parametrize("bits", [1, 32])
def test_words_of_32_and_of_1_bit_are_named_so(bits: int) -> None:
    size = breast().size * bits // 8
    data = dicom(
        breast(), 12, frame=bytes(size), BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1
    )
    found = failure(data)
    assert (found.code, str(bits) in found.detail) == ("bits_unsupported", True)


# Values that are no numbers, and types that are none


@pytest.mark.parametrize(
    ("name", "value", "garbled"), [("RescaleSlope", 1.5, "1,5"), ("RescaleIntercept", 20.5, "20,5")]
)
def test_a_rescale_with_a_comma_is_said_and_not_half_applied(
    name: str, value: float, garbled: str
) -> None:
    rescale = {"RescaleSlope": 2, "RescaleIntercept": 100, name: value}
    data = dicom(breast(), 12, **rescale, **WINDOW)
    wrong = data.replace(str(value).encode(), garbled.encode())
    assert wrong != data
    found = read_image(wrong, RECORD)
    np.testing.assert_array_equal(
        found.pixels, read_image(dicom(breast(), 12, **WINDOW), RECORD).pixels
    )
    assert found.warnings == ("rescale_invalid",)


def test_a_magnification_that_is_no_number_leaves_the_spacing_unknown() -> None:
    at_detector = {"ImagerPixelSpacing": [0.1, 0.1]}
    data = dicom(breast(), 12, EstimatedRadiographicMagnificationFactor=1.5, **at_detector)
    assert read_image(data, RECORD).geometry.stored_spacing_mm == pytest.approx((1 / 15, 1 / 15))
    found = read_image(data.replace(b"1.5 ", b"1,5 "), RECORD)
    assert found.geometry.stored_spacing_mm is None
    assert "spacing_invalid" in found.warnings


def test_a_text_of_unknown_type_is_read() -> None:
    data = dicom(breast(), 12, VOILUTFunction="SIGMOID", NumberOfFrames=1, **WINDOW)
    for head in (b"\x28\x00\x56\x10CS", b"\x28\x00\x04\x00CS"):
        at = data.index(head) + 4
        length = data[at + 2 : at + 4]
        data = data[:at] + b"UN\0\0" + length + b"\0\0" + data[at + 4 :]
    found = read_image(data, RECORD)
    assert found.acquisition.voi_function == "SIGMOID"
    assert found.acquisition.photometric == "MONOCHROME2"


def test_a_number_of_frames_of_unknown_type_is_read() -> None:
    data = dicom(breast(), 12, frame=breast().tobytes() * 3, NumberOfFrames=3)
    wrong = data.replace(b"\x28\x00\x08\x00IS\x02\0", b"\x28\x00\x08\x00UN\0\0\x02\0\0\0")
    assert wrong != data
    assert failure(wrong).code == "multiframe"


def test_a_sign_that_nobody_states_is_said_and_one_that_is_neither_is_refused() -> None:
    assert warnings_of(dicom(breast(), 12, PixelRepresentation=None, **WINDOW)) == ("sign_assumed",)
    assert failure(dicom(breast(), 12, PixelRepresentation=2)).code == "header_missing"


# The files of the public reports

RIGHT: dict[str, tuple[str, ...] | str] = {
    "lut_first40000_ss/a": ("lut_first_sign", "voi_saturated"),
    "lut_first40000_ss/b": ("lut_first_sign",),
    "excess_padding/a": ("excess_bytes",),
    "j2k_unsigned_pr1/a": ("sign_mismatch",),
    "fg_voi_Shared/a": ("multiframe",),
    "no_preamble/a": ("file_meta_odd",),
    "meta_implicit/a": ("file_meta_odd",),
    "native_as_j2k_defined/a": "syntax_mismatch",
    "j2k_as_native/a": "syntax_mismatch",
    "float_pixels/a": "float_pixels",
    "alloc32/a": "bits_unsupported",
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_reported_file_gives_its_right_answer(name: str) -> None:
    folder = os.environ.get("MAMMO_REPORTED")
    if folder is None:
        pytest.skip("MAMMO_REPORTED is not set")
    data, right = (Path(folder) / f"{name}.dcm").read_bytes(), RIGHT[name]
    if isinstance(right, str):
        assert failure(data).code == right
        return
    found = read_image(data, RECORD, gate_kind=False)
    assert found.warnings == right
    assert found.notes["centre_median"] > found.notes["border_median"] + 0.2
    assert found.acquisition.voi in ("lut:0", "window:0")


@pytest.mark.parametrize("name", ["no_preamble", "meta_implicit", "excess_padding"])
def test_dcmtk_reads_the_same_of_a_reported_file(name: str, tmp_path: Path) -> None:
    folder, tool = os.environ.get("MAMMO_REPORTED"), shutil.which("dcmconv")
    if folder is None or tool is None:
        pytest.skip("MAMMO_REPORTED is not set, or DCMTK is not installed")
    path = Path(folder) / name / "a.dcm"
    subprocess.run([tool, "-q", "+te", path, tmp_path / "b.dcm"], check=True, capture_output=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(tmp_path / "b.dcm").pixel_array
    np.testing.assert_array_equal(decode(frame_of(path.read_bytes(), RECORD)).stored, theirs)
