"""--roi and --balance: patches, tiles and copies keep their geometry, label and split."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from helpers import tree_of

from mammoprep import patches, plan, preparation, quotas
from mammoprep.builder import Result, Watcher, build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import ConfigError
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Lesion, MaskFile, Record, base_split
from mammoprep.image import MammoImage
from mammoprep.phantoms import busi, cbis_ddsm
from mammoprep.verify import verify

ROWS, COLUMNS = 700, 900
WIDTH = HEIGHT = 64
COPIES = (0, 1, 2, 3, 4, 5, 6, 7, 8)
DISC = [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 120, endpoint=False)]


def disc(number: int, x: float, y: float, radius: float, pathology: str | None = "benign"):
    points = tuple((x + radius * c, y + radius * s) for c, s in DISC)
    return Lesion(number, "mass", pathology, points)


def ramp_image(*lesions: Lesion, axis: int = 1) -> MammoImage:
    """An image whose grey value tells where a pixel was stored, along one axis."""
    ramp = (np.arange(COLUMNS if axis else ROWS) + 0.5) / 1000
    pixels = np.broadcast_to(ramp if axis else ramp[:, None], (ROWS, COLUMNS))
    record = Record(
        key="demo_1", source="demo", group="1", input="1.png", annotation="full", lesions=lesions,
        labels={"cancer": 1, "abnormal": 1, "birads": "5", "density": "C"}, label=1,
    )  # fmt: skip
    return MammoImage(
        np.array(pixels, np.float32), Geometry.of_stored((ROWS, COLUMNS), (0.1, 0.1)), record
    )


def settings_of(**changes) -> Settings:
    plain = {"size": (WIDTH, HEIGHT), "roi": (WIDTH, HEIGHT), "bits": 16, "crop": "none"}
    return Settings(**{**plain, "orient": "none", "target": "pathology", **changes})


def made(image: MammoImage, settings: Settings, copies=COPIES, tiles=0) -> list[MammoImage]:
    steps = preparation.steps(settings)
    return list(preparation.samples(image, steps, settings, copies=copies, tiles=tiles))


def places(image: MammoImage) -> np.ndarray:
    """Where each pixel's centre lies in the stored image."""
    rows, columns = image.geometry.size
    y, x = np.mgrid[0:rows, 0:columns] + 0.5
    return image.geometry.to_stored(np.stack([x.ravel(), y.ravel()], axis=1))


def distance(points: np.ndarray, lesion: Lesion) -> np.ndarray:
    """How far points lie outside of a disc; inside it is negative."""
    outline = np.array(lesion.polygon)
    centre = outline.mean(0)
    return np.linalg.norm(points - centre, axis=1) - np.linalg.norm(outline[0] - centre)


LESIONS = (disc(1, 300.3, 250.7, 40), disc(2, 640, 400, 150, "malignant"), disc(3, 20, 30, 10))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [(64, 64), (96, 48)])
def test_every_pixel_of_a_patch_shows_the_stored_place_that_its_matrix_names(axis, size) -> None:
    settings = settings_of(size=size, roi=size)
    found = made(ramp_image(*LESIONS, axis=axis), settings, tiles=2)
    assert len(found) == (len(LESIONS) + 2) * len(COPIES)
    for patch in found:
        there = places(patch)[:, 1 - axis]
        assert np.abs(patch.pixels.ravel() / 65535 * 1000 - there).max() < 0.1


@pytest.mark.parametrize("size", [(64, 64), (96, 48)])
def test_the_mask_of_a_patch_is_its_lesions_and_their_edge(size) -> None:
    for patch in made(ramp_image(*LESIONS), settings_of(size=size, roi=size)):
        here = places(patch)
        pixel = np.abs(np.array(patch.geometry.matrix)[:, :2]).max() ** -1  # in stored pixels
        away = np.min([distance(here, lesion) for lesion in LESIONS], axis=0)
        mask = patch.mask.ravel() > 0
        assert mask[away < -0.5].all()
        assert not mask[away > pixel + 0.5].any()


def test_the_whole_lesion_is_in_its_patch_and_in_every_copy() -> None:
    for patch in made(ramp_image(*LESIONS), settings_of()):
        lesion = LESIONS[patch.record.lesion - 1]
        points = patch.geometry.from_stored(lesion.polygon)
        assert points.min() >= -0.01
        assert points.max() <= WIDTH + 0.01
        assert lesion in patch.record.lesions


def test_a_patch_has_a_margin_and_no_less_than_the_shrink() -> None:
    small, large = (made(ramp_image(one), settings_of(), (0,))[0] for one in LESIONS[:2])
    assert small.geometry.crop[2] - small.geometry.crop[0] == WIDTH * 2
    assert large.geometry.crop[2] - large.geometry.crop[0] == round(300 * 1.4)


def test_patches_at_the_edge_stay_inside_the_picture() -> None:
    for patch in made(ramp_image(LESIONS[2]), settings_of()):
        assert patch.padding is None or not patch.padding.any()


def test_a_patch_larger_than_the_picture_is_padded_with_black() -> None:
    patch = made(ramp_image(LESIONS[0]), settings_of(roi_shrink=20.0), (0,))[0]
    here = places(patch)
    away = np.max([-here[:, 0], here[:, 0] - COLUMNS, -here[:, 1], here[:, 1] - ROWS], axis=0)
    pixels, outside, inside = patch.pixels.ravel(), away > 10, away < -10  # half a patch's pixel
    assert not pixels[outside].any()
    assert patch.padding.ravel()[outside].all()
    assert pixels[inside].all()
    assert not patch.padding.ravel()[inside].any()


def test_tiles_show_no_lesion_no_padding_and_hardly_anything_but_breast() -> None:
    image = ramp_image(*LESIONS)
    breast = np.zeros((ROWS, COLUMNS), bool)
    breast[:, :600] = True
    padding = np.zeros((ROWS, COLUMNS), bool)
    padding[:60] = True
    ready = replace(image, breast=breast, padding=padding)
    from mammoprep.steps import draw_lesions

    settings = settings_of(crop="breast")
    cutter = patches.Cutter(draw_lesions.apply(ready), settings)
    tiles = [p for p in cutter.patches(COPIES, 12) if p.record.lesion is None]
    assert len(tiles) == 12 * len(COPIES)
    for tile in tiles:
        assert not tile.mask.any()
        assert not tile.padding.any()
        assert tile.breast.mean() >= patches.TISSUE
        assert tile.record.lesions == ()
    originals = {t.geometry.crop for t in tiles if not t.record.augmented}
    assert len(originals) == 12


def test_tiles_do_not_cover_each_other_while_there_is_room() -> None:
    tiles = [p.geometry.crop for p in made(ramp_image(), settings_of(), (0,), 6)]
    for i, (x0, y0, x1, y1) in enumerate(tiles):
        assert (x1 - x0, y1 - y0) == (2 * WIDTH, 2 * HEIGHT)
        for a0, b0, a1, b1 in tiles[:i]:
            assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0


def test_fewer_tiles_than_asked_where_there_is_no_room() -> None:
    everywhere = disc(1, COLUMNS / 2, ROWS / 2, 440)
    found = [p for p in made(ramp_image(everywhere), settings_of(), (0,), 9)]
    assert [p.record.lesion for p in found if p.record.lesion] == [1]
    assert len(found) < 10


def test_copies_differ_and_only_quarters_turn_them() -> None:
    found = made(ramp_image(LESIONS[0]), settings_of())
    assert len({p.geometry.matrix for p in found}) == len(found)
    for patch in found:
        (a, b, _), (c, d, _) = patch.geometry.matrix
        assert (a == d == 0) or (b == c == 0)
    assert {p.geometry.flipped for p in found} == {True, False}


def test_a_patch_names_its_parent_its_lesion_and_its_own_labels() -> None:
    found = {
        p.record.key: p.record for p in made(ramp_image(*LESIONS[:2]), settings_of(), (0, 1), 1)
    }
    assert list(found) == [
        "demo_1_r1_0", "demo_1_r1_1", "demo_1_r2_0", "demo_1_r2_1", "demo_1_b1", "demo_1_b1_a1",
    ]  # fmt: skip
    benign, cancer, tile = found["demo_1_r1_0"], found["demo_1_r2_1"], found["demo_1_b1"]
    assert {record.parent for record in found.values()} == {"demo_1"}
    assert {record.group for record in found.values()} == {"1"}
    assert (benign.lesion, benign.label, benign.augmented) == (1, 1, False)
    assert benign.labels == {"cancer": 0, "abnormal": 1, "birads": "5", "density": "C"}
    assert (cancer.lesion, cancer.label, cancer.augmented) == (2, 2, True)
    assert cancer.labels["cancer"] == 1
    assert (tile.lesion, tile.label) == (None, 0)
    assert tile.labels == {"cancer": 0, "abnormal": 0, "birads": None, "density": "C"}


@pytest.mark.parametrize(
    ("target", "kind", "pathology", "label"),
    [
        ("lesion", None, None, 1),
        ("pathology", None, "benign", 1),
        ("pathology", "mass", "malignant", 2),
        ("pathology", "mass", None, None),
        ("kind-pathology", "calcification", "benign", 1),
        ("kind-pathology", "mass", "benign", 2),
        ("kind-pathology", "calcification", "malignant", 3),
        ("kind-pathology", "mass", "malignant", 4),
        ("kind-pathology", "asymmetry", "malignant", None),
    ],
)
def test_the_class_of_a_lesion_follows_the_target(target, kind, pathology, label) -> None:
    assert patches.label_of(Lesion(1, kind, pathology, ()), target) == label
    assert patches.label_of(None, target) == 0


# ------------------------------------------------------------------------- augmented whole images


def finished_copies(image: MammoImage, number: int) -> list[MammoImage]:
    settings = settings_of(roi=None, size=(225, 175), fit="stretch")
    return made(image, settings, tuple(range(1, number + 1)))


def test_an_augmented_copy_shows_the_stored_place_that_its_matrix_names() -> None:
    for copy in finished_copies(ramp_image(LESIONS[0]), 12):
        there = places(copy)
        measured = ~copy.padding.ravel()
        # a margin of one picture pixel: there the linear resampling mixes with the black outside
        deep = (there > 5).all(1) & (there[:, 0] < COLUMNS - 5) & (there[:, 1] < ROWS - 5)
        found = copy.pixels.ravel()[measured & deep] / 65535 * 1000
        assert np.abs(found - there[measured & deep, 0]).max() < 0.6
        assert deep.mean() > 0.4


def test_an_augmented_copy_keeps_its_lesion_where_its_outline_says() -> None:
    truth = LESIONS[1]
    for copy in finished_copies(ramp_image(truth), 20):
        points = copy.geometry.from_stored(truth.polygon)
        own = np.zeros(copy.geometry.size, np.uint8)
        cv2.fillPoly(own, [np.round((points - 0.5) * 16).astype(np.int32)], 255, shift=4)
        both = np.count_nonzero((own > 0) & (copy.mask > 0))
        assert both / np.count_nonzero((own > 0) | (copy.mask > 0)) > 0.93
        inside = np.count_nonzero(own) / cv2.contourArea(points.astype(np.float32))
        assert inside > 0.85


def test_what_a_copy_turned_into_the_picture_is_black_and_padding() -> None:
    for copy in finished_copies(ramp_image(), 12):
        here = places(copy)
        outside = (here < -5).any(1) | (here[:, 0] > COLUMNS + 5) | (here[:, 1] > ROWS + 5)
        assert not copy.pixels.ravel()[outside].any()
        assert copy.padding.ravel()[outside].all()


def test_a_turned_grid_goes_through_json_and_back() -> None:
    for copy in finished_copies(ramp_image(), 6):
        back = Geometry.from_json(json.loads(json.dumps(copy.geometry.to_json())))
        np.testing.assert_allclose(back.matrix, copy.geometry.matrix)
        np.testing.assert_allclose(back.stored_spacing_mm, (0.1, 0.1))
        x0, y0, x1, y1 = back.crop
        assert 0 <= x0 < x1 <= COLUMNS
        assert 0 <= y0 < y1 <= ROWS


# ------------------------------------------------------------------------------------ whole builds


@pytest.fixture(scope="module")
def lesions_of_cbis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cbis") / "cbis-ddsm"
    cbis_ddsm.write(folder, patients=10, seed=4, size_scale=0.06)
    return folder


@pytest.fixture(scope="module")
def ultrasound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busi") / "busi"
    busi.write(folder, patients=30, seed=4, size_scale=0.2)
    return folder


def built(source: str, folder: Path, out: Path, workers: int = 2, **changes) -> Result:
    settings = Settings(**{"size": (32, 32), "folds": 3, **changes})
    config = BuildConfig(source=source, settings=settings, input=folder, out=out, workers=workers)
    return build(replace(config, max_failures="100%"))


def rows_of(out: Path) -> list[dict]:
    return pyarrow.parquet.read_table(out / "samples.parquet").to_pylist()


def patch_build(folder: Path, out: Path, workers: int = 2, **changes) -> Result:
    plain = {"roi": (32, 32), "roi_copies": 2, "roi_ratio": "1:2", "roi_shrink": 1.0}
    return built("cbis-ddsm", folder, out, workers, **{**plain, **changes})


@pytest.fixture(scope="module")
def patched(lesions_of_cbis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("patched") / "out"
    patch_build(lesions_of_cbis, out)
    return out


def test_a_build_of_patches_accounts_for_every_input(patched: Path) -> None:
    counts = json.loads((patched / "dataset.json").read_text())["counts"]
    total = counts["built"] + sum(counts["failed"].values()) + sum(counts["excluded"].values())
    assert counts["inputs"] == total
    assert counts["samples"] == len(rows_of(patched)) > counts["built"]
    assert verify(patched).damages == ()


def test_copies_live_in_shards_of_their_own_and_never_for_the_test_set(patched: Path) -> None:
    rows = rows_of(patched)
    assert {row["augmented"] for row in rows} == {True, False}
    for row in rows:
        assert row["split"].endswith("-aug") == row["augmented"]
        assert row["shard"].startswith(row["split"] + "-0")
    splits = {row["split"] for row in rows}
    assert "test" in splits
    assert not splits & {"test-aug", "val-aug"}


def test_all_patches_of_a_patient_are_on_one_side(patched: Path) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows_of(patched):
        sides[row["patient_id"]].add(base_split(row["split"]))
    assert all(len(found) == 1 for found in sides.values())


def test_tiles_come_to_the_ratio_in_every_split(patched: Path) -> None:
    found: dict[str, Counter[bool]] = defaultdict(Counter)
    for row in rows_of(patched):
        found[row["split"]][row["lesion"] is None] += 1
    for counted in found.values():
        assert 1.2 <= counted[True] / counted[False] <= 2.0  # fewer where there is no room


@pytest.mark.slow
def test_the_patches_are_the_same_for_any_number_of_workers(
    lesions_of_cbis: Path, patched: Path, tmp_path: Path
) -> None:
    patch_build(lesions_of_cbis, tmp_path / "one", workers=1)
    assert tree_of(tmp_path / "one") == tree_of(patched)


@pytest.mark.slow
def test_a_second_run_over_patches_builds_nothing(lesions_of_cbis: Path, tmp_path: Path) -> None:
    patch_build(lesions_of_cbis, tmp_path / "out")
    assert patch_build(lesions_of_cbis, tmp_path / "out").local["shards_built"] == []


@pytest.mark.slow
def test_a_failed_input_is_counted_once_whatever_was_to_be_made_of_it(
    lesions_of_cbis: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "raw"
    shutil.copytree(lesions_of_cbis, folder)
    first = rows_of_input(patch_build(folder, tmp_path / "whole").out)
    (folder / first).write_bytes(b"no image")
    result = patch_build(folder, tmp_path / "out")
    counts = result.summary["counts"]
    lines = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    assert sum(counts["failed"].values()) == len(lines)
    assert len({json.loads(line)["input"] for line in lines}) == len(lines)
    total = counts["built"] + len(lines) + sum(counts["excluded"].values())
    assert counts["inputs"] == total


def rows_of_input(out: Path) -> str:
    """The input of some training image that gave copies."""
    for path in sorted((out / ".state" / "shards").glob("fold*-aug-*.json")):
        for name in json.loads(path.read_text())["inputs"]:
            if "full" in name.lower() or name.endswith(".dcm"):
                return name
    raise AssertionError("no input found")


@pytest.mark.slow
def test_balance_makes_the_classes_of_every_fold_level(ultrasound: Path, tmp_path: Path) -> None:
    built("busi", ultrasound, tmp_path / "out", balance="label")
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows_of(tmp_path / "out"):
        counted[base_split(row["split"])][row["label_name"]] += 1
        assert row["augmented"] == (row["parent"] is not None)
        assert row["key"].startswith(row["parent"] or "busi")
    assert len(counted) == 3
    for labels in counted.values():
        assert len(set(labels.values())) == 1, labels


@pytest.mark.slow
def test_balance_changes_no_shard_but_adds_some(ultrasound: Path, tmp_path: Path) -> None:
    plain = built("busi", ultrasound, tmp_path / "plain").summary["shards"]
    level = built("busi", ultrasound, tmp_path / "level", balance="label").summary["shards"]
    own = [shard for shard in level if not shard["split"].endswith("-aug")]
    assert [shard["sha256"] for shard in own] == [shard["sha256"] for shard in plain]
    assert len(level) > len(own)


def test_the_copies_of_chance_are_the_same_again_and_other_with_another_seed() -> None:
    image, settings = ramp_image(LESIONS[0]), settings_of(roi=None, size=(90, 70))
    first, again = (made(image, settings, (1, 2)) for _ in range(2))
    other = made(image, replace(settings, seed=1), (1, 2))
    assert [p.pixels.tobytes() for p in first] == [p.pixels.tobytes() for p in again]
    assert [p.pixels.tobytes() for p in first] != [p.pixels.tobytes() for p in other]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": "densty"}, "Did you mean 'density'?"),
        ({"balance": "age"}, "no such label"),
    ],
)
def test_balance_by_what_is_no_class_is_refused(ultrasound, tmp_path, changes, message) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        built("busi", ultrasound, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_patches_of_a_set_without_outlines_are_refused(phantom_once: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no outline of any"):
        built("rsna", phantom_once, tmp_path / "out", roi=(32, 32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roi_ratio": "2"}, "LESIONS:TILES"),
        ({"roi_ratio": "0:1"}, "LESIONS:TILES"),
        ({"roi_shrink": 0.0}, "--roi-shrink"),
        ({"roi_padding": -1.0}, "--roi-padding"),
        ({"roi_copies": -1}, "--roi-copies"),
        ({"balance": "label"}, "--roi-ratio"),
        ({"mm_per_pixel": 0.1}, "--roi-shrink"),
    ],
)
def test_an_impossible_patch_option_says_what_is_possible(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(**changes)


def test_settings_with_patches_go_through_json_and_back() -> None:
    settings = settings_of(roi_copies=3)
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


class Warned(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def test_tiles_that_had_no_room_are_told(lesions_of_cbis: Path, tmp_path: Path) -> None:
    settings = Settings(size=(96, 96), roi=(96, 96), roi_ratio="1:3", folds=3)
    config = BuildConfig("cbis-ddsm", settings, lesions_of_cbis, tmp_path / "out", workers=1)
    watcher = Warned()
    counts = build(replace(config, max_failures="100%"), watcher).summary["counts"]
    told = [line for line in watcher.lines if "background tiles were asked for" in line]
    assert len(told) == 1
    assert f"{counts['tiles']:,} had room" in told[0]
    assert counts["tiles"] == sum(
        row["lesion"] is None and not row["augmented"] for row in rows_of(tmp_path / "out")
    )


def test_the_empty_mask_of_a_normal_image_asks_for_no_tile() -> None:
    mask = MaskFile(None, None, ("m.png",))
    record = Record(key="k", source="s", group="g", input="i", masks=(mask,), annotation="full")
    assert quotas.outlines(record) == 1
    assert quotas.outlines(replace(record, labels={"abnormal": 0})) == 0


def test_an_absent_file_is_absent_whatever_it_would_have_shown() -> None:
    absent = Record(key="a_1", source="s", group="g", input="i", excluded="no_roi")
    settings = Settings(size=(32, 32), roi=(32, 32), missing="skip", folds=1)
    found = plan.make([absent, replace(absent, key="a_2", input="j")], {"j": 3}, settings)
    assert found.excluded == {"no_file": 1, "no_roi": 1}


def test_a_total_is_spread_as_evenly_as_whole_numbers_can_be() -> None:
    keys = [f"k{number}" for number in range(7)]
    for total in (0, 1, 7, 20, 701):
        parts = quotas.spread(total, keys, 3)
        assert sum(parts.values()) == total
        assert max(parts.values()) - min(parts.values()) <= 1
    assert quotas.spread(3, keys, 3) == quotas.spread(3, reversed(keys), 3)
    assert quotas.spread(3, keys, 3) != quotas.spread(3, keys, 4)
