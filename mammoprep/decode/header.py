"""Reads a DICOM header into typed facts; nothing else in the package sees its text."""

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from mammoprep.core.errors import RecordError
from mammoprep.core.schema import VIEWS
from mammoprep.decode import _terms as terms
from mammoprep.decode._beginning import standard_form
from mammoprep.decode._facts import Facts, Grey, Kind, PixelFormat, Place
from mammoprep.decode._luts import LutItem, read_items
from mammoprep.decode._values import (
    PYDICOM_ERRORS,
    element,
    integer,
    is_cut,
    is_garbage,
    items,
    number,
    numbers,
    quiet,
    text,
    texts,
)

PIXEL_DATA, PIXEL_SERVER = 0x7FE00010, 0x00287FE0
FLOAT_PIXELS = {0x7FE00008: "Float Pixel Data", 0x7FE00009: "Double Float Pixel Data"}
_SHARED_GROUPS, _FRAME_GROUPS = 0x52009229, 0x52009230
_FRAME_VOI, _PIXEL_VALUES, _PIXEL_MEASURES = 0x00289132, 0x00289145, 0x00289110
_FUNCTIONS = {
    "": "LINEAR",
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}
_MOST_IS = 1 << 31  # PS3.5 6.2
# Height of a pixel in its widths: nearer to 1 are square ones, rounded; farther no device has.
_SQUARE, _MOST_ASPECT = 0.01, 4.0


def parse(data: bytes) -> Dataset:
    """Parse a DICOM file whose size and compression have been bounded.

    Raises:
        RecordError: ``unreadable`` where the file ends inside an element before Pixel Data, or with
            the name of the parser's exception and nothing else of it; ``header_bounds``.
    """
    try:
        with quiet():
            dataset = dcmread(BytesIO(standard_form(data)))
    except RecursionError:
        raise RecordError("header_bounds", "sequences are nested too deeply to parse") from None
    except PYDICOM_ERRORS as error:
        raise RecordError("unreadable", f"{type(error).__name__} while parsing") from None
    # pydicom drops every element when one of undefined length does not end, and says nothing when
    # the last one is short: the file would pass for one without pixels.
    if PIXEL_DATA not in dataset and (len(dataset) == 0 or is_cut(dataset)):
        raise RecordError("unreadable", "the file ends inside an element: it was cut off")
    return dataset


def read_facts(dataset: Dataset, transfer_syntax: str, meta_sop_class: str | None) -> Facts:
    """Return the typed facts of a data set.

    Args:
        dataset: What ``parse`` returned.
        transfer_syntax: From the file meta information.
        meta_sop_class: Media Storage SOP Class UID, used when the data set has no SOP Class UID.
    """
    pixels = _pixels(dataset, transfer_syntax)
    grey, grey_odd = _grey(dataset, signed=pixels.signed)
    place, place_odd = _place(dataset)
    kind = _kind(dataset, meta_sop_class)
    named = text(dataset, 0x00080016) or meta_sop_class
    bare = () if named else ("sop_class_missing",)
    unsigned = ("sign_assumed",) if pixels.sign_stated is None else ()
    odd = (*bare, *unsigned, *grey_odd, *place_odd)
    return Facts(kind, pixels, grey, place, tuple(dict.fromkeys(odd)))


def _yes_no(dataset: Dataset, tag: int) -> bool | None:
    return {"YES": True, "NO": False}.get(text(dataset, tag) or "")


def code_of(item: Dataset) -> str | None:
    """Return the code of an item that names a concept of SNOMED, None for another scheme's."""
    if text(item, 0x00080102) not in terms.SNOMED_SCHEMES:
        return None
    return text(item, 0x00080100)


def _kind(dataset: Dataset, meta_sop_class: str | None) -> Kind:
    modality = text(dataset, 0x00080060)
    intent = text(dataset, 0x00080068)
    views = items(dataset, 0x00540220)
    codes = [code_of(modifier) for view in views for modifier in items(view, 0x00540222)]
    return Kind(
        sop_class=text(dataset, 0x00080016) or meta_sop_class,
        modality=None if modality is None else "MG" if modality == "MG" else "other",
        breast=_breast(dataset),
        presentation=None if intent is None else intent == "FOR PRESENTATION",
        image_type=tuple(
            t if t in terms.KNOWN_IMAGE_TYPES else "other" for t in texts(dataset, 0x00080008)
        ),
        frames=_frames(dataset),
        specimen=any(terms.VIEW_CODES.get(code_of(v) or "") == "specimen" for v in views),
        modifiers=tuple(terms.MODIFIER_CODES[c] for c in codes if c in terms.MODIFIER_CODES),
        burned_in=_yes_no(dataset, 0x00280301),
        implant=_yes_no(dataset, 0x00281300),
    )


def _frames(dataset: Dataset) -> int | None:
    """Return Number of Frames: an Integer String, so text also where the file states no VR."""
    if not texts(dataset, 0x00280008):
        return 1  # present but empty counts as absent
    stated = number(dataset, 0x00280008)
    usable = stated is not None and stated.is_integer() and abs(stated) < _MOST_IS
    return int(stated) if stated is not None and usable else None


def _breast(dataset: Dataset) -> bool | None:
    body_part = text(dataset, 0x00180015)
    regions = [code_of(item) for item in items(dataset, 0x00082218)]
    views = [code_of(item) for item in items(dataset, 0x00540220)]
    if body_part == "BREAST" or any(region in terms.BREAST_CODES for region in regions):
        return True
    if any(view in terms.VIEW_CODES for view in views) or _yes_no(dataset, 0x00281300) is not None:
        return True
    return None if body_part is None and not any(regions) else False


def _overlay_bits(dataset: Dataset) -> int:
    places = (integer(dataset, (group << 16) | 0x0102) for group in range(0x6000, 0x6020, 2))
    return sum({1 << place for place in places if place is not None and 0 < place < 16})


def _pixels(dataset: Dataset, transfer_syntax: str) -> PixelFormat:
    photometric = text(dataset, 0x00280004)
    known = ("MONOCHROME1", "MONOCHROME2", None)
    bits_stored = integer(dataset, 0x00280101)
    high_bit = integer(dataset, 0x00280102)
    if high_bit is None and bits_stored is not None:
        high_bit = bits_stored - 1
    samples = integer(dataset, 0x00280002)
    data = dataset.get_item(PIXEL_DATA, keep_deferred=True)
    sign = integer(dataset, 0x00280103)
    silent = element(dataset, 0x00280103) is None
    return PixelFormat(
        transfer_syntax=transfer_syntax,
        rows=integer(dataset, 0x00280010),
        columns=integer(dataset, 0x00280011),
        samples=1 if samples is None else samples,
        photometric=photometric if photometric in known else "other",
        bits_allocated=integer(dataset, 0x00280100),
        bits_stored=bits_stored,
        high_bit=high_bit,
        signed=sign == 1,
        overlay_bits=_overlay_bits(dataset),
        word_vr=None if data is None else data.VR,
        sign_stated=None if silent else sign in (0, 1),
    )


def _padding(dataset: Dataset, *, signed: bool) -> tuple[int, int] | None:
    value = integer(dataset, 0x00280120, signed=signed)
    if value is None:
        return None
    limit = integer(dataset, 0x00280121, signed=signed)
    limit = value if limit is None else limit
    return min(value, limit), max(value, limit)


def _groups(dataset: Dataset, macro: int) -> tuple[Dataset, ...]:
    """Return the first frame's items of a functional group macro (PS3.3 C.7.6.16).

    Args:
        dataset: The file's.
        macro: Tag of the macro's sequence, in the frame's own groups or in those of all frames.
    """
    groups = (*items(dataset, _FRAME_GROUPS)[:1], *items(dataset, _SHARED_GROUPS)[:1])
    return tuple(item for group in groups for item in items(group, macro)[:1])


@dataclass(frozen=True)
class _Voi:
    """One place's windows and tables, and what is odd about them."""

    luts: tuple[LutItem | None, ...]
    centers: tuple[float | None, ...]
    widths: tuple[float | None, ...]
    function: str | None
    odd: tuple[str, ...] = ()

    def meaning(self) -> tuple[object, ...]:
        """Return what two places have to share to say the same."""
        tables = tuple(
            None if lut is None else (lut.first, lut.depth, lut.entries.tobytes())
            for lut in self.luts
        )
        return tables, self.centers, self.widths, self.function


def _voi_of(place: Dataset) -> _Voi:
    luts, odd = read_items(items(place, 0x00283010))
    centers, widths = numbers(place, 0x00281050), numbers(place, 0x00281051)
    uneven = ("window_count_mismatch",) if len(centers) != len(widths) else ()
    function = _FUNCTIONS.get(text(place, 0x00281056) or "")
    return _Voi(luts, centers, widths, function, (*odd, *uneven))


def _voi(dataset: Dataset) -> tuple[_Voi, tuple[str, ...]]:
    places = [_voi_of(place) for place in (dataset, *_groups(dataset, _FRAME_VOI))]
    stated = [voi for voi in places if voi.luts or voi.centers or voi.widths]
    chosen = next(iter(stated), places[0])
    return chosen, (*chosen.odd, *_conflict(voi.meaning() for voi in stated))


def _rescale(dataset: Dataset) -> tuple[float | None, float | None, tuple[str, ...]]:
    """Return slope and intercept, both of one place, and a warning where places differ."""
    groups = (dataset, *_groups(dataset, _PIXEL_VALUES))
    if any(is_garbage(place, tag) for place in groups for tag in (0x00281053, 0x00281052)):
        return None, None, ("rescale_invalid",)
    places = [(number(place, 0x00281053), number(place, 0x00281052)) for place in groups]
    stated = [place for place in places if place != (None, None)]
    slope, intercept = next(iter(stated), (None, None))
    return slope, intercept, _conflict(stated)


def _conflict(stated: Iterable[object]) -> tuple[str, ...]:
    """Return a warning where the header and the functional groups say different things."""
    first, *others = [*stated] or [None]
    return ("frame_groups_conflict",) if any(other != first for other in others) else ()


def _grey(dataset: Dataset, *, signed: bool) -> tuple[Grey, tuple[str, ...]]:
    shape = text(dataset, 0x20500020)
    modality_luts, modality_odd = read_items(items(dataset, 0x00283000))
    voi, voi_odd = _voi(dataset)
    slope, intercept, rescale_odd = _rescale(dataset)
    grey = Grey(
        slope=slope,
        intercept=intercept,
        modality_lut=next((lut for lut in modality_luts if lut is not None), None),
        voi_luts=voi.luts,
        centers=voi.centers,
        widths=voi.widths,
        function=voi.function,
        shape=shape if shape in ("IDENTITY", "INVERSE") else None,
        padding=_padding(dataset, signed=signed),
    )
    return grey, (*modality_odd, *voi_odd, *rescale_odd, *_presentation(dataset, shape))


def _presentation(dataset: Dataset, shape: str | None) -> tuple[str, ...]:
    """Return a warning where the header has a last step of grey values that is not taken."""
    known = shape in (None, "IDENTITY", "INVERSE")
    table = 0x20500010 in dataset and bool(items(dataset, 0x20500010))
    return ("presentation_lut_ignored",) if table or not known else ()


def _laterality(dataset: Dataset) -> tuple[str | None, tuple[str, ...]]:
    frames = [text(item, 0x00209072) for item in _groups(dataset, 0x00209071)]
    stated = [text(dataset, 0x00200062), *frames, text(dataset, 0x00200060)]
    sides = [side for side in stated if side in ("L", "R", "B")]
    conflict = ("laterality_conflict",) if len(set(sides)) > 1 else ()
    return next(iter(sides), None), conflict


def _view(dataset: Dataset) -> tuple[str | None, tuple[str, ...]]:
    codes = [terms.VIEW_CODES.get(code_of(item) or "") for item in items(dataset, 0x00540220)[:1]]
    coded = next((view for view in codes if view in VIEWS), None)
    position = text(dataset, 0x00185101)
    position = position if position in VIEWS else None
    conflict = ("view_conflict",) if coded and position and coded != position else ()
    return coded or position, conflict


def _spacing(
    dataset: Dataset,
) -> tuple[tuple[float, float] | None, str | None, tuple[str, ...]]:
    # A spacing at the detector says nothing about the breast where the magnification is unknown.
    magnification = number(dataset, 0x00181114)
    factor = 1.0 if magnification is None else magnification
    unknown = is_garbage(dataset, 0x00181114) or not 0.1 <= factor <= 20
    places = (dataset, *_groups(dataset, _PIXEL_MEASURES))
    stated = [values for place in places if (values := numbers(place, 0x00280030))]
    sources = (
        ("imager_pixel_spacing", () if unknown else numbers(dataset, 0x00181164), factor),
        ("pixel_spacing", next(iter(stated), ()), 1.0),
        ("nominal_scanned_pixel_spacing", numbers(dataset, 0x00182010), 1.0),
    )
    odd = (*_conflict(stated), *(("spacing_invalid",) if unknown else ()))
    for name, values, divisor in sources:
        if not values:
            continue
        sizes = [v for v in values if v is not None and 1e-3 <= v <= 10.0]
        if len(values) == len(sizes) == 2:
            return (sizes[0] / divisor, sizes[1] / divisor), name, odd
        odd = (*odd, "spacing_invalid")
    return None, None, odd


def _aspect(dataset: Dataset, spacing: tuple[float, float] | None) -> tuple[float, tuple[str, ...]]:
    """Return the height of a pixel in its widths, and a warning where that is not 1."""
    high, wide = spacing or (*numbers(dataset, 0x00280034)[:2], None, None)[:2]
    if not high or not wide:
        return 1.0, ()
    aspect = abs(high / wide)
    if abs(aspect - 1) <= _SQUARE:
        return 1.0, ()
    usable = 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT
    return (round(aspect, 4) if usable else 1.0), ("pixels_not_square",)


def _manufacturer(dataset: Dataset) -> str | None:
    stated = text(dataset, 0x00080070)
    if stated is None:
        return None
    found = (name for start, name in terms.MANUFACTURERS if f"{stated} ".startswith(start))
    return next(found, "other")


def _place(dataset: Dataset) -> tuple[Place, tuple[str, ...]]:
    laterality, laterality_odd = _laterality(dataset)
    view, view_odd = _view(dataset)
    spacing, source, spacing_odd = _spacing(dataset)
    aspect, aspect_odd = _aspect(dataset, spacing)
    row, column = (*(value[:1] for value in texts(dataset, 0x00200020)[:2]), "", "")[:2]
    place = Place(
        laterality=laterality,
        view=view,
        orientation=row if row in ("A", "P") else None,
        spacing_mm=spacing,
        spacing_source=source,
        manufacturer=_manufacturer(dataset),
        column_direction=column if column in ("F", "H") else None,
        aspect=aspect,
    )
    return place, (*laterality_odd, *view_odd, *spacing_odd, *aspect_odd)
