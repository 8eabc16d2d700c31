"""A JPEG Lossless encoder (ISO/IEC 10918-1 annex H) that offers what others do not.

Slow and plain, and it shares no code with any decoder: every predictor, point transform and restart
interval at every precision, with one fixed Huffman table of 5-bit codes.
"""

import struct

import numpy as np

_MODULUS = 1 << 16


def encode(
    words: np.ndarray, bits: int, *, predictor: int = 1, transform: int = 0, restart: int = 0
) -> bytes:
    """Return one frame.

    Args:
        words: (rows, columns), values below ``2**bits``.
        bits: Precision, 2 to 16.
        predictor: Selection value, 1 to 7.
        transform: Point transform: so many low bits are not coded, and read as 0.
        restart: Rows of a restart interval; 0 for none.
    """
    rows, columns = words.shape
    values = (words.astype(int) >> transform).tolist()
    parts, coded = [], []
    for y in range(rows):
        fresh = y == 0 or (restart > 0 and y % restart == 0)
        if fresh and y:
            parts += [_packed(coded), bytes([0xFF, 0xD0 + (y // restart - 1) % 8])]
            coded = []
        for x in range(columns):
            guess = _guess(values, y, x, predictor, fresh)
            start = 1 << (bits - transform - 1)
            coded.append(_code(values[y][x] - (start if guess is None else guess)))
    parts.append(_packed(coded))
    header = _segment(0xC3, struct.pack(">BHHB3B", bits, rows, columns, 1, 1, 0x11, 0))
    header += _segment(0xC4, bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)]))
    if restart:
        header += _segment(0xDD, struct.pack(">H", restart * columns))
    header += _segment(0xDA, bytes([1, 1, 0, predictor, 0, transform]))
    return b"\xff\xd8" + header + b"".join(parts) + b"\xff\xd9"


def _guess(values: list[list[int]], y: int, x: int, predictor: int, fresh: bool) -> int | None:
    """Return the prediction (table H.1); None for the first sample after a start."""
    if fresh:
        return values[y][x - 1] if x else None
    above = values[y - 1][x]
    if x == 0:
        return above
    left, corner = values[y][x - 1], values[y - 1][x - 1]
    return (
        left,
        above,
        corner,
        left + above - corner,
        left + ((above - corner) >> 1),
        above + ((left - corner) >> 1),
        (left + above) >> 1,
    )[predictor - 1]


def _code(difference: int) -> str:
    """Return the code of a difference modulo 2**16: its category, then its bits (H.1.2.2)."""
    away = (difference + _MODULUS // 2) % _MODULUS - _MODULUS // 2
    if away == -_MODULUS // 2:
        return f"{16:05b}"
    category = abs(away).bit_length()
    if not category:
        return f"{0:05b}"
    return f"{category:05b}{away if away > 0 else away + (1 << category) - 1:0{category}b}"


def _packed(coded: list[str]) -> bytes:
    text = "".join(coded)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
