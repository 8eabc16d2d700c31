"""`--decode fast` against `exact`: the goals for grey levels, places and calcifications.

Measured by the functions of benchmarks/fast_fidelity.py, which also makes the tables of
docs/fast.md. Grey levels are those of 255, inside the breast.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mammoprep.core.schema import Record
from mammoprep.decode import _levels, dicom
from mammoprep.phantoms._anatomy import both_breasts
from mammoprep.phantoms._dicom import to_bytes
from mammoprep.phantoms._exposure import Subject, expose
from mammoprep.phantoms._lesions import findings
from mammoprep.phantoms._machines import MACHINES, Machine

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fast_fidelity.py"
SIGMOID, LINEAR = (machine for machine in MACHINES if machine.transfer_syntax.endswith(".4.90"))
DEFAULT, HALF = (728, 1456), (364, 728)
MEAN, P999, BIAS, LANDMARK = 1.1, 7.0, 0.1, 0.1
PEAK = 0.05
STRAYS = 0.005  # of a real file: 1 calcification in 800 keeps less or more than 10 % of its light


def _measures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fast_fidelity", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fast_fidelity"] = module  # a dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


measures = _measures()


def phantom(machine: Machine, seed: int) -> tuple[bytes, np.ndarray]:
    """A full-size file of a machine, and its landmarks in stored pixels."""
    rng = np.random.default_rng(seed)
    side, view = "LR"[seed % 2], ("CC", "MLO")[seed // 2 % 2]
    breast = both_breasts(rng, "ABCD"[seed % 4])[side]
    found = findings(rng, cancer=True, invasive=seed % 3 == 0)
    exposure = expose(rng, Subject(breast, found, side, view), machine, 1.0)
    return to_bytes(exposure, machine, side, (1, seed), seed), exposure.landmarks


def pixels_of(data: bytes) -> np.ndarray:
    return dicom.read_image(data, Record(key="f_1", source="f", group="1", input="a")).pixels


def compared(data: bytes, points: np.ndarray, size: tuple[int, int]) -> dict:
    return measures.fidelity(pixels_of(data), measures.decoded(data, size), points)


def assert_near(row: dict) -> None:
    """Assert every goal for one file of which a level was left out."""
    fast, peer = row["fast"], row["bilinear"]
    assert row["same_grid"]
    assert fast["mean"] <= MEAN
    assert fast["p999"] <= P999
    assert abs(fast["bias"]) <= BIAS
    assert fast["mean"] < peer["mean"]
    assert fast["p999"] < peer["p999"]
    assert row["landmark"] <= LANDMARK


def planted(files: list[bytes], size: tuple[int, int], each: int) -> list:
    rng = np.random.default_rng(5)
    out = []
    for data in files:
        first = measures.decoded(data, size)
        assert first.exact.geometry == first.fast.geometry
        points = rng.permutation(measures.places(first.exact, rng))[: 4 * each]
        files_of = measures.planted_files(data, points)
        out.append(measures.calcifications(data, points, size, files_of))
    assert all(out)
    return out


@pytest.fixture(scope="module")
def sigmoid() -> tuple[bytes, np.ndarray]:
    return phantom(SIGMOID, 4)


@pytest.mark.slow
def test_a_full_size_phantom_is_near_to_exact(sigmoid: tuple[bytes, np.ndarray]) -> None:
    row = compared(*sigmoid, DEFAULT)
    assert row["decode"] == "level:1"
    assert_near(row)


@pytest.mark.slow
def test_two_levels_are_near_to_exact(sigmoid: tuple[bytes, np.ndarray]) -> None:
    row = compared(*sigmoid, HALF)
    assert row["decode"] == "level:2"
    assert_near(row)


@pytest.mark.slow
def test_a_smaller_machine_is_exact_at_the_default_size_and_near_at_half_of_it() -> None:
    data, landmarks = phantom(LINEAR, 7)
    row = compared(data, landmarks, DEFAULT)
    assert row["decode"] == "exact"
    assert row["identical"]
    row = compared(data, landmarks, HALF)
    assert row["decode"] == "level:1"
    assert_near(row)


@pytest.mark.slow
def test_a_forgotten_half_step_is_far_from_exact(
    sigmoid: tuple[bytes, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The goals can be missed: a sample taken for the mean of its block is off by half a pixel."""
    monkeypatch.setattr(
        _levels,
        "origin",
        lambda first, level: (float(first[0] << level), float(first[1] << level)),
    )
    row = compared(*sigmoid, DEFAULT)
    assert row["landmark"] > LANDMARK
    assert row["fast"]["p999"] > 2


def assert_calcifications_stay(found: list, least: int, *, strays: float = 0.0) -> None:
    table = measures.contrast_table(found)
    assert table["count"] >= least
    assert table["light_beyond_10_percent"] <= strays * table["count"]
    assert 0.87 < table["light_ratio"][0] < table["light_ratio"][2] < 1.13
    assert abs(table["median_peak_ratio"] - 1) <= PEAK
    assert abs(table["peak_ratio"][1] - 1) <= PEAK
    assert table["mean_place_error"]["fast"] <= LANDMARK


@pytest.mark.slow
def test_planted_calcifications_keep_their_light_and_their_peak(
    sigmoid: tuple[bytes, np.ndarray],
) -> None:
    assert_calcifications_stay(planted([sigmoid[0]], DEFAULT, 50), 200)


def test_real_files_are_near_to_exact(real_data: Path) -> None:
    told = []
    for path in sorted((real_data / "rsna" / "train_images").rglob("*.dcm")):
        data = path.read_bytes()
        whole = pixels_of(data)
        for size in (DEFAULT, HALF):
            pair = measures.decoded(data, size)
            places = measures.places(pair.exact, np.random.default_rng(1))
            row = measures.fidelity(whole, pair, places[:: max(1, len(places) // 9)])
            told.append(row["decode"])
            if row["decode"] == "exact":
                assert row["identical"]
            else:
                assert_near(row)
    assert sorted(told) == ["exact"] * 2 + ["level:1"] * 4 + ["level:2"] * 2


@pytest.mark.slow
def test_calcifications_planted_in_real_files_stay(real_data: Path) -> None:
    files = [p.read_bytes() for p in (real_data / "rsna" / "train_images" / "10006").glob("*.dcm")]
    found = planted(files, DEFAULT, 50)
    assert_calcifications_stay(found, 200, strays=STRAYS)


@pytest.mark.slow
def test_filters_detect_in_fast_what_the_manual_says() -> None:
    """The goal was 0.01 at every contrast; what docs/fast.md says of it is held here.

    A single contrast of so few images is uncertain by 0.02, the mean of four by less.
    """
    found = planted([phantom(SIGMOID, seed)[0] for seed in range(6)], DEFAULT, 50)
    assert_calcifications_stay(found, 1100)
    for observer, most in (("matched", 0.02), ("fixed", 0.04)):
        rows = measures.detection(found, observer, np.random.default_rng(2))
        assert 0.6 < rows[0]["exact"] < rows[-1]["exact"] < 0.99
        assert abs(np.mean([row["difference"] for row in rows])) <= most
