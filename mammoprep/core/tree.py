"""Input trees: a folder, or a zip read in place, seen as relative paths with sizes and bytes.

A name such as ``FILE!OFFSET+LENGTH`` means a part of a file, wherever one can stand; see ``parts``.
"""

import errno
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.parts import Part, check_part, part_of, read_at

FILE_LIMIT = 1 << 30  # bytes of one input file; the largest uncompressed mammograms are near 60 MB
TABLE_LIMIT = 1 << 28

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: signature, name and extra lengths
_LOCAL_SIGNATURE = b"PK\x03\x04"


class Tree(Protocol):
    """What a source and a child may do with the input: list, size, read; never write."""

    def folders(self) -> list[str]:
        """Return the names of the folders right below the root, sorted."""
        ...

    def files(self) -> list[str]:
        """Return the names of the regular files right below the root, sorted."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return relative path -> bytes of every regular file below folder ``prefix``."""
        ...

    def exists(self, name: str) -> bool:
        """Return whether ``name`` is a regular file."""
        ...

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """Return the bytes of file ``name``; RecordError when unreadable or over ``limit``."""
        ...

    def read_part(self, part: Part, limit: int = FILE_LIMIT) -> bytes:
        """Return a part of a file, without reading the rest of it.

        Raises:
            RecordError: unreadable, not all inside of the file, or over ``limit``.
            ConfigError: the file is compressed, so that a part of it cannot be had alone.
        """
        ...

    def stamp(self, name: str) -> tuple[int, int]:
        """Return what changes when the file changes on this machine: (bytes, time or checksum).

        Of a part: its own bytes, and what its file has besides.
        """
        ...

    def sub(self, folder: str) -> "Tree":
        """Return the tree below ``folder``."""
        ...

    def locator(self) -> dict[str, str]:
        """Return plain values from which ``open_locator`` opens the same tree."""
        ...


def _checked(name: str) -> str:
    """Return ``name`` if it cannot leave the tree; tables are data and data is hostile."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise RecordError("unsafe_path", "a path in the table would leave the input folder")
    return name


def _exists(tree: Tree, name: str) -> bool:
    """Return whether a file is there that is long enough for the part ``name``."""
    part = part_of(name)
    return part is not None and tree.exists(part.file) and part.inside(tree.stamp(part.file)[0])


class Folder:
    """A folder on a local or mounted file system."""

    def __init__(self, root: Path) -> None:
        """Remember the folder."""
        self.root = root

    def folders(self) -> list[str]:
        """Return the names of the folders right below the root, sorted."""
        return sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())

    def files(self) -> list[str]:
        """Return the names of the regular files right below the root, sorted."""
        return sorted(entry.name for entry in os.scandir(self.root) if entry.is_file())

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return relative path -> bytes of every regular file below folder ``prefix``."""
        found: dict[str, int] = {}
        pending = [prefix]
        while pending:
            folder = pending.pop()
            try:
                entries = list(os.scandir(self.root / folder))
            except PermissionError:  # stands for all its files: whoever reads it is told why not
                found[folder] = 0
                continue
            except OSError:  # absent: its files are missing, which is counted per row
                continue
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif entry.is_file():
                    found[name] = entry.stat().st_size
        return found

    def exists(self, name: str) -> bool:
        """Return whether ``name`` is a regular file."""
        return _exists(self, name) if part_of(name) else (self.root / name).is_file()

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """Return the bytes of file ``name``; never blocks on a pipe or a device."""
        part = part_of(name)
        if part is not None:
            return self.read_part(part, limit)
        with self._opened(name) as (handle, size):
            if size > limit:
                raise RecordError("header_bounds", f"file of {size} bytes, limit {limit}")
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read()

    def read_part(self, part: Part, limit: int = FILE_LIMIT) -> bytes:
        """Return a part of a file, without reading the rest of it."""
        with self._opened(part.file) as (handle, size):
            check_part(part, size, limit)
            return read_at(handle, part.offset, part.length)

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[int, int]]:
        """Lend the handle and the size of a regular file; what fails is a RecordError."""
        try:
            # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
            handle = os.open(self.root / _checked(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            code = "file_missing" if error.errno == errno.ENOENT else "unreadable"
            raise RecordError(code, _errno_name(error)) from None
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise RecordError("unreadable", "not a regular file")
            yield handle, found.st_size
        except OSError as error:
            raise RecordError("unreadable", _errno_name(error)) from None
        finally:
            os.close(handle)

    def stamp(self, name: str) -> tuple[int, int]:
        """Return (bytes, modification time in ns)."""
        part = part_of(name)
        found = (self.root / (part.file if part else name)).stat()
        return part.length if part else found.st_size, found.st_mtime_ns

    def sub(self, folder: str) -> "Folder":
        """Return the tree below ``folder``."""
        return Folder(self.root / folder)

    def locator(self) -> dict[str, str]:
        """Return plain values from which ``open_locator`` opens the same tree."""
        return {"path": str(self.root), "prefix": ""}


class Zip:
    """A zip file, read in place: nothing is unpacked; the central directory finds members."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        """Read the central directory.

        Raises:
            ConfigError: the file is no readable zip.
        """
        self.path, self.prefix = path, prefix
        self._starts: dict[int, int] = {}
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ConfigError(
                f"{path} cannot be read as a zip file ({type(error).__name__}). "
                "Was the download complete? Give --input a folder or a whole zip."
            ) from None
        self._members = {
            info.filename.removeprefix(prefix): info
            for info in self._zip.infolist()
            if info.filename.startswith(prefix) and not info.is_dir()
        }

    def folders(self) -> list[str]:
        """Return the names of the folders right below the root, sorted."""
        return sorted({name.split("/", 1)[0] for name in self._members if "/" in name})

    def files(self) -> list[str]:
        """Return the names of the members right below the root, sorted."""
        return sorted(name for name in self._members if "/" not in name)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return relative path -> bytes of every member below folder ``prefix``."""
        start = f"{prefix}/"
        return {n: i.file_size for n, i in self._members.items() if n.startswith(start)}

    def exists(self, name: str) -> bool:
        """Return whether ``name`` is a member."""
        return _exists(self, name) if part_of(name) else name in self._members

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """Return the bytes of member ``name``; its checksum is compared on the way."""
        part = part_of(name)
        if part is not None:
            return self.read_part(part, limit)
        info = self._members.get(_checked(name))
        if info is None:
            raise RecordError("file_missing", "not in the zip file")
        if info.file_size > limit:
            raise RecordError("header_bounds", f"member of {info.file_size} bytes, limit {limit}")
        try:
            with self._zip.open(info) as member:
                data = member.read(limit + 1)  # never more than promised, whatever it inflates to
        except (OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
            raise RecordError("unreadable", f"zip member: {type(error).__name__}") from None
        except (zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
            raise RecordError("unreadable", f"zip member: {type(error).__name__}") from None
        if len(data) != info.file_size:
            raise RecordError("unreadable", f"{len(data)} bytes, zip says {info.file_size}")
        return data

    def read_part(self, part: Part, limit: int = FILE_LIMIT) -> bytes:
        """Return a part of a member that is stored as it is; no checksum covers a part."""
        info = self._members.get(_checked(part.file))
        if info is None:
            raise RecordError("file_missing", "not in the zip file")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ConfigError(
                f"{self.path} holds {self.prefix}{part.file} compressed, and this file is read in "
                "parts: each would inflate all bytes before it. Unzip it first, and give --input "
                "the folder."
            )
        check_part(part, info.file_size, limit)
        try:
            with self.path.open("rb") as file:
                return read_at(file.fileno(), self._start(file.fileno(), info) + part.offset,
                                part.length)  # fmt: skip
        except OSError as error:
            raise RecordError("unreadable", _errno_name(error)) from None

    def _start(self, handle: int, info: zipfile.ZipInfo) -> int:
        """Return the offset of a member's first byte in the zip file (APPNOTE 4.3.7)."""
        if info.header_offset not in self._starts:
            head = read_at(handle, info.header_offset, _LOCAL_HEADER.size)
            signature, name, extra = _LOCAL_HEADER.unpack(head)
            if signature != _LOCAL_SIGNATURE:
                raise RecordError("unreadable", "zip member: no local header")
            start = info.header_offset + _LOCAL_HEADER.size + name + extra
            self._starts[info.header_offset] = start
        return self._starts[info.header_offset]

    def stamp(self, name: str) -> tuple[int, int]:
        """Return (bytes, CRC-32 of the member as the zip states it)."""
        part = part_of(name)
        info = self._members[part.file if part else name]
        return part.length if part else info.file_size, info.CRC

    def sub(self, folder: str) -> "Zip":
        """Return the tree below ``folder``."""
        return Zip(self.path, f"{self.prefix}{folder}/")

    def locator(self) -> dict[str, str]:
        """Return plain values from which ``open_locator`` opens the same tree."""
        return {"path": str(self.path), "prefix": self.prefix}


def _errno_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "OSError")


def open_tree(path: Path) -> Tree:
    """Open a folder or a zip file.

    Raises:
        ConfigError: neither, with what was found instead.
    """
    if path.is_dir():
        return Folder(path.resolve())
    if path.is_file():
        return Zip(path.resolve())
    raise ConfigError(f"Input {path} does not exist. Expected a folder or a zip file.")


def open_locator(locator: dict[str, Any]) -> Tree:
    """Open the tree that ``Tree.locator`` described."""
    path = Path(locator["path"])
    return Zip(path, locator["prefix"]) if path.is_file() else Folder(path)
