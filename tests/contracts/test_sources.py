"""What every source promises; a new source is covered by existing."""

import re
from pathlib import Path, PurePosixPath

import pytest
from helpers import tree_of

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards, plugins
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import ANNOTATIONS, COMMON_LABELS, KEY_LIMIT, LATERALITIES
from mammoprep.inputs import Inputs, load_source, read_inputs
from mammoprep.splits import OFFICIAL

SOURCES = plugins.names("mammoprep.sources")
LAYOUTS = plugins.names("mammoprep.phantoms")
PYTHON = {"bool": bool, "int": int, "float": float, "str": str}

pytestmark = pytest.mark.parametrize("name", SOURCES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each source's own data: its phantom layout, or what the source provides itself."""
    made = {}
    for name in SOURCES:
        made[name] = tmp_path_factory.mktemp("source") / name
        if name in LAYOUTS:
            phantom = plugins.load("mammoprep.phantoms", name, needs=("write",))
            phantom.write(made[name], patients=5, seed=1, size_scale=0.04)
        else:
            load_source(name)[0].provide(made[name])
    return made


@pytest.fixture(scope="module")
def inputs(folders: dict[str, Path]) -> dict[str, Inputs]:
    return {name: read_inputs(name, folder) for name, folder in folders.items()}


def config(name: str, folder: Path, out: Path, workers: int) -> BuildConfig:
    settings = Settings(size=(64, 128), folds=2, limit=12)
    return BuildConfig(source=name, settings=settings, input=folder, out=out, workers=workers)


def test_keys_are_legal_and_unique(name: str, inputs: dict[str, Inputs]) -> None:
    keys = [record.key for record in inputs[name].records]
    assert len(set(keys)) == len(keys) > 0
    for key in keys:
        assert re.fullmatch(r"[a-z0-9_-]+", key)
        assert key.startswith(name)
        assert len(key) <= KEY_LIMIT


def test_inputs_stay_inside_the_folder_and_exist(name: str, inputs: dict[str, Inputs]) -> None:
    for record in inputs[name].records:
        path = PurePosixPath(record.input)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert inputs[name].sizes[record.input] > 0


def test_labels_have_the_names_and_types_of_the_card(name: str, inputs: dict[str, Inputs]) -> None:
    card = inputs[name].card
    for record in inputs[name].records:
        assert list(record.labels) == list(card.labels)
        for label, value in record.labels.items():
            assert value is None or type(value) is PYTHON[card.labels[label]], label


def test_every_common_label_is_there(name: str, inputs: dict[str, Inputs]) -> None:
    assert set(COMMON_LABELS) <= set(inputs[name].card.labels)


def test_targets_are_class_numbers_of_the_card(name: str, inputs: dict[str, Inputs]) -> None:
    classes = inputs[name].card.targets[inputs[name].card.target]
    for record in inputs[name].records:
        assert record.label is None or 0 <= record.label < len(classes)
        assert record.split is None or record.split in OFFICIAL
        assert record.laterality in (*LATERALITIES, None)
        assert record.annotation in ANNOTATIONS
        assert record.source == name
        assert record.group


def test_reading_twice_gives_the_same_records(
    name: str, inputs: dict[str, Inputs], folders: dict[str, Path]
) -> None:
    assert read_inputs(name, folders[name]).records == inputs[name].records


def test_the_card_tells_where_the_data_comes_from(name: str) -> None:
    card = cards.load(name)
    assert card.title
    assert card.licence
    assert card.obtain
    assert card.truth
    assert card.target in card.targets
    assert card.home_page.startswith("https://") or name == "demo"


def test_a_build_is_the_same_for_one_and_two_workers_and_accounts_for_everything(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    results = [build(config(name, folders[name], tmp_path / str(n), n)) for n in (1, 2)]
    assert tree_of(tmp_path / "1") == tree_of(tmp_path / "2")
    counts = results[0].summary["counts"]
    failed, excluded = sum(counts["failed"].values()), sum(counts["excluded"].values())
    assert counts["inputs"] == counts["built"] + failed + excluded
    assert counts["built"] > 0


def test_an_empty_folder_is_refused_with_what_was_expected(name: str, tmp_path: Path) -> None:
    if hasattr(load_source(name)[0], "provide"):
        pytest.skip("makes its own data")
    with pytest.raises(ConfigError, match="Expected"):
        read_inputs(name, tmp_path)
