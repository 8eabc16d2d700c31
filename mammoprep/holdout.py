"""A share of the groups as a test set: grouped, stratified, seeded, chosen once and then kept."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mammoprep.core.errors import ConfigError
from mammoprep.splits import Group, rank, weight

TEST = "test"
# Whoever is in an official validation set was chosen by somebody; all others may be drawn.
KEPT = "val"
_NUMBER = re.compile(r"[0-9]{1,9}")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")


def hold_out(
    groups: Sequence[Group], asked: str, seed: int, names: Mapping[str, str]
) -> tuple[list[Group], list[str]]:
    """Return the groups with some of them officially ``test``, and what the user should know.

    Args:
        groups: Of a dataset without a test set.
        asked: ``20%`` or a number of groups.
        seed: Another one draws others.
        names: Kind of weight -> the class that it stands for.

    Raises:
        ConfigError: there is a test set, or ``asked`` is no share or leaves one side empty.
    """
    if there := sum(group.official == TEST for group in groups):
        raise ConfigError(
            f"--test: there is a test set of {there:,} groups already, and it stays. Leave --test "
            "out; or choose another among the rest: --where \"split != 'test'\"."
        )
    pool = [group for group in groups if group.official != KEPT]
    chosen = draw(pool, count(asked, len(pool)), seed)
    lines = [
        f"--test {asked}: class {name!r} is {where}, of {whole:,} groups of it in all. A score "
        f"says nothing of it. {remedy}"
        for kind, name in sorted(names.items())
        for where, whole, remedy in _missing(kind, pool, chosen)
    ]
    return [replace(g, official=TEST) if g.name in chosen else g for g in groups], lines


def _missing(kind: str, pool: Sequence[Group], chosen: set[str]) -> list[tuple[str, int, str]]:
    having = [group.name for group in pool if group.weights.get(kind)]
    inside = sum(name in chosen for name in having)
    if having and not inside:
        return [("in no group of the test set", len(having), "Give a larger --test.")]
    if having and inside == len(having):
        return [("in the test set alone", len(having), "Give a smaller --test.")]
    return []


def count(asked: str, groups: int) -> int:
    """Return how many of ``groups`` are asked for by ``20%`` or by ``40``.

    Raises:
        ConfigError: neither, or none or all of them.
    """
    text = asked.strip()
    if percent := _PERCENT.fullmatch(text):
        number = round(groups * float(percent[1]) / 100)
        told = f"{text} of {groups:,} groups are {number:,}"
    elif _NUMBER.fullmatch(text):
        number = int(text)
        told = f"there are {groups:,} groups"
    else:
        raise ConfigError(
            f"--test must be a share of the groups such as 20%, or a number of groups such as 40; "
            f"got {asked!r}."
        )
    if 0 < number < groups:
        return number
    raise ConfigError(
        f"--test {asked}: {told}. At least one group must be in the test set and one outside: "
        + (f"give 1 to {groups - 1:,}." if groups > 1 else "these samples cannot be split.")
    )


def draw(groups: Sequence[Group], number: int, seed: int) -> set[str]:
    """Return the names of ``number`` groups that hold their share of labels, strata and images.

    The groups that weigh most first, each goes to the side where it adds least to the sum of
    squared weights over the side's share; ties stay outside, but for the order by seed.
    """
    totals: Counter[str] = Counter()
    for group in groups:
        totals.update(group.weights)
    room = {False: len(groups) - number, True: number}
    share = {side: places / len(groups) for side, places in room.items()}
    held: dict[bool, Counter[str]] = {side: Counter() for side in room}

    def cost(group: Group, side: bool) -> float:
        """Return what the group adds to the sum.

        Not its slope as in ``assign``: shares differ here, and a class of one group must not be
        drawn because both sides are still empty.
        """
        added = sum(
            n * (2 * held[side][kind] + n) / totals[kind] ** 2 for kind, n in group.weights.items()
        )
        return added / share[side]

    chosen = set()
    order = sorted(groups, key=lambda group: (-weight(group, totals), rank(seed, group.name)))
    for group in order:
        side = min((s for s in room if room[s]), key=lambda s: cost(group, s))
        room[side] -= 1
        held[side].update(group.weights)
        if side:
            chosen.add(group.name)
    return chosen
