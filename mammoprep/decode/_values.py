"""Reads single values out of a data set without trusting what the file says about them.

Values come from the undecoded bytes of an element. That avoids pydicom's converters, which raise
many kinds of exceptions, warn with the offending text, and believe the VR.
"""

import logging
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.sequence import Sequence

# What pydicom was seen to raise on damaged files, and what that can be a subclass of.
PYDICOM_ERRORS = (
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_BINARY = frozenset(("US", "SS", "UL", "SL", "OB", "OW", "OL", "UN", "AT", "US or SS"))
_FLOATS = {"FL": "f4", "FD": "f8", "OF": "f4", "OD": "f8"}
_WIDE = frozenset(("UL", "SL", "OL"))
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_BLANKS = " \t\r\n\0"
_MOST_VALUES = 256
_MOST_ITEMS = 64
_MOST_INTEGER = 1 << 53  # float64 holds no larger ones as they are
_UNDEFINED = 0xFFFFFFFF


class Element(NamedTuple):
    """One undecoded element: its VR (None in implicit syntaxes), its bytes and their byte order."""

    vr: str | None
    data: bytes
    little: bool


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings and log lines inside: both quote values of the header."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def element(dataset: Dataset, tag: int) -> Element | None:
    """Return the element's bytes, or None when it is absent, empty or not made of bytes."""
    found = dataset.get_item(tag, keep_deferred=True)
    if found is None:
        return None
    if isinstance(found, RawDataElement):
        value, little = found.value, found.is_little_endian
    else:
        value, little = found.value, True
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")
    if not isinstance(value, bytes) or not value:
        return None
    return Element(found.VR, value, little)


def texts(dataset: Dataset, tag: int) -> tuple[str, ...]:
    """Return the values of a text element, stripped and in upper case; () when there are none."""
    found = element(dataset, tag)
    # UN is how a relay that does not know an attribute passes on its bytes, whatever their type is.
    if found is None or (found.vr in _BINARY and found.vr != "UN") or found.vr in _FLOATS:
        return ()
    # 64 characters is the longest value of the enumerations, codes and numbers read here.
    whole = found.data[: 64 * _MOST_VALUES].decode("ascii", "replace").strip(_BLANKS)
    return tuple(part.strip(_BLANKS).upper() for part in whole.split("\\")) if whole else ()


def text(dataset: Dataset, tag: int) -> str | None:
    """Return the first value of a text element, None when it is empty or absent."""
    return next(iter(texts(dataset, tag)), None) or None


def _parsed(part: str) -> float | None:
    if _NUMBER.fullmatch(part) is None:
        return None
    number = float(part)
    return number if math.isfinite(number) else None


def numbers(dataset: Dataset, tag: int) -> tuple[float | None, ...]:
    """Return decimal values in place; a value that is no finite number is None."""
    found = element(dataset, tag)
    if found is None:
        return ()
    if found.vr in _FLOATS:
        values = _array(found, _FLOATS[found.vr])[:_MOST_VALUES].tolist()
        return tuple(v if math.isfinite(v) else None for v in values)
    if found.vr in _BINARY and found.vr != "UN":
        return tuple(float(v) for v in integers(dataset, tag))
    plain = Element("DS", found.data, found.little)
    whole = plain.data[: 64 * _MOST_VALUES].decode("ascii", "replace").strip(_BLANKS)
    return tuple(_parsed(part.strip(_BLANKS)) for part in whole.split("\\")) if whole else ()


def number(dataset: Dataset, tag: int) -> float | None:
    """Return the first decimal value, None when it is absent or no finite number."""
    return next(iter(numbers(dataset, tag)), None)


def is_garbage(dataset: Dataset, tag: int) -> bool:
    """Return whether an element states something and its first value is no finite number."""
    return numbers(dataset, tag)[:1] == (None,)


def _array(found: Element, kind: str) -> NDArray[Any]:
    dtype = np.dtype(kind).newbyteorder("<" if found.little else ">")
    return np.frombuffer(found.data, dtype, count=len(found.data) // dtype.itemsize)


def integers(dataset: Dataset, tag: int, *, signed: bool = False) -> tuple[int, ...]:
    """Return whole numbers; binary words are read with the sign asked for, whatever the VR says."""
    found = element(dataset, tag)
    if found is None:
        return ()
    if found.vr is None or found.vr in _BINARY:
        size = 4 if found.vr in _WIDE else 2
        return tuple(_array(found, f"{'i' if signed else 'u'}{size}")[:_MOST_VALUES].tolist())
    values = [v for v in numbers(dataset, tag) if v is not None]
    return tuple(int(v) for v in values if v.is_integer() and abs(v) < _MOST_INTEGER)


def integer(dataset: Dataset, tag: int, *, signed: bool = False) -> int | None:
    """Return the first whole number, None when it is absent or garbage."""
    return next(iter(integers(dataset, tag, signed=signed)), None)


def items(dataset: Dataset, tag: int) -> tuple[Dataset, ...]:
    """Return the first items of a sequence; () when it is absent, empty or unreadable."""
    if tag not in dataset:
        return ()
    try:
        with quiet():
            value = dataset[tag].value
            return tuple(value[:_MOST_ITEMS]) if isinstance(value, Sequence) else ()
    except PYDICOM_ERRORS:
        return ()


def is_cut(dataset: Dataset) -> bool:
    """Return whether an element has fewer bytes than its length says."""
    found = (dataset.get_item(tag, keep_deferred=True) for tag in dataset.keys())  # noqa: SIM118
    return any(
        isinstance(e, RawDataElement) and len(e.value or b"") < e.length < _UNDEFINED for e in found
    )


def nesting(dataset: Dataset, limit: int) -> int:
    """Return how deep parsed sequences lie in each other, ``limit + 1`` at most."""
    level, deepest = [dataset], 0
    while level and deepest <= limit:
        level = [item for parent in level for item in _children(parent)]
        deepest += bool(level)
    return deepest


def _children(dataset: Dataset) -> list[Dataset]:
    found = (dataset.get_item(tag, keep_deferred=True) for tag in dataset.keys())  # noqa: SIM118
    sequences = (
        e.value
        for e in found
        if not isinstance(e, RawDataElement) and isinstance(e.value, Sequence)
    )
    return [item for sequence in sequences for item in sequence]
