"""One file, every decision taken, as plain rows; the finished or the exact picture on request."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mammoprep import pipeline, preparation
from mammoprep.config import Settings
from mammoprep.core.tree import Folder
from mammoprep.decode import dicom
from mammoprep.image import MammoImage
from mammoprep.writers.encode import png


@dataclass(frozen=True)
class Inspection:
    """What was decided about one file.

    Attributes:
        facts: Name -> value, in the order the decisions were taken.
        picture: PNG bytes, or None when not asked for.
    """

    facts: dict[str, Any]
    picture: bytes | None


def inspect(
    path: Path,
    *,
    size: tuple[int, int] | None,
    window: str,
    bits: int,
    save: bool,
    crop: str = "breast",
) -> Inspection:
    """Decide everything about one DICOM file as a build would, also for a kind a build excludes.

    Args:
        path: The file.
        size: (width, height) of the finished picture, or None for the stored grid.
        window: As ``--window``.
        bits: 8 or 16.
        save: Whether to return the picture: the finished one with ``size``, else the exact one on
            the stored grid.
        crop: As ``--crop``; ``tight`` also tells where the fold is.

    Raises:
        ConfigError: an option is wrong.
        RecordError: the file cannot be built; ``code`` says why.
    """
    settings = Settings(size=size or (728, 1456), window=window, bits=bits, crop=crop)
    data = Folder(path.parent).read(path.name)
    record = preparation.record_of(path)
    image = dicom.open_image(data, record, voi=window, gate_kind=False)
    resize = None if size is None else {"size": size, "fit": settings.fit}
    steps = pipeline.recipe(
        resize=resize, bits=bits, crop=crop, orient="left", blank=crop != "none"
    )
    finished = pipeline.run(steps, image)
    picture = None
    if save:
        stored: NDArray[Any] = finished.pixels
        if size is None:
            stored = dicom.render_stored(data, record, voi=window, bits=bits)
        picture = png(stored)
    return Inspection(_facts(finished, len(data)), picture)


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
