"""The phantoms of benchmarks/rsna_trial.py give nothing away, and its figures are what they say."""

import csv
import importlib.util
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError
from mammoprep.phantoms import _exposure, rsna
from mammoprep.phantoms._layouts import Shot, Wanted
from mammotrain.scores import Scores

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rsna_trial.py"


def _benchmark() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))  # it imports its neighbour
    try:
        spec = importlib.util.spec_from_file_location("rsna_trial", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["rsna_trial"] = module  # a dataclass looks itself up there
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


benchmark = _benchmark()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def breasts(path: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return what a table says of each breast; all its rows say the same."""
    found: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for row in rows(path):
        labels = tuple(row[name] for name in benchmark.OF_A_BREAST)
        found.setdefault((row["patient_id"], row["laterality"]), set()).add(labels)
    assert all(len(labels) == 1 for labels in found.values())
    return {breast: labels.pop() for breast, labels in found.items()}


@pytest.fixture(scope="module")
def wanted() -> Wanted:
    return Wanted(32, 3, 0.03, 0.5, 1, benchmark.CONTRAST, matched=True)


@pytest.fixture(scope="module")
def raw(wanted: Wanted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graded") / "raw"
    rsna.write_wanted(out, wanted)
    return out


def healthy(shot: Shot) -> Shot:
    """Return the same exposure without anything found in the breasts."""
    sides = {name: replace(side, findings=()) for name, side in shot.patient.sides.items()}
    return replace(shot, patient=replace(shot.patient, sides=sides))


def textures(shots: list[Shot], monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return the tissue of every exposure before noise."""
    found, inner = [], _exposure._texture

    def kept(*given: object) -> object:
        made = inner(*given)
        found.append(made[0].copy())
        return made

    monkeypatch.setattr(_exposure, "_texture", kept)
    for shot in shots:
        shot.expose()
    monkeypatch.undo()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "exposures"), [(0.03, None), (1.0, 1)])  # 1: coarser textures
def test_matched_tissue_has_the_grey_values_of_tissue_without_findings(
    scale: float, exposures: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = Wanted(2, 3, scale, 0.5, 1, (2.0, 3.0), matched=True).shots()
    shots = [shot for shot in shots if shot.side.findings][:exposures]
    there = textures(shots, monkeypatch)
    without = textures([healthy(shot) for shot in shots], monkeypatch)
    for a, b in zip(there, without, strict=True):
        assert (a != b).any()
        np.testing.assert_array_equal(np.sort(a, None), np.sort(b, None))


def test_the_finding_is_where_its_truth_says() -> None:
    plain = np.linspace(0, 1, 100).reshape(10, 10)
    shown = plain.copy()
    shown[2, 2:5] += 2
    found = _exposure.matched(shown, plain)
    assert set(found[2, 2:5]) == set(plain[9, 7:])
    np.testing.assert_array_equal(np.sort(found, None), np.sort(plain, None))


@pytest.mark.slow
def test_every_cancer_has_a_contrast_of_its_own_and_nothing_else_has_one(raw: Path) -> None:
    of_patient: dict[str, set[float]] = {}
    for row in rows(raw / "train.csv"):
        place = raw / "truth" / row["patient_id"] / f"{row['image_id']}.json"
        lesions = json.loads(place.read_text())["lesions"]
        assert all(("contrast" in each) == (row["cancer"] == "1") for each in lesions)
        if row["cancer"] == "1":
            of_patient.setdefault(row["patient_id"], set()).update(e["contrast"] for e in lesions)
    assert all(len(found) == 1 for found in of_patient.values())
    values = np.array([found.pop() for found in of_patient.values()])
    assert len(set(values)) == len(values) > 10
    assert values.min() >= benchmark.CONTRAST[0]
    assert values.max() <= benchmark.CONTRAST[1]
    assert np.ptp(values) > 2


def test_a_higher_contrast_is_seen_more(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        level: textures(Wanted(2, 3, 0.03, 0.5, 1, (level, level)).shots(), monkeypatch)
        for level in (1.0, 2.0)
    }
    more = [b - a for a, b in zip(made[1.0], made[2.0], strict=True)]
    assert min(each.min() for each in more) > -1e-6
    assert max(each.max() for each in more) > 0.1


@pytest.mark.parametrize("contrast", [(0.0, 1.0), (2.0, 1.0), (1.0, float("inf"))])
def test_a_contrast_out_of_range_is_refused(contrast: tuple[float, float], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contrast must be"):
        rsna.write_wanted(tmp_path / "out", Wanted(2, 3, 0.03, 0.5, 1, contrast))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_shuffling_moves_what_is_known_of_a_breast_within_its_site(
    raw: Path, tmp_path: Path
) -> None:
    before = (raw / "train.csv").read_bytes()
    benchmark.shuffled(raw, tmp_path / "other")
    assert (raw / "train.csv").read_bytes() == before
    first, second = rows(raw / "train.csv"), rows(tmp_path / "other" / "train.csv")
    kept = [name for name in first[0] if name not in benchmark.OF_A_BREAST]
    assert [[row[n] for n in kept] for row in first] == [[row[n] for n in kept] for row in second]
    then, now = breasts(raw / "train.csv"), breasts(tmp_path / "other" / "train.csv")
    assert then.keys() == now.keys()
    sites = {(row["patient_id"], row["laterality"]): row["site_id"] for row in first}
    for site in set(sites.values()):
        inside = [breast for breast in then if sites[breast] == site]
        assert Counter(then[b] for b in inside) == Counter(now[b] for b in inside)
    cancers = [breast for breast in then if then[breast][0] == "1"]
    still = sum(now[breast][0] == "1" for breast in cancers)
    assert still < len(cancers) / 2


def test_the_observer_answers_to_blobs_and_not_to_brightness() -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(110, 12, (128, 64)).clip(30, 200)
    blob = plain.copy()
    blob[60:66, 30:36] += 60
    found = [
        benchmark.answers(each.round().astype(np.uint8)) for each in (plain, blob, 1.2 * plain)
    ]
    width = 2 * benchmark.WIDTHS.index(2.7)
    assert found[1][width] > 1.5 * found[0][width]
    np.testing.assert_allclose(found[2], found[0], rtol=0.05)


@pytest.mark.slow
def test_cancers_are_compared_with_all_images_without_one(raw: Path) -> None:
    train = rows(raw / "train.csv")
    names = ("patient_id", "image_id")
    told = [{**{n: r[n] for n in names}, "labels.cancer": int(r["cancer"])} for r in train]
    label = np.array([row["labels.cancer"] for row in told])
    positive = label.astype(float)
    kinds = [{each["kind"] for each in benchmark.truth(raw, row)} for row in told]
    mass = np.array(["mass" in found for found in kinds])
    positive[(label == 1) & ~mass] = 0.0  # clusters alone are not found
    pooled = Scores(
        np.array([row["image_id"] for row in told]),
        np.array([row["patient_id"] for row in told]),
        np.array([row["laterality"] for row in train]),
        np.array([row["view"] for row in train]),
        label.astype(np.int64),
        np.stack([1 - positive, positive], axis=1),
        ("0", "1"),
    )
    found = benchmark.by_cancer(pooled, raw, told)
    assert found["mass"]["auroc"]["value"] == 1
    assert found["calcifications alone"]["auroc"]["value"] == pytest.approx(0.5)
    assert found["mass"]["images"] + found["calcifications alone"]["images"] == label.sum()
    graded = [part["images"] for name, part in found.items() if name.startswith("contrast")]
    assert len(graded) == 3
    assert sum(graded) == label.sum()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_small_edition_of_the_trial_runs_and_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "MANY", benchmark.Cohort("many", 40, 0.4))
    monkeypatch.setattr(benchmark, "FIXED", (*benchmark.FIXED, "train.max_steps=4"))
    parts = benchmark.parts(tmp_path)
    found = benchmark.measured("learned", parts["learned"], tmp_path)
    assert benchmark.measured("learned", parts["learned"], tmp_path) == found  # not done again
    assert found["steps_a_fold"] == 4
    assert found["image"].keys() == set(benchmark.METRICS)
    assert len(found["auroc_by_fold"]) == len(found["threshold_by_fold"]) == benchmark.FOLDS
    assert found["images"] >= 2 * found["breast"]["breasts"] > 0
    assert set(found["baselines"]) == {"metadata", "shortcut"}
    assert {"age_error", "birads_accuracy"} <= found["measures"].keys()
    for part in (found["observer_auroc"], found["sharpness_auroc"]):
        assert part["ci95"][0] <= part["value"] <= part["ci95"][1]
    other = benchmark.measured("shuffled", parts["shuffled"], tmp_path)
    assert other["positive_images"] == pytest.approx(found["positive_images"], abs=4)
