"""What every source promises; a new source is covered by existing."""

import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from helpers import tree_of

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards, plugins
from mammoprep.core.codes import CODES
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import ANNOTATIONS, COMMON_LABELS, KEY_LIMIT, LATERALITIES
from mammoprep.inputs import Inputs, load_source, read_inputs
from mammoprep.samples import read_samples
from mammoprep.splits import OFFICIAL

SOURCES = plugins.names("mammoprep.sources")
LAYOUTS = plugins.names("mammoprep.phantoms")
PYTHON = {"bool": bool, "int": int, "float": float, "str": str}

KEY = bytes(range(32))
WITHOUT_TABLE = {"busi", "dicom"}
OPTIONAL = {"mini-ddsm": (".OVERLAY",)}  # damaged counts as absent: the drawn outline is taken

pytestmark = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture
def folder(name: str, once: Callable[[Any, Any], Path]) -> Path:
    """The source's own data: its phantom layout, or what the source provides itself; read only."""

    def make(home: Path) -> None:
        if name in LAYOUTS:
            phantom = plugins.load("mammoprep.phantoms", name, needs=("write",))
            phantom.write(home / name, patients=5, seed=1, size_scale=0.04)
        else:
            load_source(name)[0].provide(home / name)

    return once(["source", name], make) / name


@pytest.fixture
def inputs(name: str, folder: Path) -> Inputs:
    return read(name, folder)


@pytest.fixture
def whole(name: str, folder: Path, once: Callable[[Any, Any], Path]) -> Path:
    """The data, built by two workers; read only."""

    def make(home: Path) -> None:
        home.mkdir()
        build(config(name, folder, home / "out", 2))

    return once(["source, built", name], make) / "out"


def config(name: str, folder: Path, out: Path, workers: int) -> BuildConfig:
    settings = Settings(size=(64, 128), folds=2, limit=12)
    key = None
    if cards.load(name).keyed:
        key = out.parent / "my.key"
        key.write_bytes(KEY)
    return BuildConfig(name, settings, folder, out, workers=workers, key_file=key)


def read(name: str, folder: Path) -> Inputs:
    own = {"secret": KEY.hex()} if cards.load(name).keyed else {}
    return read_inputs(name, folder, own=own)


def test_keys_are_legal_and_unique(name: str, inputs: Inputs) -> None:
    keys = [record.key for record in inputs.records]
    assert len(set(keys)) == len(keys) > 0
    for key in keys:
        assert re.fullmatch(r"[a-z0-9_-]+", key)
        assert key.startswith(name)
        assert len(key) <= KEY_LIMIT


def test_inputs_stay_inside_the_folder_and_exist(name: str, inputs: Inputs) -> None:
    for record in inputs.records:
        path = PurePosixPath(record.input)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert inputs.sizes[record.input] > 0


def test_labels_have_the_names_and_types_of_the_card(name: str, inputs: Inputs) -> None:
    card = inputs.card
    for record in inputs.records:
        assert list(record.labels) == list(card.labels)
        for label, value in record.labels.items():
            assert value is None or type(value) is PYTHON[card.labels[label]], label


def test_every_common_label_is_there(name: str, inputs: Inputs) -> None:
    assert set(COMMON_LABELS) <= set(inputs.card.labels)


def test_targets_are_class_numbers_of_the_card(name: str, inputs: Inputs) -> None:
    classes = inputs.card.targets[inputs.card.target]
    for record in inputs.records:
        assert record.label is None or 0 <= record.label < len(classes)
        assert record.split is None or record.split in OFFICIAL
        assert record.laterality in (*LATERALITIES, None)
        assert record.annotation in ANNOTATIONS
        assert record.source == name
        assert record.group


def test_reading_twice_gives_the_same_records(name: str, inputs: Inputs, folder: Path) -> None:
    assert read(name, folder).records == inputs.records


def test_the_card_tells_where_the_data_comes_from(name: str) -> None:
    card = cards.load(name)
    assert card.title
    assert card.licence
    assert card.obtain
    assert card.truth
    assert card.target in card.targets
    assert card.home_page.startswith("https://") or name == "demo"


def test_a_build_is_the_same_for_one_and_two_workers_and_accounts_for_everything(
    name: str, folder: Path, whole: Path, tmp_path: Path
) -> None:
    result = build(config(name, folder, tmp_path / "out", 1))
    assert tree_of(tmp_path / "out") == tree_of(whole)
    counts = result.summary["counts"]
    failed, excluded = sum(counts["failed"].values()), sum(counts["excluded"].values())
    assert counts["inputs"] == counts["built"] + failed + excluded
    assert counts["built"] > 0


def test_groups_stay_whole_and_samples_are_what_the_table_says(name: str, whole: Path) -> None:
    summary, rows = read_samples(whole)
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        sides[row["group"]].add(row["split"])
        assert row["label_name"] == (
            None if row["label"] is None else summary["label_names"][row["label"]]
        )
        assert not row["augmented"]
        masked = row.get("mask.png.offset") is not None
        assert masked or not row["rois"], "an outline without a mask"
        assert masked or row["annotation"] != "full", "looked at, and no mask says so"
    assert all(len(found) == 1 for found in sides.values())


@pytest.mark.slow
def test_a_damaged_image_fails_with_a_code_and_costs_nothing_else(
    name: str, folder: Path, whole: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "raw"
    shutil.copytree(folder, copied)
    victim = victim_of(name, copied, whole)
    if victim is None:
        pytest.skip("no key leads to a file of its own; its own tests damage those")
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size * 2 // 3])
    before = read_samples(whole)[0]["counts"]
    counts = build(config(name, copied, tmp_path / "out", 2)).summary["counts"]
    assert sum(counts["failed"].values()) == sum(before["failed"].values()) + 1
    assert counts["built"] == before["built"] - 1
    assert set(counts["failed"]) <= set(CODES)


def victim_of(name: str, folder: Path, out: Path) -> Path | None:
    """Return the file of an image that was built."""
    inputs = read(name, folder)
    built = {row["key"] for row in read_samples(out)[1]}
    root = Path(inputs.tree.locator()["path"])
    for record in inputs.records:
        if record.key in built and "!" not in record.input:
            return root / record.input
    return None


@pytest.mark.slow
def test_a_table_of_rubbish_is_refused_by_its_name(
    name: str, inputs: Inputs, tmp_path: Path
) -> None:
    pictures = {file for record in inputs.records for file in record.files}
    pictures = {file.split("!")[0] for file in pictures} if name != "ddsm" else set()
    root = Path(inputs.tree.locator()["path"])
    tables = [path for path in sorted(root.rglob("*")) if path.is_file()]
    tables = [path for path in tables if path.relative_to(root).as_posix() not in pictures]
    refused = []
    for number, path in enumerate(tables):
        folder = tmp_path / str(number)
        shutil.copytree(root, folder)
        (folder / path.relative_to(root)).write_bytes(b"\xff\x00 rubbish \x01" * 40)
        try:
            found = read(name, folder).records
        except ConfigError as error:
            refused.append((path.name, str(error)))
        else:
            changed = [now for now, was in zip(found, inputs.records, strict=True) if now != was]
            alone = len(changed) <= 1 and all(record.failed for record in changed)
            assert alone or path.suffix in OPTIONAL.get(name, ())
        shutil.rmtree(folder)
    assert all(file in message for file, message in refused)
    assert refused or name in WITHOUT_TABLE


def test_an_empty_folder_is_refused_with_what_was_expected(name: str, tmp_path: Path) -> None:
    if hasattr(load_source(name)[0], "provide"):
        pytest.skip("makes its own data")
    with pytest.raises(ConfigError, match="Expected"):
        read(name, tmp_path)
