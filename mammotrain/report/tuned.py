"""The page of a study: what was tried, what was best, and which settings mattered."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammotrain.report import page

Trial = tuple[int, str, float | None, Mapping[str, Any]]


def write(path: Path, found: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    """Write ``report.html`` of a study, whole or not at all.

    Args:
        path: Where.
        found: What ``tuning.tune`` returns.
        trials: (number, state, value, settings) of each, in order.
    """
    names = sorted({name for trial in trials for name in trial[3]})
    values = [value for _, _, value, _ in trials if value is not None]
    low, high = min(values), max(values)
    rows = [
        {
            "number": number,
            "state": state,
            "value": "" if value is None else f"{value:.4f}",
            "share": 0 if value is None else _share(value, low, high),
            "settings": [_text(settings.get(name)) for name in names],
            "best": value == found["value"],
        }
        for number, state, value, settings in trials
    ]
    page.write(path, page.fill("tuned.html.j2", {"found": found, "names": names, "rows": rows}))


def _share(value: float, low: float, high: float) -> int:
    """Return where a value lies between the lowest and the highest, 0-100."""
    return 100 if high == low else round(100 * (value - low) / (high - low))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
