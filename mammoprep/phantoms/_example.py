"""Records of ``tf.train.Example`` in the frames of TFRecord files."""

import struct
from collections.abc import Mapping

from mammoprep.core import crc32c

_FEATURES, _FEATURE, _KEY, _VALUE, _BYTES, _INTEGERS, _ITEM = 1, 1, 1, 2, 1, 3, 1


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _delimited(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _feature(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return _delimited(_BYTES, _delimited(_ITEM, value))
    return _delimited(_INTEGERS, _delimited(_ITEM, _varint(value)))


def message(features: Mapping[str, int | bytes]) -> bytes:
    """Return an example; numbers must not be negative."""
    entries = (
        _delimited(_KEY, name.encode()) + _delimited(_VALUE, _feature(value))
        for name, value in features.items()
    )
    return _delimited(_FEATURES, b"".join(_delimited(_FEATURE, entry) for entry in entries))


def record(features: Mapping[str, int | bytes]) -> bytes:
    """Return an example as one record of a file: length, content, and a checksum of each."""
    content = message(features)
    length = struct.pack("<Q", len(content))
    checks = (struct.pack("<I", crc32c.masked(part)) for part in (length, content))
    return length + next(checks) + content + next(checks)
