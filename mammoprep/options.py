"""Options from the command line and a TOML file -> one checked BuildConfig."""

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import joblib

from mammoprep.config import (
    SETTING_NAMES,
    BuildConfig,
    Settings,
    not_built,
    parse_size,
    read_options,
)
from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammoprep.core.text import visible
from mammoprep.inputs import load_source

PLACES = (
    "source", "input", "out", "workers", "engine", "device", "max_failures", "retry_failed",
    "fresh", "split_file", "table", "key_file", "id_map",
)  # fmt: skip
WHOLE = (
    "bits", "folds", "seed", "shard_size", "limit", "workers", "roi_copies", "header_row",
)  # fmt: skip
PATHS = ("input", "out", "split_file", "table", "key_file", "id_map")


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
    source = str(_need(options, "source", "the dataset's name; mammoprep sources lists them"))
    card = load_source(source)[1]
    size = _size(options)
    defaults = {
        "crop": card.crop,
        "orient": card.orient,
        "input": Path("data/raw") / source,
        "out": Path("data/shards") / source,
        "workers": joblib.cpu_count(),
    }
    values = {**defaults, **{name: _typed(name, value) for name, value in options.items()}}
    settings = {n: v for n, v in values.items() if n in SETTING_NAMES and n not in PLACES}
    return BuildConfig(
        settings=Settings(**{**settings, "size": size}),
        **{name: value for name, value in values.items() if name in PLACES},
    )


def _from_file(path: Path) -> dict[str, Any]:
    table = read_options(path)
    known = sorted({*SETTING_NAMES, *PLACES})
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


def _size(options: dict[str, Any]) -> tuple[int, int]:
    """Return the size of the finished images: of the patches, where there is ``--roi``."""
    if "roi" not in options:
        if extra := sorted(name for name in options if name.startswith("roi_")):
            raise ConfigError(f"--{extra[0].replace('_', '-')} is for --roi WxH, which is missing.")
        return parse_size(
            str(_need(options, "size", "width x height in pixels, such as 728x1456")), "--size"
        )
    roi = parse_size(str(options["roi"]), "--roi")
    if "size" in options and parse_size(str(options["size"]), "--size") != roi:
        raise ConfigError("--roi WxH is the size of the patches: leave --size out.")
    return roi


def _pairs(option: str, form: str, example: str) -> Callable[[Any], dict[str, str]]:
    """Return a reader of pairs such as ``NAME=VALUE,...``, or of a table of a TOML file."""

    def read(value: Any) -> dict[str, str]:
        if isinstance(value, Mapping):
            return {str(name): str(text) for name, text in sorted(value.items())}
        pairs = [part.partition("=") for part in str(value).split(",")]
        names = {name.strip() for name, sign, _ in pairs if sign}
        if "" in names or len(names) != len(pairs):
            table, name = (
                option.removeprefix("--").replace("-", "_"),
                form.partition("=")[0].lower(),
            )
            raise ConfigError(
                f"{option} must be {form},... such as {example}, each {name} once; got {value!r}. "
                f"Names with a comma can be given in a [{table}] table of the --config file."
            )
        return {name.strip(): text.strip() for name, _, text in sorted(pairs)}

    return read


def _views(value: Any) -> tuple[str, ...]:
    """Return views from ``CC,MLO`` or from a list of a TOML file."""
    names = value if isinstance(value, list) else str(value).split(",")
    return tuple(sorted({str(name).strip().upper() for name in names}))


def _number(option: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        try:
            return float(value)
        except ValueError:
            raise ConfigError(f"{option} must be a number such as 0.1, got {value!r}.") from None

    return read


def _names(value: Any) -> tuple[str, ...]:
    """Return names from ``negative,cancer`` or from a list of a TOML file."""
    names = value if isinstance(value, list) else str(value).split(",")
    found = tuple(str(name).strip() for name in names)
    if not all(found) or len(set(found)) != len(found):
        raise ConfigError(
            f"--label-names must be different names such as negative,cancer; got {value!r}."
        )
    return found


PARSED = {
    "columns": _pairs("--columns", "MEANING=COLUMN", "path=file,label=cancer"),
    "crop_margin": _number("--crop-margin"),
    "label_map": _pairs("--label-map", "LABEL=CLASS", "B2=benign,B5=malignant"),
    "label_names": _names,
    "mask_values": lambda value: (
        ",".join(f"{number}={name}" for number, name in value.items())
        if isinstance(value, Mapping)
        else str(value)
    ),
    "views": _views,
    "mm_per_pixel": _number("--mm-per-pixel"),
    "roi": lambda value: parse_size(str(value), "--roi"),
    "roi_padding": _number("--roi-padding"),
    "roi_shrink": _number("--roi-shrink"),
}


def _place(name: str, text: str) -> Path:
    """Return a path that can be one; whether anything is there is for others to say."""
    try:
        os.stat(text)  # noqa: PTH116 - of any text
    except ValueError as error:
        problem: str | None = str(error)
    except OSError as error:
        impossible = error.errno in (errno.ENAMETOOLONG, errno.ELOOP)
        problem = os.strerror(error.errno or 0) if impossible else None
    else:
        problem = None
    if problem is not None:
        option = name.replace("_", "-")
        raise ConfigError(f"--{option} cannot be a path ({problem}): {visible(text[:80])}")
    return Path(text)


def _typed(name: str, value: Any) -> Any:
    if name in PARSED:
        return PARSED[name](value)
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
        return _place(name, text)
    if name in ("retry_failed", "fresh", "intersection"):
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false, got {value!r}.")
        return value
    return str(value)
