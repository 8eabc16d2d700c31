"""Input trees: a folder, or a zip read in place, seen as relative paths with sizes and bytes.

A name such as ``FILE!OFFSET+LENGTH`` means a part of a file, wherever one can stand; see ``parts``.

Names come from tables and folders, and so may be anything: too long, with a NUL, links in a circle.
Whoever asks gets an answer or a ``RecordError``, never an error of the operating system.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from mammoprep.core._names import OTHER_CASE as OTHER_CASE
from mammoprep.core._names import checked, errno_name, folded, part_exists, unreadable
from mammoprep.core._names import normal as normal
from mammoprep.core._zip import Zip as Zip
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.parts import FILE_LIMIT as FILE_LIMIT
from mammoprep.core.parts import Part, check_part, part_of, read_at

TABLE_LIMIT = 1 << 28


class Tree(Protocol):
    """What a source and a child may do with the input: list, size, read; never write."""

    def folders(self) -> list[str]:
        """Return the names of the folders right below the root, sorted."""
        ...

    def files(self) -> list[str]:
        """Return the names of the regular files right below the root, sorted.

        Links that lead in a circle are among them: whoever reads one is told so.
        """
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return relative path -> bytes of every regular file below folder ``prefix``.

        What is there and cannot be looked at has 0 bytes: whoever reads it is told why.
        """
        ...

    def exists(self, name: str) -> bool:
        """Return whether ``name`` is a regular file.

        An accented letter can be written in two ways (NFC, NFD), and a table, a file system and an
        archive each have theirs. A name that is absent as it stands means the one file that looks
        the same, here and wherever a name is given.
        """
        ...

    def real(self, name: str) -> str:
        """Return the name of the file that ``name`` means, as it stands in the tree."""
        ...

    def exists_in_other_case(self, name: str) -> bool:
        """Return whether ``name`` is absent and a file is there that differs from it in case only.

        It is not opened in its place: where case counts, the two may be different files.
        """
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

        Raises:
            RecordError: it is not there, or cannot be looked at.
        """
        ...

    def sub(self, folder: str) -> "Tree":
        """Return the tree below ``folder``."""
        ...

    def locator(self) -> dict[str, str]:
        """Return plain values from which ``open_locator`` opens the same tree."""
        ...


def _is_dir(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a link in a circle
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a regular file, or cannot be looked at, as a link in a circle."""
    try:
        return entry.is_file()
    except OSError:
        return True


def _bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _named_alike(
    folder: Path,
    known: dict[Path, tuple[int, dict[str, list[str]]]],
    form: Callable[[str], str],
) -> dict[str, list[str]]:
    """Return form -> the names in a folder; listed again only when the folder has changed.

    Args:
        folder: Where to look.
        known: Folder -> (when it was changed, what was found then); brought up to date.
        form: What is equal for names that are alike.
    """
    try:
        changed = folder.stat().st_mtime_ns
        if folder not in known or known[folder][0] != changed:
            names: dict[str, list[str]] = {}
            for entry in os.scandir(folder):
                names.setdefault(form(entry.name), []).append(entry.name)
            known[folder] = changed, names
    except (OSError, ValueError):
        return {}
    return known[folder][1]


class Folder:
    """A folder on a local or mounted file system."""

    def __init__(self, root: Path) -> None:
        """Remember the folder."""
        self.root = root
        self._forms: dict[Path, tuple[int, dict[str, list[str]]]] = {}
        self._folded: dict[Path, tuple[int, dict[str, list[str]]]] = {}

    def folders(self) -> list[str]:
        """Return the names of the folders right below the root, sorted."""
        return sorted(entry.name for entry in self._entries() if _is_dir(entry, follow=True))

    def files(self) -> list[str]:
        """Return the names of the regular files right below the root, sorted."""
        return sorted(entry.name for entry in self._entries() if _is_file(entry))

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            return list(os.scandir(self.root))
        except OSError as error:
            raise ConfigError(
                f"The folder {self.root} cannot be listed ({errno_name(error)}). "
                "Check that it is there and may be read."
            ) from None

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
            except (OSError, ValueError):  # absent: its files are missing, counted per row
                continue
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if _is_dir(entry, follow=False):
                    pending.append(name)
                elif _is_file(entry):
                    found[name] = _bytes(entry)
        return found

    def exists(self, name: str) -> bool:
        """Return whether ``name`` is a regular file."""
        if part_of(name):
            return part_exists(self, name)
        try:
            return os.path.isfile(self._place(name))  # noqa: PTH113 - of any name, without an error
        except RecordError:
            return False

    def real(self, name: str) -> str:
        """Return the name of the file that ``name`` means, as it stands in the folder."""
        return self._place(name).relative_to(self.root).as_posix()

    def _place(self, name: str) -> Path:
        """Return where a file lies, or would: under its name, else the one that looks the same."""
        place = self.root / checked(name)
        if name.isascii() or os.path.lexists(place):
            return place
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            raise RecordError("file_missing", "no file can have such a name") from None
        return self._alike(name) or place

    def _alike(self, name: str) -> Path | None:
        place = self.root
        for part in PurePosixPath(name).parts:
            names = [part]
            if not part.isascii() and not os.path.lexists(place / part):
                names = _named_alike(place, self._forms, normal).get(normal(part), [])
            if len(names) != 1:  # of two that both look the same neither is meant
                return None
            place = place / names[0]
        return place

    def exists_in_other_case(self, name: str) -> bool:
        """Return whether ``name`` is absent and a file is there that differs from it in case only.

        It is not opened in its place: where case counts, the two may be different files.
        """
        if part_of(name) or self.exists(name):
            return False
        places = [self.root]
        for part in PurePosixPath(name).parts:
            alike = folded(part)
            places = [
                place / other
                for place in places
                for other in _named_alike(place, self._folded, folded).get(alike, [])
            ]
        return any(place != self.root and place.is_file() for place in places)

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
            handle = os.open(self._place(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            absent = isinstance(error, FileNotFoundError)
            cased = absent and self.exists_in_other_case(name)
            raise unreadable(error, cased=cased) from None
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise RecordError("unreadable", "not a regular file")
            yield handle, found.st_size
        except OSError as error:
            raise RecordError("unreadable", errno_name(error)) from None
        finally:
            os.close(handle)

    def stamp(self, name: str) -> tuple[int, int]:
        """Return (bytes, modification time in ns)."""
        part = part_of(name)
        try:
            found = self._place(part.file if part else name).stat()
        except OSError as error:
            raise unreadable(error) from None
        return part.length if part else found.st_size, found.st_mtime_ns

    def sub(self, folder: str) -> "Folder":
        """Return the tree below ``folder``."""
        return Folder(self.root / folder)

    def locator(self) -> dict[str, str]:
        """Return plain values from which ``open_locator`` opens the same tree."""
        return {"path": str(self.root), "prefix": ""}


def bytes_of(tree: Tree, name: str) -> int:
    """Return the size of a file that is there; 0 where it cannot be looked at.

    Such a file, a link in a circle, is no error before its turn: whoever reads it is told why.
    """
    try:
        return tree.stamp(name)[0]
    except RecordError:
        return 0


def open_tree(path: Path) -> Tree:
    """Open a folder or a zip file.

    Raises:
        ConfigError: neither, with what was found instead.
    """
    if os.path.isdir(path):  # noqa: PTH112 - of any path, without an error
        return Folder(path.resolve())
    if os.path.isfile(path):  # noqa: PTH113
        return Zip(path.resolve())
    raise ConfigError(f"Input {path} does not exist. Expected a folder or a zip file.")


def open_locator(locator: dict[str, Any]) -> Tree:
    """Open the tree that ``Tree.locator`` described."""
    path = Path(locator["path"])
    return Zip(path, locator["prefix"]) if path.is_file() else Folder(path)
