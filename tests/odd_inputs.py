"""Small synthetic inputs of every odd kind, and what a build makes of them."""

import io
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

SHAPE = (160, 120)
MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"  # Digital Mammography X-Ray Image, For Presentation


def breast(shape: tuple[int, int] = SHAPE, seed: int = 1) -> NDArray[np.float64]:
    """Return a breast at the left edge, (rows, columns) in [0, 1], with a dark background."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    inside = ((y - rows / 2) / (0.42 * rows)) ** 2 + (x / (0.7 * columns)) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 1, shape)
    texture = cv2.GaussianBlur(noise, (0, 0), 4)
    tissue = 0.55 + 0.25 * texture / np.abs(texture).max() - 0.2 * x / columns
    return np.where(inside, tissue, 0.01 + 0.005 * np.abs(noise).clip(0, 2) / 2)


def grey(top: int = 255, *, seed: int = 1, shape: tuple[int, int] = SHAPE) -> NDArray[Any]:
    """Return the breast as integers of 0 to ``top``."""
    kind = np.uint8 if top <= 255 else np.uint16
    return np.round(breast(shape, seed) * top).astype(kind)


def encoded(picture: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file of Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file."""
    check = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def with_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """Return a PNG with a chunk more, right behind its header."""
    return png[:33] + png_chunk(name, data) + png[33:]


def deep_png(values: NDArray[np.uint16]) -> bytes:
    """Return a PNG of 16 bits a channel: grey, grey and alpha, RGB or RGBA by the last axis."""
    rows, columns = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = values.astype(">u2").reshape(rows, -1)
    raw = b"".join(b"\0" + line.tobytes() for line in lines)
    header = struct.pack(">IIBBBBB", columns, rows, 16, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )


def square(shape: tuple[int, int] = SHAPE, value: int = 255) -> NDArray[np.uint8]:
    """Return a mask of one square inside of the breast: rows 70 to 90, columns 20 to 40."""
    mask = np.zeros(shape, np.uint8)
    mask[70:90, 20:40] = value
    return mask


def dicom(
    values: NDArray[Any] | None = None, syntax: str = ExplicitVRLittleEndian, **facts: Any
) -> Dataset:
    """Return a mammogram of 12 bits; ``facts`` replace or, where None, remove attributes."""
    pixels = grey(4095) if values is None else values
    header: dict[str, Any] = {
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SOPClassUID": MAMMOGRAM,
        "SOPInstanceUID": f"2.25.{zlib.crc32(pixels.tobytes() + repr(facts).encode())}",
        "Modality": "MG",
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientID": "p1",
        "BodyPartExamined": "BREAST",
        "ImagerPixelSpacing": [0.1, 0.1],
        "ViewPosition": "CC",
        "StudyInstanceUID": "2.25.77",
        "SeriesInstanceUID": "2.25.78",
        "PatientOrientation": ["A", "R"],
        "ImageLaterality": "L",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": min(12, pixels.dtype.itemsize * 8),
        "HighBit": min(12, pixels.dtype.itemsize * 8) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "BurnedInAnnotation": "NO",
        "WindowCenter": 2048,
        "WindowWidth": 4096,
        **facts,
    }
    found = Dataset()
    for keyword, value in header.items():
        if value is not None:
            setattr(found, keyword, value)
    if "PixelData" not in found:
        found.add_new("PixelData", "OW", pixels.tobytes())
    found.file_meta = FileMetaDataset()
    found.file_meta.MediaStorageSOPClassUID = header["SOPClassUID"]
    found.file_meta.MediaStorageSOPInstanceUID = header["SOPInstanceUID"]
    found.file_meta.TransferSyntaxUID = UID(syntax)
    return found


def dicom_file(dataset: Dataset) -> bytes:
    """Return a data set as a file, however odd it is."""
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


@dataclass(frozen=True)
class Sample:
    """A built sample: its metadata, picture and mask."""

    about: dict[str, Any]
    picture: NDArray[Any]
    mask: NDArray[Any] | None

    @property
    def warnings(self) -> list[str]:
        return list(self.about.get("warnings", []))

    @property
    def mask_area(self) -> int:
        assert self.mask is not None
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True)
class Outcome:
    """What a command answered."""

    status: int
    said: str
    out: Path
    samples: dict[str, Sample] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of samples.parquet."""
        found: list[dict[str, Any]] = pq.read_table(self.out / "samples.parquet").to_pylist()
        return found


def command(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would; its words in one line each."""
    return subprocess.run(
        [sys.executable, "-m", "mammoprep", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip


def build(folder: Path, out: Path, *options: object, source: str = "table") -> Outcome:
    """Build a folder of a few small images and read everything that was left, by input."""
    sized = () if "--roi" in options or "--size" in options else ("--size", "64x128")
    done = command(
        "build", "--source", source, *sized, "--input", folder, "--out", out,
        "--max-failures", 50, "--workers", 1, *options,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Outcome(done.returncode, done.stderr, out, samples_of(out), failures_of(out))


@dataclass(frozen=True)
class Inspected:
    """What ``mammoprep inspect`` answered, and the exact picture of 16 bits."""

    status: int
    said: str
    facts: dict[str, Any]
    picture: NDArray[Any]


def inspected(file: Path, picture: Path) -> Inspected:
    """Inspect a file and have its exact picture written."""
    done = command("inspect", file, "--json", "--bits", 16, "--save", picture)
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        return Inspected(done.returncode, done.stderr, {}, np.zeros((0, 0)))
    return Inspected(0, done.stderr, json.loads(done.stdout), _decoded(picture.read_bytes()))


def samples_of(out: Path) -> dict[str, Sample]:
    """Return image id (of patches: key) -> sample."""
    found: dict[str, Sample] = {}
    for path in sorted((out / "shards").glob("*.tar")):
        for key, parts in members(path).items():
            about = json.loads(parts["json"])
            mask = parts.get("mask.png")
            name = key if about.get("parent") else str(about["image_id"])
            picture = _decoded(parts["png"])
            found[name] = Sample(about, picture, None if mask is None else _decoded(mask))
    return found


def members(path: Path) -> dict[str, dict[str, bytes]]:
    """Return key -> suffix -> bytes of a shard."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            key, _, suffix = member.name.partition(".")
            file = tar.extractfile(member)
            assert file is not None
            found.setdefault(key, {})[suffix] = file.read()
    return found


def failures_of(out: Path) -> dict[str, dict[str, str]]:
    """Return input -> its line in failures.jsonl."""
    path = out / "failures.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return {line["input"]: line for line in map(json.loads, lines)}


def _decoded(data: bytes) -> NDArray[Any]:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return found


def write_table(folder: Path, files: dict[str, bytes], *columns: str, **cells: str) -> None:
    """Write files and a table with one row each: classes a and b in turn, a patient each.

    Args:
        folder: Is made.
        files: Name -> content.
        columns: Further columns.
        cells: ``NAME`` without its suffix -> the further cells of its row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",".join(("path", "patient_id", "label", *columns))]
    for number, (name, data) in enumerate(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        more = cells.get(name.split(".")[0], "," * (len(columns) - 1))
        row = f"{name},{number},{'ab'[number % 2]}"
        lines.append(f"{row},{more}" if columns else row)
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
