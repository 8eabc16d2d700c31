"""Small frames with known values, and what the decoders on this machine make of them.

The frames are drawn and compressed by other programs (``tests/mammoprep/decode/write_samples.py``);
``samples.json`` holds their format and the SHA-256 of their stored values as int32, little endian.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.decode import openjpeg
from mammoprep.decode import partial as parts
from mammoprep.decode._codestream import read_codestream
from mammoprep.decode._decoders import DECODE_ERRORS, Decoder
from mammoprep.decode._facts import PixelFormat
from mammoprep.decode.codecs import DECODERS, Frame, settle, words_by

EXACT, REFUSED, WRONG = "exact", "refused", "wrong"
Read = Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """One thing to read, and what it holds.

    Attributes:
        syntax: UID of the transfer syntax; empty where the case is of none.
        name: Name of the frame.
        read: Reads it.
        expected: SHA-256 of its values as int32, little endian.
    """

    syntax: str
    name: str
    read: Read
    expected: str

    def outcome(self) -> tuple[str, str]:
        """Return ``exact``, ``refused`` (an error) or ``wrong`` (other values), and the error."""
        try:
            values = self.read()
        except RecordError as error:
            return REFUSED, error.detail
        except DECODE_ERRORS as error:
            return REFUSED, type(error).__name__
        return (EXACT, "") if digest(values) == self.expected else (WRONG, "other values")


def digest(values: NDArray[Any]) -> str:
    """Return the hash of whole numbers, whatever their type."""
    return sha256(values.astype("<i4").tobytes()).hexdigest()


@dataclass(frozen=True)
class _Sample:
    name: str
    syntaxes: tuple[str, ...]
    entry: dict[str, Any]

    def frame(self, syntax: str) -> Frame:
        """Return the frame as one of a syntax."""
        data = (_folder() / f"{self.name}.bin").read_bytes()
        found, entry = read_codestream(data), self.entry
        pixels = PixelFormat(
            transfer_syntax=syntax,
            rows=entry["rows"],
            columns=entry["columns"],
            samples=1,
            photometric="MONOCHROME2",
            bits_allocated=entry["bits_allocated"],
            bits_stored=entry["bits_stored"],
            high_bit=entry["bits_stored"] - 1,
            signed=entry["signed"],
            overlay_bits=0,
            word_vr=None,
        )
        return Frame(data, pixels, None if found is None else found.precision)


def cases_of(decoder: Decoder) -> list[Case]:
    """Return every frame of every syntax in whose row a decoder stands."""
    return [
        Case(
            syntax,
            sample.name,
            partial(_stored_by, decoder, sample, syntax),
            sample.entry["sha256"],
        )
        for syntax, row in DECODERS.items()
        if decoder in row
        for sample in _samples()
        if syntax in sample.syntaxes
    ]


def _stored_by(decoder: Decoder, sample: _Sample, syntax: str) -> NDArray[Any]:
    frame = sample.frame(syntax)
    return settle(words_by(decoder, frame), decoder.label, frame).stored


def part_readers() -> dict[str, Callable[..., NDArray[Any]]]:
    """Return name -> function of what can read parts of JPEG 2000; the one in use first."""
    pillow = {f"pillow {PIL.__version__}": parts.by_pillow}
    if openjpeg.library() is None:
        return pillow
    return {f"openjpeg {openjpeg.version()}": parts.by_openjpeg, **pillow}


def cases_of_parts(read: Callable[..., NDArray[Any]]) -> list[Case]:
    """Return regions and lower resolutions of the JPEG 2000 frames, for one of ``part_readers``."""
    return [
        Case(
            "",
            f"{sample.name}, level {part['level']}, rows {part['rows']}, columns {part['columns']}",
            partial(_part_by, read, sample, part),
            part["sha256"],
        )
        for sample in _samples()
        for part in sample.entry["parts"]
    ]


def _part_by(
    read: Callable[..., NDArray[Any]], sample: _Sample, part: dict[str, Any]
) -> NDArray[Any]:
    frame = sample.frame(sample.syntaxes[0])
    words = read(frame, part["level"], tuple(part["rows"]), tuple(part["columns"]))
    # The wavelet overshoots; a build cuts that too.
    cut: NDArray[Any] = np.minimum(words, (1 << (frame.pixels.bits_stored or 0)) - 1)
    return cut


def _folder() -> Any:
    return files("mammoprep.decode") / "samples"


@cache
def _samples() -> tuple[_Sample, ...]:
    entries = json.loads((_folder() / "samples.json").read_text(encoding="utf-8"))
    return tuple(_Sample(entry["name"], tuple(entry["syntaxes"]), entry) for entry in entries)
