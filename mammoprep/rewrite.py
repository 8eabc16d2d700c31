"""Write a finished dataset's report again, from its own files."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.finish import read_picture
from mammoprep.report import dataset as report
from mammoprep.samples import read_samples
from mammoprep.state import hold, read_json_lines, seal
from mammoprep.verify import read_manifest
from mammoprep.writers.encode import SUFFIXES


def rewrite_report(root: Path) -> Path:
    """Write report.html of the dataset in ``root`` and return its path.

    Raises:
        ConfigError: the folder is no dataset.
        DamageError: its manifest or its table is damaged.
        ResourceError: a build is running there.
    """
    read_manifest(root)
    with hold(root) as output:
        summary, rows = read_samples(root)
        suffix = SUFFIXES[summary["settings"]["format"]]

        def thumbnail(row: Mapping[str, Any]) -> NDArray[np.uint8]:
            return read_picture(output, row, suffix)

        files = dict(summary.pop("files"))
        failures = read_json_lines(root / "failures.jsonl")
        page = report.render(summary, rows, failures, thumbnail).encode()
        output.write(root / "report.html", page)
        summary["files"] = {**files, "report.html": sha256(page).hexdigest()}
        output.write(root / "dataset.json", seal(summary))
    return root / "report.html"
