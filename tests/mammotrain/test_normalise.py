"""Curves fitted on training samples: they rise, can be undone, and never see another row."""

import json

import numpy as np
import pytest
import torch

from mammoprep.core.errors import ConfigError
from mammotrain.data import augment, normalise
from mammotrain.data.normalise import GAP, Normaliser

torch.set_num_threads(1)
DARK, BRIGHT = (0.02, 0.10, 0.18, 0.25, 0.40), (0.10, 0.25, 0.40, 0.55, 0.80)
MIDDLE = (0.05, 0.2, 0.3, 0.4, 0.6)


def table(*groups) -> dict[str, list]:
    """Columns of (machine, quantiles, how many) after another; quantiles vary a little."""
    random = np.random.default_rng(0)
    columns: dict[str, list] = {"intensity": [], "source": [], "labels.machine_id": []}
    for machine, quantiles, count in groups:
        for _ in range(count):
            moved = None if quantiles is None else list(np.asarray(quantiles) + random.normal(0, 0.003))  # fmt: skip  # noqa: E501
            columns["intensity"].append(moved)
            columns["source"].append("rsna")
            columns["labels.machine_id"].append(machine)
    return columns


TWO = table((29, DARK, 40), (49, BRIGHT, 40))


def test_a_machine_s_usual_quantiles_land_on_the_pooled_ones() -> None:
    found = normalise.fit("machine", TWO, range(80))
    assert sorted(found.machines) == ["rsna/29", "rsna/49"]
    np.testing.assert_allclose(found.target, np.median(np.array(TWO["intensity"]), axis=0))
    for usual in found.machines.values():
        positions, values = found.curve(usual)
        np.testing.assert_allclose(np.interp(usual, positions, values), found.target, atol=1e-12)


def test_machines_that_differed_are_alike_afterwards() -> None:
    found = normalise.fit("machine", TWO, range(80))
    prepared = found.prepare(TWO, range(80))
    curves = prepared.curves(range(80))
    medians = np.array([np.interp(TWO["intensity"][i][2], *curves[i]) for i in range(80)])
    before = np.array([q[2] for q in TWO["intensity"]])
    assert abs(np.median(before[:40]) - np.median(before[40:])) > 0.2
    assert abs(np.median(medians[:40]) - np.median(medians[40:])) < 1e-5
    assert medians[:40].std() > 0  # a machine's own variety stays


def test_under_breast_every_image_has_the_usual_quantiles() -> None:
    found = normalise.fit("breast", TWO, range(80))
    curves = found.prepare(TWO, range(80)).curves(range(80))
    for row in range(80):
        mapped = np.interp(TWO["intensity"][row], *curves[row])
        np.testing.assert_allclose(mapped, found.target, atol=1e-12)


@pytest.mark.parametrize("mode", ["machine", "breast"])
def test_rows_that_are_not_trained_on_change_nothing(mode) -> None:
    training = [*range(30), *range(40, 70)]
    changed = {name: list(values) for name, values in TWO.items()}
    for row in set(range(80)) - set(training):
        changed["intensity"][row] = [0.9, 0.91, 0.92, 0.93, 0.94]
        changed["labels.machine_id"][row] = 1
    assert normalise.fit(mode, changed, training) == normalise.fit(mode, TWO, training)
    poisoned = {**changed, "intensity": [*changed["intensity"]]}
    poisoned["intensity"][0] = [0.9, 0.91, 0.92, 0.93, 0.94]
    assert normalise.fit(mode, poisoned, training) != normalise.fit(mode, TWO, training)


def test_an_unknown_machine_goes_by_its_own_quantiles_and_is_counted() -> None:
    columns = table((29, DARK, 40), (49, BRIGHT, 40), (7, BRIGHT, 5), (None, DARK, 2), (9, None, 3))
    found = normalise.fit("machine", columns, range(80))
    prepared = found.prepare(columns, range(len(columns["intensity"])))
    assert prepared.counts == {"machine": 80, "unknown_machine": 7, "no_quantiles": 3}
    curves = prepared.curves([80, 86, 87])
    np.testing.assert_allclose(np.interp(columns["intensity"][80], *curves[0]), found.target)
    np.testing.assert_allclose(np.interp(columns["intensity"][86], *curves[1]), found.target)
    np.testing.assert_array_equal(curves[2][0], curves[2][1])


def test_a_machine_seen_too_rarely_has_no_curve_of_its_own() -> None:
    few, enough = normalise.FEWEST - 1, normalise.FEWEST
    columns = table((29, DARK, few), (49, BRIGHT, enough))
    assert sorted(normalise.fit("machine", columns, range(few + enough)).machines) == ["rsna/49"]


def test_a_machine_number_is_a_dataset_s_own_and_a_maker_stands_in_for_it() -> None:
    columns = {
        "source": ["rsna", "vindr", "rsna", "rsna", "rsna"],
        "labels.machine_id": [29.0, 29, None, float("nan"), None],
        "acquisition.manufacturer": ["A", "A", "SIEMENS ", "B", None],
    }
    found = [normalise.machine_of(columns, row) for row in range(5)]
    assert found == ["rsna/29", "vindr/29", "maker/SIEMENS", "maker/B", None]
    assert normalise.machine_of({"intensity": [None]}, 0) is None


HARD = [
    DARK, BRIGHT, (0.0,) * 5, (1.0,) * 5, (0.3,) * 5,
    (0.0, 0.0, 0.5, 1.0, 1.0), (0.0, 0.2, 0.2, 0.9, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("given", HARD)
@pytest.mark.parametrize("target", HARD)
def test_every_curve_rises_strictly_and_can_be_undone(given, target) -> None:
    positions, values = Normaliser("breast", target).curve(given)
    for knots in (positions, values):
        assert np.diff(knots).min() > GAP * 0.999
        assert (knots[0], knots[-1]) == (0, 1)
    grey = np.linspace(0, 1, 65536)
    mapped = np.interp(grey, positions, values)
    assert (np.diff(mapped) > 0).all()
    np.testing.assert_allclose(np.interp(mapped, values, positions), grey, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_ordinary_quantiles_are_not_moved_apart(seed) -> None:
    quantiles = np.sort(np.random.default_rng(seed).uniform(0.02, 0.98, 5))
    if np.diff(quantiles).min() > GAP:
        np.testing.assert_allclose(
            Normaliser("breast", MIDDLE).curve(quantiles)[0][1:-1], quantiles
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_follow_their_own_curves_and_16_bits_stay_apart(dtype) -> None:
    found = normalise.fit("machine", TWO, range(80))
    curves = found.prepare(TWO, range(80)).curves([0, 79])
    levels = np.iinfo(dtype).max
    images = np.linspace(0, levels, 4096).astype(dtype).reshape(1, 1, 64, 64).repeat(2, 0)
    mapped = normalise.apply(torch.from_numpy(images), curves).numpy()
    for place in range(2):
        oracle = np.interp(images[place] / levels, *curves[place])
        np.testing.assert_allclose(mapped[place], oracle, atol=1e-7)
    assert len(np.unique(mapped[0])) == len(np.unique(images[0]))
    assert np.abs(mapped[0] - mapped[1]).max() > 0.1


def test_augmentation_with_curves_is_normalisation_first() -> None:
    found = normalise.fit("breast", TWO, range(80))
    curves = found.prepare(TWO, range(80)).curves([3, 50])
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 20, 30)).astype(np.uint8)
    parameters = augment.draw(augment.NONE, seed=0, epoch=0, keys=("a", "b"), size=(20, 30))
    wanted = normalise.apply(torch.from_numpy(images), curves).numpy()
    device, _ = augment.apply(torch.from_numpy(images), None, parameters, curves=curves)
    cpu, _ = augment.apply_cpu(images, None, parameters, curves=curves)
    np.testing.assert_array_equal(device.numpy(), wanted)
    np.testing.assert_array_equal(cpu, wanted)


@pytest.mark.parametrize("mode", normalise.MODES)
def test_a_normaliser_survives_json(mode) -> None:
    found = normalise.fit(mode, TWO, range(80))
    assert Normaliser.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_none_changes_nothing() -> None:
    found = normalise.fit("none", {}, [])
    assert found.prepare({}, range(5)).curves([1, 2]) is None
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(normalise.apply(images, None), images.float() / torch.tensor(255.0))


def test_a_misspelt_mode_or_a_table_without_quantiles_is_refused() -> None:
    with pytest.raises(ConfigError, match="machine"):
        normalise.fit("machin", TWO, range(80))
    with pytest.raises(ConfigError, match="none of the 3 training samples"):
        normalise.fit("breast", table((1, None, 3)), range(3))


@pytest.mark.parametrize(
    "odd", [None, [], [0.1] * 4, [0.5, 0.4, 0.6, 0.7, 0.8], [0.1, None, 0.3, 0.4, 0.5],
            [0.1, float("nan"), 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 1.5]],
    ids=str,
)  # fmt: skip
def test_odd_quantiles_count_as_none(odd) -> None:
    columns = {name: [*values] for name, values in TWO.items()}
    columns["intensity"][0] = odd
    assert normalise.fit("breast", columns, range(80)).prepare(columns, [0]).counts == {
        "no_quantiles": 1
    }
