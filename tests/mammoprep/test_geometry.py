"""One affine follows every spatial change, forwards and back."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record
from mammoprep.image import MammoImage
from mammoprep.steps import resize

RECORD = Record(key="demo_1", source="demo", group="1", input="1.dcm")


class Chain:
    """A geometry, and the same points moved by hand."""

    def __init__(self, rng, stored):
        self.rng = rng
        self.geometry = Geometry.of_stored(stored, (0.07, 0.1))
        self.stored = rng.random((12, 2)) * (stored[1], stored[0])
        self.points = self.stored.copy()

    def flip(self):
        self.points[:, 0] = self.geometry.size[1] - self.points[:, 0]
        self.geometry = self.geometry.flipped_lr()

    def crop(self):
        rows, columns = self.geometry.size
        x0, y0 = self.rng.integers(0, columns // 3 + 1), self.rng.integers(0, rows // 3 + 1)
        x1 = self.rng.integers(x0 + 1 + columns // 3, columns + 1)
        y1 = self.rng.integers(y0 + 1 + rows // 3, rows + 1)
        self.points -= (x0, y0)
        self.geometry = self.geometry.cropped((int(x0), int(y0), int(x1), int(y1)))

    def resize(self):
        rows, columns = self.geometry.size
        new = (int(self.rng.integers(20, 900)), int(self.rng.integers(20, 900)))
        self.points *= (new[1] / columns, new[0] / rows)
        self.geometry = self.geometry.resized(new)

    def pad(self):
        rows, columns = self.geometry.size
        left, top = (int(v) for v in self.rng.integers(0, 50, 2))
        self.points += (left, top)
        self.geometry = self.geometry.padded(
            (rows + top + 7, columns + left + 3), left=left, top=top
        )


def test_a_thousand_chains_move_landmarks_as_by_hand_and_back():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        chain = Chain(rng, (int(rng.integers(64, 5000)), int(rng.integers(64, 5000))))
        for name in rng.choice(["flip", "crop", "resize", "pad"], rng.integers(1, 9)):
            getattr(chain, name)()
        moved = chain.geometry.from_stored(chain.stored)
        assert np.abs(moved - chain.points).max() < 1e-6
        assert np.abs(chain.geometry.to_stored(moved) - chain.stored).max() < 1e-6
        again = Geometry.from_json(json.loads(json.dumps(chain.geometry.to_json())))
        assert np.abs(again.to_stored(moved) - chain.stored).max() < 1e-6


def blob(size, centre):
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    return np.exp(-distance / (2 * 4.0**2)).astype(np.float32)


def centroid(pixels):
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    return np.array([(x * pixels).sum(), (y * pixels).sum()]) / pixels.sum()


def test_a_blob_is_where_the_geometry_says_after_flip_crop_resize_and_pad():
    rng = np.random.default_rng(1)
    for _ in range(60):
        size = tuple(int(v) for v in rng.integers(120, 300, 2))
        centre = np.array([size[1], size[0]]) * (0.4 + 0.2 * rng.random(2))
        image = MammoImage(blob(size, centre), Geometry.of_stored(size), RECORD)
        if rng.random() < 0.5:
            image = replace(
                image, pixels=image.pixels[:, ::-1], geometry=image.geometry.flipped_lr()
            )
        x0, y0, x1, y1 = 5, 9, size[1] - 4, size[0] - 11
        image = replace(
            image,
            pixels=image.pixels[y0:y1, x0:x1],
            geometry=image.geometry.cropped((x0, y0, x1, y1)),
        )
        frame = tuple(int(v) for v in rng.integers(60, 400, 2))
        out = resize.apply(image, size=frame, centred=bool(rng.random() < 0.5))
        assert np.abs(centroid(out.pixels) - out.geometry.from_stored([centre])[0]).max() < 0.5


def test_flipping_twice_is_the_identity():
    geometry = Geometry.of_stored((50, 70)).cropped((3, 4, 40, 45))
    assert geometry.flipped_lr().flipped_lr().matrix == geometry.matrix


def test_the_crop_box_is_in_stored_pixels_even_after_a_flip():
    geometry = Geometry.of_stored((50, 70)).flipped_lr().cropped((0, 5, 10, 25))
    assert geometry.crop == (60, 5, 70, 25)


def test_spacing_follows_the_scale_of_each_axis():
    geometry = Geometry.of_stored((100, 50), (0.1, 0.2)).resized((50, 100))
    assert geometry.spacing_mm == pytest.approx((0.2, 0.1))
    assert Geometry.of_stored((5, 5)).spacing_mm is None


def test_a_box_has_sorted_corners_after_a_flip():
    assert Geometry.of_stored((10, 10)).flipped_lr().box_from_stored((1.0, 2.0, 3.0, 4.0)) == (
        7.0,
        2.0,
        9.0,
        4.0,
    )


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 11, 5), (3, 6, 5, 5)])
def test_a_crop_outside_of_the_grid_is_refused(box):
    with pytest.raises(ValueError, match="not inside"):
        Geometry.of_stored((10, 10)).cropped(box)
