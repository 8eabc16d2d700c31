"""What a person sees while a run goes on: a live table on a terminal, else a line every 30 s."""

import time
from math import isfinite, nan
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mammotrain.watching import Line, Watcher

QUIET_SECONDS, LIVE_SECONDS = 30.0, 0.25  # between two lines, and two tables
SMOOTH = 0.9  # of the loss that is shown
SHOWN = ("auroc", "accuracy", "balanced_accuracy", "loss")  # beside what is monitored


class Screen(Watcher):
    """Shows loss, rate, data wait, GPU memory and validation."""

    def __init__(self, console: Console) -> None:
        """Remember where to print."""
        self._console = console
        self._live: Live | None = None
        self._loss: float | None = None
        self._last_shown = time.monotonic()
        self._total, self._batch_size = 0, 0

    def start(self, step: int, total: int, batch_size: int) -> None:
        """Remember how far it is."""
        self._total, self._batch_size = total, batch_size
        begins = f"from step {step:,} " if step else ""
        self._console.print(f"Training {begins}to step {total:,}.", highlight=False)

    def step(self, line: Line) -> None:
        """Show a step."""
        known = self._loss
        loss = line["loss"]
        self._loss = loss if known is None else SMOOTH * known + (1 - SMOOTH) * loss
        live = self._console.is_terminal
        if time.monotonic() - self._last_shown < (LIVE_SECONDS if live else QUIET_SECONDS):
            return
        self._last_shown = time.monotonic()
        if not live:
            self._console.print(self._sentence(line), highlight=False, soft_wrap=True)
            return
        if self._live is None:
            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        self._live.update(self._table(line), refresh=True)

    def validated(self, line: Line) -> None:
        """Print a validation; it stays."""
        found, monitor = line["validation"], line["monitor"]
        # of several classes auroc is macro_auroc
        others = [name for name in SHOWN if name != monitor.removeprefix("macro_")]
        known = [monitor, *(name for name in others if isfinite(found.get(name, nan)))]
        told = [f"{name} {found[name]:.4f}" for name in known]
        star = "  best so far" if line["best"] else ""
        when = f"step {line['step']}" if line["position"] else f"epoch {line['epoch']}"
        text = f"{when}: {', '.join(told)}{star}"
        self._console.print(text, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Print one line."""
        self._console.print(message, highlight=False, soft_wrap=True, markup=False)

    def count(self, what: str, done: int, total: int) -> None:
        """Print how far it is, a line every 30 s."""
        if time.monotonic() - self._last_shown >= QUIET_SECONDS:
            self._last_shown = time.monotonic()
            self._console.print(f"{what}: {done:,} of {total:,}", highlight=False)

    def stop(self) -> None:
        """Take the live table away."""
        if self._live is not None:
            self._live.stop()

    def _left(self, line: Line) -> str:
        samples = (self._total - line["step"]) * self._batch_size
        minutes, rest = divmod(round(samples / max(line["images_per_second"], 1e-9)), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"

    def _sentence(self, line: Line) -> str:
        return (
            f"step {line['step']}, epoch {line['epoch'] + 1}: loss {self._loss:.4f}, "
            f"{line['images_per_second']:.1f} images/s, {100 * line['data_wait']:.0f} % data wait, "
            f"{self._left(line)} left"
        )

    def _table(self, line: Line) -> Table:
        table = Table(show_header=False, box=None)
        rows: list[tuple[str, Any]] = [
            ("step", f"{line['step']:,} (epoch {line['epoch'] + 1})"),
            ("loss", f"{self._loss:.4f}"),
            ("learning rate", f"{line['lr']:.2e}"),
            ("images/s", f"{line['images_per_second']:.1f}"),
            ("data wait", f"{100 * line['data_wait']:.0f} %"),
            ("time left", self._left(line)),
        ]
        if "gpu_gib" in line:
            rows.append(("GPU memory", f"{line['gpu_gib']:.1f} GiB"))
        for name, value in rows:
            table.add_row(name, str(value))
        return table
