"""Every transfer syntax gives the values that were put in, or says why not."""

from dataclasses import replace

import imagecodecs
import lossless_jpeg
import numpy as np
import pytest
from dicoms import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HTJ2K,
    HTJ2K_RPCL,
    IMPLICIT,
    JPEG,
    JPEG2000,
    JPEG2000_LOSSY,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_LOSSY,
    RECORD,
    RLE,
    breast,
    dicom,
    encode,
)
from pydicom.encaps import encapsulate, encapsulate_extended

from mammoprep.core.errors import RecordError
from mammoprep.decode import codecs, partial
from mammoprep.decode._decoders import _plain_scan, ljpeg, pillow_jpeg2000
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode.dicom import open_image, read_image, render_stored

LOSSLESS = (
    IMPLICIT,
    EXPLICIT,
    DEFLATED,
    BIG_ENDIAN,
    RLE,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG2000,
    HTJ2K,
    HTJ2K_RPCL,
)
LOSSY = (
    (JPEG, 8),
    (JPEG_EXTENDED, 12),
    *((s, b) for s in (JPEG_LS_LOSSY, JPEG2000_LOSSY) for b in (8, 12, 16)),
)


def noisy(bits: int) -> np.ndarray:
    noise = np.random.default_rng(bits).integers(0, 1 << (bits - 4), (128, 96))
    return breast(bits) + noise.astype(breast(bits).dtype)


def pixel_format(words: np.ndarray, bits: int, syntax: str, *, signed: bool = False) -> PixelFormat:
    width = 8 * words.dtype.itemsize
    rows, columns = words.shape
    return PixelFormat(
        syntax, rows, columns, 1, "MONOCHROME2", width, bits, bits - 1, signed, 0, None
    )


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_are_exact(syntax: str, bits: int) -> None:
    words = noisy(bits)
    expected = render_stored(dicom(words, bits), RECORD, bits=16)
    data = dicom(words, bits, syntax=syntax)
    np.testing.assert_array_equal(render_stored(data, RECORD, bits=16), expected)
    image = read_image(data, RECORD)
    assert image.acquisition.transfer_syntax == syntax
    assert image.acquisition.decoder


@pytest.mark.parametrize(("syntax", "bits"), LOSSY)
def test_lossy_syntaxes_are_close(syntax: str, bits: int) -> None:
    words = breast(bits)
    expected = render_stored(dicom(words, bits), RECORD, bits=16) / 65535
    found = render_stored(dicom(words, bits, syntax=syntax), RECORD, bits=16) / 65535
    assert -10 * np.log10(np.mean((found - expected) ** 2) + 1e-12) >= 45


def test_lossy_overshoot_is_cut_and_reported() -> None:
    words = breast(12)
    words[40:60, 10:30] = 1100
    frame = encode(words, JPEG_EXTENDED, 12)
    image = read_image(dicom(words, 10, syntax=JPEG_EXTENDED, frame=frame), RECORD)
    assert "lossy_clipped" in image.warnings
    assert image.pixels.max() == 1


@pytest.mark.parametrize("syntax", [RLE, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG2000, HTJ2K])
@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values_keep_their_sign(syntax: str, bits: int) -> None:
    values = (noisy(bits).astype(int) - (1 << (bits - 1))).astype("i2")
    pattern = (values.view("u2") & ((1 << bits) - 1)).astype("u2")
    typed = values if syntax in (JPEG2000, HTJ2K) else pattern
    frame = encode(typed, syntax, bits)
    layout = pixel_format(values, bits, syntax, signed=True)
    found = codecs.decode(codecs.Frame(frame, layout))
    np.testing.assert_array_equal(found.stored, values)


@pytest.mark.parametrize("syntax", sorted(codecs.DECODERS))
def test_every_decoder_of_a_syntax_gives_the_same_values(syntax: str) -> None:
    bits = 8 if syntax == JPEG else 12
    words = noisy(bits)
    compressed = syntax not in codecs.NATIVE
    order = ">" if syntax == BIG_ENDIAN else "<"
    plain = words.astype(f"{order}u{words.dtype.itemsize}").tobytes()
    frame = encode(words, syntax, bits) if compressed else plain
    layout = pixel_format(words, bits, syntax)
    first, *others = (decoder.decode(frame, layout) for decoder in codecs.DECODERS[syntax])
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_pillows_widened_samples_are_narrowed_again(bits: int) -> None:
    words = noisy(bits)
    frame = encode(words, JPEG2000, bits)
    found = pillow_jpeg2000(frame, pixel_format(words, bits, JPEG2000))
    np.testing.assert_array_equal(found, words)


def test_pillow_refuses_the_nine_bits_that_it_would_cut() -> None:
    words = breast(9)
    frame = imagecodecs.jpeg2k_encode(words, level=0, codecformat="jp2", bitspersample=9)
    with pytest.raises(ValueError, match="9-bit"):
        pillow_jpeg2000(frame, pixel_format(words, 9, JPEG2000))


def test_the_next_decoder_is_tried_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> np.ndarray:
        raise RuntimeError("broken")

    first, *rest = codecs.DECODERS[JPEG2000]
    broken = codecs.Decoder("broken", "0", fails)
    monkeypatch.setitem(codecs.DECODERS, JPEG2000, (broken, *rest))
    data = dicom(breast(), 12, syntax=JPEG2000)
    assert read_image(data, RECORD).acquisition.decoder.startswith("pillow")
    monkeypatch.setitem(codecs.DECODERS, JPEG2000, (broken,))
    with pytest.raises(RecordError, match="RuntimeError in broken") as caught:
        read_image(data, RECORD)
    assert caught.value.code == "decode_error"
    assert first.name.startswith("imagecodecs")


@pytest.mark.parametrize(
    "wrong", [np.zeros((96, 128), np.uint16), np.zeros((128, 96)), np.zeros((128, 96), np.uint32)]
)
def test_what_a_decoder_returns_is_checked(
    monkeypatch: pytest.MonkeyPatch, wrong: np.ndarray
) -> None:
    bad = codecs.Decoder("bad", "0", lambda *_: wrong)
    monkeypatch.setitem(codecs.DECODERS, JPEG2000, (bad,))
    with pytest.raises(RecordError) as caught:
        read_image(dicom(breast(), 12, syntax=JPEG2000), RECORD)
    assert caught.value.code == "decode_error"


def test_values_above_bits_stored_in_a_codestream_are_refused() -> None:
    words = breast(12)
    data = dicom(words, 10, syntax=JPEG2000, frame=encode(words, JPEG2000, 16))
    with pytest.raises(RecordError) as caught:
        read_image(data, RECORD)
    assert caught.value.code == "bits_exceed_stored"


def test_overlay_bits_in_a_codestream_are_masked() -> None:
    words = breast(12)
    marked = words.copy()
    marked[::3] |= 0x4000
    data = dicom(words, 12, syntax=JPEG2000, frame=encode(marked, JPEG2000, 16), overlay_bit=14)
    np.testing.assert_array_equal(
        render_stored(data, RECORD), render_stored(dicom(words, 12), RECORD)
    )


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.100", "1.2.3"])
def test_a_syntax_without_decoder_is_named_so(syntax: str) -> None:
    data = dicom(breast(), 12, syntax=syntax, frame=encode(breast(), JPEG2000, 12))
    with pytest.raises(RecordError) as caught:
        read_image(data, RECORD)
    assert caught.value.code == "unsupported_syntax"


def test_a_codestream_of_another_family_is_refused() -> None:
    data = dicom(breast(), 12, syntax=JPEG2000, frame=encode(breast(), JPEG_LS, 12))
    with pytest.raises(RecordError) as caught:
        read_image(data, RECORD)
    assert caught.value.code == "syntax_mismatch"


def test_the_first_of_several_frames_is_read_on_request() -> None:
    first, second = breast(), breast() // 2
    frame = first.tobytes() + second.tobytes()
    data = dicom(first, 12, frame=frame, NumberOfFrames=2)
    with pytest.raises(RecordError) as caught:
        read_image(data, RECORD)
    assert caught.value.code == "multiframe"
    image = read_image(data, RECORD, gate_kind=False)
    assert "multiframe" in image.warnings
    np.testing.assert_allclose(image.pixels, first / 4095, atol=1e-6)


# JPEG Lossless, against an encoder that shares no code with any decoder

JPEG8 = codecs.DECODERS[JPEG_LOSSLESS][0]
LAYOUT = pixel_format(np.zeros((23, 19), "u2"), 12, JPEG_LOSSLESS)


def whole_range(bits: int) -> np.ndarray:
    words = np.random.default_rng(bits).integers(0, 1 << bits, (23, 19))
    words[0, :2] = 0, (1 << bits) - 1
    return words.astype("u1" if bits == 8 else "u2")


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", range(8, 17))
def test_jpeg_lossless_is_exact_at_every_precision(bits: int, predictor: int) -> None:
    words = whole_range(bits)
    for transform, restart in ((0, 0), (0, 1), (0, 5), (1, 0), (3, 5)):
        frame = lossless_jpeg.encode(
            words, bits, predictor=predictor, transform=transform, restart=restart
        )
        found = JPEG8.decode(frame, LAYOUT)
        np.testing.assert_array_equal(found, (words >> transform) << transform)


@pytest.mark.parametrize(("transform", "restart"), [(0, 5), (1, 0), (1, 5)])
def test_ljpeg_is_not_asked_for_what_it_reads_wrongly(transform: int, restart: int) -> None:
    words = whole_range(12)
    frame = lossless_jpeg.encode(words, 12, transform=transform, restart=restart)
    with pytest.raises(ValueError, match="restart intervals and point transforms"):
        ljpeg(frame, LAYOUT)
    assert not np.array_equal(imagecodecs.ljpeg_decode(frame), (words >> transform) << transform)
    plain = lossless_jpeg.encode(words, 12)
    np.testing.assert_array_equal(ljpeg(plain, LAYOUT), words)
    filled = plain.replace(b"\xff\xda", b"\xff\xff\xff\xda", 1)
    assert _plain_scan(filled)
    np.testing.assert_array_equal(JPEG8.decode(filled, LAYOUT), words)


def test_decoders_that_only_check_are_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    last = codecs.DECODERS[JPEG_LOSSLESS][-1]
    assert last.only_checks
    monkeypatch.setitem(codecs.DECODERS, JPEG_LOSSLESS, (last,))
    frame = codecs.Frame(lossless_jpeg.encode(whole_range(12), 12), LAYOUT)
    with pytest.raises(RecordError):
        codecs.decode(frame)


def test_every_decoder_names_its_version_and_library() -> None:
    labels = {decoder.label for row in codecs.DECODERS.values() for decoder in row}
    assert any("(openjpeg 2." in label for label in labels)
    assert any("(charls 2." in label for label in labels)
    assert {"openjpeg", "charls", "libjpeg-turbo", "openjpeg of pillow"} == set(codecs.libraries())
    assert all(version[0].isdigit() for version in codecs.libraries().values())


# Several frames

SEVERAL = (*codecs.NATIVE, RLE, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG2000, HTJ2K)


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("syntax", SEVERAL)
def test_every_frame_of_several_is_read(syntax: str, bits: int) -> None:
    frames = [whole_range(bits) // (number + 1) for number in range(3)]
    layout = pixel_format(frames[0], bits, syntax)
    for value in several(frames, bits, syntax):
        for number, expected in enumerate(frames):
            found = codecs.decode(codecs.read_frame(value, layout, 3, number))
            np.testing.assert_array_equal(found.stored, expected)
        with pytest.raises(RecordError) as caught:
            codecs.read_frame(value, layout, 3, 3)
        assert caught.value.code == "header_bounds"
        first = codecs.decode(codecs.read_frame(value, layout, 3))
        np.testing.assert_array_equal(first.stored, frames[0])


def several(frames: list[np.ndarray], bits: int, syntax: str) -> list[bytes]:
    """Return pixel data of several frames, in every way to put them together."""
    if syntax in codecs.NATIVE:
        order = ">" if syntax == BIG_ENDIAN else "<"
        value = b"".join(w.astype(f"{order}u{w.dtype.itemsize}").tobytes() for w in frames)
        return [value + b"\0" * (len(value) % 2)]
    coded = [encode(words, syntax, bits) for words in frames]
    return [
        encapsulate(coded),
        encapsulate(coded, has_bot=False),
        encapsulate(coded, fragments_per_frame=3),
        encapsulate_extended(coded)[0],
    ]


def test_frames_of_swapped_bytes_are_cut_after_swapping() -> None:
    frames = [np.arange(number, number + 15, dtype="u1").reshape(3, 5) for number in range(4)]
    layout = replace(pixel_format(frames[0], 8, BIG_ENDIAN), word_vr="OW")
    value = np.frombuffer(b"".join(w.tobytes() for w in frames), "<u2").astype(">u2").tobytes()
    for number, expected in enumerate(frames):
        found = codecs.decode(codecs.read_frame(value, layout, 4, number))
        np.testing.assert_array_equal(found.stored, expected)


# Parts


@pytest.mark.parametrize("syntax", [JPEG2000, JPEG2000_LOSSY, HTJ2K, HTJ2K_RPCL])
def test_parts_of_a_high_throughput_frame_are_never_decoded(syntax: str) -> None:
    words = breast(12, shape=(400, 300))
    frame = imagecodecs.htj2k_encode(words, reversible=True)
    layout = pixel_format(words, 12, syntax)
    assert partial.levels(codecs.Frame(frame, layout, 16)) == 0
    plain = imagecodecs.jpeg2k_encode(words, level=0, codecformat="jp2", bitspersample=12)
    known = syntax in (JPEG2000, JPEG2000_LOSSY)
    assert (partial.levels(codecs.Frame(plain, layout, 12)) > 0) == known


def test_a_high_throughput_file_is_cut_from_the_whole() -> None:
    words = noisy(12).repeat(6, axis=0).repeat(6, axis=1)
    expected = open_image(dicom(words, 12), RECORD)
    image = open_image(dicom(words, 12, syntax=HTJ2K), RECORD)
    box, size = (40, 100, 400, 700), (600, 360)
    assert image.detail is not None
    assert expected.detail is not None
    np.testing.assert_array_equal(
        image.detail(box, size).on_host(), expected.detail(box, size).on_host()
    )
