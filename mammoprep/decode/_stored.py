"""The numbers that a mask's file holds, before anyone says what they mean."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.mask_values import Colour, Meaning

Values = NDArray[np.integer]


@dataclass(frozen=True)
class Stored:
    """What a file holds.

    Attributes:
        values: (rows, columns) whole numbers, as they are in the file; or (rows, columns, 3): red,
            green, blue.
        top: The largest number that the file could hold.
        lossy: Whether the file's compression has changed the numbers.
        palette: (entries, 3): the colours that ``values`` are shown in, where they are indices.
        alpha: (rows, columns), where the file has an opacity.
    """

    values: Values
    top: int
    lossy: bool = False
    palette: NDArray[np.uint8] | None = None
    alpha: Values | None = None


def shown(stored: Stored) -> tuple[Stored, tuple[str, ...]]:
    """Return the numbers with the opacity put in, and warnings.

    Where the colours are the same everywhere, the opacity is the picture; elsewhere what is not
    seen is background.
    """
    alpha, values = stored.alpha, stored.values
    if alpha is None or alpha.min() == alpha.max():
        return stored, ()
    if np.all(values == values[0, 0]):
        return Stored(alpha, stored.top), ("mask_in_alpha",)
    unseen = alpha <= stored.top // 2
    unseen = unseen if values.ndim == 2 else unseen[..., None]
    if not np.any(values * unseen):
        return stored, ()
    return Stored(np.where(unseen, values.dtype.type(0), values), stored.top), ("mask_in_alpha",)


def unpalette(stored: Stored, meaning: Meaning) -> Stored:
    """Return the numbers of a file with a palette.

    Programs that write label maps number the labels and choose colours to show them in, black for
    0. Programs that make files smaller number the colours in any order. So greys count for what
    they show, and colours for their indices only where index 0 is black.

    Args:
        stored: As read.
        meaning: Colours that the user names are looked up; numbers that the user names are indices.
    """
    if stored.palette is None:
        return stored
    used = np.unique(stored.values)
    known = np.pad(stored.palette, ((0, max(0, int(used[-1]) + 1 - len(stored.palette))), (0, 0)))
    looks = known[used]
    if meaning.colours:
        return Stored(known[stored.values], 255)
    told_apart = len(np.unique(looks, axis=0)) == len(used)
    grey = bool(np.all(looks == looks[:, :1]))
    labels = not known[0].any() and (bool(meaning.numbers) or not grey)
    if labels or not told_apart:
        return Stored(stored.values, stored.top)
    return Stored(known[:, 0][stored.values] if grey else known[stored.values], 255)


def as_grey(stored: Stored, noise: int) -> Values | None:
    """Return (rows, columns) numbers, or None when the file shows colours.

    Args:
        stored: Without palette.
        noise: How far the channels of a grey picture lie apart after lossy compression.
    """
    values = stored.values
    if values.ndim == 2:
        return values
    high, low = values.max(axis=2), values.min(axis=2)
    return high if int((high - low).max()) <= (noise if stored.lossy else 0) else None


def colours_of(values: Values) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the colours of a picture as one number each: all, (rows, columns); each; how often."""
    wide = values.astype(np.int64)
    packed = (wide[..., 0] << 32) | (wide[..., 1] << 16) | wide[..., 2]
    each, counts = np.unique(packed, return_counts=True)
    return packed, each, counts.astype(np.int64)


def unpacked(colour: int) -> Colour:
    """Return (red, green, blue) of what ``colours_of`` returns."""
    return colour >> 32, colour >> 16 & 0xFFFF, colour & 0xFFFF
