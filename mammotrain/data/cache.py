"""Smaller copies of pictures, made once, so that training does not wait for large ones to decode.

One file a table, size and member: a plain ``.npy`` (n, channels, rows, columns) that numpy can
open, with a checksum of every picture beside it. It appears whole or not at all.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import DamageError, ResourceError
from mammotrain.data.pictures import MASK, Shape, Stored
from mammotrain.data.shards import Table

VERSION = 1  # of how pictures are made smaller
LIMIT = 64 << 30  # bytes of all caches in a folder
_SPARE = 1 << 28  # of the disk, left to others
_ENDS = (".npy", ".json")
Progress = Callable[[int, int], None]


class Cache:
    """Pictures, and masks if there are, of the samples of a table at a smaller size."""

    def __init__(self, table: Table, shape: Shape, paths: Sequence[Path]) -> None:
        """Open finished files, of pictures and perhaps of masks; see ``open_cache``."""
        self.shape = shape
        flat = Shape(1, shape.rows, shape.columns, 8)
        self._files = [_Copies(table, *each) for each in zip(paths, (shape, flat), strict=False)]

    def image(self, row: int, out: NDArray[Any]) -> None:
        """Write a picture to ``out``, (channels, rows, columns); raises DamageError."""
        self._files[0].read(row, out)

    def mask(self, row: int, out: NDArray[Any]) -> None:
        """Write a mask to ``out``, uint8 (1, rows, columns); raises DamageError."""
        self._files[1].read(row, out)


class _Copies:
    """One finished file."""

    def __init__(self, table: Table, path: Path, shape: Shape) -> None:
        about = json.loads(path.with_suffix(".json").read_bytes())
        place = {key: number for number, key in enumerate(about["keys"])}
        self._place = [place.get(key, -1) for key in table.keys]
        self._sums, self._start = about["crc32"], int(about["start"])
        self._path, self._bytes = path, shape.bytes
        self._checked = np.zeros(len(table), bool)
        self._file = path.open("rb", buffering=0)
        os.utime(path)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def read(self, row: int, out: NDArray[Any]) -> None:
        place = self._place[row]
        target = out.data.cast("B")  # a sample's part of a batch: contiguous
        # Not mapped: a file that another program cuts off would end this one with SIGBUS.
        offset = self._start + place * self._bytes
        right = place >= 0 and os.preadv(self._file.fileno(), [target], offset) == self._bytes
        if right and not self._checked[row]:
            right = crc32(target) == self._sums[place]
            self._checked[row] = right
        if not right:
            raise DamageError(f"{self._path} is damaged. Remove it; it will be made again.")


def open_cache(
    stored: Stored,
    folder: Path,
    *,
    limit: int = LIMIT,
    workers: int = 2,
    progress: Progress | None = None,
) -> Cache | None:
    """Return smaller copies of a table's samples, made now unless they are there.

    All samples of the right size are copied, whoever asks, so that every fold finds them.

    Processes that ask for the same copies at the same time make them once. Other copies in the
    folder are removed, the one used longest ago first, when all would be over the limit.

    Args:
        stored: Where pictures come from, and how they are made smaller.
        folder: Where copies lie.
        limit: Most bytes of all copies in the folder.
        workers: Threads that decode.
        progress: Is told how many are done, and of how many.

    Returns:
        The copies, or None where they would be over the limit or over what the disk has free: then
        pictures are to be decoded and made smaller each time.

    Raises:
        DamageError: a sample is damaged.
        ResourceError: the disk is full, or cannot be written to.
    """
    wanted = [_Copying(stored.table, stored.member, stored.rows(), stored.shape, stored.image)]
    if stored.masks:
        flat = Shape(1, stored.shape.rows, stored.shape.columns, 8)
        wanted.append(_Copying(stored.table, MASK, stored.rows(MASK), flat, stored.mask))
    paths: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for copying in wanted:
            path = folder / f"{copying.name}.npy"
            with _locked(path.with_suffix(".lock")):
                if not copying.done(path):
                    if not _room(folder, copying.total, limit, paths):
                        return None
                    copying.write(path, workers, progress)
            paths.append(path)
    except OSError as error:
        what = "no space in" if error.errno == errno.ENOSPC else "cannot write to"
        raise ResourceError(f"Smaller copies: {what} {folder}: {error.strerror}.") from None
    return Cache(stored.table, stored.shape, paths)


@dataclass(frozen=True)
class _Copying:
    """One file in the making."""

    table: Table
    member: str
    rows: NDArray[np.int64]
    shape: Shape
    make: Callable[[int, NDArray[Any]], None]

    @property
    def total(self) -> int:
        """Bytes of the finished file, but for its header."""
        return len(self.rows) * self.shape.bytes

    @property
    def name(self) -> str:
        """A name that changes with everything that the copies depend on."""
        what = f"{VERSION}/{self.table.content}/{self.member}/{self.shape}/{len(self.rows)}"
        digest = sha256(what.encode()).hexdigest()[:32]
        size = f"{self.shape.columns}x{self.shape.rows}"
        return f"{digest}-{size}-{self.member.removesuffix('.png')}"

    def done(self, path: Path) -> bool:
        """Return whether the finished file is there and of the right size."""
        try:
            whole = path.stat().st_size == len(self._head()) + self.total
            return whole and path.with_suffix(".json").stat().st_size > 0
        except FileNotFoundError:
            return False

    def _head(self) -> bytes:
        """Return the header of the .npy file."""
        buffer = BytesIO()
        about = {
            "descr": np.dtype(self.shape.dtype).str,
            "fortran_order": False,
            "shape": (len(self.rows), *_dimensions(self.shape)),
        }
        np.lib.format.write_array_header_1_0(buffer, about)
        return buffer.getvalue()

    def write(self, path: Path, workers: int, progress: Progress | None) -> None:
        """Write the file and what describes it; whole, or not at all."""
        head = self._head()
        partial = path.with_suffix(".partial")  # nobody else writes it: we hold the lock
        try:
            with partial.open("wb", buffering=0) as file:
                file.write(head)
                sums = list(self._fill(file.fileno(), len(head), workers, progress))
                os.fsync(file.fileno())
            keys = [str(self.table.keys[row]) for row in self.rows]
            about = {"start": len(head), "keys": keys, "crc32": sums}
            path.with_suffix(".json").write_text(json.dumps(about), encoding="ascii")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _fill(
        self, file: int, start: int, workers: int, progress: Progress | None
    ) -> Iterator[int]:
        def one(place: int) -> int:
            picture = np.zeros(_dimensions(self.shape), self.shape.dtype)
            self.make(int(self.rows[place]), picture)
            content = picture.tobytes()
            if os.pwrite(file, content, start + place * len(content)) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return crc32(content)

        count = len(self.rows)
        with ThreadPoolExecutor(max(workers, 1), "cache") as pool:
            try:
                for done, found in enumerate(pool.map(one, range(count)), 1):
                    if progress is not None:
                        progress(done, count)
                    yield found
            finally:
                pool.shutdown(cancel_futures=True)


def _dimensions(shape: Shape) -> tuple[int, int, int]:
    return shape.channels, shape.rows, shape.columns


def _room(folder: Path, wanted: int, limit: int, keep: Collection[Path]) -> bool:
    """Make room for ``wanted`` bytes; return whether there is."""
    if wanted > limit:
        return False
    held = sorted((p.stat().st_mtime_ns, p.stat().st_size, p) for p in folder.glob("*.npy"))
    total = wanted + sum(size for _, size, _ in held)
    free = shutil.disk_usage(folder).free - _SPARE
    for _, size, path in held:
        if total <= limit and wanted <= free:
            break
        if path not in keep:
            for end in _ENDS:
                path.with_suffix(end).unlink(missing_ok=True)
            total, free = total - size, free + size
    return total <= limit and wanted <= free


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
