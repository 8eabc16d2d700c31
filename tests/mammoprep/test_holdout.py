"""`split --test`: a share of the groups, spread over the classes, whoever asks oddly is told."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep import holdout, splits
from mammoprep.core.errors import ConfigError

NAMES = {"label 0": "negative", "label 1": "cancer"}


def group(
    name: str, label: int | None, images: int = 1, official: str | None = None
) -> splits.Group:
    weights = Counter({"images": images, f"label {label}": images, "stratum ": images})
    return splits.Group(name, weights, official)


def cohort(negative: int, cancer: int) -> list[splits.Group]:
    labels = [0] * negative + [1] * cancer
    return [group(f"p{number:03d}", label) for number, label in enumerate(labels)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=4),
    st.integers(1, 99),
    st.integers(0, 5),
)
def test_every_class_has_its_share_of_groups_in_the_test_set(
    sizes: list[int], percent: int, seed: int
) -> None:
    groups = [
        group(f"{label}-{number}", label) for label, n in enumerate(sizes) for number in range(n)
    ]
    try:
        number = holdout.count(f"{percent}%", len(groups))
    except ConfigError:
        return
    chosen = holdout.draw(groups, number, seed)
    assert len(chosen) == number
    for label, size in enumerate(sizes):
        inside = sum(name.startswith(f"{label}-") for name in chosen)
        assert abs(inside - size * number / len(groups)) < 2  # images are spread as well


def test_groups_of_many_images_do_not_all_go_to_one_side() -> None:
    groups = [group(f"p{n}", n % 2, images=1 + 9 * (n % 5 == 0)) for n in range(100)]
    chosen = holdout.draw(groups, 20, 0)
    images = sum(g.weights["images"] for g in groups if g.name in chosen)
    assert images == pytest.approx(0.2 * sum(g.weights["images"] for g in groups), rel=0.1)


def test_neither_order_nor_anything_but_the_seed_changes_who_is_drawn() -> None:
    groups = cohort(40, 10)
    first = holdout.draw(groups, 10, 3)
    assert holdout.draw(groups[::-1], 10, 3) == first
    assert holdout.draw(groups, 10, 4) != first


@pytest.mark.parametrize(
    ("asked", "number"), [("20%", 10), ("12.5%", 6), (" 20 % ", 10), ("1", 1), ("49", 49)]
)
def test_a_share_or_a_number_of_groups(asked: str, number: int) -> None:
    assert holdout.count(asked, 50) == number


@pytest.mark.parametrize(
    "asked",
    [
        "0%", "100%", "101%", "0.5%", "-3", "0", "50", "51", "999999999", "abc", "", "%", "0.2",
        "1e1%", "nan%", "inf%", "20%%", "²", "٢٠%", "5,5%", "1" * 5000,
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_what_to_give(asked: str) -> None:
    with pytest.raises(ConfigError, match=r"such as 20%|give 1 to 49"):
        holdout.count(asked, 50)


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="cannot be split"):
        holdout.count("50%", 1)


def test_a_class_that_one_side_lacks_is_said() -> None:
    (line,) = holdout.hold_out(cohort(20, 1), "20%", 0, NAMES)[1]
    assert "class 'cancer' is in no group of the test set, of 1 groups" in line
    assert "larger --test" in line
    (line,) = holdout.hold_out(cohort(20, 1), "20", 0, NAMES)[1]
    assert "in the test set alone" in line
    assert holdout.hold_out(cohort(20, 5), "20%", 0, NAMES)[1] == []


def test_a_test_set_stays_and_is_not_drawn_again() -> None:
    groups = [*cohort(10, 5), group("old", 0, official="test")]
    with pytest.raises(ConfigError, match="a test set of 1 groups already, and it stays"):
        holdout.hold_out(groups, "20%", 0, NAMES)


def test_an_official_validation_set_is_not_drawn_from() -> None:
    groups = [replace(g, official="val") for g in cohort(5, 5)]
    groups += [group(f"t{n}", n % 2, official="train") for n in range(10)]
    placed = splits.assign(holdout.hold_out(groups, "30%", 0, NAMES)[0], folds=2, seed=0)
    assert Counter(placed.values()) == {"val": 10, "test": 3, "train": 7}
