"""What settings are checked by before any work."""

from collections.abc import Iterable

from mammoprep.core.errors import ConfigError
from mammoprep.core.plugins import suggest


def one_of(where: str, value: str, known: Iterable[str]) -> None:
    """Check that a setting has a known value.

    Args:
        where: What the user calls the setting, such as ``train.amp`` or ``--by``.
        value: What was given.
        known: What there is.

    Raises:
        ConfigError: it is none of them, with the nearest one.
    """
    names = list(known)
    if value not in names:
        hint = suggest(value, names)
        raise ConfigError(f"{where} must be one of {', '.join(names)}; got {value!r}.{hint}")
