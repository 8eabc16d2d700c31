"""One file -> one finished image: what the child, ``inspect`` and the public API all call."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mammoprep import pipeline
from mammoprep.config import Settings
from mammoprep.core.errors import RecordError
from mammoprep.core.schema import MaskFile, Record, make_key
from mammoprep.core.tree import Folder
from mammoprep.decode import dicom, masks, raster
from mammoprep.image import MammoImage


def steps(settings: Settings) -> tuple[pipeline.Step, ...]:
    """Return the steps that ``settings`` ask for."""
    return pipeline.recipe(
        size=settings.size,
        fit=settings.fit,
        bits=settings.bits,
        crop=settings.crop,
        orient=settings.orient,
        mm_per_pixel=settings.mm_per_pixel,
    )


def open_image(
    data: bytes,
    record: Record,
    settings: Settings,
    *,
    colour: bool = False,
    early: dicom.Early | None = None,
) -> MammoImage:
    """Return the presentation values of a DICOM file or of a picture.

    Args:
        data: The whole file.
        record: What the dataset's table says about it.
        settings: Window, decoding and crosscheck of DICOM.
        colour: Keep the three channels of a picture.
        early: See ``dicom.open_image``.

    Raises:
        RecordError: the file cannot be built.
    """
    if raster.is_picture(data):
        return raster.open_image(data, record, colour=colour)
    return dicom.open_image(
        data,
        record,
        voi=settings.window,
        fast=settings.decode == "fast",
        crosscheck=settings.crosscheck_share,
        early=early,
    )


def annotate(image: MammoImage, read: Callable[[str], bytes]) -> MammoImage:
    """Return the image with the findings of its record's mask files.

    Args:
        image: Before any step.
        read: Returns the bytes of one of the record's files.

    Raises:
        RecordError: a mask cannot be read, or is no mask of this image.
    """
    record, shape = image.record, image.geometry.stored_size
    if not record.masks:
        return image
    union, found = np.zeros(shape, np.uint8), list(record.lesions)
    for file in record.masks:
        mask, odd = masks.read(file, _contents(file, read), shape, record)
        found += masks.lesions(mask, file, len(found) + 1)
        union |= mask
        image = image.warn(*odd)
    return replace(image, record=replace(record, lesions=tuple(found)), stored_mask=union)


def _contents(file: MaskFile, read: Callable[[str], bytes]) -> list[bytes]:
    try:
        return [read(name) for name in file.inputs]
    except RecordError as error:
        if error.code == "file_missing":
            raise RecordError("mask_missing", error.detail) from None
        raise


def finish(
    data: bytes, record: Record, bound: tuple[pipeline.Step, ...], *, voi: str, fast: bool = False
) -> MammoImage:
    """Return the finished picture of one file's bytes.

    Raises:
        RecordError: the file cannot be built.
    """
    return pipeline.run(bound, dicom.open_image(data, record, voi=voi, fast=fast))


def record_of(path: Path) -> Record:
    """Return a record for a single file outside any dataset."""
    name = make_key("file", path.stem or "unnamed")
    return Record(key=name, source="file", group=name, input=path.name)


def prepare(
    path: str | Path,
    *,
    size: tuple[int, int],
    fit: str = "pad",
    bits: int = 8,
    window: str = "auto",
) -> MammoImage:
    """Return one DICOM file as a build would make it, for a notebook.

    Args:
        path: A DICOM file.
        size: (width, height) of the result in pixels.
        fit: ``pad`` or ``stretch``.
        bits: 8 or 16.
        window: ``auto``, ``full``, ``percentile`` or ``CENTRE,WIDTH``.

    Returns:
        The finished image; ``pixels`` is uint8 or uint16 (rows, columns), ``geometry.matrix`` maps
        stored coordinates to it.

    Raises:
        ConfigError: an option is wrong.
        RecordError: the file cannot be built; ``code`` says why.
    """
    settings = Settings(size=size, fit=fit, bits=bits, window=window)
    path = Path(path)
    data = Folder(path.parent).read(path.name)
    return finish(data, record_of(path), steps(settings), voi=window)
