"""What the layouts of an image archive's collections share: plain DICOM files and their folders."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from zlib import crc32

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset

from mammoprep.phantoms._machines import EXPLICIT_LITTLE

_IMPLEMENTATION = "2.25.183640027118964213475101620873944157402"


def short(*parts: object) -> str:
    """Return the five digits that the archive's downloader ends folder names in."""
    return f"{crc32('/'.join(map(str, parts)).encode()) % 100_000:05d}"


def to_bytes(pixels: NDArray[Any], sop_class: str, facts: Mapping[str, Any]) -> bytes:
    """Return a DICOM file, explicit little endian, MONOCHROME2, all allocated bits stored.

    Args:
        pixels: uint8 or uint16 (rows, columns).
        sop_class: SOP Class UID.
        facts: Further elements by keyword; ``SOPInstanceUID`` must be there.
    """
    bits = 8 * pixels.dtype.itemsize
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    for keyword, value in facts.items():
        setattr(dataset, keyword, value)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0
    data = pixels.astype("<u2" if bits == 16 else np.uint8).tobytes()
    dataset.add_new("PixelData", "OW", data + bytes(len(data) % 2))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = facts["SOPInstanceUID"]
    dataset.file_meta.TransferSyntaxUID = EXPLICIT_LITTLE
    dataset.file_meta.ImplementationClassUID = _IMPLEMENTATION
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
