"""Are a dataset's inputs pictures, DICOM or both: what an option must know before any work."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from mammoprep.config import Settings
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.parts import Part
from mammoprep.core.schema import Record
from mammoprep.core.tree import Tree

PICTURES = frozenset(
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm", ".bmp")
)
DICOM = frozenset((".dcm", ".dicom"))
BARE = "dicom"  # the source that takes nothing else
MOST_OPENED = 64  # files without an extension that tells, whose first bytes are looked at
_MARK, _MARK_AT = b"DICM", 128


def check(settings: Settings, records: Sequence[Record], tree: Tree) -> None:
    """Refuse ``--window`` and ``--range`` where they apply to none of the inputs.

    Where they apply to some, the others are told one by one as they are read.

    Args:
        settings: The options.
        records: The dataset's table.
        tree: Its files.

    Raises:
        ConfigError: every input is a picture that the window does not fit, or is DICOM although
            ``--range`` was given.
    """
    plain = settings.window in ("auto", "full") and settings.range == "auto"
    if plain and settings.mm_per_pixel is None:
        return
    read = [record for record in records if record.excluded is None]
    kinds = _kinds(read, tree)
    if kinds == {"picture"}:
        _check_pictures(settings, read)
        _check_spacing(settings)
    if kinds == {"dicom"} and settings.range != "auto":
        raise ConfigError(
            f"--range {settings.range} is for pictures (PNG, TIFF ...), and every input is DICOM, "
            "which states its own values: leave it out, or choose by --window."
        )


def _check_pictures(settings: Settings, records: Sequence[Record]) -> None:
    if settings.window == "percentile" or all(record.range is None for record in records):
        settings.check_picture_window()


def _check_spacing(settings: Settings) -> None:
    if settings.mm_per_pixel is not None:
        raise ConfigError(
            "--mm-per-pixel needs the spacing of pixels, which DICOM tells, and every input is a "
            "picture (PNG, TIFF ...): leave it out; the picture then fills the frame."
        )


def _kinds(records: Sequence[Record], tree: Tree) -> set[str]:
    """Return the kinds that occur: ``picture``, ``dicom``, ``unknown``."""
    found, untold = set(), []
    for record in records:
        kind = _by_name(record)
        if kind is None:
            untold.append(record.input)
        else:
            found.add(kind)
    if len(found) > 1:
        return found
    found |= {_by_content(tree, name) for name in untold[:MOST_OPENED]}
    return found | ({"unknown"} if len(untold) > MOST_OPENED else set())


def _by_name(record: Record) -> str | None:
    suffix = PurePosixPath(record.input).suffix.lower()
    if record.raw is not None or suffix in PICTURES:
        return "picture"
    return "dicom" if suffix in DICOM or record.source == BARE else None


def _by_content(tree: Tree, name: str) -> str:
    try:
        dicom = tree.read_part(Part(name, _MARK_AT, len(_MARK))) == _MARK
    except (ConfigError, RecordError):
        return "unknown"
    return "dicom" if dicom else "unknown"
