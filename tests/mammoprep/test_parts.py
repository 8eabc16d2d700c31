"""Parts of files: exactly the bytes that were named, from folders and zip files, and no others."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.parts import Part, part_of
from mammoprep.core.schema import Record
from mammoprep.core.tree import Folder, Tree, Zip, open_locator
from mammoprep.decode import raster
from mammoprep.inputs import _sizes

DATA = bytes(range(256)) * 4
KINDS = ("folder", "zip")


@pytest.fixture
def trees(tmp_path: Path) -> dict[str, Tree]:
    """The same file in a folder and, stored and compressed, in a zip file."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "many.bin").write_bytes(DATA)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        packed.writestr("first.txt", "x" * 99)
        many = zipfile.ZipInfo("sub/many.bin")
        many.extra = b"\x99\x99\x04\x00more"
        packed.writestr(many, DATA)
        packed.writestr("sub/small.bin", DATA, zipfile.ZIP_DEFLATED)
    return {"folder": Folder(tmp_path / "in"), "zip": Zip(tmp_path / "all.zip")}


def code(tree: Tree, name: str, limit: int = 1 << 20) -> str:
    with pytest.raises(RecordError) as caught:
        tree.read(name, limit)
    return caught.value.code


def test_a_name_is_a_part_only_when_it_says_where_and_how_long() -> None:
    assert part_of("a/b.bin!12+7") == Part("a/b.bin", 12, 7)
    assert part_of("a!1+2!3+4") == Part("a!1+2", 3, 4)
    assert Part("a/b.bin", 12, 7).name == "a/b.bin!12+7"
    for name in ("a.png", "a!b.png", "a!1+", "a!+1", "a!-1+2", "!1+2", "a!1+2 ", "a!1+٣"):
        assert part_of(name) is None, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_has_its_own_bytes_size_and_stamp(kind: str, trees: dict[str, Tree]) -> None:
    tree = trees[kind]
    name = "sub/many.bin!250+10"
    assert tree.read(name) == DATA[250:260]
    assert tree.read("sub/many.bin!1024+0") == b""
    assert tree.exists(name)
    assert tree.stamp(name) == (10, tree.stamp("sub/many.bin")[1])
    assert open_locator(tree.locator()).read(name) == DATA[250:260]
    assert tree.sub("sub").read("many.bin!250+10") == DATA[250:260]


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_outside_of_its_file_is_refused(kind: str, trees: dict[str, Tree]) -> None:
    tree = trees[kind]
    assert not tree.exists("sub/many.bin!1020+5")
    assert not tree.exists("sub/none.bin!0+1")
    assert code(tree, "sub/many.bin!1020+5") == "unreadable"
    assert code(tree, "sub/many.bin!999999999999999+1") == "unreadable"
    assert code(tree, "sub/none.bin!0+1") == "file_missing"
    assert code(tree, "../many.bin!0+1") == "unsafe_path"
    assert code(tree, "sub/many.bin!0+100", limit=99) == "header_bounds"


def test_a_compressed_member_is_not_read_in_parts(trees: dict[str, Tree]) -> None:
    assert trees["zip"].read("sub/small.bin") == DATA
    with pytest.raises(ConfigError, match=r"sub/small.bin compressed.*Unzip it first"):
        trees["zip"].read("sub/small.bin!0+1")


def test_a_part_of_a_pipe_is_refused_and_nobody_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert code(Folder(tmp_path), "pipe!0+1") == "unreadable"


def test_a_zip_without_the_local_header_that_it_promises_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("x.bin", DATA)
    path.write_bytes(b"QQQQ" + path.read_bytes()[4:])
    assert code(Zip(path), "x.bin!0+1") == "unreadable"


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_known_of_parts_that_are_there(kind: str, trees: dict[str, Tree]) -> None:
    names = ["sub/many.bin!0+10", "sub/many.bin!1020+5", "sub/none.bin!0+1"]
    found = _sizes(trees[kind], names)
    assert found["sub/many.bin!0+10"] == 10
    assert not {*names[1:]} & {*found}
    flat = _sizes(trees[kind].sub("sub"), ["many.bin!4+4", "many.bin!8+4"])
    assert flat == {"many.bin": 1024, "many.bin!4+4": 4, "many.bin!8+4": 4}


RAW = Record(key="a_1", source="a", group="1", input="f!0+6000", raw=(60, 100))


def test_a_record_keeps_the_size_of_bare_pixels_through_json() -> None:
    size = (100, 64)
    again = Record.from_json({**RAW.to_json(), "raw": [*size]})
    assert again.raw == size
    assert isinstance(again.raw, tuple)
    assert Record.from_json({**RAW.to_json(), "raw": None}).raw is None


def test_bare_pixels_are_read_as_they_are_and_only_if_they_fit() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (64, 100), dtype=np.uint8)
    record = Record(key="a_1", source="a", group="1", input="f!0+6400", raw=(64, 100))
    image = raster.open_image(grey.tobytes(), record)
    np.testing.assert_array_equal(image.pixels, grey / np.float32(255))
    for data in (grey.tobytes()[:-1], grey.tobytes() + b"\0"):
        with pytest.raises(RecordError) as caught:
            raster.open_image(data, record)
        assert caught.value.code == "pixel_length_mismatch"


def test_bare_pixels_of_a_picture_s_first_bytes_are_still_pixels() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (64, 100), dtype=np.uint8)
    data = b"P5\n1 1\n255\n" + grey.tobytes()[11:]
    image = raster.open_image(data, Record("a_1", "a", "1", "f!0+6400", raw=(64, 100)))
    assert image.pixels.shape == (64, 100)


def test_a_bare_size_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(RecordError) as caught:
        raster.open_image(b"", Record("a_1", "a", "1", "f!0+0", raw=(1, 1 << 20)))
    assert caught.value.code == "header_bounds"
