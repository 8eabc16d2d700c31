"""SIGTERM and SIGINT: a question while training goes on, an error while nothing can be lost."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mammoprep.core.errors import ResourceError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def told() -> Iterator[Callable[[], bool]]:
    """Lend a question whether SIGTERM or SIGINT came; the old handlers come back in the end."""
    heard: list[int] = []
    with _handled(lambda number, _: heard.append(number)):
        yield lambda: bool(heard)


@contextmanager
def ending(message: str) -> Iterator[None]:
    """End what goes on at once when SIGTERM or SIGINT comes: for work that is simply done again.

    Raises:
        ResourceError: with the message, wherever the work is.
    """

    def end(*_: object) -> None:
        raise ResourceError(message)

    with _handled(end):
        yield


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    before = {name: signal.signal(name, handler) for name in SIGNALS}
    try:
        yield
    finally:
        for name, old in before.items():
            signal.signal(name, old)
