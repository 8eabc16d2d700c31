"""Where the tasks run: joblib's threading backend, each thread feeding one child process."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import joblib

from mammoprep.core.errors import ResourceError
from mammoprep.plan import Shard
from mammoprep.run import Run, build_shard
from mammoprep.worker import Child

STOP_SECONDS = 8


def build_all(shards: Sequence[Shard], run: Run, children: Sequence[Child]) -> None:
    """Build every shard, one task each, as many at a time as there are children.

    Raises:
        ResourceError: interrupted by a signal, or out of disk.
    """
    if not shards:
        return
    for child in children:
        run.children.put(child)
    with _ending(run, children):
        joblib.Parallel(n_jobs=len(children), backend="threading", batch_size=1)(
            joblib.delayed(build_shard)(shard, run) for shard in shards
        )


def check_all(shards: Sequence[Shard], check: Callable[[Shard], bool], workers: int) -> list[bool]:
    """Return ``check(shard)`` for every shard; hashing runs in as many threads as workers."""
    parallel = joblib.Parallel(n_jobs=workers, backend="threading")
    return list(parallel(joblib.delayed(check)(shard) for shard in shards))


@contextmanager
def _ending(run: Run, children: Sequence[Child]) -> Iterator[None]:
    """End the children in every case; turn SIGINT and SIGTERM into an orderly stop."""

    def stop(number: int, _: FrameType | None) -> None:
        run.stop.set()
        for child in children:
            child.interrupt()
        raise ResourceError(
            f"Interrupted by {signal.Signals(number).name}. Finished shards are kept: "
            "run the same command again to go on."
        )

    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        run.stop.set()
        for child in children:
            child.interrupt()
        # A task gives its child back when it ends: no thread may outlive the lock on the folder.
        for _ in children:
            run.children.get(timeout=STOP_SECONDS).kill()
        for number, handler in handlers.items():
            signal.signal(number, handler)
