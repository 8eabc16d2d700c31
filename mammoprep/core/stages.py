"""Where the time goes: named stages that cost nothing unless somebody listens."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Stages:
    """Processor seconds by stage; a stage inside another one counts for itself only."""

    def __init__(self) -> None:
        """Start with nothing measured."""
        self.seconds: dict[str, float] = {}
        self._names: list[str] = []
        self._since = 0.0

    def enter(self, name: str) -> None:
        """Begin a stage; the surrounding one pauses."""
        self._settle()
        self._names.append(name)

    def leave(self) -> None:
        """End the stage that began last."""
        self._settle()
        self._names.pop()

    def _settle(self) -> None:
        now = time.thread_time()
        if self._names:
            name = self._names[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


_LISTENING: ContextVar[Stages | None] = ContextVar("stages", default=None)


@contextmanager
def listen() -> Iterator[Stages]:
    """Measure every stage that runs inside, on this thread."""
    stages = Stages()
    token = _LISTENING.set(stages)
    try:
        yield stages
    finally:
        _LISTENING.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count what runs inside as ``name``, when somebody listens."""
    stages = _LISTENING.get()
    if stages is None:
        yield
        return
    stages.enter(name)
    try:
        yield
    finally:
        stages.leave()
