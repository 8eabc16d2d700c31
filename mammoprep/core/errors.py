"""Every error that builder and trainer raise on purpose.

::

    MammoError
    +-- ConfigError      the user's options or tables are wrong; nothing was done    exit 2
    +-- RecordError      one input cannot be built; it is recorded, the build goes on
    +-- ResourceError    interrupted, no space, no lock; the build can be resumed    exit 5 or 7
    +-- DamageError      a finished dataset is not what its manifest says            exit 4
    +-- DivergedError    training came to a loss that is no number                   exit 6

Anything else that escapes is a bug and keeps its traceback (exit 1).
"""

EXIT_OK = 0
EXIT_BUG = 1
EXIT_CONFIG = 2
EXIT_FAILURES = 3
EXIT_DAMAGE = 4
EXIT_INTERRUPTED = 5
EXIT_DIVERGED = 6
EXIT_LOCKED = 7


class MammoError(Exception):
    """Base of all errors raised on purpose; carries the exit status of the command."""

    exit_code = EXIT_BUG


class ConfigError(MammoError):
    """An option, a configuration file or an input table is wrong; raised before any work."""

    exit_code = EXIT_CONFIG


class RecordError(MammoError):
    """One input cannot be built.

    Attributes:
        code: Machine-readable reason, ``[a-z_]+``; the codes are listed in ``docs/failures.md``.
        detail: What was expected and what was found. Numbers and tag names only: never a value of a
            header's text, which could identify a person.
    """

    exit_code = EXIT_FAILURES

    def __init__(self, code: str, detail: str) -> None:
        """Remember the code and the detail, and print as both."""
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ResourceError(MammoError):
    """The machine, not the data, stopped the work: disk full, interrupted, folder in use.

    Attributes:
        exit_code: 5 when a plain re-run continues, 7 when another build holds the folder.
    """

    def __init__(self, message: str, exit_code: int = EXIT_INTERRUPTED) -> None:
        """Remember the message and which exit status it stands for."""
        super().__init__(message)
        self.exit_code = exit_code


class DamageError(MammoError):
    """A finished dataset cannot be read as what it says it is."""

    exit_code = EXIT_DAMAGE


class DivergedError(MammoError):
    """Training came to a loss that is no number; the last good checkpoint is kept."""

    exit_code = EXIT_DIVERGED
