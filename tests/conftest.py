"""Synthetic datasets and small helpers that many tests share."""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from helpers import run_build

import mammoprep
from mammoprep.phantoms import rsna as rsna_phantom

# Tests load some of its scripts, and these import what lies beside them.
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files, named by MAMMO_REAL_DATA; tests that need it skip without."""
    folder = os.environ.get("MAMMO_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MAMMO_REAL_DATA is not set")
    return Path(folder)


Make = Callable[[Path], None]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any, Make], Path]:
    """``once(what, make)``: a folder that ``make`` fills once for all test processes; read only.

    What is made is told apart by ``what``, plain values.
    """
    own = tmp_path_factory.getbasetemp()
    shelf = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "once"
    shelf.mkdir(exist_ok=True)

    def found(what: Any, make: Make) -> Path:
        name = sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
        folder, done = shelf / name, shelf / f"{name}.done"
        with (shelf / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not done.is_file():
                shutil.rmtree(folder, ignore_errors=True)  # another process has failed here
                make(folder)
                done.touch()
        return folder

    return found


@pytest.fixture(scope="session")
def phantom_once(once: Callable[[Any, Make], Path]) -> Path:
    """A small phantom in the layout of rsna; read only."""
    return once(
        "phantom",
        lambda folder: rsna_phantom.write(
            folder, patients=8, seed=7, size_scale=0.05, prevalence=0.3
        ),
    )


@pytest.fixture
def phantom(phantom_once: Path, tmp_path: Path) -> Path:
    """A copy of the small phantom that a test may change."""
    folder = tmp_path / "raw"
    shutil.copytree(phantom_once, folder)
    return folder


@pytest.fixture(scope="session")
def built_once(phantom_once: Path, once: Callable[[Any, Make], Path]) -> Path:
    """The phantom, built; read only."""

    def make(out: Path) -> None:
        run_build(phantom_once, out)

    return once("built", make)


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """A copy of the built phantom that a test may damage."""
    out = tmp_path / "shards"
    shutil.copytree(built_once, out)
    return out


@pytest.fixture(scope="session")
def patches(once: Callable[[Any, Make], Path]) -> Path:
    """Shards of lesion patches and background tiles of a phantom, 48 x 48; read only."""

    def make(home: Path) -> None:
        mammoprep.phantom("inbreast", home / "raw", patients=16, seed=2, size_scale=0.08)
        mammoprep.build(
            source="inbreast", input=home / "raw", out=home / "shards", roi="48x48", roi_shrink=1,
            folds=3, workers=1,
        )  # fmt: skip

    return once("patches", make) / "shards"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Hold the number of torch's threads: another one would change the last bits of a loss."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
