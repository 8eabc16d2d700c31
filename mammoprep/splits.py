"""Which group goes into which split: grouped, stratified, seeded, the same everywhere."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record

OFFICIAL = ("train", "val", "test")


@dataclass(frozen=True)
class Group:
    """What is never torn apart.

    Attributes:
        name: The group's name, usually the patient.
        stratum: Groups of one stratum are spread evenly over the folds.
        images: How many images it has.
        official: The split that the dataset itself prescribes, or None.
    """

    name: str
    stratum: str
    images: int
    official: str | None


def gather(records: Iterable[Record]) -> list[Group]:
    """Return the groups of ``records``, sorted by name.

    A group's stratum is the highest of its records' (a patient with one cancer image is a cancer
    patient).

    Raises:
        ConfigError: the dataset puts one group into two official splits.
    """
    members: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        members[record.group].append(record)
    groups = []
    for name, rows in sorted(members.items()):
        official = {row.split for row in rows}
        if len(official) > 1:
            found = ", ".join(sorted(str(split or "no split") for split in official))
            raise ConfigError(
                f"Group {name!r} is in more than one official split ({found}). "
                "One patient on both sides would leak; exclude one side in the source."
            )
        groups.append(Group(name, max(row.stratum for row in rows), len(rows), official.pop()))
    return groups


def assign(
    groups: Iterable[Group], *, folds: int, seed: int, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return group name -> split.

    Official splits stay; groups named in ``known`` keep their split; every other group goes to the
    fold that has the fewest images of its stratum so far (then the fewest images, then the fewest
    groups), largest groups first, ties broken by a seeded hash. The result depends on the set of
    groups only, not on their order. Fewer groups than folds leave folds empty.

    Raises:
        ConfigError: ``known`` contradicts an official split, or names an unknown one.
    """
    known = known or {}
    names = [f"fold{number}" for number in range(folds)]
    result: dict[str, str] = {}
    in_stratum: dict[tuple[str, str], int] = defaultdict(int)
    images: dict[str, int] = defaultdict(int)
    count: dict[str, int] = defaultdict(int)
    order = {fold: _rank(seed, fold) for fold in names}

    def place(group: Group, split: str) -> None:
        result[group.name] = split
        in_stratum[group.stratum, split] += group.images
        images[split] += group.images
        count[split] += 1

    free: list[Group] = []
    sizes: dict[str, int] = defaultdict(int)
    for group in groups:
        split = _fixed(group, known, names)
        if split is None:
            free.append(group)
            sizes[group.stratum] += group.images
        else:
            place(group, split)
    # Rare strata first: their balance matters most, the common ones then even out the totals.
    free.sort(key=lambda g: (sizes[g.stratum], g.stratum, -g.images, _rank(seed, g.name)))
    for group in free:

        def load(fold: str, stratum: str = group.stratum) -> tuple[int, int, int, str]:
            return in_stratum[stratum, fold], images[fold], count[fold], order[fold]

        place(group, min(names, key=load))
    return result


def _rank(seed: int, name: str) -> str:
    return sha256(f"{seed}/{name}".encode()).hexdigest()


def _fixed(group: Group, known: Mapping[str, str], names: list[str]) -> str | None:
    chosen = known.get(group.name)
    if chosen is None:
        return group.official
    if group.official is not None and chosen != group.official:
        raise ConfigError(
            f"--split-file puts group {group.name!r} into {chosen!r}, "
            f"the dataset's official split is {group.official!r}."
        )
    if chosen not in names and chosen not in OFFICIAL:
        raise ConfigError(
            f"--split-file: unknown split {chosen!r} for group {group.name!r}. "
            f"Available: {', '.join([*names, *OFFICIAL])}."
        )
    return chosen


def read_split_file(path: Path) -> dict[str, str]:
    """Return group -> split from a CSV with columns ``group`` and ``split``, or a samples.parquet.

    Raises:
        ConfigError: unreadable, a column is missing, or a group has two splits.
    """
    pairs = _parquet_pairs(path) if path.suffix == ".parquet" else _csv_pairs(path)
    result: dict[str, str] = {}
    for group, split in pairs:
        if result.setdefault(group, split) != split:
            raise ConfigError(
                f"{path}: group {group!r} has two splits, {result[group]} and {split}."
            )
    return result


def _csv_pairs(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            if not {"group", "split"} <= set(header):
                raise ConfigError(
                    f"{path} must have columns group and split, found {', '.join(header)}."
                )
            return [(str(row["group"]), str(row["split"])) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}).") from None


def _parquet_pairs(path: Path) -> list[tuple[str, str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["group", "split"])
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}).") from None
    return [(str(row["group"]), str(row["split"])) for row in table.to_pylist()]
