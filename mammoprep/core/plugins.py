"""The folder is the registry: a plug-in is a file, and the file's name is the plug-in's name."""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Sequence
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


SHORTEST = 4  # letters of a name that counts as a part of another one


def suggest(name: str, known: Sequence[str]) -> str:
    """Return `` Did you mean 'x'?`` when a known name is close to ``name``, else nothing."""
    close = nearest(name, known)
    return "" if close is None else f" Did you mean {close!r}?"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that is closest to ``name``, or None.

    The same but for case and what stands between words comes first (``RSNA``, ``cbis_ddsm``), then
    the same words in another order (``ddsm-mini``), then a name that is a part of the other
    (``mini-mias``, ``cbis``), the longest one, and at last one that is spelled much like it.
    """
    letters, words = _letters(name), _words(name)
    for other in known:
        if _letters(other) == letters != "":
            return other
    for other in known:
        if sorted(_words(other)) == sorted(words) != []:
            return other
    parts = [other for other in known if _is_part(_letters(other), letters)]
    if parts:
        return min(parts, key=lambda other: abs(len(_letters(other)) - len(letters)))
    close = difflib.get_close_matches(name.lower(), [other.lower() for other in known], n=1)
    return next((other for other in known if other.lower() in close), None)


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+|[0-9]+", name.lower())


def _letters(name: str) -> str:
    return "".join(_words(name))


def _is_part(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= SHORTEST and short in long


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
