"""PNG, JPEG, PGM and BMP: every pixel as stored, hostile ones refused."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from dicoms import BARE, breast
from PIL import Image

from mammoprep.core.errors import RecordError
from mammoprep.decode import raster


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


GREY = breast(8)
DEEP = breast(12).astype(np.uint16) * 16
COLOUR = np.stack([GREY, np.roll(GREY, 5, 0), np.roll(GREY, 5, 1)], axis=2)


@pytest.mark.parametrize("kind", ["PNG", "PPM", "BMP"])
def test_eight_bits_are_read_as_they_are(kind: str) -> None:
    image = raster.open_image(saved(Image.fromarray(GREY), kind), BARE)
    np.testing.assert_array_equal(image.pixels, GREY.astype(np.float32) / np.float32(255))
    assert image.geometry.stored_size == GREY.shape
    assert image.acquisition.bits_stored == 8


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
def test_sixteen_bits_are_read_as_they_are(kind: str) -> None:
    image = raster.open_image(saved(Image.fromarray(DEEP), kind), BARE)
    np.testing.assert_array_equal(image.pixels, DEEP.astype(np.float32) / np.float32(65535))


def test_equal_channels_become_one_without_a_word() -> None:
    picture = Image.fromarray(np.repeat(GREY[..., None], 3, axis=2))
    image = raster.open_image(saved(picture, "PNG"), BARE)
    np.testing.assert_array_equal(image.pixels, GREY.astype(np.float32) / np.float32(255))
    assert image.warnings == ()


def test_colours_become_brightness_with_a_warning_or_stay_colours() -> None:
    data = saved(Image.fromarray(COLOUR), "PNG")
    grey = raster.open_image(data, BARE)
    assert grey.pixels.ndim == 2
    assert grey.warnings == ("colour_discarded",)
    kept = raster.open_image(data, BARE, colour=True)
    np.testing.assert_array_equal(kept.pixels, COLOUR.astype(np.float32) / np.float32(255))
    assert kept.warnings == ()


def test_what_lies_below_alpha_is_the_picture() -> None:
    clear = np.dstack([COLOUR, np.zeros(GREY.shape, np.uint8)])
    image = raster.open_image(saved(Image.fromarray(clear), "PNG"), BARE, colour=True)
    np.testing.assert_array_equal(image.pixels, COLOUR.astype(np.float32) / np.float32(255))


def test_one_bit_is_black_and_white() -> None:
    flags = GREY > 100
    image = raster.open_image(saved(Image.fromarray(flags), "PNG"), BARE)
    np.testing.assert_array_equal(image.pixels, flags.astype(np.float32))


def test_a_turned_jpeg_is_read_as_stored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = raster.open_image(saved(Image.fromarray(GREY), "JPEG", exif=exif), BARE)
    assert image.geometry.stored_size == GREY.shape
    assert image.warnings == ("exif_orientation_ignored",)


def png_of(rows: int, columns: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb": (lambda: png_of(60000, 60000), "header_bounds"),
    "a sliver": (lambda: png_of(3, 4000), "header_bounds"),
    "cut": (lambda: saved(Image.fromarray(GREY), "PNG")[:300], "decode_error"),
    "empty body": (lambda: png_of(200, 200), "decode_error"),
    "cut jpeg": (lambda: saved(Image.fromarray(GREY), "JPEG")[:700], "decode_error"),
    "no picture": (lambda: b"P5 what is this", "unreadable"),
    "black": (lambda: saved(Image.fromarray(np.zeros((80, 80), np.uint8)), "PNG"), "blank_image"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bad_pictures_end_in_a_code(name: str) -> None:
    make, code = HOSTILE[name]
    with pytest.raises(RecordError) as caught:
        raster.open_image(make(), BARE)
    assert caught.value.code == code


def test_dicom_with_a_preamble_that_looks_like_a_picture_is_no_picture() -> None:
    assert not raster.is_picture(b"P5".ljust(128, b"\0") + b"DICM")
    assert raster.is_picture(saved(Image.fromarray(GREY), "PNG"))
