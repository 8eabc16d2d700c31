"""Functions that many tests share: a small build, the hashes of its tree, the command line."""

import hashlib
import subprocess
import sys
from pathlib import Path

from mammoprep.builder import Result, build
from mammoprep.config import BuildConfig, Limits, Settings

SIZE = (64, 128)


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
