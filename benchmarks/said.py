"""What the trials print while they train."""

from typing import Any

from mammotrain.watching import Watcher


class Said(Watcher):
    """Prints what is said, such as which fold is trained, and some of the steps."""

    def __init__(self, every: int = 0) -> None:
        """Remember after how many steps one is printed; 0 for none."""
        self._every = every

    def warn(self, message: str) -> None:
        """Print a line."""
        print(message, flush=True)

    def step(self, line: dict[str, Any]) -> None:
        """Print a step."""
        if self._every and line["step"] % self._every == 0:
            print(f"step {line['step']}: loss {line['loss']:.3f}", flush=True)
