"""TensorBoard: event files in ``OUT/tensorboard``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mammotrain.trackers._base import Tracker, settings

NEEDS = ("tensorboard", "tb")
FLUSH_SECONDS = 5


class Board(Tracker):
    """Writes event files; steps that are done again replace those of before."""

    def __init__(self, folder: Path, table: Mapping[str, Any]) -> None:
        """Remember where, and the settings."""
        self._folder, self._table = folder, table
        self._writer: Any = None

    def start(self, step: int, total: int, batch_size: int) -> None:
        """Open a new event file, which takes back what was shown after ``step``."""
        from torch.utils.tensorboard import SummaryWriter

        again = step + 1 if self._folder.is_dir() else None
        self._writer = SummaryWriter(str(self._folder), purge_step=again, flush_secs=FLUSH_SECONDS)
        if again is None:
            rows = [f"| {name} | {value} |" for name, value in settings(self._table).items()]
            self._writer.add_text("settings", "\n".join(["| setting | |", "|---|---|", *rows]))

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Add a scalar for every value."""
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)
        if kind == "validation":
            self._writer.flush()

    def close(self, status: str) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


def open(out: Path, table: dict[str, Any]) -> Tracker:
    """Return the tracker of a run's folder."""
    return Board(out / "tensorboard", table)
