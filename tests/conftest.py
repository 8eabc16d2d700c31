"""Synthetic datasets and small helpers that many tests share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import run_build

import mammoprep
from mammoprep.phantoms import rsna as rsna_phantom


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files, named by MAMMO_REAL_DATA; tests that need it skip without."""
    folder = os.environ.get("MAMMO_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MAMMO_REAL_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def phantom_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom in the layout of rsna; read only."""
    folder = tmp_path_factory.mktemp("phantom") / "rsna"
    rsna_phantom.write(folder, patients=8, seed=7, size_scale=0.05, prevalence=0.3)
    return folder


@pytest.fixture
def phantom(phantom_once: Path, tmp_path: Path) -> Path:
    """A copy of the small phantom that a test may change."""
    folder = tmp_path / "raw"
    shutil.copytree(phantom_once, folder)
    return folder


@pytest.fixture(scope="session")
def built_once(phantom_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom, built; read only."""
    out = tmp_path_factory.mktemp("built") / "shards"
    run_build(phantom_once, out)
    return out


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """A copy of the built phantom that a test may damage."""
    out = tmp_path / "shards"
    shutil.copytree(built_once, out)
    return out


@pytest.fixture(scope="session")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of lesion patches and background tiles of a phantom, 48 x 48; read only."""
    home = tmp_path_factory.mktemp("patches")
    mammoprep.phantom("inbreast", home / "raw", patients=16, seed=2, size_scale=0.08)
    mammoprep.build(
        source="inbreast", input=home / "raw", out=home / "shards", roi="48x48", roi_shrink=1,
        folds=3, workers=1,
    )  # fmt: skip
    return home / "shards"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Hold the number of torch's threads: another one would change the last bits of a loss."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
