"""What is true of a picture, written beside the dataset and never into it."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.phantoms._exposure import Exposure
from mammoprep.phantoms._tissue import fill


def _png(mask: NDArray[np.uint8]) -> bytes:
    settings = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, 3]
    _, coded = cv2.imencode(".png", mask, settings)
    return coded.tobytes()


def _points(points: NDArray[np.float64]) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in points]


def facts(exposure: Exposure, machine: str) -> dict[str, Any]:
    """Return the truth of one picture as JSON values; coordinates are continuous stored pixels."""
    left, top, width, height = cv2.boundingRect(exposure.tissue)
    return {
        "chest_wall": exposure.chest_wall,
        "breast_box": [float(left), float(top), float(left + width), float(top + height)],
        "landmarks": _points(exposure.landmarks),
        **({"fold": _points(np.array([exposure.fold]))[0]} if exposure.fold else {}),
        "lesions": [
            {
                "id": index,
                "kind": finding.kind,
                "pathology": finding.pathology,
                "polygon": _points(polygon),
                **({"contrast": finding.contrast} if finding.contrast != 1 else {}),
            }
            for index, (finding, polygon) in enumerate(exposure.lesions, start=1)
        ],
        "machine": machine,
    }


def write(folder: Path, name: str, exposure: Exposure, machine: str) -> None:
    """Write ``NAME.json``, ``NAME.breast.png`` and ``NAME.lesions.png`` into ``folder``."""
    text = json.dumps(facts(exposure, machine), indent=1)
    lesions = fill(exposure.tissue.shape[:2], *(polygon for _, polygon in exposure.lesions))
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.breast.png").write_bytes(_png(exposure.tissue))
    (folder / f"{name}.lesions.png").write_bytes(_png(lesions))
