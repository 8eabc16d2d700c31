"""Promises of every step, from the day its file exists."""

import inspect
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mammoprep.core import plugins
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Lesion, Record
from mammoprep.image import Acquisition, MammoImage

STEPS = "mammoprep.steps"
NAMES = plugins.names(STEPS)
EXAMPLE = {"resize": {"size": (90, 120)}}  # what has no default
ORDER = ("draw-lesions", "find-breast", "orient", "crop", "resize", "blank-labels", "quantise")
ARRAYS = ("pixels", "padding", "breast", "mask")
SIZE = (240, 180)
MARK = (130.5, 110.5)  # (x, y), in the breast of a picture whose chest wall is at the right
OUTLINE = ((125.0, 105.0), (136.0, 105.0), (136.0, 116.0), (125.0, 116.0))


def picture(*, marked: bool = False) -> MammoImage:
    """A breast with its chest wall at the right, a label, padding and a lesion."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    field = (((SIZE[1] - x) / 99) ** 2 + ((y - 120) / 79) ** 2) ** 0.5
    pixels = (np.clip((1 - field) / 0.08, 0, 1) * 0.45).astype(np.float32)
    ink = np.zeros(SIZE, np.uint8)
    cv2.putText(ink, "R", (90, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2)
    pixels = np.maximum(pixels, ink / np.float32(255))
    if marked:
        distance = (x - MARK[0]) ** 2 + (y - MARK[1]) ** 2
        pixels += 0.2 * np.exp(-distance / 18).astype(np.float32)
    padding = np.zeros(SIZE, bool)
    padding[:, :6] = True
    lesion = Lesion(id=1, kind="mass", pathology=None, polygon=OUTLINE)
    record = Record("demo_1", "demo", "1", "1.dcm", annotation="full", lesions=(lesion,))
    acquisition = Acquisition(patient_orientation="P", laterality="R")
    geometry = Geometry.of_stored(SIZE, (0.1, 0.1))
    return MammoImage(pixels, geometry, record, acquisition, padding=padding)


def run(name: str, image: MammoImage) -> MammoImage:
    step = plugins.load(STEPS, name, needs=("apply",))
    return step.apply(image, **EXAMPLE.get(name, {}))


def before(name: str, *, marked: bool = False) -> MammoImage:
    """The picture as a step gets it: after all steps that come before it."""
    image = picture(marked=marked)
    for earlier in ORDER[: ORDER.index(name)] if name in ORDER else ORDER[:4]:
        image = run(earlier, image)
    return image


def arrays(image: MammoImage) -> dict[str, np.ndarray]:
    return {name: getattr(image, name) for name in ARRAYS if getattr(image, name) is not None}


def contents(image: MammoImage) -> dict[str, tuple]:
    return {name: (a.shape, a.dtype.str, a.tobytes()) for name, a in arrays(image).items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_step_leaves_its_input_alone(name):
    image = before(name)
    given = replace(image, **{key: array.copy() for key, array in arrays(image).items()})
    for array in arrays(given).values():
        array.setflags(write=True)  # so that an in-place step would succeed, and be seen
    kept = contents(given)
    fields = (given.geometry, given.warnings, dict(given.notes))
    run(name, given)
    assert contents(given) == kept
    assert (given.geometry, given.warnings, dict(given.notes)) == fields


@pytest.mark.parametrize("name", NAMES)
def test_a_step_returns_read_only_arrays_on_one_grid(name):
    out = run(name, before(name))
    for array in arrays(out).values():
        assert array.shape[:2] == out.geometry.size
        assert not array.flags.writeable
    assert out.breast is None or out.breast.dtype == bool
    assert out.padding is None or out.padding.dtype == bool
    assert out.mask is None or set(np.unique(out.mask)) <= {0, 255}


def centroid(weight: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("name", NAMES)
def test_a_marked_pixel_is_where_the_geometry_says(name):
    marked, plain = run(name, before(name, marked=True)), run(name, before(name))
    assert marked.geometry == plain.geometry
    difference = marked.pixels.astype(np.float64) - plain.pixels
    expected = marked.geometry.from_stored([MARK])[0]
    assert np.abs(centroid(np.abs(difference)) - expected).max() < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_the_lesion_is_where_the_geometry_says(name):
    out = run(name, before(name))
    middle = out.geometry.from_stored([np.mean(OUTLINE, axis=0)])[0]
    assert out.mask is not None
    assert np.abs(centroid(out.mask.astype(np.float64)) - middle).max() < 0.75


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_deterministic_whatever_the_threads(name):
    image = before(name)
    threads = cv2.getNumThreads()
    results = []
    try:
        for count in (1, 2, 2):
            cv2.setNumThreads(count)
            out = run(name, image)
            results.append((contents(out), out.geometry, out.warnings, dict(out.notes)))
    finally:
        cv2.setNumThreads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_keywords_and_documented(name):
    apply = plugins.load(STEPS, name, needs=("apply",)).apply
    image, *parameters = inspect.signature(apply).parameters.values()
    assert image.name == "image"
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert all(f"{parameter.name}: " in (apply.__doc__ or "") for parameter in parameters)
