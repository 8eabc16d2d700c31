"""How a mask that a model says compares to the true one, picture by picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Pair = tuple[float, float]
NOTHING: Pair = (0.0, 0.0)


def measured(true: Flags, said: Flags, overlap: float) -> dict[str, Pair]:
    """Return the sums of ``contracts.Task.measures`` for one picture, (rows, columns).

    Args:
        true: Where lesions are.
        said: Where the model says that they are.
        overlap: IoU above which a part is the lesion that it overlaps.
    """
    found, lesions, wrong = matches(true, said, overlap)
    positive = bool(true.any())
    both, either = int((true & said).sum()), int((true | said).sum())
    constant = bool(said.all() or not said.any())
    return {
        "dice": (2 * both / (both + either), 1.0) if positive else NOTHING,
        "iou": (both / either, 1.0) if positive else NOTHING,
        "lesion_recall": (float(found), float(lesions)),
        "false_positives": (float(wrong), 1.0),
        "collapsed": (float(constant), 1.0) if positive else NOTHING,
    }


def matches(true: Flags, said: Flags, overlap: float) -> tuple[int, int, int]:
    """Return how many lesions are found, how many there are, and how many parts are none.

    Lesions and parts are connected, corners included.
    """
    lesions, parts = _connected(true), _connected(said)
    many, other = int(lesions.max()) + 1, int(parts.max()) + 1
    shared = np.bincount((lesions * other + parts).ravel(), minlength=many * other)
    table = shared.reshape(many, other).astype(np.float64)
    own, theirs = table.sum(1)[1:, None], table.sum(0)[None, 1:]
    inside = table[1:, 1:]
    hits = inside / (own + theirs - inside) > overlap
    return int(hits.any(1).sum()), many - 1, int((~hits.any(0)).sum())


def without_specks(mask: Flags, smallest: int) -> Flags:
    """Return a mask without connected parts of fewer pixels than ``smallest``."""
    parts = _connected(mask)
    large = np.bincount(parts.ravel()) >= smallest
    large[0] = False
    return np.asarray(large[parts], bool)


def _connected(mask: Flags) -> NDArray[np.int64]:
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8))[1], np.int64)
