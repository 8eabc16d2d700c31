"""One file, every decision taken, as plain rows; the finished or the exact picture on request."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mammoprep import pipeline, preparation
from mammoprep.config import Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.grey import quantise
from mammoprep.core.schema import Record
from mammoprep.core.tree import Folder
from mammoprep.decode import dicom, raster
from mammoprep.image import MammoImage
from mammoprep.writers.encode import png

SHOWN = 5


@dataclass(frozen=True)
class Inspection:
    """What was decided about one file.

    Attributes:
        facts: Name -> value, in the order the decisions were taken.
        picture: PNG bytes, or None when not asked for.
    """

    facts: dict[str, Any]
    picture: bytes | None


def inspect(  # noqa: PLR0913 - as many choices as a build has of one file
    path: Path,
    *,
    size: tuple[int, int] | None,
    window: str,
    bits: int,
    save: bool,
    crop: str = "breast",
    range: str = "auto",
) -> Inspection:
    """Decide everything about one file as a build would, also for a kind a build excludes.

    Args:
        path: A DICOM file or a picture.
        size: (width, height) of the finished picture, or None for the stored grid.
        window: As ``--window``.
        bits: 8 or 16.
        save: Whether to return the picture: the finished one with ``size``, else the exact one on
            the stored grid.
        crop: As ``--crop``; ``tight`` also tells where the fold is.
        range: As ``--range``, for pictures.

    Raises:
        ConfigError: an option is wrong, or ``path`` is a folder.
        RecordError: the file cannot be built; ``code`` says why.
    """
    settings = Settings(size=size or (728, 1456), window=window, bits=bits, range=range, crop=crop)
    if path.is_dir():
        raise ConfigError(_folder(path))
    data = Folder(path.parent).read(path.name)
    record = preparation.record_of(path)
    preparation.check_options(data, settings)
    image = _opened(data, record, settings)
    resize = None if size is None else {"size": size, "fit": settings.fit}
    steps = pipeline.recipe(
        resize=resize, bits=bits, crop=crop, orient="left", blank=crop != "none"
    )
    finished = pipeline.run(steps, image)
    picture = None
    if save:
        stored: NDArray[Any] = finished.pixels
        if size is None:
            stored = _exact(data, image, settings)
        picture = png(stored)
    return Inspection(_facts(finished, len(data)), picture)


def _opened(data: bytes, record: Record, settings: Settings) -> MammoImage:
    if raster.is_picture(data):
        return preparation.open_image(data, record, settings)
    return dicom.open_image(data, record, voi=settings.window, gate_kind=False)


def _exact(data: bytes, image: MammoImage, settings: Settings) -> NDArray[Any]:
    """Return the picture on the stored grid."""
    if raster.is_picture(data):
        return quantise(image.pixels, settings.bits)
    return dicom.render_stored(data, image.record, voi=settings.window, bits=settings.bits)


def _folder(path: Path) -> str:
    """Return what to do with a folder: inspect is for one file."""
    if (path / "dataset.json").is_file():
        return (
            f"{path} is a built dataset: open its report.html, or see mammoprep verify, report and "
            "diff. inspect is for one file that a build reads, DICOM or a picture."
        )
    names = sorted(item.name for item in path.iterdir() if item.is_file())
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    found = f" It holds {', '.join(names[:SHOWN])}{more}." if names else " It holds no file itself."
    return (
        f"{path} is a folder, and inspect looks at one file: name it.{found} For a whole folder: "
        "mammoprep build --source NAME --size 728x1456 --input FOLDER (mammoprep sources lists the "
        "names; table is for your own, dicom for DICOM without a table), then its report.html."
    )


def _facts(image: MammoImage, size: int) -> dict[str, Any]:
    geometry, acquisition = image.geometry, image.acquisition
    if image.detail is not None:  # the picture was only looked at, not made
        geometry = geometry.at_stored_pixels()
    return {
        "file_bytes": size,
        **acquisition.to_json(),
        "decoder": acquisition.decoder,
        "laterality": acquisition.laterality,
        "view": acquisition.view,
        "patient_orientation": acquisition.patient_orientation,
        "padding": None if acquisition.padding is None else list(acquisition.padding),
        **image.notes,
        **geometry.to_json(),
        "warnings": list(image.warnings),
    }
