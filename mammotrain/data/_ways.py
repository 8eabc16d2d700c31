"""How a picture gets onto the model's grid without aliasing; decided for each sample by itself."""

from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from mammotrain.data._parameters import Parameters, Size

PLAIN = 1.25  # input pixels an output pixel up to which bilinear interpolation alone is taken
_EDGE = 1e-3  # pixels; a centre so near to the edge counts as inside on every device
MASK_SHARE = 0.24  # a quarter, less what rounding may take


@dataclass(frozen=True)
class Way:
    """What happens to the pixels.

    Attributes:
        copied: Pixels are only copied or mirrored, bit for bit.
        flip_x: With ``copied``: exchange left and right.
        flip_y: With ``copied``: exchange top and bottom.
        shrink_x: Columns that are averaged into one before the warp.
        shrink_y: Rows likewise.
        fine: The warp gives so many pixels a side for each one wanted, and these are averaged.
    """

    copied: bool = False
    flip_x: bool = False
    flip_y: bool = False
    shrink_x: int = 1
    shrink_y: int = 1
    fine: int = 1

    def onto_shrunk(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return maps (..., 2, 3) from the fine output grid to the shrunk input's pixels."""
        moved = matrix / np.array([[self.shrink_x], [self.shrink_y]])
        return np.asarray(moved / np.array([self.fine, self.fine, 1.0]))


def way_of(matrix: NDArray[np.float64], size: Size, out: Size) -> Way:
    """Return how to apply one map from output to input.

    Whole pixels are averaged first, as many as an output pixel spans along each side of the input.
    What is left is a shrink below 2; above ``PLAIN`` it is warped at twice the resolution and
    averaged.
    """
    linear = matrix[:, :2]
    if size == out and np.array_equal(np.abs(linear), np.eye(2)):
        flips = linear.diagonal() < 0
        offsets = np.where(flips, [size[1], size[0]], 0)
        if np.array_equal(matrix[:, 2], offsets):
            return Way(copied=True, flip_x=bool(flips[0]), flip_y=bool(flips[1]))
    spans = np.linalg.norm(linear, axis=1) + 1e-9  # a span of 2 - 1e-16 is 2
    shrink_x = min(max(floor(spans[0]), 1), size[1])
    shrink_y = min(max(floor(spans[1]), 1), size[0])
    left = spans / (shrink_x, shrink_y)
    return Way(shrink_x=shrink_x, shrink_y=shrink_y, fine=2 if left.max() > PLAIN else 1)


def groups(parameters: Parameters) -> dict[Way, list[int]]:
    """Return which samples go which way."""
    found: dict[Way, list[int]] = {}
    for place, matrix in enumerate(parameters.matrices):
        found.setdefault(way_of(matrix, parameters.size, parameters.out), []).append(place)
    return found


def leaves(matrices: NDArray[np.float64], size: tuple[float, float], out: Size) -> bool:
    """Return whether any output pixel's centre may lie outside of the picture."""
    rows, columns = out
    centres = [(0.5, 0.5), (columns - 0.5, 0.5), (0.5, rows - 0.5), (columns - 0.5, rows - 0.5)]
    corners = np.asarray(centres) @ matrices[..., :2].swapaxes(-1, -2) + matrices[..., None, :, 2]
    return bool((corners < -_EDGE).any() or (corners > np.add(size[::-1], _EDGE)).any())


def limits(extent: float) -> tuple[float, float]:
    """Return the coordinates between which a centre counts as inside."""
    return -_EDGE, extent + _EDGE
