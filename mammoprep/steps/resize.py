"""Bring an image to its exact output size: area averaging down, linear up, axis by axis."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.device import DeviceArray
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.geometry import Geometry
from mammoprep.core.text import by
from mammoprep.image import MammoImage
from mammoprep.steps._area import Span, at_centres, cover, rows_at, scale, turned
from mammoprep.steps._on_device import shrink

FITS = ("pad", "stretch")
HALF = np.float32(0.5 - 1e-6)  # a tie is "at least half" whatever float32 made of it


def majority(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask in which a pixel is set when at least half of its area is.

    Args:
        mask: bool (rows, columns).
        size: Rows and columns to make.
    """
    return np.asarray(scale(mask.view(np.uint8), size) >= HALF)


def content_size(grid: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size of ``grid``'s shape inside ``frame``, whole pixels, half up.

    Args:
        grid: (rows, columns) of the image.
        frame: (rows, columns) to fit into.
    """
    ratio = min(Fraction(frame[0], grid[0]), Fraction(frame[1], grid[1]))
    rows, columns = (max(1, floor(side * ratio + Fraction(1, 2))) for side in grid)
    return rows, columns


def physical_size(grid: Geometry, frame: tuple[int, int], mm_per_pixel: float) -> tuple[int, int]:
    """Return the size of ``grid`` when a pixel is ``mm_per_pixel`` wide, whole pixels, half up.

    Args:
        grid: The image's grid.
        frame: (rows, columns) that it must fit into.
        mm_per_pixel: In mm.

    Raises:
        RecordError: ``no_spacing``, or ``larger_than_frame``.
    """
    if grid.spacing_mm is None:
        raise RecordError("no_spacing", "the file tells no distance of its pixels")
    sides = (side * mm / mm_per_pixel for side, mm in zip(grid.size, grid.spacing_mm, strict=True))
    rows, columns = (max(1, floor(side + 0.5)) for side in sides)
    if rows > frame[0] or columns > frame[1]:
        found = f"{by(rows, columns)} pixels of {mm_per_pixel:g} mm, {by(*frame)} allowed"
        raise RecordError("larger_than_frame", found)
    return rows, columns


def _lay(values: NDArray[Any], frame: tuple[int, int], corner: tuple[int, int]) -> NDArray[Any]:
    if values.shape[:2] == frame:
        return values
    top, left = corner
    out = np.zeros((*frame, *values.shape[2:]), values.dtype)
    out[top : top + values.shape[0], left : left + values.shape[1]] = values
    return out


@dataclass(frozen=True)
class _Source:
    """What is resampled: arrays on one grid, and which part of it in rows and in columns."""

    pixels: NDArray[Any] | DeviceArray
    padding: NDArray[np.bool_] | None
    spans: tuple[Span, Span] | None
    mirrored: bool = False
    decode: str = "exact"
    warnings: tuple[str, ...] = ()


def _source(image: MammoImage, grid: Geometry, content: tuple[int, int]) -> _Source:
    """Return the image's own pixels, or as fine ones of its box as ``content`` needs."""
    if image.detail is None:
        return _Source(image.pixels, image.padding, None, decode=image.acquisition.decode)
    found = image.detail(grid.crop, content)
    x0, y0, x1, y1 = grid.crop
    top, left = (Fraction(corner) for corner in found.origin)
    down = ((y0 - top) / found.step, (y1 - top) / found.step)
    across = ((x0 - left) / found.step, (x1 - left) / found.step)
    name = "exact" if found.step == 1 else f"level:{found.step.bit_length() - 1}"
    return _Source(found.pixels, found.padding, (down, across), grid.flipped, name, found.warnings)


def _scaled(source: _Source, content: tuple[int, int]) -> NDArray[np.float32]:
    """Return the pixels at ``content``; on the device that they lie on, where it can."""
    if isinstance(source.pixels, DeviceArray):
        done = shrink(source.pixels, content, source.spans) if source.spans else None
        return scale(source.pixels.host(), content, source.spans) if done is None else done
    return scale(source.pixels, content, source.spans)


def _unmeasured(
    source: _Source, content: tuple[int, int], frame: tuple[int, int], corner: tuple[int, int]
) -> NDArray[np.bool_] | None:
    if source.padding is None:
        if content == frame:
            return None
        measured = np.ones(content, bool)
    else:
        measured = ~at_centres(source.padding, content, source.spans)
        measured = measured[:, ::-1] if source.mirrored else measured
    return ~_lay(measured, frame, corner)


def _breast(
    image: MammoImage, content: tuple[int, int], geometry: Geometry
) -> NDArray[np.bool_] | None:
    """Return the breast at ``content``: by half a pixel's area, or along its overview's outline."""
    if image.breast is None or image.detail is None:
        return None if image.breast is None else majority(image.breast, content)
    centres = np.arange(max(content)) + 0.5
    places = image.geometry.from_stored(geometry.to_stored(np.stack([centres, centres], axis=1)))
    rows = rows_at(image.breast.view(np.uint8), places[: content[0], 1])
    found = rows_at(turned(rows), places[: content[1], 0]) > HALF
    return turned(found.view(np.uint8)).view(np.bool_)


def apply(
    image: MammoImage,
    *,
    size: tuple[int, int] | None,
    fit: str = "pad",
    centred: bool = False,
    mm_per_pixel: float | None = None,
) -> MammoImage:
    """Return the image at exactly ``size``, with padding, breast, mask and geometry.

    Behind an overview, as much of the stored image is decoded as ``size`` needs. Pixels become
    float32. Lesions are kept by any overlap, the breast by half a pixel's area, padding by the
    pixel's centre. Added pixels are 0 and count as padding.

    Args:
        image: Pixels (rows, columns), or with channels last.
        size: (width, height) in pixels; None for all stored pixels of the image's box.
        fit: ``pad`` keeps the aspect ratio: all padding on the right, or half above and half
            below; ``stretch`` fills the frame.
        centred: Pad half left and half right instead, for images whose chest wall is not known to
            be at the left edge.
        mm_per_pixel: Scale to pixels of this size and pad, instead of filling the frame.

    Raises:
        ConfigError: ``fit`` is unknown or ``size`` is not two positive numbers.
        RecordError: the pixels behind an overview cannot be decoded; ``no_spacing`` or
            ``larger_than_frame`` with ``mm_per_pixel``.
    """
    if fit not in FITS:
        raise ConfigError(f"fit is one of {', '.join(FITS)}, got {fit!r}.")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ConfigError(f"size is (width, height), both at least 1, got {size!r}.")
    grid = image.geometry if image.detail is None else image.geometry.at_stored_pixels()
    frame = grid.size if size is None else (int(size[1]), int(size[0]))
    if mm_per_pixel is not None:
        content = physical_size(grid, frame, mm_per_pixel)
    else:
        content = frame if fit == "stretch" else content_size(grid.size, frame)
    corner = (frame[0] - content[0]) // 2, (frame[1] - content[1]) // 2 if centred else 0
    source = _source(image, grid, content)
    pixels = _scaled(source, content)
    breast, mask = _breast(image, content, grid.resized(content)), image.mask
    return replace(
        image,
        pixels=_lay(pixels[:, ::-1] if source.mirrored else pixels, frame, corner),
        geometry=grid.resized(content).padded(frame, left=corner[1], top=corner[0]),
        acquisition=replace(image.acquisition, decode=source.decode),
        padding=_unmeasured(source, content, frame, corner),
        breast=None if breast is None else _lay(breast, frame, corner),
        mask=None if mask is None else _lay(cover(mask, content), frame, corner),
        detail=None,
    ).warn(*source.warnings)
