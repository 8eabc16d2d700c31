"""Options from the command line and a TOML file -> one checked BuildConfig."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib

from mammoprep.config import (
    NOT_BUILT,
    SETTING_NAMES,
    BuildConfig,
    Settings,
    not_built,
    parse_size,
    read_options,
)
from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammoprep.inputs import load_source

PLACES = (
    "source", "input", "out", "workers", "engine", "device", "max_failures", "retry_failed",
    "fresh", "split_file",
)  # fmt: skip
WHOLE = ("bits", "folds", "seed", "shard_size", "limit", "workers")
PATHS = ("input", "out", "split_file")


def build_config(given: Mapping[str, Any]) -> BuildConfig:
    """Return the configuration of a build.

    Args:
        given: Option name with ``_`` -> value as typed; None where the option was left out.
            ``config`` names a TOML file with further options; those given here win.

    Raises:
        ConfigError: an unknown or missing option, or a bad value.
    """
    options = {name: value for name, value in given.items() if value is not None}
    path = options.pop("config", None)
    if path is not None:
        options = {**_from_file(Path(path)), **options}
    for name, (default, part) in NOT_BUILT.items():
        if options.pop(name, default) != default:
            raise not_built(name, given.get(name), part)
    source = str(_need(options, "source", "the dataset's name; mammoprep sources lists them"))
    card = load_source(source)[1]
    size = parse_size(str(_need(options, "size", "width x height in pixels, such as 728x1456")))
    defaults = {
        "crop": card.crop,
        "orient": card.orient,
        "input": Path("data/raw") / source,
        "out": Path("data/shards") / source,
        "workers": joblib.cpu_count(),
    }
    values = {**defaults, **{name: _typed(name, value) for name, value in options.items()}}
    settings = {n: v for n, v in values.items() if n in SETTING_NAMES and n != "split_file"}
    return BuildConfig(
        settings=Settings(**{**settings, "size": size}),
        **{name: value for name, value in values.items() if name in PLACES},
    )


def _from_file(path: Path) -> dict[str, Any]:
    table = read_options(path)
    known = sorted({*SETTING_NAMES, *PLACES, *NOT_BUILT})
    for name in table:
        if name not in known:
            hint = plugins.suggest(name, known)
            raise ConfigError(
                f"--config {path}: unknown option {name!r}.{hint} Known: {', '.join(known)}."
            )
    return table


def _need(options: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in options:
        raise ConfigError(f"--{name} is missing: {what}.")
    return options[name]


def _typed(name: str, value: Any) -> Any:
    if name in WHOLE:
        try:
            return int(str(value))
        except ValueError:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} must be a whole number, got {value!r}.") from None
    if name in PATHS:
        text = str(value)
        if "://" in text:
            raise not_built(name, text, "reading from and writing to URLs")
        return Path(text)
    if name in ("retry_failed", "fresh"):
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false, got {value!r}.")
        return value
    return str(value)
