"""The public functions, as a notebook uses them."""

from pathlib import Path

import numpy as np
import pytest

import mammoprep
from mammoprep.core.errors import ConfigError, RecordError


def test_prepare_returns_one_file_as_a_build_would_make_it(phantom_once: Path) -> None:
    file = sorted(phantom_once.glob("train_images/*/*.dcm"))[0]
    image = mammoprep.prepare(file, size=(64, 128))
    assert image.pixels.shape == (128, 64)
    assert image.pixels.dtype == np.uint8
    corner = image.geometry.to_stored([(0.0, 64.0)])
    np.testing.assert_allclose(image.geometry.from_stored(corner), [(0.0, 64.0)])


def test_prepare_keeps_sixteen_bits_when_asked(phantom_once: Path) -> None:
    file = sorted(phantom_once.glob("train_images/*/*.dcm"))[0]
    assert mammoprep.prepare(file, size=(64, 128), bits=16).pixels.dtype == np.uint16


def test_prepare_says_why_a_file_cannot_be_built(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"hello")
    with pytest.raises(RecordError) as caught:
        mammoprep.prepare(tmp_path / "x.dcm", size=(64, 128))
    assert caught.value.code == "not_dicom"


def test_build_takes_the_options_of_the_command_line(phantom_once: Path, tmp_path: Path) -> None:
    options = {"source": "rsna", "size": "32x64", "input": phantom_once, "out": tmp_path / "out"}
    result = mammoprep.build(**options, workers=1, limit=3)
    assert result.summary["counts"]["inputs"] == 3
    with pytest.raises(ConfigError, match="--roi"):
        mammoprep.build(**options, roi="9")


def test_the_public_names_are_what_they_say() -> None:
    assert callable(mammoprep.build)
    assert callable(mammoprep.phantom)
    with pytest.raises(AttributeError):
        mammoprep.nothing  # noqa: B018
