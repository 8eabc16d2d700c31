"""Small DICOM files made in code; nothing here shares code with the decoder."""

import io
import logging
import struct
import warnings
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from mammoprep.core.schema import Record

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_LOSSY = "1.2.840.10008.1.2.4.81"
JPEG2000 = "1.2.840.10008.1.2.4.90"
JPEG2000_LOSSY = "1.2.840.10008.1.2.4.91"
HTJ2K = "1.2.840.10008.1.2.4.201"
HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K_LOSSY = "1.2.840.10008.1.2.4.203"

# The files are odd on purpose, and pydicom says so at every one.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

MG = "1.2.840.10008.5.1.4.1.1.1.2"
RECORD = Record(key="t_1", source="table", group="g", input="a.dcm")
BARE = Record(key="t_1", source="dicom", group="g", input="a.dcm")


def rle(words: np.ndarray) -> bytes:
    """Return DICOM RLE of literal runs only: one segment a byte plane, most significant first."""
    planes = words.astype(f">u{words.dtype.itemsize}").view("u1").reshape(*words.shape, -1)
    segments = []
    for plane in range(planes.shape[-1]):
        rows = planes[..., plane]
        runs = [row[at : at + 128].tobytes() for row in rows for at in range(0, len(row), 128)]
        packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(packed + b"\0" * (len(packed) % 2))
    starts = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    header = struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(segments)))
    return header + b"".join(segments)


def encode(words: np.ndarray, syntax: str, bits: int) -> bytes:
    """Return one frame in a compressed syntax."""
    if syntax == RLE:
        return rle(words)
    if syntax in (JPEG, JPEG_EXTENDED):
        return imagecodecs.jpeg8_encode(words, level=98, bitspersample=bits)
    if syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1):
        return imagecodecs.ljpeg_encode(words, bitspersample=bits)
    if syntax in (JPEG_LS, JPEG_LS_LOSSY):
        return imagecodecs.jpegls_encode(words, level=2 if syntax == JPEG_LS_LOSSY else 0)
    if syntax in (JPEG2000, JPEG2000_LOSSY):
        lossy = syntax == JPEG2000_LOSSY
        return imagecodecs.jpeg2k_encode(
            words,
            level=60 if lossy else 0,
            codecformat="j2k",
            bitspersample=bits,
            reversible=not lossy,
        )
    return imagecodecs.htj2k_encode(words, reversible=True)


def lut(
    entries: Any,
    first: int,
    depth: int,
    *,
    vr: str = "US",
    width: int = 2,
    count: int | None = None,
) -> Dataset:
    """Return an item of a LUT sequence; ``width`` 1 packs entries into bytes."""
    values = np.asarray(entries)
    item = Dataset()
    size = len(values) if count is None else count
    descriptor = struct.pack("<HhH" if first < 0 else "<HHH", size & 0xFFFF, first, depth)
    item.add_new(0x00283002, "OB", descriptor)  # raw, so that any VR can be claimed for it
    item[0x00283002].VR = "OB"
    packed = values.astype("<u2" if width == 2 else "u1").tobytes()
    item.add_new(0x00283006, "OW", packed + b"\0" * (len(packed) % 2))
    item.add_new(0x00283002, vr, list(struct.unpack("<HhH" if vr == "SS" else "<HHH", descriptor)))
    return item


def dataset(words: np.ndarray, bits: int, **attributes: Any) -> Dataset:
    """Return a mammogram's data set; ``None`` removes an attribute."""
    ds = Dataset()
    ds.SOPClassUID = MG
    ds.SOPInstanceUID = "1.2.3.4"
    ds.Modality = "MG"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = words.shape
    ds.BitsAllocated = 8 * words.dtype.itemsize
    ds.BitsStored = bits
    ds.HighBit = bits - 1
    ds.PixelRepresentation = int(words.dtype.kind == "i")
    for name, value in attributes.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def write(ds: Dataset, syntax: str = EXPLICIT) -> bytes:
    """Return a data set as a file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", MG)
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(
            out,
            ds,
            implicit_vr=syntax == IMPLICIT,
            little_endian=syntax != BIG_ENDIAN,
            enforce_file_format=True,
        )
    return out.getvalue()


def dicom(
    words: np.ndarray,
    bits: int | None = None,
    *,
    syntax: str = EXPLICIT,
    frame: bytes | None = None,
    **attributes: Any,
) -> bytes:
    """Return a mammogram as a file.

    Args:
        words: Raw words, (rows, columns), uint8, uint16 or int16.
        bits: Bits Stored, default all of a word.
        syntax: Transfer syntax.
        frame: Encoded frame to use instead of encoding ``words``.
        attributes: Keywords of the data set; None removes one; ``overlay_bit`` claims a high bit.
    """
    overlay_bit = attributes.pop("overlay_bit", None)
    bits = bits or 8 * words.dtype.itemsize
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = dataset(words, bits, **attributes)
        if overlay_bit is not None:
            ds.add_new(0x60000100, "US", 16)
            ds.add_new(0x60000102, "US", overlay_bit)
        if syntax in (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN):
            order = ">" if syntax == BIG_ENDIAN else "<"
            data = (
                words.astype(words.dtype.newbyteorder(order)).tobytes() if frame is None else frame
            )
            vr = "OB" if words.dtype.itemsize == 1 and syntax != IMPLICIT else "OW"
            ds.add_new(0x7FE00010, vr, data)
        else:
            data = encode(words, syntax, bits) if frame is None else frame
            ds.add_new(0x7FE00010, "OB", encapsulate([data]))
            ds[0x7FE00010].is_undefined_length = True
        return write(ds, syntax)


def ramp(bits: int = 12, *, shape: tuple[int, int] = (64, 64), signed: bool = False) -> np.ndarray:
    """Return all of a range in order, as far as the shape goes."""
    low = -(1 << (bits - 1)) if signed else 0
    values = np.linspace(low, low + (1 << bits) - 1, shape[0] * shape[1])
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    return np.rint(values).astype(kind).reshape(shape)


def breast(bits: int = 12, *, shape: tuple[int, int] = (128, 96)) -> np.ndarray:
    """Return a bright half disc at the left edge on dark air: what a check of polarity expects."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    radius = np.hypot((y - shape[0] / 2) / shape[0], x / shape[1]) / 0.45
    top = (1 << bits) - 1
    values = np.where(radius < 1, top * (0.3 + 0.5 * (1 - radius**2)), top * 0.02)
    return values.astype("u1" if bits <= 8 else "u2")
