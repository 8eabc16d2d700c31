"""A device without a GPU: CPU decoders behind the device's interface, strict array API arrays.

``array_api_strict`` knows nothing beyond the standard and refuses to mix with NumPy, so code that
runs on it runs on any library that follows the standard.
"""

from collections.abc import Callable, Sequence

import array_api_strict as xp
import imagecodecs
import numpy as np

from mammoprep.core.device import DeviceArray
from mammoprep.decode.gpu import DeviceError


def fetch(values: object) -> np.ndarray:
    return np.asarray(values)


def place(values: np.ndarray) -> object:
    return xp.asarray(values)


def on_device(words: np.ndarray) -> DeviceArray:
    return DeviceArray(place(words), xp, fetch, place)


def honest(frame: bytes) -> np.ndarray | None:
    if frame.startswith(b"\xff\xd8"):
        return imagecodecs.jpegsof3_decode(frame)
    return imagecodecs.jpeg2k_decode(frame)


def off_by_one(frame: bytes) -> np.ndarray | None:
    words = honest(frame).copy()
    words[words.shape[0] // 2, words.shape[1] // 2] ^= 1
    return words


def broken(_: bytes) -> np.ndarray | None:
    raise DeviceError("the bus fell off")


FAULTS: dict[str, Callable[[bytes], np.ndarray | None]] = {
    "honest": honest,
    "off-by-one": off_by_one,
    "zeros": lambda frame: np.zeros_like(honest(frame)),
    "none": lambda _: None,
    "turned": lambda frame: honest(frame).T.copy(),
    "scaled": lambda frame: honest(frame) << 4,
    "broken": broken,
}


class FakeDevice:
    """Decodes like the CPU, or wrongly in one of the ways of ``FAULTS``."""

    name = "fake"

    def __init__(self, decode_one: Callable[[bytes], np.ndarray | None] = honest) -> None:
        self.decode_one = decode_one
        self.batches: list[int] = []

    def decode(self, frames: Sequence[bytes]) -> list[DeviceArray | None]:
        self.batches.append(len(frames))
        words = [self.decode_one(frame) for frame in frames]
        return [None if found is None else on_device(found) for found in words]
