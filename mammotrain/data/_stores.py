"""Where shards lie: a local folder, or a URL whose shards pass through a bounded local cache."""

import os
import stat
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from mammoprep.core.errors import DamageError
from mammotrain.data._manifest import ShardFacts

CHUNK = 1 << 22


class Handle:
    """An open shard; closed when nobody uses it any more, so that threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises OSError."""
        self._number = -1
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        """Close the file."""
        if self._number >= 0:
            os.close(self._number)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes; fewer when the file ends before; raises OSError."""
        found = os.pread(self._number, size, offset)
        while len(found) < size:  # a signal, or a file system that gives less than it has
            more = os.pread(self._number, size - len(found), offset + len(found))
            if not more:
                break
            found += more
        return found

    def size(self) -> int:
        """Return the bytes of the file, -1 when it is no regular file."""
        found = os.fstat(self._number)
        return found.st_size if stat.S_ISREG(found.st_mode) else -1

    def sha256(self) -> str:
        """Return the hash of the whole file; raises OSError."""
        digest, offset = sha256(), 0
        while block := self.read(offset, CHUNK):
            digest.update(block)
            offset += len(block)
        return digest.hexdigest()


class Store(Protocol):
    """A dataset's files."""

    where: str

    def fetch(self, name: str) -> bytes | None:
        """Return the bytes of a small file, None when there is none."""
        ...

    def faults(self, shards: Sequence[ShardFacts], *, deep: bool) -> dict[str, str]:
        """Return name -> what is wrong, of the shards that cannot be used.

        Args:
            shards: What should be there.
            deep: Also hash every byte, where that is possible without fetching all of them.
        """
        ...

    def open(self, shard: ShardFacts) -> Handle:
        """Return the open shard, of the right size.

        Raises:
            DamageError: it is missing or not what was built.
        """
        ...

    def ahead(self, shards: Sequence[ShardFacts]) -> None:
        """Take the hint that these shards will be opened next, in this order."""
        ...


class Folder:
    """A dataset in a local or mounted folder."""

    def __init__(self, root: Path) -> None:
        """Remember the folder."""
        self.where = str(root)
        self._root = root

    def fetch(self, name: str) -> bytes | None:
        """Return the bytes of a small file, None when there is none."""
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DamageError(f"{self._root / name} cannot be read ({error.strerror}).") from None

    def faults(self, shards: Sequence[ShardFacts], *, deep: bool) -> dict[str, str]:
        """Return name -> what is wrong, of the shards that cannot be used."""
        found = {}
        for shard in shards:
            if what := self._fault(shard, deep):
                found[shard.name] = what
        return found

    def _fault(self, shard: ShardFacts, deep: bool) -> str:
        path = self._path(shard)
        try:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode):  # opening a FIFO could wait for ever
                return "no regular file"
            if about.st_size != shard.bytes:
                return f"{about.st_size} bytes, expected {shard.bytes}"
            return "" if not deep or Handle(path).sha256() == shard.sha256 else "its bytes changed"
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"cannot be read ({error.strerror})"

    def open(self, shard: ShardFacts) -> Handle:
        """Return the open shard; raises DamageError when it is missing or of another size."""
        if what := self._fault(shard, deep=False):
            raise DamageError(f"{self._path(shard)}: {what}.")
        try:
            return Handle(self._path(shard))
        except OSError as error:
            raise DamageError(f"{self._path(shard)}: cannot be read ({error.strerror}).") from None

    def ahead(self, shards: Sequence[ShardFacts]) -> None:
        """Do nothing: the system reads ahead."""

    def _path(self, shard: ShardFacts) -> Path:
        return self._root / "shards" / shard.name
