"""Is anything in two datasets at once? Splits of two datasets are no common notion: all counts."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoprep import splits
from mammoprep.core.errors import ConfigError
from mammoprep.findings import IDS, Finding, Leaks
from mammoprep.leaks import IMAGES, read_picture
from mammoprep.same import Pair, Picture, Watch, same_pictures
from mammoprep.samples import Row, read_samples


@dataclass(frozen=True)
class _Sample:
    """A sample, and the folder of its dataset, by number and by name."""

    number: int
    root: Path
    row: Row

    @property
    def group(self) -> str:
        return f"{self.row.get('source')}/{self.row['group']}"

    @property
    def digest(self) -> str | None:
        """Hash of the stored picture's bytes."""
        found = (self.row.get(f"{suffix}.sha256") for suffix in IMAGES)
        return next((str(each) for each in found if each is not None), None)


def find_across(roots: Sequence[Path], watch: Watch = lambda what, done, total: None) -> Leaks:
    """Compare what is in different datasets: ids under one source, bytes, pixels, looks.

    What is within one of them is ``find_leaks``'s. Augmented copies stand with their originals.

    Args:
        roots: Finished datasets.
        watch: Called with what is being done, how many are done, and how many there are.

    Raises:
        ConfigError: a folder is no dataset, or is given twice.
        DamageError: one is damaged.
    """
    if len({root.resolve() for root in roots}) < len(roots):
        raise ConfigError("One folder is given twice: everything would be found in both.")
    every, looked_at = [], []
    for number, root in enumerate(roots):
        _, rows = read_samples(root)
        copies = splits.originals(rows)
        every += [_Sample(number, root, row) for row in rows]
        looked_at += [_Sample(number, root, row) for row in rows if not copies.get(str(row["key"]))]
    same = same_pictures(
        lambda place: read_picture(looked_at[place].root, looked_at[place].row),
        [sample.group for sample in looked_at],
        [sample.number for sample in looked_at],
        watch,
    )
    found = [
        *_ids(every),
        *_equal(looked_at, same.pictures),
        *_alike(looked_at, same.pairs),
    ]
    return Leaks(
        samples=len(every),
        groups=len({sample.group for sample in every}),
        splits=tuple(sorted({f"{s.root} {s.row['split']}" for s in every})),
        columns=tuple(name for name in IDS if any(s.row.get(name) is not None for s in every)),
        pictures=len(looked_at),
        pairs=_count(looked_at, same.pictures),
        candidates=same.candidates,
        findings=tuple(sorted(found, key=lambda item: (not item.is_leak, item.kind, item.keys))),
        datasets=tuple(str(root) for root in roots),
    )


def _finding(
    kind: str, samples: Sequence[_Sample], what: str, alike: float | None = None
) -> Finding:
    ordered = sorted(samples, key=lambda sample: (sample.number, str(sample.row["key"])))
    return Finding(
        kind,
        tuple(str(sample.row["key"]) for sample in ordered),
        tuple(str(sample.row["split"]) for sample in ordered),
        what,
        alike,
        tuple(str(sample.root) for sample in ordered),
    )


def _in_several(samples: Sequence[_Sample]) -> bool:
    return len({sample.number for sample in samples}) > 1


def _ids(samples: Sequence[_Sample]) -> Iterator[Finding]:
    """Find ids of one source in several datasets; what a group told is not told again."""
    told: set[tuple[int, str]] = set()
    for name in IDS:
        by_value: dict[tuple[str, str], list[_Sample]] = defaultdict(list)
        for sample in samples:
            if (value := sample.row.get(name)) is not None:
                by_value[str(sample.row.get("source")), str(value)].append(sample)
        for (source, value), inside in sorted(by_value.items()):
            here = {(sample.number, str(sample.row["key"])) for sample in inside}
            if _in_several(inside) and not here <= told:
                told |= here
                yield _finding(name, inside, f"{name} {value} of {source} is in several datasets")


def _equal(samples: Sequence[_Sample], pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Find equal pixels under several groups; ``same_bytes`` where the files are equal too."""
    by_pixels: dict[str, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        if picture.pixels_sha256:
            by_pixels[picture.pixels_sha256].append(place)
    for places in by_pixels.values():
        inside = [samples[place] for place in places]
        if not _in_several(inside) or len({sample.group for sample in inside}) < 2:
            continue
        if pictures[places[0]].grey is None:
            yield _finding("flat", inside, "the same pixels in several datasets, showing nothing")
        elif len({sample.digest for sample in inside}) == 1:
            yield _finding("same_bytes", inside, "the same file in several datasets")
        else:
            yield _finding("same_pixels", inside, "the same pixels in several datasets")


def _alike(samples: Sequence[_Sample], pairs: Sequence[Pair]) -> Iterator[Finding]:
    for pair in pairs:
        way = ", mirrored" if pair.mirrored else ""
        text = f"one picture{way}, likeness {pair.likeness:.2f}"
        both = (samples[pair.one], samples[pair.other])
        yield _finding("look_alike", both, text, round(pair.likeness, 4))


def _count(samples: Sequence[_Sample], pictures: Sequence[Picture]) -> int:
    """Return how many pairs are of different groups in different datasets."""
    shown = [
        (sample.group, sample.number)
        for sample, picture in zip(samples, pictures, strict=True)
        if picture.grey is not None
    ]
    alike: list[Counter[Any]] = [
        Counter(group for group, _ in shown), Counter(number for _, number in shown)
    ]  # fmt: skip
    apart = len(shown) ** 2 + sum(n**2 for n in Counter(shown).values())
    return (apart - sum(n**2 for counts in alike for n in counts.values())) // 2
