"""What the decoder takes from a header: enumerations, numbers or None, never free text."""

from dataclasses import dataclass

from mammoprep.decode._luts import LutItem


@dataclass(frozen=True)
class Kind:
    """What sort of picture the file says it holds.

    Attributes:
        sop_class: SOP Class UID of the data set, or of the file meta information when that is
            silent.
        modality: ``MG``, ``other`` or None.
        breast: Whether anatomy, view or implant attributes say that this is a breast; None when
            silent.
        presentation: Whether Presentation Intent Type is FOR PRESENTATION, None when it is silent.
        image_type: The known terms of Image Type; others are ``other``.
        frames: Number of Frames, 1 when absent, None when it is garbage.
        specimen: Whether the view code says specimen.
        modifiers: Names of the view modifiers.
        burned_in: Burned In Annotation, None when the file is silent.
        implant: Breast Implant Present, None when the file is silent.
    """

    sop_class: str | None
    modality: str | None
    breast: bool | None
    presentation: bool | None
    image_type: tuple[str, ...]
    frames: int | None
    specimen: bool
    modifiers: tuple[str, ...]
    burned_in: bool | None
    implant: bool | None


@dataclass(frozen=True)
class PixelFormat:
    """How stored values lie in the pixel data; None where the header has no usable value.

    Attributes:
        transfer_syntax: UID of the encoding.
        rows: Height in pixels.
        columns: Width in pixels.
        samples: Samples per Pixel.
        photometric: ``MONOCHROME1``, ``MONOCHROME2``, ``other`` or None.
        bits_allocated: Bits of a word.
        bits_stored: Significant bits of a word.
        high_bit: Place of the most significant bit, from 0.
        signed: Whether stored values are two's complement.
        overlay_bits: Bits of a word that embedded overlays claim.
        word_vr: VR of the pixel data, None in implicit syntaxes.
        sign_stated: Whether Pixel Representation is 0 or 1; None where it is absent.
    """

    transfer_syntax: str
    rows: int | None
    columns: int | None
    samples: int
    photometric: str | None
    bits_allocated: int | None
    bits_stored: int | None
    high_bit: int | None
    signed: bool
    overlay_bits: int
    word_vr: str | None
    sign_stated: bool | None = True


@dataclass(frozen=True)
class Grey:
    """How stored values become grey (PS3.3 C.8.11.3, C.11.1, C.11.2).

    Attributes:
        slope: Rescale Slope, or None.
        intercept: Rescale Intercept, or None.
        modality_lut: First item of the Modality LUT Sequence that has data, or None.
        voi_luts: Items of the VOI LUT Sequence; an item without descriptor or data is None.
        centers: Window Centers; a value that is no number is None.
        widths: Window Widths; a value that is no number is None.
        function: ``LINEAR``, ``LINEAR_EXACT``, ``SIGMOID``, or None for anything else.
        shape: ``IDENTITY``, ``INVERSE`` or None.
        padding: Lowest and highest stored padding value, or None.
    """

    slope: float | None
    intercept: float | None
    modality_lut: LutItem | None
    voi_luts: tuple[LutItem | None, ...]
    centers: tuple[float | None, ...]
    widths: tuple[float | None, ...]
    function: str | None
    shape: str | None
    padding: tuple[int, int] | None


@dataclass(frozen=True)
class Place:
    """Which breast from where, how large, on which machine.

    Attributes:
        laterality: ``L``, ``R``, ``B`` or None.
        view: One of ``core.schema.VIEWS`` or None.
        orientation: First value of Patient Orientation, reduced to ``A``, ``P`` or None.
        spacing_mm: (row, column) distance of stored pixel centres, or None.
        spacing_source: Which attribute gave the spacing, or None.
        manufacturer: One of a fixed list, ``other``, or None.
        column_direction: Second value of Patient Orientation, reduced to ``F``, ``H`` or None.
        aspect: Height of a pixel in its widths; 1 where they are square, or nothing says so.
    """

    laterality: str | None
    view: str | None
    orientation: str | None
    spacing_mm: tuple[float, float] | None
    spacing_source: str | None
    manufacturer: str | None
    column_direction: str | None
    aspect: float = 1.0


@dataclass(frozen=True)
class Facts:
    """Everything the decoder takes from a header, and the codes of what was odd in it."""

    kind: Kind
    pixels: PixelFormat
    grey: Grey
    place: Place
    warnings: tuple[str, ...]
