"""Every transfer syntax at every legal depth, sign and number of frames, against what was put in.

What is compared is the whole stored range at 16 bits: one grey level for each stored value,
computed here from the values that were encoded and not by reading another file.
"""

import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from dicoms import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HTJ2K,
    HTJ2K_LOSSY,
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
    dataset,
    dicom,
    rle,
    write,
)
from pydicom.encaps import encapsulate

from mammoprep.core.errors import RecordError
from mammoprep.decode._codestream import read_codestream
from mammoprep.decode.dicom import read_image, render_stored

NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
Encode = Callable[[np.ndarray, int], bytes]


def _jpeg_lossless(predictor: int) -> Encode:
    def encoded(words: np.ndarray, bits: int) -> bytes:
        return imagecodecs.jpeg8_encode(
            words, lossless=True, predictor=predictor, bitspersample=bits
        )

    return encoded


def _jpeg2000(box: str) -> Encode:
    def encoded(words: np.ndarray, bits: int) -> bytes:
        return imagecodecs.jpeg2k_encode(
            words, level=0, codecformat=box, bitspersample=bits, reversible=True
        )

    return encoded


@dataclass(frozen=True)
class Way:
    """A lossless syntax, and how a frame is made for it.

    Attributes:
        signs: Whether the codec knows signed samples; others hold the bit pattern.
    """

    syntax: str
    encode: Encode
    signs: bool = False


WAYS = {
    "rle": Way(RLE, lambda words, _: rle(words)),
    **{f"57_predictor_{p}": Way(JPEG_LOSSLESS, _jpeg_lossless(p)) for p in range(1, 8)},
    "70": Way(JPEG_LOSSLESS_SV1, _jpeg_lossless(1)),
    "80": Way(JPEG_LS, lambda words, _: imagecodecs.jpegls_encode(words)),
    "90_raw": Way(JPEG2000, _jpeg2000("j2k"), signs=True),
    "90_box": Way(JPEG2000, _jpeg2000("jp2"), signs=True),
    "201": Way(HTJ2K, lambda words, _: imagecodecs.htj2k_encode(words), signs=True),
    "202": Way(HTJ2K_RPCL, lambda words, _: imagecodecs.htj2k_encode(words, tlm=True), signs=True),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def any_values(bits: int, *, signed: bool = False, seed: int = 0) -> np.ndarray:
    """Return values from all of the range, both ends among them, on odd numbers of pixels."""
    low = -(1 << (bits - 1)) if signed else 0
    values = np.random.default_rng(seed + bits).integers(low, low + (1 << bits), (67, 71))
    values[0, :2], values[-1, -2:] = low, low + (1 << bits) - 1
    return values.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")


def shown(values: np.ndarray, bits: int) -> np.ndarray:
    """Return the 16-bit picture of stored values: a whole level each, so that none is hidden."""
    low = -(1 << (bits - 1)) if values.dtype.kind == "i" else 0
    return np.floor((values.astype(float) - low) / ((1 << bits) - 1) * 65535 + 0.5)


def pattern(values: np.ndarray, bits: int) -> np.ndarray:
    """Return the stored bits of signed values, the bits above them 0."""
    return (values.view("u2") & ((1 << bits) - 1)).astype("u2")


def assert_exact(data: bytes, values: np.ndarray, bits: int) -> None:
    np.testing.assert_array_equal(
        render_stored(data, RECORD, voi="full", bits=16), shown(values, bits)
    )


# Lossless


@pytest.mark.parametrize(("syntax", "bits"), list(product(NATIVE, (8, 10, 12, 16))))
def test_native_syntaxes_hold_every_unsigned_depth(syntax: str, bits: int) -> None:
    values = any_values(bits)
    assert_exact(dicom(values, bits, syntax=syntax), values, bits)


@pytest.mark.parametrize(("syntax", "bits"), list(product(NATIVE, (12, 16))))
def test_native_syntaxes_hold_every_signed_depth(syntax: str, bits: int) -> None:
    values = any_values(bits, signed=True)
    for words in (values, pattern(values, bits).view("i2")):
        assert_exact(dicom(words, bits, syntax=syntax), values, bits)


@ways
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_lossless_codecs_hold_every_unsigned_depth(way: Way, bits: int) -> None:
    values = any_values(bits)
    frame = way.encode(values, bits)
    assert_exact(dicom(values, bits, syntax=way.syntax, frame=frame), values, bits)


@ways
@pytest.mark.parametrize("bits", [12, 16])
def test_lossless_codecs_hold_every_signed_depth(way: Way, bits: int) -> None:
    values = any_values(bits, signed=True)
    frame = way.encode(values if way.signs else pattern(values, bits), bits)
    assert_exact(dicom(values, bits, syntax=way.syntax, frame=frame), values, bits)


@pytest.mark.parametrize("name", ["rle", "80"])
def test_codecs_that_know_no_sign_may_hold_it_in_the_unused_bits(name: str) -> None:
    values = any_values(12, signed=True)
    way = WAYS[name]
    frame = way.encode(values.view("u2"), 16)
    assert_exact(dicom(values, 12, syntax=way.syntax, frame=frame), values, 12)


def test_the_frames_of_this_grid_are_what_their_syntax_says() -> None:
    values = any_values(12)
    seen = {name: way.encode(values, 12) for name, way in WAYS.items() if name != "rle"}
    for name, frame in seen.items():
        found = read_codestream(frame)
        assert found is not None
        family = {"57": "jpeg", "70": "jpeg", "80": "jpegls"}.get(name[:2], "jpeg2000")
        assert found.family == family
        assert (found.precision == 12) == (name[:2] in ("57", "70", "90"))
    scan = seen["70"].index(b"\xff\xda")
    assert seen["70"][scan + 7] == 1  # first-order prediction, what .70 means
    for predictor in range(1, 8):
        frame = seen[f"57_predictor_{predictor}"]
        assert frame[frame.index(b"\xff\xda") + 7] == predictor
    assert seen["90_raw"][:4] == b"\xff\x4f\xff\x51"
    assert seen["90_box"][4:8] == b"jP  "
    assert b"\xff\x50" in seen["201"][:120]  # CAP: high throughput
    style = seen["202"].index(b"\xff\x52")
    assert seen["202"][style + 5] == 2  # RPCL
    assert b"\xff\x55" in seen["202"][:160]  # TLM


# Overlays in the bits that a codec carries along


@pytest.mark.parametrize("name", ["rle", "57_predictor_1", "70", "80", "90_raw", "90_box", "201"])
def test_overlay_bits_in_a_codestream_are_no_part_of_the_values(name: str) -> None:
    values, way = any_values(12), WAYS[name]
    marked = values.copy()
    marked[::3] |= 0x4000
    frame = way.encode(marked, 16)
    owned = dicom(values, 12, syntax=way.syntax, frame=frame, overlay_bit=14)
    assert_exact(owned, values, 12)
    with pytest.raises(RecordError) as caught:
        render_stored(dicom(values, 12, syntax=way.syntax, frame=frame), RECORD)
    assert caught.value.code == "bits_exceed_stored"


# Lossy


def _jpeg(words: np.ndarray, bits: int) -> bytes:
    return imagecodecs.jpeg8_encode(words, level=98, bitspersample=bits)


def _near_lossless(words: np.ndarray, bits: int) -> bytes:
    return imagecodecs.jpegls_encode(words, level=min(1 << (bits - 8), 255))


def _irreversible(words: np.ndarray, bits: int) -> bytes:
    return imagecodecs.jpeg2k_encode(
        words, level=60, codecformat="j2k", bitspersample=bits, reversible=False
    )


def _high_throughput(words: np.ndarray, bits: int) -> bytes:
    step = 2.0**-7 if bits == 8 else 2.0 ** (bits - 26)  # of the whole word's range
    return imagecodecs.htj2k_encode(words, level=step, reversible=False)


LOSSY = [
    (JPEG, 8, _jpeg),
    (JPEG_EXTENDED, 8, _jpeg),
    (JPEG_EXTENDED, 12, _jpeg),
    *(
        (syntax, bits, encode)
        for syntax, encode in (
            (JPEG_LS_LOSSY, _near_lossless),
            (JPEG2000_LOSSY, _irreversible),
            (HTJ2K_LOSSY, _high_throughput),
        )
        for bits in (8, 10, 12, 16)
    ),
]


@pytest.mark.parametrize(("syntax", "bits", "encode"), LOSSY)
def test_lossy_codecs_keep_the_picture_within_45_db(syntax: str, bits: int, encode: Encode) -> None:
    noise = np.random.default_rng(bits).normal(0, (1 << bits) / 400, (128, 96))
    values = np.clip(breast(bits) + noise, 0, (1 << bits) - 1).astype(breast(bits).dtype)
    frame = encode(values, bits)
    data = dicom(values, bits, syntax=syntax, frame=frame)
    picture = render_stored(data, RECORD, voi="full", bits=16)
    assert picture.shape == values.shape
    error = np.mean(((picture - shown(values, bits)) / 65535) ** 2)
    assert 0 < error <= 10**-4.5


# Several frames


def several(words: list[np.ndarray], bits: int, syntax: str, value: bytes) -> bytes:
    """Return a file of several frames around its finished pixel data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dataset(words[0], bits, NumberOfFrames=len(words))
        vr = "OW" if syntax in NATIVE and (bits > 8 or syntax == IMPLICIT) else "OB"
        ds.add_new(0x7FE00010, vr, value)
        ds[0x7FE00010].is_undefined_length = syntax not in NATIVE
        return write(ds, syntax)


def frames_of(bits: int) -> list[np.ndarray]:
    """Return a breast, noise and nothing, on odd numbers of pixels."""
    first = breast(bits, shape=(129, 95))
    noise = np.random.default_rng(bits).integers(0, 1 << bits, first.shape)
    return [first, noise.astype(first.dtype), np.zeros_like(first)]


def assert_first(data: bytes, values: np.ndarray, bits: int, least: float = np.inf) -> None:
    """Check that the first frame is refused, and read when it is asked for."""
    with pytest.raises(RecordError) as caught:
        read_image(data, RECORD)
    assert caught.value.code == "multiframe"
    image = read_image(data, RECORD, gate_kind=False)
    assert "multiframe" in image.warnings
    assert image.notes["frames"] == 3
    if least == np.inf:
        np.testing.assert_allclose(image.pixels, values / ((1 << bits) - 1), atol=1e-7)
    else:
        assert np.mean((image.pixels - values / ((1 << bits) - 1)) ** 2) <= 10 ** (-least / 10)


@pytest.mark.parametrize("syntax", NATIVE)
def test_one_frame_may_be_stated_as_such(syntax: str) -> None:
    data = dicom(breast(), 12, syntax=syntax, NumberOfFrames=1)
    image = read_image(data, RECORD)
    assert image.notes["frames"] == 1
    assert "multiframe" not in image.warnings


@pytest.mark.parametrize(("syntax", "bits"), list(product(NATIVE, (8, 12))))
def test_the_first_of_three_native_frames_is_read(syntax: str, bits: int) -> None:
    words = frames_of(bits)
    order = ">" if syntax == BIG_ENDIAN else "<"
    raw = b"".join(w.astype(w.dtype.newbyteorder(order)).tobytes() for w in words)
    raw += b"\0" * (len(raw) % 2)
    assert_first(several(words, bits, syntax, raw), words[0], bits)


ENCAPSULATED: dict[str, tuple[str, int, Encode, float]] = {
    **{name: (way.syntax, 12, way.encode, np.inf) for name, way in WAYS.items()},
    **{syntax[-3:]: (syntax, 8, encode, 45) for syntax, bits, encode in LOSSY if bits == 8},
}


def fragments(frames: list[bytes], *, parts: int, table: bool) -> bytes:
    """Return encapsulated pixel data, each frame in some fragments, with or without offsets."""
    return encapsulate(frames, fragments_per_frame=parts, has_bot=table)


@pytest.mark.parametrize(("parts", "table"), [(1, True), (1, False), (3, True)])
@pytest.mark.parametrize("name", ENCAPSULATED)
def test_the_first_of_three_encapsulated_frames_is_read(name: str, parts: int, table: bool) -> None:
    syntax, bits, encode, least = ENCAPSULATED[name]
    words = frames_of(bits)
    value = fragments([encode(w, bits) for w in words], parts=parts, table=table)
    assert_first(several(words, bits, syntax, value), words[0], bits, least)


@pytest.mark.parametrize("name", [name for name in WAYS if name != "rle"])
def test_a_frame_in_several_fragments_without_offsets_ends_where_its_codestream_does(
    name: str,
) -> None:
    way, words = WAYS[name], frames_of(12)
    value = fragments([way.encode(w, 12) for w in words], parts=2, table=False)
    assert_first(several(words, 12, way.syntax, value), words[0], 12)


# Another encoder


DCMTK: dict[str, tuple[str, list[str], tuple[int, ...]]] = {
    JPEG_LOSSLESS_SV1: ("dcmcjpeg", ["+e1"], (8, 10, 12, 16)),
    JPEG_LOSSLESS: ("dcmcjpeg", ["+el", "+sv", "7"], (8, 10, 12, 16)),
    JPEG_LS: ("dcmcjpls", ["+el"], (8, 10, 12, 16)),
    RLE: ("dcmcrle", [], (8, 10, 12, 16)),
}


@pytest.mark.skipif(shutil.which("dcmcjpls") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize(
    ("syntax", "bits"), [(syntax, bits) for syntax, row in DCMTK.items() for bits in row[2]]
)
def test_what_dcmtk_compressed_without_loss_is_exact(
    syntax: str, bits: int, tmp_path: Path
) -> None:
    tool, options, _ = DCMTK[syntax]
    values = any_values(bits)
    found = _compressed(tool, options, dicom(values, bits), tmp_path)
    assert syntax.encode() in found
    assert_exact(found, values, bits)


def _compressed(tool: str, options: list[str], data: bytes, folder: Path) -> bytes:
    source, target = folder / "in.dcm", folder / "out.dcm"
    source.write_bytes(data)
    command: list[Any] = [tool, *options, source, target]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return target.read_bytes()
