"""Is a picture that is scored, under another name, one that was learned from? See docs/leaks.md.

Groups keep a patient on one side; they cannot know that two groups show one picture. Equal files
are found by their hashes, which costs nothing. Look-alikes are found by mammoprep's detector, which
reads every picture once; what it finds does not depend on who trains, so it is found once for a
table and kept in the run's cache.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import DamageError

Rows = NDArray[np.int64]
Texts = Sequence[str]
ROLES = ("train", "validate", "score")
REFUSE, SAY, OFF = "refuse", "say", "off"
MODES = (REFUSE, SAY, OFF)
NOBODY = -1
SHOWN = 3


@dataclass(frozen=True)
class Twin:
    """One picture in two roles.

    Attributes:
        keys: Of the one that is asked, and of the one that it is the same as.
        roles: What each of them does.
        kind: ``same_bytes``, ``same_pixels`` or ``look_alike``.
        likeness: Of a look-alike, else None.
    """

    keys: tuple[str, str]
    roles: tuple[str, str]
    kind: str
    likeness: float | None = None

    def __str__(self) -> str:
        """Return what people read."""
        how = f"likeness {self.likeness:.2f}" if self.likeness is not None else "same"
        how = {"same_bytes": "the same file", "same_pixels": "the same pixels"}.get(self.kind, how)
        (one, other), (does, did) = self.keys, self.roles
        return f"{one} ({does}) is {other} ({did}), {how}"


@dataclass(frozen=True)
class Samples:
    """Samples by plain arrays, of one table or of two.

    Attributes:
        keys: (n,) names.
        groups: (n,) samples of one group are not compared.
        digests: (n,) hash of the stored picture, empty where there is none.
        role: (n,) number in ``ROLES``, or ``NOBODY``.
    """

    keys: Texts
    groups: Texts
    digests: Texts
    role: NDArray[np.int64]

    def twin(self, one: int, other: int, kind: str, likeness: float | None = None) -> Twin | None:
        """Return a pair, the later role first; None where it does no harm."""
        if self.role[one] < self.role[other]:
            one, other = other, one
        apart = self.role[one] != self.role[other] and self.groups[one] != self.groups[other]
        if not apart or self.role[other] == NOBODY:
            return None
        roles = (ROLES[self.role[one]], ROLES[self.role[other]])
        alike = None if likeness is None else round(likeness, 4)
        return Twin((self.keys[one], self.keys[other]), roles, kind, alike)


def cast(size: int, roles: Mapping[str, Rows]) -> NDArray[np.int64]:
    """Return (size,) what every sample does, by number in ``ROLES``.

    Args:
        size: Samples of the table.
        roles: ``train``, ``validate`` and ``score`` -> places in it.
    """
    found = np.full(size, NOBODY, np.int64)
    for number, name in enumerate(ROLES):
        found[roles[name]] = number
    return found


def equal(
    samples: Samples, names: Sequence[Any], kind: str, shows: Callable[[int], bool]
) -> list[Twin]:
    """Return who is the same as one of an earlier role: each sample with one of each such role.

    Args:
        samples: The samples.
        names: (n,) equal for equal pictures; empty for none.
        kind: As of ``Twin``.
        shows: Whether a picture shows anything: black ones are equal and yet no leak.
    """
    by_name: dict[Any, list[int]] = defaultdict(list)
    for place in np.flatnonzero(samples.role != NOBODY).tolist():
        if names[place]:
            by_name[names[place]].append(place)
    several = (places for places in by_name.values() if len(places) > 1)
    return [
        twin
        for places in several
        for twin in _each_with_one(samples, places, kind)
        if shows(places[0])
    ]


def _each_with_one(samples: Samples, places: Sequence[int], kind: str) -> Iterator[Twin]:
    by_role = {n: [p for p in places if samples.role[p] == n] for n in range(len(ROLES))}
    for place in places:
        for earlier in range(int(samples.role[place])):
            found = (samples.twin(place, other, kind) for other in by_role[earlier])
            if (first := next((twin for twin in found if twin), None)) is not None:
                yield first


def alike(samples: Samples, pairs: Sequence[tuple[int, int, float]]) -> list[Twin]:
    """Return the look-alikes that are in two roles.

    Args:
        samples: The samples.
        pairs: Place, place, likeness.
    """
    found = (samples.twin(one, other, "look_alike", alike) for one, other, alike in pairs)
    return [twin for twin in found if twin is not None]


def told(twins: Sequence[Twin], mode: str) -> str:
    """Return what to say of pictures in two roles, and what to do about them."""
    counts: dict[str, int] = defaultdict(int)
    for twin in twins:
        counts[f"{twin.roles[0]} and {twin.roles[1]}"] += 1
    where = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    shown = "; ".join(str(twin) for twin in twins[:SHOWN])
    more = f"; and {len(twins) - SHOWN:,} more" if len(twins) > SHOWN else ""
    text = (
        f"{len(twins):,} pairs of pictures are one picture under two groups, in two roles "
        f"({where}): {shown}{more}. The scores would be too good."
    )
    if mode == SAY:
        return f"{text} Going on, as data.look_alikes says."
    return (
        f"{text} Keep them together: one group for both in the next build, or one side for both "
        "groups with --split-file; or leave one dataset out; mammoprep split DIR [DIR ...] --check "
        "lists them. --set data.look_alikes=say goes on and says so."
    )


def refused(twins: Sequence[Twin], mode: str, warn: Callable[[str], None]) -> None:
    """Say what was found; raises DamageError where the recipe does not go on."""
    if not twins:
        return
    if mode != SAY:
        raise DamageError(told(twins, mode))
    warn(told(twins, mode))
