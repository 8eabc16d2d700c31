"""PNG encoders on finished pictures: processor time and size, all lossless and checked."""

import struct
import time
import zlib
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import cv2
import imagecodecs
import numpy as np

ROUNDS = 3
UP, PAETH = 2, 4


def by_cv2(*options: int) -> Callable[[np.ndarray], bytes]:
    return lambda picture: bytes(cv2.imencode(".png", picture, list(options))[1])


def by_libdeflate(level: int, kind: int) -> Callable[[np.ndarray], bytes]:
    """A PNG whose rows are all filtered alike, compressed by libdeflate."""

    def encode(picture: np.ndarray) -> bytes:
        packed = bytes(imagecodecs.deflate_encode(filtered(picture, kind), level=level))
        head = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 8, 0, 0, 0, 0)
        parts = (chunk(b"IHDR", head), chunk(b"IDAT", packed), chunk(b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    return encode


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def filtered(picture: np.ndarray, kind: int) -> bytes:
    """The picture's rows minus their prediction, each behind its filter's number."""
    rows, columns = picture.shape
    above = np.zeros_like(picture)
    above[1:] = picture[:-1]
    out = np.empty((rows, columns + 1), np.uint8)
    out[:, 0] = kind
    out[:, 1:] = picture - (above if kind == UP else paeth(picture, above))
    return out.tobytes()


def paeth(picture: np.ndarray, above: np.ndarray) -> np.ndarray:
    left, corner = np.zeros_like(picture), np.zeros_like(picture)
    left[:, 1:], corner[:, 1:] = picture[:, :-1], above[:, :-1]
    a, b, c = (values.astype(np.int16) for values in (left, above, corner))
    pa, pb, pc = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    best = np.where(pb <= pc, above, corner)
    return np.where((pa <= pb) & (pa <= pc), left, best)


ENCODERS: dict[str, Callable[[np.ndarray], Any]] = {
    "cv2, as shipped": by_cv2(),
    "cv2, level 1": by_cv2(cv2.IMWRITE_PNG_COMPRESSION, 1),
    "cv2, Huffman only": by_cv2(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    "cv2, level 6": by_cv2(cv2.IMWRITE_PNG_COMPRESSION, 6),
    "imagecodecs png, level 1": lambda picture: imagecodecs.png_encode(picture, level=1),
    "imagecodecs png, level 6": lambda picture: imagecodecs.png_encode(picture, level=6),
    "imagecodecs spng, level 1": lambda picture: imagecodecs.spng_encode(picture, level=1),
    "libdeflate, level 1, up": by_libdeflate(1, UP),
    "libdeflate, level 3, up": by_libdeflate(3, UP),
    "libdeflate, level 1, Paeth": by_libdeflate(1, PAETH),
    "libdeflate, level 6, Paeth": by_libdeflate(6, PAETH),
}


def compare(pictures: Sequence[np.ndarray]) -> dict[str, dict[str, float]]:
    """Milliseconds and kilobytes a picture, by encoder; medians over pictures and rounds."""
    found = {}
    for name, encode in ENCODERS.items():
        times, sizes = [], []
        for picture in pictures:
            for _ in range(ROUNDS):
                begun = time.process_time()
                data = bytes(encode(picture))
                times.append(time.process_time() - begun)
            sizes.append(len(data))
            back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if not np.array_equal(back, picture):
                raise RuntimeError(f"{name} is not lossless")
        found[name] = {
            "cpu_ms": round(1e3 * median(times), 2),
            "kilobytes": round(sum(sizes) / len(sizes) / 1e3, 1),
        }
    return found
