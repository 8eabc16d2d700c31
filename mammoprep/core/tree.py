"""Input trees: a folder, or a zip read in place, seen as relative paths with sizes and bytes."""

import errno
import os
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from mammoprep.core.errors import ConfigError, RecordError

FILE_LIMIT = 1 << 30  # bytes of one input file; the largest uncompressed mammograms are near 60 MB
TABLE_LIMIT = 1 << 28


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

    def stamp(self, name: str) -> tuple[int, int]:
        """Return what changes when the file changes on this machine: (bytes, time or checksum)."""
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
            except OSError:  # absent or unreadable: its files are missing, which is counted per row
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
        return (self.root / name).is_file()

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """Return the bytes of file ``name``; never blocks on a pipe or a device."""
        try:
            # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
            handle = os.open(self.root / _checked(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            code = "file_missing" if error.errno == errno.ENOENT else "unreadable"
            raise RecordError(code, _errno_name(error)) from None
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise RecordError("unreadable", "not a regular file")
            if found.st_size > limit:
                raise RecordError("header_bounds", f"file of {found.st_size} bytes, limit {limit}")
            try:
                return file.read()
            except OSError as error:
                raise RecordError("unreadable", _errno_name(error)) from None

    def stamp(self, name: str) -> tuple[int, int]:
        """Return (bytes, modification time in ns)."""
        found = (self.root / name).stat()
        return found.st_size, found.st_mtime_ns

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
        return name in self._members

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """Return the bytes of member ``name``; its checksum is compared on the way."""
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

    def stamp(self, name: str) -> tuple[int, int]:
        """Return (bytes, CRC-32 of the member as the zip states it)."""
        info = self._members[name]
        return info.file_size, info.CRC

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
