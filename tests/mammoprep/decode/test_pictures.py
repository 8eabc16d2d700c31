"""Pictures of every depth and kind: right, or said; and what DICOM is refused for refuses them."""

import io
import struct
from collections.abc import Callable
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from dicoms import RECORD, breast, dicom
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import pgm, png, tiff
from PIL import Image

from mammoprep.core.errors import RecordError
from mammoprep.decode import dicom as dicom_files
from mammoprep.decode import gate, near_duplicates, raster
from mammoprep.image import MammoImage


def opened(data: bytes, **how: object) -> MammoImage:
    return raster.open_image(data, RECORD, **how)


def code_of(data: bytes, **how: object) -> str:
    with pytest.raises(RecordError) as caught:
        opened(data, **how)
    return caught.value.code


def shape_of(bits: int) -> np.ndarray:
    """Return a breast that reaches 80 % of the values of so many bits."""
    return breast(bits).astype("u1" if bits <= 8 else "u2")


def scaled_up(values: np.ndarray, bits: int, how: str) -> np.ndarray:
    wide = values.astype(np.int64)
    if how == "shifted":
        return (wide << (16 - bits)).astype("u2")
    if how == "repeated":
        return ((wide << (16 - bits)) | (wide >> (2 * bits - 16))).astype("u2")
    return np.floor(wide * 65535 / ((1 << bits) - 1) + 0.5).astype("u2")


WRITERS: dict[str, Callable[[np.ndarray, int], bytes]] = {
    "png": lambda v, _: png(v, 16),
    "png, sBIT": lambda v, bits: png(v, 16, sbit=[bits]),
    "pgm": lambda v, _: pgm(v, 65535),
    "pgm, maxval": lambda v, bits: pgm(v, (1 << bits) - 1),
    "pgm, digits": lambda v, bits: pgm(v, (1 << bits) - 1, digits=True),
    "tiff": lambda v, _: tiff(v),
    "tiff, other end": lambda v, _: tiff(v, order=">", big=True, tile=32, deflate=True),
    "tiff, MaxSampleValue": lambda v, bits: tiff(v, t281=[(1 << bits) - 1]),
    "jp2": lambda v, _: imagecodecs.jpeg2k_encode(v, level=0, reversible=True),
    "jp2, precision": lambda v, bits: imagecodecs.jpeg2k_encode(
        v.astype("u1" if bits == 8 else "u2"), level=0, reversible=True, bitspersample=bits
    ),
}


@settings(max_examples=150, deadline=None)
@given(
    bits=st.integers(8, 16),
    kind=st.sampled_from(sorted(WRITERS)),
    asked=st.sampled_from(("nothing", "option", "table")),
)
def test_a_picture_of_any_depth_is_right_or_says_that_it_is_dark(
    bits: int, kind: str, asked: str
) -> None:
    values, top = shape_of(bits).astype("u2"), (1 << bits) - 1
    record = replace(RECORD, range=(0.0, float(top))) if asked == "table" else RECORD
    how: dict[str, object] = {"scale": (0.0, float(top))} if asked == "option" else {}
    image = raster.open_image(WRITERS[kind](values, bits), record, mammogram=True, **how)
    right = np.abs(image.pixels - values / np.float32(top)).max() < 1e-6
    assert right or "range_unused" in image.warnings
    # Where depth or range is stated the picture is right, and then nothing is said.
    if asked != "nothing" or "," in kind.replace("tiff, other end", "") or bits == 16:
        assert right
        assert image.warnings == ()
    else:
        assert image.acquisition.bits_stored == bits
    assert "range_clipped" not in image.warnings


@pytest.mark.parametrize("how", ["shifted", "repeated", "multiplied"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_values_that_were_scaled_up_as_png_demands_are_not_scaled_again(
    bits: int, how: str
) -> None:
    values = scaled_up(shape_of(bits), bits, how)
    image = opened(png(values, 16, sbit=[bits]))
    np.testing.assert_array_equal(image.pixels, values.astype("f4") / np.float32(65535))
    dark = scaled_up(shape_of(bits) >> (16 - bits), bits, how)
    assert dark.max() < 1 << bits  # the fewer bits would hold these values
    seen = opened(png(dark, 16, sbit=[bits]))
    np.testing.assert_array_equal(seen.pixels, dark.astype("f4") / np.float32(65535))
    assert seen.warnings == ("range_unused",)


def test_a_row_of_the_table_beats_the_option() -> None:
    record = replace(RECORD, range=(0.0, 4095.0))
    image = raster.open_image(png(shape_of(12), 16), record, scale=(0.0, 1023.0))
    assert image.warnings == ()
    assert image.notes["range_from"] == "the table's row"
    assert (image.acquisition.voi, image.acquisition.window) == ("range", (2047.5, 4095.0))
    assert image.acquisition.bits_stored == 12


def test_values_outside_of_the_range_are_cut_and_said() -> None:
    values = shape_of(12)
    image = opened(png(values, 16), scale=(200.0, 2000.0))
    assert image.warnings == ("range_clipped",)
    expected = np.clip((values.astype("f8") - 200) / 1800, 0, 1)
    np.testing.assert_allclose(image.pixels, expected, atol=1e-6)


def test_one_white_label_does_not_hide_that_a_picture_is_dark() -> None:
    values = shape_of(12)
    values[:6, -12:] = 65535
    image = opened(png(values, 16))
    assert "range_unused" in image.warnings
    assert image.acquisition.bits_stored == 12


def test_few_values_in_eight_bits_are_said_too() -> None:
    assert opened(png(shape_of(4), 8)).warnings == ("range_unused",)
    assert opened(png(shape_of(8), 8)).warnings == ()
    assert opened(png(shape_of(4), 4)).warnings == ()  # four bits are all that there is room for


def test_nothing_stretches_a_single_picture_unless_asked_by_name() -> None:
    bright, dark = shape_of(12), shape_of(12) // 2
    for how in ({}, {"scale": (0.0, 4095.0)}, {"window": "full"}):
        first, second = (opened(png(v, 16), **how).pixels for v in (bright, dark))
        np.testing.assert_allclose(first[bright // 2 * 2 == bright], 2 * second[bright % 2 == 0])
    first, second = (opened(png(v, 16), scale="percentile") for v in (bright, dark))
    np.testing.assert_allclose(first.pixels, second.pixels, atol=2e-3)
    assert first.acquisition.voi == "percentile"


def test_a_window_of_a_picture_is_that_of_dicom_and_needs_a_range() -> None:
    values = shape_of(12)
    image = opened(png(values, 16), scale=(0.0, 4095.0), window="1500,2000")
    twin = dicom_files.open_image(dicom(values, 12), RECORD, voi="1500,2000")
    np.testing.assert_array_equal(image.pixels, twin.pixels)
    for field in ("voi", "voi_function", "window", "bits_stored"):
        assert getattr(image.acquisition, field) == getattr(twin.acquisition, field)
    assert code_of(png(values, 16), window="1500,2000") == "window_not_applicable"
    assert code_of(png(values, 16), window="percentile") == "window_not_applicable"
    both = opened(png(values, 16), window="percentile", scale="percentile")
    assert both.acquisition.voi == "percentile"


def test_white_that_is_zero_is_honoured_also_in_masks() -> None:
    for values in (shape_of(8), shape_of(16)):
        negative = values.dtype.type(np.iinfo(values.dtype).max) - values
        image = opened(tiff(negative, t262=0), mammogram=True)
        expected = values.astype("f4") / np.float32(np.iinfo(values.dtype).max)
        np.testing.assert_allclose(image.pixels, expected, atol=1e-6)
        assert image.acquisition.photometric == "MONOCHROME1"
        np.testing.assert_array_equal(raster.read_values(tiff(negative, t262=0))[0], values)
    deep = np.uint16(4095) - shape_of(12)
    image = opened(tiff(deep, t262=0), scale=(0.0, 4095.0), mammogram=True)
    np.testing.assert_allclose(image.pixels, shape_of(12) / np.float32(4095), atol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tile", [0, 32])
@pytest.mark.parametrize("deflate", [False, True])
def test_every_form_of_tiff_gives_its_values(
    order: str, big: bool, tile: int, deflate: bool
) -> None:
    grey = breast(8)
    colours = np.dstack([grey, grey[::-1], grey[:, ::-1]])
    for values in (grey, breast(16), colours, colours.astype("u2") * 200):
        data = tiff(values, order=order, big=big, tile=tile, deflate=deflate)
        np.testing.assert_array_equal(raster.read_stored(data).values, values)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"])
def test_compressed_tiff_is_read_as_pillow_reads_it(compression: str) -> None:
    for values in (breast(8), breast(8)[..., None].repeat(3, 2), breast(8) > 100):
        if compression == "jpeg" and values.dtype == bool:
            continue
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "TIFF", compression=compression)
        with Image.open(buffer) as picture:
            expected = np.asarray(picture)
        found = raster.read_stored(buffer.getvalue()).values.astype(float)
        assert np.abs(found - expected.astype(float)).max() <= (2 if compression == "jpeg" else 0)


def test_sixteen_bits_of_colours_and_alpha_are_not_cut_to_eight() -> None:
    grey = breast(16)
    for channels, colour in ((3, 2), (4, 6), (2, 4)):
        values = np.dstack([np.roll(grey, n, 0) for n in range(channels)])
        found = raster.read_stored(png(values, 16, colour)).values
        expected = values[..., 0] if channels == 2 else values[..., :3]
        np.testing.assert_array_equal(found, expected)
    equal = grey[..., None].repeat(3, 2)
    np.testing.assert_array_equal(opened(png(equal, 16, 2)).pixels, opened(png(grey, 16)).pixels)
    np.testing.assert_array_equal(raster.read_values(pgm(equal, 65535))[0], equal)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_fewer_than_eight_bits_are_numbers_and_cover_the_range(depth: int) -> None:
    values = (breast(8) >> (8 - depth)).astype("u1")
    found, top, _ = raster.read_values(png(values, depth))
    np.testing.assert_array_equal(found, values)
    assert top == (1 << depth) - 1
    assert opened(png(values, depth)).pixels.max() == values.max() / np.float32(top)


def deep(frame: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(frame, bitspersample=12)


def saved(picture: Image.Image, kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "floating point": (lambda: tiff(breast(8).astype("f4")), "picture_unsupported"),
    "signed": (lambda: tiff(breast(12).astype("i2")), "picture_unsupported"),
    "32 bits": (lambda: tiff(breast(12).astype("u4")), "picture_unsupported"),
    "packed 12 bits": (lambda: tiff(breast(12), t258=[12]), "picture_unsupported"),
    "four inks": (
        lambda: saved(Image.fromarray(breast(8)).convert("CMYK"), "JPEG"),
        "picture_unsupported",
    ),
    "four inks in TIFF": (
        lambda: tiff(breast(8)[..., None].repeat(4, 2), t262=5),
        "picture_unsupported",
    ),
    "JPEG of 12 bits": (lambda: deep(breast(12)), "picture_unsupported"),
    "JPEG-LS": (lambda: imagecodecs.jpegls_encode(breast(8)), "picture_unsupported"),
    "signed JPEG 2000": (
        lambda: imagecodecs.jpeg2k_encode(breast(12).astype("i2"), level=0, reversible=True),
        "picture_unsupported",
    ),
    "two pages": (lambda: tiff(breast(8), pages=2), "multiframe"),
    "an animation": (
        lambda: saved(
            Image.fromarray(breast(8)),
            "PNG",
            save_all=True,
            append_images=[Image.fromarray(breast(8)[::-1])],
        ),
        "multiframe",
    ),
    "two PGM": (lambda: 2 * pgm(breast(8), 255), "multiframe"),
    "a TIFF bomb": (lambda: tiff(breast(8), t257=60000), "header_bounds"),
    "a tile bomb": (lambda: tiff(breast(8), tile=32, t322=1 << 20), "header_bounds"),
    "a PGM bomb": (lambda: b"P5 90000 90000 255 ", "header_bounds"),
    "a JPEG 2000 bomb": (
        lambda: imagecodecs.jpeg2k_encode(breast(8), level=0, codecformat="j2k").replace(
            struct.pack(">II", 96, 128), struct.pack(">II", 60000, 60000), 1
        ),
        "header_bounds",
    ),
    "a cut TIFF": (lambda: tiff(breast(8))[:400], "unreadable"),
    "TIFF without its strip": (lambda: tiff(breast(8), t273=1 << 20), "decode_error"),
    "a cut PGM": (lambda: pgm(breast(8), 255)[:900], "pixel_length_mismatch"),
    "a cut JPEG 2000": (
        lambda: imagecodecs.jpeg2k_encode(breast(8), level=0)[:-80],
        "decode_error",
    ),
    "a cut 16-bit PNG": (
        lambda: png(breast(16)[..., None].repeat(3, 2), 16, 2)[:-90],
        "decode_error",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_ends_in_a_code(name: str) -> None:
    make, code = REFUSED[name]
    assert code_of(make()) == code


def test_a_thumbnail_beside_the_picture_is_no_second_page() -> None:
    data = tiff(breast(8), pages=2)
    where = data.rindex(struct.pack("<HHI", 256, 4, 1))  # ImageWidth begins the second directory
    second = data[:where] + struct.pack("<HHII", 254, 4, 1, 1) + data[where + 12 :]
    np.testing.assert_array_equal(raster.read_stored(second).values, breast(8))


def test_near_duplicates_look_alike_in_every_depth() -> None:
    grey = breast(8)
    expected = near_duplicates.fingerprint(png(grey, 8))
    for data in (png(grey.astype("u2") * 257, 16), pgm(grey.astype("u2") << 4, 4095)):
        assert near_duplicates.fingerprint(data) == expected
    assert near_duplicates.fingerprint(png(grey >> 4, 4)) != expected
    assert near_duplicates.fingerprint(png(grey >> 4, 4)) == near_duplicates.fingerprint(
        png((grey >> 4) * 17, 8)
    )


def test_orientation_is_said_for_tiff_and_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = saved(Image.fromarray(breast(8)), "PNG", exif=exif)
    for data in (turned, tiff(breast(8), t274=6)):
        assert opened(data).warnings == ("exif_orientation_ignored",)


NAMED = {
    b"": "an empty file",
    b"version https://git-lfs.github.com/spec/v1\noid": "git lfs pull",
    b"\xef\xbb\xbf\n <!DOCTYPE html><html>": "an HTML page",
    b"\x1f\x8b\x08": "gzip: unpack",
    b"RIFF\0\0\0\0WEBPVP8 ": "WebP",
    b"GIF89a": "GIF",
    b"\x93NUMPY\x01": "a NumPy array",
    b"PK\x03\x04".ljust(26, b"\0") + b"\x05\0\0\0a.npy": "npz",
    b"PK\x03\x04".ljust(26, b"\0") + b"\x05\0\0\0a.dcm": "a zip archive",
    b"\x5c\1\0\0".ljust(344, b"\0") + b"n+1\0": "NIfTI",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"%PDF-1.7": "PDF",
    b"P5,17,left": "a text file",
    b"BM is a name": "a text file",
    bytes(600): "zeros",
    b"\x01\x02\x03\x04": "neither DICOM",
}


@pytest.mark.parametrize("start", NAMED)
def test_every_other_format_is_named_with_what_is_read(start: bytes) -> None:
    assert not raster.is_picture(start)
    with pytest.raises(RecordError) as caught:
        gate.check_file(start)
    assert caught.value.code == "not_dicom"
    assert NAMED[start] in caught.value.detail
    assert "read are DICOM, PNG, JPEG, TIFF, JPEG 2000" in caught.value.detail


def half_black(values: np.ndarray) -> np.ndarray:
    lost = values.copy()
    lost[len(values) // 2 :] = 0
    return lost


NOISE = np.random.default_rng(7).integers(0, 4096, (128, 96)).astype("u2")
TWINS = {
    "whole": breast(12),
    "inverted": np.uint16(4095) - breast(12),
    "half black": half_black(breast(12)),
    "half grey": np.where(half_black(breast(12)) == 0, np.uint16(2000), breast(12)),
    "upside down": half_black(breast(12))[::-1].copy(),
    "noise": NOISE,
    "blank": np.full((128, 96), 700, "u2"),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_picture_and_its_dicom_twin_end_in_the_same_code(name: str) -> None:
    values = TWINS[name]

    def code(read: Callable[[], MammoImage]) -> str | None:
        try:
            read()
        except RecordError as error:
            return error.code
        return None

    twin = code(lambda: dicom_files.open_image(dicom(values, 12), RECORD))
    stated = {"scale": (0.0, 4095.0), "mammogram": True}
    for data in (png(values, 16), tiff(values), pgm(values, 4095)):
        assert code(lambda data=data: opened(data, **stated)) == twin
        # Also where nobody stated the range: a negative in the lower part of 16 bits is one.
        assert code(lambda data=data: opened(data, mammogram=True)) == twin
    assert (twin is None) == (name == "whole")


def test_where_nobody_says_mammogram_only_a_blank_picture_fails() -> None:
    for name, warning in (("inverted", "polarity_suspect"), ("half black", "half_lost")):
        assert opened(pgm(TWINS[name], 4095)).warnings == (warning,)
    assert code_of(pgm(TWINS["blank"], 4095)) == "blank_image"


def test_whole_pictures_with_black_beside_or_below_them_are_not_half_lost() -> None:
    large = breast(12, shape=(400, 300))
    for edge in (((0, 0), (0, 300)), ((0, 100), (0, 0)), ((100, 100), (0, 0)), ((0, 400), (0, 0))):
        padded = np.pad(large, edge)
        assert opened(pgm(padded, 4095), mammogram=True).warnings == ()
