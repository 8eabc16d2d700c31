"""Writes the sample frames of ``mammoprep doctor`` again; needs DCMTK and pylibjpeg-openjpeg.

    python tests/mammoprep/decode/write_samples.py

The pictures are drawn with integers only. Expected values are those that were drawn; of lossy
frames, those that a program outside the table of decoders reads: DCMTK's own decoder, and the
OpenJPEG that pylibjpeg-openjpeg brings.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import imagecodecs
import lossless_jpeg
import numpy as np
import pydicom
from dicoms import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HTJ2K,
    HTJ2K_LOSSY,
    HTJ2K_RPCL,
    IMPLICIT,
    JPEG,
    JPEG2000,
    JPEG2000_LOSSY,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_LOSSY,
    RLE,
    dicom,
)
from pydicom.encaps import get_frame

FOLDER = Path(__file__).parents[3] / "mammoprep" / "decode" / "samples"
SMALL, LARGE = (13, 11), (27, 23)
LITTLE = (IMPLICIT, EXPLICIT, DEFLATED)
HIGH_THROUGHPUT = (HTJ2K, HTJ2K_RPCL, HTJ2K_LOSSY)


@dataclass(frozen=True)
class Sample:
    """A frame and what it holds."""

    name: str
    syntaxes: tuple[str, ...]
    values: np.ndarray
    bits: int
    data: bytes
    encoder: str
    parts: list[dict[str, Any]] = field(default_factory=list)

    def entry(self) -> dict[str, Any]:
        """Return the line of samples.json."""
        rows, columns = self.values.shape
        return {
            "name": self.name,
            "syntaxes": self.syntaxes,
            "encoder": self.encoder,
            "rows": rows,
            "columns": columns,
            "bits_allocated": 8 * self.values.dtype.itemsize,
            "bits_stored": self.bits,
            "signed": self.values.dtype.kind == "i",
            "sha256": digest(self.values),
            "parts": self.parts,
        }


def digest(values: np.ndarray) -> str:
    """Return the hash of whole numbers, whatever their type."""
    return sha256(values.astype("<i4").tobytes()).hexdigest()


def drawn(bits: int, shape: tuple[int, int] = SMALL, *, signed: bool = False) -> np.ndarray:
    """Return a slope with texture, both ends of the range among its values."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    top = (1 << bits) - 1
    slope = (rows * 5 + columns * 3) * top // (5 * shape[0] + 3 * shape[1])
    values = (slope + (rows * 7919 + columns * 104729) % (top // 16)) % (top + 1)
    values[0, 0], values[-1, -1], values[2, 3:6] = 0, top, (top, 0, top)
    low = 1 << (bits - 1) if signed else 0
    return (values - low).astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")


def pattern(values: np.ndarray, bits: int) -> np.ndarray:
    """Return the stored bits of values with a sign."""
    return (values.view("u2") & ((1 << bits) - 1)).astype("u2")


def dcmtk(tool: str, *options: str) -> Callable[[np.ndarray, int], bytes]:
    """Return a function that compresses with one of DCMTK's programs."""

    def compressed(values: np.ndarray, bits: int) -> bytes:
        file = _through(tool, options, dicom(values, bits))
        return get_frame(file.PixelData, 0, number_of_frames=1)

    return compressed


def _through(tool: str, options: tuple[str, ...], data: bytes) -> pydicom.Dataset:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.dcm"), Path(folder, "out.dcm")
        source.write_bytes(data)
        command: list[Any] = [tool, *options, source, target]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return pydicom.dcmread(target)


def read_by_dcmtk(tool: str, syntax: str, values: np.ndarray, bits: int, frame: bytes) -> Any:
    """Return what DCMTK's own decoder reads."""
    file = _through(tool, (), dicom(values, bits, syntax=syntax, frame=frame))
    return np.frombuffer(file.PixelData, values.dtype, values.size).reshape(values.shape)


def read_by_openjpeg(frame: bytes) -> Any:
    """Return what pylibjpeg-openjpeg reads."""
    import openjpeg

    return openjpeg.decode(frame)


def halved(values: np.ndarray, bits: int) -> np.ndarray:
    """Return the low-pass band of the reversible 5/3 wavelet (ISO/IEC 15444-1 F.4.8.1)."""
    centred = values.astype(np.int64) - (1 << (bits - 1))
    return _low(_low(centred).T).T + (1 << (bits - 1))


def _low(values: np.ndarray) -> np.ndarray:
    even, odd = values[0::2], values[1::2]
    after = np.concatenate([even[1:], even[-1:]])[: len(odd)]
    high = odd - ((even[: len(odd)] + after) >> 1)
    before = np.concatenate([high[:1], high])[: len(even)]
    behind = np.concatenate([high, high[-1:]])[: len(even)]
    return even + ((before + behind + 2) >> 2)


def parts_of(values: np.ndarray, bits: int) -> list[dict[str, Any]]:
    """Return what some parts of a reversible frame hold, at its own size and half of it."""
    found = []
    for level, picture in enumerate((values, halved(values, bits))):
        high, wide = picture.shape
        for rows, columns in (((0, high), (0, wide)), ((high // 3, high - 1), (2, wide - 3))):
            part = np.clip(picture[slice(*rows), slice(*columns)], 0, (1 << bits) - 1)
            found.append({"level": level, "rows": rows, "columns": columns, "sha256": digest(part)})
    return found


def natives() -> Iterator[Sample]:
    for bits, signed in ((8, False), (12, False), (16, False), (16, True)):
        values = drawn(bits, signed=signed)
        sign = "s" if signed else ""
        yield Sample(
            f"little_{bits}{sign}", LITTLE, values, bits,
            values.astype(values.dtype.newbyteorder("<")).tobytes(), "none",
        )  # fmt: skip
        yield Sample(
            f"big_{bits}{sign}", (BIG_ENDIAN,), values, bits,
            values.astype(values.dtype.newbyteorder(">")).tobytes(), "none",
        )  # fmt: skip


LOSSLESS_TOOLS = {
    "rle": ((RLE,), "dcmcrle", ()),
    "jpegll_1": ((JPEG_LOSSLESS, JPEG_LOSSLESS_SV1), "dcmcjpeg", ("+e1",)),
    "jpegll_6": ((JPEG_LOSSLESS,), "dcmcjpeg", ("+el", "+sv", "6")),
    "jpegls": ((JPEG_LS, JPEG_LS_LOSSY), "dcmcjpls", ("+el",)),
}


def lossless_by_dcmtk() -> Iterator[Sample]:
    for name, (syntaxes, tool, options) in LOSSLESS_TOOLS.items():
        for bits in (8, 12, 16):
            values = drawn(bits)
            data = dcmtk(tool, *options)(values, bits)
            yield Sample(f"{name}_{bits}", syntaxes, values, bits, data, f"DCMTK {tool}")
        values = drawn(12, signed=True)
        data = dcmtk(tool, *options)(pattern(values, 12), 12)
        yield Sample(f"{name}_12s", syntaxes, values, 12, data, f"DCMTK {tool}")


def lossy_by_dcmtk() -> Iterator[Sample]:
    for name, syntax, bits, tool, options in (
        ("jpeg", JPEG, 8, "jpeg", ("+eb",)),
        ("jpeg", JPEG_EXTENDED, 12, "jpeg", ("+ee",)),
        ("near", JPEG_LS_LOSSY, 8, "jpls", ("+en", "+md", "2")),
        ("near", JPEG_LS_LOSSY, 12, "jpls", ("+en", "+md", "3")),
    ):
        values = drawn(bits)
        data = dcmtk(f"dcmc{tool}", *options)(values, bits)
        read = read_by_dcmtk(f"dcmd{tool}", syntax, values, bits, data)
        assert np.abs(read.astype(int) - values).max() > 0
        yield Sample(f"{name}_{bits}", (syntax,), read, bits, data, f"DCMTK dcmc{tool}")


def restarted() -> Iterator[Sample]:
    values = drawn(12)
    data = lossless_jpeg.encode(values, 12, predictor=4, restart=3)
    yield Sample("jpegll_restart_12", (JPEG_LOSSLESS,), values, 12, data, "write_samples.py")
    data = lossless_jpeg.encode(values, 12, predictor=1, transform=2)
    kept = (values >> 2) << 2
    both = (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1)
    yield Sample("jpegll_shifted_12", both, kept, 12, data, "write_samples.py")


def wavelets() -> Iterator[Sample]:
    both = (JPEG2000, JPEG2000_LOSSY)
    for name, box, bits, signed in (
        ("raw", "j2k", 8, False), ("raw", "j2k", 12, False), ("raw", "j2k", 16, False),
        ("raw", "j2k", 12, True), ("box", "jp2", 12, False),
    ):  # fmt: skip
        values = drawn(bits, LARGE, signed=signed)
        data = imagecodecs.jpeg2k_encode(
            values, level=0, codecformat=box, bitspersample=bits, reversible=True
        )
        parts = [] if signed else parts_of(values, bits)
        name = f"j2k_{name}_{bits}{'s' if signed else ''}"
        yield Sample(name, both, values, bits, data, "imagecodecs, OpenJPEG", parts)
    for bits, signed in ((8, False), (12, False), (16, False), (16, True)):
        values = drawn(bits, LARGE, signed=signed)
        data = imagecodecs.htj2k_encode(values, reversible=True)
        name = f"ht_{bits}{'s' if signed else ''}"
        yield Sample(name, HIGH_THROUGHPUT, values, bits, data, "imagecodecs, OpenJPH")


def lossy_wavelets() -> Iterator[Sample]:
    values = drawn(12, LARGE)
    data = imagecodecs.jpeg2k_encode(
        values, level=50, codecformat="j2k", bitspersample=12, reversible=False
    )
    read = read_by_openjpeg(data)
    yield Sample("j2k_lossy_12", (JPEG2000_LOSSY,), read, 12, data, "imagecodecs, OpenJPEG")
    values = drawn(8, LARGE)
    data = imagecodecs.htj2k_encode(values, reversible=False, level=0.01)
    yield Sample(
        "ht_lossy_8", (HTJ2K_LOSSY,), read_by_openjpeg(data), 8, data, "imagecodecs, OpenJPH"
    )


def main() -> None:
    """Write every frame and samples.json."""
    makers = natives, lossless_by_dcmtk, lossy_by_dcmtk, restarted, wavelets, lossy_wavelets
    entries = []
    for sample in (sample for make in makers for sample in make()):
        (FOLDER / f"{sample.name}.bin").write_bytes(sample.data)
        entries.append(sample.entry())
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (FOLDER / "samples.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
