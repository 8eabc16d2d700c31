"""One file -> one finished image: what the child, ``inspect`` and the public API all call."""

from pathlib import Path

from mammoprep import pipeline
from mammoprep.config import Settings
from mammoprep.core.schema import Record, make_key
from mammoprep.core.tree import Folder
from mammoprep.decode import dicom
from mammoprep.image import MammoImage


def steps(settings: Settings) -> tuple[pipeline.Step, ...]:
    """Return the steps that ``settings`` ask for."""
    return pipeline.recipe(
        size=settings.size,
        fit=settings.fit,
        bits=settings.bits,
        crop=settings.crop,
        orient=settings.orient,
    )


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
