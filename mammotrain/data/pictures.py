"""A member's bytes -> the picture that a batch holds: decoded, checked, made smaller if asked."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammotrain.checks import one_of
from mammotrain.data.around import around
from mammotrain.data.shards import Table

IMAGE, MASK, INTERSECTION = "image", "mask.png", "intersection.png"
CROP = "crop"  # no member: the image around its mask
MEMBERS = (IMAGE, INTERSECTION, CROP)
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that tell a picture's size
_LONELY = {0x01, *range(0xD0, 0xD8)}  # JPEG markers without a length


@dataclass(frozen=True)
class Shape:
    """What all pictures of a run are.

    Attributes:
        channels: 1, or 3: red, green, blue.
        rows: Height in pixels.
        columns: Width in pixels.
        bits: 8 or 16.
    """

    channels: int
    rows: int
    columns: int
    bits: int

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The type of a sample of a pixel."""
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def bytes(self) -> int:
        """Bytes of a picture."""
        return self.channels * self.rows * self.columns * self.bits // 8


class Source(Protocol):
    """Where batches get their pictures from; threads may share it.

    Attributes:
        shape: What every picture is.
    """

    shape: Shape

    def image(self, row: int, out: NDArray[Any]) -> None:
        """Write a picture to ``out``, (channels, rows, columns).

        Raises:
            DamageError: it is not what was built; the message has its key and shard.
        """
        ...

    def mask(self, row: int, out: NDArray[Any]) -> None:
        """Write a lesion mask to ``out``, uint8 (1, rows, columns), 0 or 255."""
        ...


class Stored:
    """Pictures decoded from their shards, and made smaller where that is asked for.

    Attributes:
        table: The samples.
        member: ``image``, ``intersection.png``, or ``crop``: the image around its mask.
        masks: Whether masks may be asked for.
        stored: What the stored pictures are.
        shape: What they are made.
    """

    def __init__(
        self,
        table: Table,
        rows: NDArray[np.int64],
        *,
        size: tuple[int, int] | None = None,
        member: str = IMAGE,
        masks: bool = False,
    ) -> None:
        """Check that these samples can be in one batch.

        Args:
            table: The samples.
            rows: Those that will be asked for.
            size: (width, height) of the pictures, at most that of the stored ones; None for theirs.
            member: ``image``, ``intersection.png`` or ``crop``.
            masks: Whether masks will be asked for.

        Raises:
            ConfigError: no samples, several sizes, a ``size`` above the stored one, a member that
                some sample lacks, or masks of pictures that are cut out around them.
            DamageError: the first picture is damaged.
        """
        one_of("data.member", member, MEMBERS)
        if masks and member == CROP:
            raise ConfigError(
                "data.member crop shows what lies around a mask: a task that learns masks needs "
                "image."
            )
        self.table = table
        self.member, self.masks = member, masks
        self._suffix = _suffixes(table, rows, IMAGE if member == CROP else member)
        if masks or member == CROP:
            _check_masks(table, rows)
        self.stored = self._probe(int(rows[0]), _one_size(table, rows))
        self.shape = _smaller(self.stored, size)

    def rows(self, member: str = "") -> NDArray[np.int64]:
        """Return all of the table's samples that have a member (the picture) and the size."""
        has = self.table.has(member) if member else np.array([bool(s) for s in self._suffix])
        if not member and self.member == CROP:
            has &= self.table.has(MASK)
        size = [self.stored.rows, self.stored.columns]
        fits = np.array([found == size for found in self.table.columns["geometry.size"]], bool)
        return np.flatnonzero(has & fits)

    @property
    def smaller(self) -> bool:
        """Whether pictures are made smaller than they are stored."""
        return self.shape != self.stored

    def image(self, row: int, out: NDArray[Any]) -> None:
        """Write a picture to ``out``, (channels, rows, columns); raises DamageError."""
        picture = self._decoded(row, self._suffix[row], self.stored)
        wanted = out.shape[1], out.shape[2]
        if self.member == CROP:
            picture = picture[around(self._mask(row), wanted)]
        if picture.shape[:2] != wanted:
            larger = picture.shape[0] < wanted[0] or picture.shape[1] < wanted[1]
            how = cv2.INTER_LINEAR if larger else cv2.INTER_AREA
            picture = cv2.resize(picture, wanted[::-1], interpolation=how)
        if self.shape.channels == 1:
            out[0] = picture
        else:
            out[:] = picture[..., ::-1].transpose(2, 0, 1)  # cv2: blue first

    def mask(self, row: int, out: NDArray[Any]) -> None:
        """Write a mask to ``out``, uint8 (1, rows, columns); raises DamageError.

        In a smaller one every pixel is set that overlaps a set pixel, however little, so that no
        lesion gets lost.
        """
        picture = self._mask(row)
        if self.smaller:
            share = cv2.resize(
                picture.astype(np.float32), out.shape[:0:-1], interpolation=cv2.INTER_AREA
            )
            picture = np.where(share > 0, 255, 0).astype(np.uint8)
        out[0] = picture

    def _mask(self, row: int) -> NDArray[Any]:
        return self._decoded(row, MASK, Shape(1, self.stored.rows, self.stored.columns, 8))

    def _decoded(self, row: int, suffix: str, shape: Shape) -> NDArray[Any]:
        data = self.table.read(row, suffix)
        found = stated_size(data)
        if found != (shape.rows, shape.columns):  # before anything is allocated
            raise self.table.damaged(row, suffix, f"states {found}, expected "
                                     f"{(shape.rows, shape.columns)} rows and columns")  # fmt: skip
        picture = _decode(data)
        if picture is None:
            raise self.table.damaged(row, suffix, "does not decode")
        channels = 1 if picture.ndim == 2 else picture.shape[2]
        if channels != shape.channels or picture.dtype != shape.dtype:
            raise ConfigError(
                f"{self.table.keys[row]}.{suffix} has {channels} channels of {picture.dtype}, "
                f"others {shape.channels} of {np.dtype(shape.dtype)}: no batch can hold both."
            )
        return picture

    def _probe(self, row: int, size: tuple[int, int]) -> Shape:
        """Return what the pictures are, from the first one."""
        suffix = self._suffix[row]
        data = self.table.read(row, suffix)
        picture = _decode(data) if stated_size(data) == size else None
        if picture is None or picture.dtype not in (np.uint8, np.uint16):
            raise self.table.damaged(row, suffix, f"is no picture of {size} rows and columns")
        channels = 1 if picture.ndim == 2 else picture.shape[2]
        if channels not in (1, 3):
            raise self.table.damaged(row, suffix, f"has {channels} channels")
        return Shape(channels, *size, 8 * picture.dtype.itemsize)


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a PNG or JPEG states, None for anything else."""
    if data.startswith(_PNG) and data[12:16] == b"IHDR" and len(data) >= 24:
        columns, rows = struct.unpack(">II", data[16:24])
        return rows, columns
    if not data.startswith(_JPEG):
        return None
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            rows, columns = struct.unpack(">HH", data[place + 5 : place + 9])
            return rows, columns
        bare = marker in _LONELY or marker == 0xFF  # 0xFF: padding before a marker
        length = (marker != 0xFF) + 1 if bare else 2 + int.from_bytes(data[place + 2 : place + 4])
        place += length
    return None


def _decode(data: bytes) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _suffixes(table: Table, rows: NDArray[np.int64], member: str) -> Sequence[str]:
    """Return the suffix of every sample's picture."""
    if not rows.size:
        raise ConfigError("No sample is left to read.")
    known = ("png", "jpg") if member == IMAGE else (member,)
    found = np.full(len(table), "", object)
    for suffix in reversed(known):
        found[table.has(suffix)] = suffix
    if lacking := int(np.count_nonzero(found[rows] == "")):
        raise ConfigError(
            f"{lacking:,} of {len(rows):,} samples have no member {' or '.join(known)}. "
            "Intersections are written by mammoprep build --intersection."
        )
    return found.tolist()


def _check_masks(table: Table, rows: NDArray[np.int64]) -> None:
    if lacking := int(np.count_nonzero(~table.has(MASK)[rows])):
        raise ConfigError(
            f"{lacking:,} of {len(rows):,} samples have no mask: nobody looked for lesions there, "
            "or what they outlined is lost. Choose those whose annotation is neither 'none' nor "
            "'unusable'."
        )


def _one_size(table: Table, rows: NDArray[np.int64]) -> tuple[int, int]:
    """Return (rows, columns) of all samples; raises ConfigError when there are several."""
    sizes = {tuple(size) for size in table.columns["geometry.size"][rows]}
    if len(sizes) > 1:
        shown = ", ".join(f"{columns}x{height}" for height, columns in sorted(sizes)[:4])
        raise ConfigError(f"Samples of several sizes cannot be in one batch: {shown}.")
    height, width = sizes.pop()
    return int(height), int(width)


def _smaller(stored: Shape, size: tuple[int, int] | None) -> Shape:
    if size is None:
        return stored
    width, height = size
    if not (1 <= width <= stored.columns and 1 <= height <= stored.rows):
        raise ConfigError(
            f"data.size {width}x{height} is larger than the stored {stored.columns}x{stored.rows}. "
            "Build the shards with a larger --size."
        )
    return Shape(stored.channels, height, width, stored.bits)
