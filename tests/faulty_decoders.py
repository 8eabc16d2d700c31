"""A child process, of a build or of ``mammoprep doctor``, in which libraries misbehave.

Usage: python faulty_decoders.py child|doctor FUNCTION=FAULT,... [NUMBER]. A function is one of
imagecodecs', ``parts`` (OpenJPEG's way to parts) or ``rle``; a fault is ``off`` (the
lowest bit of every value is another), ``refuses`` or ``dies``.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np

from mammoprep import child, doctor
from mammoprep.decode import _decoders, openjpeg


def faulty(function: Callable[..., Any], fault: str) -> Callable[..., Any]:
    """Return a function with a fault."""

    def called(*arguments: Any, **options: Any) -> Any:
        if fault == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "refuses":
            raise ValueError("planted")
        found = function(*arguments, **options)
        if isinstance(found, np.ndarray):
            return found ^ 1
        return bytes(byte ^ 1 for byte in found)

    return called


PLACES = {
    "parts": (openjpeg, "decode"),
    "rle": (_decoders, "decode_pixel_data"),
}


def main() -> None:
    """Plant the faults and serve."""
    program, faults, *number = sys.argv[1:]
    for name, fault in (item.split("=") for item in faults.split(",")):
        place, function = PLACES.get(name, (imagecodecs, name))
        setattr(place, function, faulty(getattr(place, function), fault))
    if program == "child":
        child.main()
    else:
        doctor.serve(int(number[0]), sys.stdout)


if __name__ == "__main__":
    main()
