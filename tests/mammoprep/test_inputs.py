"""Finding a dataset: what was expected, what was found, and which source it looks like."""

import zipfile
from pathlib import Path

import pytest

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammoprep.core.tree import open_tree
from mammoprep.inputs import read_inputs

LAYOUTS = ("rsna", "vindr", "inbreast", "table")
TABLES = {
    "rsna": "train.csv",
    "vindr": "breast-level_annotations.csv",
    "inbreast": "INbreast.csv",
    "table": "table.csv",
}


def refusal(source: str, path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_inputs(source, path)
    return str(caught.value)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("below", [False, True])
def test_another_datasets_folder_is_named(name: str, below: bool, tmp_path: Path) -> None:
    folder = tmp_path / "download" if below else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / TABLES[name]).touch()
    other = "vindr" if name == "rsna" else "rsna"
    message = refusal(other, tmp_path)
    assert f"does not look like {other} (found " in message
    assert f"it looks like {name}: try --source {name})" in message
    assert f"Expected, in it or one folder below:\n{TABLES[other]}" in message


def test_several_fitting_sources_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "table.csv").touch()
    (tmp_path / "INbreast.csv").touch()
    assert "it looks like inbreast or table: try --source inbreast)" in refusal("rsna", tmp_path)


def test_folders_and_files_that_were_found_are_listed_and_counted(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").touch()
    (tmp_path / "scans").mkdir()
    message = refusal("rsna", tmp_path)
    assert "(found scans/, 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt and 3 more)" in message
    assert "it looks like" not in message


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert "(found nothing)" in refusal("rsna", tmp_path)


def test_a_zip_is_looked_at_in_the_same_way(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        file.writestr("INbreast.csv", "")
        file.writestr("ALL-XML/1.xml", "")
    message = refusal("rsna", tmp_path / "data.zip")
    assert "(found ALL-XML/, INbreast.csv; it looks like inbreast: try" in message
    assert open_tree(tmp_path / "data.zip").files() == ["INbreast.csv"]


def test_no_source_takes_an_empty_folder_for_its_own(tmp_path: Path) -> None:
    for name in plugins.names("mammoprep.sources"):
        module = plugins.load("mammoprep.sources", name, needs=("locate",))
        assert module.locate(open_tree(tmp_path)) is None


NEAREST = {
    "RSNA": "rsna",
    "Rsna ": "rsna",
    "mini-mias": "mias",
    "MiniMIAS": "mias",
    "CBIS": "cbis-ddsm",
    "cbis_ddsm": "cbis-ddsm",
    "ddsm-mini": "mini-ddsm",
    "MiniDDSM": "mini-ddsm",
    "vindr-mammo": "vindr",
    "VinDr": "vindr",
    "inbreast2": "inbreast",
    "INbreast": "inbreast",
    "rsna-breast-cancer-detection": "rsna",
    "oxford_flowers102": "flowers",
    "tabel": "table",
    "DICOMs": "dicom",
    "cmdd": "cmmd",
}


@pytest.mark.parametrize("name", NEAREST)
def test_an_unknown_source_names_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{NEAREST[name]}'"):
        plugins.load("mammoprep.sources", name, needs=())


@pytest.mark.parametrize("name", ["", "-", "zzz", "brca", "左"])
def test_a_name_like_no_other_has_no_suggestion(name: str) -> None:
    assert plugins.suggest(name, plugins.names("mammoprep.sources")) == ""
