"""What is kept of the pictures of a table, and of a run's: who is one picture, and thumbnails.

Both are files of plain numpy arrays; nothing of them is unpickled. A thumbnail's longer
side has 192 pixels: about 2 KB, and what one sees of a mammogram in a list of results.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

import mammoprep
from mammoprep.core.errors import DamageError
from mammotrain.data.shards import Table
from mammotrain.watching import Watcher

VERSION = 1
SIDE = 192  # of a kept thumbnail
# Only thumbnails are left of what a finished run has learned from. Measured (docs/leaks.md):
# pictures of two patients reach 0.59 in them, most copies 0.87 and more.
BY_THUMBNAIL = 0.7
DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error)
IMAGES = ("png", "jpg")
Rows = NDArray[np.int64]
Pixels = NDArray[Any]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Looks:
    """What the pictures of a table look like; arrays are of those that were read.

    Attributes:
        rows: Their places in the table.
        pixels: Equal numbers for equal pixels; -1 for a picture that shows nothing.
        thumbnails: JPEG, empty for a picture that shows nothing.
        pairs: Place in the table, place in the table, likeness.
    """

    rows: Rows
    pixels: NDArray[np.int64]
    thumbnails: Sequence[bytes]
    pairs: Sequence[tuple[int, int, float]]


@dataclass(frozen=True)
class Learned:
    """What a finished run has learned from, or chose its threshold on, a line a sample.

    Attributes:
        source: Its dataset.
        group: Its group, without the source.
        key: Its name.
        digest: Hash of its stored picture, empty for none.
        role: ``train`` or ``validate``.
        thumbnails: As of ``Looks``; empty where the run did not look.
    """

    source: Sequence[str]
    group: Sequence[str]
    key: Sequence[str]
    digest: Sequence[str]
    role: Sequence[str]
    thumbnails: Sequence[bytes]


def digests(table: Table) -> list[str]:
    """Return the hash of each sample's stored picture, empty where there is none."""
    found = [""] * len(table)
    for suffix in reversed(IMAGES):
        there = table.has(suffix)
        for row, digest in enumerate(table.digests(suffix)):
            if there[row]:
                found[row] = str(digest)
    return found


def picture(table: Table, row: int) -> Pixels | None:
    """Return a sample's stored pixels, None where it has no picture; raises DamageError."""
    for suffix in IMAGES:
        if table.has(suffix)[row]:
            pixels = _decoded(table.read(row, suffix))
            if pixels is None:
                raise table.damaged(row, suffix, "does not decode")
            return pixels
    return None


def find(table: Table, groups: Sequence[str], watcher: Watcher) -> Looks:
    """Read every picture but augmented copies, and find those that are one; raises DamageError."""
    rows = np.flatnonzero(~table.columns["augmented"].astype(bool)).astype(np.int64)
    table.ahead(rows)
    found = mammoprep.same_pictures(
        lambda place: picture(table, int(rows[place])),
        [groups[row] for row in rows.tolist()],
        watch=watcher.count,
        keep=SIDE,
    )
    known: dict[str, int] = {}
    pixels = [
        -1 if each.grey is None else known.setdefault(each.pixels_sha256, len(known))
        for each in found.pictures
    ]
    pairs = [(int(rows[p.one]), int(rows[p.other]), p.likeness) for p in found.pairs]
    return Looks(rows, np.array(pixels, np.int64), [p.kept for p in found.pictures], pairs)


def shows(pixels: Pixels | None) -> bool:
    """Whether a picture shows anything that can be compared."""
    found = mammoprep.same_pictures(lambda _: pixels, ["one"])
    return found.pictures[0].grey is not None


def saved(looks: Looks, content: str, path: Path) -> None:
    """Keep what was found for a table with this ``content``."""
    one, other, likeness = np.array(looks.pairs, np.float64).reshape(-1, 3).T
    arrays = {
        "content": np.array(f"{VERSION} {content}"),
        "rows": looks.rows,
        "pixels": looks.pixels,
        "one": one.astype(np.int64),
        "other": other.astype(np.int64),
        "likeness": likeness,
        **_packed(looks.thumbnails),
    }
    _write(path, arrays)


def known(content: str, size: int, path: Path) -> Looks | None:
    """Return what was kept for a table; None for nothing, or for what is damaged or of another.

    Args:
        content: Of the table.
        size: Samples of the table.
        path: The file.
    """
    try:
        arrays = _read(path)
        if str(arrays["content"]) != f"{VERSION} {content}":
            return None
        rows, one, other = (arrays[name].astype(np.int64) for name in ("rows", "one", "other"))
        thumbnails = _unpacked(arrays)
        places = np.concatenate([rows, one, other])
        if places.size and (places.min() < 0 or places.max() >= size):
            return None
        likeness, pixels = arrays["likeness"].tolist(), arrays["pixels"].astype(np.int64)
        pairs = list(zip(one.tolist(), other.tolist(), likeness, strict=True))
        return Looks(rows, pixels, thumbnails, pairs) if len(pixels) == len(rows) else None
    except DAMAGED:
        return None  # it is found again


def write_learned(learned: Learned, path: Path) -> None:
    """Write what a run has learned from."""
    arrays = {
        name: np.array(getattr(learned, name), np.str_)
        for name in ("source", "group", "key", "digest", "role")
    }
    _write(path, {**arrays, **_packed(learned.thumbnails)})


def read_learned(path: Path) -> Learned | None:
    """Return what a run has learned from; None where it was not written yet by its version.

    Raises:
        DamageError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        arrays = _read(path)
        names = ("source", "group", "key", "digest", "role")
        texts = {name: [str(each) for each in arrays[name]] for name in names}
        return Learned(**texts, thumbnails=_unpacked(arrays))
    except DAMAGED:
        raise DamageError(
            f"{path} is damaged: what the run has learned from is not known. Train it again, or "
            "remove the file to go on without."
        ) from None


def thumbnail(data: bytes) -> Pixels | None:
    """Return the pixels of a kept thumbnail, None where there is none."""
    return _decoded(data) if data else None


def _decoded(data: bytes) -> Pixels | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _packed(thumbnails: Sequence[bytes]) -> Arrays:
    return {
        "bytes": np.frombuffer(b"".join(thumbnails), np.uint8),
        "ends": np.cumsum([len(each) for each in thumbnails], dtype=np.int64),
    }


def _unpacked(arrays: Arrays) -> list[bytes]:
    data, ends = arrays["bytes"].tobytes(), arrays["ends"].astype(np.int64).tolist()
    starts = [0, *ends][: len(ends)]
    if any(start > end for start, end in zip(starts, ends, strict=True)):
        raise ValueError("ends are not ascending")
    if (ends[-1] if ends else 0) != len(data):
        raise ValueError("the thumbnails are cut off")
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    part.replace(path)


def _read(path: Path) -> Arrays:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
