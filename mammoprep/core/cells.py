"""The cells of a table's file: the encoding of a text, the sheets and errors of a workbook."""

import datetime
import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from xml.parsers import expat

from python_calamine import CalamineError, CalamineWorkbook

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.tree import TABLE_LIMIT, Tree

INFLATED_LIMIT = 1 << 29
# Those of UTF-32 begin with those of UTF-16.
BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8",
}
SAMPLE = 512  # bytes by which UTF-16 without a mark is told
MOSTLY = 0.8  # share of ASCII among them
SPREADSHEET_DIGITS = 15  # of a number; Excel writes zeros for the others

_SHORTENED = re.compile(r"[0-9]([.,][0-9]+)?E\+[0-9]{2,3}")  # how Excel shows 12 digits or more
# An error as Excel writes it in any language (#N/A, #REF!, #BEZUG!, #NAME?, #NV), as LibreOffice
# does (Err:502), or a column that was too narrow when its text was saved (####).
_ERROR = re.compile(r"#(?:N/?[AVD]|[^\W\d_/]{2,12}(?:/0)?[!?]|#+)|Err:[0-9]{3}")
_ERROR_CELL = re.compile(rb"""\bt\s*=\s*["']e["']""")
_REFERENCE = re.compile("([A-Z]{1,3})([1-9][0-9]{0,6})")
_DAYS = (datetime.date, datetime.time, datetime.timedelta)
# What a workbook raises that is not as it should be; whoever reads its cells says what is wrong.
_DAMAGED = (KeyError, ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Number(str):
    """The text of a cell that a spreadsheet holds as a number, and so without leading zeros."""

    __slots__ = ()


class Truth(str):
    """The text of a cell that a spreadsheet holds as true or false."""

    __slots__ = ()


class Day(str):
    """The text of a cell that a spreadsheet holds as a date, a time or a duration.

    What was typed may have been something else: MAR1, 1-2 and 3:15 become such.
    """

    __slots__ = ()


def decoded(data: bytes, table: str, encoding: str = "", remedy: str = "Save it as UTF-8.") -> str:
    """Return a table's text: UTF-8, UTF-16 or UTF-32 as the bytes themselves say, or as told.

    Raises:
        ConfigError: it is not, with the row and the byte, and ``remedy``; or no such encoding.
    """
    name = encoding or _encoding(data)
    try:
        return data.decode(name).removeprefix("\ufeff")
    except LookupError:
        hint = plugins.suggest(encoding, ["utf-8", "utf-16", "cp1252", "latin-1"])
        raise ConfigError(f"--encoding {encoding!r}: no such encoding of text.{hint}") from None
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        row = data.count(b"\n", 0, start) + 1
        what = encoding or {"utf-8": "UTF-8"}.get(name, "UTF-16 or UTF-32")
        byte = f"0x{data[start]:02x}" if start < len(data) else "the end"
        raise ConfigError(
            f"{table}: row {row} is not {what} text: byte {start} is {byte}. {remedy}"
        ) from None


def _encoding(data: bytes) -> str:
    """Return the encoding that the first bytes show; UTF-8 where they show none."""
    for mark, name in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return name
    # Names of columns are nearly all ASCII, whose other byte in UTF-16 is 0.
    head = data[:SAMPLE]
    zeros = (head[::2].count(0), head[1::2].count(0))
    most = max(len(head) // 2, 1)
    if zeros[0] == 0 and zeros[1] > MOSTLY * most:
        return "utf-16-le"
    return "utf-16-be" if zeros[1] == 0 and zeros[0] > MOSTLY * most else "utf-8"


def read_table(tree: Tree, table: str) -> bytes:
    """Return a table's bytes.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return tree.read(table, TABLE_LIMIT)
    except RecordError as error:
        raise ConfigError(f"{table} cannot be read: {error}.") from None


def workbook(data: bytes, table: str) -> CalamineWorkbook:
    """Return an Excel file.

    Raises:
        ConfigError: it is none, or inflates to more than 512 MiB.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            if sum(part.file_size for part in parts.infolist()) > INFLATED_LIMIT:
                raise ConfigError(f"{table} inflates to more than {INFLATED_LIMIT >> 20} MiB.")
        return CalamineWorkbook.from_filelike(io.BytesIO(data))
    except (CalamineError, zipfile.BadZipFile, ValueError, OSError) as error:
        raise ConfigError(f"{table} is no readable Excel file ({type(error).__name__}).") from None


def sheet_rows(book: CalamineWorkbook, table: str, sheet: int | str) -> list[list[object]]:
    """Return the cells of a sheet, by its number from 0 or its name.

    Raises:
        ConfigError: it cannot be read.
    """
    get = book.get_sheet_by_index if isinstance(sheet, int) else book.get_sheet_by_name
    try:
        return list(get(sheet).to_python(skip_empty_area=False))  # type: ignore[arg-type]
    except (CalamineError, ValueError, OSError) as error:
        raise ConfigError(f"{table} is no readable Excel file ({type(error).__name__}).") from None


def marked_text(cell: object) -> str:
    """Return ``cell_text``, still known as a number, a truth value or a date where it is one."""
    text = cell_text(cell)
    if isinstance(cell, bool):
        return Truth(text)
    if isinstance(cell, int | float):
        return Number(text)
    return Day(text) if isinstance(cell, _DAYS) else text


def is_error(text: str) -> bool:
    """Return whether a text is what a spreadsheet shows where a formula has failed."""
    return _ERROR.fullmatch(text) is not None


def is_shortened(text: str) -> bool:
    """Return whether a spreadsheet has dropped digits of a number: two things may be one now."""
    if isinstance(text, Number) and len(text.lstrip("-")) > SPREADSHEET_DIGITS:
        return True
    return _SHORTENED.fullmatch(text) is not None


def error_cells(data: bytes, sheet: str) -> dict[tuple[int, int], str]:
    """Return (row, column), both from 1, of a sheet's cells that hold an error -> its text.

    The library that reads workbooks takes them for empty ones, which would be unknown values.

    Args:
        data: An .xlsx file; of any other kind nothing is found.
        sheet: The sheet's name.
    """
    with suppress(expat.ExpatError, *_DAMAGED), zipfile.ZipFile(io.BytesIO(data)) as parts:
        part = _sheet_part(parts, sheet)
        # Looked for first, because few sheets have any and reading one takes seconds.
        if part and _ERROR_CELL.search(content := parts.read(part)):
            return _errors_in(content)
    return {}


def _sheet_part(parts: zipfile.ZipFile, sheet: str) -> str | None:
    """Return the path of a sheet's XML inside of a workbook (ECMA-376 part 1, 18.2.19)."""
    listed = dict(_elements(parts.read("xl/workbook.xml"), "sheet", "name", "id"))
    links = dict(
        _elements(parts.read("xl/_rels/workbook.xml.rels"), "Relationship", "Id", "Target")
    )
    target = links.get(listed.get(sheet, ""))
    return None if target is None else posixpath.normpath(posixpath.join("/xl", target))[1:]


def _elements(content: bytes, name: str, key: str, value: str) -> list[tuple[str, str]]:
    """Return two attributes of every element of a name, whatever its prefix."""
    found: list[tuple[str, str]] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag.rpartition(":")[2] == name:
            plain = {full.rpartition(":")[2]: text for full, text in attributes.items()}
            found.append((plain.get(key, ""), plain.get(value, "")))

    parser = _parser()
    parser.StartElementHandler = start
    parser.Parse(content, True)
    return found


def _parser() -> Any:
    """Return a reader of XML that opens no other file and takes no entity of the file's own."""

    def refuse(*_: object) -> None:
        raise ValueError("a workbook declares no entities")

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    return parser


class _Errors:
    """Takes a sheet's elements, and keeps the cells that hold an error."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int], str] = {}
        self._row = self._column = 0
        self._text: str | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name == "row":
            self._row, self._column = int(attributes.get("r", self._row + 1)), 0
        elif name == "c":
            place = _REFERENCE.fullmatch(attributes.get("r", ""))
            self._column = _column_number(place[1]) if place else self._column + 1
            self._row = int(place[2]) if place else self._row
            self._text = "" if attributes.get("t") == "e" else None

    def text(self, data: str) -> None:
        if self._text is not None:
            self._text += data

    def end(self, tag: str) -> None:
        if self._text is not None and tag.rpartition(":")[2] == "c":
            self.found[self._row, self._column] = self._text.strip() or "#ERROR!"
            self._text = None


def _errors_in(content: bytes) -> dict[tuple[int, int], str]:
    taken, parser = _Errors(), _parser()
    parser.StartElementHandler = taken.start
    parser.CharacterDataHandler = taken.text
    parser.EndElementHandler = taken.end
    parser.Parse(content, True)
    return taken.found


def _column_number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def cell_text(cell: object) -> str:
    """Return the text of a spreadsheet's cell as it is shown: ``66.0`` is ``66``."""
    whole = isinstance(cell, float) and cell.is_integer()
    return str(int(cell)) if whole else str(cell).strip()  # type: ignore[call-overload]


def check_header(
    header: Sequence[str],
    where: str,
    columns: Sequence[str],
    separator: str,
    is_there: Callable[[str, Sequence[str]], bool] = lambda name, header: name in header,
    remedy: str = "",
) -> None:
    """Check the names of columns.

    Raises:
        ConfigError: one of ``columns`` is missing, with ``remedy``, or any is there twice.
    """
    missing = [name for name in columns if not is_there(name, header)]
    if missing:
        named = {",": "comma", ";": "semicolon"}.get(separator, repr(separator))
        hint = f" Is the separator a {named}?" if len(header) == 1 and separator else ""
        hint += plugins.suggest(missing[0], [name for name in header if name])
        raise ConfigError(
            f"{where}: missing column {', '.join(missing)}. "
            f"Found {len(header)}: {', '.join(header)[:300] or 'nothing'}.{hint}{remedy}"
        )
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise ConfigError(f"{where}: column {repeated[0]} occurs twice.")
