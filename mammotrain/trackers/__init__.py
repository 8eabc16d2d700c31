"""Trackers: where a run's numbers also go. One file each: the file's name is the recipe's name.

A tracker's module has ``NEEDS``, its package and the extra that installs it, and
``open(out, table) -> Tracker`` (see ``_base``); ``table`` is the resolved recipe. Only numbers and
words of settings leave a run, never a sample's key and never a path.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from mammotrain.watching import Watcher

PACKAGE = "mammotrain.trackers"


def check(names: Sequence[str]) -> None:
    """Look before any work whether these trackers can be used.

    Raises:
        ConfigError: no such tracker, or its package is not installed.
    """
    for name in names:
        package, extra = plugins.load(PACKAGE, name, needs=("NEEDS", "open")).NEEDS
        if find_spec(package) is None:
            raise ConfigError(
                f"train.track: {name!r} needs the package {package}. "
                f"Install it with: pip install 'mammoprep[{extra}]'"
            )


@contextmanager
def opened(
    names: Sequence[str], out: Path, table: dict[str, Any], inner: "Watcher | None" = None
) -> Iterator["Watcher"]:
    """Lend a watcher that passes everything on to ``inner`` and to the trackers of these names.

    They are opened when training starts; ``start`` raises ConfigError when one cannot be used. One
    that fails later is given up with a warning: ``log.jsonl`` has every number.

    Args:
        names: Trackers.
        out: The run's folder.
        table: The resolved recipe, as ``config.toml`` holds it.
        inner: Who else is told, and hears the warnings.

    Raises:
        ConfigError: as ``check`` does.
    """
    from mammotrain.trackers._base import All

    check(names)
    modules = {name: plugins.load(PACKAGE, name, needs=()) for name in names}
    makers = {name: partial(module.open, out, table) for name, module in modules.items()}
    told, status = All(makers, inner), "failed"
    try:
        yield told
        status = "finished"
    except ResourceError:
        status = "stopped"
        raise
    finally:
        told.close(status)
