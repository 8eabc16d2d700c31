"""Which values of a picture are black and white, and whether the picture uses them.

A picture tells no window, only how many bits a value has room for; many writers keep 10 to 14 bits
in files of 16. Guessing from the pixels would stretch each picture by what happens to be in it, so
nothing is guessed: what table, option or file state holds, and a picture that leaves most of that
unused says so.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.decode._luts import linear
from mammoprep.decode.grayscale import Voi

Range = tuple[float, float]
PERCENTILES = (0.01, 0.99)
# A picture of more than 8 bits is in 16 because 8 do not hold it: one that stays in the lower half
# needs 15 bits or fewer, and nobody said how many. 8 bits are the usual home of any picture, so
# that only one that is nearly black is odd: of 714 real pictures none has its 99 % quantile below
# 44 % of the range, and what stays below a quarter looks black whatever its cause.
LEAST_OF_SIXTEEN, DARK = 0.5, 0.25
DARK_QUANTILE = 0.99  # a label or a few wild pixels must not hide it
LEAST_DEPTH, SIXTEEN = 8, 16
LEAST_SHARE = 1 / (1 << 16)


@dataclass(frozen=True)
class Stored:
    """A picture as its file holds it.

    Attributes:
        values: uint8 or uint16, (rows, columns) or (rows, columns, 3).
        depth: How many bits a value has room for.
        highest: The largest value that the file says there can be, or None where it does not say.
        why: What said so, or in what all that there is room for is white.
        inverted: 0 is white.
        warnings: Codes of what was odd.
    """

    values: NDArray[Any]
    depth: int
    highest: int | None
    why: str
    inverted: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def top(self) -> int:
        """The largest value that there can be."""
        return (1 << self.depth) - 1 if self.highest is None else self.highest

    @property
    def upright(self) -> NDArray[Any]:
        """The values, taken from the largest one where 0 is white."""
        return self.values.dtype.type(self.top) - self.values if self.inverted else self.values


@dataclass(frozen=True)
class Scale:
    """Which values are black and white.

    Attributes:
        low: The value shown black, or white in an inverted picture.
        high: The value shown white.
        voi: ``none`` (all that the file can hold), ``range`` or ``percentile``.
        why: Where that comes from.
        explicit: Whether a person said so, in a table or by an option.
    """

    low: float
    high: float
    voi: str
    why: str
    explicit: bool = False


def choose(stored: Stored, stated: Range | None, asked: Range | str) -> Scale:
    """Return the range of a picture: what its own row says, else the option, else the file.

    Args:
        stored: The picture.
        stated: (lowest, highest) of its row in the dataset's table, or None.
        asked: The option for all pictures: a range, ``auto`` or ``percentile``.
    """
    if stated is not None:
        return Scale(*stated, "range", "the table's row", explicit=True)
    if asked == "percentile":
        return _percentile(stored)
    if not isinstance(asked, str):
        return Scale(*asked, "range", "--range", explicit=True)
    return _own(stored)


def render(stored: Stored, scale: Scale, window: Voi) -> NDArray[np.float32]:
    """Return presentation values, float32 in [0, 1], 0 is black.

    Args:
        stored: The picture.
        scale: Its range.
        window: ``auto`` or ``full`` for the range, or a LINEAR window in the file's values.

    Raises:
        RecordError: ``window_not_applicable``.
    """
    check_window(scale, window)
    if window.mode == "window":
        values = np.arange(1 << (8 * stored.values.itemsize), dtype=np.float64)
        table = np.clip(linear(values, *window.window), 0.0, 1.0).astype(np.float32)
        pixels: NDArray[np.float32] = table[stored.values]
    else:
        low, width = np.float32(scale.low), np.float32(scale.high - scale.low)
        pixels = stored.values.astype(np.float32)
        if low:
            pixels -= low
        pixels /= width
        np.clip(pixels, 0.0, 1.0, out=pixels)
    return np.subtract(np.float32(1), pixels, dtype=np.float32) if stored.inverted else pixels


def check_window(scale: Scale, window: Voi) -> None:
    """Check that a window can be applied to a picture of this range.

    Raises:
        RecordError: ``window_not_applicable``.
    """
    if window.mode in ("auto", "full"):
        return
    if window.mode == "percentile":
        if scale.voi == "percentile":
            return
        found = "--window percentile is for DICOM; pictures are stretched by --range percentile"
        raise RecordError("window_not_applicable", found)
    if window.mode != "window" or not scale.explicit:
        found = "a window in values needs the range of the values: --range HIGH or a range column"
        raise RecordError("window_not_applicable", found)


def beyond(stored: Stored, scale: Scale) -> bool:
    """Return whether a value lies outside of a range that was stated."""
    if scale.voi == "percentile":
        return False
    return bool(stored.values.max() > scale.high or stored.values.min() < scale.low)


def used_bits(stored: Stored, scale: Scale) -> int | None:
    """Return how many bits a picture needs that leaves most of its range unused; None if it fits.

    Args:
        stored: The picture.
        scale: Its range.
    """
    width = scale.high - scale.low
    if scale.voi == "percentile" or stored.depth < LEAST_DEPTH:
        return None
    most = float(stored.values.max())
    whole = stored.depth == SIXTEEN and stored.highest is None and scale.voi == "none"
    if whole and most < LEAST_OF_SIXTEEN * (width + 1):
        return max(1, int(most).bit_length())
    bright = float(_quantiles(stored.values, (DARK_QUANTILE,))[0])
    if bright - scale.low >= DARK * (width + 1):
        return None
    return max(1, int(most if most < LEAST_OF_SIXTEEN * width else bright).bit_length())


def used_share(scale: Scale, bits: int | None) -> float:
    """Return the share of its range that a picture of so many used bits fills, at most 1."""
    if bits is None:
        return 1.0
    share = ((1 << bits) - 1 - scale.low) / (scale.high - scale.low)
    return min(1.0, max(share, LEAST_SHARE))


def is_scaled(values: NDArray[Any], bits: int, depth: int) -> bool:
    """Return whether values of fewer bits were spread over all of a deeper file's, as PNG demands.

    sBIT says how many bits matter (PNG 11.3.2.7), and that values were scaled up to the depth; but
    writers exist that store them as they are. Values that the fewer bits do not hold are scaled;
    smaller ones are when every one of them is what a scaled value can be.

    Args:
        values: uint8 or uint16.
        bits: By sBIT.
        depth: Of the file, more than ``bits``.
    """
    if int(values.max()) >> bits:
        return True
    found = np.flatnonzero(np.bincount(values.ravel(), minlength=1 << bits))
    shift, top, most = depth - bits, (1 << depth) - 1, (1 << bits) - 1
    short = np.arange(1 << bits)
    ways = (
        short << shift,
        (short << shift) | (short >> max(0, bits - shift)),
        (2 * short * top + most) // (2 * most),
    )
    return any(np.isin(found, way).all() for way in ways)


def _own(stored: Stored) -> Scale:
    """Return what the file says, else all that it can hold."""
    full = (1 << stored.depth) - 1
    if stored.highest is None or stored.highest == full:
        return Scale(0.0, float(full), "none", stored.why)
    return Scale(0.0, float(stored.highest), "range", stored.why)


def _percentile(stored: Stored) -> Scale:
    low, high = (float(value) for value in _quantiles(stored.values, PERCENTILES))
    if low == high:
        return _own(stored)
    return Scale(low, high, "percentile", "asked for: 1 to 99 % of the pixels")


def _quantiles(values: NDArray[Any], shares: tuple[float, ...]) -> list[int]:
    """Return the smallest values that so much of all values do not exceed."""
    reached = np.cumsum(np.bincount(values.ravel()))
    return [int(np.searchsorted(reached, share * reached[-1])) for share in shares]
