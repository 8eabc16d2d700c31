"""One file -> one finished image: what the child, ``inspect`` and the public API all call."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mammoprep import lesions, pipeline, variation
from mammoprep.config import Settings
from mammoprep.core import mask_values
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.positives import names_finding
from mammoprep.core.schema import UNUSABLE, MaskFile, Record, make_key
from mammoprep.core.tree import Folder
from mammoprep.decode import dicom, gate, masks, raster
from mammoprep.image import MammoImage
from mammoprep.patches import Cutter


def steps(settings: Settings) -> tuple[pipeline.Step, ...]:
    """Return the steps that ``settings`` ask for."""
    resize: dict[str, Any] = {"size": settings.size, "fit": settings.fit}
    resize["centred"] = settings.orient == "none"
    if settings.mm_per_pixel is not None:
        resize["mm_per_pixel"] = settings.mm_per_pixel
    return pipeline.recipe(
        resize={"size": None} if settings.roi else resize,
        bits=settings.bits,
        crop="none" if settings.roi else settings.crop,
        margin=settings.crop_margin,
        orient=settings.orient,
        blank=settings.crop != "none",
    )


def samples(
    image: MammoImage,
    bound: tuple[pipeline.Step, ...],
    settings: Settings,
    *,
    copies: Sequence[int] = (0,),
    tiles: int = 0,
) -> Iterator[MammoImage]:
    """Yield the finished pictures that are made of one image: itself, its copies, or its patches.

    Args:
        image: Opened and annotated.
        bound: What ``steps`` returned.
        settings: Patches or whole images, seed.
        copies: Which to make: 0 is the original, from 1 on augmented ones.
        tiles: How many background tiles to cut, with patches.

    Raises:
        RecordError: the image cannot be built.
    """
    if settings.roi is not None and image.record.annotation == UNUSABLE:
        raise RecordError(
            "mask_empty", "no outline of a finding can be used, so no patch can be cut"
        )
    *before, last = bound
    ready = pipeline.run(tuple(before), image)
    if settings.roi is not None:
        shrink = pipeline.bind("resize", size=settings.roi, fit="stretch")
        # where a finding has no outline, a tile could show it
        tiles = tiles if ready.record.annotation == "full" else 0
        for patch in Cutter(ready, settings).patches(copies, tiles):
            yield pipeline.run((shrink, last), patch)
        return
    for copy in copies:
        varied = variation.copy_of(ready, copy, settings.seed) if copy else ready
        yield pipeline.run((last,), varied)


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
        data: The whole file, or the bytes of the part of it that ``record.input`` names.
        record: What the dataset's table says about it.
        settings: Window, decoding and crosscheck of DICOM; range of pictures; whether a breast is
            to be found.
        colour: Keep the three channels of a picture.
        early: See ``dicom.open_image``.

    Raises:
        RecordError: the file cannot be built.
    """
    if record.raw or raster.is_picture(data):
        return raster.open_image(
            data,
            record,
            colour=colour,
            scale=settings.range_values,
            window=settings.window,
            mammogram=settings.crop != "none",
        )
    if record.range is not None and gate.is_dicom(data):
        found = "a range is for pictures; DICOM states its own values"
        raise RecordError("window_not_applicable", found)
    return dicom.open_image(
        data,
        record,
        voi=settings.window,
        fast=settings.decode == "fast",
        crosscheck=settings.crosscheck_share,
        early=early,
    )


def annotate(
    image: MammoImage,
    read: Callable[[str], bytes],
    *,
    values: str = "instances",
    patches: bool = False,
) -> MammoImage:
    """Return the image with the findings of its record's mask files, all of them inside of it.

    Args:
        image: Before any step.
        read: Returns the bytes of one of the record's files.
        values: As ``Settings.mask_values``.
        patches: Whether patches will be cut around the findings.

    Raises:
        RecordError: a mask cannot be read, or is no mask of this image; with ``patches`` also
            ``roi_outside`` and ``roi_shares``.
    """
    return lesions.settle(_masked(image, read, values), needed=patches)


def _masked(image: MammoImage, read: Callable[[str], bytes], values: str) -> MammoImage:
    record, shape = image.record, image.geometry.stored_size
    if not record.masks:
        return image
    meaning = mask_values.parse(values)
    union, known = np.zeros(shape, np.uint8), list(record.lesions)
    empty: list[MaskFile] = []
    for file in record.masks:
        found = _read_mask(file, _contents(file, read), shape, meaning, len(known) + 1)
        known += found.lesions
        union |= found.mask
        image = image.warn(*found.warnings)
        empty += [] if found.lesions else [file]
    named = [names_finding(record, file) for file in empty]
    if any(name is not False for name in named):
        image = image.warn("mask_empty")
    record = replace(record, lesions=tuple(known))
    if any(named):
        record = replace(record, annotation=_without(record))
    # an empty mask would say that nothing is there, which only a full annotation does
    told = bool(known) or record.annotation == "full"
    return replace(image, record=record, stored_mask=union if told else None)


def _read_mask(file: MaskFile, *how: Any) -> masks.Found:
    """Return what a mask file shows; what is wrong with it is not said of its image."""
    try:
        return masks.read(file, *how)
    except RecordError as error:
        if error.code.startswith(("mask", "outline")):
            raise
        raise RecordError(error.code, f"the mask file: {error.detail}") from None


def _without(record: Record) -> str:
    """Return how far an image is annotated of which a named finding has an empty mask."""
    if record.annotation == "none":
        return "none"
    return "partial" if record.lesions else UNUSABLE


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


def check_options(data: bytes, settings: Settings) -> None:
    """Check that the options that make grey values apply to a single file.

    Raises:
        ConfigError: ``--range`` for DICOM, or a ``--window`` that pictures cannot have.
    """
    if raster.is_picture(data):
        settings.check_picture_window()
    elif settings.range != "auto" and gate.is_dicom(data):
        raise ConfigError("--range is for pictures; DICOM states its own values: leave it out.")


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
    range: str = "auto",
) -> MammoImage:
    """Return one DICOM file or picture as a build would make it, for a notebook.

    Args:
        path: A DICOM file, or a PNG, JPEG, TIFF, JPEG 2000, PGM, PPM or BMP.
        size: (width, height) of the result in pixels.
        fit: ``pad`` or ``stretch``.
        bits: 8 or 16.
        window: ``auto``, ``full``, ``percentile`` or ``CENTRE,WIDTH``.
        range: Which values of a picture are black and white: ``auto``, ``HIGH``, ``LOW,HIGH`` or
            ``percentile``.

    Returns:
        The finished image; ``pixels`` is uint8 or uint16 (rows, columns), ``geometry.matrix`` maps
        stored coordinates to it.

    Raises:
        ConfigError: an option is wrong.
        RecordError: the file cannot be built; ``code`` says why.
    """
    settings = Settings(size=size, fit=fit, bits=bits, window=window, range=range)
    path = Path(path)
    data = Folder(path.parent).read(path.name)
    check_options(data, settings)
    return pipeline.run(steps(settings), open_image(data, record_of(path), settings))
