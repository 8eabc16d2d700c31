"""Synthetic datasets and small helpers that many tests share."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mammoprep.builder import Result, build
from mammoprep.config import BuildConfig, Limits, Settings
from mammoprep.phantom import rsna as rsna_phantom

SIZE = (64, 128)


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


def config(raw: Path, out: Path, **changes: object) -> BuildConfig:
    """Return the configuration of a small fast build; settings and places by name."""
    settings = {"size": SIZE, "folds": 3, "shard_size": 4}
    places: dict[str, object] = {"workers": 2, "limits": Limits()}
    for name, value in changes.items():
        target = places if name in BuildConfig.__dataclass_fields__ else settings
        target[name] = value
    return BuildConfig(source="rsna", settings=Settings(**settings), input=raw, out=out, **places)  # type: ignore[arg-type]


def run_build(raw: Path, out: Path, **changes: object) -> Result:
    """Build and return the result."""
    return build(config(raw, out, **changes))


def tree_of(out: Path) -> dict[str, str]:
    """Return relative path -> SHA-256 of every file but build.json, the lock's content too."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "build.json"
    }


def run_cli(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "mammoprep", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,  # type: ignore[call-overload]
    )
