"""Masks written into every kind of file; nothing here shares code with the reader."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import imagecodecs
import numpy as np
from dicoms import dicom, write
from PIL import Image
from pydicom.dataset import Dataset

SHAPE = (80, 96)
SEG, LABELMAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"


def pillow(values: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def shallow_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits, which Pillow does not write."""
    rows, columns = values.shape
    each = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
    packed = np.packbits(each.reshape(rows, columns * bits), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", columns, rows, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def palette(values: np.ndarray, colours: Sequence[tuple[int, int, int]]) -> bytes:
    image = Image.fromarray(values.astype(np.uint8), "P")
    image.putpalette([channel for colour in colours for channel in colour])
    return pillow(image)


def pgm(values: np.ndarray, most: int, *, text: bool = False) -> bytes:
    rows, columns = values.shape
    start = f"{'P2' if text else 'P5'}\n# made by hand\n{columns} {rows}\n{most}\n".encode()
    if text:
        return start + b" ".join(str(value).encode() for value in values.ravel())
    return start + values.astype(">u2" if most > 255 else "u1").tobytes()


def ppm(values: np.ndarray, most: int) -> bytes:
    rows, columns = values.shape
    return f"P6\n{columns} {rows}\n{most}\n".encode() + rgb(values).astype("u1").tobytes()


def opaque(values: np.ndarray, top: int) -> np.ndarray:
    return np.full(values.shape, top, values.dtype)


def u8(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8)


def u16(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint16)


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)] + [
    (value, 40, 255 - value) for value in range(5, 256)
]
WINDOW = {"WindowCenter": [20], "WindowWidth": [10]}
SLOPE = {"RescaleSlope": "2", "RescaleIntercept": "-30"}

# Name -> largest number, and how a file is made of numbers (rows, columns).
KINDS: dict[str, tuple[int, Callable[[np.ndarray], bytes]]] = {
    "png 1": (1, lambda v: pillow(v > 0)),
    "png 2": (3, lambda v: shallow_png(v, 2)),
    "png 4": (15, lambda v: shallow_png(v, 4)),
    "png 8": (255, lambda v: pillow(u8(v))),
    "png 16": (65535, lambda v: pillow(u16(v))),
    "png grey, alpha": (255, lambda v: pillow(np.dstack([u8(v), opaque(u8(v), 255)]))),
    "png 16 grey, alpha": (
        65535, lambda v: imagecodecs.png_encode(np.dstack([u16(v), opaque(u16(v), 65535)]))
    ),
    "png RGB": (255, lambda v: pillow(rgb(u8(v)))),
    "png 16 RGB": (65535, lambda v: imagecodecs.png_encode(rgb(u16(v)))),
    "png RGBA": (255, lambda v: pillow(np.dstack([rgb(u8(v)), opaque(u8(v), 255)]))),
    "png 16 RGBA": (
        65535, lambda v: imagecodecs.png_encode(np.dstack([rgb(u16(v)), opaque(u16(v), 65535)]))
    ),
    "png in opacity": (255, lambda v: pillow(np.dstack([rgb(u8(v) * 0), u8(v)]))),
    "png labels with colours": (255, lambda v: palette(v, VOC)),
    "png grey palette": (255, lambda v: palette(v, [(i, i, i) for i in range(256)])),
    "png palette turned": (255, lambda v: palette(255 - v, [(255 - i,) * 3 for i in range(256)])),
    "png palette of black": (255, lambda v: palette(v, [(0, 0, 0)] * 256)),
    "pgm of 1": (1, lambda v: pgm(v, 1)),
    "pgm of 7": (7, lambda v: pgm(v, 7)),
    "pgm 8": (255, lambda v: pgm(v, 255)),
    "pgm of 4095": (4095, lambda v: pgm(v, 4095)),
    "pgm 16": (65535, lambda v: pgm(v, 65535)),
    "pgm in words": (255, lambda v: pgm(v, 255, text=True)),
    "ppm of 9": (9, lambda v: ppm(v, 9)),
    "bmp 1": (1, lambda v: pillow(v > 0, "BMP")),
    "bmp 8": (255, lambda v: pillow(u8(v), "BMP")),
    "bmp 24": (255, lambda v: pillow(rgb(u8(v)), "BMP")),
    "dicom 1": (1, lambda v: bits(v)),
    "dicom 1 in 8": (1, lambda v: dicom(u8(v), 1)),
    "dicom 8": (255, lambda v: dicom(u8(v), 8)),
    "dicom 8, window": (255, lambda v: dicom(u8(v), 8, **WINDOW)),
    "dicom 8, MONOCHROME1": (
        255, lambda v: dicom(u8(v), 8, PhotometricInterpretation="MONOCHROME1")
    ),
    "dicom 12 in 16": (4095, lambda v: dicom(u16(v), 12)),
    "dicom 12 in 16, MONOCHROME1, window": (
        4095, lambda v: dicom(u16(v), 12, PhotometricInterpretation="MONOCHROME1", **WINDOW)
    ),
    "dicom 16": (65535, lambda v: dicom(u16(v), 16)),
    "dicom 16, slope": (65535, lambda v: dicom(u16(v), 16, **SLOPE)),
    "dicom 16, 0 is padding": (65535, lambda v: dicom(u16(v), 16, PixelPaddingValue=0)),
    "dicom 16, signed": (32767, lambda v: dicom(v.astype(np.int16), 16)),
    "dicom RLE": (65535, lambda v: dicom(u16(v), 16, syntax="1.2.840.10008.1.2.5")),
    "dicom JPEG-LS": (65535, lambda v: dicom(u16(v), 16, syntax="1.2.840.10008.1.2.4.80")),
}  # fmt: skip


def bits(values: np.ndarray) -> bytes:
    """A DICOM picture of single bits."""
    packed = np.packbits(values > 0, bitorder="little").tobytes()
    made = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    return dicom(u8(values), 8, frame=packed + b"\0" * (len(packed) % 2), **made)


def code(value: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "a name"
    return item


def segment(number: int, kind: str = "52988006", category: str = "49755003") -> Dataset:
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = "JANE DOE"
    item.SegmentedPropertyCategoryCodeSequence = [code(category)]
    item.SegmentedPropertyTypeCodeSequence = [code(kind)]
    return item


def frame_of(number: int, position: Sequence[float] = (0, 0, 0)) -> Dataset:
    group, identified, place = Dataset(), Dataset(), Dataset()
    identified.ReferencedSegmentNumber = number
    group.SegmentIdentificationSequence = [identified]
    place.ImagePositionPatient = list(position)
    group.PlanePositionSequence = [place]
    return group


def segmentation(
    frames: Sequence[tuple[int, np.ndarray]],
    *,
    kind: str = "BINARY",
    segments: Sequence[Dataset] | None = None,
    syntax: str = "1.2.840.10008.1.2.1",
    positions: Sequence[Sequence[float]] | None = None,
    **attributes: Any,
) -> bytes:
    """A DICOM Segmentation: (segment number, pixels) of each frame."""
    shape = frames[0][1].shape
    ds = Dataset()
    ds.SOPClassUID = LABELMAP if kind == "LABELMAP" else SEG
    ds.SOPInstanceUID, ds.Modality, ds.SegmentationType = "1.2.3.4", "SEG", kind
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = shape
    ds.NumberOfFrames = len(frames)
    depth = 1 if kind == "BINARY" else 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = depth, depth, depth - 1, 0
    numbers = sorted({number for number, _ in frames})
    ds.SegmentSequence = list(segments or map(segment, numbers))
    places = positions or [(0, 0, 0)] * len(frames)
    if kind != "LABELMAP":
        ds.PerFrameFunctionalGroupsSequence = [
            frame_of(number, place) for (number, _), place in zip(frames, places, strict=True)
        ]
    if kind == "FRACTIONAL":
        ds.MaximumFractionalValue, ds.SegmentationFractionalType = 255, "PROBABILITY"
    for name, value in attributes.items():
        delattr(ds, name) if value is None else setattr(ds, name, value)
    stack = np.stack([pixels for _, pixels in frames])
    data = np.packbits(stack.ravel() > 0, bitorder="little").tobytes()
    data = data if kind == "BINARY" else u8(stack).tobytes()
    ds.add_new(0x7FE00010, "OB" if depth == 8 else "OW", data + b"\0" * (len(data) % 2))
    return write(ds, syntax)
