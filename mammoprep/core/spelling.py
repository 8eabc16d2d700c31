"""One thing written in two ways: ``100`` and ``100.0``, an accent in two forms, a hidden mark."""

import re
import unicodedata

# What a program leaves behind that took a column of whole numbers for floats, because a cell was
# empty or a spreadsheet had it so: 100.0, in German 100,0. More zeros after a comma are thousands.
FLOAT = re.compile(r"(-?[0-9]+)(?:\.0*|,0{1,2})")
_DIGITS = re.compile(r"0*([0-9]+)")


def plain(text: str) -> str:
    """Return a text in NFC, without marks that nobody sees, with single blanks in it alone."""
    if not text.isascii():
        text = "".join(mark for mark in text if unicodedata.category(mark) != "Cf")
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())


def same(text: str) -> str:
    """Return what is equal for texts that are surely the same: ``plain``, a number without ``.0``.

    Leading zeros stay, because 017 and 17 may be two patients.
    """
    whole = plain(text)
    number = FLOAT.fullmatch(whole)
    return whole if number is None else number[1]


def zeroless(text: str) -> str:
    """Return digits without leading zeros, of a text that ``same`` returned; others as they are."""
    digits = _DIGITS.fullmatch(text)
    return text if digits is None else digits[1]


def loose(text: str) -> str:
    """Return what is equal for texts that are perhaps the same: ``P 1`` and ``p1``."""
    return "".join(unicodedata.normalize("NFKC", same(text)).casefold().split())
