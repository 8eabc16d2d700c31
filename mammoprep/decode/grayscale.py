"""Stored values -> presentation values, as one table over every value that can be stored.

The order is fixed (PS3.3 C.8.11.3.1.2): modality transform, one VOI transform, presentation.
Computing each of at most 65,536 values once in float64 is exact, and cheaper than any arithmetic on
whole pictures.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.decode._facts import Grey, PixelFormat
from mammoprep.decode._luts import FUNCTIONS, LutItem, Values, linear

_BLOCK_ROWS = 64
LEAST, MOST = 1e-6, 1e9  # slopes, widths and centres beyond are no numbers of an image
_PERCENTILES = (0.01, 0.99)
_INDEXED = re.compile(r"(lut|window):(\d{1,3})")


@dataclass(frozen=True)
class Voi:
    """The VOI transform that was asked for.

    Attributes:
        mode: ``auto``, ``full``, ``percentile``, ``window``, ``lut:<i>`` or ``window:<i>``.
        index: Which of the file's tables or windows, for the last two.
        window: (centre, width), for ``window``.
    """

    mode: str
    index: int = 0
    window: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Rendering:
    """A table from stored values to presentation values, and how it came about.

    Attributes:
        table: float64 in [0, 1]; the entry of a stored value stands at its bit pattern.
        voi: ``lut:<i>``, ``window:<i>``, ``none``, ``range``, ``percentile`` or ``fixed``.
        why: Why this VOI transform, in words.
        function: VOI LUT Function when a window was used.
        window: (centre, width) in modality units when a window was used.
        warnings: Codes of what was odd.
        notes: Further decisions, for ``inspect``.
    """

    table: Values
    voi: str
    why: str
    function: str | None
    window: tuple[float, float] | None
    warnings: tuple[str, ...]
    notes: dict[str, Any]


@dataclass(frozen=True)
class _Modality:
    """Modality values of all bit patterns, and the range that stored values can reach."""

    values: Values
    low: float
    high: float
    warnings: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class _Choice:
    """A VOI transform: its name, its values in [0, 1], and why it was taken."""

    voi: str
    why: str
    values: Values
    function: str | None = None
    window: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()


def parse_voi(text: str) -> Voi:
    """Return the transform that an option names.

    Args:
        text: ``auto``, ``full``, ``percentile``, ``C,W``, ``window:<i>`` or ``lut:<i>``.

    Raises:
        ConfigError: none of these, or a width below 1.
    """
    if text in ("auto", "full", "percentile"):
        return Voi(text)
    if indexed := _INDEXED.fullmatch(text):
        return Voi(indexed[1] + ":", index=int(indexed[2]))
    try:
        center, width = (float(part) for part in text.split(","))
    except ValueError:
        center, width = 0.0, 0.0
    if not (np.isfinite(center) and np.isfinite(width) and width >= 1):
        raise ConfigError(
            f"window is auto, full, percentile or CENTER,WIDTH with WIDTH >= 1, got {text!r}."
        )
    return Voi("window", window=(center, width))


def render(
    grey: Grey, pixels: PixelFormat, dtype: np.dtype[Any], voi: Voi, counts: NDArray[Any] | None
) -> Rendering:
    """Return the table for an image.

    Args:
        grey: The header's transforms.
        pixels: The header's pixel format.
        dtype: Type of the stored values, 8 or 16 bits.
        voi: Which VOI transform to use.
        counts: Pixels of each bit pattern (``count_values``), needed for ``percentile`` only.

    Raises:
        RecordError: ``voi_invalid``: a window is needed and the VOI LUT Function is unknown.
    """
    modality = _modality(grey, pixels, dtype)
    choice = _choose(grey, modality, voi, counts)
    inverted = pixels.photometric == "MONOCHROME1"
    table = np.clip(1.0 - choice.values if inverted else choice.values, 0.0, 1.0)
    conflict = (grey.shape, inverted) in (("IDENTITY", True), ("INVERSE", False))
    return Rendering(
        table=table,
        voi=choice.voi,
        why=choice.why,
        function=choice.function,
        window=choice.window,
        warnings=(
            *modality.warnings,
            *choice.warnings,
            *(("presentation_conflict",) if conflict else ()),
        ),
        notes={
            "modality": modality.name,
            "modality_range": [modality.low, modality.high],
            "polarity": f"{'inverted once' if inverted else 'kept'}: {pixels.photometric}",
        },
    )


def count_values(stored: NDArray[Any], padding: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Return how many pixels hold each bit pattern, padding left out."""
    size = 1 << (8 * stored.dtype.itemsize)
    patterns = stored.view(f"u{stored.dtype.itemsize}")
    counts = np.zeros(size, np.int64)
    for row in range(0, stored.shape[0], _BLOCK_ROWS):
        block = patterns[row : row + _BLOCK_ROWS]
        kept = block.ravel() if padding is None else block[~padding[row : row + _BLOCK_ROWS]]
        counts += np.bincount(kept, minlength=size)
    return counts


def take(table: NDArray[Any], stored: NDArray[Any]) -> NDArray[Any]:
    """Return ``table[stored]`` for a table over bit patterns, without a full-size index."""
    patterns = stored.view(f"u{stored.dtype.itemsize}")
    out: NDArray[Any] = cv2.LUT(patterns, table.reshape(1, -1))  # 5 x numpy's take, same values
    return out


def _patterns(dtype: np.dtype[Any]) -> Values:
    patterns = np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    return patterns.view(dtype).astype(np.float64)


def _modality(grey: Grey, pixels: PixelFormat, dtype: np.dtype[Any]) -> _Modality:
    stored = _patterns(dtype)
    signed = ("signed_pixels",) if pixels.signed else ()
    bits = pixels.bits_stored or 0
    least = -(1 << (bits - 1)) if pixels.signed else 0
    low, high = float(least), float(least + (1 << bits) - 1)
    if grey.modality_lut is not None:
        lut = grey.modality_lut
        identity = (grey.slope, grey.intercept) in ((1.0, 0.0), (None, None))
        first, doubt = lut.first_in(low, high)
        odd = (*signed, "modality_lut", *doubt, *(() if identity else ("modality_conflict",)))
        return _Modality(lut.lookup(stored, first), 0.0, float((1 << lut.bits) - 1), odd, "lut")
    slope = 1.0 if grey.slope is None else grey.slope
    intercept = 0.0 if grey.intercept is None else grey.intercept
    usable = LEAST <= abs(slope) <= MOST and abs(intercept) <= MOST
    if not usable or (slope, intercept) == (1.0, 0.0):
        odd = () if usable else ("rescale_invalid",)
        return _Modality(stored, low, high, (*signed, *odd), "identity")
    low, high = sorted((slope * low + intercept, slope * high + intercept))
    values = slope * stored + intercept
    return _Modality(values, low, high, (*signed, "modality_not_identity"), "rescale")


def _choose(grey: Grey, modality: _Modality, voi: Voi, counts: NDArray[Any] | None) -> _Choice:
    if voi.mode == "full":
        return _Choice("range", "asked for: the full stored range", _identity(modality))
    if voi.mode == "window":
        values = linear(modality.values, *voi.window)
        return _Choice("fixed", "asked for", values, "LINEAR", voi.window)
    if voi.mode == "percentile":
        return _percentile(modality, counts)
    if voi.mode == "auto":
        return _automatic(grey, modality)
    return _indexed(grey, modality, voi)


def _identity(modality: _Modality) -> Values:
    return (modality.values - modality.low) / (modality.high - modality.low)


def _automatic(grey: Grey, modality: _Modality) -> _Choice:
    if grey.voi_luts and grey.voi_luts[0] is not None:
        return _lut(grey.voi_luts[0], 0, "first item of the VOI LUT Sequence", modality)
    pairs = list(zip(grey.centers, grey.widths, strict=False))
    if not pairs:
        return _Choice(
            "none", "the file has no VOI transform", _identity(modality), warnings=("voi_missing",)
        )
    function = _function(grey)
    bad: tuple[str, ...] = ()
    for index, pair in enumerate(pairs):
        if window := _valid(pair, function):
            return _window(modality, index, window, function, bad)
        bad = ("window_invalid",)
    return _Choice("range", "no window of the file is valid", _identity(modality), warnings=bad)


def _indexed(grey: Grey, modality: _Modality, voi: Voi) -> _Choice:
    missing = _Choice(
        "range",
        "the file has no such VOI transform",
        _identity(modality),
        warnings=("voi_missing",),
    )
    if voi.mode == "lut:":
        luts = dict(enumerate(grey.voi_luts))
        lut = luts.get(voi.index)
        return missing if lut is None else _lut(lut, voi.index, "asked for", modality)
    pairs = dict(enumerate(zip(grey.centers, grey.widths, strict=False)))
    function = _function(grey)
    window = _valid(pairs.get(voi.index, (None, None)), function)
    if window is None:
        return missing
    return replace(_window(modality, voi.index, window, function, ()), why="asked for")


def _function(grey: Grey) -> str:
    if grey.function is None:
        raise RecordError("voi_invalid", "VOI LUT Function (0028,1056) is none of the three known")
    return grey.function


def _valid(pair: tuple[float | None, float | None], function: str) -> tuple[float, float] | None:
    center, width = pair
    if center is None or width is None or not (LEAST <= width <= MOST and abs(center) <= MOST):
        return None
    if function == "LINEAR" and width < 1:
        return None
    return center, width


def _window(
    modality: _Modality,
    index: int,
    window: tuple[float, float],
    function: str,
    warnings: tuple[str, ...],
) -> _Choice:
    values = FUNCTIONS[function](modality.values, *window)
    why = "first window of the file" if index == 0 else "first valid window of the file"
    return _Choice(f"window:{index}", why, values, function, window, warnings)


def _lut(lut: LutItem, index: int, why: str, modality: _Modality) -> _Choice:
    first, doubt = lut.first_in(modality.low, modality.high)
    entries = lut.lookup(modality.values, first)
    # Devices that declare the storage size as depth leave the upper part of the range unused.
    top = float(lut.entries.max()) if lut.used_bits < lut.depth else float((1 << lut.bits) - 1)
    return _Choice(f"lut:{index}", why, entries / top, warnings=doubt)


def _percentile(modality: _Modality, counts: NDArray[Any] | None) -> _Choice:
    if counts is None or not counts.any():
        return _Choice("range", "no pixel to take percentiles of", _identity(modality))
    order = np.argsort(modality.values, kind="stable")
    reached = np.cumsum(counts[order]) / counts.sum()
    low, high = (float(modality.values[order[np.searchsorted(reached, p)]]) for p in _PERCENTILES)
    if low == high:
        return _Choice("range", "the percentiles are equal", _identity(modality))
    values = (modality.values - low) / (high - low)
    window = ((low + high) / 2, high - low)
    return _Choice("percentile", "asked for: 1 to 99 % of the pixels", values, None, window)
