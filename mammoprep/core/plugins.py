"""The folder is the registry: a plug-in is a file, and the file's name is the plug-in's name."""

import difflib
import importlib
import pkgutil
from types import ModuleType

from mammoprep.core.errors import ConfigError


def module_name(name: str) -> str:
    """Return the module name of a plug-in: ``cbis-ddsm`` lives in ``cbis_ddsm.py``."""
    return name.replace("-", "_")


def names(package: str) -> list[str]:
    """Return the plug-in names in ``package``, sorted; files that start with ``_`` are private."""
    folder = importlib.import_module(package).__path__
    found = (module.name for module in pkgutil.iter_modules(folder))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def suggest(name: str, known: list[str]) -> str:
    """Return `` Did you mean 'x'?`` when a known name is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def load(package: str, name: str, *, needs: tuple[str, ...]) -> ModuleType:
    """Import plug-in ``name`` of ``package`` and check that it defines every name in ``needs``.

    Raises:
        ConfigError: no such plug-in (the message suggests the nearest), or it lacks a needed name.
    """
    known = names(package)
    kind = package.rpartition(".")[2].removesuffix("s")
    if name not in known:
        hint = suggest(name, known)
        raise ConfigError(f"Unknown {kind} {name!r}.{hint} Available: {', '.join(known)}.")
    module = importlib.import_module(f"{package}.{module_name(name)}")
    if missing := [attribute for attribute in needs if not hasattr(module, attribute)]:
        raise ConfigError(f"{module.__file__} must define {', '.join(missing)}.")
    return module
