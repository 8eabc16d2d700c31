"""TFRecord files of ``tf.train.Example``, read where they lie: everything but the long values.

A record is a length (8 bytes, little endian), the masked CRC-32C of those, the message, and the
masked CRC-32C of the message; the message is a protocol buffer. The last checksum is not compared,
because that would mean to read every pixel.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from mammoprep.core import crc32c
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.parts import Part
from mammoprep.core.tree import Tree

HEAD = struct.Struct("<QI")
TAIL = 4
LARGEST = 1 << 20  # bytes of one record; those of the set have 90 KB
MOST_FIELDS = 64  # of one message
SHORT = 1024  # bytes up to which a value is read
WINDOW = 512

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
FIXED = {FIXED64: 8, FIXED32: 4}
# tf.train: Example.features, Features.feature, its key and value, Feature.bytes_list, .int64_list,
# and the values of both lists.
FEATURES, FEATURE, KEY, VALUE, BYTES, INTEGERS, ITEM = 1, 1, 1, 2, 1, 3, 1

Span = tuple[int, int]


@dataclass
class Example:
    """One record.

    Attributes:
        number: Its place in the file, from 0.
        integers: Name -> value of every feature that is one number.
        texts: Name -> bytes of every feature that is one short value.
        parts: Name -> where the bytes of every feature that is one value lie in the file.
    """

    number: int
    integers: dict[str, int] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)


def examples(tree: Tree, file: str) -> Iterator[Example]:
    """Yield the records of a file in their order.

    Raises:
        ConfigError: the file is damaged, with the number of the record; or it lies compressed in a
            zip file.
    """
    size = tree.stamp(file)[0]
    start = number = 0
    while start < size:
        try:
            body, end = _frame(tree, file, start, size)
            example = _Message(tree, file, end).example(body, number)
        except (ValueError, RecordError) as error:
            raise ConfigError(
                f"{file}: record {number} (byte {start}): {error}. Was the download complete?"
            ) from None
        yield example
        start, number = end + TAIL, number + 1


def _frame(tree: Tree, file: str, start: int, size: int) -> Span:
    """Return where a record's message begins and ends."""
    if size - start < HEAD.size + TAIL:
        raise ValueError(f"{size - start} bytes are left, a record has at least 16")
    head = tree.read_part(Part(file, start, HEAD.size))
    length, checksum = HEAD.unpack(head)
    if crc32c.masked(head[:8]) != checksum:
        raise ValueError("the checksum of its length is wrong")
    body = start + HEAD.size
    if length > LARGEST or body + length + TAIL > size:
        raise ValueError(f"{length} bytes long, {size - body} are left and {LARGEST} allowed")
    return body, body + length


class _Message:
    """One record's message; only the bytes beside the long values are read."""

    def __init__(self, tree: Tree, file: str, end: int) -> None:
        self.tree, self.file, self.end = tree, file, end
        self.at, self.window = 0, b""

    def example(self, start: int, number: int) -> Example:
        """Return what the message says."""
        found = Example(number)
        for features in self._spans(start, self.end, FEATURES):
            for entry in self._spans(*features, FEATURE):
                self._feature(entry, found)
        return found

    def _feature(self, entry: Span, found: Example) -> None:
        keys, values = ([*self._spans(*entry, which)] for which in (KEY, VALUE))
        if len(keys) != 1 or len(values) != 1:
            raise ValueError("a feature without one name and one value")
        name = self._bytes(*keys[0]).decode("ascii", errors="replace")
        if name in found.integers or name in found.parts:
            raise ValueError("two features of one name")
        for kind, start, end in self._fields(*values[0]):
            if kind == BYTES:
                items = self._spans(start, end, ITEM)
                self._value(name, items, found)
            elif kind == INTEGERS:
                numbers = [*self._integers(start, end)]
                if len(numbers) == 1:
                    found.integers[name] = numbers[0]

    def _value(self, name: str, items: Iterator[Span], found: Example) -> None:
        spans = [*items]
        if len(spans) != 1:
            return
        start, end = spans[0]
        found.parts[name] = Part(self.file, start, end - start)
        if end - start <= SHORT:
            found.texts[name] = self._bytes(start, end)

    def _integers(self, start: int, end: int) -> Iterator[int]:
        """Yield the numbers of a list, which may be packed into one value or not."""
        for which, first, last in self._fields(start, end, both=True):
            if which == ITEM:
                at = first
                while at < last:
                    value, at = self._varint(at, last)
                    yield value

    def _spans(self, start: int, end: int, which: int) -> Iterator[Span]:
        return ((a, b) for found, a, b in self._fields(start, end) if found == which)

    def _fields(
        self, start: int, end: int, *, both: bool = False
    ) -> Iterator[tuple[int, int, int]]:
        """Yield (number, start, end) of a message's delimited fields; ``both``: and of varints."""
        at = start
        for _ in range(MOST_FIELDS):
            if at >= end:
                return
            tag, at = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            first, last = self._extent(kind, at, end)
            if kind == DELIMITED or (both and kind == VARINT):
                yield number, first, last
            at = last
        if at < end:
            raise ValueError(f"more than {MOST_FIELDS} fields")

    def _extent(self, kind: int, at: int, end: int) -> Span:
        """Return where a field's value begins and ends."""
        first = at
        if kind == VARINT:
            last = self._varint(at, end)[1]
        elif kind == DELIMITED:
            length, first = self._varint(at, end)
            last = first + length
        elif kind in FIXED:
            last = at + FIXED[kind]
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if last > end:
            raise ValueError(f"a field is {last - end} bytes too long")
        return first, last

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for place in range(10):
            if at >= end:
                raise ValueError("a number is cut off")
            byte = self._byte(at)
            at += 1
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value, at
        raise ValueError("a number of more than 10 bytes")

    def _byte(self, at: int) -> int:
        if not self.at <= at < self.at + len(self.window):
            length = min(WINDOW, self.end - at)
            self.at, self.window = at, self.tree.read_part(Part(self.file, at, length))
        return self.window[at - self.at]

    def _bytes(self, start: int, end: int) -> bytes:
        if end - start > SHORT:
            raise ValueError(f"a name of {end - start} bytes")
        return self.tree.read_part(Part(self.file, start, end - start))
