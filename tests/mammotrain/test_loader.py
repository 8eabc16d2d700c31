"""Batches hold exactly the stored pictures, in the promised order, however many threads work."""

import io
import os
import shutil
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import run_build
from PIL import Image

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import ConfigError, DamageError, ResourceError
from mammoprep.phantoms import flowers, inbreast
from mammotrain.contracts import Batch
from mammotrain.data import cache, pictures
from mammotrain.data import loader as loading
from mammotrain.data.loader import Loader, Options
from mammotrain.data.pictures import Stored, stated_size
from mammotrain.data.shards import Table, open_table


def made(source: str, folder: Path, **settings: object) -> Path:
    config = BuildConfig(source, Settings(folds=3, shard_size=8, **settings), folder / "raw",
                         folder / "out", 2)  # type: ignore[arg-type]  # fmt: skip
    build(config)
    return folder / "out"


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with masks and intersections."""
    folder = tmp_path_factory.mktemp("lesions")
    inbreast.write(folder / "raw", patients=6, seed=3, size_scale=0.06, prevalence=0.5)
    return made("inbreast", folder, size=(60, 90), intersection=True)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    flowers.write(folder / "raw", patients=8, seed=3, size_scale=0.2)
    return made("flowers", folder, size=(40, 32))


@pytest.fixture(scope="module")
def deep(phantom_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 16 bits."""
    out = tmp_path_factory.mktemp("deep") / "out"
    run_build(phantom_once, out, bits=16, limit=12)
    return out


def loader(table: Table, rows: np.ndarray | None = None, **options: object) -> Loader:
    chosen = np.arange(len(table)) if rows is None else rows
    return Loader(table, chosen, Options(**{"batch_size": 8, **options}))  # type: ignore[arg-type]


def everything(batches: list[Batch]) -> dict[int, np.ndarray]:
    return {
        int(row): picture.numpy()
        for batch in batches
        for row, picture in zip(batch.rows, batch.images, strict=True)
    }


def picture(table: Table, row: int, suffix: str = "png") -> np.ndarray:
    """The oracle: Pillow."""
    return np.array(Image.open(io.BytesIO(table.read(row, suffix))))


def same(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a.images, b.images) and a.keys == b.keys and a.rows.tolist() == b.rows.tolist()
        for a, b in zip(one, two, strict=True)
    )


def damage(root: Path, suffix: str = "png") -> tuple[str, str]:
    """Flip a bit of a sample; return its key and shard."""
    table = open_table([root])
    row = 7
    content = table.read(row, suffix)
    path = root / "shards" / table.shard_name(row)
    whole = bytearray(path.read_bytes())
    whole[bytes(whole).index(content) + len(content) // 2] ^= 4
    path.write_bytes(whole)
    return str(table.keys[row]), path.name


# --- pictures


@pytest.mark.parametrize("workers", [0, 2])
def test_grey_pictures_are_the_stored_ones(built_once: Path, workers: int) -> None:
    table = open_table([built_once])
    batches = list(loader(table, workers=workers).epoch(0))
    assert all(b.images.shape == (8, 1, 128, 64) and b.images.dtype == torch.uint8 for b in batches)
    found = everything(batches)
    assert sorted(found) == list(range(len(table)))
    for row, pixels in found.items():
        np.testing.assert_array_equal(pixels[0], picture(table, row))
    for batch in batches:
        assert list(batch.keys) == table.keys[batch.rows].tolist()
        assert batch.masks is None


def test_sixteen_bits_stay_sixteen_bits(deep: Path) -> None:
    table = open_table([deep])
    batches = list(loader(table, batch_size=4).epoch(0))
    assert batches[0].images.dtype == torch.uint16
    found = everything(batches)
    assert max(pixels.max() for pixels in found.values()) > 255
    for row, pixels in found.items():
        np.testing.assert_array_equal(pixels[0], picture(table, row))


def test_colours_are_red_green_blue(colours: Path) -> None:
    table = open_table([colours])
    found = everything(list(loader(table).epoch(0)))
    for row, pixels in found.items():
        assert pixels.shape == (3, 32, 40)
        np.testing.assert_array_equal(pixels.transpose(1, 2, 0), picture(table, row))


def annotated(table: Table) -> np.ndarray:
    return np.flatnonzero(table.has("mask.png"))


def test_masks_go_with_their_pictures(lesions: Path) -> None:
    table = open_table([lesions])
    some = loader(table, annotated(table), masks=True)
    seen = 0
    for batch in some.epoch(0):
        assert batch.masks is not None
        assert batch.masks.dtype == torch.uint8
        assert batch.masks.shape == (8, 1, 90, 60)
        for row, mask in zip(batch.rows, batch.masks, strict=True):
            np.testing.assert_array_equal(mask[0].numpy(), picture(table, int(row), "mask.png"))
            seen += int(mask.any())
    assert seen


def test_intersections_can_be_the_pictures(lesions: Path) -> None:
    table = open_table([lesions])
    some = loader(table, annotated(table), member="intersection.png")
    for row, pixels in everything(list(some.epoch(0))).items():
        np.testing.assert_array_equal(pixels[0], picture(table, row, "intersection.png"))


def test_samples_without_masks_are_refused_not_made_empty(built_once: Path) -> None:
    table = open_table([built_once])
    with pytest.raises(ConfigError, match="33 of 33 samples have no mask"):
        loader(table, masks=True)
    with pytest.raises(ConfigError, match="--intersection"):
        loader(table, member="intersection.png")


def test_no_samples_are_refused(built_once: Path) -> None:
    with pytest.raises(ConfigError, match="No sample"):
        loader(open_table([built_once]), np.array([], np.int64))


def test_grey_and_colour_are_never_in_one_batch(
    built_once: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey, colour = open_table([built_once]), open_table([colours])
    some = loader(grey, workers=0)
    read = Table.read
    monkeypatch.setattr(Table, "read", lambda table, row, suffix: read(colour, 0, suffix))
    monkeypatch.setattr(pictures, "stated_size", lambda _: (128, 64))
    with pytest.raises(ConfigError, match="no batch can hold both"):
        next(some.epoch(0))


def test_samples_of_several_sizes_are_refused(built_once: Path) -> None:
    table = open_table([built_once])
    sizes = table.columns["geometry.size"].copy()
    sizes[4] = [128, 65]
    table.columns._plain["geometry.size"] = sizes  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"several sizes.*: 64x128, 65x128"):
        loader(table)
    assert len(loader(table, np.arange(4))) == 1


# --- order


@pytest.mark.parametrize("how", ["natural", "balanced", "positives=1/3", "per-patient"])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_going_on_gives_the_same_batches_on_any_number_of_threads_and_ranks(
    built_once: Path, how: str, workers: int
) -> None:
    table = open_table([built_once])
    known = np.flatnonzero([label is not None for label in table.columns["label"]])
    options = {"sampling": how, "seed": 3, "batch_size": 4}
    whole = list(loader(table, known, workers=0, **options).epoch(2))
    assert len(whole) == len(loader(table, known, **options)) > 1
    position = len(whole) // 2
    assert same(
        list(loader(table, known, workers=workers, **options).epoch(2, position)), whole[position:]
    )
    for world in (2, 4):
        ranks = [
            list(
                loader(table, known, workers=workers, rank=rank, world=world, **options)
                .epoch(2, position)
            )
            for rank in range(world)
        ]  # fmt: skip
        for place, parts in enumerate(zip(*ranks, strict=True), position):
            joined = torch.cat([part.images for part in parts])
            assert torch.equal(joined, whole[place].images)


def test_what_is_scored_is_every_sample_once(built_once: Path) -> None:
    table = open_table([built_once])
    for world in (1, 2, 4):
        rows: list[int] = []
        for rank in range(world):
            some = loader(table, training=False, rank=rank, world=world)
            rows += [int(row) for batch in some.epoch(0) for row in batch.rows]
        assert sorted(rows) == list(range(len(table)))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_rank_can_tell_what_all_of_them_train_on(built_once: Path, world: int) -> None:
    table = open_table([built_once])
    ranks = [loader(table, rank=rank, world=world) for rank in range(world)]
    seen = [int(row) for one in ranks for batch in one.epoch(1) for row in batch.rows]
    for one in ranks:
        assert sorted(one.taught(1).tolist()) == sorted(seen)


def test_labels_of_a_task_decide_the_sampling(built_once: Path) -> None:
    table = open_table([built_once])
    views = np.array([int(view == "CC") for view in table.columns["view"]])
    some = Loader(table, np.arange(33), Options(sampling="balanced", batch_size=33), labels=views)
    batch = next(some.epoch(0))
    assert abs(views[batch.rows].mean() - 0.5) < 0.02


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}, {"window": 0},
                                   {"rank": 2, "world": 2}, {"batch_size": 9, "world": 2},
                                   {"sampling": "fair"}])  # fmt: skip
def test_options_out_of_range_are_refused(built_once: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError):
        loader(open_table([built_once]), **wrong)


# --- damage


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_sample_stops_with_its_key_and_shard(built: Path, workers: int) -> None:
    key, shard = damage(built)
    with pytest.raises(DamageError, match=key) as caught:
        list(loader(open_table([built]), workers=workers).epoch(0))
    assert shard in str(caught.value)


def test_a_picture_that_does_not_decode_stops_with_its_key_and_shard(built: Path) -> None:
    key, shard = damage(built)
    with pytest.raises(DamageError, match=f"{key}.png: does not decode") as caught:
        list(loader(open_table([built], verify="none")).epoch(0))
    assert shard in str(caught.value)


def test_a_picture_of_another_size_is_refused_before_it_is_decoded(
    built_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = open_table([built_once])
    some = loader(table, workers=0)
    bomb = bytearray(table.read(3, "png"))
    bomb[16:24] = struct.pack(">II", 30_000, 30_000)
    monkeypatch.setattr(Table, "read", lambda *_: bytes(bomb))
    monkeypatch.setattr(pictures, "_decode", lambda _: pytest.fail("decoded"))
    with pytest.raises(DamageError, match="30000"):
        next(some.epoch(0))


@pytest.mark.parametrize("shape", [(5, 7), (300, 2), (20, 20, 3)])
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_the_stated_size_is_that_of_the_picture(shape: tuple, extension: str) -> None:
    image = np.full(shape, 90, np.uint8)
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1] if extension == ".jpg" else []
    for options in ([], progressive):
        assert stated_size(cv2.imencode(extension, image, options)[1].tobytes()) == shape[:2]


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00",
                                  b"\xff\xd8" + b"\xff" * 40, b"\xff\xd8" + b"\xff\xe0\x00\x00" * 9,
                                  b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"])  # fmt: skip
def test_what_is_no_picture_has_no_size(data: bytes) -> None:
    assert stated_size(data) is None


# --- threads


def test_leaving_early_leaves_no_thread_behind(built_once: Path) -> None:
    before = threading.active_count()
    batches = loader(open_table([built_once]), workers=3).epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_waiting_is_measured_and_only_that(
    built_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    some = loader(open_table([built_once]), workers=0)
    monkeypatch.setattr(loading, "perf_counter", lambda: clock[0])
    fill = Stored.image

    def slow(self: Stored, row: int, out: np.ndarray) -> None:
        clock[0] += 1
        fill(self, row, out)

    monkeypatch.setattr(Stored, "image", slow)
    for _ in some.epoch(0):
        clock[0] += 1000  # the caller works
    assert some.waited_s == 40


def test_threads_work_while_the_caller_does(
    built_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = loader(open_table([built_once]), workers=2)
    fill, ahead = Stored.image, threading.Semaphore(0)

    def noted(self: Stored, row: int, out: np.ndarray) -> None:
        fill(self, row, out)
        ahead.release()

    monkeypatch.setattr(Stored, "image", noted)
    batches = some.epoch(0)
    next(batches)
    assert all(ahead.acquire(timeout=30) for _ in range(24))  # this batch and two more
    assert not ahead.acquire(timeout=0.05)  # and not all there are
    batches.close()  # type: ignore[attr-defined]


# --- smaller pictures


def test_smaller_pictures_are_averages(lesions: Path) -> None:
    table = open_table([lesions])
    some = loader(table, annotated(table), size=(20, 30), masks=True)
    assert (some.shape.rows, some.shape.columns) == (30, 20)
    for batch in some.epoch(0):
        assert batch.masks is not None
        for row, image, mask in zip(batch.rows, batch.images, batch.masks, strict=True):
            blocks = picture(table, int(row)).reshape(30, 3, 20, 3).mean((1, 3))
            assert abs(image[0].numpy() - blocks).max() <= 0.5
            cover = picture(table, int(row), "mask.png").reshape(30, 3, 20, 3).max((1, 3))
            np.testing.assert_array_equal(mask[0].numpy(), cover)


def test_a_speck_of_a_lesion_survives_shrinking(lesions: Path) -> None:
    table = open_table([lesions])
    stored = Stored(table, annotated(table), size=(7, 11), masks=True)
    speck = np.zeros((90, 60), np.uint8)
    speck[44, 31] = 255
    out = np.zeros((1, 11, 7), np.uint8)
    stored._decoded = lambda *_: speck  # type: ignore[method-assign]
    stored.mask(0, out)
    assert out[0, 5, 3] == 255
    assert set(np.unique(out)) == {0, 255}


def test_larger_pictures_than_stored_are_refused(built_once: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.size 65x128 is larger than the stored 64x128"):
        loader(open_table([built_once]), size=(65, 128))


@pytest.mark.parametrize("kind", ["built_once", "deep", "colours"])
def test_copies_are_what_decoding_each_time_gives(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    table = open_table([request.getfixturevalue(kind)])
    options = {"size": (16, 20), "batch_size": 4}
    fresh, kept = loader(table, **options), loader(table, cache_dir=tmp_path, **options)
    assert kept.cached
    assert not fresh.cached
    assert same(list(fresh.epoch(1)), list(kept.epoch(1)))


def test_copies_have_masks_too(lesions: Path, tmp_path: Path) -> None:
    table = open_table([lesions])
    options = {"size": (20, 31), "masks": True}
    fresh = loader(table, annotated(table), **options)
    kept = loader(table, annotated(table), cache_dir=tmp_path, **options)
    for one, two in zip(fresh.epoch(0), kept.epoch(0), strict=True):
        assert one.masks is not None
        assert two.masks is not None
        assert torch.equal(one.masks, two.masks)


def test_copies_are_made_once_for_all_folds(
    built_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = open_table([built_once])
    told: list[tuple[int, int]] = []
    options = Options(batch_size=4, size=(16, 20), cache_dir=tmp_path)
    Loader(table, np.arange(5), options, progress=lambda *done: told.append(done))
    assert told[-1] == (33, 33)
    files = sorted(path.name for path in tmp_path.glob("*.npy"))
    monkeypatch.setattr(cache._Copying, "write", lambda *_: pytest.fail("made again"))
    assert len(list(Loader(table, np.arange(9, 30), options).epoch(0))) == 6
    assert sorted(path.name for path in tmp_path.glob("*.npy")) == files
    assert np.load(tmp_path / files[0]).shape == (33, 1, 20, 16)


def test_other_data_or_sizes_have_other_copies(
    phantom_once: Path, built_once: Path, deep: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    run_build(phantom_once, full, window="full")
    copies = tmp_path / "copies"
    roots = (built_once, deep, full)
    for root, size in (*((root, (16, 20)) for root in roots), (built_once, (20, 16))):
        table = open_table([root])
        options = {"size": size, "training": False}
        kept = list(loader(table, cache_dir=copies, **options).epoch(0))
        assert same(kept, list(loader(table, **options).epoch(0)))
    assert len(list(copies.glob("*.npy"))) == 4


def test_copies_over_the_limit_are_not_made(built_once: Path, tmp_path: Path) -> None:
    table = open_table([built_once])
    assert loader(table, size=(4, 4), cache_dir=tmp_path).cached
    some = loader(table, size=(16, 20), cache_dir=tmp_path, cache_bytes=33 * 320 - 1)
    assert not some.cached
    assert len(list(tmp_path.glob("*-4x4-*.npy"))) == len(list(tmp_path.glob("*.npy"))) == 1
    assert len(list(some.epoch(0))) == 5


def test_old_copies_make_room(built_once: Path, tmp_path: Path) -> None:
    table = open_table([built_once])
    limit = 33 * 320 + 33 * 400 + 300
    for width in (16, 20):
        loader(table, size=(width, 20), cache_dir=tmp_path, cache_bytes=limit)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    oldest = next(tmp_path.glob("*-16x20-*.npy"))
    os.utime(oldest, (1, 1))
    assert loader(table, size=(16, 16), cache_dir=tmp_path, cache_bytes=limit).cached
    assert not oldest.exists()
    assert len(list(tmp_path.glob("*.npy"))) == len(list(tmp_path.glob("*.json"))) == 2


def test_copies_on_a_full_disk_are_not_begun(
    built_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert not loader(open_table([built_once]), size=(16, 20), cache_dir=tmp_path).cached


def test_an_interrupted_copy_is_no_copy(
    built_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache.os, "pwrite", full)
        with pytest.raises(ResourceError, match="no space"):
            loader(open_table([built_once]), size=(16, 20), cache_dir=tmp_path)
    assert not list(tmp_path.glob("*.npy"))
    assert not list(tmp_path.glob("*.partial"))
    assert loader(open_table([built_once]), size=(16, 20), cache_dir=tmp_path).cached


def test_a_damaged_copy_is_never_shown(built_once: Path, tmp_path: Path) -> None:
    table = open_table([built_once])
    loader(table, size=(16, 20), cache_dir=tmp_path)
    path = next(tmp_path.glob("*.npy"))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamageError, match="Remove it"):
        list(loader(table, size=(16, 20), cache_dir=tmp_path).epoch(0))
    path.write_bytes(content[:-9])
    assert len(list(loader(table, size=(16, 20), cache_dir=tmp_path).epoch(0))) == 5
