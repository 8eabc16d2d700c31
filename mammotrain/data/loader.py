"""Rows in order -> batches of integers, read and decoded by threads.

Reading, hashing, decoding and copying all let other Python threads run, so that threads do what
worker processes would, without copying pictures between processes.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammotrain.contracts import Batch
from mammotrain.data import cache as caches
from mammotrain.data import order
from mammotrain.data.order import Pool
from mammotrain.data.pictures import IMAGE, Source, Stored
from mammotrain.data.shards import Table

_TYPES = {8: torch.uint8, 16: torch.uint16}


@dataclass(frozen=True)
class Options:
    """How samples become batches.

    Attributes:
        batch_size: Samples of a batch over all ranks.
        seed: Decides the order.
        rank: Number of this process.
        world: How many processes there are; each has an equal part of every batch.
        workers: Threads that read and decode; 0: the caller's own.
        training: Shuffled, sampled, all batches full; else every sample once, shard by shard.
        sampling: As ``order.sampling`` reads it; for training.
        window: Shards whose samples are mixed.
        size: (width, height) of the pictures, at most that of the stored ones; None for theirs.
        member: ``image``, or ``intersection.png``.
        masks: Whether batches have masks.
        pin: Whether tensors lie in page-locked memory, for copies to a GPU.
        cache_dir: Where smaller copies are kept, when ``size`` is below that of the shards; None to
            decode each time.
        cache_bytes: Most bytes of all copies in that folder.
    """

    batch_size: int = 32
    seed: int = 0
    rank: int = 0
    world: int = 1
    workers: int = 2
    training: bool = True
    sampling: str = "natural"
    window: int = order.WINDOW
    size: tuple[int, int] | None = None
    member: str = IMAGE
    masks: bool = False
    pin: bool = False
    cache_dir: Path | None = None
    cache_bytes: int = caches.LIMIT

    def __post_init__(self) -> None:
        """Check what has limits; raises ConfigError."""
        for name, low in (("batch_size", 1), ("workers", 0), ("window", 1), ("world", 1)):
            value = getattr(self, name)
            if value < low:
                raise ConfigError(f"{name} must be at least {low}, got {value}.")
        order.check_divides(self.batch_size, self.world)
        if not 0 <= self.rank < self.world:
            raise ConfigError(f"rank must be 0 to {self.world - 1}, got {self.rank}.")


class Loader:
    """Batches of some samples of a table.

    Attributes:
        shape: What every picture is.
        cached: Whether pictures come from smaller copies.
        waited_s: Seconds that the caller has waited for batches, over all epochs.
    """

    def __init__(
        self,
        table: Table,
        rows: NDArray[np.int64],
        options: Options,
        *,
        labels: NDArray[Any] | None = None,
        progress: caches.Progress | None = None,
    ) -> None:
        """Check the samples, and make smaller copies where they are asked for and absent.

        Args:
            table: The samples.
            rows: Places of those that are wanted; repeats count once.
            options: How they become batches.
            labels: Class of every sample of the table, None or below 0 where unknown, for the
                sampling; default its ``label``.
            progress: Is told how many smaller copies are made, and of how many.

        Raises:
            ConfigError: no samples, several sizes, or a sampling that does not suit the labels.
            DamageError: a sample is damaged.
            ResourceError: smaller copies have no place.
        """
        rows = np.unique(np.asarray(rows, np.int64))
        self.options = options
        self._table = table
        stored = Stored(table, rows, size=options.size, member=options.member, masks=options.masks)
        copies = None
        if options.cache_dir is not None and stored.smaller:
            copies = caches.open_cache(
                stored, options.cache_dir, limit=options.cache_bytes,
                workers=options.workers, progress=progress,
            )  # fmt: skip
        self.cached = copies is not None
        self._source: Source = copies or stored
        self.shape = stored.shape
        self.waited_s = 0.0
        self._sampling = order.sampling(options.sampling)
        self._pool = _pool(table, rows, table.columns["label"] if labels is None else labels)
        self._count = len(self._order(0))

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return order.steps(self._count, self.options.batch_size)

    def epoch(self, epoch: int, position: int = 0) -> Iterator[Batch]:
        """Yield this rank's part of the batches of an epoch that are left.

        The same seed and epoch give the same batches, whatever the number of workers, and over all
        ranks the same samples. For scoring ``epoch`` does not matter, and a rank for which nothing
        of the last batch is left has one batch fewer.

        Args:
            epoch: From 0.
            position: Batches that are done.

        Raises:
            DamageError: a sample is damaged; the message has its key and shard.
        """
        asked = perf_counter()
        with closing(self._made(self._order(epoch), position)) as made:
            for batch in made:
                self.waited_s += perf_counter() - asked
                yield batch
                asked = perf_counter()
        self.waited_s += perf_counter() - asked

    def taught(self, epoch: int) -> NDArray[np.int64]:
        """Return the rows that all ranks together train on in an epoch; nothing is read."""
        return np.concatenate(list(order.batches(self._order(epoch), self.options.batch_size)))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        options = self.options
        if not options.training:
            return order.sequential(self._pool)
        return order.epoch_order(
            self._pool, self._sampling, seed=options.seed, epoch=epoch, window=options.window
        )

    def _parts(self, rows: NDArray[np.int64], position: int) -> Iterator[NDArray[np.int64]]:
        options = self.options
        place = {"rank": options.rank, "world": options.world}
        if options.training:
            return order.batches(rows, options.batch_size, position, **place)
        return order.parts(rows[position * options.batch_size :], options.batch_size, **place)

    def _made(self, rows: NDArray[np.int64], position: int) -> Generator[Batch, None, None]:
        """Yield batches; with workers, some are in the making while the caller works."""
        options = self.options
        parts = self._announced(rows, position)
        if not options.workers:
            for part in parts:
                yield self._finished(self._begun(part, None))
            return
        share = options.batch_size // options.world
        ahead = max(2, 1 - (-2 * options.workers // share))
        waiting: deque[_Begun] = deque()
        with ThreadPoolExecutor(options.workers, "loader") as pool:
            try:
                for part in parts:
                    waiting.append(self._begun(part, pool))
                    if len(waiting) > ahead:
                        yield self._finished(waiting.popleft())
                while waiting:
                    yield self._finished(waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _announced(self, rows: NDArray[np.int64], position: int) -> Iterator[NDArray[np.int64]]:
        """Yield the parts of batches; tell the table what comes within a window from there."""
        shards = len(np.unique(self._pool.shards))
        window = self.options.window * -(-len(rows) // shards)
        for step, part in enumerate(self._parts(rows, position), position):
            first = step * self.options.batch_size
            if not self.cached:
                self._table.ahead(rows[first : first + self.options.batch_size + window])
            yield part

    def _begun(self, rows: NDArray[np.int64], pool: ThreadPoolExecutor | None) -> "_Begun":
        """Return an empty batch, and the work that fills it."""
        shape, pin = self.shape, self.options.pin
        size = (shape.rows, shape.columns)
        images = torch.empty(
            (len(rows), shape.channels, *size), dtype=_TYPES[shape.bits], pin_memory=pin
        )
        masks = None
        if self.options.masks:
            masks = torch.empty((len(rows), 1, *size), dtype=torch.uint8, pin_memory=pin)
        keys = tuple(str(key) for key in self._table.keys[rows])
        batch = Batch(images, masks, rows, keys)
        if pool is None:
            self._fill(batch, range(len(rows)))
            return _Begun(batch, ())
        pieces = min(len(rows), 2 * self.options.workers)
        work = tuple(
            pool.submit(self._fill, batch, range(piece, len(rows), pieces))
            for piece in range(pieces)
        )
        return _Begun(batch, work)

    def _fill(self, batch: Batch, places: range) -> None:
        images = batch.images.numpy()
        masks = None if batch.masks is None else batch.masks.numpy()
        for place in places:
            row = int(batch.rows[place])
            self._source.image(row, images[place])
            if masks is not None:
                self._source.mask(row, masks[place])

    @staticmethod
    def _finished(begun: "_Begun") -> Batch:
        for piece in begun.work:
            piece.result()
        return begun.batch


@dataclass(frozen=True)
class _Begun:
    batch: Batch
    work: tuple[Future[None], ...]


def _pool(table: Table, rows: NDArray[np.int64], labels: NDArray[Any]) -> Pool:
    classes = [order.UNKNOWN if labels[row] is None else int(labels[row]) for row in rows]
    _, groups = np.unique(table.columns["group"][rows].astype(str), return_inverse=True)
    return Pool(rows, table.shards[rows], np.array(classes, np.int64), groups.astype(np.int64))
