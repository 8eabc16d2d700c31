"""Where the data set of a DICOM file begins, and how it is encoded (PS3.10 7.1, PS3.5 7.1).

Archives also keep files without the preamble, without the prefix's meta information, or with meta
information in another encoding than the one demanded. What DCMTK reads of these is read here, from
the elements themselves, and said with ``file_meta_odd``.
"""

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from mammoprep.core.errors import RecordError
from mammoprep.decode import _formats

PREFIX, PREFIX_AT = b"DICM", 128
DEFLATED = "1.2.840.10008.1.2.1.99"
ODD = "file_meta_odd"
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT_VRS = (
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"),
    *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
)
_VRS = _LONG_VRS | frozenset(_SHORT_VRS)
_META, _UNDEFINED = 2, 0xFFFFFFFF
# Behind the prefix any of these may come first; without it only the one that every image has.
_FIRST_GROUPS, _FIRST_GROUP_BARE = (0x08, 0x10, 0x18, 0x20, 0x28), (0x08,)
_LAST_GROUP = 0x7FE0
_WALKED = 3
_MOST_META_ELEMENTS = 100
_CLASS, _INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010
_UID = re.compile(r"[0-9.]{3,64}")


@dataclass(frozen=True)
class FileMeta:
    """What the file meta information says (PS3.10 section 7.1).

    Attributes:
        transfer_syntax: UID of the encoding.
        sop_class: Media Storage SOP Class UID, or None.
        end: Offset of the data set.
        instance: Media Storage SOP Instance UID, or None.
        guessed: Whether the file states no encoding, and its elements showed it.
        warnings: ``file_meta_odd`` where the beginning is not as PS3.10 demands.
    """

    transfer_syntax: str
    sop_class: str | None
    end: int
    instance: str | None = None
    guessed: bool = False
    warnings: tuple[str, ...] = ()


class Form(NamedTuple):
    """How elements are written: with their VR or without, and in which byte order."""

    explicit: bool
    little: bool


_PLAIN = Form(explicit=True, little=True)
_FORMS = {
    _PLAIN: "1.2.840.10008.1.2.1",
    Form(explicit=False, little=True): "1.2.840.10008.1.2",
    Form(explicit=True, little=False): "1.2.840.10008.1.2.2",
}


class _Head(NamedTuple):
    """An element's tag, VR (None where it has none), offset of its value, and length of that."""

    tag: int
    vr: bytes | None
    start: int
    length: int


class _Meta(NamedTuple):
    """Values of the meta information, offset of its end, and whether it is as demanded."""

    values: dict[int, str]
    end: int
    sound: bool


def read_meta(data: bytes) -> FileMeta:
    """Return what the beginning of a file says.

    Raises:
        RecordError: ``not_dicom``, ``prefix_missing``, ``unreadable``, ``no_transfer_syntax`` or
            ``syntax_mismatch``.
    """
    if data[PREFIX_AT : PREFIX_AT + len(PREFIX)] == PREFIX:
        return _read(data, PREFIX_AT + len(PREFIX), bare=False)
    if _begins(data, 0):
        return _read(data, 0, bare=True)
    for at in (PREFIX_AT, len(PREFIX)):
        if _begins(data, at) and (at == PREFIX_AT or data.startswith(PREFIX)):
            detail = f"elements of DICOM from byte {at}, without the prefix DICM at {PREFIX_AT}"
            raise RecordError("prefix_missing", detail)
    raise RecordError("not_dicom", _formats.describe(data))


def standard_form(data: bytes) -> bytes:
    """Return the file as it is, or with the meta information that it should have.

    So that a parser that knows the standard's form only reads what ``read_meta`` has understood.

    Raises:
        RecordError: as ``read_meta``.
    """
    meta = read_meta(data)
    if not meta.warnings:
        return data
    known = {_CLASS: meta.sop_class, _INSTANCE: meta.instance, _SYNTAX: meta.transfer_syntax}
    elements = b"".join(_meta_element(tag, value) for tag, value in known.items() if value)
    length = struct.pack("<HH2sHI", _META, 0, b"UL", 4, len(elements))
    return bytes(PREFIX_AT) + PREFIX + length + elements + data[meta.end :]


def _meta_element(tag: int, value: str) -> bytes:
    text = value.encode("ascii", "replace")
    text += b"\0" * (len(text) % 2)
    return struct.pack("<HH2sH", _META, tag, b"UI", len(text)) + text


def _read(data: bytes, start: int, *, bare: bool) -> FileMeta:
    try:
        meta = _read_elements(data, start)
    except struct.error:
        raise RecordError("unreadable", "file meta information is cut off") from None
    stated, found = meta.values.get(_SYNTAX, ""), form_at(data, meta.end, _FIRST_GROUPS)
    if not stated and found is None:
        raise RecordError(
            "no_transfer_syntax", "Transfer Syntax UID (0002,0010) is absent or empty"
        )
    syntax = stated or _FORMS[found or _PLAIN]
    odd = bare or not meta.sound or not stated
    if stated and found is not None:
        odd = _differs(stated, found) or odd
    return FileMeta(
        transfer_syntax=syntax,
        sop_class=meta.values.get(_CLASS) or None,
        end=meta.end,
        instance=meta.values.get(_INSTANCE) or None,
        guessed=not stated,
        warnings=(ODD,) if odd else (),
    )


def _differs(stated: str, found: Form) -> bool:
    """Return whether elements have VRs against the transfer syntax or lack them; parsers cope.

    Raises:
        RecordError: ``syntax_mismatch``: the byte order is another, or nothing is deflated.
    """
    if stated == DEFLATED:
        raise RecordError("syntax_mismatch", "the data set is not deflated as its syntax says")
    forms = {uid: form for form, uid in _FORMS.items()}
    form = forms.get(stated, _PLAIN)
    if form.little != found.little:
        orders = ("big endian", "little endian")
        raise RecordError(
            "syntax_mismatch",
            f"the data set is {orders[found.little]}, its transfer syntax {orders[form.little]}",
        )
    return form != found


def _begins(data: bytes, at: int) -> bool:
    """Return whether a file's elements begin here, those of the meta information or of an image."""
    if _meta_form(data, at) is None:
        return form_at(data, at, _FIRST_GROUP_BARE) is not None
    try:
        meta = _read_elements(data, at)
    except struct.error:
        return False
    stated = _UID.fullmatch(meta.values.get(_SYNTAX, "")) is not None
    return stated or form_at(data, meta.end, _FIRST_GROUPS) is not None


def _meta_form(data: bytes, at: int) -> Form | None:
    """Return how an element of the meta information is written here, None where there is none."""
    for little in (True, False):
        if data[at : at + 2] == struct.pack(_order(little) + "H", _META):
            return Form(explicit=data[at + 4 : at + 6] in _VRS, little=little)
    return None


def _read_elements(data: bytes, at: int) -> _Meta:
    """Return the meta information from here on, up to the first element of another group."""
    values: dict[int, str] = {}
    sound, stop = True, 0
    for _ in range(_MOST_META_ELEMENTS):
        # Deflated bytes may look like one more element; then the stated length has to be believed.
        if values.get(_SYNTAX) == DEFLATED and at == stop:
            break
        form = _meta_form(data, at)
        if form is None:
            break
        head = _head(data, at, form)
        at = head.start + head.length
        sound = sound and form == _PLAIN
        number = head.tag & 0xFFFF
        if number == 0 and head.length == 4:
            stop = at + int(struct.unpack_from(_order(form.little) + "I", data, head.start)[0])
        elif number in (_CLASS, _INSTANCE, _SYNTAX):
            values[number] = data[head.start : at].decode("ascii", "replace").strip(" \0")
    return _Meta(values, at, sound and stop in (0, at))


def form_at(data: bytes, at: int, groups: tuple[int, ...]) -> Form | None:
    """Return how the elements from here on are written, None where these are none.

    Three of them have to follow each other with rising tags, the first one of ``groups``: no text
    and hardly any other file does that.
    """
    for form in _FORMS:
        try:
            if _follow_each_other(data, at, form, groups):
                return form
        except struct.error:
            continue
    return None


def _follow_each_other(data: bytes, at: int, form: Form, groups: tuple[int, ...]) -> bool:
    before = -1
    for number in range(_WALKED):
        head = _head(data, at, form)
        group = head.tag >> 16
        known = group in groups if number == 0 else group <= _LAST_GROUP
        if not known or head.tag <= before or (form.explicit and head.vr not in _VRS):
            return False
        if head.length == _UNDEFINED:
            return number > 0
        before, at = head.tag, head.start + head.length
        if at > len(data):
            return False
    return True


def _head(data: bytes, at: int, form: Form) -> _Head:
    order = _order(form.little)
    group, number = struct.unpack_from(order + "HH", data, at)
    tag = int(group) << 16 | int(number)
    if not form.explicit:
        return _Head(tag, None, at + 8, int(struct.unpack_from(order + "I", data, at + 4)[0]))
    vr, short = struct.unpack_from(order + "2sH", data, at + 4)
    if vr not in _LONG_VRS:
        return _Head(tag, vr, at + 8, int(short))
    return _Head(tag, vr, at + 12, int(struct.unpack_from(order + "I", data, at + 8)[0]))


def _order(little: bool) -> str:
    return "<" if little else ">"
