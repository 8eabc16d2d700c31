"""What becomes of every sample: it trains, validates, is scored, or is left out, and why."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.core.schema import base_split

SHARE, NEXT_FOLD = "share", "next-fold"
WAYS = (SHARE, NEXT_FOLD)  # of train.validate
# One training group in eight validates; more, up to a quarter, until it holds 20 groups of the
# rarest class: with fewer, the best of ten checkpoints is the luckiest one.
SMALLEST, LARGEST, STEPS = 8, 16, 64
ENOUGH = 20
ALL = "all"
NO_TARGET = "without the target"
COPY = "copies of samples that do not train"
NOT_TEST = "not test"
Rows = NDArray[np.int64]
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Side:
    """Which samples a run leaves out of training, to be scored.

    Attributes:
        fold: Number of the fold, from 0.
        by: ``machine`` or ``site``, when one of these is left out instead of a fold; else empty.
        value: Which one.
        everything: Nothing is left out but official test sets.
    """

    fold: int = 0
    by: str = ""
    value: str = ""
    everything: bool = False

    @property
    def name(self) -> str:
        """What people call it."""
        if self.everything:
            return ALL
        return f"{self.by} {self.value}" if self.by else f"fold{self.fold}"

    def to_table(self) -> dict[str, Any]:
        """Return it as ``config.toml`` holds it."""
        if self.everything:
            return {"fold": ALL}
        return {"by": self.by, "left_out": self.value} if self.by else {"fold": self.fold}

    @classmethod
    def of_table(cls, told: Mapping[str, Any]) -> "Side":
        """Return what ``to_table`` gave."""
        if told.get("fold") == ALL:
            return cls(everything=True)
        return cls(told.get("fold", 0), told.get("by", ""), told.get("left_out", ""))


@dataclass(frozen=True)
class Roles:
    """Places in the table, ascending; every sample is in exactly one of these, no group in two.

    Attributes:
        train: Learned from; with augmented copies.
        validate: Decide when to stop and where the threshold lies.
        score: The fold, machine or site that was left out; scored once, at the end.
        name: Of ``score``: ``fold0``; empty where there is none.
        test: Official test sets, each a table of its own: dataset -> its samples.
        left_out: Why -> the samples that have no part in the run.
        fixed: Why nothing is decided by validation: no early stopping, no threshold; or empty.
    """

    train: Rows
    validate: Rows
    score: Rows
    name: str
    test: Mapping[str, Rows] = field(default_factory=dict)
    left_out: Mapping[str, Rows] = field(default_factory=dict)
    fixed: str = ""

    @property
    def tables(self) -> dict[str, Rows]:
        """What is scored, each apart, by name: official test sets, then what was left out."""
        one = len(self.test) == 1
        found = {"test" if one else f"test of {name}": rows for name, rows in self.test.items()}
        return found | ({self.name: self.score} if self.score.size else {})

    @cached_property
    def scored(self) -> Rows:
        """Everything that is scored, ascending."""
        return np.sort(np.concatenate([NOBODY, *self.tables.values()]))

    def all(self) -> dict[str, Rows]:
        """Return every role by name, what is left out by its reason."""
        return {"train": self.train, "validate": self.validate, **self.tables, **self.left_out}


NOBODY = np.zeros(0, np.int64)


def choose(
    columns: Columns,
    side: Side = Side(),
    validate: str = SHARE,
    names: Sequence[str] = (),
) -> Roles:
    """Return what becomes of every sample, dataset by dataset.

    Of a dataset with folds, fold ``k`` is scored and the others train; one of fewer folds trains
    with all of them, so that over all ``k`` each sample is scored once. Of one with official splits
    ``train`` trains, ``val`` validates and ``test`` is a table of its own. A share of those who
    train validates instead, where their dataset has no ``val``; see ``SMALLEST``. Augmented copies
    are only ever trained on.

    Args:
        columns: ``split``, ``group``, ``label`` (class, None where the target is not known),
            ``augmented`` and ``dataset`` of every sample; without ``dataset`` there is one.
        side: What is left out to be scored; not by machine or site, see ``leave_out``.
        validate: ``share`` or ``next-fold``: fold ``k + 1`` validates.
        names: What the classes are called.

    Raises:
        ConfigError: there is no such fold, or a role would be empty.
        DamageError: a group would be on two sides: a leak.
    """
    table = _Table.of(columns)
    name = "" if side.everything else side.name
    _check_folds(table, side, validate)
    scored = np.zeros(len(table), bool)
    held = np.zeros(len(table), bool)  # what its dataset or the next fold says validates
    if not side.everything:
        held = table.base == "val"
        for dataset in table.datasets:
            own = table.dataset == dataset
            folds = table.folds(own)
            if side.fold in folds:
                scored |= own & (table.base == f"fold{side.fold}")
                if validate == NEXT_FOLD:
                    following = folds[(folds.index(side.fold) + 1) % len(folds)]
                    held |= own & (table.base == f"fold{following}")
    part = _Part(scored, held, np.zeros(len(table), bool), {})
    return _settled(table, part, name, names, side)


def leave_out(
    columns: Columns, parts: Sequence[str], side: Side, names: Sequence[str] = ()
) -> Roles:
    """Return roles in which a machine or a site is scored, and nothing of it was trained on.

    Of the other samples a share validates. Groups with a sample in the part that is scored, and
    samples of an unknown part, are left out; an official test set is a table of its own.

    Args:
        columns: As of ``choose``.
        parts: (n,) the machine or site of every sample, empty where unknown.
        side: Which one is scored.
        names: What the classes are called.

    Raises:
        ConfigError: a role would be empty.
    """
    table = _Table.of(columns)
    part = np.array(parts, np.str_)
    tested = table.base == "test"
    scored = (part == side.value) & ~tested
    taken = {table.group[row] for row in np.flatnonzero(scored & table.known & ~table.augmented)}
    touching = np.array([group in taken for group in table.group], bool) & ~scored & ~tested
    unknown = (part == "") & ~touching & ~tested
    reasons = {f"patients also of {side.name}": touching, f"{side.by} unknown": unknown}
    found = _Part(scored, np.zeros(len(table), bool), touching | unknown, reasons)
    return _settled(table, found, side.name, names, side)


def folds_of(columns: Columns) -> list[int]:
    """Return the numbers of all folds with a sample that has the target, in order.

    Args:
        columns: As of ``choose``.
    """
    table = _Table.of(columns)
    return table.folds(table.known & ~table.augmented)


def everything(columns: Columns) -> Roles:
    """Return roles in which every sample with the target is scored, and nothing is trained on.

    Official test sets are tables of their own; what else there is is another.

    Raises:
        ConfigError: no sample has a label.
    """
    table = _Table.of(columns)
    usable = table.known & ~table.augmented
    if not usable.any():
        raise ConfigError("No sample has the label that the model was trained for.")
    test = _tests(table, usable)
    name = NOT_TEST if test else ALL
    rest = _rows(usable & (table.base != "test"))
    left = {NO_TARGET: _rows(~table.known), COPY: _rows(table.known & table.augmented)}
    return Roles(NOBODY, NOBODY, rest, name if rest.size else "", test, _some(left))


def counts(columns: Columns, roles: Roles) -> dict[str, Any]:
    """Return how many samples and groups of each dataset have which role, as plain values.

    Args:
        columns: As of ``choose``.
        roles: Of the same samples.
    """
    table = _Table.of(columns)
    told = {"train": roles.train, "validate": roles.validate, **roles.tables}
    return {
        "fixed": roles.fixed,
        "datasets": {
            dataset: {
                **{name: table.count(rows, dataset) for name, rows in told.items()},
                "left_out": {
                    why: found
                    for why, rows in roles.left_out.items()
                    if (found := table.count(rows, dataset))["samples"]
                },
            }
            for dataset in table.datasets
        },
    }


@dataclass(frozen=True)
class _Part:
    """What is asked for, bool (n,) each: scored, validating, left out, and why."""

    scored: NDArray[np.bool_]
    held: NDArray[np.bool_]
    left: NDArray[np.bool_]
    reasons: Mapping[str, NDArray[np.bool_]]


def _settled(table: "_Table", part: _Part, name: str, names: Sequence[str], side: Side) -> Roles:
    """Return the roles, checked: each sample in one of them, no group in two."""
    usable = table.known & ~table.augmented
    test = _tests(table, usable)
    tested = table.base == "test"
    held, scored = part.held & ~tested, part.scored & ~tested
    pool = table.known & ~tested & ~scored & ~held & ~part.left
    share, fixed = _share(table, pool, held & usable, names)
    if side.everything:
        share, fixed = np.zeros(len(table), bool), "everything trains"
    validating = held | share
    copies = table.known & table.augmented & (validating | scored | tested) & ~part.left
    reasons = {NO_TARGET: ~table.known, COPY: copies}
    reasons |= {why: inside & table.known for why, inside in part.reasons.items()}
    roles = Roles(
        _rows(pool & ~share),
        _rows(validating & usable),
        _rows(scored & usable),
        name if (scored & usable).any() else "",
        test,
        _some({why: _rows(inside) for why, inside in reasons.items()}),
        fixed if not (validating & usable).any() else "",
    )
    _check_all(table, roles, side)
    return roles


def _share(
    table: "_Table", pool: NDArray[np.bool_], held: NDArray[np.bool_], names: Sequence[str]
) -> tuple[NDArray[np.bool_], str]:
    """Return which of those who train validate, and why none do.

    None of a dataset that has validation samples of its own: it says who validates.
    """
    nobody = np.zeros(len(table), bool)
    own = {str(name) for name in np.unique(table.dataset[held])}
    open_ = pool & ~np.array([str(name) in own for name in table.dataset], bool)
    if not open_.any():
        return nobody, ""
    strata, rarest = _strata(table, open_)
    before = len({table.group[row] for row in np.flatnonzero(held & (table.label == rarest))})
    for share in range(SMALLEST, LARGEST + 1):
        taken = _taken(strata, share / STEPS)
        found = before + sum(len(taken[key]) for key in strata if key[1] == rarest)
        if found >= ENOUGH:
            chosen = {group for groups in taken.values() for group in groups}
            return open_ & np.array([g in chosen for g in table.group], bool), ""
    named = names[rarest] if rarest < len(names) else str(rarest)
    return nobody, (
        f"a quarter of the training groups holds {found} of {named}, and {ENOUGH} are needed to "
        "decide anything by them"
    )


def _strata(
    table: "_Table", inside: NDArray[np.bool_]
) -> tuple[dict[tuple[str, int], list[str]], int]:
    """Return (dataset, class) -> its groups in a fixed random order, and the rarest class.

    A group of several classes counts to the rarest of them.
    """
    classes: dict[str, set[int]] = defaultdict(set)
    home: dict[str, str] = {}
    for row in np.flatnonzero(inside & ~table.augmented):
        classes[table.group[row]].add(int(table.label[row]))
        home[table.group[row]] = str(table.dataset[row])
    count = Counter(each for found in classes.values() for each in found)
    order = sorted(count, key=lambda each: (count[each], each))
    strata: dict[tuple[str, int], list[str]] = defaultdict(list)
    for group, found in classes.items():
        strata[home[group], min(found, key=order.index)].append(group)
    return {key: sorted(groups, key=_rank) for key, groups in sorted(strata.items())}, order[0]


def _taken(
    strata: Mapping[tuple[str, int], list[str]], share: float
) -> dict[tuple[str, int], list[str]]:
    return {key: groups[: int(share * len(groups) + 0.5)] for key, groups in strata.items()}


def _rank(group: str) -> str:
    # no seed: the samples that validate are the same for every training of a recipe
    return sha256(f"validate/{group}".encode()).hexdigest()


def _tests(table: "_Table", usable: NDArray[np.bool_]) -> dict[str, Rows]:
    tested = usable & (table.base == "test")
    found = {name: _rows(tested & (table.dataset == name)) for name in table.datasets}
    return {name: rows for name, rows in found.items() if rows.size}


def _rows(inside: NDArray[np.bool_]) -> Rows:
    return np.flatnonzero(inside).astype(np.int64)


def _some(left: Mapping[str, Rows]) -> dict[str, Rows]:
    return {why: rows for why, rows in left.items() if rows.size}


@dataclass(frozen=True)
class _Table:
    base: NDArray[np.str_]
    group: list[str]
    label: NDArray[np.int64]
    known: NDArray[np.bool_]
    augmented: NDArray[np.bool_]
    dataset: NDArray[np.str_]
    datasets: tuple[str, ...]  # in the order in which they were given

    @classmethod
    def of(cls, columns: Columns) -> "_Table":
        label = [-1 if each is None else int(each) for each in columns["label"]]
        named = columns.get("dataset", [""] * len(label))
        dataset = np.array([str(each) for each in named], np.str_)
        return cls(
            np.array([base_split(str(split)) for split in columns["split"]], np.str_),
            [str(group) for group in columns["group"]],
            np.array(label, np.int64),
            np.array([each is not None for each in columns["label"]], bool),
            np.array([bool(value) for value in columns["augmented"]], bool),
            dataset,
            tuple(dict.fromkeys(dataset.tolist())),
        )

    def __len__(self) -> int:
        return len(self.group)

    def folds(self, own: NDArray[np.bool_]) -> list[int]:
        """Return the numbers of some samples' folds, in order; a fold may be empty."""
        return sorted({int(split[4:]) for split in self.base[own] if split.startswith("fold")})

    def count(self, rows: Rows, dataset: str) -> dict[str, int]:
        inside = rows[self.dataset[rows] == dataset]
        return {"samples": len(inside), "groups": len({self.group[row] for row in inside})}


def _check_folds(table: _Table, side: Side, validate: str) -> None:
    """Refuse a fold that is not there, and folds that are too few; raises ConfigError."""
    each = [table.folds(table.dataset == name) for name in table.datasets]
    folds = sorted({fold for found in each for fold in found})
    if side.everything:
        return
    if not folds and side.fold:
        raise ConfigError(
            f"--fold {side.fold}: there are no folds, only {_listed(table.base)}. Without --fold "
            "the official splits are used."
        )
    if folds and side.fold not in folds:
        raise ConfigError(f"--fold must be one of {', '.join(map(str, folds))}; got {side.fold}.")
    least = 3 if validate == NEXT_FOLD else 2
    few = [found for found in each if 0 < len(found) < least]
    if few and not any(len(found) >= least for found in each):
        doing = "train, validate and score" if least > 2 else "train and score"
        raise ConfigError(
            f"At least {least} folds are needed to {doing}; found {_folds(few[0])}. "
            "mammoprep split DIR --folds 5 --out NEW makes others, without decoding anything."
        )


def _check_all(table: _Table, roles: Roles, side: Side) -> None:
    """Refuse a run that learns from nobody or is judged by nobody, and groups on two sides."""
    missing = "" if roles.train.size else "train"
    has_side = bool(side.by) or bool(table.folds(np.full(len(table), True)))
    asked = roles.score if has_side else roles.scored  # what the run is about
    if not missing and not side.everything and not asked.size:
        missing = "score"
    if missing:
        told = ", ".join(f"{len(rows):,} {why}" for why, rows in roles.left_out.items())
        why = f" Left out: {told}." if told else ""
        raise ConfigError(
            f"{side.name}: no labelled sample is left to {missing}. "
            f"Splits: {_listed(table.base)}.{why}"
        )
    _check_leaks(table, roles)


def _check_leaks(table: _Table, roles: Roles) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    told = {"train": roles.train, "validate": roles.validate, **roles.tables}
    for name, rows in told.items():
        for row in rows:
            sides[table.group[row]].add(name)
    torn = sorted(group for group, found in sides.items() if len(found) > 1)
    if torn:
        where = ", ".join(sorted(sides[torn[0]]))
        raise DamageError(
            f"{len(torn):,} groups are on two sides, such as {torn[0]!r} ({where}): the scores "
            "would be too good. Look with: mammoprep split DIR --check"
        )


def _folds(numbers: Sequence[int]) -> str:
    return ", ".join(f"fold{number}" for number in numbers)


def _listed(names: Sequence[str] | NDArray[np.str_]) -> str:
    return ", ".join(sorted({str(name) for name in names})) or "none"
