"""Draws headers from the grid of combinations that mammograms, and files near them, come in."""

import random
from itertools import combinations, product
from typing import Any

import numpy as np
from dicoms import dicom, lut
from reference_grey import Case

FORMATS = ((8, False), (10, False), (12, False), (14, False), (16, False), (12, True), (16, True))
VOIS = ("none", "window", "windows", "lut", "lut+window")
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID", "", "SIGMOID ", " linear")
WIDTHS = ("one", "two", "normal", "wide", "zero", "negative")
SLOPES = (None, 1.0, 0.5, -1.0)
PADDINGS = ("none", "value", "range")
AXES: dict[str, tuple[Any, ...]] = {
    "photometric": ("MONOCHROME1", "MONOCHROME2"),
    "format": FORMATS,
    "voi": VOIS,
    "function": FUNCTIONS,
    "width": WIDTHS,
    "slope": SLOPES,
    "padding": PADDINGS,
}
PAIRS = {
    (one, first, other, second)
    for one, other in combinations(AXES, 2)
    for first, second in product(AXES[one], AXES[other])
}


def draw_cell(draw: random.Random) -> dict[str, Any]:
    """Return one value of each axis; the width is the first window's."""
    return {name: draw.choice(values) for name, values in AXES.items()}


def pairs_of(seed: int) -> set[tuple[str, Any, str, Any]]:
    """Return the pairs of axis values that a case stands for."""
    cell = draw_cell(random.Random(seed))
    return {(one, cell[one], other, cell[other]) for one, other in combinations(AXES, 2)}


def _width(kind: str, span: float, draw: random.Random) -> float:
    normal = round(span * draw.uniform(0.1, 0.6), 2) + 2
    return {
        "one": 1.0,
        "two": 2.0,
        "normal": normal,
        "wide": round(span * 3.7, 1),
        "zero": 0.0,
    }.get(kind, -normal)


def _lut(low: float, high: float, draw: random.Random) -> tuple[int, int, list[int]]:
    depth = draw.choice((8, 10, 12, 16))
    count = draw.choice((200, 1000, 4096))
    first = round(draw.uniform(max(low, -32768), max(low, min(high - count, 32000))))
    steps = np.linspace(0, 1, count) ** draw.choice((0.5, 1.0, 2.0))
    entries = np.rint(steps * (2**depth - 1)).astype(int).tolist()
    return first, depth, entries if draw.random() < 0.8 else entries[::-1]


def draw_case(seed: int, **more: Any) -> tuple[Case, np.ndarray, bytes]:
    """Return a case, its stored values (64, 64), and the file with ``more`` attributes."""
    draw = random.Random(seed)
    cell = draw_cell(draw)
    bits, signed = cell["format"]
    low = -(1 << (bits - 1)) if signed else 0
    case = Case(bits, signed, mono1=cell["photometric"] == "MONOCHROME1", slope=cell["slope"])
    case.intercept = None if case.slope is None else draw.choice((0.0, -100.0, 10.5))
    ends = [(case.slope or 1.0) * v + (case.intercept or 0.0) for v in (low, low + (1 << bits) - 1)]
    case.function = cell["function"].strip().upper() or "LINEAR"
    if "window" in cell["voi"]:
        span = max(ends) - min(ends)
        kinds = [cell["width"], *(draw.choice(WIDTHS) for _ in range(2))]
        case.windows = [
            (round(draw.uniform(min(ends), max(ends)), 2), _width(kind, span, draw))
            for kind in (kinds if cell["voi"] == "windows" else kinds[:1])
        ]
    if "lut" in cell["voi"]:
        case.luts = [_lut(min(ends), max(ends), draw)]
    stored = _pixels(case, low, cell["padding"], draw)
    return case, stored, dicom(stored, bits, **_attributes(case, cell["function"]), **more)


def _pixels(case: Case, low: int, padding: str, draw: random.Random) -> np.ndarray:
    count = 1 << case.bits
    values = np.linspace(low, low + count - 1, 500).round().astype(int)
    noise = np.random.default_rng(draw.randrange(1 << 30))
    stored = noise.choice(values, (64, 64))
    if padding != "none":
        value = draw.choice((low, low + count - 1, low + count // 3))
        case.padding = (value, value)
        if padding == "range":
            other = value + (count // 20 if value < low + count // 2 else -(count // 20))
            case.padding = (min(value, other), max(value, other))
        stored[:, 40:] = value
        stored[20:30, 10:20] = value
    return stored.astype(f"{'i' if case.signed else 'u'}{1 if case.bits == 8 else 2}")


def _attributes(case: Case, function: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "PhotometricInterpretation": "MONOCHROME1" if case.mono1 else "MONOCHROME2"
    }
    if case.slope is not None:
        found |= {"RescaleSlope": case.slope, "RescaleIntercept": case.intercept}
    if case.windows:
        centers, widths = zip(*case.windows, strict=True)
        found |= {"WindowCenter": list(centers), "WindowWidth": list(widths)}
        found["VOILUTFunction"] = function
    if case.luts:
        first, depth, entries = case.luts[0]
        found["VOILUTSequence"] = [lut(entries, first, depth, vr="SS" if first < 0 else "US")]
    if case.padding is not None:
        # On a signed image the two attributes are signed; pydicom takes the VR from the sign.
        found["PixelPaddingValue"] = case.padding[0]
        if case.padding[0] != case.padding[1]:
            found["PixelPaddingRangeLimit"] = case.padding[1]
    return found
