"""The order in which the patches of the ddsm set were cut, before they were shuffled.

Their author shuffled them with NumPy's generator and two published seeds, and each training file
lacks the last row of its share. Cut-outs of one finding and tiles of one film stood side by side
before; both claims are checked against what is in the files before anything rests on them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FILES, RECORDS = 5, 11_177
SHARE = RECORDS + 1
ROWS = FILES * SHARE
FINDINGS = 7_290  # rows before the first tile of a film without findings
TILES = 67_093  # of which the training files have the first so many after their own shuffle
ROW_SEED, TILE_SEED = 7_241_972, 101
LEAST_LIKENESS = 0.1
FEWEST_TILES = 2_000

Place = tuple[int, int]


def _shuffled(length: int, seed: int) -> NDArray[np.int64]:
    """Return the original place of each row after the author's shuffle."""
    places = np.arange(length)
    # Only the old generator gives the same numbers as the author's.
    np.random.RandomState(seed).shuffle(places)
    return places


def cut_order(labels: Mapping[Place, int]) -> dict[Place, int] | None:
    """Return the original row of every training record.

    Args:
        labels: (file, record), both from 0 -> class; 0 for a tile without findings.

    Returns:
        The same keys -> row; below ``FINDINGS`` for a cut-out of a finding. None where a file has
        another number of records than the published one, or one class does not fit its row.
    """
    counts: dict[int, int] = {}
    for file, _ in labels:
        counts[file] = counts.get(file, 0) + 1
    if not counts or set(counts.values()) != {RECORDS} or max(counts) >= FILES:
        return None
    rows = _shuffled(ROWS, ROW_SEED)
    found = {(file, number): int(rows[file * SHARE + number]) for file, number in labels}
    fits = all((found[place] < FINDINGS) == (label != 0) for place, label in labels.items())
    return found if fits else None


def tile_places() -> NDArray[np.int64]:
    """Return the place of each tile among all tiles as cut, by row after ``FINDINGS``."""
    return _shuffled(TILES, TILE_SEED)[: ROWS - FINDINGS]


def neighbours_alike(values: Sequence[float]) -> bool:
    """Return whether a sequence of grey levels is in the order of films: a tile is like the next.

    By chance the correlation of so many values with the next ones is below 0.1.
    """
    if len(values) < FEWEST_TILES:
        return False
    first, second = np.asarray(values[:-1]), np.asarray(values[1:])
    if not first.std() or not second.std():
        return False
    return bool(np.corrcoef(first, second)[0, 1] > LEAST_LIKENESS)
