"""Record -> split -> shard, before any pixel is read. A pure function with a hash."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

from mammoprep import splits
from mammoprep.config import Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record

SMALLEST_SHARD, LARGEST_SHARD, SHARDS_WANTED = 16, 256, 200


@dataclass(frozen=True)
class Planned:
    """One input in its shard.

    Attributes:
        record: What the table says.
        size: Bytes of its file, or None when the file is not there.
    """

    record: Record
    size: int | None


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

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that was planned for this shard."""
        lines = [self.name, self.split]
        lines += [json.dumps([p.record.to_json(), p.size], sort_keys=True) for p in self.inputs]
        return sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """Every input's place.

    Attributes:
        shards: Sorted by name; a shard without inputs is not listed.
        excluded: Code -> how many inputs a rule left out on purpose.
        warnings: For the user, one line each.
    """

    shards: tuple[Shard, ...]
    excluded: Mapping[str, int]
    warnings: tuple[str, ...]

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole plan."""
        lines = [shard.sha256 for shard in self.shards]
        lines.append(json.dumps(dict(self.excluded), sort_keys=True))
        return sha256("\n".join(lines).encode()).hexdigest()

    @property
    def inputs(self) -> int:
        """Number of inputs, excluded ones too."""
        return sum(len(shard.inputs) for shard in self.shards) + sum(self.excluded.values())


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
    groups = splits.gather(records)
    placed = splits.assign(groups, folds=settings.folds, seed=settings.seed, known=known)
    warnings = [*_fold_warnings(placed, settings.folds), *_view_warnings(records, settings)]

    excluded: Counter[str] = Counter()
    kept: list[Planned] = []
    for record in records:
        size = sizes.get(record.input)
        code = record.excluded
        if code is None and not _wanted(record, settings):
            code = "view_excluded"
        if code is None and size is None and settings.missing == "skip":
            code = "no_file"
        if code is None:
            kept.append(Planned(record, size))
        else:
            excluded[code] += 1
    if settings.limit is not None:
        kept = kept[: settings.limit]

    totals = Counter(
        placed[record.group]
        for record in records
        if record.excluded is None and _wanted(record, settings)
    )
    if settings.limit is not None:
        totals = Counter(placed[item.record.group] for item in kept)
    shard_size = settings.shard_size or default_shard_size(sum(totals.values()))
    shards = _fill(kept, placed, {s: max(1, round(n / shard_size)) for s, n in totals.items()})
    return Plan(shards, dict(sorted(excluded.items())), tuple(warnings))


def _wanted(record: Record, settings: Settings) -> bool:
    return not settings.views or record.view is None or record.view in settings.views


def _view_warnings(records: Sequence[Record], settings: Settings) -> list[str]:
    unknown = sum(record.view is None for record in records) if settings.views else 0
    return [f"--views: the table names no view for {unknown:,} inputs; kept."] if unknown else []


def default_shard_size(inputs: int) -> int:
    """Return the mean number of inputs a shard: about 200 shards, each of 16 to 256 inputs."""
    return min(LARGEST_SHARD, max(SMALLEST_SHARD, inputs // SHARDS_WANTED))


def _fill(
    kept: Sequence[Planned], placed: Mapping[str, str], shard_counts: Mapping[str, int]
) -> tuple[Shard, ...]:
    members: dict[tuple[str, str], list[Planned]] = defaultdict(list)
    for item in kept:
        split = placed[item.record.group]
        name = shard_name(split, item.record.key, shard_counts[split])
        members[split, name].append(replace(item, record=replace(item.record, split=split)))
    return tuple(
        Shard(name, split, tuple(sorted(items, key=lambda p: p.record.key)))
        for (split, name), items in sorted(members.items())
    )


def shard_name(split: str, key: str, count: int) -> str:
    """Return the shard of a sample: a hash of its key modulo the split's number of shards."""
    return f"{split}-{int(sha256(key.encode()).hexdigest()[:16], 16) % count:05d}"


def _check_keys(records: Sequence[Record]) -> None:
    if not records:
        raise ConfigError("The dataset's table names no image.")
    first: dict[str, str] = {}
    for record in records:
        other = first.setdefault(record.key, record.input)
        if other != record.input:
            raise ConfigError(
                f"Two inputs get the key {record.key}: {other} and {record.input}. "
                "Their names differ only in characters that a key cannot hold."
            )
    if len(first) != len(records):
        raise ConfigError(f"{len(records) - len(first)} inputs are listed more than once.")


def _fold_warnings(placed: Mapping[str, str], folds: int) -> list[str]:
    in_folds = {split for split in placed.values() if split.startswith("fold")}
    if in_folds and len(in_folds) < folds:
        return [
            f"{folds} folds but only {len(in_folds)} got a group; the others are empty. "
            f"Use --folds {len(in_folds)}."
        ]
    return []
