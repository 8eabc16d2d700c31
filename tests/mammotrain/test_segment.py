"""Masks: what is learned, how it is judged, windows on lesions, tiles, and what people see."""

import json
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import mammoprep
from mammoprep.core.errors import ConfigError
from mammotrain import (
    config,
    distributed,
    evaluate,
    losses,
    measures,
    optim,
    outlines,
    pretrained,
    setup,
)
from mammotrain._torchvision import ensure_importable
from mammotrain.contracts import Output, Shown
from mammotrain.cross import cross
from mammotrain.data import augment
from mammotrain.data.augment import Augmentation
from mammotrain.data.splits import Side
from mammotrain.models import unet
from mammotrain.report import segmentation, tables
from mammotrain.report.segmentation import Masks
from mammotrain.run import Request, run_in
from mammotrain.scores import Scores
from mammotrain.tasks import _masks, segment
from mammotrain.thresholds import Judged
from mammotrain.trainer import Watcher

ensure_importable()

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = (24, 16)


def mask(*boxes: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    """Return a mask with boxes (top, left, bottom, right)."""
    found = np.zeros(size, bool)
    for top, left, bottom, right in boxes:
        found[top:bottom, left:right] = True
    return found


def shown(*masks: NDArray[np.bool_]) -> Shown:
    flags = torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))
    return Shown(torch.zeros_like(flags), flags, np.arange(len(masks)))


def said(*masks: NDArray[np.bool_], sure: float = 8.0) -> Output:
    flags = torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))
    return Output((2 * flags - 1) * sure)


def task(**options: Any) -> segment.Segment:
    return segment.Segment(segment.Config(**options), np.array([1, 0, 1]))


def random_case(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(5, 1, 20, 14, generator=generator)
    masks = (torch.rand(5, 1, 20, 14, generator=generator) < 0.2).float()
    masks[2] = 0
    return logits, masks


# ------------------------------------------------------------------ the loss


def test_the_dice_loss_is_that_of_smp_over_the_batch() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits, masks = random_case()
    theirs = smp.losses.DiceLoss("binary", from_logits=True)(logits, masks)
    torch.testing.assert_close(segment.dice_loss(logits, masks), theirs)
    empty = torch.zeros_like(masks)
    assert segment.dice_loss(logits, empty) == smp.losses.DiceLoss("binary")(logits, empty) == 0


def test_the_focal_loss_of_pixels_is_that_of_smp() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits, masks = random_case()
    theirs = smp.losses.FocalLoss("binary", gamma=3.0)(logits, masks)
    found = task(loss="dice-focal", gamma=3.0, dice_weight=0.0).loss(Output(logits), masks)
    torch.testing.assert_close(found, theirs)


def test_the_loss_is_dice_of_the_batch_and_cross_entropy_of_the_pixels() -> None:
    logits, masks = random_case()
    bce = functional.binary_cross_entropy_with_logits(logits, masks)
    p = logits.sigmoid()
    dice = 1 - 2 * (p * masks).sum() / (p.sum() + masks.sum())
    found = task(dice_weight=0.5).loss(Output(logits), masks)
    torch.testing.assert_close(found, bce + 0.5 * dice)


def test_an_empty_picture_in_the_batch_leaves_a_way_out_of_all_background() -> None:
    logits = torch.full((2, 1, 8, 8), -3.0, requires_grad=True)
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, 0, 2:4, 2:4] = 1
    segment.dice_loss(logits, masks).backward()
    assert (logits.grad[masks > 0] < 0).all()  # down the gradient is up for the lesion
    assert (logits.grad[masks == 0] > 0).all()


def test_a_batch_without_lesions_teaches_by_its_pixels_alone() -> None:
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    loss = task().loss(Output(logits), torch.zeros(2, 1, 8, 8))
    loss.backward()
    torch.testing.assert_close(loss.detach(), losses.bce(torch.zeros(1), torch.zeros(1))[0])
    assert (logits.grad > 0).all()


def test_half_precision_logits_are_judged_in_single() -> None:
    logits, masks = random_case()
    half = Output(logits.bfloat16())
    for found in (task().loss(half, masks), task().scores(half, Shown(masks, masks, np.arange(5)))):
        assert found.dtype == torch.float32


# ------------------------------------------------------------------ measures and scores


def test_dice_and_iou_are_those_of_smp_picture_by_picture() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits, masks = random_case(1)
    found = task().measures(Output(logits), Shown(masks, masks, np.arange(5)))
    stats = smp.metrics.get_stats(logits.sigmoid(), masks.int(), mode="binary", threshold=0.5)
    positive = masks.flatten(1).any(1)
    for name, theirs in (("dice", smp.metrics.f1_score), ("iou", smp.metrics.iou_score)):
        each = theirs(*stats, reduction="none")[:, 0]
        torch.testing.assert_close(found[name][:, 0], torch.where(positive, each, 0).float())
        assert found[name][:, 1].tolist() == positive.float().tolist()


def test_lesions_are_found_one_by_one_and_the_rest_is_false() -> None:
    true = mask((2, 2, 6, 6), (12, 2, 16, 6), (20, 10, 22, 12))
    model = mask((3, 2, 6, 6), (12, 10, 14, 13), (19, 9, 23, 13))
    assert _masks.matches(true, model, 0.1) == (2, 3, 1)
    assert _masks.matches(true, model, 0.5) == (1, 3, 2)  # 4 of 16 pixels are the third's
    assert _masks.matches(true, np.zeros_like(true), 0.1) == (0, 3, 0)
    assert _masks.matches(np.zeros_like(true), model, 0.1) == (0, 0, 3)
    assert _masks.matches(np.zeros_like(true), np.zeros_like(true), 0.1) == (0, 0, 0)


def test_one_part_may_find_two_lesions_and_two_parts_one() -> None:
    two, one = mask((2, 2, 8, 6), (2, 7, 8, 11)), mask((2, 2, 8, 11))
    assert _masks.matches(two, one, 0.1) == (2, 2, 0)
    assert _masks.matches(one, two, 0.1) == (1, 1, 0)


def test_the_whole_picture_as_lesion_finds_no_small_one() -> None:
    true = mask((2, 2, 6, 6))
    assert _masks.matches(true, np.ones_like(true), 0.1) == (0, 1, 1)


def test_parts_that_touch_at_a_corner_are_one() -> None:
    assert _masks.matches(mask((2, 2, 4, 4), (4, 4, 6, 6)), mask(), 0.1)[1] == 1


def test_measures_are_ratios_of_sums_over_pictures() -> None:
    lesion, other = mask((4, 4, 8, 8)), mask((4, 4, 8, 12))
    pairs = task().measures(said(lesion, mask(), other), shown(lesion, mask(), lesion))
    found = measures.values({name: pair.double().numpy() for name, pair in pairs.items()})
    assert found["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["iou"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["lesion_recall"] == 1
    assert found["false_positives"] == 0
    assert found["collapsed"] == 0


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_constant_mask_counts_as_collapsed_and_a_rightly_empty_one_does_not(everywhere) -> None:
    lesion, constant = mask((4, 4, 8, 8)), np.full(SIZE, everywhere)
    pairs = task().measures(said(constant, constant), shown(lesion, mask()))
    assert pairs["collapsed"].tolist() == [[1, 1], [0, 0]]


def test_specks_can_be_left_out_of_what_the_model_says() -> None:
    model = said(mask((4, 4, 8, 8), (20, 1, 21, 3)))
    assert task().masks(model).sum() == 18
    assert task(smallest=3).masks(model).sum() == 16
    assert task(smallest=2).masks(model).sum() == 18
    assert task(threshold=0.9999).masks(model).sum() == 0


def test_the_score_is_the_highest_mean_over_a_small_square() -> None:
    one, many = mask((10, 8, 11, 9)), mask((8, 6, 13, 11))
    found = task(filter=5).scores(said(one, many, mask(), sure=40), shown(one, one, one))
    torch.testing.assert_close(found[:, 1], torch.tensor([1 / 25, 1.0, 0.0]))
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    corner = task(filter=5).scores(said(mask((0, 0, 3, 3)), sure=40), shown(one))
    torch.testing.assert_close(corner[:, 1], torch.ones(1))  # beyond the edge is nothing to mean


def test_scores_do_not_look_at_the_truth() -> None:
    model = said(mask((4, 4, 8, 8)))
    blind = Shown(torch.zeros(1, 1, *SIZE), None, np.arange(1))
    assert torch.equal(task().scores(model, blind), task().scores(model, shown(mask())))
    with pytest.raises(ConfigError, match="no masks"):
        task().measures(model, blind)


# ------------------------------------------------------------------ the table


def columns(**more: list[Any]) -> dict[str, list[Any]]:
    return {
        "annotation": ["full", "none", "partial", "full"],
        "rois": [[{"id": 1}], [], [{"id": 1}], []],
        **more,
    }


def test_who_was_looked_at_counts_and_an_empty_mask_says_nothing_is_there() -> None:
    made = segment.build(segment.Config(), columns(), [], np.array([0, 2, 3]))
    assert segment.known(columns(), segment.Config()).tolist() == [True, False, True, True]
    assert made.classes.tolist() == [1, -1, 1, 0]


def test_what_is_not_known_to_lie_anywhere_does_not_count() -> None:
    told = {"annotation": ["unusable", "partial", "full"], "rois": [[], [], []]}
    assert segment.known(told, segment.Config()).tolist() == [False, False, True]


def test_a_mask_whose_lesion_was_cropped_away_is_empty() -> None:
    areas = [0.0, None, 0.25, 0.0]
    made = segment.build(
        segment.Config(), columns(**{"quality.mask_area": areas}), [], np.array([2])
    )
    assert made.classes.tolist() == [0, -1, 1, 0]


def test_nothing_can_be_learned_from_empty_masks() -> None:
    with pytest.raises(ConfigError, match="None of 1 training samples has a lesion"):
        segment.build(segment.Config(), columns(), [], np.array([3]))
    segment.build(segment.Config(), columns(), [], np.array([], np.int64))  # scoring only


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("loss", "dice"), ("threshold", 0.0), ("overlap", 1.0), ("filter", 4), ("smallest", -1),
        ("dice_weight", -0.5), ("gamma", -1.0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"task.{option}"):
        segment.Config(**{option: value})


def test_every_setting_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "segmentation.md").read_text()
    assert not [f.name for f in fields(segment.Config) if f"`{f.name}`" not in page]


# ------------------------------------------------------------------ windows

PICTURE = (40, 30)
KEYS = tuple(f"key{number}" for number in range(300))


def windows(policy: Augmentation, masks: NDArray[np.uint8] | None, **more: Any) -> Any:
    options = {"seed": 1, "epoch": 2, "keys": KEYS, "size": PICTURE, **more}
    found = augment.draw(policy, **options)
    return found if masks is None else augment.on_lesions(found, masks)


def stored(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    one = mask(*boxes, size=PICTURE).astype(np.uint8) * 255
    return np.tile(one, (len(KEYS), 1, 1, 1))


def test_a_window_is_a_piece_of_the_picture_pixel_for_pixel() -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 1, *PICTURE), np.uint8)
    masks = np.where(generator.random(images.shape) < 0.1, 255, 0).astype(np.uint8)
    policy = Augmentation(window=(12, 16), foreground=0.5)
    found = windows(policy, masks)
    for pictures, flags in (
        augment.apply_cpu(images, masks, found),
        augment.apply(torch.from_numpy(images), torch.from_numpy(masks), found),
    ):
        pictures, flags = np.asarray(pictures), np.asarray(flags)
        assert pictures.shape == flags.shape == (300, 1, 16, 12)
        for place, (x, y) in enumerate(found.windows):
            piece = (place, 0, slice(y, y + 16), slice(x, x + 12))
            np.testing.assert_allclose(pictures[place, 0], images[piece] / 255, atol=1e-4)
            np.testing.assert_array_equal(flags[place, 0], masks[piece] > 0)


def test_a_share_of_the_windows_has_a_lesion_in_the_middle() -> None:
    masks = stored((20, 12, 21, 13))
    policy = Augmentation(window=(11, 15), foreground=1 / 3)
    middle = np.array([[12 - 5, 20 - 7]])
    found = windows(policy, masks)
    share = (found.windows == middle).all(1).mean()
    assert 0.27 < share < 0.40
    everyone = windows(replace(policy, foreground=1.0), masks)
    assert (everyone.windows == middle).all()
    anywhere = windows(replace(policy, foreground=0.0), masks)
    others = ~(found.windows == middle).all(1)
    np.testing.assert_array_equal(found.windows[others], anywhere.windows[others])
    assert len(np.unique(anywhere.windows, axis=0)) > 150
    assert anywhere.windows.min(0).tolist() == [0, 0]
    assert anywhere.windows.max(0).tolist() == [30 - 11, 40 - 15]


def test_any_pixel_of_any_lesion_can_be_in_the_middle_and_large_ones_are_it_more_often() -> None:
    masks = stored((10, 10, 11, 11), (25, 15, 28, 18))
    found = windows(Augmentation(window=(5, 5), foreground=1.0), masks).windows + 2
    assert len(np.unique(found, axis=0)) == 10
    assert 0.04 < (found == [10, 10]).all(1).mean() < 0.18


def test_a_window_at_the_edge_stays_on_the_picture() -> None:
    found = windows(Augmentation(window=(10, 10), foreground=1.0), stored((0, 29, 1, 30)))
    assert (found.windows == [20, 0]).all()


def test_a_picture_without_a_lesion_keeps_its_window() -> None:
    policy = Augmentation(window=(10, 10), foreground=1.0)
    found, before = windows(policy, stored()), windows(policy, None)
    np.testing.assert_array_equal(found.matrices, before.matrices)


def test_the_lesion_is_in_the_middle_of_a_turned_and_resized_picture_too() -> None:
    policy = Augmentation(
        window=(24, 30), foreground=1.0, flip_horizontal=0.5, rotate_degrees=20.0, scale=(0.9, 1.1)
    )
    masks = stored((20, 15, 21, 16))
    found = windows(policy, masks, out=(80, 60))
    assert found.out == (30, 24)
    places = np.array([found.from_shard(n, (15.5, 20.5))[0] for n in range(len(KEYS))])
    assert np.abs(places - [12, 15]).max() <= 0.5 + 1e-9
    flags = augment.apply_cpu(masks, masks, found)[1]
    assert (flags[:, 0, 13:17, 10:14].max((1, 2)) == 1).all()


def test_windows_follow_from_seed_epoch_and_key_alone() -> None:
    policy, masks = Augmentation(window=(10, 10), foreground=0.5), stored((5, 5, 25, 20))
    found = windows(policy, masks)
    some = augment.draw(policy, seed=1, epoch=2, keys=KEYS[7:9], size=PICTURE)
    np.testing.assert_array_equal(
        augment.on_lesions(some, masks[7:9]).matrices, found.matrices[7:9]
    )
    for other in (windows(policy, masks, epoch=3), windows(policy, masks, seed=2)):
        assert (other.windows != found.windows).any()


def test_scoring_sees_the_whole_picture() -> None:
    found = windows(augment.NONE, stored((5, 5, 6, 6)))
    assert found.out == PICTURE
    assert (found.matrices == [[1, 0, 0], [0, 1, 0]]).all()


def test_a_window_is_at_most_the_picture() -> None:
    found = windows(Augmentation(window=(31, 10), foreground=1.0), stored((20, 12, 21, 13)))
    assert found.out == (10, 30)
    assert (found.windows == [0, 16]).all()


def test_windows_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="window must be"):
        Augmentation(window=(31,))
    with pytest.raises(ConfigError, match="give window too"):
        Augmentation(foreground=0.3)


# ------------------------------------------------------------------ the model


def model(channels: int = 1, size: tuple[int, int] = (64, 64), **options: Any) -> unet.UNet:
    torch.manual_seed(0)
    made = unet.build(unet.Config(**options), channels=channels, outputs=1, size=size)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        made.train()(pictures(channels, (64, 64)))
    return made.eval()


def pictures(channels: int = 1, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_is_smps_unet_on_timms_encoder(channels: int) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    made = model(channels)
    theirs = smp.Unet(
        "tu-efficientnet_b0", encoder_weights=None, in_channels=channels, classes=1
    ).eval()
    theirs.encoder.model.load_state_dict(made.encoder.state_dict())
    theirs.decoder.load_state_dict(made.decoder.state_dict())
    theirs.segmentation_head.load_state_dict(made.head.state_dict())
    count = sum(value.numel() for value in made.parameters())
    assert count == sum(value.numel() for value in theirs.parameters())
    given = pictures(channels)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    if channels == 1:
        mean, std = mean.mean(), std.mean()
    scaled = (given - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(
            made.double()(given.double()).logits,
            theirs.double()(scaled.double()),
            atol=1e-4,
            rtol=0,
        )


def test_any_size_is_padded_with_air_and_cut_off_again() -> None:
    made, given = model(), pictures(size=(70, 50))
    with torch.no_grad():
        found = made(given).logits
        whole = made(functional.pad(given, (0, 14, 0, 26))).logits
    assert found.shape == (2, 1, 70, 50)
    assert torch.equal(found, whole[..., :70, :50])


def test_timms_weights_go_into_the_encoder(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(3)
    published = timm.create_model("efficientnet_b0", in_chans=3).state_dict()
    weights = {name: value.contiguous() for name, value in published.items()}
    save_file(weights, tmp_path / "w.safetensors")
    made, told = model(1), list[str]()
    before = {name: value.clone() for name, value in made.decoder.state_dict().items()}
    pretrained.load(made, str(tmp_path / "w.safetensors"), told.append)
    first = published["conv_stem.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(made.encoder.conv_stem.weight, first)
    assert torch.equal(
        made.encoder.blocks[3][0].conv_pw.weight, published["blocks.3.0.conv_pw.weight"]
    )
    assert all(torch.equal(before[n], value) for n, value in made.decoder.state_dict().items())
    assert told[0].startswith("Pretrained weights for the encoder (efficientnet_b0")


def test_layers_learn_slower_the_nearer_they_are_to_the_picture() -> None:
    made = model()
    settings = config.TrainConfig(layer_decay=0.8, weight_decay=0.1)
    groups = optim.optimiser(made, settings).param_groups
    scale = {id(value): group["lr_scale"] for group in groups for value in group["params"]}
    assert len(scale) == len(list(made.parameters()))
    blocks = [scale[id(stage[0].bn1.weight)] for stage in made.encoder.blocks]
    assert [scale[id(made.encoder.conv_stem.weight)], *blocks] == sorted({*scale.values()} & {
        scale[id(made.encoder.conv_stem.weight)], *blocks
    })  # fmt: skip
    top = {scale[id(value)] for part in (made.decoder, made.head) for value in part.parameters()}
    assert top == {1.0}
    assert max(blocks) < 1


def test_one_tile_gives_the_networks_own_logits() -> None:
    plain, tiled = model(), model(tile=(64, 96))
    for size in ((96, 64), (64, 64), (70, 50)):
        with torch.no_grad():
            assert torch.equal(plain(pictures(size=size)).logits, tiled(pictures(size=size)).logits)


def test_a_larger_picture_has_the_mean_of_its_tiles_probabilities() -> None:
    made, given = model(tile=(32, 64)), pictures(size=(100, 64))
    total, times = torch.zeros(2, 1, 100, 64), torch.zeros(100, 64)
    with torch.no_grad():
        found = made(given).logits
        for top in (0, 18, 36):
            for left in (0, 16, 32):
                piece = given[..., top : top + 64, left : left + 32]
                total[..., top : top + 64, left : left + 32] += made(piece).logits.sigmoid()
                times[top : top + 64, left : left + 32] += 1
    assert times.min() >= 1
    torch.testing.assert_close(found.sigmoid(), total / times, atol=2e-6, rtol=1e-5)


def test_training_looks_at_what_it_is_given_at_once() -> None:
    plain, tiled = model().train(), model(tile=(32, 32)).train()
    assert torch.equal(plain(pictures()).logits, tiled(pictures()).logits)


@pytest.mark.parametrize(("length", "tile"), [(64, 64), (65, 64), (100, 64), (1472, 512), (97, 33)])
def test_tiles_cover_a_length_and_overlap_by_half(length: int, tile: int) -> None:
    found = unet.starts(length, tile)
    assert found[0] == 0
    assert found[-1] + tile == length
    assert all(0 < b - a <= (tile + 1) // 2 for a, b in pairwise(found))


@pytest.mark.slow
def test_a_picture_scored_in_tiles_does_not_depend_on_its_neighbours() -> None:
    made, given = model(tile=(32, 32)).double(), pictures(size=(64, 64)).double()
    with torch.no_grad():
        together = made(given).logits
        alone = torch.cat([made(each[None]).logits for each in given])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


def test_a_tile_that_is_none_is_refused() -> None:
    for tile in ((64,), (16, 64)):
        with pytest.raises(ConfigError, match=r"model\.tile"):
            unet.build(unet.Config(tile=tile), channels=1, outputs=1, size=(64, 64))


def test_without_smp_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "segmentation_models_pytorch", None)
    with pytest.raises(ConfigError, match="pip install segmentation-models-pytorch"):
        unet.build(unet.Config(), channels=1, outputs=1, size=(64, 64))


# ------------------------------------------------------------------ a run, and its page


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole phantom pictures with masks, some of them empty; read only."""
    home = tmp_path_factory.mktemp("masks")
    mammoprep.phantom("inbreast", home / "raw", patients=12, seed=3, size_scale=0.05)
    mammoprep.build(
        source="inbreast", input=home / "raw", out=home / "shards", size="64x96", folds=3, workers=1
    )
    return home / "shards"


SMALL = (
    "data.size=[64, 96]", "data.augmentation.window=[64, 64]", "model.tile=[64, 64]",
    "train.batch_size=8", "train.max_steps=2", "train.amp=none", "data.workers=1",
    "train.pretrained=none",
)  # fmt: skip


def asked(shards: Path, out: Path, *more: str) -> Request:
    return Request(config.load("unet", (*SMALL, *more)), (str(shards),), out, device="cpu")


@pytest.fixture(scope="module")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "unet"
    with distributed.joined("cpu") as world:
        run_in(asked(shards, out), Watcher(), world)
    return out


@pytest.mark.slow
def test_a_run_reports_measures_with_intervals_and_shows_outlines(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    names = {"dice", "iou", "lesion_recall", "false_positives", "collapsed"}
    assert names <= set(report["measures"])
    assert report["classes"] == ["none", "lesion"]
    page = (finished / "report.html").read_text()
    assert "What scores do not say" in page
    assert "Dice, images with a lesion" in page
    assert '<path class="true" d="M' in page
    with (finished / "measures.csv").open() as file:
        assert file.readline().startswith("key,")


@pytest.mark.parametrize("where", ["cpu", "device"])
def test_training_sees_windows_on_lesions_and_scoring_whole_pictures(
    shards: Path, tmp_path: Path, where: str
) -> None:
    crop = "data.augmentation={window = [24, 24], foreground = 1.0}"
    more = (crop, f"data.augment_on={where}", "train.batch_size=64")
    found = asked(shards, tmp_path, *more).config
    with distributed.joined("cpu") as world:
        table = setup.open_shards(found, (str(shards),))
        made = setup.prepare(found, table, Side(), world)
    rows = made.roles.train
    batch = next(made.loader(rows, training=False).epoch(0))
    lesion = made.task.classes[batch.rows] == 1
    assert lesion.any()
    assert not lesion.all()
    seen = made.shown(batch, 0)
    assert seen.images.shape[2:] == seen.masks.shape[2:] == (24, 24)
    assert (seen.masks.amax((1, 2, 3)).numpy() > 0).tolist() == lesion.tolist()
    assert made.shown(batch, None).images.shape[2:] == (96, 64)


@pytest.mark.slow
def test_pooled_folds_show_every_pictures_outlines(shards: Path, tmp_path: Path) -> None:
    report = cross(asked(shards, tmp_path / "cv"), Watcher())
    assert 0 <= report["measures"]["dice"]["value"] <= 1
    assert 'id="masks"' in (tmp_path / "cv" / "report.html").read_text()


@pytest.mark.parametrize("logit", [-9.0, 9.0])
def test_a_model_that_says_the_same_everywhere_is_exposed(
    shards: Path, tmp_path: Path, logit: float
) -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Output:
            return Output(images.new_full((len(images), 1, *images.shape[2:]), logit))

    found = asked(shards, tmp_path).config
    with distributed.joined("cpu") as world:
        table = setup.open_shards(found, (str(shards),))
        made = setup.prepare(found, table, Side(), world)
        scored = evaluate.score(made, Constant(), made.roles.score)
    report = evaluate.summed_up(made, Judged(scored.scores, scored.scores), scored.measures,
                                {}, evaluate.Terms("x"))  # fmt: skip
    assert report["measures"]["collapsed"]["value"] == 1
    assert report["measures"]["dice"]["value"] < 0.3
    assert report["measures"]["lesion_recall"]["value"] < 0.2
    first = tables.alarms(report)[0]
    assert first.startswith("The model has collapsed: in 100 % of the images with a lesion")
    evaluate.write(tmp_path, report, scored, [], made)
    assert first[:40] in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_outlines_are_drawn_only_where_somebody_asks_for_them(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    plain = segment.Segment.outlines

    def counted(self: segment.Segment, output: Output, shown: Shown) -> list[Any]:
        drawn.append(len(shown))
        return plain(self, output, shown)

    monkeypatch.setattr(segment.Segment, "outlines", counted)
    with distributed.joined("cpu") as world:
        outcome = run_in(asked(shards, tmp_path / "run", "train.max_steps=2"), Watcher(), world)
    ((_, told),) = outcome.tables.items()
    assert sum(drawn) == len(told.scored.scores)  # and none of the validations
    assert set(told.scored.outlines) == set(told.scored.scores.key)


def test_outlines_run_along_the_centres_of_border_pixels() -> None:
    found = outlines.of_masks(mask((2, 3, 5, 7)), mask())
    assert found.size == SIZE
    assert found.said == ()
    assert {tuple(point) for point in found.true[0].tolist()} == {(3, 2), (3, 4), (6, 4), (6, 2)}
    assert segmentation.path(found.true).startswith("M3.5,2.5 ")
    assert segmentation.path(found.true).endswith("Z")


def test_sheets_show_the_worst_the_best_and_what_is_nowhere() -> None:
    keys = np.array(["a", "b", "c", "d"])
    texts = np.array(["", "", "", ""])
    scores = Scores(keys, np.array(["p", "q", "r", "r"]), texts, texts, np.array([1, 1, 0, 0]),
                    np.tile([0.5, 0.5], (4, 1)), ("none", "lesion"))  # fmt: skip
    rows = {
        "dice": np.array([[0.9, 1], [0.1, 1], [0, 0], [0, 0]]),
        "false_positives": np.array([[0, 1], [1, 1], [5, 1], [3, 1]], float),
    }
    drawn = outlines.of_masks(mask((2, 3, 5, 7)), mask((1, 1, 4, 4)))
    sheets = segmentation.sheets(scores, Masks(rows, dict.fromkeys(keys.tolist(), drawn)),
                                 lambda key: np.zeros(SIZE, np.uint8))  # fmt: skip
    shown_keys = [[tile.key for tile in sheet.tiles] for sheet in sheets]
    assert shown_keys == [["b", "a"], ["a", "b"], ["c", "b"]]  # c and d are one group
    assert sheets[0].tiles[0].said == "Dice 0.100"
    assert sheets[2].tiles[0].said == "5 false positives"
    assert sheets[0].tiles[0].box == "0 0 16 24"
    assert segmentation.sheets(scores, segmentation.NO_MASKS, lambda key: None) == []


@pytest.mark.slow
def test_it_learns_discs_that_are_brighter_than_their_surroundings() -> None:
    torch.manual_seed(0)
    made = unet.build(unet.Config(), channels=1, outputs=1, size=(64, 64)).train()
    optimiser = torch.optim.AdamW(made.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")

    def batch(count: int) -> Shown:
        place = 12 + 40 * torch.rand(count, 2, 1, 1, generator=generator)
        masks = ((x - place[:, 0]) ** 2 + (y - place[:, 1]) ** 2 < 64).float()[:, None]
        masks[0] = 0
        noise = 0.15 * torch.randn(count, 1, 64, 64, generator=generator)
        return Shown((0.3 + 0.25 * masks + noise).clamp(0, 1), masks, np.arange(count))

    for step in range(80):
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / 80) + 1e-5
        given = batch(8)
        optimiser.zero_grad()
        task().loss(made(given.images), task().targets(given)).backward()
        optimiser.step()
    given = batch(16)
    with torch.no_grad():
        pairs = task().measures(made.eval()(given.images), given)
    found = measures.values({name: pair.double().numpy() for name, pair in pairs.items()})
    assert found["dice"] > 0.8
    assert found["lesion_recall"] == 1
    assert found["false_positives"] < 0.5
