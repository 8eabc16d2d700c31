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

from dicoms import RECORD, breast, dicom, lut

from mammoprep.core.errors import RecordError
from mammoprep.decode import codecs
from mammoprep.decode.dicom import read_image

SLOWEST_S = 10.0


def seeds() -> list[bytes]:
    """Return one small file of every syntax, with tables, windows, padding and a sequence."""
    found = []
    for syntax, deep in product(sorted(codecs.DECODERS), (12, 16)):
        bits = {".4.50": 8, ".4.51": 12}.get(syntax[-5:], deep)
        found.append(
            dicom(
                breast(bits, shape=(80, 72)),
                bits,
                syntax=syntax,
                WindowCenter=[100, 200],
                WindowWidth=[150, 250],
                VOILUTFunction="SIGMOID",
                VOILUTSequence=[lut(range(256), 0, 8)],
                PixelPaddingValue=0,
                PixelPaddingRangeLimit=3,
                ImagerPixelSpacing=[0.1, 0.1],
            )
        )
    return found


def damaged(count: int, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield (number, file) with 1 to 32 bytes changed after the preamble; one in five is cut."""
    files = seeds()
    for number in range(start, start + count):
        draw = random.Random(number)
        data = bytearray(files[number % len(files)])
        pixels = data.index(b"\xe0\x7f\x10\x00") if b"\xe0\x7f\x10\x00" in data else 400
        # A third of the files keep their meta information, a third their whole header.
        begin = (128, 350, pixels)[number // len(files) % 3]
        for _ in range(draw.randint(1, 32)):
            end = len(data) if draw.random() < 0.5 else min(len(data), begin + 1000)
            data[draw.randrange(begin, end)] = draw.randrange(256)
        if draw.random() < 0.2:
            data = data[: draw.randrange(1, len(data))]
        yield number, bytes(data)


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
