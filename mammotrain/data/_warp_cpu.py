"""The same changes with numpy and cv2, a picture at a time: the fast way on a CPU."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammotrain.data._noise import SPREAD, bell
from mammotrain.data._parameters import Parameters, Size
from mammotrain.data._ways import MASK_SHARE, Way, leaves, limits

Plane = NDArray[Any]
_STEEP = 1e-6  # pixels that a row may climb and still count as level
_COVERED = (np.arange(256) >= MASK_SHARE * 255).astype(np.float32)
_MIRROR = {(True, False): 1, (False, True): 0, (True, True): -1}  # (x, y) -> cv2's code


def to_float(plane: Plane, table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return stored levels as grey values of the table."""
    return np.asarray(cv2.LUT(plane, table), np.float32)


def plain_table(levels: int) -> NDArray[np.float32]:
    """Return the table that only divides, rounded as a division in float32."""
    return np.arange(levels + 1, dtype=np.float32) / np.float32(levels)


def warp(plane: Plane, matrix: NDArray[np.float64], way: Way, into: NDArray[np.float32]) -> None:
    """Fill one float32 plane on the model's grid.

    Args:
        plane: (H, W) float32.
        matrix: 2 x 3, maps the grid's (x, y) to the plane's.
        way: Of ``way_of``.
        into: (h, w), contiguous.
    """
    if way.copied:
        into[:] = _mirrored(plane, way)
        return
    size = _extent(plane, way)
    _moved(_means(plane, way), way.onto_shrunk(matrix), size, into, way.fine)


def warp_mask(
    mask: Plane, matrix: NDArray[np.float64], way: Way, into: NDArray[np.float32]
) -> None:
    """Fill one mask on the model's grid, 0 or 1; only the part that a lesion can reach is warped.

    Args:
        mask: (H, W) uint8, more than 0 where a lesion is.
        matrix: 2 x 3, maps the grid's (x, y) to the mask's.
        way: Of ``way_of``.
        into: (h, w), all 0.
    """
    reached = _reached(mask, matrix, way, into.shape)
    if reached is None:
        return
    flags = cv2.threshold(mask, 0, 255, cv2.THRESH_BINARY)[1]
    if way.copied:
        into[:] = _mirrored(cv2.LUT(flags, _COVERED), way)
        return
    x0, y0, x1, y1 = reached
    there = matrix.copy()
    there[:, 2] += matrix[:, :2] @ (x0, y0)
    shrunk = _largest(_padded(flags, way), (way.shrink_y, way.shrink_x))
    moved = np.empty(((y1 - y0) * way.fine, (x1 - x0) * way.fine), np.uint8)
    _moved(shrunk, way.onto_shrunk(there), _extent(mask, way), moved)
    into[y0:y1, x0:x1] = cv2.LUT(_largest(moved, (way.fine, way.fine)), _COVERED)


def _reached(
    mask: Plane, matrix: NDArray[np.float64], way: Way, out: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """Return the box of output pixels that lesions can reach; None for no lesion in the picture."""
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return None
    left, right = x - 2 * way.shrink_x, x + width + 2 * way.shrink_x
    top, bottom = y - 2 * way.shrink_y, y + height + 2 * way.shrink_y
    corners = np.array([(left, top), (right, top), (left, bottom), (right, bottom)])
    points = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    low = np.maximum(np.floor(points.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0)), (out[1], out[0])).astype(int)
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _mirrored(plane: Plane, way: Way) -> Plane:
    code = _MIRROR.get((way.flip_x, way.flip_y))
    return plane if code is None else cv2.flip(plane, code)


def _extent(plane: Plane, way: Way) -> tuple[float, float]:
    return plane.shape[0] / way.shrink_y, plane.shape[1] / way.shrink_x


def _padded(plane: Plane, way: Way) -> Plane:
    down, across = -plane.shape[0] % way.shrink_y, -plane.shape[1] % way.shrink_x
    if not (down or across):
        return plane
    return cv2.copyMakeBorder(plane, 0, down, 0, across, cv2.BORDER_REPLICATE)


def _means(plane: Plane, way: Way) -> Plane:
    if way.shrink_x == way.shrink_y == 1:
        return plane
    padded = _padded(plane, way)
    size = (padded.shape[1] // way.shrink_x, padded.shape[0] // way.shrink_y)
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)


def _largest(plane: Plane, block: Size) -> Plane:
    if block == (1, 1):
        return plane
    rows, columns = plane.shape[0] // block[0], plane.shape[1] // block[1]
    lines = plane.reshape(rows, block[0], -1).max(1)
    return np.asarray(lines.reshape(rows, columns, block[1]).max(2))


def _moved(
    plane: Plane,
    matrix: NDArray[np.float64],
    extent: tuple[float, float],
    into: Plane,
    fine: int = 1,
) -> None:
    """Sample a plane; cv2 puts whole coordinates at pixel centres, the matrix at their corners.

    With ``fine``, so many samples a side are taken for each one of ``into``, and averaged.
    """
    rows, columns = into.shape
    size = (rows * fine, columns * fine)
    found = into if fine == 1 else np.empty(size, into.dtype)
    at_centres = matrix.copy()
    at_centres[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    cv2.warpAffine(
        plane,
        at_centres,
        (size[1], size[0]),
        dst=found,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if leaves(matrix, extent, size):
        _clear_outside(found, matrix, extent)
    if fine > 1:
        cv2.resize(found, (columns, rows), dst=into, interpolation=cv2.INTER_AREA)


def _clear_outside(moved: Plane, matrix: NDArray[np.float64], extent: tuple[float, float]) -> None:
    """Set to 0, in place, what lies outside of the picture: the two ends of every row."""
    rows, columns = moved.shape
    y = np.arange(rows) + 0.5
    first, end = np.zeros(rows), np.full(rows, float(columns))
    for axis, size in enumerate((extent[1], extent[0])):
        start = matrix[axis, 1] * y + matrix[axis, 2]
        low, high = (edge - start for edge in limits(size))
        slope = matrix[axis, 0]
        if abs(slope) * columns < _STEEP:
            end[(low > 0) | (high < 0)] = 0
            continue
        edges = np.sort([low / slope, high / slope], axis=0) - 0.5  # centres to numbers of columns
        first = np.maximum(first, np.ceil(edges[0]))
        end = np.minimum(end, np.floor(edges[1]) + 1)
    starts = np.clip(first, 0, columns).astype(int)
    ends = np.clip(end, starts, columns).astype(int)
    line = np.arange(rows) * columns  # a row's end and the next one's start are one piece
    after = np.append(line[1:] + starts[1:], rows * columns)
    flat = moved.reshape(-1)
    flat[: starts[0]] = 0
    for here, there in zip((line + ends).tolist(), after.tolist(), strict=True):
        if here < there:
            flat[here:there] = 0


def blur(plane: NDArray[np.float32], kernel: NDArray[np.float32]) -> None:
    """Put a plane under a Gaussian, in place."""
    if kernel.size > 1:
        plane[:] = cv2.sepFilter2D(
            plane, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REPLICATE
        )


def add_noise(image: NDArray[np.float32], parameters: Parameters, place: int) -> None:
    """Add noise to one picture (C, h, w), in place, where it is not exactly 0."""
    if not parameters.noise[place]:
        return
    first, second = (np.full((), seed) for seed in parameters.noise_seeds[place])
    words = bell(np.arange(image.size), first, second).reshape(image.shape)
    strength = np.float32(parameters.noise[place] / SPREAD)
    there = image > 0
    image += words.astype(np.float32) * strength
    np.clip(image, 0.0, 1.0, out=image)
    image *= there


def cut_out(image: NDArray[np.float32], parameters: Parameters, place: int) -> None:
    """Set the cut-out boxes of one picture (C, h, w) to 0, in place."""
    for x0, y0, x1, y1 in parameters.cutouts[place]:
        image[:, y0:y1, x0:x1] = 0.0
