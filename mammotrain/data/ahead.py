"""Work on what comes next in other threads, while the caller is busy with what came before."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def ahead(work: Callable[[T], U], items: Iterable[T], threads: int) -> Generator[U, None, None]:
    """Yield ``work`` of each item, in order; so many are in the making as there are threads.

    Args:
        work: Called in another thread; what it raises is raised here, at its turn.
        items: Asked for in the caller's thread.
        threads: 0 for no other thread.
    """
    if not threads:
        yield from map(work, items)
        return
    waiting: deque[Future[U]] = deque()
    with ThreadPoolExecutor(threads, "ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
