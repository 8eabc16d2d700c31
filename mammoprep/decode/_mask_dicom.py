"""DICOM file of a mask -> its stored numbers, or its segments.

A mask is not looked at: no window, no inversion, no rescaling and no padding has a part in it. A
Segmentation (PS3.3 A.51) says itself what its numbers are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mammoprep.core.errors import RecordError
from mammoprep.core.mask_values import NAMED, NO_FINDING, Meaning, finding
from mammoprep.core.schema import MaskFile
from mammoprep.decode import gate
from mammoprep.decode._facts import Facts, PixelFormat
from mammoprep.decode._mask_values import Layer, Part, layer_of
from mammoprep.decode._stored import Stored, Values
from mammoprep.decode._terms import NO_LESIONS, SEGMENT_KINDS, SEGMENTATIONS
from mammoprep.decode._values import element, integer, integers, items, nesting, numbers, text
from mammoprep.decode.codecs import LOSSY, NATIVE, decode, read_frame
from mammoprep.decode.header import PIXEL_DATA, code_of, parse, read_facts

MOST_SEGMENTS = 64  # as many items of a sequence as are read
_BIG_ENDIAN = "1.2.840.10008.1.2.2"

_TYPE, _MAXIMUM = 0x00620001, 0x0062000E
_SEGMENTS, _NUMBER = 0x00620002, 0x00620004
_CATEGORY, _PROPERTY = 0x00620003, 0x0062000F
_IDENTIFICATION, _REFERENCED = 0x0062000A, 0x0062000B
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_POSITION, _PATIENT, _SLIDE = 0x00209113, 0x00200032, 0x0048021A
_MATRIX_ROWS, _MATRIX_COLUMNS = 0x00480007, 0x00480006


@dataclass(frozen=True)
class _Segment:
    """What a Segmentation says of one of its numbers; its names are never read.

    Attributes:
        number: Segment Number.
        kind: By a code of its property, or None.
        lesion: Whether it may be one: not, where its category says that it is normal anatomy.
    """

    number: int
    kind: str | None
    lesion: bool


def layers(data: bytes, file: MaskFile, meaning: Meaning) -> Iterator[Layer]:
    """Yield the findings of a DICOM file: one layer, or one for each segment.

    Args:
        data: The whole file.
        file: Kind and pathology of what the file says no more about.
        meaning: What the numbers are.

    Raises:
        RecordError: the file cannot be read, or it is not one plane; and as ``layer_of`` does.
    """
    meta = gate.check_file(data)
    dataset = parse(data)
    gate.check_nesting(nesting(dataset, gate.MOST_NESTING))
    facts = read_facts(dataset, meta.transfer_syntax, meta.sop_class)
    frames = gate.check_frames(facts.kind.frames)
    encoded = element(dataset, PIXEL_DATA)
    if encoded is None:
        raise RecordError("no_pixels", "Pixel Data (7FE0,0010) is absent or empty")
    if facts.kind.sop_class in SEGMENTATIONS:
        yield from _segments(dataset, encoded.data, facts, file, meaning)
        return
    if frames > 1:
        raise RecordError("mask_planes", f"a mask of {frames} frames")
    yield layer_of(_stored(encoded.data, facts.pixels), file, meaning)


def _stored(data: bytes, pixels: PixelFormat, frames: int = 1, index: int = 0) -> Stored:
    """Return the stored numbers of a frame."""
    lossy = pixels.transfer_syntax in LOSSY
    if pixels.bits_allocated == 1:
        return Stored(_unpacked(data, pixels, frames, index), 1)
    if not pixels.signed and 0 < (pixels.bits_stored or 0) < gate.STORED_BITS[0]:
        # Fewer bits than any mammogram has are enough for a mask; then the whole word counts.
        word = pixels.bits_allocated or 0
        pixels = replace(pixels, bits_stored=word, high_bit=word - 1)
    gate.check_pixels(pixels)
    values = decode(read_frame(data, pixels, frames, index)).stored
    return Stored(values, (1 << (pixels.bits_stored or 0)) - 1, lossy)


def _unpacked(data: bytes, pixels: PixelFormat, frames: int, index: int) -> NDArray[np.uint8]:
    """Return a frame of single bits, the lowest bit of a byte first, without gaps (PS3.5 8.1.1)."""
    rows, columns = pixels.rows or 0, pixels.columns or 0
    gate.check_size(rows, columns)
    if pixels.samples != 1:
        raise RecordError("not_monochrome", f"{pixels.samples} samples a pixel")
    if pixels.transfer_syntax not in NATIVE or pixels.transfer_syntax == _BIG_ENDIAN:
        raise RecordError("unsupported_syntax", "single bits in this transfer syntax")
    size = rows * columns
    needed = -(-size * frames // 8)
    if not 0 <= len(data) - needed <= 1:
        raise RecordError("pixel_length_mismatch", f"{len(data)} bytes of bits, {needed} expected")
    first = size * index // 8
    skipped = size * index - 8 * first
    part = np.frombuffer(data, np.uint8)[first : first + -(-(skipped + size) // 8)]
    bits = np.unpackbits(part, bitorder="little")[skipped : skipped + size]
    return bits.reshape(rows, columns)


def _segments(
    dataset: Dataset, data: bytes, facts: Facts, file: MaskFile, meaning: Meaning
) -> Iterator[Layer]:
    """Yield the segments that may be findings, in order of their numbers.

    Raises:
        RecordError: ``mask_planes``, ``header_missing``, ``mask_unnamed`` or those of the pixels.
    """
    segments = _described(dataset)
    pixels = replace(facts.pixels, photometric="MONOCHROME2")  # a label map may have a palette
    _check_plane(dataset)
    frames = facts.kind.frames or 1
    if text(dataset, _TYPE) == "LABELMAP":
        if frames > 1:
            raise RecordError("mask_planes", f"a label map of {frames} frames")
        shown = _stored(data, pixels).values
        _check_described(shown, segments)
        labelled = ((segment, shown == segment.number) for segment in segments)
        yield from _layers(labelled, file, meaning)
        return
    places = _places(dataset, segments, frames)
    half = _half(dataset)

    def flags(segment: _Segment) -> NDArray[np.bool_]:
        return _above(_stored(data, pixels, frames, places[segment.number]).values, half)

    found = ((segment, flags(segment)) for segment in segments if segment.number in places)
    yield from _layers(found, file, meaning)


def _described(dataset: Dataset) -> list[_Segment]:
    """Return the segments that the header describes, by their numbers."""
    told = [_segment(item) for item in items(dataset, _SEGMENTS)]
    segments = sorted((s for s in told if s is not None), key=lambda segment: segment.number)
    known = {segment.number for segment in segments}
    if not segments or len(known) < len(told) or len(told) >= MOST_SEGMENTS:
        found = f"{len(told)} segments, {len(known)} numbers of segments"
        raise RecordError("header_missing", f"no usable Segment Sequence: {found}")
    return segments


def _segment(item: Dataset) -> _Segment | None:
    number = integer(item, _NUMBER)
    if number is None:
        return None
    kinds = [SEGMENT_KINDS[code] for code in _codes(item, _PROPERTY) if code in SEGMENT_KINDS]
    normal = any(code in NO_LESIONS for code in _codes(item, _CATEGORY))
    return _Segment(number, next(iter(kinds), None), bool(kinds) or not normal)


def _codes(item: Dataset, tag: int) -> list[str]:
    """Return the codes of SNOMED in a sequence."""
    return [code for each in items(item, tag) if (code := code_of(each)) is not None]


def _check_plane(dataset: Dataset) -> None:
    """Check that all frames lie in one place, and that no frame is a tile.

    Raises:
        RecordError: ``mask_planes``.
    """
    whole = (integer(dataset, _MATRIX_ROWS), integer(dataset, _MATRIX_COLUMNS))
    frame = (integer(dataset, 0x00280010), integer(dataset, 0x00280011))
    groups = [*items(dataset, _SHARED), *items(dataset, _PER_FRAME)]
    if whole not in ((None, None), frame) or any(items(group, _SLIDE) for group in groups):
        raise RecordError("mask_planes", "a segmentation in tiles")
    positions = {
        numbers(position, _PATIENT) for group in groups for position in items(group, _POSITION)
    }
    if len(positions) > 1:
        raise RecordError("mask_planes", f"a segmentation at {len(positions)} positions")


def _places(dataset: Dataset, segments: Sequence[_Segment], frames: int) -> dict[int, int]:
    """Return segment number -> its frame.

    Raises:
        RecordError: ``mask_planes`` where a segment has several, ``header_missing`` where a frame
            is of none.
    """
    if frames >= MOST_SEGMENTS:
        raise RecordError("mask_planes", f"a segmentation of {frames} frames")
    shared = [_referenced(group) for group in items(dataset, _SHARED)]
    groups = items(dataset, _PER_FRAME)
    stated = [_referenced(group) for group in groups] or [None] * frames
    whole = next((number for number in shared if number is not None), None)
    if whole is None and len(segments) == 1:
        whole = segments[0].number
    told = [whole if number is None else number for number in stated]
    known = {segment.number for segment in segments}
    if len(told) != frames or not all(number in known for number in told):
        raise RecordError("header_missing", f"{frames} frames, not each of a described segment")
    if len(set(told)) < frames:
        raise RecordError("mask_planes", f"{frames} frames of {len(set(told))} segments")
    return {number: frame for frame, number in enumerate(told) if number is not None}


def _referenced(group: Dataset) -> int | None:
    told = [integers(item, _REFERENCED) for item in items(group, _IDENTIFICATION)]
    return told[0][0] if told and told[0] else None


def _half(dataset: Dataset) -> int | None:
    """Return twice the least value that is foreground; None where any but 0 is."""
    return (integer(dataset, _MAXIMUM) or 255) if text(dataset, _TYPE) == "FRACTIONAL" else None


def _above(values: Values, most: int | None) -> NDArray[np.bool_]:
    """Return where a segment is: half of the maximum or more of its fraction, or any value.

    Raises:
        RecordError: ``mask_not_binary``: it is there, but nowhere as much as half.
    """
    if most is None:
        return np.asarray(values > 0)
    flags = np.asarray(values.astype(np.int64) * 2 >= most)
    if values.any() and not flags.any():
        raise RecordError("mask_not_binary", "a segment whose fraction is nowhere a half")
    return flags


def _check_described(values: Values, segments: Sequence[_Segment]) -> None:
    known = {0, *(segment.number for segment in segments)}
    if strange := set(np.unique(values).tolist()) - known:
        raise RecordError("header_missing", f"{len(strange)} values of no described segment")


def _layers(
    found: Iterable[tuple[_Segment, NDArray[np.bool_]]],
    file: MaskFile,
    meaning: Meaning,
) -> Iterator[Layer]:
    """Yield a layer for each segment that has pixels and is a finding."""
    there = 0
    for segment, flags in found:
        if not flags.any():
            continue
        part = _part(segment, file, meaning)
        if part is None:
            yield Layer(np.zeros(flags.shape, np.uint16), (), ("mask_anatomy",))
            continue
        there += 1
        counted = meaning.mode == "instances" and there > 1
        odd = ("mask_instances",) if counted else ()
        yield Layer(flags.astype(np.uint16), (part,), odd)


def _part(segment: _Segment, file: MaskFile, meaning: Meaning) -> Part | None:
    """Return what a segment is, or None where it is no finding.

    Raises:
        RecordError: ``mask_unnamed``.
    """
    kind = segment.kind or file.kind
    if meaning.mode == NAMED:
        name = meaning.name(segment.number)
        if name is None:
            raise RecordError("mask_unnamed", f"--mask-values does not name {segment.number}")
        if name in NO_FINDING:
            return None
        return Part(None, *finding(name, kind, file.pathology))
    if not segment.lesion:
        return None
    if meaning.mode == "classes":
        return Part(segment.number, segment.kind or str(segment.number), file.pathology)
    number = segment.number if meaning.mode == "instances" else None
    return Part(number, kind, file.pathology)
