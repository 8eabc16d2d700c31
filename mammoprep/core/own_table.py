"""A user's own table as rows: whatever program wrote it, as far as that can be told for certain.

It is the table of the source ``table``, or a file of splits.

Text of any encoding that says itself, four separators, Excel's line ``sep=;``, a title above the
column names, another sheet of a workbook. What cannot be told is an error that names the option.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from python_calamine import CalamineWorkbook

from mammoprep.core import plugins
from mammoprep.core.cells import (
    check_header,
    decoded,
    error_cells,
    marked_text,
    read_table,
    sheet_rows,
    workbook,
)
from mammoprep.core.errors import ConfigError
from mammoprep.core.tree import Tree

SEPARATORS = ",;\t|"
TITLE_ROWS = 20  # the column names are among so many first rows
WORKBOOK, OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# How files begin that are no table, and what they are.
OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer; git lfs pull gets the file itself",
    b"<!doctype html": "a web page, perhaps of a download that asked for a login",
    b"<html": "a web page, perhaps of a download that asked for a login",
    b"\x1f\x8b": "packed by gzip; unpack it",
    b"PAR1": "a Parquet file; save it as CSV",
    b"%PDF-": "a PDF document; save its table as CSV or .xlsx",
}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[ \t,;]*\r?\n', re.IGNORECASE)

Cells = Sequence[str]
Numbered = tuple[int, Cells]


@dataclass(frozen=True)
class Told:
    """What the user says of a table.

    Attributes:
        columns: Meaning -> name of the column; a name of ``""`` is none.
        encoding: Of its text; empty for what it shows itself.
        sheet: Name or number of an Excel file's sheet; empty for the one that has the columns.
        header_row: The row of the column names, or None.
        options: Whether there are options that say all this, for an error to name.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str = ""
    sheet: str = ""
    header_row: int | None = None
    options: bool = True


@dataclass(frozen=True)
class OwnTable:
    """The rows below the column names.

    Attributes:
        rows: (row number, cells by column), rows without any cell left out.
        columns: Meaning -> column, of those that are there.
        commas: Whether numbers may have decimal commas, because no comma separates cells.
        remarks: What the user should know.
    """

    rows: Iterator[tuple[int, dict[str, str]]]
    columns: Mapping[str, str]
    commas: bool
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class _Grid:
    """A sheet or a text, as one separator cuts it."""

    separator: str
    first: Sequence[Numbered]
    rows: Iterator[Numbered]
    sheet: str = ""
    sheets: int = 0


def read(tree: Tree, table: str, told: Told, needed: Sequence[str]) -> OwnTable:
    """Return a table's rows and which column has which meaning.

    A column is found by its name; where no column has it as it is written, by the one that differs
    in case and in blanks around it.

    Args:
        tree: Where it lies.
        table: Its path.
        told: What the user says of it.
        needed: Columns that must be there.

    Raises:
        ConfigError: it cannot be read, a column is missing, or an option does not fit.
    """
    data = read_table(tree, table)
    excel = data != b"" and WORKBOOK.startswith(data[: len(WORKBOOK)])
    wrong = [("--encoding", told.encoding and excel), ("--sheet", told.sheet and not excel)]
    if option := next((name for name, given in wrong if given), None):
        kind = "an Excel file" if excel else "text"
        raise ConfigError(f"{option} is not for {table}, which is {kind}. Leave it out.")
    if data.startswith(OLD_EXCEL):
        raise ConfigError(
            f"{table} is an Excel file of the old kind (.xls), or protected by a password. Save it "
            "as .xlsx or CSV, without password."
        )
    start = data[:32].lstrip().lower()
    if other := next((what for mark, what in OTHERS.items() if start.startswith(mark.lower())), ""):
        raise ConfigError(f"{table} is {other}. Expected CSV or .xlsx.")
    grids = _sheets(data, table, told, needed) if excel else _texts(data, table, told)
    grid, header = _fitting(grids, table, told, needed)
    names = [_clean(name) for name in header[1]]
    remedy = f" Other names: --columns; another row: --header-row{'; --sheet' if excel else ''}."
    remedy = remedy if told.options else ""
    check_header(names, f"{table}: row {header[0]}", needed, grid.separator, _is_column, remedy)
    columns = {
        meaning: found
        for meaning, name in told.columns.items()
        if (found := _column(name, names, meaning, told))
    }
    remarks = []
    if grid.sheets > 1 and not told.sheet:
        remarks.append(
            f"{table}: sheet {grid.sheet!r} of {grid.sheets} was read; --sheet names one."
        )
    return OwnTable(_body(grid, table, names, header[0]), columns, grid.separator != ",", remarks)


def _clean(name: str) -> str:
    return name.strip().strip("\ufeff").strip()


def _is_column(name: str, names: Sequence[str]) -> bool:
    return name in names or any(_plain(name) == _plain(other) for other in names)


def _plain(name: str) -> str:
    return _clean(name).casefold()


def _column(name: str, names: Sequence[str], meaning: str, told: Told) -> str | None:
    """Return the column that is called so, or None where there is none.

    Raises:
        ConfigError: several are, but for case.
    """
    if not name or name in names:
        return name or None
    found = [other for other in names if _plain(other) == _plain(name)]
    if len(found) > 1:
        way = f"say which is meant by --columns {meaning}={found[0]}"
        raise ConfigError(
            f"Columns {' and '.join(found)} differ only in case: "
            f"{way if told.options else 'remove all but one'}."
        )
    return found[0] if found else None


def _texts(data: bytes, table: str, told: Told) -> list[_Grid]:
    """Return the table as each separator cuts it, the most frequent one in its first row first."""
    help_ = "Say which encoding it is, such as --encoding cp1252 (Excel's CSV in western Europe)"
    remedy = f"{help_}, or save it as UTF-8." if told.options else "Save it as UTF-8."
    text = decoded(data, table, told.encoding, remedy)
    line = _SEPARATOR_LINE.match(text)
    skipped, signs = 0, SEPARATORS
    if line is not None:
        text, signs, skipped = text[line.end() :], line[1], 1
    head = next((row for row in text.splitlines() if row.strip()), "")
    ordered = sorted(signs, key=head.count, reverse=True)
    return [_text(text, table, sign, skipped) for sign in ordered]


def _text(text: str, table: str, separator: str, skipped: int) -> _Grid:
    def rows() -> Iterator[Numbered]:
        lines = io.StringIO(text, newline="")
        reader = csv.reader(lines, strict=True, delimiter=separator, skipinitialspace=True)
        try:
            for cells in reader:
                yield reader.line_num + skipped, cells
        except csv.Error as error:
            row = reader.line_num + skipped
            raise ConfigError(f"{table}: row {row}: not valid CSV ({error}).") from None

    first: list[Numbered] = []
    with suppress(ConfigError):  # another separator may fit; if this one does, its rows say so
        first.extend(islice(rows(), TITLE_ROWS))
    return _Grid(separator, first, rows())


def _sheets(data: bytes, table: str, told: Told, needed: Sequence[str]) -> list[_Grid]:
    """Return the sheet that the user names, or the first; the others too where that is not it."""
    book = workbook(data, table)
    names = [_named_sheet(book, table, told.sheet)] if told.sheet else book.sheet_names

    def grid(name: str) -> _Grid:
        rows = sheet_rows(book, table, name)
        cells = [(number, [*map(marked_text, row)]) for number, row in enumerate(rows, 1)]
        for (row, column), text in error_cells(data, name).items():
            if row <= len(cells) and column <= len(cells[row - 1][1]):
                cells[row - 1][1][column - 1] = text
        return _Grid("", cells[:TITLE_ROWS], iter(cells), name, len(names))

    first = grid(names[0])
    if _header(first, told.header_row, needed) is not None:
        return [first]
    return [first, *map(grid, names[1:])]


def _named_sheet(book: CalamineWorkbook, table: str, wanted: str) -> str:
    names = book.sheet_names
    alike = [name for name in names if _plain(name) == _plain(wanted)]
    if wanted in names or len(alike) == 1:
        return wanted if wanted in names else alike[0]
    if wanted.isdecimal() and 1 <= int(wanted[:9]) <= len(names):
        return names[int(wanted[:9]) - 1]
    hint = plugins.suggest(wanted, names)
    raise ConfigError(f"--sheet {wanted!r}: {table} has {', '.join(names)[:300]}.{hint}")


def _fitting(
    grids: Sequence[_Grid], table: str, told: Told, needed: Sequence[str]
) -> tuple[_Grid, Numbered]:
    """Return what has the needed columns, and the row of their names.

    Raises:
        ConfigError: several sheets have them, or nothing has them and ``--header-row`` is no row.
    """
    wanted = told.header_row
    found = [
        (grid, row)
        for grid in grids
        if (row := _header(grid, wanted, needed)) is not None
    ]  # fmt: skip
    if len(found) > 1 and grids[0].sheet and found[0][0] is not grids[0]:
        names = ", ".join(grid.sheet for grid, _ in found)
        way = "say which by --sheet" if told.options else "keep one of them"
        raise ConfigError(f"{table}: sheets {names} have the columns: {way}.")
    if found:
        return found[0]
    if wanted is None:
        first = next((row for row in grids[0].first if any(map(_clean, row[1]))), (1, []))
        return grids[0], first
    for grid in grids:
        if row := next((row for row in grid.rows if row[0] == wanted), None):
            return grid, row
    raise ConfigError(f"--header-row {wanted}: {table} has no such row.")


def _header(grid: _Grid, wanted: int | None, needed: Sequence[str]) -> Numbered | None:
    rows = grid.first if wanted is None or wanted <= TITLE_ROWS else ()
    for number, cells in rows:
        names = [_clean(cell) for cell in cells]
        if wanted in (None, number) and all(_is_column(name, names) for name in needed):
            return number, cells
    return None


def _body(
    grid: _Grid, table: str, names: Sequence[str], header: int
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in grid.rows:
        if number <= header or not any(cell.strip() for cell in cells):
            continue
        # What is empty beyond the last column, as from a comma at the end of rows, is no cell.
        many = len(cells) > len(names) and any(map(_clean, cells[len(names) :]))
        if (many or len(cells) < len(names)) and not grid.sheet:
            raise ConfigError(
                f"{table}: row {number}: {len(cells)} cells, the header has {len(names)}."
            )
        yield number, dict(zip(names, cells, strict=False))
