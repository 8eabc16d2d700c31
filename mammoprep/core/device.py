"""An array that lies on a GPU, with the few things that the way to a picture does with it.

Everything is written against the Python array API (data-apis.org, 2023.12), so that any library
that follows it will do. Only whole-number and element by element float32 operations occur, in a
fixed order: the bits are those that a CPU gets.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DeviceArray:
    """An array on a device.

    Attributes:
        values: The array, (rows, columns).
        xp: The array API namespace that computes with it.
        fetch: Returns a copy in main memory.
        place: Returns a copy of a NumPy array on the device.
    """

    values: Any
    xp: Any
    fetch: Callable[[Any], NDArray[Any]]
    place: Callable[[NDArray[Any]], Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return int(self.values.shape[0]), int(self.values.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values as NumPy has it."""
        return np.dtype(str(self.values.dtype).rsplit(".", 1)[-1])

    def __getitem__(self, part: tuple[slice, slice]) -> "DeviceArray":
        """Return a part, on the device."""
        return replace(self, values=self.values[part])

    def host(self) -> NDArray[Any]:
        """Return the values in main memory."""
        return self.fetch(self.values)

    def limits(self) -> tuple[int, int]:
        """Return the lowest and highest of whole numbers."""
        return int(self.xp.min(self.values)), int(self.xp.max(self.values))

    def holds(self, low: int, high: int) -> bool:
        """Return whether any of the values lies from ``low`` to ``high``, both inclusive."""
        whole = self.xp.astype(self.values, self.xp.int32)
        return bool(self.xp.any((whole >= low) & (whole <= high)))

    def looked_up(self, table: NDArray[np.float32]) -> "DeviceArray":
        """Return ``table[values]``; the table has an entry for every value of the type."""
        xp = self.xp
        places = xp.reshape(xp.astype(self.values, xp.int32), (-1,))
        found = xp.take(self.place(table), places, axis=0)
        return replace(self, values=xp.reshape(found, self.shape))

    def block_means(self, step: int) -> NDArray[Any]:
        """Return the rounded mean of every ``step`` x ``step`` values, as OpenCV rounds it.

        That is halves upwards for 2 x 2 values, else halves to even. The last block of a side is as
        long as is left; the array is unsigned.
        """
        cuts = [side // step * step for side in self.shape]
        bands = [
            [self._blocks(band, part, step) for part in _split(self.shape[1], cuts[1])]
            for band in _split(self.shape[0], cuts[0])
        ]
        return np.block(bands).astype(self.dtype)

    def _blocks(self, rows: slice, columns: slice, step: int) -> NDArray[Any]:
        xp, part = self.xp, self.values[rows, columns]
        high, wide = (min(step, side) for side in part.shape)
        shape = (part.shape[0] // high, high, part.shape[1] // wide, wide)
        whole = xp.sum(xp.reshape(xp.astype(part, xp.int64), shape), axis=(1, 3))
        if (high, wide) == (2, 2):
            return self.fetch((whole + 2) >> 2)
        means = xp.astype(whole, xp.float32) * (np.float32(1) / np.float32(high * wide)).item()
        return self.fetch(xp.round(means))


def _split(side: int, cut: int) -> list[slice]:
    return [part for part in (slice(0, cut), slice(cut, side)) if part.start < part.stop]
