"""Tables as rows with their numbers; a table is data, and every mistake in it has a place."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence

from python_calamine import CalamineError, CalamineWorkbook

from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.schema import Record, Scalar
from mammoprep.core.tree import TABLE_LIMIT, Tree

SHOWN_ERRORS = 5
INFLATED_LIMIT = 1 << 29

Row = Mapping[str, str]


def folder_of(tree: Tree, *tables: str) -> str | None:
    """Return the folder that holds any of a dataset's tables: ``""`` for the root, or None."""
    for folder in ("", *tree.folders()):
        prefix = f"{folder}/" if folder else ""
        if any(tree.exists(prefix + table) for table in tables):
            return folder
    return None


def csv_rows(
    tree: Tree, table: str, columns: Sequence[str], separator: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column) of a CSV; line 1 is the header.

    Args:
        tree: The dataset's folder.
        table: Path of the file.
        columns: Those that must be there; others are read too.
        separator: Between two cells.

    Raises:
        ConfigError: unreadable, not UTF-8, not valid CSV, a column is missing or twice, or a row
            has another number of cells.
    """
    try:
        text = read_table(tree, table).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{table} is not UTF-8 text: byte {error.start}.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        header = next(reader, [])
        _check_header(header, table, columns, separator)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ConfigError(
                    f"{table}: row {reader.line_num}: {len(cells)} cells, "
                    f"the header has {len(header)}."
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise ConfigError(f"{table}: row {reader.line_num}: not valid CSV ({error}).") from None


def xlsx_rows(
    tree: Tree, table: str, columns: Sequence[str], sheet: int = 0
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number, cells by column) of an Excel sheet; row 1 is the header.

    Numbers become text as a spreadsheet shows them (``66.0`` is ``66``), empty cells ``""``.

    Args:
        tree: The dataset's folder.
        table: Path of the file.
        columns: Those that must be there; others are read too.
        sheet: Which sheet, from 0.

    Raises:
        ConfigError: unreadable, inflates to more than 512 MiB, or a column is missing or twice.
    """
    rows = _sheet(read_table(tree, table), table, sheet)
    header = [_text(cell) for cell in rows[0]] if rows else []
    _check_header(header, table, columns, ",")
    for number, cells in enumerate(rows[1:], 2):
        if any(cell != "" for cell in cells):
            yield number, dict(zip(header, (_text(cell) for cell in cells), strict=False))


def read_table(tree: Tree, table: str) -> bytes:
    """Return a table's bytes.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return tree.read(table, TABLE_LIMIT)
    except RecordError as error:
        raise ConfigError(f"{table} cannot be read: {error}.") from None


def _sheet(data: bytes, table: str, sheet: int) -> Sequence[Sequence[object]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as parts:
            if sum(part.file_size for part in parts.infolist()) > INFLATED_LIMIT:
                raise ConfigError(f"{table} inflates to more than {INFLATED_LIMIT >> 20} MiB.")
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        return book.get_sheet_by_index(sheet).to_python(skip_empty_area=False)
    except (CalamineError, zipfile.BadZipFile, ValueError, OSError) as error:
        raise ConfigError(f"{table} is no readable Excel file ({type(error).__name__}).") from None


def _text(cell: object) -> str:
    whole = isinstance(cell, float) and cell.is_integer()
    return str(int(cell)) if whole else str(cell).strip()  # type: ignore[call-overload]


def _check_header(header: list[str], table: str, columns: Sequence[str], separator: str) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        named = {",": "comma", ";": "semicolon"}.get(separator, repr(separator))
        hint = f" Is the separator a {named}?" if len(header) == 1 else ""
        raise ConfigError(
            f"{table}: row 1: missing column {', '.join(missing)}. "
            f"Found {len(header)}: {', '.join(header)[:300] or 'nothing'}.{hint}"
        )
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise ConfigError(f"{table}: row 1: column {repeated[0]} occurs twice.")


def records(
    table: str,
    rows: Iterator[tuple[int, dict[str, str]]],
    make: Callable[[dict[str, str]], Record | None],
) -> list[Record]:
    """Return the record of every row; ``make`` raises ValueError that says what was expected.

    Raises:
        ConfigError: with the first five rows that are wrong; two rows with one key; or no rows.
    """
    found: list[Record] = []
    errors: list[str] = []
    first: dict[str, int] = {}
    for number, row in rows:
        try:
            record = make(row)
        except ValueError as error:
            errors.append(f"row {number}: {error}")
            continue
        if record is None:
            continue
        earlier = first.setdefault(record.key, number)
        if earlier != number:
            errors.append(f"row {number}: the same image is in row {earlier}")
        found.append(record)
    refuse(table, errors)
    if not found:
        raise ConfigError(f"{table} has a header but no rows.")
    return found


def refuse(table: str, errors: Sequence[str]) -> None:
    """Raise ConfigError with the first five of ``errors``, if there are any."""
    if errors:
        more = f" (and {len(errors) - SHOWN_ERRORS} more)" if len(errors) > SHOWN_ERRORS else ""
        raise ConfigError(f"{table}: {'; '.join(errors[:SHOWN_ERRORS])}{more}.")


def value(row: Row, column: str, parse: Callable[[str], Scalar], empty: str = "") -> Scalar:
    """Return a cell's typed value, or None when it is empty, ``nan`` or ``empty``.

    Raises:
        ValueError: with the column, what was expected (the text of ``parse``'s own) and what was
            found.
    """
    text = row[column].strip()
    if text.lower() in ("", "nan", empty):
        return None
    try:
        return parse(text)
    except ValueError as expected:
        raise ValueError(f"{column} must be {expected}, got {text[:40]!r}") from None


def one_of(names: Mapping[str, Scalar]) -> Callable[[str], Scalar]:
    """Return a parser of texts that stand for values."""

    def parse(text: str) -> Scalar:
        if text not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return names[text]

    return parse
