"""The grey-scale transform again, one pixel at a time in float64, straight from the standard.

Written against PS3.3 C.7.5.1.1.2, C.8.11.3, C.11.1 and C.11.2 and the project's stated policy, with
no line in common with the package.
"""

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Case:
    """One header, as plain numbers."""

    bits: int
    signed: bool
    mono1: bool = False
    slope: float | None = None
    intercept: float | None = None
    windows: list[tuple[float, float]] = field(default_factory=list)
    function: str = "LINEAR"
    luts: list[tuple[int, int, list[int]]] = field(default_factory=list)  # first, depth, entries
    padding: tuple[int, int] | None = None


def border_padding(pixels: list[list[int]], limits: tuple[int, int] | None) -> list[list[bool]]:
    """Spread from the border through values in the padding range, over eight neighbours."""
    rows, columns = len(pixels), len(pixels[0])
    found = [[False] * columns for _ in range(rows)]
    if limits is None:
        return found
    low, high = limits
    edge = [
        (r, c)
        for r in range(rows)
        for c in range(columns)
        if r in (0, rows - 1) or c in (0, columns - 1)
    ]
    queue = deque((r, c) for r, c in edge if low <= pixels[r][c] <= high)
    while queue:
        r, c = queue.popleft()
        if found[r][c]:
            continue
        found[r][c] = True
        for rr in range(max(r - 1, 0), min(r + 2, rows)):
            for cc in range(max(c - 1, 0), min(c + 2, columns)):
                if not found[rr][cc] and low <= pixels[rr][cc] <= high:
                    queue.append((rr, cc))
    return found


def window_value(function: str, x: float, c: float, w: float) -> float:
    """Return one value through a window, on [0, 1]."""
    if function == "SIGMOID":
        return 1 / (1 + math.exp(max(-60.0, min(60.0, -4 * (x - c) / w))))
    if function == "LINEAR_EXACT":
        if x <= c - w / 2:
            return 0.0
        return 1.0 if x > c + w / 2 else (x - c) / w + 0.5
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    return 1.0 if x > c - 0.5 + (w - 1) / 2 else (x - (c - 0.5)) / (w - 1) + 0.5


def grey(case: Case, stored: int) -> float:
    """Return the presentation value of one stored value."""
    slope = 1.0 if case.slope is None else case.slope
    intercept = 0.0 if case.intercept is None else case.intercept
    x = slope * stored + intercept
    first = -(2 ** (case.bits - 1)) if case.signed else 0
    ends = [slope * v + intercept for v in (first, first + 2**case.bits - 1)]
    usable = [(c, w) for c, w in case.windows if w >= 1 or (w > 0 and case.function != "LINEAR")]
    if case.luts:
        start, depth, entries = case.luts[0]
        place = min(max(math.floor(x + 0.5) - start, 0), len(entries) - 1)
        used = max(entries).bit_length()
        top = max(entries) if used < depth else 2 ** max(used, depth) - 1
        y = entries[place] / top
    elif usable:
        y = window_value(case.function, x, *usable[0])
    else:
        y = (x - min(ends)) / (max(ends) - min(ends))
    return 1 - y if case.mono1 else y


def picture(case: Case, pixels: list[list[int]], *depths: int) -> list[list[list[int]]]:
    """Return the rounded picture at each number of bits, padding black."""
    padded = border_padding(pixels, case.padding)
    greys = {value: grey(case, value) for value in {value for row in pixels for value in row}}
    found = []
    for depth in depths:
        top = 2**depth - 1
        level = {v: min(max(math.floor(y * top + 0.5), 0), top) for v, y in greys.items()}
        found.append(
            [
                [0 if padded[r][c] else level[value] for c, value in enumerate(row)]
                for r, row in enumerate(pixels)
            ]
        )
    return found
