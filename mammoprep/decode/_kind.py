"""Which pictures are mammograms of the usual views, by what their headers say (PS3.3 C.8.11.7)."""

from mammoprep.core.schema import Record
from mammoprep.decode import _terms as terms
from mammoprep.decode._facts import Facts, Kind

Finding = tuple[str, str]

BARE = "dicom"  # the source without a table that could say what its files are


def exclusions(facts: Facts, record: Record) -> list[Finding]:
    """Return (code, detail) of every rule that leaves the picture out on purpose."""
    kind = facts.kind
    found = [_sop_class(kind, record)]
    if kind.frames is not None and kind.frames > 1:
        found.append(("multiframe", f"{kind.frames} frames"))
    if "TOMOSYNTHESIS" in kind.image_type:
        found.append(("multiframe", "Image Type says tomosynthesis"))
    if shown := [t for t in kind.image_type if t in terms.EXCLUDED_IMAGE_TYPES]:
        found.append(("view_excluded", f"Image Type {shown[0].lower()}"))
    if shown := [m for m in kind.modifiers if m in terms.EXCLUDED_MODIFIERS]:
        found.append(("view_excluded", f"view modifier {shown[0]}"))
    if kind.specimen:
        found.append(("view_excluded", "view specimen"))
    if kind.burned_in:
        found.append(("burned_in", "Burned In Annotation is YES"))
    return [finding for finding in found if finding is not None]


def oddities(facts: Facts, record: Record) -> list[str]:
    """Return warning codes for kinds that are accepted although their rules differ."""
    kind, found = facts.kind, []
    if record.source == BARE and not _states_breast(kind):
        found.append("kind_assumed")
    sop_class = kind.sop_class or ""
    if sop_class == terms.COMPUTED_RADIOGRAPHY:
        found.append("computed_radiography")
    if sop_class.startswith(terms.SECONDARY_CAPTURE):
        found.append("secondary_capture")
    processing = (
        terms.FOR_PROCESSING,
        terms.PROJECTION_FOR_PROCESSING,
        terms.DX_FOR_PROCESSING,
    )
    if kind.presentation is not None and kind.presentation == (sop_class in processing):
        found.append("intent_conflict")
    return found


def is_no_image(sop_class: str | None) -> bool:
    """Return whether the SOP class is a report or another thing without pixels."""
    return (sop_class or "").startswith(terms.NOT_IMAGES)


def why_no_image(sop_class: str | None) -> str:
    """Return what such an object is, and where it is read."""
    if sop_class in terms.SEGMENTATIONS:
        return "a segmentation, which is read where a table names it as the mask of an image"
    return "the SOP class has no pixels"


def says_breast(kind: Kind) -> bool:
    """Return whether the header says breast, or nothing at all.

    Modality is needed in every object (PS3.3 C.7.3.1), so a header without it was stripped, and
    only the dataset's owner knows what the file is. One that says something else is believed.
    """
    return _states_breast(kind) or (kind.modality is None and kind.breast is None)


def _states_breast(kind: Kind) -> bool:
    mammography = (
        terms.FOR_PRESENTATION,
        terms.FOR_PROCESSING,
        terms.TOMOSYNTHESIS,
        terms.PROJECTION_FOR_PRESENTATION,
        terms.PROJECTION_FOR_PROCESSING,
    )
    return kind.sop_class in mammography or kind.modality == "MG" or kind.breast is True


def _sop_class(kind: Kind, record: Record) -> Finding | None:
    sop_class = kind.sop_class or ""
    name = terms.SOP_NAMES.get(sop_class, "other")
    if sop_class in (terms.FOR_PROCESSING, terms.PROJECTION_FOR_PROCESSING):
        return "for_processing", f"SOP class {name}"
    if sop_class == terms.TOMOSYNTHESIS:
        return "multiframe", f"SOP class {name}"
    if sop_class == terms.PROJECTION_FOR_PRESENTATION:
        return "view_excluded", f"SOP class {name}"
    if sop_class == terms.FOR_PRESENTATION:
        return None
    if not _accepted(kind, record, sop_class):
        return "not_a_mammogram", f"SOP class {name}, and nothing says breast"
    if not sop_class and kind.presentation is False:
        return "for_processing", "no SOP class, Presentation Intent Type is not FOR PRESENTATION"
    return ("for_processing", f"SOP class {name}") if sop_class == terms.DX_FOR_PROCESSING else None


def _accepted(kind: Kind, record: Record, sop_class: str) -> bool:
    if sop_class.startswith(terms.SECONDARY_CAPTURE):
        return record.source != BARE and kind.modality in (None, "MG")
    if sop_class == terms.COMPUTED_RADIOGRAPHY:
        return record.source != BARE or says_breast(kind)
    if sop_class and not sop_class.startswith(terms.DX_FOR_PRESENTATION):
        return False
    return says_breast(kind)
