"""Weights & Biases: online with a key, else offline in ``OUT/wandb``, or as WANDB_MODE says."""

import os
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from mammoprep.core.errors import ConfigError
from mammotrain.trackers._base import Buffered, Point, Tracker, settings, title

NEEDS = ("wandb", "wandb")
HOST = "https://api.wandb.ai"
KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
# What it would collect by itself: output (an error names keys), command line, paths, machine, user.
PRIVATE: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "email": "",
    "host": "",
    "program": "",
    "username": "",
}
FINISH_SECONDS = 60  # what is not sent by then stays in OUT/wandb


class Run(Buffered):
    """One run of Weights & Biases."""

    def __init__(self, out: Path, table: Mapping[str, Any]) -> None:
        """Go on with the run that the folder remembers, or begin one."""
        import wandb

        super().__init__(out, "wandb")
        self.failures = (wandb.Error, OSError)
        again, run = self.run is not None, self.run or token_hex(4)
        self._run = wandb.init(
            id=run,
            resume="allow" if again else None,
            name=os.environ.get("WANDB_NAME", title(table)),
            project=os.environ.get("WANDB_PROJECT", "mammotrain"),
            mode=None if "WANDB_MODE" in os.environ or _has_key() else "offline",
            dir=str(out),
            reinit="create_new",
            settings=_private(wandb.Settings),
        )
        self._run.config.update(settings(table), allow_val_change=True)
        self.began(run, again=again)

    def send(self, points: list[Point]) -> None:
        """Hand lines to its own process, which writes or sends them."""
        for point in points:
            values = {f"{point.kind}/{name}": value for name, value in point.values.items()}
            self._run.log(values, step=point.step)

    def close(self, status: str) -> None:
        """Hand over what is left, and whether it ended well."""
        self.flush()
        self._run.finish(exit_code=0 if status == "finished" else 1)


def open(out: Path, table: dict[str, Any]) -> Tracker:
    """Return the tracker of a run's folder.

    Raises:
        ConfigError: it cannot be reached, or would send more than numbers.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    try:
        return Run(out, table)
    except wandb.Error as error:
        raise ConfigError(
            f"train.track: Weights & Biases cannot be used ({type(error).__name__}). "
            "WANDB_MODE=offline keeps the run in its folder, for `wandb sync` later."
        ) from None


def _private(kind: Any) -> Any:
    """Return settings that leave out what is not a number or a setting.

    Raises:
        ConfigError: this version has no such settings.
    """
    if missing := sorted(set(PRIVATE) - set(kind.model_fields)):
        raise ConfigError(
            "train.track: this version of wandb cannot be told to keep paths and the machine's "
            f"name to itself (no setting {', '.join(missing)}). Try: pip install 'mammoprep[wandb]'"
        )
    return kind(**PRIVATE, quiet=True, finish_timeout=FINISH_SECONDS)


def _has_key() -> bool:
    """Return whether somebody logged in here, by an environment variable or ``wandb login``."""
    if any(os.environ.get(name) for name in KEYS):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", HOST)).hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
