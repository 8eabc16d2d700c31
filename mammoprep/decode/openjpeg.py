"""OpenJPEG itself: a part of a JPEG 2000 image, at a lower resolution, without decoding the rest.

Pillow and imagecodecs bundle the library but give neither a region nor (imagecodecs) a resolution.
Here are the few calls of its public C interface (openjpeg.h of version 2) that do. The library is
the one that imagecodecs installs; without it nothing here is used. Decoding is only ever done in a
child process.
"""

import ctypes
import sys
from collections.abc import Callable
from ctypes import (
    POINTER,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_CODEC_J2K, _CODEC_JP2 = 0, 2
_READ_SIZE = 1 << 20
_PARAMETER_BYTES = 1 << 15  # opj_dparameters_t is 8,256 bytes; its first word is the resolution
_MAJOR = b"2."
_AT_END = c_size_t(-1).value

_Read = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_size_t, c_void_p)
_Skip = ctypes.CFUNCTYPE(c_int64, c_int64, c_void_p)
_Seek = ctypes.CFUNCTYPE(c_int, c_int64, c_void_p)


class _Component(ctypes.Structure):
    """opj_image_comp_t."""

    _fields_ = (
        *((name, c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp")),
        *((name, c_uint32) for name in ("sgnd", "resno_decoded", "factor")),
        ("data", POINTER(c_int32)),
        ("alpha", ctypes.c_uint16),
    )


class _Image(ctypes.Structure):
    """opj_image_t."""

    _fields_ = (
        *((name, c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", c_int),
        ("comps", POINTER(_Component)),
        ("icc_profile_buf", c_void_p),
        ("icc_profile_len", c_uint32),
    )


_IMAGE = POINTER(_Image)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "opj_version": (c_char_p, ()),
    "opj_create_decompress": (c_void_p, (c_int,)),
    "opj_set_default_decoder_parameters": (None, (c_void_p,)),
    "opj_setup_decoder": (c_int, (c_void_p, c_void_p)),
    "opj_stream_create": (c_void_p, (c_size_t, c_int)),
    "opj_stream_set_read_function": (None, (c_void_p, _Read)),
    "opj_stream_set_skip_function": (None, (c_void_p, _Skip)),
    "opj_stream_set_seek_function": (None, (c_void_p, _Seek)),
    "opj_stream_set_user_data_length": (None, (c_void_p, c_uint64)),
    "opj_read_header": (c_int, (c_void_p, c_void_p, POINTER(_IMAGE))),
    "opj_set_decode_area": (c_int, (c_void_p, _IMAGE, *([c_int32] * 4))),
    "opj_decode": (c_int, (c_void_p, c_void_p, _IMAGE)),
    "opj_stream_destroy": (None, (c_void_p,)),
    "opj_destroy_codec": (None, (c_void_p,)),
    "opj_image_destroy": (None, (_IMAGE,)),
}


@dataclass
class _Source:
    """Bytes in memory, read by the library through callbacks."""

    data: bytes
    at: int = 0

    def read(self, buffer: int, size: int, _: object) -> int:
        """Copy the next bytes; -1 at the end."""
        part = self.data[self.at : self.at + size]
        if not part:
            return _AT_END
        ctypes.memmove(buffer, part, len(part))
        self.at += len(part)
        return len(part)

    def skip(self, count: int, _: object) -> int:
        """Move on by ``count`` bytes, at most to the end."""
        self.at = min(max(self.at + count, 0), len(self.data))
        return count

    def seek(self, at: int, _: object) -> int:
        """Move to ``at``; 0 when that is outside."""
        if not 0 <= at <= len(self.data):
            return 0
        self.at = at
        return 1


@cache
def library() -> ctypes.CDLL | None:
    """Return the OpenJPEG 2 that imagecodecs has installed, or None."""
    if sys.byteorder != "little":
        return None
    for path in _candidates():
        try:
            found = ctypes.CDLL(str(path))
            for name, (result, arguments) in _SIGNATURES.items():
                function = getattr(found, name)
                function.restype, function.argtypes = result, arguments
        except (OSError, AttributeError):
            continue
        if found.opj_version().startswith(_MAJOR):
            return found
    return None


def _candidates() -> list[Path]:
    try:
        listed = files("imagecodecs") or []
    except PackageNotFoundError:
        return []
    return [Path(str(path.locate())) for path in listed if "openjp2" in path.name]


def version() -> str | None:
    """Return the library's version such as ``2.5.4``, or None when there is none."""
    found = library()
    return None if found is None else found.opj_version().decode("ascii")


def decode(
    data: bytes, level: int, box: tuple[int, int, int, int], dtype: type[np.generic]
) -> NDArray[Any]:
    """Decode the samples of a level that lie in a box of a one-component image.

    Args:
        data: A raw codestream or a JP2 file, whose size has been checked.
        level: How many of the highest resolutions are left out.
        box: (x0, y0, x1, y1) in stored pixels; every multiple of ``2**level`` in it is a sample.
        dtype: A type that holds the samples.

    Returns:
        (rows, columns) of ``dtype``.

    Raises:
        ValueError: the library is absent, refuses the data, or returns another size than asked for.
    """
    found = library()
    if found is None:
        raise ValueError("no OpenJPEG library")
    codec = found.opj_create_decompress(_CODEC_JP2 if data[:8] == _JP2_SIGNATURE else _CODEC_J2K)
    stream = found.opj_stream_create(_READ_SIZE, 1)
    image = _IMAGE()
    source = _Source(data)
    # Kept in a variable: the library calls them until the stream is destroyed.
    calls = _Read(source.read), _Skip(source.skip), _Seek(source.seek)
    try:
        found.opj_stream_set_read_function(stream, calls[0])
        found.opj_stream_set_skip_function(stream, calls[1])
        found.opj_stream_set_seek_function(stream, calls[2])
        found.opj_stream_set_user_data_length(stream, len(data))
        _read(found, codec, stream, image, level, box)
        return _samples(image, level, box).astype(dtype)
    finally:
        if image:
            found.opj_image_destroy(image)
        found.opj_destroy_codec(codec)
        found.opj_stream_destroy(stream)


def _read(
    found: ctypes.CDLL, codec: int, stream: int, image: Any, level: int, box: tuple[int, ...]
) -> None:
    parameters = ctypes.create_string_buffer(_PARAMETER_BYTES)
    found.opj_set_default_decoder_parameters(parameters)
    ctypes.cast(parameters, POINTER(c_uint32))[0] = level
    steps: tuple[Callable[[], int], ...] = (
        lambda: found.opj_setup_decoder(codec, parameters),
        lambda: found.opj_read_header(stream, codec, ctypes.byref(image)),
        lambda: found.opj_set_decode_area(codec, image, *box),
        lambda: found.opj_decode(codec, stream, image),
    )
    for number, step in enumerate(steps):
        done: int = step()
        if not done:
            raise ValueError(f"OpenJPEG refuses the codestream in step {number}")


def _samples(image: Any, level: int, box: tuple[int, int, int, int]) -> NDArray[np.int32]:
    """Return the library's own memory, which goes with the image."""
    columns, rows = (-(-box[i + 2] >> level) - -(-box[i] >> level) for i in (0, 1))
    component = image.contents.comps[0]
    if image.contents.numcomps != 1 or (component.h, component.w) != (rows, columns):
        raise ValueError("OpenJPEG returns another size than asked for")
    if not component.data:
        raise ValueError("OpenJPEG returns no samples")
    return np.ctypeslib.as_array(component.data, shape=(rows, columns))
