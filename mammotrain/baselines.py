"""What is reached without looking for a disease: beside every table, on the same samples.

``majority`` knows how frequent the classes are, ``shortcut`` sees the grey level alone, and
``metadata`` age, machine, site, side and view; ``mask``, where pictures are shown by a mask, sees
its shape and the grey level inside. All are fitted on the training samples and on nothing else, by
the regressions that a dataset's own check uses.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoprep.stats import shortcuts
from mammoprep.stats.shortcuts import Columns, numbers_of, texts_of
from mammotrain.scores import UNKNOWN

__all__ = ["KINDS", "MASK", "Baseline", "Columns", "machines", "numbers_of", "predict", "texts_of"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

KINDS = ("majority", "shortcut", "metadata")
MASK = "mask"
REGRESSIONS = {"shortcut": "intensity", "metadata": "metadata", MASK: "mask"}


@dataclass(frozen=True)
class Baseline:
    """What a baseline says.

    Attributes:
        values: (n, classes) probabilities of the wanted samples; None when there is no baseline.
        reason: Why there is none, or an empty text.
    """

    values: Floats | None
    reason: str = ""


def predict(
    kind: str, columns: Columns, labels: Rows, training: Rows, wanted: Rows, classes: int
) -> Baseline:
    """Fit a baseline on some samples of a table and ask it about others.

    Args:
        kind: ``majority``, ``shortcut``, ``metadata`` or ``mask``; all but the first are the
            regressions of ``mammoprep.stats.shortcuts``.
        columns: Of samples.parquet, by name; what is absent is not used.
        labels: (table,) classes, -1 where unknown.
        training: Places of the samples to fit on.
        wanted: (n,) places of the samples to ask about.
        classes: How many there are.
    """
    fitted = training[labels[training] != UNKNOWN]
    counts = np.bincount(labels[fitted], minlength=classes)
    if not fitted.size:
        return Baseline(None, "no training sample has a label")
    if kind == "majority":
        return Baseline(np.tile(counts / counts.sum(), (len(wanted), 1)))
    if np.count_nonzero(counts) < 2:
        return Baseline(None, "the training samples hold only one class")
    regression = REGRESSIONS[kind]
    values = shortcuts.fit_predict(regression, columns, labels, fitted, wanted, classes)
    if values is None:
        used = ", ".join(shortcuts.BY_NAME[regression].columns)
        return Baseline(None, f"the table holds nothing for it that varies ({used})")
    return Baseline(values)


def machines(columns: Columns) -> NDArray[np.str_] | None:
    """Return each sample's machine number, else its maker, else an empty text; None without."""
    found = None
    for name in ("acquisition.manufacturer", "labels.machine_id"):
        if name in columns:
            texts = texts_of(columns[name])
            found = texts if found is None else np.where(texts == "", found, texts)
    return found
