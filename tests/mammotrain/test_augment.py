"""One set of numbers a sample, two ways to apply it, and the geometry that both keep."""

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch

from mammoprep.core.errors import ConfigError
from mammotrain.config import build
from mammotrain.data import augment
from mammotrain.data._noise import SPREAD, bell
from mammotrain.data._ways import way_of
from mammotrain.data.augment import NONE, Augmentation, Costs, Parameters, draw

torch.set_num_threads(1)
EVERYTHING = Augmentation(
    flip_horizontal=0.5, flip_vertical=0.5, rotate_degrees=30.0, shear_degrees=8.0,
    scale=(0.8, 1.25), shift=0.1, crop=(0.6, 1.0), brightness=0.2, contrast=0.3, gamma=0.4,
    blur=1.5, noise=0.05, cutouts=3,
)  # fmt: skip
GEOMETRY = replace(
    EVERYTHING, brightness=0.0, contrast=0.0, gamma=0.0, blur=0.0, noise=0.0, cutouts=0
)
KEYS = tuple(f"demo_{number}" for number in range(6))
SIZES = [
    ((96, 64), (96, 64)),
    ((97, 61), (48, 30)),  # shrink 2, with a row and a column left over
    ((97, 61), (60, 40)),  # shrink 1.6
    ((64, 48), (150, 99)),
    ((700, 500), (99, 99)),
]


def drawn(policy: Augmentation, size, out=None, *, keys=KEYS, seed=3, epoch=1) -> Parameters:
    return draw(policy, seed=seed, epoch=epoch, keys=keys, size=size, out=out)


def pictures(size, dtype=np.uint8, channels=1, count=6) -> np.ndarray:
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(5).integers(0, top, (count, channels, *size)).astype(dtype)


def smooth(size, count=6) -> np.ndarray:
    """Pictures without detail finer than some pixels, for which interpolation hardly matters."""
    noise = np.random.default_rng(6).random((*size, count)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 4).reshape(*size, count)
    return (
        (255 * (soft - soft.min()) / np.ptp(soft))
        .round()
        .astype(np.uint8)
        .transpose(2, 0, 1)[:, None]
    )


def blobs(size, count=6) -> np.ndarray:
    return np.where(smooth(size, count) > 140, 255, 0).astype(np.uint8)


def device_way(images, masks, parameters, curves=None):
    given = None if masks is None else torch.from_numpy(masks)
    found, flags = augment.apply(torch.from_numpy(images), given, parameters, curves=curves)
    return found.numpy(), None if flags is None else flags.numpy()


WAYS = {"device": device_way, "cpu": augment.apply_cpu}
both = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


# ---- the draw


def test_a_sample_gets_the_same_numbers_in_any_batch_and_order() -> None:
    whole = drawn(EVERYTHING, (96, 64))
    for order in ([4], [2, 0, 5], [5, 4, 3, 2, 1, 0]):
        part = drawn(EVERYTHING, (96, 64), keys=tuple(KEYS[place] for place in order))
        for name in ("matrices", "tone", "blur", "noise", "noise_seeds", "cutouts"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[order])


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 2}, {"keys": [k + "x" for k in KEYS]}])
def test_seed_epoch_and_key_each_change_every_number(change) -> None:
    first, other = drawn(EVERYTHING, (96, 64)), drawn(EVERYTHING, (96, 64), **change)
    assert (first.matrices != other.matrices).any((1, 2)).all()
    assert (first.tone != other.tone).all()
    assert (first.noise_seeds != other.noise_seeds).all()


def test_the_numbers_stay_those_of_the_first_version() -> None:
    policy = Augmentation(rotate_degrees=30.0, brightness=0.2, contrast=0.3, gamma=0.4, cutouts=2)
    found = drawn(policy, (96, 64), keys=("demo_0",), seed=0, epoch=0)
    assert found.noise_seeds.tolist() == [[2646858834, 1718251173]]
    np.testing.assert_allclose(found.tone[0], [1.04644183, 1.27709189, 1.39008613], rtol=1e-8)
    np.testing.assert_allclose(found.matrices[0, 0], [0.99497978, -0.10007612, 4.96430081], 1e-7)
    assert found.cutouts.tolist() == [[[30, 64, 39, 75], [0, 0, 0, 0]]]


def test_changing_one_field_leaves_the_other_draws_alone() -> None:
    first = drawn(EVERYTHING, (96, 64))
    other = drawn(replace(EVERYTHING, rotate_degrees=0.0, cutouts=0), (96, 64))
    np.testing.assert_array_equal(first.tone, other.tone)
    np.testing.assert_array_equal(first.noise_seeds, other.noise_seeds)


def test_draws_fill_their_ranges_evenly() -> None:
    keys = tuple(f"k{number}" for number in range(2000))
    policy = Augmentation(flip_horizontal=0.3, brightness=0.2, gamma=1.0, cutouts=3, noise=0.1)
    found = drawn(policy, (100, 100), keys=keys)
    assert np.mean(found.matrices[:, 0, 0] < 0) == pytest.approx(0.3, abs=0.03)
    assert found.tone[:, 0].min() >= 0.8
    assert found.tone[:, 0].max() <= 1.2
    assert found.tone[:, 0].mean() == pytest.approx(1, abs=0.01)
    assert np.log(found.tone[:, 2]).mean() == pytest.approx(0, abs=0.03)
    assert found.noise.mean() == pytest.approx(0.05, abs=0.003)
    counts = (found.cutouts[:, :, 2] > found.cutouts[:, :, 0]).sum(1)
    np.testing.assert_allclose(np.bincount(counts) / 2000, 0.25, atol=0.04)
    assert found.cutouts.min() >= 0
    assert found.cutouts.max() <= 100


def test_every_field_can_be_set_from_a_recipe() -> None:
    table = {
        item.name: list(value) if isinstance(value, tuple) else value
        for item in fields(Augmentation)
        if (value := getattr(EVERYTHING, item.name)) is not None
    }
    assert build(Augmentation, table, "data.augmentation") == EVERYTHING


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip_horizontal": 1.5}, {"rotate_degrees": -1.0}, {"scale": (1.2, 0.8)}, {"crop": (0.5,)},
        {"contrast": 0.6}, {"cutouts": -1}, {"scale": (0.0, 1.0)}, {"noise": float("nan")},
        {"blur": 50.0}, {"cutout_size": (0.5, 1.5)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_a_value_out_of_its_limits_is_refused_by_name(wrong) -> None:
    with pytest.raises(ConfigError, match=f"augmentation.{next(iter(wrong))}"):
        Augmentation(**wrong)


# ---- identity and copies


@both
@pytest.mark.parametrize(("dtype", "levels"), [(np.uint8, 255), (np.uint16, 65535)])
def test_no_augmentation_is_a_division_bit_for_bit(way, dtype, levels) -> None:
    images, masks = pictures((31, 45), dtype, channels=3), blobs((31, 45))
    found, flags = way(images, masks, drawn(NONE, (31, 45)))
    np.testing.assert_array_equal(found, images.astype(np.float32) / np.float32(levels))
    np.testing.assert_array_equal(flags, masks / np.float32(255))
    assert found.dtype == flags.dtype == np.float32


@both
def test_flips_are_copies_bit_for_bit(way) -> None:
    images, masks = pictures((31, 45)), blobs((31, 45))
    parameters = drawn(Augmentation(flip_horizontal=1.0, flip_vertical=1.0), (31, 45))
    found, flags = way(images, masks, parameters)
    np.testing.assert_array_equal(found, images[:, :, ::-1, ::-1].astype(np.float32) / 255)
    np.testing.assert_array_equal(flags, masks[:, :, ::-1, ::-1] / np.float32(255))


@both
def test_stored_pixels_are_left_alone(way) -> None:
    images, masks = pictures((40, 30)), blobs((40, 30))
    before = images.copy(), masks.copy()
    way(images, masks, drawn(EVERYTHING, (40, 30)))
    way(images, masks, drawn(NONE, (40, 30)))
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(masks, before[1])


@both
def test_sixteen_bits_keep_their_precision(way) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(1, 1, 256, 256)
    found, _ = way(levels, None, drawn(replace(NONE, gamma=0.3), (256, 256), keys=("a",)))
    assert len(np.unique(found)) == 65536
    images = pictures((64, 64), np.uint16)
    parameters = drawn(GEOMETRY, (64, 64))
    fine = way(images, None, parameters)[0]
    coarse = way((images >> 8).astype(np.uint8), None, parameters)[0]
    assert 1e-4 < np.abs(fine - coarse).max() < 1.2 / 255


# ---- geometry


@both
@pytest.mark.parametrize(("size", "out"), SIZES)
def test_a_marked_pixel_lands_where_the_matrix_says(way, size, out) -> None:
    parameters = drawn(GEOMETRY, size, out)
    x, y = size[1] * 0.55, size[0] * 0.45
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    spread = max(size[0] / out[0], size[1] / out[1], 1.5) * 1.5
    spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2))
    images = np.repeat(spot.round().astype(np.uint8)[None, None], len(KEYS), 0)
    found, _ = way(images, None, parameters)
    checked = 0
    for place in range(len(KEYS)):
        wanted = parameters.from_shard(place, [(x, y)])[0]
        if not (6 < wanted[0] < out[1] - 6 and 6 < wanted[1] < out[0] - 6):
            continue
        across, down = np.meshgrid(np.arange(out[1]) + 0.5, np.arange(out[0]) + 0.5)
        mass = found[place, 0] / found[place, 0].sum()
        centre = (mass * across).sum(), (mass * down).sum()
        np.testing.assert_allclose(centre, wanted, atol=0.1)
        checked += 1
    assert checked >= 2


@both
@pytest.mark.parametrize(("size", "out"), SIZES)
def test_picture_and_mask_move_together(way, size, out) -> None:
    masks = blobs(size)
    found, flags = way(masks, masks, drawn(GEOMETRY, size, out))
    assert set(np.unique(flags)) <= {0.0, 1.0}
    assert not ((found > 0.5) & (flags == 0)).any()  # what is mostly lesion is marked
    near = np.stack([cv2.dilate(one[0], np.ones((3, 3))) for one in found])[:, None]
    assert not ((flags > 0) & (near == 0)).any()  # what has none of it near is not
    assert flags.mean() > 0.02


@both
def test_a_lesion_of_one_pixel_survives_every_whole_picture_shrink(way) -> None:
    for out in [(96, 64), (48, 32), (40, 30), (20, 20), (10, 7), (80, 60)]:
        masks = np.zeros((1, 1, 96, 64), np.uint8)
        masks[0, 0, 37, 23] = 255
        _, flags = way(masks, masks, drawn(NONE, (96, 64), out, keys=("a",)))
        assert flags.any(), out


@pytest.mark.parametrize(
    ("scale", "turn", "out"),
    [(8.0, 0.0, (96, 64)), (4.0, 40.0, (96, 64)), (1.0, 40.0, (96, 64)), (1.0, 40.0, (40, 21))],
)
def test_small_lesions_near_edges_are_drawn_whole_both_ways(scale, turn, out) -> None:
    policy = Augmentation(scale=(scale, scale), rotate_degrees=turn, flip_horizontal=0.5)
    masks = np.zeros((6, 1, 96, 64), np.uint8)
    for place, (y, x) in enumerate([(48, 32), (40, 30), (50, 25), (95, 63), (0, 0), (47, 39)]):
        masks[place, 0, y : y + 3, x : x + 2] = 1 if place == 1 else 255  # both mean lesion
    parameters = drawn(policy, (96, 64), out)
    device, cpu = (way(masks, masks, parameters)[1] for way in WAYS.values())
    assert np.count_nonzero(device != cpu) <= 2
    shown = [0] if scale > 4 else [0, 1, 2, 5]
    assert device[shown].any((1, 2, 3)).all()


@both
def test_what_lies_outside_of_the_picture_is_zero_and_edges_are_not_darkened(way) -> None:
    white = np.full((1, 1, 40, 40), 255, np.uint8)
    larger, _ = way(white, None, drawn(NONE, (40, 40), (100, 90), keys=("a",)))
    assert larger.min() == pytest.approx(1, abs=1e-6)
    parameters = replace(
        drawn(NONE, (40, 40), keys=("a",)), matrices=np.array([[[1.0, 0, -10.0], [0, 1.0, 5.0]]])
    )
    moved, _ = way(white, None, parameters)
    wanted = np.zeros((40, 40), np.float32)
    wanted[:35, 10:] = 1
    np.testing.assert_allclose(moved[0, 0], wanted, atol=1e-6)


def test_a_positive_angle_and_magnification_do_what_they_say() -> None:
    parameters = drawn(Augmentation(scale=(2.0, 2.0)), (40, 60), keys=("a",))
    np.testing.assert_allclose(parameters.to_shard(0, [(0, 0), (60, 40)]), [(15, 10), (45, 30)])
    np.testing.assert_allclose(parameters.from_shard(0, [(30, 20)]), [(30, 20)])


def test_a_crop_shows_its_share_from_within_the_picture() -> None:
    keys = tuple(f"k{number}" for number in range(200))
    parameters = drawn(Augmentation(crop=(0.5, 0.8)), (40, 60), keys=keys)
    corners = np.stack([parameters.to_shard(i, [(0, 0), (60, 40)]) for i in range(200)])
    assert corners.min() >= -1e-9
    assert (corners <= np.array([60, 40]) + 1e-9).all()
    shares = (corners[:, 1] - corners[:, 0]) / (60, 40)
    np.testing.assert_allclose(shares[:, 0], shares[:, 1])
    assert 0.5 <= shares.min() < 0.55
    assert 0.75 < shares.max() <= 0.8


@pytest.mark.parametrize(("size", "out"), SIZES)
def test_points_and_boxes_come_back_to_the_shard(size, out) -> None:
    parameters = drawn(GEOMETRY, size, out)
    points = np.random.default_rng(0).random((5, 2)) * (size[1], size[0])
    for place in range(len(KEYS)):
        there = parameters.from_shard(place, points)
        np.testing.assert_allclose(parameters.to_shard(place, there), points, atol=1e-9)
        corners = np.array([(20, 15), (40, 15), (40, 45), (20, 45)], float)
        turned = parameters.from_shard(place, corners)
        box = np.concatenate([turned.min(0), turned.max(0)])
        back = parameters.boxes_to_shard(place, [box])[0]
        assert (back[:2] <= (20 + 1e-6, 15 + 1e-6)).all()
        assert (back[2:] >= (40 - 1e-6, 45 - 1e-6)).all()
        assert (back >= 0).all()
        assert (back <= np.tile([size[1], size[0]], 2)).all()


@pytest.mark.parametrize("stride", [1, 4])
def test_a_heat_map_comes_back_to_the_shard(stride) -> None:
    size = (96, 64)
    images = smooth(size)
    parameters = drawn(replace(GEOMETRY, crop=(0.9, 1.0), scale=(0.9, 1.1)), size)
    shown, _ = augment.apply(torch.from_numpy(images), None, parameters)
    seen, _ = augment.apply(torch.full_like(torch.from_numpy(images), 255), None, parameters)
    maps = torch.nn.functional.avg_pool2d(torch.cat([shown, seen], 1), stride)
    back = augment.maps_to_shard(maps, parameters).numpy()
    sure = cv2.erode(back[:, 1].reshape(-1, 64), np.ones((9, 9))).reshape(-1, 96, 64) > 0.999
    assert sure.mean() > 0.4
    worst = np.abs(back[:, 0] - images[:, 0] / 255)[sure].max()
    assert worst < (0.03 if stride == 1 else 0.12)


# ---- aliasing


def stripes(size, period) -> np.ndarray:
    wave = np.where(np.arange(size[1]) % period < period / 2, 255, 0).astype(np.uint8)
    return np.broadcast_to(wave, (1, 1, *size)).copy()


@both
@pytest.mark.parametrize("out", [(200, 150), (133, 100), (100, 75), (57, 43), (40, 30)])
def test_shrinking_is_an_area_mean(way, out) -> None:
    images = pictures((400, 300), count=1)
    found, _ = way(images, None, drawn(NONE, (400, 300), out, keys=("a",)))
    oracle = cv2.resize(images[0, 0].astype(np.float32), out[::-1], interpolation=cv2.INTER_AREA)
    error = np.abs(found[0, 0] * 255 - oracle)
    whole = 400 % out[0] == 0
    plain = cv2.resize(images[0, 0].astype(np.float32), out[::-1], interpolation=cv2.INTER_LINEAR)
    assert error.mean() < (0.01 if whole else 0.35 * np.abs(plain - oracle).mean())
    assert found.std() * 255 == pytest.approx(oracle.std(), rel=0.2)


@both
@pytest.mark.parametrize("turn", [0.0, 20.0])
def test_stripes_too_fine_to_be_seen_become_grey(way, turn) -> None:
    policy = Augmentation(rotate_degrees=turn)
    images = stripes((400, 400), 4)
    found, _ = way(images, None, drawn(policy, (400, 400), (90, 90), keys=("b",)))
    assert found[0, 0, 25:65, 25:65].std() < 0.06
    assert found[0, 0, 25:65, 25:65].mean() == pytest.approx(0.5, abs=0.02)


def test_each_sample_is_shrunk_by_its_own_factor() -> None:
    size, out = (400, 400), (100, 100)
    matrices = np.array([[[4.0, 0, 0], [0, 4.0, 0]], [[1.0, 0, 0], [0, 1.0, 0]], [[1.6, 0, 0], [0, 2.9, 0]]])  # fmt: skip  # noqa: E501
    ways = [way_of(matrix, size, out) for matrix in matrices]
    assert [(w.shrink_x, w.shrink_y, w.fine) for w in ways] == [(4, 4, 1), (1, 1, 1), (1, 2, 2)]


# ---- both ways, any batch


@pytest.mark.parametrize(("size", "out"), SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_both_ways_give_the_same_picture(size, out, dtype) -> None:
    images, masks = pictures(size, dtype), blobs(size)
    parameters = drawn(EVERYTHING, size, out)
    curves = np.tile(np.array([[0, 0.3, 1], [0, 0.5, 1]]), (len(KEYS), 1, 1))
    device, flags = device_way(images, masks, parameters, curves)
    cpu, cpu_flags = augment.apply_cpu(images, masks, parameters, curves=curves)
    assert np.abs(device - cpu).max() * 255 < 0.5
    assert (flags != cpu_flags).mean() < 1e-3
    assert device.std() > 0.05


@both
def test_a_picture_does_not_depend_on_its_batch(way) -> None:
    size, out = (97, 61), (57, 41)
    images, masks = pictures(size), blobs(size)
    found, flags = way(images, masks, drawn(EVERYTHING, size, out))
    order = [3, 0, 5]
    part = drawn(EVERYTHING, size, out, keys=tuple(KEYS[place] for place in order))
    some, some_flags = way(images[order], masks[order], part)
    np.testing.assert_array_equal(some, found[order])
    np.testing.assert_array_equal(some_flags, flags[order])


def test_the_global_random_state_is_neither_used_nor_changed() -> None:
    images = torch.from_numpy(pictures((40, 30)))
    torch.manual_seed(1)
    first, _ = augment.apply(images, None, drawn(EVERYTHING, (40, 30)))
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == after
    again, _ = augment.apply(images, None, drawn(EVERYTHING, (40, 30)))
    assert torch.equal(first, again)


def test_parameters_of_another_size_or_batch_are_refused() -> None:
    images = pictures((40, 30))
    with pytest.raises(ValueError, match="6 pictures of"):
        augment.apply_cpu(images, None, drawn(NONE, (30, 40)))
    with pytest.raises(ValueError, match="6 pictures of"):
        augment.apply_cpu(images[:2], None, drawn(NONE, (40, 30)))


# ---- grey levels, blur, noise, cut-outs


@both
def test_zero_stays_zero_under_every_change_of_grey(way) -> None:
    policy = Augmentation(brightness=0.5, contrast=0.5, gamma=1.0, noise=0.2)
    images = pictures((40, 30))
    images[:, :, :, 20:] = 0
    found, _ = way(images, None, drawn(policy, (40, 30)))
    assert not found[..., 20:].any()
    assert found.min() >= 0
    assert found.max() <= 1


@both
def test_tone_follows_its_formula_and_rises(way) -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), len(KEYS), 0)
    policy = Augmentation(brightness=0.3, contrast=0.5, gamma=1.0)
    parameters = drawn(policy, (16, 16))
    found, _ = way(levels, None, parameters)
    for place, (brightness, slope, exponent) in enumerate(parameters.tone):
        grey = found[place].ravel()
        assert (np.diff(grey) >= 0).all()
        bent = (np.arange(256) / 255) ** exponent
        curved = bent + 2 * (slope - 1) * bent * (1 - bent) * (2 * bent - 1)
        np.testing.assert_allclose(grey, np.clip(curved * brightness, 0, 1), atol=1e-6)


@both
def test_blur_is_a_gaussian(way) -> None:
    images = pictures((60, 50))
    parameters = drawn(Augmentation(blur=2.0), (60, 50))
    found, _ = way(images, None, parameters)
    for place, spread in enumerate(parameters.blur):
        oracle = cv2.GaussianBlur(
            images[place, 0].astype(np.float64), (13, 13), spread, borderType=cv2.BORDER_REPLICATE
        )
        np.testing.assert_allclose(found[place, 0] * 255, oracle, atol=0.01)


@both
def test_noise_is_bell_shaped_white_and_as_strong_as_drawn(way) -> None:
    images = np.full((2, 1, 300, 300), 128, np.uint8)
    parameters = replace(drawn(Augmentation(noise=0.1), (300, 300), keys=("a", "b")), noise=np.array([0.05, 0.02]))  # fmt: skip  # noqa: E501
    found, _ = way(images, None, parameters)
    noise = found - np.float32(128 / 255)
    assert noise[0].std() == pytest.approx(0.05, rel=0.02)
    assert noise[1].std() == pytest.approx(0.02, rel=0.02)
    assert abs(noise[0].mean()) < 6e-4
    unit = noise[:, 0] / noise[:, 0].std((1, 2), keepdims=True)
    for shift in [(0, 1), (1, 0), (1, 1), (0, 2), (7, 3)]:
        assert abs((unit[0] * np.roll(unit[0], shift, (0, 1))).mean()) < 0.015
    assert abs((unit[0] * unit[1]).mean()) < 0.015
    assert np.mean(np.abs(unit[0]) < 1) == pytest.approx(0.683, abs=0.02)


def test_noise_is_the_same_integer_for_integer_from_numpy_and_torch() -> None:
    counters, first, second = np.arange(10_000), np.full((), 0xDEADBEEF), np.full((), 0xFFFFFFFF)
    found = bell(torch.from_numpy(counters), torch.tensor(0xDEADBEEF), torch.tensor(0xFFFFFFFF))
    np.testing.assert_array_equal(bell(counters, first, second), found.numpy())


def test_noise_depends_on_every_bit_of_counter_and_seeds_and_stays_as_it_is() -> None:
    counters = np.arange(40_000)

    def stream(first: int, second: int, flip: int = 0) -> np.ndarray:
        return bell(counters ^ flip, np.full((), first), np.full((), second)) / SPREAD

    plain = stream(0, 0)
    for bit in range(32):
        for other in (stream(1 << bit, 0), stream(0, 1 << bit), stream(0, 0, 1 << bit)):
            assert abs((plain * other).mean()) < 0.03
    known = bell(np.arange(6), np.full((), 12345), np.full((), 67890))
    assert known.tolist() == [-283, 214, -176, 168, 310, -190]


@both
def test_cut_outs_are_zero_and_the_mask_is_not_cut(way) -> None:
    images, masks = np.full((6, 1, 50, 40), 200, np.uint8), blobs((50, 40))
    parameters = drawn(Augmentation(cutouts=4), (50, 40))
    found, flags = way(images, masks, parameters)
    for place, boxes in enumerate(parameters.cutouts):
        wanted = np.full((50, 40), np.float32(200) / np.float32(255))
        for x0, y0, x1, y1 in boxes:
            wanted[y0:y1, x0:x1] = 0
        np.testing.assert_array_equal(found[place, 0], wanted)
    np.testing.assert_array_equal(flags, masks / np.float32(255))
    assert (found == 0).any()


# ---- where


@pytest.mark.parametrize(
    ("costs", "workers", "shared", "wanted"),
    [
        (Costs(cpu=3, device=20), 2, True, "cpu"),
        (Costs(cpu=20, device=3), 2, True, "device"),
        (Costs(cpu=3, device=0.1, load=10, step=1), 2, False, "device"),  # workers are the wall
        (Costs(cpu=3, device=0.1, load=2, step=9), 2, False, "cpu"),  # workers have time to spare
        (Costs(cpu=1, device=1, load=0, step=0), 0, False, "device"),
    ],
)
def test_augmentation_goes_where_more_pictures_get_through(costs, workers, shared, wanted) -> None:
    assert augment.faster(costs, workers=workers, shared=shared) == wanted


def test_a_stated_place_is_kept_and_auto_follows_the_measurement() -> None:
    cpu = torch.device("cpu")
    assert augment.choose("device", cpu, Costs(cpu=1, device=9)) == "device"
    assert augment.choose("auto", cpu) == "cpu"
    assert augment.choose("auto", cpu, Costs(cpu=9, device=1)) == "device"
    assert augment.choose("auto", torch.device("cuda")) == "device"
    with pytest.raises(ConfigError, match="augment_on"):
        augment.choose("gpu", cpu)


def test_costs_are_measured_on_the_run_s_own_pictures() -> None:
    images = torch.from_numpy(pictures((64, 64)))
    found = augment.measure(images, drawn(EVERYTHING, (64, 64)), torch.device("cpu"))
    assert 0 < found.cpu < 1
    assert 0 < found.device < 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("size", "out"), SIZES)
def test_a_gpu_gives_the_same_picture(size, out, dtype) -> None:
    images, masks = torch.from_numpy(pictures(size, dtype)), torch.from_numpy(blobs(size))
    parameters = drawn(EVERYTHING, size, out)
    here, flags = augment.apply(images, masks, parameters)
    there, there_flags = augment.apply(images.cuda(), masks.cuda(), parameters)
    assert (here - there.cpu()).abs().max() * 255 < 0.5
    assert (flags != there_flags.cpu()).float().mean() < 1e-3
