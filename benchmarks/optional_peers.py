"""Peers that are not installed with the rest: a benchmark says loudly that it goes without them."""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

INSTALLS = {
    "albumentations": "albumentations==2.0.8",
    "kornia": "kornia==0.9.0",
    "torchdeq": "torchdeq==0.1.0",
}


@cache
def there(package: str) -> bool:
    """Return whether a peer is installed; where it is not, say how to install it."""
    if find_spec(package) is not None:
        return True
    say(
        f"NOT MEASURED: {package} is not installed, so that it is left out of the comparison. "
        f"Install it with: pip install -c constraints-cpu.txt {INSTALLS[package]}"
    )
    return False


def write(path: Path, text: str, *peers: str) -> None:
    """Write a result, unless a peer is missing: figures beside it would be lost."""
    if all([there(peer) for peer in peers]):
        path.write_text(text)
    else:
        say(f"NOT WRITTEN: {path} stays as it is.")


def say(message: str) -> None:
    """Print a line where people look."""
    print(message, file=sys.stderr, flush=True)
