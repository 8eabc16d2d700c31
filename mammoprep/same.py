"""Which of many pictures are one picture: the same pixels, or alike once laid upon each other."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.fingerprints import SIDE, VIEWS, Candidate, Grey, candidates, thumbnail
from mammoprep.registration import likeness

LARGE = 256  # pixels of the longer side for the second look
# Measured (docs/leaks.md): pictures of two patients reach 0.70 at the first look and 0.43 at the
# second one; most copies reach 0.88 and more at both.
WORTH_A_LOOK = 0.5
SAME = 0.65
QUALITY = 40  # of the JPEG that is kept where a thumbnail is asked for

Pixels = NDArray[Any]
Read = Callable[[int], Pixels | None]
Watch = Callable[[str, int, int], None]
Run = Callable[..., Iterable[Any]]


@dataclass(frozen=True)
class Picture:
    """What is kept of an image while others are compared with it.

    Attributes:
        pixels_sha256: Of type, shape and values; empty where there is no picture.
        grey: Thumbnail of what is not ground; None where nothing is shown.
        side: Pixels of the longer side.
        kept: JPEG of a larger thumbnail, where one was asked for; else empty.
    """

    pixels_sha256: str
    grey: Grey | None
    side: int
    kept: bytes = b""


@dataclass(frozen=True)
class Pair:
    """Two pictures that are one.

    Attributes:
        one: Place of the first.
        other: Place of the second.
        likeness: Their correlation, laid upon each other.
        mirrored: Whether one is the mirror image of the other.
    """

    one: int
    other: int
    likeness: float
    mirrored: bool


@dataclass(frozen=True)
class Same:
    """What ``same_pictures`` found.

    Attributes:
        pictures: What was kept of each picture; equal ``pixels_sha256``: the same pixels.
        pairs: Look-alikes among those with other pixels, sorted by their places.
        candidates: How many pairs were laid upon each other.
    """

    pictures: tuple[Picture, ...]
    pairs: tuple[Pair, ...]
    candidates: int


def same_pictures(
    read: Read,
    groups: Sequence[str],
    sides: Sequence[int] | None = None,
    watch: Watch = lambda what, done, total: None,
    least: float = SAME,
    keep: int = 0,
) -> Same:
    """Return which pictures of different groups are one: by their pixels, and by looks.

    Each picture is read once, a look-alike's once more; about 10 KB of each are kept meanwhile.

    Args:
        read: Place of a picture -> its pixels, (rows, columns) or (rows, columns, 3) of uint8 or
            uint16, None where there is none. Called by several threads.
        groups: (n,) what each picture belongs to: those of one group are not compared by looks.
        sides: (n,) only pictures of two sides are compared by looks; None for all.
        watch: Called with what is being done, how many are done, and how many there are.
        least: Likeness from which on two are one. Higher where only thumbnails can be read.
        keep: Pixels of the longer side of the thumbnails that are kept of all pictures, to be
            compared later with others; 0 for none.
    """
    with threads() as run:
        pictures = []
        for picture in run(lambda place: look(read(place), keep), range(len(groups))):
            pictures.append(picture)
            watch("pictures read", len(pictures), len(groups))
        shown = [place for place, picture in enumerate(pictures) if picture.grey is not None]
        kept = [pictures[place] for place in shown]
        codes = np.stack(
            [
                numbered(groups[place] for place in shown),
                numbered(picture.pixels_sha256 for picture in kept),
                *([] if sides is None else [numbered(sides[place] for place in shown)]),
            ]
        )

        def forbidden(place: int) -> NDArray[np.bool_]:
            same: NDArray[np.bool_] = (codes == codes[:, place, None]).any(axis=0)
            return same

        close = candidates(
            [picture.grey for picture in kept if picture.grey is not None],
            forbidden,
            lambda done: watch("pictures compared", done, len(kept)),
            run,
        )
        found = laid(lambda place: read(shown[place]), kept, close, run)
        pairs = []
        for done, (pair, alike) in enumerate(found, 1):
            watch("pairs laid upon each other", done, len(close))
            if alike >= least:
                one, other = sorted((shown[pair.one], shown[pair.other]))
                pairs.append(Pair(one, other, alike, is_mirrored(pair)))
    return Same(tuple(pictures), tuple(sorted(pairs, key=_places)), len(close))


def _places(pair: Pair) -> tuple[int, int]:
    return pair.one, pair.other


def look(pixels: Pixels | None, keep: int = 0) -> Picture:
    """Return what is kept of a picture; ``keep`` as of ``same_pictures``."""
    if pixels is None:
        return Picture("", None, 0)
    digest = sha256(f"{pixels.dtype} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    kept = _encoded(thumbnail(pixels, keep)) if keep else b""
    return Picture(digest.hexdigest(), thumbnail(pixels), max(pixels.shape[:2]), kept)


def _encoded(grey: Grey | None) -> bytes:
    if grey is None:
        return b""
    return cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def laid(
    read: Read, pictures: Sequence[Picture], close: Sequence[Candidate], run: Run
) -> Iterator[tuple[Candidate, float]]:
    """Lay candidates upon each other, those that stay alike once more in finer detail."""

    def looked_at(pair: Candidate) -> float:
        one, other = pictures[pair.one], pictures[pair.other]
        if one.grey is None or other.grey is None:
            return 0.0
        if likeness(one.grey, other.grey, pair.view) < WORTH_A_LOOK:
            return 0.0
        side = min(LARGE, max(SIDE, min(one.side, other.side)))
        both = (pair.one, pair.other)
        greys = [None if (p := read(place)) is None else thumbnail(p, side) for place in both]
        if greys[0] is None or greys[1] is None:
            return 0.0
        return likeness(greys[0], greys[1], pair.view)

    return zip(close, run(looked_at, close), strict=True)


def is_mirrored(pair: Candidate) -> bool:
    """Whether the first looks like the second's mirror image."""
    return pair.view >= VIEWS // 2


def numbered(values: Iterable[Any]) -> NDArray[np.int64]:
    """Return equal numbers for equal values."""
    known: dict[Any, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], np.int64)


@contextmanager
def threads() -> Iterator[Run]:
    """Lend a ``map`` of as many threads as there are cores."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield pool.map
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
