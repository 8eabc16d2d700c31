"""Texts of unknown origin, made fit to be shown."""

import unicodedata

TEXT_LIMIT = 2000
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Return ``text`` with invisible characters written out, cut at ``TEXT_LIMIT`` characters.

    Control characters, lone surrogates, line separators and the marks that reverse the reading
    direction become ``\u`` and four or more hexadecimal digits: a name must not hide what it says,
    and the document must always be encodable as UTF-8.
    """
    shown = text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
    if shown.isprintable():
        return shown
    return "".join(
        f"\\u{ord(mark):04x}" if unicodedata.category(mark) in _INVISIBLE else mark
        for mark in shown
    )


def by(rows: int, columns: int) -> str:
    """Return a size in pixels as people and ``--size`` say it: width x height, ``728x1456``."""
    return f"{columns}x{rows}"
