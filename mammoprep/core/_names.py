"""What folders and archives share: names that may be anything, and errors that name no file."""

import errno
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mammoprep.core.errors import RecordError
from mammoprep.core.parts import part_of

if TYPE_CHECKING:
    from mammoprep.core.tree import Tree

OTHER_CASE = "a file whose name differs only in case is there"


def checked(name: str) -> str:
    """Return ``name`` if it cannot leave the tree; tables are data and data is hostile."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise RecordError("unsafe_path", "a path in the table would leave the input folder")
    return name


def part_exists(tree: "Tree", name: str) -> bool:
    """Return whether a file is there that is long enough for the part ``name``."""
    part = part_of(name)
    if part is None or not tree.exists(part.file):
        return False
    try:
        return part.inside(tree.stamp(part.file)[0])
    except RecordError:  # gone since
        return False


def normal(name: str) -> str:
    """Return the form of a name that is the same however its accents are written."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return the form of a name that is the same in any case."""
    return normal(name).casefold()


def errno_name(error: OSError) -> str:
    """Return what the system calls an error, such as ``EACCES``."""
    return errno.errorcode.get(error.errno or 0, "OSError")


def unreadable(error: OSError, *, cased: bool = False) -> RecordError:
    """Return the error of a file that cannot be opened; its name is in no detail."""
    code = "file_missing" if error.errno == errno.ENOENT else "unreadable"
    return RecordError(code, f"{errno_name(error)}{f'; {OTHER_CASE}' if cased else ''}")
