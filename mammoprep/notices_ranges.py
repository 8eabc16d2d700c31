"""What a user should hear of pictures that do not use their range, or leave it."""

from collections.abc import Mapping, Sequence
from typing import Any

UNUSED, CLIPPED = "range_unused", "range_clipped"
MOST = 0.5


def lines(rows: Sequence[Mapping[str, Any]], asked: str) -> list[str]:
    """Return the lines about the ranges of a dataset's pictures.

    Args:
        rows: Of samples.parquet.
        asked: Its ``--range``.
    """
    return [*unused_range(rows, asked), *clipped(rows)]


def unused_range(rows: Sequence[Mapping[str, Any]], asked: str) -> list[str]:
    """Return a line when pictures use a small part of their range, with what mends it.

    Args:
        rows: Of samples.parquet; with ``range_unused`` ``acquisition.bits_stored`` is how many bits
            a picture's values need.
        asked: The ``--range`` of the build.
    """
    dark = [row for row in rows if UNUSED in (row["warnings"] or ())]
    bits = [
        row["acquisition.bits_stored"] for row in dark if not row.get("acquisition.transfer_syntax")
    ]
    told = []
    if dicom := len(dark) - len(bits):
        told.append(
            f"{_counted(dicom, len(rows))} DICOM that comes out dark, nearly black or nearly "
            f"white ({UNUSED}): the header states more bits or another window than the values "
            "have. Build with another --window: percentile or CENTER,WIDTH."
        )
    return told + _of_pictures(bits, len(rows), asked)


def _of_pictures(bits: Sequence[int], of_all: int, asked: str) -> list[str]:
    if not bits:
        return []
    low, high = min(bits), max(bits)
    need = f"{high}" if low == high else f"{low} to {high}"
    line = (
        f"{_counted(len(bits), of_all)} dark or nearly black ({UNUSED}): values need {need} "
        "bits and have room for more."
    )
    own = "State each picture's range in a column of the table."
    if asked != "auto":
        return [f"{line} --range {asked} does not fit them. {own}"]
    top = (1 << high) - 1
    more = f" Where pictures differ in depth: {own[0].lower()}{own[1:]}" if low != high else ""
    return [f"{line} If {top} is the largest value there can be, build with --range {top}.{more}"]


def clipped(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line when values of pictures lay outside of the range that was stated."""
    number = sum(CLIPPED in (row["warnings"] or ()) for row in rows)
    if not number:
        return []
    return [
        f"{_counted(number, len(rows))} cut to a range that is too small for them ({CLIPPED}). "
        "Check --range, or the table's column of ranges."
    ]


def _counted(number: int, of_all: int) -> str:
    most = "MOST PICTURES: " if number > MOST * of_all else ""
    return f"{most}{number:,} of {of_all:,} samples {'is' if number == 1 else 'are'}"
