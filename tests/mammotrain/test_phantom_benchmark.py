"""deq learns what is there and nothing else, on patches whose difficulty is known.

A small edition of benchmarks/phantom_auroc.py, made of its own functions, at the contrast that the
benchmark found.
"""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "phantom_auroc.py"
RESULT = SCRIPT.parent / "results" / "phantom_auroc.json"
BUDGET = (
    "data.size=[64, 64]", "train.batch_size=8", "train.epochs=2", "train.schedule=cosine",
    "train.warmup=0.1", "train.lr=2e-3",
)  # fmt: skip
FEWEST = 0.80  # a cell that gets no gradient, or one of the wrong sign, stays below
FOLDS = 4


def _benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("phantom_auroc", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["phantom_auroc"] = module  # a dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


benchmark = _benchmark()


@pytest.fixture(scope="module")
def phantom():
    """The phantom at its calibrated contrast."""
    return benchmark.Phantom(**json.loads(RESULT.read_text())["phantom"])


def test_no_statistic_of_grey_values_knows_the_class(phantom) -> None:
    zeros = np.zeros(6, np.int64)
    without, with_lesion = (
        benchmark.equalised(benchmark.draw(phantom, labels, 5), 5) for labels in (zeros, zeros + 1)
    )
    assert (without != with_lesion).any((1, 2)).all()
    flat = (np.sort(patches.reshape(6, -1)) for patches in (without, with_lesion))
    np.testing.assert_array_equal(*flat)
    assert len({patch.tobytes() for patch in without}) == 6


def test_the_classes_differ_by_the_lesion_alone(phantom) -> None:
    labels = np.array([0, 1])
    nothing = benchmark.draw(replace(phantom, contrast=0.0), labels, 5)
    planted = benchmark.draw(phantom, labels, 5) - nothing
    assert not planted[0].any()
    side = phantom.pixels
    row, column = np.unravel_index(planted[1].argmax(), (side, side))
    assert planted[1].max() == pytest.approx(phantom.contrast, rel=0.02)
    assert phantom.margin <= min(row, column) + 1
    assert max(row, column) <= side - phantom.margin
    area = 2 * np.pi * phantom.sigma**2
    assert planted[1].sum() == pytest.approx(phantom.contrast * area, rel=0.02)


def test_the_noise_has_the_spectrum_that_the_observer_expects(phantom) -> None:
    noise = benchmark.draw(phantom, np.zeros(400, np.int64), 6)
    assert noise.var() == pytest.approx(1, rel=0.03)
    found = (np.abs(np.fft.fft2(noise)) ** 2).mean(0) / phantom.pixels**2
    expected = benchmark.power(phantom)
    for low, high in ((1, 2), (2, 4), (4, 16), (16, 32)):
        ring = np.s_[0, low:high]
        assert found[ring].mean() == pytest.approx(expected[ring].mean(), rel=0.15)


@pytest.mark.slow
def test_the_observer_has_the_auroc_that_the_phantom_was_calibrated_to(phantom) -> None:
    assert benchmark.difficulty(phantom, 10_000, seed=11) == pytest.approx(0.97, abs=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_deq_comes_near_the_observer_and_grey_levels_come_nowhere(phantom, tmp_path) -> None:
    sample = benchmark.Sample(phantom, patients=640, each=8, seed=13)
    patches = sample.patches()
    data = benchmark.shards(sample, patches, tmp_path, FOLDS, shuffled=False)
    found = benchmark.trained(data, tmp_path / "run", BUDGET)
    assert found["scored"]["patients"] == pytest.approx(640 / FOLDS, abs=1)
    assert found["share_unconverged"] < 0.01
    observed = benchmark.observed(sample, patches, tmp_path / "run")
    assert FEWEST < found["auroc"]["value"] < observed + 0.01
    assert found["auroc"]["ci95"][0] > 0.75
    assert benchmark.holds(found["shortcut_auroc"]["ci95"], 0.5)
