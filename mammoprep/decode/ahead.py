"""Frames decoded ahead in batches on a GPU, each batch checked against the CPU.

Nothing here decides what a picture looks like: a frame either has the CPU's words, or is decoded by
the CPU. A library that returns wrong words without an error is found out by the check of one frame
a batch, and is then not asked again for that kind of frame.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mammoprep.core.device import DeviceArray
from mammoprep.core.errors import RecordError
from mammoprep.decode import gpu
from mammoprep.decode.codecs import Frame, decode
from mammoprep.decode.gpu import Device, DeviceError

_UIDS = {
    "JPEG Lossless": ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),
    "JPEG 2000": ("1.2.840.10008.1.2.4.90",),
    "HTJ2K": ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"),
}
FAMILIES = {uid: name for name, uids in _UIDS.items() for uid in uids}

Kind = tuple[str, int]


def kind_of(frame: Frame) -> Kind | None:
    """Return (family, bits) of a frame that a device may decode; None for all others.

    Lossless syntaxes only, because others have no one right answer; unsigned and without overlays,
    because the words are then the stored values; and of a sign that nobody doubts.
    """
    pixels, family = frame.pixels, FAMILIES.get(frame.pixels.transfer_syntax)
    if family is None or frame.precision is None or frame.agreed is not None:
        return None
    if pixels.signed or pixels.overlay_bits:
        return None
    return family, frame.precision


@dataclass
class Ahead:
    """Words on a device, for frames that are going to be asked for.

    Attributes:
        device: What decodes; None once it has failed as a whole.
        notices: What the user should know, each line once.
        counts: Frames that the device decoded (``device``), of these compared with the CPU
            (``checked``), that it could not decode (``refused``), and that the CPU decoded
            (``cpu``).
    """

    device: Device | None

    def __post_init__(self) -> None:
        """Start with nothing decoded."""
        self.notices: list[str] = []
        self.counts: Counter[str] = Counter()
        self._words: list[tuple[Frame, DeviceArray]] = []
        self._checked: set[Kind] = set()
        self._refused: set[Kind] = set()
        self._turn = 0

    def prepare(self, frames: Iterable[Frame]) -> None:
        """Decode a batch; what it holds afterwards is this batch only.

        Args:
            frames: Those asked for next. Unsuitable ones are left out.
        """
        self._words.clear()
        batch = [frame for frame in frames if self._wanted(frame)]
        if self.device is None or not batch:
            return
        try:
            words = self.device.decode([frame.data for frame in batch])
        except DeviceError as error:
            self._give_up(str(error))
            return
        found = [
            (frame, array)
            for frame, array in zip(batch, words, strict=True)
            if array is not None and _plausible(frame, array)
        ]
        self.counts["refused"] += len(batch) - len(found)
        for frame, array in self._to_check(found):
            self._check(frame, array)
        self._words = [item for item in found if kind_of(item[0]) not in self._refused]

    def take(self, frame: Frame) -> DeviceArray | None:
        """Return the words of a frame and forget them; None where the CPU has to decode."""
        for place, (known, words) in enumerate(self._words):
            if known == frame:
                del self._words[place]
                self.counts["device"] += 1
                return words
        self.counts["cpu"] += 1
        return None

    def report(self) -> dict[str, Any]:
        """Return the counts and notices since the last report."""
        told = {"device": dict(self.counts), "notices": self.notices}
        self.counts, self.notices = Counter(), []
        return told

    def _wanted(self, frame: Frame) -> bool:
        kind = kind_of(frame)
        return kind is not None and kind not in self._refused

    def _give_up(self, why: str) -> None:
        self.device = None
        self.notices.append(f"--device cuda: {why}; the CPU decodes from here on")

    def _to_check(self, found: list[tuple[Frame, DeviceArray]]) -> list[tuple[Frame, DeviceArray]]:
        """Return the first frame of every kind never checked before, else one, in turns."""
        fresh = {
            kind: item
            for item in reversed(found)
            if (kind := kind_of(item[0])) not in self._checked
        }
        if fresh or not found:
            return list(fresh.values())
        self._turn += 1
        return [found[self._turn % len(found)]]

    def _check(self, frame: Frame, words: DeviceArray) -> None:
        """Compare with the CPU, bit for bit; a difference ends this kind for good."""
        kind = kind_of(frame)
        if kind is None:
            return
        try:
            stored = decode(frame).stored
        except RecordError:
            return  # the CPU will say so when its turn comes: this is no disagreement about values
        self.counts["checked"] += 1
        self._checked.add(kind)
        if not np.array_equal(stored, words.host()):
            self._refused.add(kind)
            self.notices.append(
                f"--device cuda: GPU and CPU disagree on a {kind[0]} image of {kind[1]} bits; "
                "the CPU decodes all of this kind"
            )


def open_ahead() -> Ahead:
    """Return the GPU's; where there is none, one that leaves everything to the CPU and says so."""
    try:
        return Ahead(gpu.open_device())
    except DeviceError as error:
        ahead = Ahead(None)
        ahead.notices.append(f"--device cuda: {error}; the CPU decodes everything")
        return ahead


def _plausible(frame: Frame, words: DeviceArray) -> bool:
    """Return whether words fit the frame: size, type, no bit too many, and not all equal.

    A frame of one value is rare and cheap for the CPU; it is what a failed decoder leaves.
    """
    pixels = frame.pixels
    if words.shape != (pixels.rows, pixels.columns) or words.dtype.name not in ("uint8", "uint16"):
        return False
    low, high = words.limits()
    return low < high < 1 << (pixels.bits_stored or 0)
