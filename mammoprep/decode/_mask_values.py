"""Numbers of a mask file -> which pixels belong to which finding.

A file is not asked how deep its numbers are, but how many different ones it holds and how they lie:
two are fore- and background; several that hold areas of their own are numbers of findings; those
that only lie between others are a smooth edge; and what is none of these is no mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import RecordError
from mammoprep.core.mask_values import NAMED, NO_FINDING, Colour, Meaning, finding
from mammoprep.core.schema import MaskFile
from mammoprep.decode._stored import Stored, Values, as_grey, colours_of, shown, unpacked, unpalette

BETWEEN = (0.2, 0.8)
MOST_BETWEEN = 0.01
MOST_COVERED = 0.99
JPEG_NOISE = 32  # of 255: a black JPEG is not quite black
# People number findings by hand up to a dozen or two; what has more values is smooth, unless its
# numbers lie apart from each other, as programs that number connected parts have it.
MOST_NUMBERS = 32
MOST_APART = 4096
TOUCHING = 0.1  # of the findings' pixels may lie beside another finding's, where they lie apart
BLEND = 0.5  # of a value's pixels lie between a lower and a higher one: it is an edge's
EDGE = 8  # pixels that a smooth edge or a block of a JPEG reaches out
LEAST_STEPS = 5  # findings may lie in each other, but not as many as make a ramp
SHOWN = 6  # values in a message

Numbers = NDArray[np.uint16]


@dataclass(frozen=True)
class Part:
    """What one number of a mask file is.

    Attributes:
        number: The number as it stands in the file; None where it says only "foreground".
        kind: As of ``Lesion``.
        pathology: As of ``Lesion``.
    """

    number: int | None
    kind: str | None
    pathology: str | None


@dataclass(frozen=True)
class Layer:
    """Findings of a mask file that do not overlap.

    Attributes:
        numbers: (rows, columns): 0 is background, k belongs to ``parts[k - 1]``.
        parts: What the numbers are.
        warnings: Codes of what was odd.
    """

    numbers: Numbers
    parts: tuple[Part, ...]
    warnings: tuple[str, ...] = ()


def layer_of(stored: Stored, file: MaskFile, meaning: Meaning) -> Layer:
    """Return the findings in the numbers of a file.

    Args:
        stored: As read.
        file: Kind and pathology of what the table says no more about.
        meaning: What the numbers are.

    Raises:
        RecordError: ``mask_not_binary``: another picture; ``mask_colours``: colours without names;
            ``mask_unnamed``: values without names, where some have one.
    """
    stored, odd = shown(stored)
    stored = unpalette(stored, meaning)
    values = as_grey(stored, JPEG_NOISE)
    if values is None:
        layer = _of_colours(stored, file, meaning)
    elif stored.lossy:
        layer = _smooth(values, stored.top, file, meaning, lossy=True)
    else:
        layer = _of_numbers(values, stored.top, file, meaning)
    covered = np.count_nonzero(layer.numbers) / layer.numbers.size
    # A cut-out of dense tissue has no grey below the half of its brightest one.
    if covered > MOST_COVERED and meaning.mode != NAMED:
        raise RecordError("mask_not_binary", "nearly all pixels are foreground")
    odd += _contradicted(layer.parts, file) if meaning.mode == NAMED else ()
    return replace(layer, warnings=(*odd, *layer.warnings, *_around(layer.numbers, covered)))


def _contradicted(parts: Sequence[Part], file: MaskFile) -> tuple[str, ...]:
    """Return a warning where a name says otherwise than the table's row."""
    wrong = any(
        (file.kind and part.kind != file.kind)
        or (file.pathology and part.pathology != file.pathology)
        for part in parts
    )
    return ("mask_conflict",) if wrong else ()


def _around(numbers: Numbers, covered: float) -> tuple[str, ...]:
    """Return a warning where the foreground lies around the background."""
    corners = numbers[[0, 0, -1, -1], [0, -1, 0, -1]]
    return ("mask_inverted",) if covered > 0.5 and corners.all() else ()


def _levels(values: Values) -> tuple[list[int], list[int]]:
    """Return the different values, rising, and how many pixels have each."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = np.bincount(values.ravel())
        there = np.flatnonzero(counts)
        return there.tolist(), counts[there].tolist()
    each, found = np.unique(values, return_counts=True)
    return each.tolist(), found.tolist()


def _placed(values: Values, levels: Sequence[int], places: Sequence[int]) -> Numbers:
    """Return ``values`` with each of ``levels``, all there are, replaced by its place."""
    low = levels[0]
    table = np.zeros(levels[-1] - low + 1, np.uint16)
    table[np.array(levels) - low] = places
    index = values if low == 0 else values.astype(np.int64) - low
    return table[index]


def _of_numbers(values: Values, top: int, file: MaskFile, meaning: Meaning) -> Layer:
    levels, counts = _levels(values)
    if meaning.mode == NAMED:
        named = [(level, count) for level, count in zip(levels, counts, strict=True)]
        places, parts = _by_name(named, file, meaning)
        return Layer(_placed(values, levels, places), parts)
    if len(levels) == 1 and levels[0]:
        raise RecordError("mask_not_binary", f"every pixel has the value {levels[0]}")
    background, odd = _background(values, levels)
    inside = [level for level in levels if level != background]
    if not inside:
        return Layer(np.zeros(values.shape, np.uint16), ())
    if len(inside) > 1 and not _are_numbers(values, levels, background):
        return _smooth(values, top, file, meaning, lossy=False)
    order = {level: place for place, level in enumerate(inside, 1)}
    numbers = _placed(values, levels, [order.get(level, 0) for level in levels])
    return _meant(Layer(numbers, (), odd), inside, file, meaning)


def _meant(layer: Layer, inside: Sequence[int], file: MaskFile, meaning: Meaning) -> Layer:
    """Return a layer of numbers with what each is."""
    if meaning.mode == "classes":
        parts = tuple(Part(level, str(level), file.pathology) for level in inside)
        return replace(layer, parts=parts)
    if len(inside) == 1 or meaning.mode == "binary":
        united = np.minimum(layer.numbers, np.uint16(1))
        whole = _whole(file) if meaning.mode == "binary" else _single(inside[0], file)
        return replace(layer, numbers=united, parts=(whole,))
    parts = tuple(Part(level, file.kind, file.pathology) for level in inside)
    return replace(layer, parts=parts, warnings=(*layer.warnings, "mask_instances"))


def _whole(file: MaskFile) -> Part:
    return Part(None, file.kind, file.pathology)


def _single(number: int, file: MaskFile) -> Part:
    """Return the only finding of a mask; a small number may say of which kind it is."""
    told = number if 1 < number <= MOST_NUMBERS else None
    return replace(_whole(file), number=told)


def _background(values: Values, levels: Sequence[int]) -> tuple[int, tuple[str, ...]]:
    """Return the value that is background: 0, or else what most of the border has."""
    if 0 in levels:
        return 0, ()
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    each, counts = np.unique(border, return_counts=True)
    return int(each[counts.argmax()]), ("mask_background",)


def _are_numbers(values: Values, levels: Sequence[int], background: int) -> bool:
    """Return whether several values are numbers of findings, and not a smooth edge or a picture."""
    if list(levels) == [0, 1, 2]:  # no edge is kept as smooth as that
        return True
    inside = len(levels) - 1
    if inside > MOST_APART:
        return False
    ranks = _placed(values, levels, range(len(levels)))
    nothing = np.uint16(levels.index(background))
    if inside <= MOST_NUMBERS:
        counts = np.bincount(ranks.ravel())
        blends = np.bincount(ranks[_between(ranks)], minlength=len(levels))
        shares = np.delete(blends / counts, nothing)
        if not np.any(shares >= BLEND) and not _is_ramp(ranks, inside):
            return True
    return _lie_apart(ranks, nothing)


def _around_each(ranks: Numbers) -> tuple[Numbers, Numbers]:
    """Return the lowest and the highest of each pixel and its eight neighbours."""
    side = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.erode(ranks, side), np.uint16), np.asarray(
        cv2.dilate(ranks, side), np.uint16
    )


def _between(ranks: Numbers) -> NDArray[np.bool_]:
    low, high = _around_each(ranks)
    return np.asarray((low < ranks) & (ranks < high))


def _is_ramp(ranks: Numbers, inside: int) -> bool:
    """Return whether most values lie between the next lower and the next higher one alone."""
    if inside < LEAST_STEPS:
        return False
    beside: set[tuple[int, int]] = set()
    for one, other in ((ranks[1:], ranks[:-1]), (ranks[:, 1:], ranks[:, :-1])):
        differ = one != other
        pairs = np.unique(np.stack([one[differ], other[differ]]), axis=1)
        beside |= {(a, b) for a, b in pairs.T.tolist()} | {(b, a) for a, b in pairs.T.tolist()}
    around = [{b for a, b in beside if a == rank} for rank in range(inside + 1)]
    steps = sum(found == {rank - 1, rank + 1} for rank, found in enumerate(around))
    return steps > inside // 2


def _lie_apart(ranks: Numbers, nothing: np.uint16) -> bool:
    """Return whether hardly a pixel of a value touches another value but the background."""
    inside = ranks != nothing
    # the background takes the place of the lowest and of the highest, so that it never differs
    _, high = _around_each(np.where(inside, ranks, np.uint16(0)))
    low, _ = _around_each(np.where(inside, ranks, np.uint16(MOST_APART + 1)))
    touching = inside & ((high != ranks) | (low != ranks))
    return bool(np.count_nonzero(touching) <= TOUCHING * np.count_nonzero(inside))


def _smooth(values: Values, top: int, file: MaskFile, meaning: Meaning, *, lossy: bool) -> Layer:
    """Return what is brighter than half of the brightest, where that leaves out edges only.

    Raises:
        RecordError: ``mask_not_binary``.
    """
    if meaning.mode in ("classes", NAMED):
        how = "lossy compression does not keep numbers" if lossy else "the values are no numbers"
        raise RecordError("mask_not_binary", f"{how} of kinds, as --mask-values says that they are")
    least = min(int(values.min()), 0)
    values = values.astype(np.int64) - least if least else values
    peak = int(values.max())
    if lossy and peak <= JPEG_NOISE * top // 255:
        dark = ("mask_faint",) if peak else ()
        return Layer(np.zeros(values.shape, np.uint16), (), dark)
    low, high = (share * peak for share in BETWEEN)
    between = np.count_nonzero((values > low) & (values < high)) / values.size
    if between > MOST_BETWEEN:
        found = f"{between:.1%} of the pixels are neither black nor white"
        raise RecordError("mask_not_binary", found)
    bright = values > peak // 2
    if not file.outline:
        _check_edges(values, bright, peak)
    odd = () if lossy or file.outline else _noise(values, peak)
    return Layer(bright.astype(np.uint16), (_whole(file),), odd)


def _check_edges(values: Values, bright: NDArray[np.bool_], peak: int) -> None:
    """Check that what is neither black nor white lies at the edge of what is white, and is steep.

    Raises:
        RecordError: ``mask_not_binary``: a finding would be lost.
    """
    side = np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)
    near = cv2.dilate(bright.view(np.uint8), side) > 0
    if far := int(np.count_nonzero((values > peak * JPEG_NOISE // 255) & ~near)):
        found = f"{far} pixels are neither black nor at the edge of what is white"
        raise RecordError("mask_not_binary", found)
    grey = np.asarray(values, np.float32)
    low, high = (
        cv2.erode(grey, np.ones((3, 3), np.uint8)),
        cv2.dilate(grey, np.ones((3, 3), np.uint8)),
    )
    darkest, brightest = (share * peak for share in BETWEEN)
    level = (low > darkest) & (high < brightest) & (high - low <= peak * JPEG_NOISE // 255)
    if flat := int(np.count_nonzero(level)):
        found = f"areas of a grey that is neither black nor white, around {flat} pixels"
        raise RecordError("mask_not_binary", found)


def _noise(values: Values, peak: int) -> tuple[str, ...]:
    """Return a warning where values close to black hold areas that were taken for black."""
    faint = (values > 0) & (values <= peak * JPEG_NOISE // 255)
    cores = cv2.erode(faint.view(np.uint8), np.ones((3, 3), np.uint8))
    return ("mask_faint",) if cores.any() else ()


def _by_name(
    levels: Sequence[tuple[int | Colour, int]], file: MaskFile, meaning: Meaning
) -> tuple[list[int], tuple[Part, ...]]:
    """Return the place of each level's name, from 1, and what the names are; 0 is background.

    Raises:
        RecordError: ``mask_unnamed``.
    """
    names: list[str] = []
    places, strange = [], []
    for level, count in levels:
        name = meaning.name(level)
        nothing = level in (0, (0, 0, 0)) if name is None else name in NO_FINDING
        if name is None and not nothing:
            strange.append(f"{_written(level)} ({count} pixels)")
        if name is None or nothing:
            places.append(0)
            continue
        if name not in names:
            names.append(name)
        places.append(names.index(name) + 1)
    if strange:
        raise RecordError("mask_unnamed", f"--mask-values does not name {_listed(strange)}")
    return places, tuple(Part(None, *finding(name, file.kind, file.pathology)) for name in names)


def _written(level: int | Colour) -> str:
    if isinstance(level, int):
        return str(level)
    digits = 2 if max(level) <= 0xFF else 4
    return "#" + "".join(f"{channel:0{digits}x}" for channel in level)


def _listed(found: Sequence[str]) -> str:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{', '.join(found[:SHOWN])}{more}"


def _of_colours(stored: Stored, file: MaskFile, meaning: Meaning) -> Layer:
    """Return the findings in colours, which only names can tell apart.

    Raises:
        RecordError: ``mask_colours`` or ``mask_unnamed``.
    """
    if stored.lossy:
        raise RecordError("mask_colours", "colours in a file whose compression changes them")
    packed, each, counts = colours_of(stored.values)
    pairs = zip(each.tolist(), counts.tolist(), strict=True)
    levels = [(unpacked(colour), count) for colour, count in pairs]
    if not meaning.colours:
        common = sorted(levels, key=lambda found: (-found[1], found[0]))
        found = _listed([f"{_written(level)} ({count} pixels)" for level, count in common])
        raise RecordError("mask_colours", found)
    places, parts = _by_name(levels, file, meaning)
    return Layer(np.array(places, np.uint16)[np.searchsorted(each, packed)], parts)
