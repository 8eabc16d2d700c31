"""One affine follows every spatial change, forwards and back."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Lesion, Record
from mammoprep.image import MammoImage
from mammoprep.steps import crop, draw_lesions, orient, resize

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


class Marked:
    """A breast with one lesion, and one spot of light in its middle, run through the real steps."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        rows, columns = (int(v) for v in rng.integers(96, 200, 2))
        self.right = bool(rng.random() < 0.5)
        y, x = np.mgrid[:rows, :columns] + 0.5
        middle, high, wide = rows * rng.uniform(0.4, 0.6), 0.35 * rows, columns * 0.7
        breast = (x / wide) ** 2 + ((y - middle) / high) ** 2 < 1
        self.centre = np.array([wide * rng.uniform(0.35, 0.5), middle + rng.uniform(-5, 5)])
        half = rng.uniform(3, 12, 2)
        if self.right:
            breast, self.centre[0] = breast[:, ::-1], columns - self.centre[0]
        (x0, y0), (x1, y1) = self.centre - half, self.centre + half
        self.box = (float(x0), float(y0), float(x1), float(y1))
        outline = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
        self.image = MammoImage(
            blob((rows, columns), self.centre),
            Geometry.of_stored((rows, columns)),
            replace(RECORD, annotation="full", lesions=(Lesion(1, None, None, outline),)),
            breast=breast.copy(),
        )

    def prepared(self, image):
        draw = self.rng
        image = crop.apply(
            orient.apply(image), region=str(draw.choice(crop.REGIONS)), margin=draw.random() / 10
        )
        width, height = (int(v) for v in draw.integers(48, 320, 2))
        fit = str(draw.choice(resize.FITS))
        return resize.apply(image, size=(width, height), fit=fit, centred=bool(draw.random() < 0.5))


def extent(mask):
    """Return the box (x0, y0, x1, y1) of what is set."""
    down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([across[0], down[0], across[-1] + 1, down[-1] + 1])


def middle(box):
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2


@pytest.mark.slow
def test_markers_masks_and_boxes_of_a_thousand_images_stay_within_half_a_pixel():
    worst = dict.fromkeys(("spot", "breast", "drawn", "mask", "box"), 0.0)
    for seed in range(1000):
        marked = Marked(seed)
        drawn = draw_lesions.apply(marked.image)
        out = marked.prepared(drawn)
        there, grid = out.geometry.from_stored, out.geometry
        assert grid.flipped == marked.right
        stored = extent(drawn.mask)
        landed = np.array(grid.box_from_stored(tuple(stored)))
        # A mask has every pixel that it touches, and no other.
        assert ((extent(out.mask) - landed) * (-1, -1, 1, 1) > -1e-6).all()
        assert ((extent(out.mask) - landed) * (-1, -1, 1, 1) < 1 + 1e-6).all()
        back = grid.to_stored(np.reshape(grid.box_from_stored(marked.box), (2, 2)))
        moved = (
            centroid(out.pixels) - there([marked.centre])[0],
            centroid(out.breast) - there([centroid(marked.image.breast)])[0],
            middle(stored) - middle(marked.box),
            middle(extent(out.mask)) - middle(landed),
            np.concatenate([back.min(0), back.max(0)]) - marked.box,
        )
        for name, away in zip(worst, moved, strict=True):
            worst[name] = max(worst[name], float(np.abs(away).max()))
    assert worst.pop("drawn") <= 0.5 + 1 / 32  # outlines are drawn on a grid of sixteenths
    assert worst.pop("box") < 1e-6
    assert max(worst.values()) <= 0.5, worst


def test_flipping_twice_is_the_identity():
    rng = np.random.default_rng(2)
    for _ in range(200):
        chain = Chain(rng, (int(rng.integers(64, 5000)), int(rng.integers(64, 5000))))
        for name in rng.choice(["crop", "resize", "pad"], rng.integers(0, 4)):
            getattr(chain, name)()
        twice = chain.geometry.flipped_lr().flipped_lr()
        assert replace(twice, matrix=chain.geometry.matrix) == chain.geometry
        np.testing.assert_allclose(twice.matrix, chain.geometry.matrix, rtol=0, atol=1e-9)


def test_flipping_whole_pixels_twice_is_exactly_the_identity():
    geometry = Geometry.of_stored((50, 70)).cropped((3, 4, 40, 45))
    assert geometry.flipped_lr().flipped_lr() == geometry


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
