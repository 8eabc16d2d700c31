"""Where the lesions of a built dataset lie, to be compared with the truth."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mammoprep.core.geometry import Geometry


@dataclass(frozen=True)
class Built:
    """A sample: its metadata, and its mask or None."""

    about: dict
    mask: np.ndarray | None

    @property
    def grid(self) -> Geometry:
        return Geometry.from_json(self.about["geometry"])

    def stored_rois(self) -> list[np.ndarray]:
        """The polygons of the metadata, mapped back to stored pixels."""
        return [self.grid.to_stored(roi["polygon"]) for roi in self.about["rois"]]


def built(out: Path) -> list[Built]:
    """Return the samples of all shards, sorted by key."""
    members: dict[str, dict[str, bytes]] = {}
    for path in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                key, _, suffix = member.name.partition(".")
                members.setdefault(key, {})[suffix] = tar.extractfile(member).read()
    return [
        Built(json.loads(found["json"]), _mask(found.get("mask.png")))
        for _, found in sorted(members.items())
    ]


def _mask(data: bytes | None) -> np.ndarray | None:
    return None if data is None else cv2.imdecode(np.frombuffer(data, np.uint8), -1)


def area_and_centre(points: np.ndarray) -> tuple[float, np.ndarray]:
    """Return a polygon's area and its centroid."""
    after = np.roll(points, -1, axis=0)
    cross = points[:, 0] * after[:, 1] - after[:, 0] * points[:, 1]
    centre = ((points + after) * cross[:, None]).sum(0) / (3 * cross.sum())
    return float(abs(cross.sum()) / 2), centre


def box_of(points: np.ndarray) -> np.ndarray:
    """Return the four corners of the box around points."""
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def centre_of_mask(mask: np.ndarray) -> np.ndarray:
    """Return the continuous (x, y) of the centroid of what is set."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def check(found: np.ndarray, true: np.ndarray) -> None:
    """Compare two polygons: centroids within half a pixel, areas within one percent."""
    (area, centre), (true_area, true_centre) = area_and_centre(found), area_and_centre(true)
    assert np.abs(centre - true_centre).max() < 0.5
    assert abs(area / true_area - 1) < 0.01


def check_mask(sample: Built, true: list[np.ndarray]) -> None:
    """Compare a sample's mask with true polygons in stored pixels that lie apart.

    A mask keeps every pixel that a lesion touches, stored ones first and then those of the sample,
    so that each edge may lie up to one pixel of both grids further out, and the centroid half.
    """
    shapes = [sample.grid.from_stored(points) for points in true]
    if len(shapes) == 1:
        off = centre_of_mask(sample.mask) - area_and_centre(shapes[0])[1]
        assert np.abs(off).max() < 0.5 + 0.5 * abs(sample.grid.matrix[0][0])
    for points in shapes:
        x, y = area_and_centre(points)[1]
        assert sample.mask[int(y), int(x)] == 255
