"""Pictures made in code: a breast with a soft skin line, and what may lie beside it."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.image import MammoImage

RECORD = Record(key="demo_1", source="demo", group="1", input="1.dcm")


def half_ellipse(rows: int, columns: int, *, reach: float = 0.55, high: float = 0.33) -> np.ndarray:
    """Distance-like field: 0 in the middle of the chest wall at the left edge, 1 on the skin."""
    y, x = np.mgrid[:rows, :columns] + 0.5
    field = ((x / (reach * columns)) ** 2 + ((y - rows / 2) / (high * rows)) ** 2) ** 0.5
    return np.asarray(field, dtype=np.float32)


def breast_pixels(rows: int = 240, columns: int = 180, *, level: float = 0.0) -> np.ndarray:
    """A breast at the left edge, 0.45 bright, its skin fading to ``level`` at the outline."""
    field = half_ellipse(rows, columns)
    tissue = np.clip((1 - field) / 0.08, 0, 1) ** 0.7 * (0.45 - level)
    glands = 0.2 * np.exp(-((field / 0.5) ** 4)) * (tissue > 0)
    return np.asarray(level + tissue + glands, dtype=np.float32)


def with_text(pixels: np.ndarray, text: str, corner: tuple[int, int]) -> np.ndarray:
    """The pixels with white print, ``corner`` is (x, y) of its lower left end."""
    ink = np.zeros(pixels.shape, np.uint8)
    cv2.putText(ink, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2)
    return np.maximum(pixels, ink / np.float32(255))


def make_image(pixels: np.ndarray, **fields: Any) -> MammoImage:
    """A stored image around these pixels."""
    geometry = Geometry.of_stored((pixels.shape[0], pixels.shape[1]), (0.1, 0.1))
    return MammoImage(**{"pixels": pixels, "geometry": geometry, "record": RECORD, **fields})


@pytest.fixture
def breast() -> np.ndarray:
    """Pixels of a breast at the left edge on black, (240, 180)."""
    return breast_pixels()


@pytest.fixture
def image_of() -> Callable[..., MammoImage]:
    """Make a MammoImage of pixels and fields."""
    return make_image


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    """Make breast pixels with a size and a background level."""
    return breast_pixels


@pytest.fixture
def text_on() -> Callable[..., np.ndarray]:
    """Print white text on pixels."""
    return with_text


@pytest.fixture
def skin() -> Callable[..., np.ndarray]:
    """The true outline as a bool mask."""
    return lambda rows=240, columns=180: half_ellipse(rows, columns) < 1
