"""Array -> bytes, one function per format of a sample's members."""

from typing import Any

import cv2
from numpy.typing import NDArray

SUFFIXES = {"png": "png", "jpeg": "jpg"}
LOSSLESS = ("png",)
PNG_LEVEL = (
    4  # measured on real files: smaller levels cost size, higher ones time, nothing gains both
)
JPEG_QUALITY = 95


def png(pixels: NDArray[Any]) -> bytes:
    """Return a PNG of (rows, columns) uint8 or uint16; carries no time, text or profile."""
    return _encode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])


def jpeg(pixels: NDArray[Any]) -> bytes:
    """Return a baseline JPEG of (rows, columns) uint8 at quality 95."""
    return _encode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _encode(extension: str, pixels: NDArray[Any], options: list[int]) -> bytes:
    done, buffer = cv2.imencode(extension, pixels, options)
    if not done:
        raise ValueError(f"cannot encode {pixels.dtype} {pixels.shape} as {extension}")
    return bytes(buffer)


ENCODERS = {"png": png, "jpeg": jpeg}
