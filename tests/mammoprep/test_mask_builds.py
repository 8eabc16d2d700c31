"""Mask files through whole builds: what is in the shards, what is counted, and what is said."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run_cli
from outlines import Built, built
from PIL import Image

from mammoprep import notices_masks, options
from mammoprep.builder import Result, Watcher, build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core.errors import ConfigError
from mammoprep.phantoms import busi as phantom

SHAPE = (128, 96)


class Listener(Watcher):
    """Keeps the lines for the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def picture(number: int) -> np.ndarray:
    """A bright half disc at the left edge on dark air, another one for each number."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius = np.hypot((y - 64) / 128, x / 96) / 0.45
    texture = (y * 7 + x * 13 + number * 29) % 23
    return np.where(radius < 1, 90 + texture, 2).astype(np.uint8)


def squares(*numbers: int) -> np.ndarray:
    values = np.zeros(SHAPE, np.int64)
    for place, number in enumerate(numbers):
        values[40 + 24 * place : 54 + 24 * place, 8:22] = number
    return values


def save(folder: Path, name: str, values: np.ndarray) -> None:
    Image.fromarray(values).save(folder / name)


def dataset(folder: Path, header: str, rows: dict[str, np.ndarray | None]) -> Path:
    """Write a table of rows ``label,...`` -> the values of a mask, all of another patient."""
    folder.mkdir()
    lines = [f"path,patient_id,mask,{header}"]
    for number, (cells, mask) in enumerate(rows.items()):
        save(folder, f"{number}.png", picture(number))
        if mask is not None:
            save(folder, f"{number}_mask.png", mask)
        name = "" if mask is None else f"{number}_mask.png"
        lines.append(f"{number}.png,p{number},{name},{cells.split('#')[0]}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(folder: Path, out: Path, **given: Any) -> tuple[Result, list[str]]:
    listener = Listener()
    size = {} if "roi" in given else {"size": "96x128"}
    chosen = {"source": "table", "input": str(folder), "out": str(out), "workers": 1, **size}
    config = options.build_config({**chosen, "max_failures": "100%", "folds": 2, **given})
    return build(config, listener), listener.lines


def numbers_of(sample: Built) -> list[int | None]:
    return [roi.get("number") for roi in sample.about["rois"]]


@pytest.fixture(scope="session")
def reported() -> Path:
    folder = os.environ.get("MAMMO_REPORTED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MAMMO_REPORTED is not set")
    return Path(folder)


def test_the_ten_reported_masks_cover_the_same_lesion(reported: Path, tmp_path: Path) -> None:
    result, _ = run(reported / "t_mask16", tmp_path / "out")
    samples = built(tmp_path / "out")
    assert result.summary["counts"]["built"] == len(samples) == 10
    assert {sample.about["annotation"] for sample in samples} == {"full"}
    for sample in samples:
        np.testing.assert_array_equal(sample.mask, samples[0].mask)
        assert sample.about["rois"] == samples[0].about["rois"]
        assert sample.mask.any()


def test_the_reported_numbers_are_findings_and_that_is_said_with_areas(
    reported: Path, tmp_path: Path
) -> None:
    result, lines = run(reported / "t_mask_inst", tmp_path / "out")
    for sample in built(tmp_path / "out"):
        assert numbers_of(sample) == [1, 2]
        assert sample.about["warnings"] == ["mask_instances"]
    assert result.summary["counts"]["masks"] == {"numbers": {"1": [2, 232], "2": [2, 232]}}
    (line,) = [line for line in lines if "mask_instances" in line]
    assert "1 in 2 of them (median 232 pixels)" in line
    assert "--mask-values classes" in line


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbered") / "raw"
    return dataset(folder, "label,kind", {
        "a,mass#0": squares(1, 2).astype(np.uint8),
        "b,mass#1": squares(700, 4000).astype(np.uint16),
        "a,mass#2": squares(0, 255).astype(np.uint16),
        "b,#3": None,
    })  # fmt: skip


def test_the_union_is_in_the_mask_and_each_number_is_a_roi(numbered: Path, tmp_path: Path) -> None:
    result, lines = run(numbered, tmp_path / "out", crop="none", intersection=True)
    first, second, third, fourth = built(tmp_path / "out")
    np.testing.assert_array_equal(first.mask, second.mask)
    assert (numbers_of(first), numbers_of(second), numbers_of(third)) == (
        [1, 2],
        [700, 4000],
        [None],
    )
    assert not fourth.mask.any()
    assert {roi["kind"] for roi in first.about["rois"]} == {"mass"}
    areas = {"1": [1, 196], "2": [1, 196], "700": [1, 196], "4000": [1, 196]}
    assert result.summary["counts"]["masks"] == {"numbers": areas}
    assert len(lines) == 1 + len([line for line in lines if "mask_instances" not in line])


def test_masks_of_one_number_each_that_differ_from_image_to_image_may_be_kinds(
    tmp_path: Path,
) -> None:
    rows = {"a.png,1,x,a": squares(1), "b.png,2,x,b": squares(2), "c.png,3,x,c": squares(2)}
    folder = tmp_path / "raw"
    folder.mkdir()
    lines = ["path,patient_id,label,mask"]
    for number, (row, mask) in enumerate(rows.items()):
        name = row.split(",")[0]
        save(folder, name, picture(number))
        save(folder, f"mask_{name}", mask.astype(np.uint8))
        lines.append(",".join([*row.split(",")[:3], f"mask_{name}"]))
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    result, told = run(folder, tmp_path / "out")
    assert any("2 in 2 of them" in line and "--mask-values classes" in line for line in told)
    assert result.summary["counts"]["masks"] == {"single": {"2": 2}}
    named, told = run(folder, tmp_path / "named", mask_values="1=mass,2=calcification")
    assert "masks" not in named.summary["counts"]
    assert not any("one number each" in line for line in told)


def test_what_is_wrong_with_a_mask_file_is_not_said_of_its_image(tmp_path: Path) -> None:
    save(tmp_path, "a.png", picture(0))
    (tmp_path / "m.png").write_text("junk\n" * 40)
    (tmp_path / "table.csv").write_text("path,patient_id,label,mask\na.png,1,x,m.png\n")
    run(tmp_path, tmp_path / "out")
    assert '"detail": "the mask file: ' in (tmp_path / "out" / "failures.jsonl").read_text()


def test_names_of_numbers_are_kinds_in_the_shards(numbered: Path, tmp_path: Path) -> None:
    named = "1=calcification,2=malignant,700=asymmetry,4000=benign,255=ignore"
    result, lines = run(numbered, tmp_path / "out", mask_values=named)
    found = [
        [(r["kind"], r["pathology"]) for r in s.about["rois"]] for s in built(tmp_path / "out")
    ]
    assert found[:2] == [
        [("calcification", None), ("mass", "malignant")], [("asymmetry", None), ("mass", "benign")]
    ]  # fmt: skip
    assert (
        "masks" not in result.summary["counts"]
        or "numbers" not in result.summary["counts"]["masks"]
    )
    assert not [line for line in lines if "mask_instances" in line]


def test_each_number_gives_a_patch_of_its_own(numbered: Path, tmp_path: Path) -> None:
    result, _ = run(numbered, tmp_path / "out", roi="32x32", roi_shrink=1.0, roi_ratio="1:1")
    lesions = [sample for sample in built(tmp_path / "out") if sample.about["lesion"]]
    parents = [sample.about["parent"] for sample in lesions]
    assert [parents.count(f"table_{number}") for number in range(4)] == [2, 2, 1, 0]
    assert all(sample.mask.any() for sample in lesions)
    assert result.summary["counts"]["masks"]["numbers"]["700"] == [1, 196]


def test_a_zip_and_a_limit_change_nothing_of_the_masks(numbered: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "raw"), "zip", numbered))
    run(archive, tmp_path / "zip", limit=2)
    run(numbered, tmp_path / "whole")
    for one, other in zip(built(tmp_path / "zip"), built(tmp_path / "whole"), strict=False):
        assert one.about["rois"] == other.about["rois"]
        np.testing.assert_array_equal(one.mask, other.mask)


@pytest.fixture(scope="module")
def emptied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    black = np.zeros(SHAPE, np.uint8)
    folder = tmp_path_factory.mktemp("emptied") / "raw"
    dataset(folder, "label,abnormal,pathology", {
        "sick,1,#0": black,
        "sick,1,malignant#1": squares(255).astype(np.uint8),
        "sick,,malignant#2": squares(255).astype(np.uint8),
        "well,0,#3": black,
        "other,,#4": black,
    })  # fmt: skip
    save(folder, "2_second_mask.png", black)  # one of two findings
    with (folder / "table.csv").open("a") as table:
        table.write("2.png,p2,2_second_mask.png,sick,,benign\n")
    return folder


def test_an_empty_mask_beside_a_finding_is_said_and_teaches_nothing(
    emptied: Path, tmp_path: Path
) -> None:
    result, lines = run(emptied, tmp_path / "out", intersection=True)
    lost, fine, half, well, other = built(tmp_path / "out")
    told = [(s.about["annotation"], s.about["warnings"]) for s in (lost, fine, half, well, other)]
    assert told == [
        ("unusable", ["mask_empty"]),
        ("full", []),
        ("partial", ["mask_empty"]),
        ("full", []),
        ("full", ["mask_empty"]),
    ]
    assert lost.mask is None
    assert half.mask.any()
    assert (well.mask.any(), other.mask.any()) == (False, False)
    empty = {"other": [1, 1], "sick": [2, 3]}
    assert result.summary["counts"]["masks"] == {"empty": empty, "unusable": 1}
    (line,) = [line for line in lines if "mask_empty" in line]
    assert "3 images" in line
    assert "sick 2 of 3" in line


def test_no_patch_is_cut_where_the_outlines_are_lost_and_no_tile_where_one_is(
    emptied: Path, tmp_path: Path
) -> None:
    result, _ = run(emptied, tmp_path / "out", roi="16x16", roi_shrink=1.0, roi_ratio="1:3")
    assert result.summary["counts"]["failed"] == {"mask_empty": 1}
    tiles = {s.about["parent"] for s in built(tmp_path / "out") if s.about["lesion"] is None}
    assert tiles
    assert not tiles & {"table_0", "table_2"}


def test_an_option_for_masks_where_there_are_none_is_refused(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "raw", "label", {"a#0": None, "b#1": None})
    with pytest.raises(ConfigError, match="no image of this dataset has a mask file"):
        run(folder, tmp_path / "out", mask_values="binary")
    wrong = run_cli(
        "build", "--source", "table", "--input", folder, "--out", tmp_path / "out", "--size",
        "64x128", "--mask-values", "lesions",
    )  # fmt: skip
    assert wrong.returncode == 2
    assert "--mask-values must be binary, instances, classes" in " ".join(wrong.stderr.split())
    assert "Traceback" not in wrong.stderr


def test_a_map_may_stand_in_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "options.toml").write_text('[mask_values]\n1 = "mass"\n"#ff0000" = "ignore"\n')
    given = {"source": "table", "size": "64x128", "config": str(tmp_path / "options.toml")}
    assert options.build_config(given).settings.mask_values == "1=mass,#ff0000=ignore"


# BUSI, whose masks are rewritten in every way


@pytest.fixture(scope="module")
def ultrasound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busi") / "raw"
    phantom.write(folder, patients=3, seed=3, size_scale=0.3)
    return folder


def build_busi(raw: Path, out: Path) -> list[Built]:
    chosen = Settings(size=(96, 96), crop="none", orient="none", folds=3)
    result = build(BuildConfig("busi", chosen, raw, out, workers=1))
    assert result.summary["counts"]["failed"] == {}
    assert "masks" not in result.summary["counts"]
    return built(out)


def turned(flags: np.ndarray) -> Image.Image:
    """A palette whose 0 is white, as programs that make files smaller write it."""
    image = Image.fromarray((~flags).astype(np.uint8), "P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


FORMS: dict[str, Callable[[np.ndarray], Image.Image]] = {
    "16 bit, 255": lambda flags: Image.fromarray(flags.astype(np.uint16) * 255),
    "8 bit, 1": lambda flags: Image.fromarray(flags.astype(np.uint8)),
    "turned palette": turned,
}


@pytest.fixture(scope="module")
def original(ultrasound: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Built]:
    return build_busi(ultrasound, tmp_path_factory.mktemp("busi") / "out")


@pytest.mark.parametrize("form", FORMS)
def test_busi_in_any_form_has_the_masks_that_it_had(
    form: str, ultrasound: Path, original: list[Built], tmp_path: Path
) -> None:
    raw = shutil.copytree(ultrasound, tmp_path / "raw")
    for path in sorted(raw.rglob("*_mask*.png")):
        with Image.open(path) as mask:
            flags = np.asarray(mask.convert("L")) > 0
        FORMS[form](flags).save(path)
    for one, other in zip(build_busi(raw, tmp_path / "out"), original, strict=True):
        assert one.about == other.about
        np.testing.assert_array_equal(one.mask, other.mask)


def test_a_lost_mask_of_busi_is_said_and_that_of_a_normal_is_not(
    ultrasound: Path, tmp_path: Path
) -> None:
    raw = shutil.copytree(ultrasound, tmp_path / "raw")
    (path,) = sorted(raw.rglob("malignant (*_mask.png"))[:1]
    with Image.open(path) as mask:
        Image.new("L", mask.size).save(path)
    chosen = Settings(size=(96, 96), crop="none", orient="none", folds=3)
    result = build(BuildConfig("busi", chosen, raw, tmp_path / "out", workers=1))
    assert set(result.summary["counts"]["masks"]["empty"]) == {"malignant"}
    for sample in built(tmp_path / "out"):
        lost = sample.about["image_id"] in path.name
        assert (sample.about["annotation"] == "unusable") == lost
        assert (sample.mask is None) == lost


def test_lines_say_nothing_where_there_is_nothing_to_say() -> None:
    assert notices_masks.lines({}) == []
