"""CRC-32C (Castagnoli), as TFRecord files keep it; for short texts, a byte at a time."""

_POLYNOMIAL = 0x82F63B78  # reflected
_ALL = 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        found.append(value)
    return tuple(found)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the checksum of ``data``."""
    value = _ALL
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ _ALL


def masked(data: bytes) -> int:
    """Return the checksum of ``data`` turned by 15 bits with a constant added, modulo 2**32."""
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & _ALL
