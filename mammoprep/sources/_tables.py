"""Tables as rows with their numbers; a table is data, and every mistake in it has a place."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from mammoprep.core.cells import cell_text, check_header, decoded, read_table, sheet_rows, workbook
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import KEY_LIMIT, Record, Scalar, make_key
from mammoprep.core.tree import Tree

SHOWN_ERRORS = 5

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
        ConfigError: unreadable, no text of an encoding that says itself, not valid CSV, a column is
            missing or twice, or a row has another number of cells.
    """
    text = decoded(read_table(tree, table), table)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        header = next(reader, [])
        check_header(header, f"{table}: row 1", columns, separator)
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
    rows = sheet_rows(workbook(read_table(tree, table), table), table, sheet)
    header = [cell_text(cell) for cell in rows[0]] if rows else []
    check_header(header, f"{table}: row 1", columns, ",")
    for number, cells in enumerate(rows[1:], 2):
        if any(cell != "" for cell in cells):
            yield number, dict(zip(header, map(cell_text, cells), strict=False))


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


class Remarked(list[Record]):
    """Records, and what the user should know about their table.

    Attributes:
        remarks: One line each.
    """

    def __init__(self, records: Iterable[Record], remarks: Sequence[str] = ()) -> None:
        """Remember the remarks."""
        super().__init__(records)
        self.remarks = tuple(remarks)


def distinct(found: Sequence[Record]) -> list[Record]:
    """Return the records with keys of their own: files whose names a key cannot tell apart.

    ``x.png`` and ``x.jpg``, or ``A.png`` and ``a.png``: every one of them gets a hash of its own
    name into its key, so that the order of the rows has no part in it.
    """
    sharing: dict[str, set[str]] = {}
    for record in found:
        sharing.setdefault(record.key, set()).add(record.input)

    def key(record: Record) -> str:
        digest = sha256(record.input.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        source, _, rest = record.key.partition("_")
        return make_key(source, f"{rest[: KEY_LIMIT - len(source) - 10]}-{digest}")

    # A copy of every record would take seconds and a gigabyte where a table has a million rows.
    return [r if len(sharing[r.key]) == 1 else replace(r, key=key(r)) for r in found]


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
