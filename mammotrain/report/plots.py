"""Curves as places in an SVG picture: what a template needs to draw them, rounded to 0.1 pixel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 76, 14, 10, 42
GLYPH = 6.3  # width of a digit of a tick, at the 11 pixels of run.html.j2
POINTS = 300
RUNS = 120
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
LOG_FROM = 50.0  # times; a range as wide is drawn on a logarithmic axis


@dataclass(frozen=True)
class Axis:
    """One direction of a plot.

    Attributes:
        low: Value at its beginning.
        high: Value at its end, above ``low``.
        label: What it shows, with its unit.
        log: Logarithmic; ``low`` is above 0 then.
    """

    low: float
    high: float
    label: str
    log: bool = False

    def place(self, values: Floats) -> Floats:
        """Return where values lie, 0 at the beginning and 1 at the end; others are moved there."""
        clipped = np.clip(values, self.low, self.high)
        if self.log:
            return np.asarray(np.log(clipped / self.low) / math.log(self.high / self.low))
        return np.asarray((clipped - self.low) / (self.high - self.low))


@dataclass(frozen=True)
class Line:
    """A curve, or the area between two.

    Attributes:
        x: (n,) ascending or not.
        y: (n,); NaN interrupts nothing, it is left out.
        kind: Its CSS class: ``main``, ``second``, ``guide``, ``band``, ``mark``, ``c0`` ....
        name: For the legend; empty for none.
        upto: (n,) other border of an area, or None.
        dots: Show the points, too.
    """

    x: Floats
    y: Floats
    kind: str = "main"
    name: str = ""
    upto: Floats | None = None
    dots: bool = False


@dataclass(frozen=True)
class Plot:
    """A plot in pixels; (0, 0) is its upper left corner.

    Attributes:
        title: Above it.
        alt: What it shows, in one sentence.
        x_label: Of the horizontal axis.
        y_label: Of the vertical axis.
        x_ticks: (place, text) each.
        y_ticks: (place, text) each.
        paths: (kind, path data) each, the first is the lowest.
        dots: (kind, x, y) each.
        legend: (kind, name) each.
    """

    title: str
    alt: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    paths: list[tuple[str, str]]
    dots: list[tuple[str, float, float]]
    legend: list[tuple[str, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def y_name(self) -> float:
        """Where the vertical axis's name stands: to the left of the widest text of a tick."""
        widest = max((len(text) for _, text in self.y_ticks), default=0)
        return round(max(12.0, self.left - 14 - GLYPH * widest), 1)


def draw(title: str, x: Axis, y: Axis, lines: Sequence[Line], alt: str = "") -> Plot:
    """Return the plot of some lines; the first lies lowest."""
    dots = [
        (line.kind, across, down)
        for line in lines
        if line.dots
        for across, down in _pixels(x, y, line.x, line.y)
    ]
    return Plot(
        title,
        alt or f"{title}: {y.label} by {x.label}",
        x.label,
        y.label,
        [(_across(x, np.array([value]))[0], text) for value, text in ticks(x)],
        [(_down(y, np.array([value]))[0], text) for value, text in ticks(y)],
        [(line.kind, _path(x, y, line)) for line in lines if len(line.x) > 1],
        dots,
        [(line.kind, line.name) for line in lines if line.name],
    )


def fitted(values: Floats, label: str, *, zero: bool = False) -> Axis:
    """Return an axis that holds all finite values, logarithmic where they span so much.

    Args:
        values: Any shape.
        label: As of ``Axis``.
        zero: Whether 0 must be on it; it is never logarithmic then.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return Axis(0.0, 1.0, label)
    low, high = float(known.min()), float(known.max())
    if not zero and low > 0 and high > LOG_FROM * low:
        return Axis(low, high, label, log=True)
    low = min(low, 0.0) if zero else low
    margin = 0.05 * (high - low) or abs(high) * 0.5 or 0.5
    return Axis(low if zero and low == 0 else low - margin, high + margin, label)


def ticks(axis: Axis) -> list[tuple[float, str]]:
    """Return three to seven round values on the axis with their texts."""
    if axis.log:
        found = _log_ticks(axis.low, axis.high)
    else:
        rough = (axis.high - axis.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in STEPS if s * power >= rough * 0.999)
        first = math.ceil(axis.low / step - 1e-9)
        last = math.floor(axis.high / step + 1e-9)
        found = [place * step for place in range(first, last + 1)]
    return [(value, _short(value)) for value in found]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, len(powers) // 6)
    digits = (1, 2, 5) if len(powers) <= 3 else (1,)
    found = [digit * 10.0**power for power in powers[::every] for digit in digits]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def _short(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:,.0f}"


def thinned(x: Floats, y: Floats, limit: int = POINTS) -> tuple[Floats, Floats]:
    """Return at most about ``limit`` points of a curve, evenly along it, and both ends."""
    if len(x) <= limit:
        return x, y
    spans = [max(float(np.ptp(values)), 1e-12) for values in (x, y)]
    steps = np.abs(np.diff(x)) / spans[0] + np.abs(np.diff(y)) / spans[1]
    way = np.concatenate([[0.0], np.cumsum(steps)])
    places = np.searchsorted(way, np.linspace(0, way[-1], limit - 1))
    chosen = np.unique(np.concatenate([[0], places, [len(x) - 1]]))
    return x[chosen], y[chosen]


def bucketed(x: Floats, y: Floats, limit: int = RUNS) -> tuple[Floats, Floats, Floats, Floats]:
    """Return x, mean, lowest and highest of at most ``limit`` equal runs of points."""
    parts = [part for part in np.array_split(np.arange(len(x)), min(limit, len(x))) if part.size]
    rows = [(x[p].mean(), y[p].mean(), y[p].min(), y[p].max()) for p in parts]
    middle, mean, low, high = np.array(rows).reshape(len(rows), 4).T
    return middle, mean, low, high


def _across(axis: Axis, values: Floats) -> list[float]:
    places = LEFT + axis.place(values) * (WIDTH - LEFT - RIGHT)
    return [round(float(place), 1) for place in places]


def _down(axis: Axis, values: Floats) -> list[float]:
    places = HEIGHT - BOTTOM - axis.place(values) * (HEIGHT - TOP - BOTTOM)
    return [round(float(place), 1) for place in places]


def _pixels(x: Axis, y: Axis, across: Floats, down: Floats) -> list[tuple[float, float]]:
    known = np.isfinite(across) & np.isfinite(down)
    return list(zip(_across(x, across[known]), _down(y, down[known]), strict=True))


def _path(x: Axis, y: Axis, line: Line) -> str:
    points = _pixels(x, y, line.x, line.y)
    if line.upto is not None:
        points += _pixels(x, y, line.x, line.upto)[::-1]
    data = "L".join(f"{across:g} {down:g}" for across, down in points)
    return f"M{data}Z" if line.upto is not None else f"M{data}"
