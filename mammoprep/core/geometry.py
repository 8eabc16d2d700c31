"""Where a pixel came from: one affine that every spatial change updates.

Coordinates are continuous (x, y) = (column, row) with (0, 0) at the outer corner of the first
pixel, so that the centre of pixel *i* is *i + 0.5*. Sizes are (rows, columns). Boxes are (x0, y0,
x1, y1).
"""

from dataclasses import dataclass, replace
from math import ceil, floor, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammoprep.core.schema import Box

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
_SNAP = 1e-6  # an edge this near to a whole pixel is that pixel's
IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def _compose(after: Matrix, before: Matrix) -> Matrix:
    product = np.vstack([after, [0.0, 0.0, 1.0]]) @ np.vstack([before, [0.0, 0.0, 1.0]])
    first, second = (tuple(float(v) + 0.0 for v in row) for row in product[:2])  # + 0.0: no "-0.0"
    return first, second  # type: ignore[return-value]


@dataclass(frozen=True)
class Geometry:
    """The grid of an image and how it lies on the stored pixels.

    Attributes:
        stored_size: (rows, columns) of the stored image.
        size: (rows, columns) of this grid.
        matrix: 2 x 3, maps stored (x, y) to this grid's (x, y).
        crop: Box of stored pixels that this grid shows, (x0, y0, x1, y1).
        stored_spacing_mm: (row, column) distance of stored pixel centres, None when the file is
            silent.
    """

    stored_size: tuple[int, int]
    size: tuple[int, int]
    matrix: Matrix
    crop: tuple[int, int, int, int]
    stored_spacing_mm: tuple[float, float] | None = None

    @classmethod
    def of_stored(
        cls, stored_size: tuple[int, int], spacing_mm: tuple[float, float] | None = None
    ) -> "Geometry":
        """Return the geometry of an image that nothing has been done to yet."""
        rows, columns = stored_size
        return cls((rows, columns), (rows, columns), IDENTITY, (0, 0, columns, rows), spacing_mm)

    @classmethod
    def of_samples(
        cls,
        stored_size: tuple[int, int],
        size: tuple[int, int],
        step: int,
        origin: tuple[float, float],
        spacing_mm: tuple[float, float] | None = None,
    ) -> "Geometry":
        """Return the geometry of samples that each stand for ``step`` x ``step`` stored pixels.

        Args:
            stored_size: (rows, columns) of the stored image.
            size: (rows, columns) of the samples.
            step: Stored pixels from one sample to the next.
            origin: (y, x) in stored coordinates of the outer corner of the first sample's area,
                which may lie outside of the image.
            spacing_mm: (row, column) distance of stored pixel centres.
        """
        share = 1.0 / step
        matrix: Matrix = (
            (share, 0.0, 0.0 - origin[1] * share),
            (0.0, share, 0.0 - origin[0] * share),
        )
        grid = cls(stored_size, size, matrix, (0, 0, 0, 0), spacing_mm)
        return replace(grid, crop=grid.shown())

    def shown(self) -> tuple[int, int, int, int]:
        """Return the box of whole stored pixels that this grid touches, inside of the image."""
        right, bottom = float(self.size[1]), float(self.size[0])
        corners = self.to_stored([(0.0, 0.0), (right, 0.0), (0.0, bottom), (right, bottom)])
        low, high = corners.min(0) + _SNAP, corners.max(0) - _SNAP
        rows, columns = self.stored_size
        return (
            max(floor(low[0]), 0),
            max(floor(low[1]), 0),
            min(ceil(high[0]), columns),
            min(ceil(high[1]), rows),
        )

    def at_stored_pixels(self) -> "Geometry":
        """Return the grid of the stored pixels in ``crop``, flipped when this grid is."""
        grid = Geometry.of_stored(self.stored_size, self.stored_spacing_mm)
        grid = grid.flipped_lr() if self.flipped else grid
        x0, y0, x1, y1 = (round(edge) for edge in grid.box_from_stored(self.crop))
        return grid.cropped((x0, y0, x1, y1))

    @property
    def flipped(self) -> bool:
        """Whether this grid shows a mirror image of the stored one."""
        return self._determinant < 0

    @property
    def _determinant(self) -> float:
        (a, b, _), (c, d, _) = self.matrix
        return a * d - b * c

    @property
    def turned(self) -> bool:
        """Whether rows of this grid are no rows of the stored image."""
        return self.matrix[0][1] != 0 or self.matrix[1][0] != 0

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """(row, column) distance of this grid's pixel centres in mm, None when unknown."""
        if self.stored_spacing_mm is None:
            return None
        row, column = self.stored_spacing_mm
        down, across = self._scales()
        return row / down, column / across

    def _scales(self) -> tuple[float, float]:
        """Return how many pixels of this grid a stored pixel is high and wide.

        A turned grid has one number for both: mammograms have square pixels.
        """
        if self.turned:
            scale = sqrt(abs(self._determinant))
            return scale, scale
        return abs(self.matrix[1][1]), abs(self.matrix[0][0])

    def flipped_lr(self) -> "Geometry":
        """Return the geometry after exchanging left and right; its own inverse."""
        mirror: Matrix = ((-1.0, 0.0, float(self.size[1])), (0.0, 1.0, 0.0))
        return replace(self, matrix=_compose(mirror, self.matrix))

    def cropped(self, box: tuple[int, int, int, int]) -> "Geometry":
        """Return the geometry of ``pixels[y0:y1, x0:x1]`` for box (x0, y0, x1, y1) on this grid.

        Raises:
            ValueError: the box is empty or not inside the grid.
        """
        x0, y0, x1, y1 = box
        rows, columns = self.size
        if not (0 <= x0 < x1 <= columns and 0 <= y0 < y1 <= rows):
            raise ValueError(f"crop {box} is not inside a grid of {columns} x {rows}")
        shift: Matrix = ((1.0, 0.0, -float(x0)), (0.0, 1.0, -float(y0)))
        cut = replace(self, size=(y1 - y0, x1 - x0), matrix=_compose(shift, self.matrix))
        return replace(cut, crop=cut.shown())

    def resized(self, size: tuple[int, int]) -> "Geometry":
        """Return the geometry after stretching this whole grid to ``size`` (rows, columns)."""
        scale_y, scale_x = size[0] / self.size[0], size[1] / self.size[1]
        stretch: Matrix = ((scale_x, 0.0, 0.0), (0.0, scale_y, 0.0))
        return replace(self, size=size, matrix=_compose(stretch, self.matrix))

    def padded(self, size: tuple[int, int], *, left: int, top: int) -> "Geometry":
        """Return the geometry after laying this grid into a larger one at (left, top)."""
        shift: Matrix = ((1.0, 0.0, float(left)), (0.0, 1.0, float(top)))
        return replace(self, size=size, matrix=_compose(shift, self.matrix))

    def warped(self, matrix: Matrix, size: tuple[int, int]) -> "Geometry":
        """Return the geometry after a warp of this grid into one of ``size`` (rows, columns).

        Args:
            matrix: 2 x 3, maps this grid's (x, y) to the new one's.
            size: (rows, columns) of the new grid.
        """
        moved = replace(self, size=size, matrix=_compose(matrix, self.matrix))
        low, high = moved.shown()[:2], moved.shown()[2:]
        x0, y0, x1, y1 = self.crop
        box = (max(low[0], x0), max(low[1], y0), min(high[0], x1), min(high[1], y1))
        return replace(moved, crop=box)

    def from_stored(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map stored points, shape (n, 2) of (x, y), to this grid."""
        linear = np.asarray(self.matrix, dtype=np.float64)
        return np.asarray(points, dtype=np.float64).reshape(-1, 2) @ linear[:, :2].T + linear[:, 2]

    def to_stored(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points of this grid, shape (n, 2) of (x, y), back to stored pixels; exact inverse."""
        linear = np.asarray(self.matrix, dtype=np.float64)
        moved = np.asarray(points, dtype=np.float64).reshape(-1, 2) - linear[:, 2]
        return moved @ np.linalg.inv(linear[:, :2]).T

    def box_from_stored(self, box: Box) -> Box:
        """Map a stored box to this grid; corners are sorted again after a flip."""
        corners = self.from_stored([box[:2], box[2:]])
        (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
        return float(x0), float(y0), float(x1), float(y1)

    def to_json(self) -> dict[str, Any]:
        """Return the ``geometry`` member of a sample's metadata."""
        spacing = self.spacing_mm
        return {
            "stored_size": list(self.stored_size),
            "size": list(self.size),
            "matrix": [list(row) for row in self.matrix],
            "flipped": self.flipped,
            "crop": list(self.crop),
            "spacing_mm": None if spacing is None else list(spacing),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Geometry":
        """Return the geometry that ``to_json`` wrote, to map between output and stored pixels."""
        first, second = (tuple(float(v) for v in row) for row in value["matrix"])
        matrix: Matrix = (first, second)  # type: ignore[assignment]
        x0, y0, x1, y1 = (int(v) for v in value["crop"])
        rows, columns = (int(v) for v in value["size"])
        stored_rows, stored_columns = (int(v) for v in value["stored_size"])
        grid = cls((stored_rows, stored_columns), (rows, columns), matrix, (x0, y0, x1, y1))
        if (spacing := value["spacing_mm"]) is None:
            return grid
        down, across = grid._scales()
        return replace(grid, stored_spacing_mm=(spacing[0] * down, spacing[1] * across))
