"""Every transfer syntax gives the values that were put in, or says why not."""

import imagecodecs
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

from mammoprep.core.errors import RecordError
from mammoprep.decode import codecs
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode.dicom import read_image, render_stored

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
    found = codecs.stored_values(
        codecs._try_decoders(frame, pixel_format(values, bits, syntax, signed=True))[0],
        pixel_format(values, bits, syntax, signed=True),
    )
    np.testing.assert_array_equal(found, values)


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
    found = codecs._pillow(frame, pixel_format(words, bits, JPEG2000))
    np.testing.assert_array_equal(found, words)


def test_pillow_refuses_the_nine_bits_that_it_would_cut() -> None:
    words = breast(9)
    frame = imagecodecs.jpeg2k_encode(words, level=0, codecformat="jp2", bitspersample=9)
    with pytest.raises(ValueError, match="9-bit"):
        codecs._pillow(frame, pixel_format(words, 9, JPEG2000))


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
    assert caught.value.code == "decode_error"


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
