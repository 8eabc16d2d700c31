"""Cells of a table of samples as plain values: what is absent, NaN or odd becomes "unknown"."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]


def number(value: Any) -> float | None:
    """Return a finite number as float; None for anything else, booleans included."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return None
    if isinstance(value, int) and value.bit_length() > 64:
        return None
    return float(value) if math.isfinite(value) else None


def text(value: Any) -> str:
    """Return a cell as text: nothing for None and NaN, no ``.0`` behind a whole number."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    plain = number(value)
    if plain is not None and plain.is_integer():
        return str(int(value))
    return str(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return ``value`` when it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """Return lists, tuples and arrays as they are, a text as one item, anything else as nothing."""
    if isinstance(value, str):
        return (value,) if value else ()
    if isinstance(value, np.ndarray):
        return list(value)
    return value if isinstance(value, list | tuple) else ()


def compact(value: Any) -> str:
    """Return a setting as one line: a text as it is, other values as JSON with sorted names."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def flowing(text: str) -> str:
    """Return text without line breaks: every run of white space becomes one space."""
    return " ".join(text.split())


def paragraphs(value: Any) -> list[str]:
    """Return free text of a card, given as text, list or mapping, as a list of paragraphs.

    A text is divided at its empty lines.
    """
    if isinstance(value, Mapping):
        return [f"{name}: {flowing(compact(item))}" for name, item in sorted(value.items())]
    parts = (part for item in sequence(value) for part in re.split(r"\n\s*\n", compact(item)))
    return [flowing(part) for part in parts if part.strip()]


def warnings_of(row: Row) -> tuple[str, ...]:
    """Return the warning codes of a sample, each once, in the order stored."""
    return tuple(dict.fromkeys(text(code) for code in sequence(row.get("warnings"))))


def label_of(row: Row) -> str:
    """Return the label's name, else its number as text, else an empty text."""
    return text(row.get("label_name")) or text(row.get("label"))


def machine_of(row: Row) -> str:
    """Return what tells machines apart: the number, else the maker, else an empty text."""
    identity = text(row.get("labels.machine_id"))
    return f"machine {identity}" if identity else text(row.get("acquisition.manufacturer"))


def intensity_of(row: Row) -> NDArray[np.float64] | None:
    """Return the 1, 25, 50, 75 and 99 % quantiles, shape (5,), 0-1; None when not all are known."""
    quantiles = [number(value) for value in sequence(row.get("intensity"))]
    if len(quantiles) != 5 or None in quantiles:
        return None
    return np.asarray(quantiles, dtype=np.float64)


def digest(row: Row) -> str:
    """Return the SHA-256 of a sample's key: an order that is stable and means nothing."""
    return sha256(text(row.get("key")).encode("utf-8", "surrogatepass")).hexdigest()


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sorting key under which ``fold2`` comes before ``fold10``."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", name)
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts]
