"""Identifiers and labels of a user's own table: one thing has one spelling, or somebody is told.

Where 100 and 100.0 are two patients, one patient stands in training and in test.
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from mammoprep.core.cells import Number, is_shortened
from mammoprep.core.spelling import FLOAT, loose, plain, same, zeroless

_NUMBER = re.compile(r"[+-]?[0-9]{1,40}([.,][0-9]{0,40})?([eE][+-]?[0-9]{1,3})?")
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec|Mrz|Mai|Okt|Dez)"  # English, German
# What Excel shows of 1-2 or MAR1, which it takes for a day, and what others write of such a cell.
_MADE_A_DAY = re.compile(
    rf"[0-9]{{1,2}}(?:-|\. ){_MONTH}(?:-[0-9]{{2,4}})?|{_MONTH}[- ][0-9]{{2}}|.* 00:00:00",
    re.IGNORECASE,
)


@dataclass
class Column:
    """The different texts of a column, and what they are taken for.

    Attributes:
        name: Of the column.
        rows: Text -> the first row that has it.
        numbers: Texts that are numbers of a spreadsheet.
        taken: Text -> what it is taken for.
        errors: What is wrong, with rows.
        remarks: What the user should know.
    """

    name: str
    rows: dict[str, int] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)
    taken: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def where(self, *texts: str) -> str:
        """Return ``'100' (row 2) and '100.0' (row 3)``, in the order of the rows."""
        ordered = sorted(texts, key=lambda text: self.rows[text])
        return " and ".join(f"{text[:40]!r} (row {self.rows[text]})" for text in ordered[:3])


def settle(
    name: str,
    cells: Iterable[tuple[int, str]],
    *,
    named: Sequence[str] = (),
    identifies: bool = True,
) -> Column:
    """Return what each text of a column is taken for.

    A text that nothing else is like stays as it is, so that a table that says everything once is
    read as it always was.

    * The same but for ``.0``, an accent's form or a mark that nobody sees: one thing, as ``named``
      has it, else without these.
    * The same but for leading zeros: two things, and said; but where cells are written as floats,
      zeros were lost, and nobody knows whose: an error.
    * The same number in other ways (1e2, +100), in a column of nothing but numbers: an error; in
      another one two things, and said.
    * The same but for case and blanks: two things, and said.

    Args:
        name: Of the column.
        cells: (row number, text) of every cell that is not empty, without blanks at its ends.
        named: Texts as the user spells them in options.
        identifies: Whether the texts tell people or studies apart, so that digits must not be lost.
    """
    column = Column(name)
    for number, text in cells:
        column.rows.setdefault(str(text), number)
        if isinstance(text, Number):
            column.numbers.add(str(text))
    if identifies:
        _check_digits(column)
    _unite(column, {same(text): text for text in reversed(named)})
    _tell_numbers(column)
    _tell_zeros(column)
    _tell_case(column)
    _tell_days(column, named)
    return column


def _check_digits(column: Column) -> None:
    """Find numbers of which a spreadsheet has dropped digits: two people may have become one."""
    for text, row in column.rows.items():
        if is_shortened(Number(text) if text in column.numbers else plain(text)):
            column.errors.append(
                f"row {row}: {column.name} is a number that a spreadsheet has shortened, "
                f"{text[:40]!r}; write the column as text, with all digits"
            )


def _unite(column: Column, named: Mapping[str, str]) -> None:
    groups: dict[str, list[str]] = {}
    for text in column.rows:
        groups.setdefault(same(text), []).append(text)
    mixed = [texts for texts in groups.values() if len(texts) > 1]
    for form, texts in groups.items():
        chosen = named.get(form, form if len(texts) > 1 else texts[0])
        column.taken |= dict.fromkeys(texts, chosen)
    if mixed:
        column.remarks.append(
            f"column {column.name}: {len(mixed):,} written in two ways, each taken as one, such as "
            f"{column.where(*mixed[0])}."
        )


def _alike(column: Column, form: Mapping[str, Hashable]) -> list[list[str]]:
    """Return the texts, one a thing, that have the same form; ``form`` has those to be compared."""
    first: dict[str, str] = {}
    for text in column.rows:
        first.setdefault(column.taken[text], text)
    groups: dict[Hashable, list[str]] = {}
    for text in first.values():
        if text in form:
            groups.setdefault(form[text], []).append(text)
    return [texts for texts in groups.values() if len(texts) > 1]


def _tell_numbers(column: Column) -> None:
    numbers = [text for text in column.rows if _NUMBER.fullmatch(plain(text))]
    values = {text: Decimal(plain(text).replace(",", ".")) for text in numbers}
    for texts in _alike(column, values):
        if len({zeroless(same(text)) for text in texts}) == 1:
            continue
        where = f"{column.where(*texts)} are one number written in two ways"
        if len(numbers) == len(column.rows):
            column.errors.append(f"{column.name}: {where}; write it in one")
        else:  # among names 1e2 may be a name too
            column.remarks.append(f"column {column.name}: {where}; they are taken as different.")


def _tell_zeros(column: Column) -> None:
    groups = _alike(column, {text: zeroless(same(text)) for text in column.rows})
    if column.numbers or any(FLOAT.fullmatch(plain(text)) for text in column.rows):
        for texts in groups:
            column.errors.append(
                f"{column.name}: {column.where(*texts)} differ in leading zeros, and other cells "
                "show that a program has read the column as numbers, which drops them; write the "
                "column as text"
            )
    elif groups:
        column.remarks.append(
            f"column {column.name}: {column.where(*groups[0])} differ in leading zeros only; they "
            f"are taken as different{_more(groups)}."
        )


def _tell_case(column: Column) -> None:
    groups = _alike(column, {text: loose(text) for text in column.rows})
    if groups:
        column.remarks.append(
            f"column {column.name}: {column.where(*groups[0])} differ in case or blanks only; they "
            f"are taken as different{_more(groups)}. Write them alike if they are one."
        )


def _tell_days(column: Column, named: Sequence[str]) -> None:
    texts = [text for text in column.rows if text not in named and _MADE_A_DAY.fullmatch(text)]
    if texts:
        column.remarks.append(
            f"column {column.name}: {column.where(*texts)} may be what a spreadsheet has made of "
            "texts such as MAR1 or 1-2. If so, format the column as text and write it anew."
        )


def _more(groups: Sequence[object]) -> str:
    return f", and so are {len(groups) - 1:,} more" if len(groups) > 1 else ""
