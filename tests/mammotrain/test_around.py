"""What lies around a mask is shown whole, in proportion, and from within the picture."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import tree_of

import mammoprep
from mammoprep.core.errors import ConfigError
from mammotrain.data.around import around
from mammotrain.data.loader import Loader, Options
from mammotrain.data.pictures import CROP, Stored
from mammotrain.data.shards import Table, open_table


@pytest.fixture(scope="module")
def busi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("busi")
    mammoprep.phantom("busi", home / "raw", patients=6, seed=4, size_scale=0.25)
    mammoprep.build(
        source="busi", input=home / "raw", out=home / "shards", size="48x64", folds=3, workers=1
    )
    return home / "shards"


def member(table: Table, row: int, suffix: str) -> np.ndarray:
    data = np.frombuffer(table.read(row, suffix), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def test_all_that_a_mask_sets_is_in_the_part_and_the_part_is_in_the_picture() -> None:
    numbers = np.random.default_rng(1)
    for _ in range(300):
        rows, columns = numbers.integers(8, 90, 2)
        mask = np.zeros((rows, columns), np.uint8)
        for _ in range(numbers.integers(1, 4)):
            mask[numbers.integers(0, rows), numbers.integers(0, columns)] = 255
        down, across = around(mask, tuple(numbers.integers(8, 64, 2)), numbers.uniform(0, 0.5))
        assert (mask[down, across] > 0).sum() == (mask > 0).sum()
        assert 0 <= down.start < down.stop <= rows
        assert 0 <= across.start < across.stop <= columns


def test_a_part_has_its_margin_and_the_proportions_that_it_is_resized_to() -> None:
    mask = np.zeros((200, 300), np.uint8)
    mask[80:120, 140:160] = 1  # 40 rows, 20 columns; middle (100, 150)
    assert around(mask, (10, 10), 0.25) == (slice(70, 130), slice(120, 180))
    assert around(mask, (10, 20), 0.25) == (slice(70, 130), slice(90, 210))
    assert around(mask, (20, 10), 0.0) == (slice(80, 120), slice(140, 160))


def test_a_part_at_an_edge_is_moved_inwards_and_one_too_large_is_cut() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[0:10, 55:60] = 1
    assert around(mask, (8, 8), 0.5) == (slice(0, 20), slice(40, 60))
    mask[:] = 1
    assert around(mask, (8, 8), 0.5) == (slice(0, 60), slice(0, 60))


def test_an_empty_mask_gives_the_whole_picture() -> None:
    assert around(np.zeros((7, 9), np.uint8), (3, 3)) == (slice(0, 7), slice(0, 9))


@pytest.mark.parametrize("size", [None, (24, 24)], ids=["stored", "smaller"])
def test_a_batch_holds_what_lies_around_each_mask(
    busi: Path, size: tuple[int, int] | None, tmp_path: Path
) -> None:
    table = open_table([busi])
    rows = np.flatnonzero(table.has("mask.png")).astype(np.int64)
    stored = Stored(table, rows, size=size, member=CROP)
    options = Options(batch_size=4, size=size, member=CROP, cache_dir=tmp_path)
    found = {}
    for batch in Loader(table, rows, options).epoch(0):
        found |= dict(zip(batch.keys, batch.images.numpy(), strict=True))
    wanted = (stored.shape.rows, stored.shape.columns)
    smaller = 0
    for row in rows:
        picture, mask = member(table, row, "png"), member(table, row, "mask.png")
        part = picture[around(mask, wanted)]
        smaller += part.shape != picture.shape
        out = np.empty((stored.shape.channels, *wanted), picture.dtype)
        stored.image(int(row), out)
        assert np.array_equal(found[str(table.keys[row])], out)
        flat = out[0] if picture.ndim == 2 else out.transpose(1, 2, 0)[..., ::-1]
        larger = part.shape[0] < wanted[0] or part.shape[1] < wanted[1]
        how = cv2.INTER_LINEAR if larger else cv2.INTER_AREA
        assert np.array_equal(flat, cv2.resize(part, wanted[::-1], interpolation=how))
    assert smaller  # some lesion is smaller than its picture
    assert tree_of(tmp_path) if size else not tree_of(tmp_path)


def test_what_has_no_mask_has_nothing_around_it(busi: Path) -> None:
    table = open_table([busi])
    everyone = np.arange(len(table), dtype=np.int64)
    with pytest.raises(ConfigError, match="a task that learns masks needs image"):
        Stored(table, everyone, member=CROP, masks=True)
    with pytest.raises(ConfigError, match=r"must be one of image, intersection.png, crop"):
        Stored(table, everyone, member="crap")
