"""Reproducible tar files that appear whole or not at all.

POSIX.1-1988 USTAR; times, owners and names of owners are zero or empty, so that equal samples give
equal bytes.
"""

import os
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

BLOCK = 512


@dataclass(frozen=True)
class Member:
    """Where one member's bytes lie in its tar.

    Attributes:
        suffix: ``png``, ``json`` and so on.
        offset: First byte of the content, from the start of the tar.
        size: Bytes of the content.
        sha256: Hash of the content.
    """

    suffix: str
    offset: int
    size: int
    sha256: str


def places(members: Iterable[Member]) -> dict[str, dict[str, Any]]:
    """Return suffix -> ``offset``, ``size`` and ``sha256``, as a shard's sidecar states them."""
    found = {member.suffix: asdict(member) for member in members}
    for place in found.values():
        del place["suffix"]
    return found


def header(name: str, size: int) -> bytes:
    """Return the 512-byte header of a member; a function of its name and size alone."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o444
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


class TarWriter:
    """Writes one tar under a temporary name and hashes it on the way.

    Use as a context manager: leaving without ``close`` having been called removes the file.
    """

    def __init__(self, path: Path) -> None:
        """Create ``path``; it must not exist."""
        self.path = path
        self.size = 0
        self._hash = sha256()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        self._file = os.fdopen(handle, "wb")

    def __enter__(self) -> "TarWriter":
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; remove it unless ``close`` finished it."""
        if not self._file.closed:
            self._file.close()
            self.path.unlink(missing_ok=True)

    def add(self, key: str, members: Iterable[tuple[str, bytes]]) -> list[Member]:
        """Append one sample and return where its members lie."""
        return [self._add_member(key, suffix, content) for suffix, content in members]

    def _add_member(self, key: str, suffix: str, content: bytes) -> Member:
        self._write(header(f"{key}.{suffix}", len(content)))
        offset = self.size
        self._write(content)
        self._write(bytes(-len(content) % BLOCK))
        return Member(suffix, offset, len(content), sha256(content).hexdigest())

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> str:
        """Finish the archive, force it to disk and return its SHA-256."""
        # Two zero blocks end an archive; the record size that old tapes wanted is kept for tar(1).
        self._write(bytes(2 * BLOCK))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._hash.hexdigest()
