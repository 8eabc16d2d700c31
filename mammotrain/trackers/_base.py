"""What trackers share: what may leave a run, what was told already, and who is told."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from mammotrain.folder import flat
from mammotrain.watching import Line, Watcher

MEMORY, HIDDEN = "tracking.json", "(not shown)"
WORD = re.compile(r"[A-Za-z0-9_+%-]{1,40}(=\d+/\d+)?")  # no dot, no slash: not a file's name
SECONDS, POINTS = 5.0, 500  # how long and how many lines are held back
OF_THE_DATA = ("left_out",)  # the site or machine that is left out is no setting
STATUSES = ("finished", "stopped", "failed")


class Tracker(Watcher):
    """A watcher that writes numbers somewhere.

    Attributes:
        failures: Errors of its package, for which it is given up while training goes on.
    """

    failures: tuple[type[Exception], ...] = (OSError,)

    def step(self, line: Line) -> None:
        """Write the numbers of a step."""
        self.write("train", line["step"], numbers(line))

    def validated(self, line: Line) -> None:
        """Write the metrics of a validation."""
        self.write("validation", line["step"], numbers(line["validation"]))

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Write values by name, of ``train`` or ``validation``."""
        raise NotImplementedError

    def close(self, status: str) -> None:
        """Write what is left; ``status`` is one of ``STATUSES``."""


@dataclass(frozen=True)
class Point:
    """What one line tells.

    Attributes:
        kind: ``train`` or ``validation``.
        step: Of the optimiser.
        seconds: When, since 1970.
        values: By name.
    """

    kind: str
    step: int
    seconds: float
    values: Mapping[str, float]


class Buffered(Tracker):
    """Sends lines in bulk, and remembers in the run's folder which run and line that was.

    A run that goes on does some steps again, with the same results; these are not sent twice.
    """

    def __init__(self, out: Path, name: str) -> None:
        """Read what was told before."""
        self._out, self._name = out, name
        known = remembered(out, name)
        self.run: str | None = known.get("run")
        self._told: dict[str, int] = dict(known.get("told", {}))
        self._points: list[Point] = []
        self._sent = time.monotonic()

    def began(self, run: str, *, again: bool) -> None:
        """Remember the run's id; a run that is not the old one was told nothing."""
        self.run = run
        if not again:
            self._told = {}
        self._remember()

    def send(self, points: list[Point]) -> None:
        """Send lines, in the order in which they were told."""
        raise NotImplementedError

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Hold a line back for a while, unless it was told before."""
        if step <= self._told.get(kind, 0):
            return
        self._points.append(Point(kind, step, time.time(), values))
        late = time.monotonic() - self._sent >= SECONDS
        if late or len(self._points) >= POINTS or kind == "validation":
            self.flush()

    def flush(self) -> None:
        """Send what was held back."""
        points, self._points = self._points, []
        self._sent = time.monotonic()
        if points:
            self.send(points)
            self._told |= {point.kind: point.step for point in points}
            self._remember()

    def _remember(self) -> None:
        remember(self._out, self._name, {"run": self.run, "told": self._told})


class All(Watcher):
    """Tells somebody, and every tracker that still works.

    Trackers are opened when training starts: a run that never comes so far leaves nothing there.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Tracker]], inner: Watcher | None) -> None:
        """Remember who is told first, and how to open the trackers."""
        self._inner, self._makers = inner or Watcher(), dict(makers)
        self._trackers: dict[str, Tracker] = {}

    def start(self, step: int, total: int, batch_size: int) -> None:
        """Open the trackers, and pass it on."""
        while self._makers:
            name, make = self._makers.popitem()
            self._trackers[name] = make()
        self._inner.start(step, total, batch_size)
        self._each(lambda tracker: tracker.start(step, total, batch_size))

    def step(self, line: Line) -> None:
        """Pass it on."""
        self._inner.step(line)
        self._each(lambda tracker: tracker.step(line))

    def validated(self, line: Line) -> None:
        """Pass it on."""
        self._inner.validated(line)
        self._each(lambda tracker: tracker.validated(line))

    def count(self, what: str, done: int, total: int) -> None:
        """Pass it on, but not to trackers: no training yet."""
        self._inner.count(what, done, total)

    def warn(self, message: str) -> None:
        """Pass it on, but not to trackers: it may name a file."""
        self._inner.warn(message)

    def close(self, status: str) -> None:
        """Close every tracker."""
        self._each(lambda tracker: tracker.close(status))
        self._trackers = {}

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                tell(tracker)
            except tracker.failures as error:
                del self._trackers[name]
                self.warn(
                    f"{name} is told nothing more ({type(error).__name__}); training goes on, and "
                    "log.jsonl has every number."
                )


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """Return a line's finite numbers, without its step."""
    return {
        name: float(value)
        for name, value in line.items()
        if name != "step" and type(value) in (int, float) and isfinite(value)
    }


def settings(table: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return a recipe with dotted names: numbers, truth values and single words.

    Any other text could be the name of a file; ``HIDDEN`` stands for it.
    """
    return {
        name: _shown(value) if name not in OF_THE_DATA else HIDDEN
        for name, value in flat(table).items()
    }


def _shown(value: Any) -> str | int | float | bool:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return " ".join(str(_shown(item)) for item in value)
    return value if not value or WORD.fullmatch(str(value)) else HIDDEN


def title(table: Mapping[str, Any]) -> str:
    """Return what a run is called: its recipe, and its fold where it has one."""
    name, fold = str(table.get("recipe", "run")), table.get("fold")
    name = name if WORD.fullmatch(name) else "run"
    return f"{name}-fold{fold}" if isinstance(fold, int) else name


def remembered(out: Path, name: str) -> dict[str, Any]:
    """Return what a tracker left in the run's folder, empty when there is nothing readable."""
    try:
        found = json.loads((out / MEMORY).read_text())[name]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(out: Path, name: str, found: Mapping[str, Any]) -> None:
    """Leave something for the run that goes on."""
    try:
        known = json.loads((out / MEMORY).read_text())
    except (OSError, ValueError):
        known = {}
    part = out / f".{MEMORY}.part"
    part.write_text(json.dumps({**known, name: dict(found)}))
    part.replace(out / MEMORY)
