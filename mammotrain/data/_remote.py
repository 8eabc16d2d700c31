"""A dataset at a URL: fsspec finds and fetches it, a bounded folder holds what is in use.

A cached shard is named by its SHA-256, is checked as a whole before a process uses it for the first
time, and appears whole or not at all. The files used longest ago are removed first.
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from mammoprep.core.errors import ConfigError, DamageError, ResourceError
from mammotrain.data._manifest import ShardFacts
from mammotrain.data._stores import CHUNK, Handle

TRIES = 2  # a transfer can go wrong once
_CACHED = re.compile(r"[0-9a-f]{64}\.tar")


class Remote:
    """A dataset at a URL."""

    def __init__(self, url: str, cache: Path, limit: int) -> None:
        """Find the file system of ``url``.

        Args:
            url: Such as ``s3://bucket/dataset``.
            cache: Local folder for shards.
            limit: Most bytes that they may have in all.

        Raises:
            ConfigError: fsspec or what it needs for this kind of URL is not installed.
        """
        self.where = url.rstrip("/")
        self._files, self._root = _file_system(self.where)
        self._cache, self._limit = cache, limit
        self._checked: set[str] = set()
        self._pending: dict[str, Future[None]] = {}
        self._fetcher: ThreadPoolExecutor | None = None
        cache.mkdir(parents=True, exist_ok=True)

    def fetch(self, name: str) -> bytes | None:
        """Return the bytes of a small file, None when there is none."""
        try:
            return bytes(self._files.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResourceError(f"{self.where}/{name} cannot be fetched: {error}") from None

    def faults(self, shards: Sequence[ShardFacts], *, deep: bool) -> dict[str, str]:
        """Return what a listing tells: missing shards, and those of another size.

        A changed byte is seen when a shard was fetched, not before, whatever ``deep`` says. Where
        the URL cannot be listed nothing is known until then.
        """
        try:
            listed = self._files.ls(f"{self._root}/shards", detail=True)
        except FileNotFoundError:
            listed = []
        except (OSError, NotImplementedError):
            return {}
        sizes = {str(item["name"]).rsplit("/", 1)[-1]: item.get("size") for item in listed}
        found = {}
        for shard in shards:
            size = sizes.get(shard.name, -1)
            if shard.name not in sizes:
                found[shard.name] = "missing"
            elif size is not None and size != shard.bytes:
                found[shard.name] = f"{size} bytes, expected {shard.bytes}"
        return found

    def open(self, shard: ShardFacts) -> Handle:
        """Return the open shard, fetched if it is not here.

        Raises:
            DamageError: it is not there, or not what was built.
            ResourceError: no space, or no connection.
        """
        if pending := self._pending.pop(shard.sha256, None):
            pending.exception()  # waits; what went wrong is tried again, and told, below
        self._check_fits(shard)
        for _ in range(TRIES):
            with self._locked(shard):
                handle = self._here(shard) or self._fetched(shard)
            if handle is not None:
                return handle
        raise DamageError(f"{self.where}/shards/{shard.name}: its bytes changed.")

    def ahead(self, shards: Sequence[ShardFacts]) -> None:
        """Fetch these shards one after another, as far as half of the cache holds them."""
        total = 0
        for shard in shards:
            total += shard.bytes
            if total > self._limit // 2:
                return
            if shard.sha256 not in self._pending and not self._path(shard).exists():
                self._fetcher = self._fetcher or ThreadPoolExecutor(1, "fetch")
                self._pending[shard.sha256] = self._fetcher.submit(self._prefetch, shard)

    def _prefetch(self, shard: ShardFacts) -> None:
        with self._locked(shard):
            if not self._path(shard).exists():
                self._fetched(shard)

    def _check_fits(self, shard: ShardFacts) -> None:
        if shard.bytes > self._limit:
            raise ConfigError(
                f"The cache may hold {self._limit:,} bytes, and {shard.name} has {shard.bytes:,}."
            )

    def _here(self, shard: ShardFacts) -> Handle | None:
        """Return the cached shard if it is there and, as a whole, what was built."""
        path = self._path(shard)
        try:
            handle = Handle(path)
        except FileNotFoundError:
            return None
        if shard.sha256 not in self._checked and handle.sha256() != shard.sha256:
            path.unlink(missing_ok=True)
            return None
        self._checked.add(shard.sha256)
        os.utime(path)
        return handle

    def _fetched(self, shard: ShardFacts) -> Handle | None:
        """Fetch a shard; None when what came is not what was built."""
        self._make_room(shard.bytes)
        path = self._path(shard)
        partial = path.with_suffix(".partial")  # nobody else writes it: we hold the lock
        try:
            if self._transfer(shard, partial) != shard.sha256:
                return None
            partial.replace(path)
            self._checked.add(shard.sha256)
            return Handle(path)
        except FileNotFoundError:
            raise DamageError(f"{self.where}/shards/{shard.name}: missing.") from None
        except OSError as error:
            what = "no space in" if error.errno == errno.ENOSPC else "cannot be fetched to"
            raise ResourceError(f"{shard.name}: {what} {self._cache}: {error}") from None
        finally:
            partial.unlink(missing_ok=True)

    def _transfer(self, shard: ShardFacts, partial: Path) -> str:
        """Write what comes, never more than was promised; return its hash."""
        digest, left = sha256(), shard.bytes + 1
        with (
            self._files.open(f"{self._root}/shards/{shard.name}", "rb") as source,
            partial.open("wb") as target,
        ):
            while left > 0 and (block := source.read(min(CHUNK, left))):
                digest.update(block)
                target.write(block)
                left -= len(block)
        return digest.hexdigest()

    def _make_room(self, wanted: int) -> None:
        """Remove the shards used longest ago until ``wanted`` bytes more are within the limit."""
        with self._lock_of("room"):
            held = []
            for entry in os.scandir(self._cache):
                if _CACHED.fullmatch(entry.name):
                    about = entry.stat()
                    held.append((about.st_mtime_ns, about.st_size, entry.path))
            total = wanted + sum(size for _, size, _ in held)
            for _, size, path in sorted(held):
                if total <= self._limit:
                    break
                Path(path).unlink(missing_ok=True)  # whoever has it open keeps reading it
                total -= size

    def _path(self, shard: ShardFacts) -> Path:
        return self._cache / f"{shard.sha256}.tar"

    def _locked(self, shard: ShardFacts) -> Any:
        return self._lock_of(shard.sha256)

    @contextmanager
    def _lock_of(self, name: str) -> Iterator[None]:
        """Hold a lock that other ranks and threads see: one of them fetches, the rest wait."""
        with (self._cache / f"{name}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _file_system(url: str) -> tuple[Any, str]:
    try:
        files, root = import_module("fsspec.core").url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{url} cannot be read: {error}. Install what it needs: pip install 'mammoprep[s3]', "
            "or fsspec and its file system for this kind of URL."
        ) from None
    return files, str(root).rstrip("/")
