"""The order in which samples are seen: a pure function of seed, epoch, samples and sampling.

Nothing here has a state, and numpy's global numbers are not touched. Random numbers are the raw
words of Philox, whose key is a hash of what they are for; numpy promises that these stay the same
in all of its versions, which it does not for its shuffles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError

WINDOW = 16  # shards that are mixed
UNKNOWN = -1
NATURAL, BALANCED, POSITIVES, PER_PATIENT = "natural", "balanced", "positives", "per-patient"
UNDERSAMPLED = "undersampled"
NAMED = (NATURAL, BALANCED, UNDERSAMPLED, PER_PATIENT)

Rows = NDArray[np.int64]
_Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Sampling:
    """How often a sample is seen in an epoch.

    Attributes:
        kind: ``natural``, ``balanced``, ``undersampled``, ``positives`` or ``per-patient``.
        share: Of positives in an epoch, for ``positives``.
    """

    kind: str = NATURAL
    share: Fraction = Fraction(0)


@dataclass(frozen=True)
class Pool:
    """The samples of a run, (n,) int64 each, ascending by row.

    Attributes:
        rows: Places in the table, each once.
        shards: Number of the shard.
        labels: Class, ``UNKNOWN`` where it is not known.
        groups: Number of the group (patient).
    """

    rows: Rows
    shards: Rows
    labels: Rows
    groups: Rows


def sampling(text: str) -> Sampling:
    """Return what a name such as ``natural`` or ``undersampled``, or ``positives=1/7``, means.

    Raises:
        ConfigError: it is none of these, or the share is not between 0 and 1.
    """
    if text in NAMED:
        return Sampling(text)
    kind, _, share = text.partition("=")
    try:
        value = Fraction(share.strip())
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if kind.strip() != POSITIVES or not 0 < value < 1:
        raise ConfigError(
            f"data.sampling must be {', '.join(NAMED)}, or a share of positives such as "
            f"positives=1/7; got {text!r}."
        )
    return Sampling(POSITIVES, value)


def epoch_order(pool: Pool, how: Sampling, *, seed: int, epoch: int, window: int = WINDOW) -> Rows:
    """Return the rows of an epoch in the order in which they are seen.

    Shards come in random order, ``window`` of them are read at a time, and their samples mixed.

    ``natural`` sees every sample once. ``balanced`` and ``positives`` have epochs of as many
    samples as there are, and let every class (positives: labels above 0) pass by in turn, so that
    no sample of a class is seen again before all others were. ``undersampled`` does the same in
    short epochs: as many samples of every class as the rarest has. ``per-patient`` sees one sample
    of every group, the next epoch another, until all were seen.

    Raises:
        ConfigError: the sampling needs labels that are not known, or a class has no samples.
    """
    drawn = _drawn(pool, how, seed, epoch)
    shards = pool.shards[drawn]
    present, number = np.unique(shards, return_inverse=True)
    place = np.empty(len(present), np.int64)
    place[_shuffled(len(present), seed, epoch, "shards")] = np.arange(len(present))
    mixed = _words(len(drawn), seed, epoch, "samples")
    return pool.rows[drawn[np.lexsort((mixed, place[number] // max(window, 1)))]]


def sequential(pool: Pool) -> Rows:
    """Return every row once, shard by shard: the order in which samples are scored."""
    return pool.rows[np.lexsort((pool.rows, pool.shards))]


def steps(count: int, batch_size: int) -> int:
    """Return how many batches ``count`` samples make: the last one counts too."""
    return -(-count // batch_size)


def batches(
    order: Rows, batch_size: int, position: int = 0, *, rank: int = 0, world: int = 1
) -> Iterator[Rows]:
    """Yield this rank's part of every training batch that is left.

    All batches are full: the last is filled up from the order's beginning. Every rank has an equal
    part of every batch, so that a batch holds the same samples on any number of ranks.

    Args:
        order: An epoch's rows.
        batch_size: Samples of a batch over all ranks.
        position: Batches that are done.
        rank: Number of this process.
        world: How many there are.

    Raises:
        ConfigError: the batch cannot be divided by the number of ranks.
    """
    check_divides(batch_size, world)
    share = batch_size // world
    for step in range(position, steps(len(order), batch_size)):
        first = step * batch_size + rank * share
        yield order[np.arange(first, first + share) % len(order)]


def parts(order: Rows, batch_size: int, *, rank: int = 0, world: int = 1) -> Iterator[Rows]:
    """Yield this rank's part of what is scored: over all ranks every row exactly once.

    The last batch is shared out as evenly as it goes; a rank for which nothing is left has one
    batch fewer.
    """
    check_divides(batch_size, world)
    for first in range(0, len(order), batch_size):
        part = np.array_split(order[first : first + batch_size], world)[rank]
        if part.size:
            yield part


def check_divides(batch_size: int, world: int) -> None:
    """Check that every rank can have an equal part of a batch; raises ConfigError."""
    if batch_size % world:
        raise ConfigError(
            f"train.batch_size {batch_size} cannot be shared out equally to {world} processes."
        )


def _drawn(pool: Pool, how: Sampling, seed: int, epoch: int) -> Rows:
    """Return which samples an epoch has, as places in the pool, ascending, with repeats."""
    everything = np.arange(len(pool.rows))
    if how.kind == NATURAL:
        return everything
    if how.kind == PER_PATIENT:
        return _one_a_group(pool, seed, epoch)
    if unknown := int(np.count_nonzero(pool.labels == UNKNOWN)):
        raise ConfigError(f"data.sampling {how.kind} needs labels; {unknown:,} samples have none.")
    classes = (pool.labels > 0).astype(np.int64) if how.kind == POSITIVES else pool.labels
    quotas = _quotas(classes, how)
    chosen = [
        _turn(everything[classes == value], epoch * quota, quota, seed, f"class {value}")
        for value, quota in quotas.items()
    ]
    return np.sort(np.concatenate(chosen))


def _quotas(classes: Rows, how: Sampling) -> dict[int, int]:
    """Return class -> samples of an epoch."""
    total, (found, counts) = len(classes), np.unique(classes, return_counts=True)
    present = found.tolist()
    if how.kind == UNDERSAMPLED:
        return dict.fromkeys(present, int(counts.min()))
    if how.kind == BALANCED:
        share, rest = divmod(total, len(present))
        return {value: share + (place < rest) for place, value in enumerate(present)}
    if len(present) < 2:
        only = "positive" if present == [1] else "negative"
        raise ConfigError(f"data.sampling positives needs two classes; all samples are {only}.")
    positives = min(max(round(total * how.share), 1), total - 1)
    return {0: total - positives, 1: positives}


def _turn(items: Rows, start: int, count: int, seed: int, name: str) -> Rows:
    """Return items ``start`` to ``start + count`` of an endless row of shuffles of ``items``."""
    first, skip = divmod(start, len(items))
    last, rest = divmod(start + count, len(items))
    head = items[_shuffled(len(items), seed, first, name)]
    if first == last:
        return head[skip:rest]
    tail = items[_shuffled(len(items), seed, last, name)]
    return np.concatenate([head[skip:], np.repeat(items, last - first - 1), tail[:rest]])


def _one_a_group(pool: Pool, seed: int, epoch: int) -> Rows:
    """Return one sample a group: the one whose turn it is in the group's own shuffle."""
    _, number, counts = np.unique(pool.groups, return_inverse=True, return_counts=True)
    cycle = epoch // counts  # a group's shuffles are used up at its own pace
    keys = np.empty(len(pool.rows), np.uint64)
    for turn in np.unique(cycle):
        here = (cycle == turn)[number]
        keys[here] = _words(len(pool.rows), seed, int(turn), "groups")[here]
    by_group = np.lexsort((keys, number))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.sort(by_group[starts + epoch % counts])


def _shuffled(count: int, seed: int, epoch: int, name: str) -> Rows:
    return np.argsort(_words(count, seed, epoch, name), kind="stable")


def _words(count: int, seed: int, epoch: int, name: str) -> _Words:
    digest = sha256(f"{name}/{seed}/{epoch}".encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
