"""Record -> split -> shard, before any pixel is read. A pure function with a hash."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256

from mammoprep import quotas, splits
from mammoprep.config import Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import AUGMENTED, Record

CROWD, CROWD_SHARE = 12, 0.2  # three visits of four views; more than a fifth fills a fold of five
SMALLEST_SHARD, LARGEST_SHARD, SHARDS_WANTED = 16, 256, 200


@dataclass(frozen=True)
class Planned:
    """One input in its shard.

    Attributes:
        record: What the table says.
        size: Bytes of its file, or None when the file is not there.
        copies: What to make of it: 0 is the original, from 1 on augmented copies.
        tiles: How many background tiles to cut from it.
    """

    record: Record
    size: int | None
    copies: tuple[int, ...] = (0,)
    tiles: int = 0


@dataclass(frozen=True)
class Shard:
    """One file to be: the unit of work.

    Attributes:
        name: ``fold0-00000``, without suffix.
        split: The split that all its samples belong to.
        inputs: Sorted by key.
    """

    name: str
    split: str
    inputs: tuple[Planned, ...]

    @property
    def augmented(self) -> bool:
        """Whether it holds copies, of inputs that other shards hold too."""
        return self.split.endswith(AUGMENTED)

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that was planned for this shard."""
        lines = [self.name, self.split]
        planned = ({**asdict(item), "record": item.record.public()} for item in self.inputs)
        lines += [json.dumps(item, sort_keys=True) for item in planned]
        return sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """Every input's place.

    Attributes:
        shards: Sorted by name; a shard without inputs is not listed.
        excluded: Code -> how many inputs a rule left out on purpose.
        warnings: For the user, one line each.
        notices: For whoever reads the dataset, one line each.
    """

    shards: tuple[Shard, ...]
    excluded: Mapping[str, int]
    warnings: tuple[str, ...]
    notices: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole plan."""
        lines = [shard.sha256 for shard in self.shards]
        lines.append(json.dumps(dict(self.excluded), sort_keys=True))
        return sha256("\n".join(lines).encode()).hexdigest()

    @property
    def inputs(self) -> int:
        """Number of inputs, excluded ones too."""
        own = sum(len(shard.inputs) for shard in self.shards if not shard.augmented)
        return own + sum(self.excluded.values())


def make(
    records: Sequence[Record],
    sizes: Mapping[str, int],
    settings: Settings,
    known: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan for ``records``.

    Splits and the number of shards come from the whole table, present on disk or not, so that a
    file that arrives later touches only its own shard.

    Args:
        records: The whole table.
        sizes: Input path -> bytes of every file that is there.
        settings: Folds, seed, shard size, missing, limit.
        known: Group -> split that must stay, from ``--split-file``.

    Raises:
        ConfigError: no records, two records with one key, or impossible splits.
    """
    _check_keys(records)
    groups = splits.gather(record for record in records if record.excluded is None)
    placed = splits.assign(groups, folds=settings.folds, seed=settings.seed, known=known)
    met = splits.meet(known or {}, {record.group for record in records}, placed)
    warnings = [
        *met.names,
        *fold_warnings(placed, settings.folds),
        *_crowd_warnings(records),
        *_view_warnings(records, settings),
    ]
    kept, excluded = _sorted_out(records, sizes, settings)
    if settings.roi is not None:
        kept, idle = _with_tiles(kept, placed, settings)
        excluded["no_roi"] += idle
    copies = _with_copies(kept, placed, settings)

    totals = Counter(
        placed[record.group]
        for record in records
        if record.excluded is None and _wanted(record, settings)
    )
    if settings.limit is not None:
        totals = Counter(placed[item.record.group] for item in kept)
    shard_size = settings.shard_size or default_shard_size(sum(totals.values()))
    shards = [*_fill(kept, placed, totals, shard_size)]
    named = {group: f"{split}{AUGMENTED}" for group, split in placed.items()}
    totals = Counter(named[item.record.group] for item in copies)
    shards += _fill(copies, named, totals, shard_size)
    shards.sort(key=lambda shard: shard.name)
    counted = {code: count for code, count in sorted(excluded.items()) if count}
    return Plan(tuple(shards), counted, tuple(warnings), met.counts)


def _sorted_out(
    records: Sequence[Record], sizes: Mapping[str, int], settings: Settings
) -> tuple[list[Planned], Counter[str]]:
    """Return what is to be built, and how many inputs which rule leaves out."""
    excluded: Counter[str] = Counter()
    kept: list[Planned] = []
    for record in records:
        size = sizes.get(record.input)
        code = record.excluded
        if code is None and not _wanted(record, settings):
            code = "view_excluded"
        if code in (None, "no_roi") and size is None and settings.missing == "skip":
            code = "no_file"
        if code is None:
            kept.append(Planned(record, size))
        else:
            excluded[code] += 1
    return kept[: settings.limit], excluded


def _with_tiles(
    kept: Sequence[Planned], placed: Mapping[str, str], settings: Settings
) -> tuple[list[Planned], int]:
    """Return the inputs with the tiles asked of each, and how many would give no patch at all."""
    tiles = quotas.tiles([item.record for item in kept], placed, settings)
    asked = [replace(item, tiles=tiles.get(item.record.key, 0)) for item in kept]
    useful = [item for item in asked if item.tiles or quotas.outlines(item.record)]
    return useful, len(asked) - len(useful)


def _with_copies(
    kept: Sequence[Planned], placed: Mapping[str, str], settings: Settings
) -> list[Planned]:
    """Return the inputs of which there are to be augmented copies."""
    copies = quotas.copies([item.record for item in kept], placed, settings)
    numbers = {key: tuple(range(1, count + 1)) for key, count in copies.items() if count}
    return [
        replace(item, copies=numbers[item.record.key])
        for item in kept
        if item.record.key in numbers
    ]


def _wanted(record: Record, settings: Settings) -> bool:
    return not settings.views or record.view is None or record.view in settings.views


def _view_warnings(records: Sequence[Record], settings: Settings) -> list[str]:
    silent = (record for record in records if record.view is None and record.excluded is None)
    unknown = sum(1 for _ in silent) if settings.views else 0
    return [f"--views: the table names no view for {unknown:,} inputs; kept."] if unknown else []


def default_shard_size(inputs: int) -> int:
    """Return the mean number of inputs a shard: about 200 shards, each of 16 to 256 inputs."""
    return min(LARGEST_SHARD, max(SMALLEST_SHARD, inputs // SHARDS_WANTED))


def _fill(
    items: Sequence[Planned], placed: Mapping[str, str], totals: Mapping[str, int], shard_size: int
) -> list[Shard]:
    """Return shards of ``shard_size`` in the mean; ``totals`` says how many a split is to hold."""
    members: dict[tuple[str, str], list[Planned]] = defaultdict(list)
    for item in items:
        split = placed[item.record.group]
        name = shard_name(split, item.record.key, max(1, round(totals[split] / shard_size)))
        members[split, name].append(replace(item, record=replace(item.record, split=split)))
    return [
        Shard(name, split, tuple(sorted(inside, key=lambda item: item.record.key)))
        for (split, name), inside in sorted(members.items())
    ]


def shard_name(split: str, key: str, count: int) -> str:
    """Return the shard of a sample: a hash of its key modulo the split's number of shards."""
    return f"{split}-{int(sha256(key.encode()).hexdigest()[:16], 16) % count:05d}"


def _check_keys(records: Sequence[Record]) -> None:
    if not records:
        raise ConfigError("The dataset's table names no image.")
    first: dict[str, str] = {}
    for record in records:
        other = first.setdefault(record.key, record.name)
        if other != record.name:
            raise ConfigError(
                f"Two inputs get the key {record.key}: {other} and {record.name}. "
                "Their names differ only in characters that a key cannot hold."
            )
    if len(first) != len(records):
        raise ConfigError(f"{len(records) - len(first)} inputs are listed more than once.")


def _crowd_warnings(records: Sequence[Record]) -> list[str]:
    """Say that one group holds much of a dataset: an id that many people share is nobody's."""
    sizes = Counter(record.group for record in records if record.excluded is None)
    most = max(sizes.values(), default=0)
    if most < CROWD or most <= CROWD_SHARE * sum(sizes.values()) or len(sizes) == 1:
        return []
    return [
        f"One group holds {most:,} of {sum(sizes.values()):,} images, so folds cannot be even. Is "
        "its id one that stands for many people, such as ANONYMOUS, or for nobody?"
    ]


def fold_warnings(placed: Mapping[str, str], folds: int) -> list[str]:
    """Say that folds are empty, if any group is in a fold at all."""
    in_folds = {split for split in placed.values() if split.startswith("fold")}
    if in_folds and len(in_folds) < folds:
        return [
            f"{folds} folds but only {len(in_folds)} got a group; the others are empty. "
            f"Use --folds {len(in_folds)}."
        ]
    return []
