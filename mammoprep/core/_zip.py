"""A zip file as a tree: read in place, nothing is unpacked."""

import lzma
import struct
import zipfile
from collections import Counter
from pathlib import Path

from mammoprep.core._names import OTHER_CASE, checked, errno_name, folded, normal, part_exists
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.parts import FILE_LIMIT, Part, check_part, part_of, read_at

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: signature, name and extra lengths
_LOCAL_SIGNATURE = b"PK\x03\x04"
_UTF8_FLAG = 0x800  # of a member: its name is UTF-8 (APPNOTE 4.4.4)
# What zipfile raises for archives that are damaged or beyond it, besides BadZipFile.
_DAMAGED = (OSError, RuntimeError, NotImplementedError, ValueError, struct.error)


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
        except (*_DAMAGED, zipfile.BadZipFile) as error:
            raise ConfigError(
                f"{path} cannot be read as a zip file ({type(error).__name__}). "
                "Was the download complete? Give --input a folder or a whole zip."
            ) from None
        self._members = {
            name.removeprefix(prefix): info
            for name, info in _named(self._zip.infolist()).items()
            if name.startswith(prefix) and not name.endswith("/")
        }
        self._forms: dict[str, list[str]] | None = None
        self._folded: set[str] | None = None

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
        return part_exists(self, name) if part_of(name) else self.real(name) in self._members

    def real(self, name: str) -> str:
        """Return the name of the member that ``name`` means, as it stands in the archive."""
        if name in self._members or name.isascii():
            return name
        if self._forms is None:
            self._forms = {}
            for member, info in self._members.items():
                for form in {normal(member), normal(_as_utf8(member, info))}:
                    self._forms.setdefault(form, []).append(member)
        alike = self._forms.get(normal(name), [])
        return alike[0] if len(alike) == 1 else name

    def exists_in_other_case(self, name: str) -> bool:
        """Return whether a member is there whose name differs from ``name`` only in case."""
        if self._folded is None:
            self._folded = {folded(member) for member in self._members}
        return folded(name) in self._folded and not self.exists(name)

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """Return the bytes of member ``name``; its checksum is compared on the way."""
        part = part_of(name)
        if part is not None:
            return self.read_part(part, limit)
        info = self._member(name)
        if info.file_size > limit:
            raise RecordError("header_bounds", f"member of {info.file_size} bytes, limit {limit}")
        try:
            with self._zip.open(info) as member:
                data = member.read(limit + 1)  # never more than promised, whatever it inflates to
        except (*_DAMAGED, EOFError, lzma.LZMAError) as error:
            raise RecordError("unreadable", f"zip member: {type(error).__name__}") from None
        except (zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
            raise RecordError("unreadable", f"zip member: {type(error).__name__}") from None
        if len(data) != info.file_size:
            raise RecordError("unreadable", f"{len(data)} bytes, zip says {info.file_size}")
        return data

    def read_part(self, part: Part, limit: int = FILE_LIMIT) -> bytes:
        """Return a part of a member that is stored as it is; no checksum covers a part."""
        info = self._member(part.file)
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
            raise RecordError("unreadable", errno_name(error)) from None

    def _member(self, name: str) -> zipfile.ZipInfo:
        info = self._members.get(self.real(checked(name)))
        if info is None:
            cased = f"; {OTHER_CASE}" if self.exists_in_other_case(name) else ""
            raise RecordError("file_missing", f"not in the zip file{cased}")
        return info

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
        info = self._member(part.file if part else name)
        return part.length if part else info.file_size, info.CRC

    def sub(self, folder: str) -> "Zip":
        """Return the tree below ``folder``."""
        return Zip(self.path, f"{self.prefix}{folder}/")

    def locator(self) -> dict[str, str]:
        """Return plain values from which ``open_locator`` opens the same tree."""
        return {"path": str(self.path), "prefix": self.prefix}


def _named(members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return name -> member, the folders in a name parted by ``/``; of two the last, as zip has it.

    Old tools of Windows write backslashes (against APPNOTE 4.4.17). Where another member has the
    name that a member would get, it keeps its own.
    """
    taken = Counter(info.filename.replace("\\", "/") for info in members)
    found = {}
    for info in members:
        name = info.filename.replace("\\", "/")
        found[name if taken[name] == 1 else info.filename] = info
    return found


def _as_utf8(name: str, info: zipfile.ZipInfo) -> str:
    """Return a member's name as it was meant: some archivers write UTF-8 and do not say so."""
    if name.isascii() or info.flag_bits & _UTF8_FLAG:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name
