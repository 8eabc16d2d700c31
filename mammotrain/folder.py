"""The folder of a run: who holds it, what was asked for, where it ran, and its log."""

import csv
import fcntl
import json
import os
import platform
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

import torch

from mammoprep.core.errors import EXIT_LOCKED, ConfigError, ResourceError
from mammotrain.data.shards import difference
from mammotrain.data.splits import Roles

CONFIG, LOG, ENV, LOCK = "config.toml", "log.jsonl", "env.json", ".lock"
GROUPS = "groups.csv"
CHECKPOINTS = "checkpoints"
PACKAGES = (
    "mammoprep", "torch", "torchvision", "timm", "numpy", "opencv-python-headless", "scikit-learn",
    "safetensors", "pyarrow",
)  # fmt: skip
# What may change when a run goes on: for how long, who is told, and what happened before it began.
FREE = (
    "train.epochs", "train.max_steps", "train.track", "train.pretrained_fallback",
    "data.look_alikes",
)  # fmt: skip
Line = Mapping[str, Any]
Group = tuple[str, str]  # source, group


def check_free(out: Path, *, resume: bool | None) -> None:
    """Check that a run may have a folder, before any long work; raises ConfigError.

    Args:
        out: The folder.
        resume: Whether to go on there; None for a command that cannot.
    """
    if out.is_dir() and not resume and any(path.name != LOCK for path in out.iterdir()):
        goes_on = resume is not None and (out / CONFIG).is_file()
        other = ", or --resume to go on there" if goes_on else ""
        raise ConfigError(f"{out} is not empty. Give another --out{other}.")


def check_new_file(option: str, path: Path) -> None:
    """Check that an option names a file that can be made, before any work; raises ConfigError."""
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{option} {path} must be a file in an existing folder.")
    if path.exists():
        raise ConfigError(f"{path} exists. Give another {option}, or remove it.")


@contextmanager
def held(out: Path, *, resume: bool | None) -> Iterator[None]:
    """Hold a run's folder: new or empty, or, to go on, that of the same run.

    Args:
        out: The folder.
        resume: Whether to go on there; None for a command that cannot.

    Raises:
        ConfigError: it holds something and ``resume`` is not given.
        ResourceError: another run holds it.
    """
    check_free(out, resume=resume)
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ResourceError(f"Another run holds {out}.", EXIT_LOCKED) from None
        yield


def write_config(out: Path, table: Mapping[str, Any], *, resume: bool) -> None:
    """Write the resolved recipe; when going on, check that it is the same.

    Raises:
        ConfigError: the folder holds a run with other settings, with the difference.
    """
    if resume and (changed := changes(out, table)):
        raise ConfigError(f"{out} holds a run with other settings: {'; '.join(changed)}.")
    (out / CONFIG).write_text(to_toml(table), encoding="utf-8")


def changes(out: Path, table: Mapping[str, Any]) -> list[str]:
    """Return ``name: old -> new`` for settings that a folder's run has otherwise; none without."""
    if not (then := read_config(out)):
        return []
    old, new = (
        {name: value for name, value in flat(each).items() if name not in FREE}
        for each in (then, tomllib.loads(to_toml(table)))
    )
    return difference(old, new)


def read_config(out: Path) -> dict[str, Any]:
    """Return the resolved recipe of a run's folder, or nothing where there is none."""
    path = out / CONFIG
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_groups(out: Path, columns: Mapping[str, Any], roles: Roles) -> None:
    """Write which groups trained, validated and were scored, a line each, sorted."""
    told = {"train": roles.train, "validate": roles.validate, "score": roles.scored}
    rows = {
        (str(columns["source"][row]), str(columns["group"][row]), role)
        for role, places in told.items()
        for row in places
    }
    partial = out / f".{GROUPS}.part"
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("source", "group", "role"))
        writer.writerows(sorted(rows))
    partial.replace(out / GROUPS)


def taught(place: Path) -> frozenset[Group]:
    """Return the groups that a run has learned from, or chose its threshold on.

    Raises:
        ConfigError: ``groups.csv`` of its folder cannot be read.
    """
    path = place / GROUPS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return frozenset(
            pair(row["source"], row["group"]) for row in rows if row["role"] != "score"
        )
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}).") from None


def pair(source: str, group: str) -> Group:
    """Return a group's name apart from that of its source, which tables of several sources add."""
    return source, group.removeprefix(f"{source}/")


def pairs(columns: Mapping[str, Any]) -> list[Group]:
    """Return source and group of every sample of a table; see ``pair``."""
    both = zip(columns["source"], columns["group"], strict=True)
    return [pair(str(source), str(group)) for source, group in both]


def flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return a nested table with dotted names."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def to_toml(table: Mapping[str, Any], path: str = "") -> str:
    """Return plain values as TOML: texts, numbers, truth values, lists, tables of these."""
    plain = [f"{k} = {toml_value(v)}" for k, v in table.items() if not isinstance(v, Mapping)]
    lines = [f"[{path}]", *plain] if path else plain
    parts = ["\n".join(lines)] if plain or path else []
    for name, value in table.items():
        if isinstance(value, Mapping):
            parts.append(to_toml(value, f"{path}.{name}" if path else name))
    return "\n\n".join(parts) + ("" if path else "\n")


def toml_value(value: Any) -> str:
    """Return one plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return json.dumps(str(value))  # a JSON text is a TOML text


def write_env(out: Path, device: torch.device, ranks: int) -> None:
    """Write where this ran: machine, versions, device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "device_name": name,
        "ranks": ranks,
        "packages": {package: _version(package) for package in PACKAGES},
    }
    (out / ENV).write_text(json.dumps(found, indent=1) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read_log(out: Path) -> list[dict[str, Any]]:
    """Return the lines of log.jsonl; a last line that was cut off is left out."""
    path = out / LOG
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def cut_log(out: Path, step: int) -> None:
    """Take back what was logged after a step: it will be done again."""
    kept = [line for line in read_log(out) if line["step"] <= step]
    part = out / f".{LOG}.part"
    part.write_text("".join(json.dumps(line) + "\n" for line in kept))
    part.replace(out / LOG)


class Log:
    """``log.jsonl`` of a run, opened at its first line; every line is in the file at once."""

    def __init__(self, out: Path) -> None:
        """Remember where it lies."""
        self._path = out / LOG
        self._file: TextIO | None = None

    def add(self, line: Line) -> None:
        """Append a line."""
        if self._file is None:  # not before: what was done again is cut off first
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
        self._file.write(json.dumps(line, allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
