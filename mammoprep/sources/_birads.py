"""What follows from a BI-RADS category where nothing is proven (ACR BI-RADS, 5th edition)."""

import re
from collections.abc import Mapping

from mammoprep.core.schema import Scalar

# 3 is followed up, 4 and 5 go to biopsy, 6 is known cancer; 0 is unfinished and says nothing.
RECALLED = frozenset("3456")
SUSPICIOUS = frozenset("456")
DENSITIES = ("A", "B", "C", "D")
CATEGORY = re.compile(r"[0-6]|4[abc]")


def suspicious(birads: str | None) -> int | None:
    """Return 1 for categories 4 to 6, 0 for 1 to 3, None for 0 and unknown."""
    if birads is None or birads[0] == "0":
        return None
    return int(birads[0] in SUSPICIOUS)


def abnormal(birads: str | None, *, findings: bool | None) -> int | None:
    """Return 1 for categories 3 to 6 or an annotated finding, 0 for neither, None when unknown.

    Args:
        birads: The category, or None.
        findings: Whether the image has an annotated finding; None when nobody looked.
    """
    if findings or (birads is not None and birads[0] in RECALLED):
        return 1
    silent = birads is None or birads[0] == "0"
    return None if silent and findings is None else 0


def code(labels: Mapping[str, Scalar], target: str) -> int | None:
    """Return the class of a target among ``abnormal``, ``suspicious`` and ``density``, or None."""
    found = labels[target]
    if target == "density":
        return None if found is None else DENSITIES.index(str(found))
    return None if found is None else int(found)
