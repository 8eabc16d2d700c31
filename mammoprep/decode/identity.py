"""What a bare folder of DICOM files is sorted by: each header -> a rule, and identifiers.

Identifiers leave this layer as they are, because only their keyed hashes say which files belong
together; whoever calls ``identify`` hashes them at once and writes none of them anywhere.
"""

from dataclasses import dataclass
from hashlib import sha256

from pydicom.dataset import Dataset

from mammoprep.core.errors import RecordError
from mammoprep.core.schema import LATERALITIES, Record
from mammoprep.decode import _formats, _kind, gate
from mammoprep.decode._terms import SOP_NAMES
from mammoprep.decode._values import element, nesting
from mammoprep.decode.header import PIXEL_DATA, parse, read_facts

_BLANKS = b" \t\r\n\0"


@dataclass(frozen=True)
class Identity:
    """Which image of whom a file holds, as far as its header says.

    Attributes:
        excluded: Code of the rule that leaves it out, or None.
        image: SOP Instance UID; this and the three below in hexadecimal, None when absent.
        study: Study Instance UID.
        patient: Patient ID.
        issuer: Issuer of Patient ID.
        pixels: SHA-256 of the encoded pixels, or None when there are none.
        laterality: ``L``, ``R`` or None.
        view: One of ``core.schema.VIEWS`` or None.
        manufacturer: One of a fixed list, ``other``, or None.
        what: What a file that is no DICOM is, one of a fixed list; else None.
    """

    excluded: str | None
    image: str | None = None
    study: str | None = None
    patient: str | None = None
    issuer: str | None = None
    pixels: str | None = None
    laterality: str | None = None
    view: str | None = None
    manufacturer: str | None = None
    what: str | None = None


def identify(data: bytes, record: Record) -> Identity:
    """Return which image of whom a file holds; a file of another kind is excluded, no error.

    Args:
        data: The whole file.
        record: Its source decides what a silent header is taken for.

    Raises:
        RecordError: the file is DICOM, or looks like it, and its header cannot be read.
    """
    try:
        meta = gate.check_file(data)
    except RecordError as error:
        if error.code != "not_dicom":
            raise
        return Identity("not_dicom", what=_formats.told(data)[0])
    if _kind.is_no_image(meta.sop_class):
        return Identity("not_an_image")
    dataset = parse(data)
    gate.check_nesting(nesting(dataset, gate.MOST_NESTING))
    facts = read_facts(dataset, meta.transfer_syntax, meta.sop_class)
    kind, place, pixels = facts.kind, facts.place, element(dataset, PIXEL_DATA)
    bare = pixels is None and facts.pixels.rows is None and kind.sop_class not in SOP_NAMES
    if bare or _kind.is_no_image(kind.sop_class):
        return Identity("not_an_image")
    codes = [code for code, _ in _kind.exclusions(facts, record) if code != "burned_in"]
    return Identity(
        excluded=next(iter(codes), None),
        image=_identifier(dataset, 0x00080018) or _identifier(dataset.file_meta, 0x00020003),
        study=_identifier(dataset, 0x0020000D),
        patient=_identifier(dataset, 0x00100020),
        issuer=_identifier(dataset, 0x00100021),
        pixels=None if pixels is None else sha256(pixels.data).hexdigest(),
        laterality=place.laterality if place.laterality in LATERALITIES else None,
        view=place.view,
        manufacturer=place.manufacturer,
    )


def _identifier(dataset: Dataset, tag: int) -> str | None:
    """Return an element's bytes without the blanks around them (PS3.5 6.2), in hexadecimal."""
    found = element(dataset, tag)
    return None if found is None else found.data.strip(_BLANKS).hex() or None
