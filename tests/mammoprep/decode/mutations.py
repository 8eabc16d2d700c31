"""Decodes damaged files one after the other; run as a program, because a decoder may die of one.

Prints one JSON object: how many files ended how, and the seeds of those that ended badly.
"""

import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product

import imagecodecs
from dicoms import JPEG2000, JPEG2000_LOSSY, RECORD, breast, dicom, lut

from mammoprep.core.errors import RecordError
from mammoprep.decode import codecs
from mammoprep.decode.dicom import read_image

SLOWEST_S = 10.0
MOST_CHANGES = 32
SHAPE = (80, 72)
PREAMBLE = 132  # damage in the preamble and the magic word is no damage
# Lengths, counts and sizes break parsers at these values more often than at others.
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds() -> list[bytes]:
    """Return small files of every syntax, with tables, windows, padding and a sequence."""
    found = []
    for syntax, deep in product(sorted(codecs.DECODERS), (12, 16)):
        bits = {".4.50": 8, ".4.51": 12}.get(syntax[-5:], deep)
        found.append(_seed(syntax, bits))
    boxed = imagecodecs.jpeg2k_encode(
        breast(8, shape=SHAPE).astype("u2"), level=0, codecformat="jp2", bitspersample=12
    )
    # Large enough to be decoded in parts.
    large = breast(12, shape=(700, 400))
    return [*found, _seed(JPEG2000, 12, boxed), dicom(large, 12, syntax=JPEG2000_LOSSY)]


def _seed(syntax: str, bits: int, frame: bytes | None = None) -> bytes:
    """Return a file with windows, or with 12 bits a small table that covers its values."""
    tabled = bits == 12
    words = breast(8, shape=SHAPE).astype("u2") if tabled else breast(bits, shape=SHAPE)
    middle = 1 << (bits - 1)
    return dicom(
        words,
        bits,
        syntax=syntax,
        frame=frame,
        WindowCenter=[middle, 200],
        WindowWidth=[2 * middle, 250],
        VOILUTFunction="SIGMOID",
        **({"VOILUTSequence": [lut(range(256), 0, 8)]} if tabled else {}),
        PixelPaddingValue=0,
        PixelPaddingRangeLimit=3,
        ImagerPixelSpacing=[0.1, 0.1],
    )


def damaged(count: int, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield (number, file), each a pure function of its number; see ``damage``."""
    files = seeds()
    for number in range(start, start + count):
        yield number, damage(files[number % len(files)], number // len(files), number)


def damage(content: bytes, turn: int, number: int) -> bytes:
    """Return a file with 1 to 32 places changed; one in ten is also cut, spread or shortened.

    Args:
        content: A good file.
        turn: 0, 1, 2 for damage anywhere, in the header, in the pixel data, and so on in turns.
        number: Which of the many.
    """
    draw, data = random.Random(number), bytearray(content)
    pixels = content.find(b"\xe0\x7f\x10\x00")
    pixels = 400 if pixels < 0 else pixels  # deflated
    begin, end = ((PREAMBLE, len(data)), (350, pixels + 12), (pixels, len(data)))[turn % 3]
    if turn % 3 == 2 and draw.random() < 0.5:
        end = min(end, begin + 400)  # the headers of the codestream and its offset table
    # As many files with few changes as with many: a file with many never gets far.
    for _ in range(round(MOST_CHANGES ** draw.random())):
        _change(data, draw.randrange(begin, end), draw)
    if draw.random() < 0.1:
        at, length = draw.randrange(begin, end), draw.randrange(1, 64)
        cut, spread, shorten = (
            data[:at],
            data[:at] + data[at - length :],
            data[:at] + data[at + length :],
        )
        data = draw.choice((cut, spread, shorten))
    return bytes(data)


def _change(data: bytearray, at: int, draw: random.Random) -> None:
    """Set a byte, flip a bit, or write a number at the edge of its range in either byte order."""
    kind = draw.random()
    if kind < 0.5:
        data[at] = draw.randrange(256)
    elif kind < 0.75:
        data[at] ^= 1 << draw.randrange(8)
    else:
        width, order = draw.choice((2, 4)), draw.choice(("little", "big"))
        value = draw.choice(EDGES) & ((1 << 8 * width) - 1)
        data[at : at + width] = value.to_bytes(width, order)[: len(data) - at]


def outcome(data: bytes) -> str:
    """Return how one file ended."""
    try:
        read_image(data, RECORD)
    except RecordError as error:
        return error.code
    except Exception as error:  # noqa: BLE001 - every kind is counted
        return f"BAD {type(error).__name__}"
    except BaseException as error:  # noqa: BLE001 - decoders raise PanicException
        return f"base {type(error).__name__}"
    return "built"


def main() -> None:
    """Decode ``count`` files from number ``start`` on."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    count, start = map(int, sys.argv[1:3])
    ended: Counter[str] = Counter()
    bad = []
    for number, data in damaged(count, start):
        began = time.process_time()
        found = outcome(data)
        if time.process_time() - began > SLOWEST_S:
            found = "BAD slow"
        ended[found] += 1
        if found.startswith("BAD"):
            bad.append((number, found))
    sys.stdout.write(json.dumps({"ended": ended, "bad": bad}))


if __name__ == "__main__":
    main()
