"""Look-up tables of a header and the VOI functions (PS3.3 C.11.1.1, C.11.2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mammoprep.decode._values import Element, element, integers

Values = NDArray[np.float64]
_SIGN = 1 << 15
SIGN_DOUBTFUL = "lut_first_sign"


@dataclass(frozen=True)
class LutItem:
    """One item of a Modality or VOI LUT Sequence.

    Attributes:
        first: First mapped value as a 16-bit pattern.
        first_signed: Whether the header says that the pattern has a sign; None where its encoding
            states no types.
        depth: Declared bits of an entry.
        entries: The table's values, as many as the file has, float64.
    """

    first: int
    first_signed: bool | None
    depth: int
    entries: Values

    @property
    def bits(self) -> int:
        """Bits that an entry really needs: the declared depth, or more when an entry exceeds it."""
        return max(self.depth, self.used_bits)

    @property
    def used_bits(self) -> int:
        """Bits of the largest entry."""
        return int(self.entries.max()).bit_length()

    def first_in(self, low: float, high: float) -> tuple[int, tuple[str, ...]]:
        """Return the first mapped value with its sign, and a warning where that is doubtful.

        The pattern is a signed number where the input can be negative (PS3.3 C.11.2.1.1), whatever
        type a writer gave it; 16 bits hold no input that reaches from below 0 to above 32767, so
        there the type decides. A table that none of the input would reach is read the other way
        when the type allows it: otherwise the picture would be blank.

        Args:
            low: Least value of the input.
            high: Largest value of the input.
        """
        if self.first < _SIGN:
            return self.first, ()
        signed = low < 0 and (high < _SIGN or self.first_signed is not False)
        reached = {sign: self._reached(sign, low, high) for sign in (True, False)}
        if not reached[signed] and reached[not signed] and self.first_signed in (None, not signed):
            return self._first(not signed), (SIGN_DOUBTFUL,)
        contradicted = self.first_signed not in (None, signed)
        open_ = low < 0 and high >= _SIGN and all(reached.values())
        return self._first(signed), ((SIGN_DOUBTFUL,) if contradicted or open_ else ())

    def _first(self, signed: bool) -> int:
        return self.first - 2 * _SIGN if signed else self.first

    def _reached(self, signed: bool, low: float, high: float) -> bool:
        first = self._first(signed)
        return first <= high and first + self.entries.size > low

    def lookup(self, values: Values, first: int) -> Values:
        """Return the entry of each value, clamped to the table's ends; values are rounded half up.

        Args:
            values: Input of the table, any shape.
            first: First mapped value, from ``first_in``.
        """
        places = np.clip(np.floor(values + 0.5) - first, 0, self.entries.size - 1)
        found: Values = self.entries[places.astype(np.int64)]
        return found


def read_items(
    sequence: Sequence[Dataset],
) -> tuple[tuple[LutItem | None, ...], tuple[str, ...]]:
    """Return LUT items and warnings; an item without descriptor or data is None."""
    read = [_read_item(item) for item in sequence]
    odd = tuple(code for _, codes in read for code in codes)
    return tuple(lut for lut, _ in read), odd


def _read_item(item: Dataset) -> tuple[LutItem | None, tuple[str, ...]]:
    descriptor = integers(item, 0x00283002)
    data = element(item, 0x00283006)
    if len(descriptor) < 3 or data is None:
        return None, ()
    stated = element(item, 0x00283002)
    count, first, depth = (word & 0xFFFF for word in descriptor[:3])
    count = count or 1 << 16
    entries = _entries(data, count, depth)
    short = ("lut_short",) if entries.size < count else ()
    if entries.size == 0 or not entries.any():
        return None, ("lut_invalid",)
    types = {"SS": True, "US": False}
    first_signed = types.get(stated.vr or "") if stated is not None else None
    lut = LutItem(first, first_signed, depth if depth <= 16 else 16, entries)
    return lut, (*short, *_depth_codes(lut))


def _depth_codes(lut: LutItem) -> tuple[str, ...]:
    if lut.used_bits > lut.depth:
        return ("lut_depth_understated",)
    return ("lut_depth_overstated",) if lut.used_bits < lut.depth else ()


def _entries(data: Element, count: int, depth: int) -> Values:
    size = len(data.data)
    # Real files pad 8-bit entries to words, so that the length tells, not the depth.
    packed = size < 2 * count and depth <= 8
    raw = data.data
    if packed and not data.little and data.vr == "OW":
        raw = np.frombuffer(raw, ">u2", count=size // 2).astype("<u2").tobytes()
    kind = "u1" if packed else "<u2" if data.little else ">u2"
    words = np.frombuffer(raw, kind, count=len(raw) // np.dtype(kind).itemsize)
    return words[:count].astype(np.float64)


def linear(values: Values, center: float, width: float) -> Values:
    """Return PS3.3 C.11.2.1.2.1 LINEAR of ``values`` on [0, 1]; ``width`` is at least 1."""
    low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    # At width 1 no value is inside: the divisor only has to be something else than 0.
    inside = (values - (center - 0.5)) / ((width - 1) or 1.0) + 0.5
    return np.where(values <= low, 0.0, np.where(values > high, 1.0, inside))


def linear_exact(values: Values, center: float, width: float) -> Values:
    """Return PS3.3 C.11.2.1.3.2 LINEAR_EXACT of ``values`` on [0, 1]; ``width`` is above 0."""
    low, high = center - width / 2, center + width / 2
    inside = (values - center) / width + 0.5
    return np.where(values <= low, 0.0, np.where(values > high, 1.0, inside))


def sigmoid(values: Values, center: float, width: float) -> Values:
    """Return PS3.3 C.11.2.1.3.1 SIGMOID of ``values`` on (0, 1); ``width`` is above 0."""
    exponent = np.clip(-4.0 * (values - center) / width, -60.0, 60.0)
    return 1.0 / (1.0 + np.exp(exponent))


FUNCTIONS = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}
