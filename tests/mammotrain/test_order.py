"""The order of samples is a pure function of seed and epoch, and goes on from any place."""

from collections import Counter
from fractions import Fraction
from hashlib import sha256
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep.core.errors import ConfigError
from mammotrain.data import order
from mammotrain.data.order import UNKNOWN, Pool, Sampling, epoch_order, sampling

NATURAL = Sampling()


def pool(
    count: int = 60, shards: int = 6, classes: int = 2, groups: int = 13, seed: int = 1
) -> Pool:
    """Rows with gaps, classes of unequal size, groups of unequal size."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(3 * count, count, replace=False)).astype(np.int64)
    labels = np.minimum(rng.geometric(0.6, count) - 1, classes - 1)
    labels[:classes] = np.arange(classes)
    return Pool(rows, rng.integers(0, shards, count), labels, rng.integers(0, groups, count))


def labels_of(pool: Pool, rows: np.ndarray) -> np.ndarray:
    return pool.labels[np.searchsorted(pool.rows, rows)]


def seen(pool: Pool, how: str, epoch: int, seed: int = 0, **options: int) -> np.ndarray:
    return epoch_order(pool, sampling(how), seed=seed, epoch=epoch, **options)


SAMPLINGS = ("natural", "balanced", "positives=1/7", "per-patient")


@pytest.mark.parametrize("how", SAMPLINGS)
def test_the_same_seed_and_epoch_give_the_same_order(how: str) -> None:
    one, two = pool(), pool()
    np.random.seed(3)
    first = seen(one, how, 4)
    np.random.random(5)
    np.testing.assert_array_equal(first, seen(two, how, 4))
    assert first.tolist() != seen(one, how, 5).tolist()
    assert first.tolist() != seen(one, how, 4, seed=1).tolist()


def test_the_order_is_the_same_on_every_machine() -> None:
    numbers = np.arange(1000)
    whole = Pool(numbers, numbers // 50, numbers % 3, numbers // 4)
    found = [seen(whole, how, 2, seed=7).astype("<i8").tobytes() for how in SAMPLINGS]
    assert [sha256(rows).hexdigest()[:8] for rows in found] == [
        "4c510e5c",
        "4c510e5c",
        "1344eddf",
        "c20ad182",
    ]


@given(st.integers(1, 80), st.integers(1, 9), st.integers(0, 5), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_natural_sees_every_sample_once(count: int, shards: int, epoch: int, window: int) -> None:
    some = pool(count, shards, classes=1)
    rows = epoch_order(some, NATURAL, seed=0, epoch=epoch, window=window)
    assert sorted(rows.tolist()) == some.rows.tolist()


@pytest.mark.parametrize("window", [1, 3, 16])
def test_few_shards_are_open_at_a_time(window: int) -> None:
    some = pool(400, shards=12)
    rows = epoch_order(some, NATURAL, seed=0, epoch=0, window=window)
    shards = some.shards[np.searchsorted(some.rows, rows)]
    first = {shard: np.flatnonzero(shards == shard)[0] for shard in set(shards.tolist())}
    last = {shard: np.flatnonzero(shards == shard)[-1] for shard in set(shards.tolist())}
    for place in range(len(rows)):
        assert sum(first[s] <= place <= last[s] for s in first) <= window


def test_samples_within_a_window_are_mixed() -> None:
    some = pool(800, shards=4)
    rows = seen(some, "natural", 0)
    shards = some.shards[np.searchsorted(some.rows, rows)]
    halves = np.bincount(shards[:400], minlength=4) / np.bincount(shards, minlength=4)
    assert (abs(halves - 0.5) < 0.15).all()
    assert abs(np.corrcoef(rows, np.arange(800))[0, 1]) < 0.1


def test_every_order_of_four_samples_is_as_likely() -> None:
    four = Pool(*(np.arange(4), np.zeros(4, int), np.zeros(4, int), np.arange(4)))
    counts = Counter(tuple(seen(four, "natural", epoch).tolist()) for epoch in range(4800))
    assert len(counts) == 24
    # Chi-squared of 23 degrees of freedom: above 50 once in a thousand.
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 50


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_balanced_makes_classes_level(classes: int) -> None:
    some = pool(101, classes=classes)
    for epoch in range(3):
        rows = seen(some, "balanced", epoch)
        counts = np.bincount(labels_of(some, rows))
        assert len(rows) == 101
        assert np.ptp(counts) <= 1


@pytest.mark.parametrize("share", ["1/7", "0.5", "1/3", "0.95"])
def test_positives_have_the_share_that_was_asked_for(share: str) -> None:
    some = pool(210, classes=3)
    rows = seen(some, f"positives={share}", 1)
    positives = int((labels_of(some, rows) > 0).sum())
    assert len(rows) == 210
    assert positives == round(210 * float(Fraction(share)))


@pytest.mark.parametrize("how", ["balanced", "positives=1/7", "positives=0.9"])
def test_no_sample_comes_again_before_the_rest_of_its_class_came(how: str) -> None:
    some = pool(90, classes=2)
    total = Counter()
    for epoch in range(7):
        total.update(seen(some, how, epoch).tolist())
        for value in (0, 1):
            counts = [total[row] for row in some.rows[some.labels == value].tolist()]
            assert max(counts) - min(counts) <= 1


def test_sampling_by_label_refuses_unknown_labels() -> None:
    some = pool()
    some.labels[[3, 4]] = UNKNOWN
    for how in ("balanced", "positives=1/7"):
        with pytest.raises(ConfigError, match="2 samples have none"):
            seen(some, how, 0)
    assert len(seen(some, "natural", 0)) == 60


def test_positives_need_two_classes() -> None:
    with pytest.raises(ConfigError, match="all samples are negative"):
        seen(pool(classes=1), "positives=1/7", 0)


def test_per_patient_shows_one_picture_a_patient_and_all_in_turn() -> None:
    some = pool(70, groups=9)
    groups = dict(zip(some.rows.tolist(), some.groups.tolist(), strict=True))
    members = Counter(groups.values())
    total: Counter[int] = Counter()
    for epoch in range(24):
        rows = seen(some, "per-patient", epoch).tolist()
        assert sorted(groups[row] for row in rows) == sorted(members)
        total.update(rows)
        for group, count in members.items():
            if (epoch + 1) % count == 0:
                times = {total[row] for row, found in groups.items() if found == group}
                assert times == {(epoch + 1) // count}


@pytest.mark.parametrize("text", ["", "natural ", "even", "positives", "positives=0", "positives=1",
                                  "positives=7/1", "positives=a", "positives=1/0"])  # fmt: skip
def test_an_unknown_sampling_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.sampling"):
        sampling(text)


def test_a_share_is_read_exactly() -> None:
    assert sampling("positives=1/7").share == Fraction(1, 7)
    assert sampling("positives = 0.2").share == Fraction(1, 5)


@given(
    count=st.integers(1, 90),
    share=st.integers(1, 6),
    position=st.integers(0, 12),
    how=st.sampled_from(SAMPLINGS),
    epoch=st.integers(0, 4),
)
@settings(max_examples=80, deadline=None)
def test_going_on_gives_exactly_the_rest_on_one_two_or_four_ranks(
    count: int, share: int, position: int, how: str, epoch: int
) -> None:
    some = pool(max(count, 2))
    rows, size = seen(some, how, epoch), 4 * share
    whole = [batch.tolist() for batch in order.batches(rows, size)]
    assert len(whole) == order.steps(len(rows), size)
    assert list(chain(*whole))[: len(rows)] == rows.tolist()
    for world in (1, 2, 4):
        ranks = [
            [b.tolist() for b in order.batches(rows, size, position, rank=rank, world=world)]
            for rank in range(world)
        ]
        assert len({len(batches) for batches in ranks}) == 1
        joined = [list(chain(*parts)) for parts in zip(*ranks, strict=True)]
        assert joined == whole[position:]


def test_every_batch_is_full_even_when_there_are_fewer_samples() -> None:
    few = np.array([5, 6, 7])
    assert [b.tolist() for b in order.batches(few, 8)] == [[5, 6, 7, 5, 6, 7, 5, 6]]
    assert [b.tolist() for b in order.batches(few, 2)] == [[5, 6], [7, 5]]


@given(st.integers(0, 50), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_what_is_scored_is_every_sample_once_on_any_number_of_ranks(count: int, share: int) -> None:
    rows = np.arange(count) * 3
    for world in (1, 2, 3, 4):
        ranks = [
            list(order.parts(rows, share * world, rank=rank, world=world)) for rank in range(world)
        ]
        found = [row for parts in ranks for part in parts for row in part.tolist()]
        assert sorted(found) == rows.tolist()
        assert all(part.size for parts in ranks for part in parts)
        lengths = [len(parts) for parts in ranks]
        assert max(lengths) - min(lengths) <= 1


def test_scoring_reads_shard_by_shard() -> None:
    some = pool(100, shards=7)
    rows = order.sequential(some)
    shards = some.shards[np.searchsorted(some.rows, rows)]
    assert (np.diff(shards) >= 0).all()
    assert sorted(rows.tolist()) == some.rows.tolist()


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size 10 cannot be shared out equally to 4"):
        next(order.batches(np.arange(20), 10, rank=0, world=4))
