"""Which group goes into which split: grouped, stratified, seeded, the same everywhere."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mammoprep.core import own_table
from mammoprep.core.cells import Day, Truth, is_error, is_shortened
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record, base_split
from mammoprep.core.spelling import loose, same, zeroless
from mammoprep.core.text import visible
from mammoprep.core.tree import Folder

OFFICIAL = ("train", "val", "test")
SPLIT_COLUMNS = ("group", "split")  # of a split file
NAMED = 3  # groups that a sentence names
UNAUGMENTED = ("val", "test")  # a score must not rest on what chance made


@dataclass(frozen=True)
class Group:
    """What is never torn apart.

    Attributes:
        name: The group's name, usually the patient.
        weights: What is to be spread evenly -> how many images of it the group has: each label,
            each stratum, and all images.
        official: The split that the dataset itself prescribes, or None.
    """

    name: str
    weights: Mapping[str, int]
    official: str | None


def gather(records: Iterable[Record]) -> list[Group]:
    """Return the groups of ``records``, sorted by name.

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
        weights = Counter({"images": len(rows)})
        weights.update(f"label {row.label}" for row in rows)
        weights.update(f"stratum {row.stratum}" for row in rows)
        groups.append(Group(name, weights, official.pop()))
    return groups


def assign(
    groups: Iterable[Group], *, folds: int, seed: int, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return group name -> split.

    Official splits stay; groups named in ``known`` keep their split; every other group goes to the
    fold where it adds least to the imbalance of labels, strata and images, the groups that weigh
    most first, ties broken by a seeded hash. The result depends on the set of groups only, not on
    their order. Fewer groups than folds leave folds empty.

    Raises:
        ConfigError: ``known`` contradicts an official split or names an unknown one; or it spells
            groups otherwise, so that who is meant is not known.
    """
    names = [f"fold{number}" for number in range(folds)]
    groups = sorted(groups, key=lambda group: group.name)
    known = match(known or {}, [group.name for group in groups])[0]
    fixed = {group.name: _fixed(group, known, names) for group in groups}
    totals: Counter[str] = Counter()
    for group in groups:
        totals.update(group.weights)
    held: dict[str, Counter[str]] = {fold: Counter() for fold in names}
    for group in groups:
        if (split := fixed[group.name]) in held:
            held[split].update(group.weights)

    def imbalance(group: Group, fold: str) -> float:
        """Return the slope of the sum of squared shares; every kind of weight counts alike."""
        return sum(n * held[fold][kind] / totals[kind] ** 2 for kind, n in group.weights.items())

    order = {fold: rank(seed, fold) for fold in names}
    free = [(weight(g, totals), rank(seed, g.name), g) for g in groups if fixed[g.name] is None]
    result = {name: split for name, split in fixed.items() if split is not None}
    for _, _, group in sorted(free, key=lambda item: (-item[0], item[1])):
        best = min(names, key=lambda fold: (imbalance(group, fold), order[fold]))
        result[group.name] = best
        held[best].update(group.weights)
    return result


def check_known(known: Mapping[str, str], records: Iterable[Record]) -> None:
    """Refuse a split file that has no part in a dataset: who gave it would think that it has.

    Raises:
        ConfigError: it knows none of the groups of which anything is to be built.
    """
    groups = sorted({record.group for record in records if record.excluded is None})
    if known and groups and not match(known, groups)[0]:
        raise ConfigError(
            f"--split-file knows none of the {len(groups):,} groups, such as {groups[0]!r}; its "
            f"own are such as {next(iter(known))!r}. Is it the file of another dataset?"
        )


@dataclass(frozen=True)
class Met:
    """Who is unknown where a split file and a dataset meet.

    Attributes:
        counts: A sentence for each side that does not know some of the other's groups.
        names: The same, with some of their names. Names of the file are for its owner alone: those
            of groups that are not in the dataset may be anything, a patient's name too.
    """

    counts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def meet(known: Mapping[str, str], everyone: Iterable[str], placed: Mapping[str, str]) -> Met:
    """Return who is unknown to whom.

    Args:
        known: Group -> split, as a split file says; nothing is said of an empty one.
        everyone: All groups of the dataset, such of which nothing is built too.
        placed: Group -> its split, of those of which something is.
    """
    if not known:
        return Met()
    told, strangers = match(known, sorted(everyone))
    unnamed = sorted(name for name in placed if name not in told)
    found: list[tuple[str, list[str]]] = []
    if strangers:
        found.append((
            f"--split-file: {len(strangers):,} of its {len(known):,} groups are not in the dataset "
            "and had no effect.",
            strangers,
        ))  # fmt: skip
    if unnamed:
        spread = sum(placed[name] not in OFFICIAL for name in unnamed)
        own = len(unnamed) - spread
        where = [f"{spread:,} of them were spread over the folds"] if spread else []
        where += [f"{own:,} keep the dataset's own split"] if own else []
        found.append((
            f"--split-file: {len(unnamed):,} of the dataset's {len(placed):,} groups are not in "
            f"it: {' and '.join(where)}.",
            unnamed,
        ))  # fmt: skip
    return Met(
        tuple(line for line, _ in found),
        tuple(f"{line} {_such_as(names)}" for line, names in found),
    )


def _such_as(names: Sequence[str]) -> str:
    shown = ", ".join(repr(visible(name)) for name in names[:NAMED])
    return f"They are {shown}." if len(names) <= NAMED else f"Such as {shown}."


def match(known: Mapping[str, str], groups: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return group -> split, spelled as the dataset spells groups; and who is none of them.

    A file that a program has written anew has 100.0 for 100. A name that is only perhaps one of the
    dataset's, 17 for 017, must not be passed over: its group would go to any fold.

    Raises:
        ConfigError: a name is perhaps a group's, or two spellings of one have two splits.
    """
    found = {name: known[name] for name in groups if name in known}
    open_ = [name for name in groups if name not in found]
    sure, perhaps = {same(name): name for name in groups}, {_like(name): name for name in open_}
    strangers = []
    for name, split in known.items():
        if name in found:
            continue
        group = sure.get(same(name))
        if group is not None and found.setdefault(group, split) != split:
            raise ConfigError(
                f"--split-file: group {group!r} has two splits, {found[group]} and {split}."
            )
        if group is None and (like := perhaps.get(_like(name))) is not None:
            raise ConfigError(
                f"--split-file names group {name!r}, the dataset {like!r}. Write both alike: "
                "a group that is not found gets any split."
            )
        if group is None:
            strangers.append(name)
    return found, strangers


def _like(name: str) -> str:
    return zeroless(loose(name))


def weight(group: Group, totals: Mapping[str, int]) -> float:
    """Return how much of everything a group is; whoever weighs most is placed first."""
    return sum(n / totals[kind] for kind, n in group.weights.items())


def rank(seed: int, name: str) -> str:
    """Return what breaks ties: the same everywhere, another order for another seed."""
    return sha256(f"{seed}/{name}".encode()).hexdigest()


def _fixed(group: Group, known: Mapping[str, str], names: list[str]) -> str | None:
    chosen = known.get(group.name)
    if chosen is None:
        return group.official
    if group.official is not None and chosen != group.official:
        raise ConfigError(
            f"--split-file puts group {group.name!r} into {chosen!r}, "
            f"the dataset's official split is {group.official!r}. Take the group out of the file."
        )
    if chosen not in names and chosen not in OFFICIAL:
        raise ConfigError(
            f"--split-file: unknown split {chosen!r} for group {group.name!r}. "
            f"Available: {', '.join([*names, *OFFICIAL])}."
        )
    return chosen


def read_split_file(path: Path) -> dict[str, str]:
    """Return group -> split from a table with columns ``group`` and ``split``.

    It is a samples.parquet, or text or an Excel file as the source ``table`` reads them. Augmented
    copies do not count as a split of their own: ``fold0-aug`` is ``fold0``.

    Raises:
        ConfigError: unreadable, a column is missing, there is no row, a cell is empty or not what
            was written there, or a group has two splits.
    """
    parquet = path.suffix.lower() == ".parquet"
    pairs = _parquet_pairs(path) if parquet else _table_pairs(path)
    result: dict[str, str] = {}
    for group, name in pairs:
        split = base_split(name)
        if result.setdefault(group, split) != split:
            raise ConfigError(
                f"{path}: group {group!r} has two splits, {result[group]} and {split}."
            )
    if not result:
        raise ConfigError(
            f"--split-file {path} names no group: it has the columns group and split and no row."
        )
    return result


def _table_pairs(path: Path) -> list[tuple[str, str]]:
    told = own_table.Told({name: name for name in SPLIT_COLUMNS}, options=False)
    try:
        table = own_table.read(Folder(path.parent), path.name, told, SPLIT_COLUMNS)
        return [_pair(number, row, table.columns) for number, row in table.rows]
    except ConfigError as error:
        raise ConfigError(f"--split-file: {error}") from None


def _pair(number: int, row: Mapping[str, str], columns: Mapping[str, str]) -> tuple[str, str]:
    group, split = (row[columns[name]] for name in SPLIT_COLUMNS)
    for name, text in zip(SPLIT_COLUMNS, (group, split), strict=True):
        if not text.strip():
            raise ConfigError(f"row {number}: {name} is empty.")
        if isinstance(text, Day | Truth) or is_error(text.strip()) or is_shortened(text):
            raise ConfigError(
                f"row {number}: {name} is not what was written there: a spreadsheet has made a "
                "date, an error, true, false or a shortened number of it. Format the column as "
                "text and write it anew."
            )
    return group.strip(), split.strip().lower()


def _parquet_pairs(path: Path) -> list[tuple[str, str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=["group", "split"])
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}).") from None
    pairs = [(row["group"], row["split"]) for row in table.to_pylist()]
    if empty := sum(None in pair for pair in pairs):
        raise ConfigError(f"--split-file {path}: group or split is empty in {empty:,} rows.")
    return [(str(group).strip(), str(split).strip().lower()) for group, split in pairs]


def originals(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return key of each augmented sample -> the samples that it is a copy of.

    That is its ``parent``; of a patch, whose parent is a whole image, the patch of the same lesion
    that chance had no part in. An empty list means that they are not among ``rows``.

    Args:
        rows: Samples; without a column ``augmented`` none is.
    """
    genuine = [row for row in rows if not row.get("augmented")]
    by_key = {str(row["key"]): row for row in genuine}
    patches: dict[tuple[Any, Any], list[Mapping[str, Any]]] = defaultdict(list)
    for row in genuine:
        if row.get("parent") is not None:
            patches[row["parent"], row.get("lesion")].append(row)
    found = {}
    for row in rows:
        if row.get("augmented"):
            parent = row.get("parent")
            siblings = patches.get((parent, row.get("lesion")), [])
            found[str(row["key"])] = [by_key[parent]] if parent in by_key else siblings
    return found
