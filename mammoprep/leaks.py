"""Does anything that a split must keep apart lie on both sides of it? See docs/leaks.md."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import splits
from mammoprep.core.errors import DamageError
from mammoprep.core.schema import AUGMENTED, base_split
from mammoprep.findings import IDS, Finding, Leaks
from mammoprep.fingerprints import Candidate, candidates
from mammoprep.same import (
    SAME,
    Picture,
    Run,
    Watch,
    is_mirrored,
    laid,
    look,
    numbered,
    threads,
)
from mammoprep.samples import Row, members, read_member, read_samples

IMAGES = ("png", "jpg")


def find_leaks(root: Path, watch: Watch = lambda what, done, total: None) -> Leaks:
    """Compare what is in different splits of a finished dataset: ids, pixels, looks, copies.

    Images are decoded, a few at a time; about 10 KB of each are kept. Augmented copies stand with
    their originals and are not compared by looks themselves.

    Args:
        root: A finished dataset.
        watch: Called with what is being done, how many are done, and how many there are.

    Raises:
        ConfigError: the folder is no dataset.
        DamageError: it is damaged.
    """
    _, rows = read_samples(root)
    columns = tuple(name for name in IDS if any(row.get(name) is not None for row in rows))
    found = [*_torn(rows, columns), *_copies(rows)]
    known = splits.originals(rows)
    looked_at = [row for row in rows if not known.get(str(row["key"]))]
    with threads() as run:
        pictures = []
        for picture in run(lambda row: look(read_picture(root, row)), looked_at):
            pictures.append(picture)
            watch("pictures read", len(pictures), len(looked_at))
        found += _same_pixels(looked_at, pictures)
        found += _flat(looked_at, pictures)
        pairs = _Pairs(looked_at, pictures)
        close = candidates(
            [looks.grey for looks in pairs.pictures if looks.grey is not None],
            pairs.forbidden,
            lambda done: watch("pictures compared", done, len(pairs.rows)),
            run,
        )
        found += _look_alikes(root, pairs, close, run, watch)
    return Leaks(
        samples=len(rows),
        groups=len({row["group"] for row in rows}),
        splits=tuple(sorted({_split(row) for row in rows})),
        columns=columns,
        pictures=len(pictures),
        pairs=pairs.count(),
        candidates=len(close),
        findings=tuple(sorted(found, key=lambda item: (not item.is_leak, item.kind, item.keys))),
    )


def _split(row: Row) -> str:
    return base_split(str(row["split"]))


def _finding(kind: str, rows: Iterable[Row], what: str, alike: float | None = None) -> Finding:
    ordered = sorted(rows, key=lambda row: str(row["key"]))
    keys = tuple(str(row["key"]) for row in ordered)
    return Finding(kind, keys, tuple(str(row["split"]) for row in ordered), what, alike)


def _torn(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[Finding]:
    """Find values of an id column in several splits; what a group told is not told again."""
    told: set[str] = set()
    for name in columns:
        by_value: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            if row.get(name) is not None:
                by_value[str(row.get("source")), str(row[name])].append(row)
        for (_, value), inside in sorted(by_value.items()):
            where = sorted({_split(row) for row in inside})
            if len(where) > 1 and not {str(row["key"]) for row in inside} <= told:
                finding = _finding(name, inside, f"{name} {value} is in {', '.join(where)}")
                told.update(finding.keys)
                yield finding


def _copies(rows: Sequence[Row]) -> Iterator[Finding]:
    """Find augmented copies that are not beside their originals, or where scores are made."""
    originals = splits.originals(rows)
    for row in rows:
        if not row.get("augmented"):
            continue
        split, made_of = str(row["split"]), originals[str(row["key"])]
        if not split.endswith(AUGMENTED):
            text = f"an augmented copy in {split}, not in {split}{AUGMENTED}"
            yield _finding("augmented_outside", [row], text)
        if _split(row) in splits.UNAUGMENTED:
            yield _finding("augmented_scored", [row], f"an augmented copy in {split}")
        if not made_of:
            yield _finding("augmented_orphan", [row], f"its original {row.get('parent')} is absent")
        elif apart := [one for one in made_of if _split(one) != _split(row)]:
            text = f"an augmented copy in {split}, its original is in {_split(apart[0])}"
            yield _finding("augmented_apart", [row, *apart], text)


def read_picture(root: Path, row: Row) -> NDArray[Any] | None:
    """Return a sample's stored pixels, None where it has no picture; raises DamageError."""
    suffix = next((name for name in IMAGES if name in members(row)), None)
    if suffix is None:
        return None
    data = np.frombuffer(read_member(root, row, suffix), np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DamageError(f"{row['shard']}: {row['key']}.{suffix} is no picture. Build it again.")
    return pixels


def _same_pixels(rows: Sequence[Row], pictures: Sequence[Picture]) -> Iterator[Finding]:
    by_pixels: dict[str, list[Row]] = defaultdict(list)
    for row, picture in zip(rows, pictures, strict=True):
        if picture.pixels_sha256:
            by_pixels[picture.pixels_sha256].append(row)
    for inside in by_pixels.values():
        if len(inside) < 2:
            continue
        where = sorted({_split(row) for row in inside})
        if len(where) == 1:
            yield _finding("repeated", inside, f"the same pixels {len(inside)} times")
        elif len({row["group"] for row in inside}) > 1:
            yield _finding("same_pixels", inside, f"the same pixels in {', '.join(where)}")
        yield from _two_labels(inside)


def _two_labels(rows: Sequence[Row]) -> Iterator[Finding]:
    names = {str(row["label_name"]) for row in rows if row.get("label") is not None}
    if len(names) > 1:
        yield _finding("two_labels", rows, f"one picture, labels {' and '.join(sorted(names))}")


def _flat(rows: Sequence[Row], pictures: Sequence[Picture]) -> Iterator[Finding]:
    flat = [row for row, picture in zip(rows, pictures, strict=True) if picture.grey is None]
    if flat:
        yield _finding("flat", flat, f"{len(flat):,} pictures show nothing to compare")


class _Pairs:
    """Which pictures are to be compared: of other groups, in other splits, with other pixels."""

    def __init__(self, rows: Sequence[Row], pictures: Sequence[Picture]) -> None:
        kept = [place for place, picture in enumerate(pictures) if picture.grey is not None]
        self.rows = [rows[place] for place in kept]
        self.pictures = [pictures[place] for place in kept]
        self._codes = np.stack(
            [
                numbered(str(row["group"]) for row in self.rows),
                numbered(_split(row) for row in self.rows),
                numbered(picture.pixels_sha256 for picture in self.pictures),
            ]
        )

    def forbidden(self, place: int) -> NDArray[np.bool_]:
        """Return which pictures are not compared with this one."""
        same: NDArray[np.bool_] = (self._codes == self._codes[:, place, None]).any(axis=0)
        return same

    def count(self) -> int:
        """Return how many pairs are of different groups in different splits."""
        group, split = self._codes[0], self._codes[1]
        both = np.unique(np.stack([group, split]), axis=1, return_counts=True)[1]
        alone = (np.bincount(codes) for codes in (group, split) if codes.size)
        total = len(self.rows) ** 2 - sum(int((n**2).sum()) for n in alone) + int((both**2).sum())
        return total // 2


def _look_alikes(
    root: Path,
    pairs: _Pairs,
    close: Sequence[Candidate],
    run: Run,
    watch: Watch,
) -> Iterator[Finding]:
    """Lay candidates upon each other, those that stay alike once more in finer detail."""
    found = laid(lambda place: read_picture(root, pairs.rows[place]), pairs.pictures, close, run)
    for done, (pair, alike) in enumerate(found, 1):
        watch("pairs laid upon each other", done, len(close))
        if alike >= SAME:
            rows = [pairs.rows[pair.one], pairs.rows[pair.other]]
            way = ", mirrored" if is_mirrored(pair) else ""
            text = f"one picture{way}, likeness {alike:.2f}"
            yield _finding("look_alike", rows, text, round(alike, 4))
            yield from _two_labels(rows)
