"""Patches of one place are told from others under every shift, turn and mirroring."""

import cv2
import numpy as np
import pytest

from mammoprep.core.errors import RecordError
from mammoprep.decode import alignment

SIDE = 299


def texture(seed: int) -> np.ndarray:
    rough = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(500, 500)), (0, 0), 2.5)
    return np.clip(120 + 40 * rough / rough.std(), 0, 255).astype(np.uint8)


def fingerprint(picture: np.ndarray) -> dict:
    return alignment.fingerprint(np.ascontiguousarray(picture).tobytes(), (SIDE, SIDE))


def piece(seed: int, x: int = 0, y: int = 0) -> np.ndarray:
    return texture(seed)[y : y + SIDE, x : x + SIDE]


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_every_turn_of_a_shifted_piece_is_found(quarters: int, mirrored: bool) -> None:
    other = piece(1, 90, 40)
    turned = np.rot90(other[:, ::-1] if mirrored else other, quarters)
    like = alignment.likeness(fingerprint(piece(1)), fingerprint(turned), SIDE)
    assert like >= 2 * alignment.SAME


def test_other_places_are_not_alike() -> None:
    prints = [fingerprint(piece(seed)) for seed in range(12)]
    pairs = [(i, j) for i in range(12) for j in range(i)]
    assert max(alignment.likeness(prints[i], prints[j], SIDE) for i, j in pairs) < alignment.SAME


def test_likeness_does_not_depend_on_the_order_of_the_pair() -> None:
    one, other = fingerprint(piece(2)), fingerprint(np.rot90(piece(2, 60, 100)))
    assert alignment.likeness(one, other, SIDE) == alignment.likeness(other, one, SIDE)


def test_a_patch_without_spots_is_like_nothing_and_a_flat_one_is_blank() -> None:
    flat = fingerprint(np.full((SIDE, SIDE), 33, np.uint8))
    assert (flat["blank"], flat["mean"], flat["spots"]) == (True, 33.0, "")
    assert alignment.likeness(flat, flat, SIDE) == 0
    assert not fingerprint(piece(1))["blank"]


def test_a_patch_of_another_size_is_a_record_error() -> None:
    with pytest.raises(RecordError):
        alignment.fingerprint(b"abc", (SIDE, SIDE))
