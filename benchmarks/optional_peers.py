"""Peers that are not installed with the rest: a benchmark says loudly that it goes without them."""

import sys
from functools import cache
from importlib.util import find_spec

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
    print(
        f"NOT MEASURED: {package} is not installed, so that it is left out of the comparison. "
        f"Install it with: pip install -c constraints-cpu.txt {INSTALLS[package]}",
        file=sys.stderr,
        flush=True,
    )
    return False
