"""Oxford Flowers 102, 2008: photographs of 102 kinds of flowers, and two MATLAB files.

Not a medical dataset: a check that training works where the answer is known. Reads
``imagelabels.mat`` and ``setid.mat``; see ``data_manifests/flowers.toml``.
"""

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.schema import Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources import _matlab
from mammoprep.sources._tables import folder_of

LABELS, SETS = "imagelabels.mat", "setid.mat"
SPLITS = {"trnid": "train", "valid": "val", "tstid": "test"}
LARGEST = 1 << 20  # bytes; the published files have less than 20 KB
MOST_IMAGES = 99_999
SHOWN = 5

Numbers = NDArray[np.int64]


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the tables, or None when there is none."""
    return folder_of(tree, LABELS, SETS)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record an image.

    Raises:
        ConfigError: a table is missing, damaged, or says what cannot be: classes beyond 102, or an
            image that is in two sets or in none of the labels.
    """
    labels = _numbers(tree, LABELS, ("labels",))["labels"]
    classes = card.targets["flower"]
    _check_range(LABELS, "labels", labels, len(classes))
    sets = _numbers(tree, SETS, tuple(SPLITS))
    splits: dict[int, str] = {}
    for name, split in SPLITS.items():
        _check_range(SETS, name, sets[name], len(labels))
        numbers = sets[name].tolist()
        twice = sorted({number for number in numbers if number in splits})
        if twice or len(set(numbers)) != len(numbers):
            shown = ", ".join(map(str, twice[:SHOWN])) or "some"
            raise ConfigError(f"{SETS}: {name} has images that are listed before: {shown}.")
        splits |= dict.fromkeys(numbers, split)
    return [
        _record(number, int(label), splits.get(number), card)
        for number, label in enumerate(labels, 1)
    ]


def _numbers(tree: Tree, table: str, names: tuple[str, ...]) -> dict[str, Numbers]:
    """Return the rows of whole numbers that a MATLAB file holds under ``names``."""
    try:
        data = tree.read(table, LARGEST)
    except RecordError as error:
        raise ConfigError(f"{table} cannot be read: {error}.") from None
    try:
        found = _matlab.matrices(data)
    except ValueError as error:
        raise ConfigError(
            f"{table} is no readable MATLAB file: {error}. Download it again."
        ) from None
    return {name: _row(table, name, found.get(name)) for name in names}


def _row(table: str, name: str, values: NDArray[np.generic] | None) -> Numbers:
    if values is None:
        raise ConfigError(f"{table} has no row of numbers called {name}.")
    if values.shape[0] != 1 or not 1 <= values.shape[1] <= MOST_IMAGES:
        raise ConfigError(
            f"{table}: {name} must be one row of 1 to {MOST_IMAGES:,} numbers, "
            f"found shape {values.shape}."
        )
    row = values[0].astype(np.float64)
    if not (row == np.round(row)).all():
        raise ConfigError(f"{table}: {name} must be whole numbers.")
    found: Numbers = np.clip(row, -1, 1 << 30).astype(np.int64)
    return found


def _check_range(table: str, name: str, numbers: Numbers, most: int) -> None:
    wrong = np.flatnonzero((numbers < 1) | (numbers > most))
    if len(wrong):
        places = ", ".join(f"item {place + 1} is {numbers[place]}" for place in wrong[:SHOWN])
        more = f" (and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""
        raise ConfigError(f"{table}: {name} must be 1 to {most}, {places}{more}.")


def _record(number: int, label: int, split: str | None, card: Card) -> Record:
    name = f"image_{number:05d}"
    flower = card.targets["flower"][label - 1]
    labels: dict[str, Scalar] = {"flower": flower, "number": label}
    return Record(
        key=make_key("flowers", f"{number:05d}"),
        source="flowers",
        group=name,
        input=f"jpg/{name}.jpg",
        image_id=name,
        split=split,
        label=label - 1,
        labels={name: labels.get(name) for name in card.labels},
        stratum=f"flower={flower}",
    )
