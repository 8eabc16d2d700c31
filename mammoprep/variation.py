"""An augmented copy of a finished picture: turned, mirrored and cropped by chance with a seed."""

from dataclasses import replace
from hashlib import sha256
from math import cos, radians, sin
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.geometry import Matrix
from mammoprep.core.schema import Lesion
from mammoprep.image import MammoImage

ROTATION = 70.0  # degrees either way
SMALLEST_CROP = 0.8
KEPT = 0.9  # of the lesions' area
TRIES = 8


def chance(seed: int, *what: object) -> np.random.Generator:
    """Return random numbers that depend on ``seed`` and ``what`` only."""
    text = "/".join(str(part) for part in (seed, *what))
    return np.random.default_rng(int.from_bytes(sha256(text.encode()).digest()[:16], "big"))


def copy_of(image: MammoImage, copy: int, seed: int) -> MammoImage:
    """Return augmented copy number ``copy`` of an image that is finished but for ``quantise``.

    It is turned by up to 70 degrees, mirrored or not, and cropped to 80 to 100 % of its sides, in
    one linear resampling; what was outside of the picture is 0 and counts as padding. Of several
    draws the first counts that keeps nine tenths of the lesions in the picture; if none does, the
    copy is only mirrored.

    Args:
        image: float32 pixels on the output grid.
        copy: From 1; appended to the key as ``_a<copy>``.
        seed: Together with key and copy it decides everything.
    """
    random = chance(seed, image.record.key, "copy", copy)
    for _ in range(TRIES):
        varied = _warped(image, _drawn(random, image.geometry.size))
        if _keeps_lesions(image, varied):
            break
    else:
        width = float(image.geometry.size[1])
        varied = _warped(image, ((-1.0, 0.0, width), (0.0, 1.0, 0.0)))
    record = varied.record
    key = f"{record.key}_a{copy}"
    return replace(varied, record=replace(record, key=key, parent=record.key, augmented=True))


def _drawn(random: np.random.Generator, size: tuple[int, int]) -> Matrix:
    """Return a map from the picture's (x, y) to the copy's."""
    rows, columns = size
    angle = radians(random.uniform(-ROTATION, ROTATION))
    mirror = -1.0 if random.random() < 0.5 else 1.0
    share = random.uniform(SMALLEST_CROP, 1.0)
    centre = np.array([columns, rows]) * (0.5 + random.uniform(-0.5, 0.5, 2) * (1 - share))
    linear = np.array([[cos(angle) * mirror, -sin(angle)], [sin(angle) * mirror, cos(angle)]])
    linear /= share
    x, y = np.array([columns, rows]) / 2 - linear @ centre
    (a, b), (c, d) = linear.tolist()
    return (a, b, float(x)), (c, d, float(y))


def _warped(image: MammoImage, matrix: Matrix) -> MammoImage:
    size = image.geometry.size
    unmeasured = np.zeros(size, bool) if image.padding is None else image.padding
    warped = replace(
        image,
        pixels=_moved(image.pixels, matrix, cv2.INTER_LINEAR),
        geometry=image.geometry.warped(matrix, size),
        padding=_moved(unmeasured.view(np.uint8), matrix, cv2.INTER_NEAREST, outside=1) > 0,
        breast=None if image.breast is None else _moved_flags(image.breast, matrix),
        # a pixel that a lesion touches is the lesion's, as in a mask that was drawn
        mask=None if image.mask is None else _touched(image.mask, matrix),
        stored_mask=None,
    )
    lesions = tuple(lesion for lesion in image.record.lesions if is_inside(warped, lesion))
    return replace(warped, record=replace(image.record, lesions=lesions))


def is_inside(image: MammoImage, lesion: Lesion) -> bool:
    """Return whether the picture shows some of a lesion."""
    corners = np.round(image.geometry.from_stored(lesion.polygon) - 0.5).astype(np.int32)
    shown = np.zeros(image.geometry.size, np.uint8)
    return bool(cv2.fillPoly(shown, [corners], 1).any())


def _moved(
    values: NDArray[Any], matrix: Matrix, interpolation: int, outside: float = 0
) -> NDArray[Any]:
    """Warp an array; cv2 puts whole coordinates at pixel centres, the matrix at their corners."""
    linear = np.array(matrix)
    linear[:, 2] += linear[:, :2] @ (0.5, 0.5) - 0.5
    size = (values.shape[1], values.shape[0])
    value = (float(outside),) * 4
    moved: NDArray[Any] = cv2.warpAffine(
        values,
        linear,
        size,
        flags=interpolation,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=value,
    )
    return moved


def _moved_flags(flags: NDArray[np.bool_], matrix: Matrix) -> NDArray[np.bool_]:
    return np.asarray(_moved(flags.view(np.uint8), matrix, cv2.INTER_NEAREST) > 0)


def _touched(mask: NDArray[np.uint8], matrix: Matrix) -> NDArray[np.uint8]:
    return np.where(_moved(mask, matrix, cv2.INTER_LINEAR) > 0, 255, 0).astype(np.uint8)


def _keeps_lesions(image: MammoImage, varied: MammoImage) -> bool:
    if image.mask is None or varied.mask is None or not image.mask.any():
        return True
    scale = np.linalg.det(np.array(varied.geometry.matrix)[:, :2])
    scale /= np.linalg.det(np.array(image.geometry.matrix)[:, :2])
    expected = np.count_nonzero(image.mask) * abs(scale)
    return bool(np.count_nonzero(varied.mask) >= KEPT * expected)
