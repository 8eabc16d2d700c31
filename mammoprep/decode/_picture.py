"""One frame as presentation values: an overview of all of it, and any part as fine as needed.

Breast, side and crop are found on the overview, so that nothing large is computed for pixels that
are then cut off. A JPEG 2000 file holds an overview of its own, a low resolution, and it serves
however the rest is decoded: ``fast`` and ``exact`` therefore give the same box.
"""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.device import DeviceArray
from mammoprep.core.errors import RecordError
from mammoprep.core.grey import quantise
from mammoprep.core.stages import stage
from mammoprep.decode import _levels, partial
from mammoprep.decode._facts import Facts
from mammoprep.decode._padding import Mask, find_padding, in_range, judge, touching_border
from mammoprep.decode._plausible import has_two_levels
from mammoprep.decode.codecs import LOSSY, Decoded, Frame, decode, oddities, settle
from mammoprep.decode.grayscale import Rendering, Voi, count_values, render, take
from mammoprep.image import Samples

SHOWS = 0.05
MOSTLY = 0.8  # of an overview: of a mask it mixes no more than the edges

PixelBox = tuple[int, int, int, int]


class Picture:
    """A frame that decodes what is asked for and keeps it.

    Attributes:
        shape: (rows, columns) of the stored image.
        precision: Bits of a sample by the codestream, or None.
        levels: How often the frame can be halved by decoding less of it; 0 where it has to be
            decoded as a whole.
        decoder: Name and version of the decoder.
        warnings: Codes of what was odd; complete after ``overview``.
        notes: What was decided about padding; complete after ``overview``.
    """

    def __init__(
        self,
        frame: Frame,
        facts: Facts,
        voi: Voi,
        *,
        fast: bool,
        words: DeviceArray | None = None,
    ) -> None:
        """Decode everything, unless parts can be decoded or everything has been.

        Args:
            frame: What to decode.
            facts: What the header says.
            voi: The wanted grey levels.
            fast: Leave wavelet levels undecoded that are not needed.
            words: The frame's stored values, where a device has decoded them.

        Raises:
            RecordError: the frame cannot be decoded or its window cannot be used.
        """
        self._frame, self._facts, self._voi = frame, facts, voi
        self.precision = frame.precision
        self.shape = (frame.pixels.rows or 0, frame.pixels.columns or 0)
        self.warnings: tuple[str, ...] = ()
        self.notes: dict[str, Any] = {}
        self._renderings: dict[np.dtype[Any], Rendering] = {}
        self._counts: NDArray[np.int64] | None = None
        self._two_mostly = False
        self._decoded: Decoded | None = None
        self._words = None if voi.mode == "percentile" else words
        found, level = partial.levels(frame), _levels.overview_level(self.shape)
        self.levels = found if 0 < level <= found else 0
        self.decoder = partial.name()
        if self._words is not None:
            self.decoder = "a device"
        if self._words is not None and self.levels == 0:
            self.warnings += oddities(frame)
        elif self.levels == 0 or voi.mode == "percentile":
            self._decode_all()
        self._coarsest = self.levels if fast and self._may_be_reduced() else 0

    def rendering(self) -> Rendering:
        """Return the table from stored values to presentation values, and how it came about."""
        return self._rendering(self._dtype())

    def quantised(self, bits: int) -> NDArray[Any]:
        """Return the whole picture from the float64 table, rounded once, uint8 or uint16."""
        stored = self._decode_all().stored
        picture = take(quantise(self._rendering(stored.dtype).table, bits), stored)
        padding = find_padding(stored, self._facts.grey.padding)
        if padding is not None:
            np.copyto(picture, 0, where=padding)
        return picture

    def whole(self) -> Decoded:
        """Return all stored values, decoded the way that the details are: in parts if possible."""
        high, wide = self.shape
        halves = [self._part(0, rows, (0, wide)) for rows in ((0, high // 2), (high // 2, high))]
        upper, lower = halves
        if upper is None or lower is None:
            return self._decode_all()
        return replace(upper, stored=np.concatenate([upper.stored, lower.stored]))

    def overview(self) -> Samples:
        """Return the whole picture with 320 to 639 samples along its longer side, or all of it."""
        level = _levels.overview_level(self.shape)
        stored, origin = self._small(level)
        self._judge(stored)
        self._two_mostly = _mostly_two(stored)
        samples = self._samples(stored, 1 << level, origin)
        if samples.padding is None or level == 0:
            return samples
        # What was mixed of padding and picture along their border is neither.
        padding = _widened(samples.padding)
        np.copyto(samples.on_host(), 0.0, where=padding)
        return replace(samples, padding=padding)

    def has_two_levels(self) -> bool:
        """Return whether the picture holds no more than two values; call it after ``overview``.

        Raises:
            RecordError: the frame cannot be decoded.
        """
        return self._two_mostly and has_two_levels(self.whole().stored)

    def detail(self, box: PixelBox, size: tuple[int, int]) -> Samples:
        """Return the fewest samples of ``box`` that still cover ``size``; see ``image.Detail``."""
        x0, y0, x1, y1 = box
        most = min((y1 - y0) // max(size[0], 1), (x1 - x0) // max(size[1], 1))
        level = min(self._coarsest, max(0, most.bit_length() - 1))
        side = partial.size_at(self.shape, level)
        rows = _levels.covering((y0, y1), level, side[0])
        columns = _levels.covering((x0, x1), level, side[1])
        if (found := self._part(level, rows, columns)) is None:
            if samples := self._on_device(box):
                return samples
            stored = self._decode_all().stored[y0:y1, x0:x1]
            return self._samples(stored, 1, (float(y0), float(x0)))
        origin = _levels.origin((rows[0], columns[0]), level)
        samples = self._samples(found.stored, 1 << level, origin, self._rounding(level))
        return replace(samples, warnings=found.warnings)

    def _small(self, level: int) -> tuple[NDArray[Any], tuple[float, float]]:
        """Return the stored values at a level: the file's own where it has it, or block means."""
        side = partial.size_at(self.shape, level)
        if found := self._part(level, (0, side[0]), (0, side[1])):
            return found.stored, _levels.origin((0, 0), level)
        if self._words is not None and level > 0:
            with stage("gray"):
                return self._words.block_means(1 << level), (0.0, 0.0)
        stored = self._decode_all().stored
        if level == 0:
            return stored, (0.0, 0.0)
        with stage("gray"):
            return _levels.block_means(stored, 1 << level), (0.0, 0.0)

    def _on_device(self, box: PixelBox) -> Samples | None:
        """Return a part as it lies on the device; None where padding has to be traced in it."""
        if self._words is None:
            return None
        x0, y0, x1, y1 = box
        words, limits = self._words[y0:y1, x0:x1], self._facts.grey.padding
        with stage("gray"):
            if limits is not None and words.holds(*limits):
                return None
            pixels = words.looked_up(self._table(words.dtype))
        odd = oddities(self._frame) if self.levels else ()
        return Samples(pixels, None, 1, (float(y0), float(x0)), odd)

    def _part(self, level: int, rows: tuple[int, int], columns: tuple[int, int]) -> Decoded | None:
        """Return some samples of a level; None where everything has to be decoded for them."""
        known = self._decoded is not None or self._words is not None
        if self.levels == 0 or (level == 0 and known):
            return None
        try:
            with stage("decode"):
                return partial.decode_part(self._frame, level, rows, columns)
        except RecordError:
            # Another decoder may still read the whole, and only the whole tells values beyond Bits
            # Stored from the wavelet's overshoot: the corners of white print reach 62 % and more.
            self.levels = self._coarsest = 0
        self._words = None
        return None

    def _may_be_reduced(self) -> bool:
        """Return whether averaging before the grey values shows what averaging after them does.

        Padding that is bright until it is blanked would bleed into its neighbours, and percentiles
        are those of all pixels.
        """
        if self._voi.mode == "percentile":
            return False
        if self._facts.grey.padding is None:
            return True
        table = self._rendering(self._dtype()).table
        patterns = np.arange(table.size, dtype=self._dtype())
        shown = table[in_range(patterns, self._facts.grey.padding)]
        return shown.size == 0 or float(shown.max()) <= SHOWS

    def _dtype(self) -> np.dtype[Any]:
        if self._words is not None:
            return self._words.dtype
        if self._decoded is not None:
            return self._decoded.stored.dtype
        return np.dtype(np.uint8 if self._frame.precision == 8 else np.uint16)

    def _decode_all(self) -> Decoded:
        if self._decoded is not None:
            return self._decoded
        with stage("decode"):
            if self._words is not None:
                self._decoded = settle(self._words.host(), self.decoder, self._frame)
                return self._decoded
            decoded = self._decoded = decode(self._frame)
        self.decoder = decoded.decoder
        self.warnings += decoded.warnings
        if self._voi.mode == "percentile":
            padding = find_padding(decoded.stored, self._facts.grey.padding)
            self._counts = count_values(decoded.stored, padding)
        return decoded

    def _rendering(self, dtype: np.dtype[Any]) -> Rendering:
        if dtype not in self._renderings:
            grey, pixels = self._facts.grey, self._frame.pixels
            self._renderings[dtype] = render(grey, pixels, dtype, self._voi, self._counts)
        return self._renderings[dtype]

    def _rounding(self, level: int) -> float:
        """Return by how much a level's samples lie above the mean of what they stand for.

        The reversible wavelet's floors and halves (ISO/IEC 15444-1 F.4.8.1) add, for texture, 1/4
        in each direction and level.
        """
        return 0.0 if self._frame.pixels.transfer_syntax in LOSSY else level / 2

    def _table(self, dtype: np.dtype[Any], excess: float = 0.0) -> NDArray[np.float32]:
        table = self._rendering(dtype).table
        if excess:
            values = np.arange(table.size)
            table = np.interp(values - excess, values, table)
        return table.astype(np.float32)

    def _samples(
        self, stored: NDArray[Any], step: int, origin: tuple[float, float], excess: float = 0.0
    ) -> Samples:
        with stage("gray"):
            pixels = take(self._table(stored.dtype, excess), stored)
            padding = find_padding(stored, self._facts.grey.padding)
            if padding is not None:
                np.copyto(pixels, 0.0, where=padding)
            return Samples(pixels, padding, step, origin)

    def _judge(self, stored: NDArray[Any]) -> None:
        limits = self._facts.grey.padding
        if limits is not None:
            candidates = in_range(stored, limits)
            odd, self.notes = judge(candidates, touching_border(candidates))
            self.warnings += odd


def _mostly_two(stored: NDArray[Any]) -> bool:
    """Return whether two values are most of an overview."""
    counts = count_values(stored, None)
    return int(np.partition(counts, -2)[-2:].sum()) >= MOSTLY * stored.size


def _widened(mask: Mask) -> Mask:
    return np.asarray(cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)) > 0)
