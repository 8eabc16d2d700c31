"""``submission.csv`` of the RSNA 2022 challenge: of each breast the probability of a cancer.

The challenge's test table names a breast by its ``prediction_id``, which is the patient's
identifier, an underscore and the side, ``L`` or ``R``; its train table, which is there to try the
same thing out, has no such column.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammotrain import levels
from mammotrain.data.shards import Table

FILE = "submission.csv"
SOURCE, POSITIVE = "rsna", "cancer"
IDENTIFIER = "labels.prediction_id"
HEADER = ("prediction_id", POSITIVE)

Texts = NDArray[np.str_]


def save(
    out: Path, samples: Sequence[Mapping[str, Any]], table: Table, tell: Callable[[str], None]
) -> int | None:
    """Write ``submission.csv`` where it can be made, and return how many rows it has; else None.

    It can be made of RSNA's samples and two classes, the second of which is a cancer.

    Args:
        out: An existing folder.
        samples: What was said: ``key``, ``scores`` by class, ``corrected`` for the natural
            prevalence or None, and ``taught``: what the run has learned from is left out.
        table: The samples that were asked about, and perhaps more.
        tell: Is told when pictures are not in the table.
    """
    if {str(each["source"]) for each in table.summaries} != {SOURCE} or not samples:
        return None
    if list(samples[0]["scores"])[1:] != [POSITIVE]:
        return None
    honest = [line for line in samples if not line["taught"]]
    said = {str(line["key"]): (line["corrected"] or line["scores"])[POSITIVE] for line in honest}
    rows = [row for row, key in enumerate(table.keys) if key in said]
    cancer = np.array([said[table.keys[row]] for row in rows], np.float64)
    found = breasts(identifiers(table.columns)[rows], _texts(table.columns["view"])[rows], cancer)
    counts = table.summary["counts"]
    lost = sum(table.lost.values()) + sum(
        number for kind in ("failed", "excluded") for number in counts[kind].values()
    )
    if lost:
        tell(
            f"{FILE}: {lost:,} pictures are not in the shards; a breast of which there is no other "
            "has no row, and the challenge refuses a file that lacks one."
        )
    write(out / FILE, found)
    return len(found)


def identifiers(columns: Mapping[str, Any]) -> Texts:
    """Return which breast each sample of a table is of, (table,); empty for none that is asked for.

    Where the table has ``prediction_id`` (of the test samples), only what has one is asked for;
    else every breast, by ``PATIENT_LATERALITY``.

    Args:
        columns: ``patient_id``, ``laterality`` and, where there is one, ``labels.prediction_id``.
    """
    given = _texts(columns[IDENTIFIER]) if IDENTIFIER in columns else np.zeros(0, np.str_)
    if (given != "").any():
        return given
    patients, sides = _texts(columns["patient_id"]), _texts(columns["laterality"])
    named = np.char.add(np.char.add(patients, "_"), sides)
    return np.where((patients == "") | (sides == ""), "", named)


def breasts(names: Texts, views: Texts, cancer: NDArray[np.float64]) -> list[tuple[str, float]]:
    """Return (breast, probability) pairs, sorted by name: the mean of its images within a view.

    And then of its views, as ``levels.aggregate`` does it; images of an unknown view are one view.

    Args:
        names: (n,) of ``identifiers``; those of an empty name are left out.
        views: (n,) views, empty where unknown.
        cancer: (n,) probabilities.
    """
    asked = names != ""
    found, place = np.unique(names[asked], return_inverse=True)
    if not found.size:
        return []
    values = levels.by_views(cancer[asked, None], views[asked], place)[:, 0]
    return list(zip(found.tolist(), values.tolist(), strict=True))


def write(path: Path, rows: Sequence[tuple[str, float]]) -> None:
    """Write ``submission.csv``, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows((name, repr(value)) for name, value in rows)
    partial.replace(path)


def _texts(values: Iterable[Any]) -> Texts:
    return np.array(["" if value is None else str(value) for value in values], np.str_)
