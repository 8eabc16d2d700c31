"""Stored pixels -> a DICOM file as bare as the RSNA competition's (PS3.10)."""

from io import BytesIO
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from mammoprep.phantoms._exposure import Exposure
from mammoprep.phantoms._machines import EXPLICIT_LITTLE, JPEG_2000_LOSSLESS, Machine

_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
_IMPLEMENTATION = "2.25.183640027118964213475101620873944157402"


def uid(*parts: object) -> str:
    """Return a UID under 2.25 that depends on nothing but ``parts`` (PS3.5 B.2)."""
    name = "/".join(str(part) for part in ("mammoprep-phantom", *parts))
    return f"2.25.{uuid5(NAMESPACE_OID, name).int}"


def encode_pixels(stored: NDArray[np.uint16], machine: Machine) -> bytes:
    """Return the pixel data element's value in the machine's transfer syntax, lossless.

    JPEG 2000 goes into a JP2 box at 16 bits whatever Bits Stored is, as in the real files; JPEG
    uses predictor 1 and a precision equal to Bits Stored.
    """
    if machine.transfer_syntax == EXPLICIT_LITTLE:
        return stored.astype("<u2").tobytes()
    if machine.transfer_syntax == JPEG_2000_LOSSLESS:
        stream = imagecodecs.jpeg2k_encode(
            stored, level=0, reversible=True, codecformat="jp2", numthreads=1
        )
    else:
        stream = imagecodecs.jpeg8_encode(
            stored, lossless=True, predictor=1, bitspersample=machine.bits_stored
        )
    return bytes(encapsulate([stream]))


def _meta(machine: Machine, instance: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = _FOR_PRESENTATION
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = machine.transfer_syntax
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = "MAMMOPREP"
    return meta


def _several(values: tuple[float, ...]) -> Any:
    texts = [f"{value:.6f}" if len(values) > 1 else f"{value:g}" for value in values]
    return texts if len(texts) > 1 else texts[0]


def _grey_scale(machine: Machine, padding: int | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "PhotometricInterpretation": machine.photometric,
        "BitsAllocated": 16,
        "BitsStored": machine.bits_stored,
        "HighBit": machine.bits_stored - 1,
        "PixelRepresentation": 0,
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": 1,
        "WindowCenter": _several(machine.centres),
        "WindowWidth": _several(machine.widths),
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "US",
    }
    if padding is not None:
        facts["PixelPaddingValue"] = padding
    if machine.function is not None:
        facts["VOILUTFunction"] = machine.function
    return facts


def to_bytes(
    exposure: Exposure, machine: Machine, laterality: str, ids: tuple[int, int], seed: int
) -> bytes:
    """Return the whole file.

    Args:
        exposure: The picture.
        machine: Its grey scale and transfer syntax.
        laterality: ``L`` or ``R``.
        ids: (patient, image).
        seed: Seed of the data set, so that two data sets share no UID.
    """
    patient, image = ids
    rows, columns = exposure.stored.shape
    facts: dict[str, Any] = {
        "SOPInstanceUID": uid(seed, patient, 1, image),
        "ContentDate": "20221118",
        "ContentTime": "120000.000000",
        "PatientID": str(patient),
        "StudyInstanceUID": uid(seed, patient),
        "SeriesInstanceUID": uid(seed, patient, 1),
        "InstanceNumber": str(image),
        "ImageLaterality": laterality,
        "SamplesPerPixel": 1,
        "Rows": rows,
        "Columns": columns,
        "PartialView": "NO",
        "LossyImageCompression": "00",
        **_grey_scale(machine, exposure.padding),
    }
    dataset = Dataset()
    for keyword, value in facts.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = _meta(machine, facts["SOPInstanceUID"])
    dataset.add_new("PixelData", "OW", encode_pixels(exposure.stored, machine))
    dataset["PixelData"].is_undefined_length = machine.transfer_syntax != EXPLICIT_LITTLE
    dataset.preamble = bytes(128)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=machine.group_length)
    return buffer.getvalue()
