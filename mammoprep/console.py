"""What people see on stderr while a build runs and when it ends."""

import time
from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mammoprep.builder import Result, Watcher
from mammoprep.core.codes import CODES, UNKNOWN

QUIET_SECONDS = 30.0
MOST_CLASSES = 8  # columns of the table of splits


class ConsoleWatcher(Watcher):
    """A bar when stderr is a terminal, one line every 30 s when it is not."""

    def __init__(self, console: Console) -> None:
        """Write to ``console``."""
        self._console = console
        self._codes: Counter[str] = Counter()
        self._done = self._total = 0
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None

    def warn(self, message: str) -> None:
        """Print one warning."""
        self._console.print(
            f"warning: {escape(message)}", style="yellow", soft_wrap=True, highlight=False
        )

    def survey(self, done: int, total: int) -> None:
        """Say that files are looked at, and every 30 s how far it is."""
        now = time.monotonic()
        if not done:
            self._console.print(f"Looking at {total:,} files before planning.")
        elif done < total and now - self._last_line < QUIET_SECONDS:
            return
        else:
            self._console.print(f"{done:,}/{total:,} files looked at")
        self._last_line = now

    def start(self, total: int, kept: int) -> None:
        """Say what will be done and start the bar."""
        self._total = total
        self._started = self._last_line = time.monotonic()
        if kept:
            self._console.print(f"{kept:,} inputs are in finished shards and are kept.")
        if not total:
            self._console.print("Every shard is there and whole; nothing to build.")
        elif self._console.is_terminal:
            self._bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:.1f} images/s"),
                TextColumn("{task.fields[failed]} failed"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.add_task("build", total=total, rate=0.0, failed=0)
            self._bar.start()
        else:
            self._console.print(f"Building {total:,} inputs.")

    def step(self, code: str | None) -> None:
        """Count one input and show progress."""
        self._done += 1
        if code is not None:
            self._codes[code] += 1
        now = time.monotonic()
        rate = self._done / max(now - self._started, 1e-9)
        failed = sum(self._codes.values())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=1, rate=rate, failed=failed)
        elif now - self._last_line >= QUIET_SECONDS:
            self._last_line = now
            left = (self._total - self._done) / max(rate, 1e-9)
            self._console.print(
                f"{self._done:,}/{self._total:,} inputs, {rate:.1f} images/s, "
                f"{failed:,} failed, {left / 60:.0f} min left"
            )

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def show_result(console: Console, result: Result) -> None:
    """Print what was built, what was not and why, and where to look."""
    counts = result.summary["counts"]
    table = Table(title=f"{result.summary['source']}: {counts['samples']:,} samples")
    label_names = result.summary["label_names"]
    if len(label_names) > MOST_CLASSES:
        table.caption = f"{len(label_names)} classes: their counts are in the report."
        label_names = []
    missing = {
        split: row["samples"] - sum(row["labels"].values())
        for split, row in counts["splits"].items()
    }
    unknown = ["(no label)"] if any(missing.values()) else []
    for heading in ("split", "samples", "groups", *label_names, *unknown):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, row in counts["splits"].items():
        labels = [f"{row['labels'].get(name, 0):,}" for name in label_names]
        labels += [f"{missing[split]:,}" for _ in unknown]
        table.add_row(split, f"{row['samples']:,}", f"{row['groups']:,}", *labels)
    console.print(table)
    failed, excluded = sum(counts["failed"].values()), sum(counts["excluded"].values())
    local = result.local
    speed = f"; {local['images_per_second']:.1f} images/s in {local['seconds']:.0f} s"
    console.print(
        f"{counts['inputs']:,} inputs = {counts['built']:,} built + {failed:,} failed "
        f"+ {excluded:,} excluded{speed if local['inputs_done'] else ''}",
        soft_wrap=True,
    )
    warned = {code: found["samples"] for code, found in result.summary["warnings"].items()}
    kinds = {"failed": counts["failed"], "excluded": counts["excluded"], "warning": warned}
    for kind, codes in kinds.items():
        for code, number in codes.items():
            meaning = escape(CODES.get(code, UNKNOWN)[0])
            line = f"  {kind:<8}  {number:>7,}  {code}  {meaning}"
            console.print(line, soft_wrap=True, highlight=False)
    if failed:
        console.print(
            f"Each failed input: {result.out / 'failures.jsonl'}", soft_wrap=True, highlight=False
        )
    console.print(f"Look at: {result.out / 'report.html'}", soft_wrap=True, highlight=False)
