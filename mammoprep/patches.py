"""``--roi``: lesion patches and background tiles, cut from the stored pixels of one image.

A patch shows ``--roi-shrink`` stored pixels for each of its own, or more where a lesion with its
margin needs more. Nothing in a picture may tell a copy from an original or a lesion's patch from a
tile, but what they show: copies of both are moved by whole stored pixels and turned by quarters
only, so that no corner is empty and no copy is softer than its original.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.config import Settings
from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.geometry import Matrix
from mammoprep.core.schema import Lesion, Record, Scalar
from mammoprep.image import MammoImage
from mammoprep.quotas import may_give_patches, outlines
from mammoprep.variation import chance, is_inside

BACKGROUND = "background"
TARGETS = {
    "pathology": [BACKGROUND, "benign", "malignant"],
    "lesion": [BACKGROUND, "lesion"],
    "kind-pathology": [
        BACKGROUND, "benign_calcification", "benign_mass", "malignant_calcification",
        "malignant_mass",
    ],
}  # fmt: skip
TISSUE = 0.75  # of a tile's area must be breast
SPARSE = 4  # candidate tiles a tile's side
SHIFT = 0.25  # of a patch's side: the farthest that a copy moves

PixelBox = tuple[int, int, int, int]


def settle(card: Card, records: Sequence[Record], target: str) -> tuple[Card, list[Record]]:
    """Return the card with the classes of patches, and which images can give any.

    Args:
        card: The dataset's.
        records: Its table.
        target: One of ``TARGETS``; empty for ``pathology`` where the table knows one, else
            ``lesion``.

    Raises:
        ConfigError: the dataset has no outline at all.
    """
    if not any(map(outlines, records)):
        raise ConfigError(
            "--roi cuts patches around lesions, and this table has no outline of any."
            " mammoprep sources lists the datasets; their pages say which have outlines."
        )
    if not target:
        target = "pathology" if any(map(_knows_pathology, records)) else "lesion"
    kept = [
        record
        if record.excluded or may_give_patches(record)
        else replace(record, excluded="no_roi")
        for record in records
    ]
    return replace(card, targets={target: TARGETS[target]}, target=target), kept


def _knows_pathology(record: Record) -> bool:
    lesions, masks = record.lesions, record.masks
    return any(one.pathology for one in lesions) or any(one.pathology for one in masks)


def label_of(lesion: Lesion | None, target: str) -> int | None:
    """Return the class of a lesion, or of background (None), by one of ``TARGETS``."""
    if lesion is None:
        return 0
    name = {
        "lesion": "lesion",
        "pathology": lesion.pathology,
        "kind-pathology": f"{lesion.pathology}_{lesion.kind}",
    }[target]
    names = TARGETS[target]
    return names.index(name) if name in names else None


@dataclass(frozen=True)
class Cutter:
    """What is cut from one image.

    Attributes:
        image: All stored pixels, oriented, with breast, padding and the mask of its lesions.
        settings: Size, shrink and margin of patches, seed, target.
    """

    image: MammoImage
    settings: Settings

    def patches(self, copies: Sequence[int], tiles: int) -> Iterator[MammoImage]:
        """Yield the patches, still in stored pixels, each with the key, label and lesions it has.

        Args:
            copies: 0 for the patch itself, from 1 for copies.
            tiles: How many background tiles to look for; there may be fewer.

        Raises:
            RecordError: ``roi_outside`` when a patch would not show its lesion.
        """
        for lesion in self.image.record.lesions:
            for copy in copies:
                yield self._lesion(lesion, copy)
        for number, box in enumerate(self._tiles(tiles), 1):
            for copy in copies:
                yield self._tile(number, box, copy)

    def _lesion(self, lesion: Lesion, copy: int) -> MammoImage:
        box = _box(self.image, lesion)
        width, height = self._footprint(box)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        room = ((width - box[2] + box[0]) / 2, (height - box[3] + box[1]) / 2)
        name = f"r{lesion.id}_{copy}"
        part, random = self._part(name, middle, (width, height), room, copy)
        if not is_inside(part, lesion):  # its name and its label would be those of other tissue
            raise RecordError("roi_outside", f"the patch of lesion {lesion.id} does not show it")
        return self._named(_turned(part, random, copy), name, lesion, copy)

    def _tile(self, number: int, box: PixelBox, copy: int) -> MammoImage:
        size = (box[2] - box[0], box[3] - box[1])
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        name = f"b{number}_a{copy}" if copy else f"b{number}"
        part, random = self._part(name, middle, size, (size[0], size[1]), copy)
        if not _is_free(part, self._in_breast):  # moved onto a lesion, or off the breast
            part = _cut(self.image, box)
        return self._named(_turned(part, random, copy), name, None, copy)

    @property
    def _in_breast(self) -> bool:
        return self.settings.crop != "none"

    def _footprint(self, box: tuple[float, float, float, float]) -> tuple[int, int]:
        """Return the (width, height) in stored pixels of the patch around a box."""
        wide, high = self.settings.size
        margin, least = 1 + 2 * self.settings.roi_padding, self.settings.roi_shrink
        scale = max((box[2] - box[0]) * margin / wide, (box[3] - box[1]) * margin / high, least)
        return ceil(wide * scale), ceil(high * scale)

    def _part(
        self,
        name: str,
        middle: tuple[float, float],
        size: tuple[int, int],
        room: tuple[float, float],
        copy: int,
    ) -> tuple[MammoImage, np.random.Generator]:
        """Return the part of a size around a point; a copy's is off by chance, inside ``room``."""
        random = chance(self.settings.seed, self.image.record.key, name)
        if copy:
            far = [min(free, SHIFT * side) for free, side in zip(room, size, strict=True)]
            by = random.uniform(-1, 1, 2) * np.maximum(far, 0)
            middle = (middle[0] + float(by[0]), middle[1] + float(by[1]))
        rows, columns = self.image.geometry.size
        x0 = _start(middle[0], size[0], columns)
        y0 = _start(middle[1], size[1], rows)
        return _cut(self.image, (x0, y0, x0 + size[0], y0 + size[1])), random

    def _named(self, part: MammoImage, name: str, lesion: Lesion | None, copy: int) -> MammoImage:
        record = self.image.record
        labels: dict[str, Scalar] = dict(record.labels)
        proven = {"malignant": 1, "benign": 0}.get((lesion and lesion.pathology) or "")
        labels["abnormal"] = int(lesion is not None)
        labels["cancer"] = 0 if lesion is None else proven
        if lesion is None and "birads" in labels:
            labels["birads"] = None  # it was given for what is not in a tile
        return replace(
            part,
            record=replace(
                record,
                key=f"{record.key}_{name}",
                label=label_of(lesion, self.settings.target),
                labels=labels,
                lesions=tuple(one for one in record.lesions if is_inside(part, one)),
                parent=record.key,
                lesion=None if lesion is None else lesion.id,
                augmented=copy > 0,
            ),
        )

    def _tiles(self, wanted: int) -> list[PixelBox]:
        """Return boxes of lesion-free tissue, chosen by chance, none over another if possible."""
        width, height = self._footprint((0.0, 0.0, 0.0, 0.0))
        corners = _free_corners(self.image, (width, height), self._in_breast)
        order = chance(self.settings.seed, self.image.record.key, "tiles").permutation(len(corners))
        chosen: list[tuple[int, int]] = []
        for near in (1.0, 0.5):  # then half over each other, never more
            far = (near * width, near * height)
            for x, y in corners[order].tolist():
                if len(chosen) == wanted:
                    break
                if all(abs(x - a) >= far[0] or abs(y - b) >= far[1] for a, b in chosen):
                    chosen.append((x, y))
        return [(x, y, x + width, y + height) for x, y in chosen]


def _box(image: MammoImage, lesion: Lesion) -> tuple[float, float, float, float]:
    points = image.geometry.from_stored(lesion.polygon)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return x0, y0, x1, y1


def _start(middle: float, side: int, frame: int) -> int:
    """Return where a part begins: around ``middle``, inside the frame as far as it fits."""
    if side >= frame:
        return -((side - frame) // 2)
    return min(max(round(middle - side / 2), 0), frame - side)


def _free_corners(image: MammoImage, size: tuple[int, int], in_breast: bool) -> NDArray[np.int64]:
    """Return the upper left corners (x, y) of all candidate tiles, (n, 2)."""
    width, height = size
    rows, columns = image.geometry.size
    xs = np.arange(0, columns - width + 1, max(1, width // SPARSE))
    ys = np.arange(0, rows - height + 1, max(1, height // SPARSE))
    if not (xs.size and ys.size):
        return np.empty((0, 2), np.int64)

    def covered(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        total = cv2.integral(flags.view(np.uint8))
        low, high, left, right = ys[:, None], ys[:, None] + height, xs, xs + width
        return np.asarray(
            total[high, right].astype(np.int64)
            - total[low, right] - total[high, left] + total[low, left]
        )  # fmt: skip

    free = np.ones((ys.size, xs.size), bool)
    if image.mask is not None:
        free &= covered(image.mask > 0) == 0
    if image.padding is not None:
        free &= covered(image.padding) == 0
    if in_breast and image.breast is not None:
        free &= covered(image.breast) >= TISSUE * width * height
    found = np.argwhere(free)
    return np.stack([xs[found[:, 1]], ys[found[:, 0]]], axis=1).astype(np.int64)


def _is_free(part: MammoImage, in_breast: bool) -> bool:
    """Return whether a part may be background: the rule of ``_free_corners``."""
    lesion = part.mask is not None and part.mask.any()
    unmeasured = part.padding is not None and part.padding.any()
    outside = in_breast and part.breast is not None and part.breast.mean() < TISSUE
    return not (lesion or unmeasured or outside)


def _cut(image: MammoImage, box: PixelBox) -> MammoImage:
    """Return a part of an image; what lies outside of the picture is 0 and counts as padding."""
    rows, columns = image.geometry.size
    x0, y0, x1, y1 = box
    inner = (max(x0, 0), max(y0, 0), min(x1, columns), min(y1, rows))
    down, across = slice(inner[1], inner[3]), slice(inner[0], inner[2])
    before = (inner[1] - y0, inner[0] - x0)
    around = ((before[0], y1 - inner[3]), (before[1], x1 - inner[2]))
    geometry = image.geometry.cropped(inner)

    def part(array: NDArray[Any], outside: bool = False) -> NDArray[Any]:
        deep = (*around, (0, 0))[: array.ndim]
        return np.pad(array[down, across], deep, constant_values=outside)

    padding = image.padding
    if padding is None and any(side for axis in around for side in axis):
        padding = np.zeros((rows, columns), bool)
    geometry = geometry.padded((y1 - y0, x1 - x0), left=before[1], top=before[0])
    padding = None if padding is None else part(padding, True)
    return replace(image.moved(part, geometry), padding=padding, stored_mask=None)


def _turned(part: MammoImage, random: np.random.Generator, copy: int) -> MammoImage:
    """Return a copy's part mirrored or not, and turned by a quarter or two where it is square."""
    if not copy:
        return part
    rows, columns = part.geometry.size
    mirrored, upended = random.random() < 0.5, random.random() < 0.5
    diagonal = rows == columns and random.random() < 0.5

    def turn(array: NDArray[Any]) -> NDArray[Any]:
        array = array[:, ::-1] if mirrored else array
        array = array[::-1] if upended else array
        return np.ascontiguousarray(array.swapaxes(0, 1) if diagonal else array)

    x = (-1.0, 0.0, float(columns)) if mirrored else (1.0, 0.0, 0.0)
    y = (0.0, -1.0, float(rows)) if upended else (0.0, 1.0, 0.0)
    matrix: Matrix = (y, x) if diagonal else (x, y)
    return part.moved(turn, part.geometry.warped(matrix, (rows, columns)))
