"""Which samples a run trains on, which decide when to stop, and which are scored."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError, DamageError
from mammoprep.core.schema import base_split

HELD_OUT = 5  # one group in five validates where a dataset has no validation set of its own
Rows = NDArray[np.int64]
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Side:
    """Which samples a run leaves out of training, to be scored.

    Attributes:
        fold: Number of the fold, from 0.
        by: ``machine`` or ``site``, when one of these is left out instead of a fold; else empty.
        value: Which one.
    """

    fold: int = 0
    by: str = ""
    value: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.by} {self.value}" if self.by else f"fold{self.fold}"

    def to_table(self) -> dict[str, Any]:
        """Return it as ``config.toml`` holds it."""
        return {"by": self.by, "left_out": self.value} if self.by else {"fold": self.fold}


@dataclass(frozen=True)
class Roles:
    """Places in the table, ascending; no group is in two of the three.

    Attributes:
        train: Learned from; with augmented copies.
        validate: Decide when to stop and where the threshold lies.
        score: Scored once, at the end.
        name: What is scored: ``fold0``, ``test`` or ``fold0+test``.
    """

    train: Rows
    validate: Rows
    score: Rows
    name: str


def choose(columns: Columns, fold: int = 0) -> Roles:
    """Return what is trained on, validated on and scored.

    With folds, fold ``k`` is scored and ``k + 1`` validates; the rest trains. With an official
    ``train`` set, ``val`` validates, or else one training group in five, by a hash of its name.
    Labelled ``test`` samples are scored too. Augmented copies are only ever trained on.

    Args:
        columns: ``split``, ``group``, ``label`` and ``augmented`` of every sample.
        fold: Which fold is scored, from 0.

    Raises:
        ConfigError: there is no such fold, or a role would be empty.
        DamageError: a group would be on two sides: a leak.
    """
    table = _Table.of(columns)
    folds = sorted({s for s in table.base if s.startswith("fold")}, key=lambda s: int(s[4:]))
    return _checked(table, _by_fold(table, folds, fold) if folds else _official(table))


def leave_out(columns: Columns, parts: Sequence[str], side: Side) -> Roles:
    """Return roles in which a machine or a site is scored, and nothing of it was trained on.

    Of the other samples one group in five validates, by a hash of its name; groups with a sample in
    the part that is scored, samples of an unknown part and those of an official test set are not
    used.

    Args:
        columns: ``split``, ``group``, ``label`` and ``augmented`` of every sample.
        parts: (n,) the machine or site of every sample, empty where unknown.
        side: Which one is scored.

    Raises:
        ConfigError: a role would be empty.
    """
    table = _Table.of(columns)
    part = np.array(parts, np.str_)
    scored = np.flatnonzero(table.known & ~table.augmented & (part == side.value))
    taken = {table.group[row] for row in scored}
    free = np.array([group not in taken for group in table.group], bool)
    tested = np.array([split == "test" for split in table.base], bool)
    rest = np.flatnonzero(table.known & free & ~tested & (part != side.value) & (part != ""))
    return _checked(table, Roles(*_held_out(table, rest.astype(np.int64)), scored, side.name))


def everything(columns: Columns) -> Roles:
    """Return roles in which every labelled sample is scored, and nothing is trained on.

    Raises:
        ConfigError: no sample has a label.
    """
    table = _Table.of(columns)
    scored = np.flatnonzero(table.known & ~table.augmented).astype(np.int64)
    if not scored.size:
        raise ConfigError("No sample has the label that the model was trained for.")
    nothing = np.zeros(0, np.int64)
    return Roles(nothing, nothing, scored, "all")


def _checked(table: "_Table", roles: Roles) -> Roles:
    """Return the roles, if none is empty and no group is in two of them."""
    for role, rows in (
        ("train", roles.train),
        ("validate", roles.validate),
        ("score", roles.score),
    ):
        if not rows.size:
            raise ConfigError(
                f"{roles.name}: no labelled sample is left to {role}. "
                f"Splits: {_listed(table.base)}."
            )
    _check_leaks(table, roles)
    return roles


@dataclass(frozen=True)
class _Table:
    base: list[str]
    group: list[str]
    known: NDArray[np.bool_]
    augmented: NDArray[np.bool_]

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]]) -> "_Table":
        return cls(
            [base_split(str(split)) for split in columns["split"]],
            [str(group) for group in columns["group"]],
            np.array([label is not None for label in columns["label"]], bool),
            np.array([bool(value) for value in columns["augmented"]], bool),
        )

    def rows(self, splits: set[str], *, copies: bool = False) -> Rows:
        """Return the labelled samples of some splits, with or without augmented copies."""
        inside = np.array([split in splits for split in self.base], bool) & self.known
        return np.flatnonzero(inside if copies else inside & ~self.augmented).astype(np.int64)


def _by_fold(table: _Table, folds: list[str], fold: int) -> Roles:
    if not 0 <= fold < len(folds):
        raise ConfigError(f"--fold must be 0 to {len(folds) - 1}, got {fold}: {_listed(folds)}.")
    if len(folds) < 3:
        raise ConfigError(
            f"At least 3 folds are needed to train, validate and score; found {_listed(folds)}. "
            "mammoprep split DIR --folds 5 --out NEW makes others, without decoding anything."
        )
    scored, validating = folds[fold], folds[(fold + 1) % len(folds)]
    training = set(folds) - {scored, validating}
    tested = {scored, "test"} if table.rows({"test"}).size else {scored}
    return Roles(
        table.rows(training, copies=True),
        table.rows({validating}),
        table.rows(tested),
        "+".join(sorted(tested)),
    )


def _official(table: _Table) -> Roles:
    training, validating = table.rows({"train"}, copies=True), table.rows({"val"})
    if not validating.size:
        training, validating = _held_out(table, training)
    return Roles(training, validating, table.rows({"test"}), "test")


def _held_out(table: _Table, rows: Rows) -> tuple[Rows, Rows]:
    """Return which of these samples train, and which validate."""
    held = np.array([_is_held_out(table.group[row]) for row in rows], bool)
    return rows[~held], rows[held & ~table.augmented[rows]]


def _is_held_out(group: str) -> bool:
    return int(sha256(f"validate/{group}".encode()).hexdigest()[:8], 16) % HELD_OUT == 0


def _check_leaks(table: _Table, roles: Roles) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for name in ("train", "validate", "score"):
        for row in getattr(roles, name):
            sides[table.group[row]].add(name)
    torn = sorted(group for group, found in sides.items() if len(found) > 1)
    if torn:
        where = ", ".join(sorted(sides[torn[0]]))
        raise DamageError(
            f"{len(torn):,} groups are on two sides, such as {torn[0]!r} ({where}): the scores "
            "would be too good. Look with: mammoprep split DIR --check"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(set(names))) or "none"
