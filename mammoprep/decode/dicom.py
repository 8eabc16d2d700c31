"""DICOM file -> presentation values: gate, header, decoder, padding, grey levels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mammoprep.core.device import DeviceArray
from mammoprep.core.errors import RecordError
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.core.stages import stage
from mammoprep.decode import _exposure, _kind, gate
from mammoprep.decode._facts import Facts
from mammoprep.decode._picture import Picture
from mammoprep.decode._plausible import TWO_LEVELS, check_picture
from mammoprep.decode._range import SIXTEEN
from mammoprep.decode._terms import SOP_NAMES
from mammoprep.decode._values import element, nesting
from mammoprep.decode.codecs import ITEM, Frame, read_frame
from mammoprep.decode.crosscheck import chosen, confirm
from mammoprep.decode.grayscale import Rendering, parse_voi
from mammoprep.decode.header import FLOAT_PIXELS, PIXEL_DATA, PIXEL_SERVER, parse, read_facts
from mammoprep.image import Acquisition, MammoImage, Samples


@dataclass(frozen=True)
class _Parsed:
    """A file after the gate: its facts, its encoded pixels and what is odd about its kind."""

    facts: Facts
    encoded: bytes
    excluded: bool
    warnings: tuple[str, ...]


Early = Callable[[Frame], DeviceArray | None]


def open_image(  # noqa: PLR0913 - a build has as many choices as it has
    data: bytes,
    record: Record,
    *,
    voi: str = "auto",
    fast: bool = False,
    gate_kind: bool = True,
    early: Early | None = None,
    crosscheck: float = 0.0,
) -> MammoImage:
    """Read a DICOM file: an overview of its presentation values, with the rest behind it.

    Args:
        data: The whole file.
        record: What the dataset's table says about it.
        voi: ``auto`` (the file's own transform), ``full`` (the whole stored range), ``percentile``
            (1 to 99 % of the pixels), ``C,W`` (a LINEAR window), ``window:<i>`` or ``lut:<i>``.
        fast: Leave the wavelet levels of JPEG 2000 undecoded that the result does not need.
        gate_kind: Refuse pictures that are no screening mammograms; False makes these codes
            warnings, and takes the first of several frames.
        early: Returns the stored values of a frame that a device has decoded already, or None.
        crosscheck: Share of the records, chosen by their keys, whose stored values a second decoder
            must confirm.

    Returns:
        float32 pixels in [0, 1], 0 is black; padding is 0. A large image is an overview, whose
        ``detail`` reads any part of the stored image; a small one is all there is.

    Raises:
        RecordError: any code of ``docs/failures.md`` up to the decoder's.
        ConfigError: ``voi`` is none of the above.
    """
    wanted = parse_voi(voi)
    with stage("header"):
        parsed = _open(data, record, gate_kind=gate_kind)
    facts = parsed.facts
    frame = _frame(parsed)
    words = None if early is None else early(frame)
    picture = Picture(frame, facts, wanted, fast=fast, words=words)
    overview = picture.overview()
    pixels = overview.on_host()
    doubt, figures = check_picture(pixels, overview.padding)
    if (doubt is None or doubt[0] != "blank_image") and picture.has_two_levels():
        doubt = TWO_LEVELS
    doubts = _weigh(doubt, parsed, record)
    if crosscheck and chosen(record.key, crosscheck):
        doubts += confirm(frame, picture.whole())
    rendering = picture.rendering()
    doubts += _unexposed(overview, rendering, facts)
    size = (pixels.shape[0], pixels.shape[1])
    image = MammoImage(
        pixels=pixels,
        geometry=Geometry.of_samples(
            picture.shape, size, overview.step, overview.origin, facts.place.spacing_mm
        ),
        record=record,
        acquisition=_acquisition(facts, rendering, picture.decoder),
        padding=overview.padding,
        detail=picture.detail if overview.step > 1 else None,
    )
    return image.warn(*parsed.warnings, *picture.warnings, *rendering.warnings, *doubts).note(
        **_notes(facts, rendering, picture), **figures
    )


def frame_of(data: bytes, record: Record) -> Frame:
    """Return the encoded pixels of a file that ``open_image`` would decode.

    Raises:
        RecordError: any code of ``docs/failures.md`` from before the decoder.
    """
    return _frame(_open(data, record, gate_kind=True))


def read_image(
    data: bytes, record: Record, *, voi: str = "auto", gate_kind: bool = True
) -> MammoImage:
    """Decode a DICOM file to presentation values of all its pixels, on the stored grid.

    Arguments and errors are those of ``open_image``.
    """
    image = open_image(data, record, voi=voi, gate_kind=gate_kind)
    if image.detail is None:
        return image
    rows, columns = image.geometry.stored_size
    whole = image.detail((0, 0, columns, rows), (rows, columns))
    grid = Geometry.of_stored((rows, columns), image.geometry.stored_spacing_mm)
    read = replace(image, pixels=whole.on_host(), padding=whole.padding, geometry=grid, detail=None)
    return read.warn(*whole.warnings)


def render_stored(data: bytes, record: Record, *, voi: str = "auto", bits: int = 8) -> NDArray[Any]:
    """Return the exact picture on the stored grid: the float64 table, rounded, of every pixel.

    Neither the kind of picture nor its plausibility is checked; all bounds are.

    Args:
        data: The whole file.
        record: What the dataset's table says about it.
        voi: As for ``open_image``.
        bits: 8 or 16.

    Returns:
        uint8 or uint16 (rows, columns); padding is 0.

    Raises:
        RecordError: the file cannot be read or decoded.
        ConfigError: ``voi`` is unknown.
    """
    parsed = _open(data, record, gate_kind=False)
    return Picture(_frame(parsed), parsed.facts, parse_voi(voi), fast=False).quantised(bits)


def _frame(parsed: _Parsed) -> Frame:
    facts = parsed.facts
    return read_frame(parsed.encoded, facts.pixels, facts.kind.frames or 1)


def _open(data: bytes, record: Record, *, gate_kind: bool) -> _Parsed:
    meta = gate.check_file(data)
    if _kind.is_no_image(meta.sop_class):
        raise RecordError("not_an_image", _kind.why_no_image(meta.sop_class))
    dataset = parse(data)
    gate.check_nesting(nesting(dataset, gate.MOST_NESTING))
    facts = read_facts(dataset, meta.transfer_syntax, meta.sop_class)
    if _kind.is_no_image(facts.kind.sop_class):
        raise RecordError("not_an_image", _kind.why_no_image(facts.kind.sop_class))
    gate.check_frames(facts.kind.frames)
    excluded = _kind.exclusions(facts, record)
    if excluded and gate_kind:
        raise RecordError(*excluded[0])
    encoded = _pixel_data(dataset, facts)
    if meta.guessed and encoded.startswith(ITEM):
        raise RecordError(
            "no_transfer_syntax", "no Transfer Syntax UID (0002,0010), and compressed pixels"
        )
    gate.check_pixels(facts.pixels)
    codes = (code for code, _ in excluded)
    odd = (*codes, *meta.warnings, *_kind.oddities(facts, record), *facts.warnings)
    return _Parsed(facts, encoded, bool(excluded), (*odd, *_conflicts(facts, record)))


def _pixel_data(dataset: Dataset, facts: Facts) -> bytes:
    """Return the value of Pixel Data.

    Raises:
        RecordError: ``float_pixels``, ``not_an_image`` or ``no_pixels``.
    """
    encoded = element(dataset, PIXEL_DATA)
    if encoded is not None:
        return encoded.data
    for tag, name in FLOAT_PIXELS.items():
        if tag in dataset:
            raise RecordError("float_pixels", f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})")
    if facts.pixels.rows is None and facts.kind.sop_class not in SOP_NAMES:
        raise RecordError("not_an_image", "neither Rows nor Pixel Data")
    if PIXEL_SERVER in dataset:
        raise RecordError("no_pixels", "the pixels lie on a server: Pixel Data Provider URL")
    raise RecordError("no_pixels", "Pixel Data (7FE0,0010) is absent or empty")


def _unexposed(overview: Samples, rendering: Rendering, facts: Facts) -> tuple[str, ...]:
    """Return a warning where the rendered picture is nearly black, nearly white or burnt out."""
    windowed = rendering.voi not in ("none", "range")
    deep = not windowed and facts.pixels.bits_stored == SIXTEEN
    return _exposure.doubts(overview.on_host(), overview.padding, windowed=windowed, deep=deep)


def _weigh(doubt: tuple[str, str] | None, parsed: _Parsed, record: Record) -> tuple[str, ...]:
    """Return a doubtful picture's code as a warning where it is no failure, else raise it."""
    if doubt is None:
        return ()
    # Nothing is known about border and shape of a picture that nobody says is a mammogram.
    shape = doubt[0] in ("polarity_suspect", "half_lost")
    known = not shape or _kind.says_breast(parsed.facts.kind)
    if known and not parsed.excluded:
        raise RecordError(*doubt)
    return (doubt[0],)


def _conflicts(facts: Facts, record: Record) -> list[str]:
    found = []
    if facts.place.laterality in ("L", "R") and record.laterality not in (
        None,
        facts.place.laterality,
    ):
        found.append("laterality_conflict")
    if facts.place.view is not None and record.view not in (None, facts.place.view):
        found.append("view_conflict")
    return found


def _acquisition(facts: Facts, rendering: Rendering, decoder: str) -> Acquisition:
    side = facts.place.laterality
    return Acquisition(
        photometric=facts.pixels.photometric,
        bits_stored=facts.pixels.bits_stored,
        transfer_syntax=facts.pixels.transfer_syntax,
        voi=rendering.voi,
        voi_function=rendering.function,
        window=rendering.window,
        manufacturer=facts.place.manufacturer,
        decode="exact",
        decoder=decoder,
        laterality=side if side in ("L", "R") else None,
        view=facts.place.view,
        patient_orientation=facts.place.orientation,
        padding=facts.grey.padding,
        column_direction=facts.place.column_direction,
    )


def _notes(facts: Facts, rendering: Rendering, picture: Picture) -> dict[str, Any]:
    kind, pixels, grey = facts.kind, facts.pixels, facts.grey
    return {
        "sop_class": SOP_NAMES.get(kind.sop_class or "", "other"),
        "image_type": list(kind.image_type),
        "frames": kind.frames,
        "view_modifiers": list(kind.modifiers),
        "implant": kind.implant,
        "burned_in": kind.burned_in,
        "bits": f"{pixels.bits_stored} of {pixels.bits_allocated}, high bit {pixels.high_bit}",
        "signed": pixels.signed,
        "codestream_precision": picture.precision,
        "resolutions": picture.levels,
        "decoder": picture.decoder,
        "padding_values": None if grey.padding is None else list(grey.padding),
        "voi": rendering.voi,
        "voi_why": rendering.why,
        "voi_luts": len(grey.voi_luts),
        "voi_windows": min(len(grey.centers), len(grey.widths)),
        "presentation_shape": grey.shape,
        "laterality_stated": facts.place.laterality,
        "spacing_source": facts.place.spacing_source,
        **({} if facts.place.aspect == 1 else {"pixel_aspect": facts.place.aspect}),
        **picture.notes,
        **rendering.notes,
    }
