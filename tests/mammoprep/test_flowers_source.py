"""The flowers source: two MATLAB tables, official sets, colours kept."""

import contextlib
import io
import json
import shutil
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from helpers import tree_of
from outlines import built
from PIL import Image

from mammoprep.builder import Result, build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import cards
from mammoprep.core.errors import ConfigError
from mammoprep.core.tree import open_tree
from mammoprep.inputs import read_inputs
from mammoprep.phantoms import flowers as phantom
from mammoprep.sources import _matlab, flowers

SETS = {"trnid": [1, 4], "valid": [2], "tstid": [3]}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flowers") / "raw"
    phantom.write(folder, patients=12, seed=4, size_scale=0.3)
    return folder


def tables(folder: Path, labels: object = (1, 102, 5, 5), **sets: object) -> Path:
    """Write both tables; a set named ``None`` is left out."""
    rows = {**SETS, **sets}
    (folder / "imagelabels.mat").write_bytes(_mat(labels=labels))
    given = {name: row for name, row in rows.items() if row is not None}
    (folder / "setid.mat").write_bytes(_mat(**given))
    return folder


def _mat(**rows: object) -> bytes:
    buffer = io.BytesIO()
    kept = {name: row if isinstance(row, np.ndarray) else [row] for name, row in rows.items()}
    scipy.io.savemat(buffer, {name: np.array(row) for name, row in kept.items()})
    return buffer.getvalue()


def read(folder: Path) -> list:
    return flowers.read(open_tree(folder), cards.load("flowers"))


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder)
    return str(caught.value)


def test_each_image_has_its_class_its_set_and_no_medical_label(tmp_path: Path) -> None:
    records = read(tables(tmp_path))
    assert [record.label for record in records] == [0, 101, 4, 4]
    assert [record.split for record in records] == ["train", "val", "test", "train"]
    assert records[1].input == "jpg/image_00002.jpg"
    assert (records[1].key, records[1].group) == ("flowers_00002", "image_00002")
    assert records[1].labels == {
        "cancer": None, "abnormal": None, "birads": None, "density": None,
        "flower": "blackberry lily", "number": 102,
    }  # fmt: skip


def test_the_card_has_102_different_names_and_keeps_colours() -> None:
    card = cards.load("flowers")
    names = card.targets["flower"]
    assert len(set(names)) == len(names) == 102
    assert (names[0], names[20], names[76]) == ("pink primrose", "fire lily", "passion flower")
    assert (card.colour, card.crop, card.orient) == (True, "none", "none")


def test_an_image_outside_of_every_set_goes_to_the_folds(tmp_path: Path) -> None:
    assert [r.split for r in read(tables(tmp_path, trnid=[1]))][3] is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": (1, 103, 5, 0)}, "labels must be 1 to 102, item 2 is 103, item 4 is 0"),
        ({"trnid": [1, 5]}, "trnid must be 1 to 4, item 2 is 5"),
        ({"tstid": [0]}, "tstid must be 1 to 4, item 1 is 0"),
        ({"tstid": [2, 3]}, "tstid has images that are listed before: 2"),
        ({"trnid": [1, 1]}, "trnid has images that are listed before"),
        ({"trnid": [1, 2.5]}, "whole numbers"),
        ({"trnid": [1, float("nan")]}, "whole numbers"),
        ({"valid": None}, "no row of numbers called valid"),
        ({"labels": np.zeros((2, 2))}, "one row of 1 to"),
        ({"labels": np.array(["a", "b"], dtype=object)}, "no row of numbers called labels"),
        ({"labels": np.ones((1, 100_000), np.uint8)}, "1 to 99,999"),
    ],
)
def test_tables_that_cannot_be_are_refused(
    changes: dict[str, object], expected: str, tmp_path: Path
) -> None:
    assert expected in refusal(tables(tmp_path, **changes))


def test_a_damaged_or_missing_table_is_a_config_error(raw: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("imagelabels.mat", "setid.mat"):
        whole = (raw / name).read_bytes()
        for table in ("imagelabels.mat", "setid.mat"):
            shutil.copy(raw / table, tmp_path / table)
        for _ in range(300):
            data = bytearray(whole[: rng.integers(len(whole) + 1)] or whole)
            for place in rng.integers(len(data), size=3):
                data[place] = rng.integers(256)
            (tmp_path / name).write_bytes(data)
            with contextlib.suppress(ConfigError):
                read(tmp_path)
    (tmp_path / "setid.mat").unlink()
    assert "setid.mat cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "i8", "f4", "f8", ">u2", "bool"])
def test_matrices_are_read_as_scipy_reads_them(kind: str, compressed: bool) -> None:
    values = {"a": np.arange(6).reshape(2, 3).astype(kind), "name": np.ones((1, 900)).astype(kind)}
    buffer = io.BytesIO()
    further = {"text": "hello", "cell": np.array([[1, "x"]], dtype=object), "c": np.array([1j])}
    scipy.io.savemat(buffer, {**values, **further}, do_compression=compressed)
    found = _matlab.matrices(buffer.getvalue())
    assert set(found) == set(values)
    buffer.seek(0)
    for name, expected in scipy.io.loadmat(buffer, variable_names=list(values)).items():
        if name in values:
            np.testing.assert_array_equal(found[name], expected)


def test_a_table_that_inflates_without_end_is_refused() -> None:
    bomb = zlib.compress(bytes(1 << 25))
    head = b"MATLAB".ljust(124) + b"\x00\x01IM"
    with pytest.raises(ValueError, match="too large"):
        _matlab.matrices(head + struct.pack("<2I", 15, len(bomb)) + bomb)


def test_an_hdf5_file_is_named_as_unreadable(tmp_path: Path) -> None:
    tables(tmp_path)
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(600)
    (tmp_path / "setid.mat").write_bytes(head)
    assert "setid.mat is no readable MATLAB file: not a MATLAB file of level 5" in refusal(tmp_path)


def test_a_table_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    tables(tmp_path)
    (tmp_path / "setid.mat").write_bytes(bytes(flowers.LARGEST + 1))
    assert "setid.mat cannot be read: header_bounds" in refusal(tmp_path)


def build_flowers(raw: Path, out: Path) -> Result:
    settings = Settings(size=(64, 64), crop="none", orient="none", folds=2, fit="stretch")
    return build(BuildConfig("flowers", settings, raw, out, workers=2))


def pictures(out: Path) -> list[np.ndarray]:
    """The finished pictures of all shards."""
    found = []
    for path in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            names = [name for name in tar.getnames() if name.endswith(".png")]
            data = [tar.extractfile(name).read() for name in names if ".mask." not in name]
        found += [cv2.imdecode(np.frombuffer(item, np.uint8), -1) for item in data]
    return found


def test_a_build_keeps_colours_and_the_official_sets(raw: Path, tmp_path: Path) -> None:
    result = build_flowers(raw, tmp_path / "out")
    assert result.exit_code == 0
    assert result.summary["counts"]["built"] == 24
    truth = [json.loads(path.read_text()) for path in (raw / "truth").glob("*.json")]
    assert {item["label"] for item in truth} == set(phantom.CLASSES)
    samples = built(tmp_path / "out")
    assert Counter(s.about["split"] for s in samples) == {"train": 6, "val": 6, "test": 12}
    for picture in pictures(tmp_path / "out"):
        assert picture.shape == (64, 64, 3)
        assert np.ptp(picture.astype(int), axis=2).max() > 100


def test_the_pictures_of_a_class_share_a_colour(raw: Path) -> None:
    """Otherwise no training could tell the phantom's classes apart."""
    hues: dict[int, list[float]] = {}
    for path in (raw / "truth").glob("*.json"):
        truth = json.loads(path.read_text())
        with Image.open(raw / "jpg" / f"{path.stem}.jpg") as picture:
            hue, saturation, value = np.moveaxis(np.asarray(picture.convert("HSV")), 2, 0)
        petals = (saturation > 170) & (value > 150) & (abs(hue.astype(int) - 35) > 8)
        hues.setdefault(truth["label"], []).append(float(np.median(hue[petals])))
    medians = sorted(np.median(found) for found in hues.values())
    assert all(np.ptp(found) < 6 for found in hues.values())
    assert min(np.diff(medians)) > 6


def test_the_folder_above_is_the_same_and_the_phantom_is_reproducible(
    raw: Path, tmp_path: Path
) -> None:
    shutil.copytree(raw, tmp_path / "above" / "flowers102")
    found = [read_inputs("flowers", place) for place in (raw, tmp_path / "above")]
    assert found[0].records == found[1].records
    assert all(found[0].sizes[record.input] > 0 for record in found[0].records)
    phantom.write(tmp_path / "again", patients=12, seed=4, size_scale=0.3, workers=2)
    assert tree_of(tmp_path / "again") == tree_of(raw)
