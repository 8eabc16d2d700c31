"""A child process whose decoder misbehaves on chosen inputs, for real: signals, loops, memory.

Usage: python faulty_child.py FAULT PART-OF-INPUT-NAME [MARKER]. With a marker file the fault
happens only once.
"""

import ctypes
import os
import signal
import sys
import time
from collections import deque
from itertools import repeat
from pathlib import Path

from mammoprep import child
from mammoprep.decode import dicom


class PanicException(BaseException):  # as pylibjpeg's Rust code raises it
    """Not an Exception, so that careless code lets it through."""


def _raise(error: BaseException) -> None:
    raise error


def _spin() -> None:
    while True:
        pass


def _deep() -> None:
    _deep()


def _eat() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


FAULTS = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "spin": _spin,
    "spin in c": lambda: deque(repeat(0), maxlen=0),  # never lets another thread run
    "sleep": lambda: time.sleep(3600),
    "eat": _eat,
    "panic": lambda: _raise(PanicException("patient DOE^JANE")),
    "stop": lambda: _raise(StopIteration()),
    "recursion": lambda: _raise(RecursionError()),
    "deep": _deep,
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "sys exit": lambda: sys.exit(0),
    "generator exit": lambda: _raise(GeneratorExit()),
    "memory error": lambda: _raise(MemoryError()),
    "chatter": lambda: os.write(1, b"a decoder that prints to standard output\n" * 1000),
}


def main() -> None:
    """Serve like the real child, but for the chosen inputs."""
    fault, part = sys.argv[1:3]
    marker = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    plain = dicom.open_image

    def open_image(data: bytes, record: object, **options: object) -> object:
        if part in record.input and not (marker and marker.exists()):
            if marker:
                marker.touch()
            FAULTS[fault]()
        return plain(data, record, **options)

    dicom.open_image = open_image
    child.main()


if __name__ == "__main__":
    main()
