"""Names that may be anything: too long, with a NUL, in a circle, in two forms, no text at all."""

import json
import os
import struct
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import run_cli
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep import options
from mammoprep.builder import build
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.tree import OTHER_CASE, Folder, Tree, Zip, open_tree
from mammoprep.inputs import read_inputs
from mammoprep.phantoms._workbook import to_bytes

LONG = "x" * 300
ODD = ["\0", "..", ".", LONG, "loop", "s", "a.png", "\udcff", "\ud800", "ü", "u\u0308"]
PARTS = st.lists(
    st.text(st.characters(exclude_characters="/"), min_size=1, max_size=20) | st.sampled_from(ODD),
    min_size=1,
    max_size=4,
)


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def picture(path: Path, level: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(level)
    data = cv2.imencode(".png", rng.integers(0, 255, (200, 100), np.uint8))[1].tobytes()
    path.write_bytes(data)


def packed(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder))
    return archive


def built(folder: Path, out: Path, **given: object) -> dict:
    asked = {
        "source": "table", "size": "32x64", "input": str(folder), "out": str(out),
        "crop": "none", "orient": "none", "workers": 1, "missing": "fail", **given,
    }  # fmt: skip
    return build(options.build_config(asked)).summary["counts"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> list[Tree]:
    folder = tmp_path_factory.mktemp("trees") / "raw"
    picture(folder / "s" / "a.png")
    (folder / "loop").symlink_to("loop")
    (folder / "s" / "loop").symlink_to("loop")
    return [Folder(folder), Zip(packed(folder, folder.with_suffix(".zip")))]


def asked(question: Callable[[str], object], name: str) -> object:
    try:
        return question(name)
    except RecordError:
        return None


@settings(max_examples=300, deadline=None)
@given(parts=PARTS)
def test_no_name_ever_raises_an_error_of_the_system(trees: list[Tree], parts: list[str]) -> None:
    name = "/".join(parts)
    for tree in trees:
        there = tree.exists(name)
        tree.sizes(name)
        assert there == (asked(tree.read, name) is not None)
        assert not there or asked(tree.stamp, name)  # a folder has one too
        tree.sub(parts[0])


def test_a_link_in_a_circle_is_listed_and_says_so_when_it_is_read(trees: list[Tree]) -> None:
    tree = trees[0]
    assert (tree.folders(), tree.files()) == (["s"], ["loop"])
    assert tree.sizes("s")["s/loop"] == 0
    for name in ("loop", "s/loop"):
        assert not tree.exists(name)
        with pytest.raises(RecordError, match="unreadable: ELOOP"):
            tree.read(name)


def test_a_link_in_a_circle_costs_one_input_and_its_name_is_in_no_message(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    picture(raw / "deep" / "beside.png")
    for place in (raw / "Mary Miller 1950", raw / "deep" / "Mary Miller 1951"):
        place.symlink_to(place.name)
    key = tmp_path / "my.key"
    key.write_bytes(b"k" * 32)
    done = run_cli(
        "build", "--source", "dicom", "--input", raw, "--out", tmp_path / "out",
        "--size", "32x64", "--key-file", key, "--workers", "1",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "Mary" not in done.stdout + done.stderr
    written = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert b"Mary" not in written
    assert written.count(b'"detail":"ELOOP"') + written.count(b'"detail": "ELOOP"') >= 2


def test_a_link_in_a_circle_that_a_table_names_is_a_counted_failure(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("a.png", "s/b.png", "s/c.png", "d.png"):
        picture(raw / name)
    for name in ("loop.png", "s/loop.png"):
        (raw / name).symlink_to("loop.png")
    rows = [f"{name},{name},x" for name in ("a.png", "s/b.png", "s/c.png", "loop.png", "d.png")]
    lines = ["path,patient_id,label", *rows, "s/loop.png,q,x"]
    (raw / "table.csv").write_text("\n".join(lines) + "\n")
    assert built(raw, tmp_path / "out")["failed"] == {"unreadable": 2}


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("disk", ["NFC", "NFD"])
def test_a_name_is_found_however_its_accents_are_written(
    disk: str, pack: bool, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    told = "NFD" if disk == "NFC" else "NFC"
    names = ["Müller/ä.png", "é.png", "s/ü.png", "plain.png"]
    for name in names:
        picture(raw / unicodedata.normalize(disk, name))
    picture(raw / "m" / unicodedata.normalize(disk, "ö.png"))
    rows = [f"{unicodedata.normalize(told, name)},p{n},x" for n, name in enumerate(names)]
    (raw / "table.csv").write_text("\n".join(["path,patient_id,label", *rows]) + "\n")
    given = packed(raw, tmp_path / "raw.zip") if pack else raw
    counts = built(given, tmp_path / "out")
    assert (counts["built"], counts["failed"]) == (4, {})
    tree = open_tree(given)
    mask = unicodedata.normalize(told, "m/ö.png")
    assert tree.read(mask) == tree.read(unicodedata.normalize(disk, mask))
    assert tree.real(mask) == unicodedata.normalize(disk, mask)


def test_files_that_differ_only_in_how_accents_are_written_are_not_confused(
    tmp_path: Path,
) -> None:
    # U+212B, the sign of the unit, is a third way to write the letter.
    one, other, third = "\u00c5.png", nfd("\u00c5.png"), "\u212b.png"
    raw = tmp_path / "raw"
    picture(raw / one, 1)
    picture(raw / other, 2)
    for tree in (open_tree(raw), open_tree(packed(raw, tmp_path / "raw.zip"))):
        assert tree.read(one) == (raw / one).read_bytes() != tree.read(other)
        assert tree.real(one) == one
        assert tree.real(other) == other
        assert not tree.exists(third)  # which of the two is not known
        with pytest.raises(RecordError, match="file_missing"):
            tree.read(third)


def test_a_file_that_comes_later_is_found_in_its_own_form(tmp_path: Path) -> None:
    tree = Folder(tmp_path)
    assert not tree.exists("é.png")
    picture(tmp_path / nfd("é.png"))
    os.utime(tmp_path, ns=(1, 1))
    assert tree.exists("é.png")


def test_an_archive_that_does_not_say_that_its_names_are_utf_8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "finder.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("xxx.png", b"content")
    raw = nfd("é").encode()
    path.write_bytes(path.read_bytes().replace(b"xxx", raw))
    assert Zip(path).files() != ["é.png"]
    assert Zip(path).read("é.png") == b"content"


def test_an_archive_with_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("é.png", b"content")  # its flag says UTF-8
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(ConfigError, match="cannot be read as a zip file"):
        Zip(path)


def test_a_member_packed_in_a_damaged_way_is_unreadable_and_no_traceback(tmp_path: Path) -> None:
    for kind in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED):
        path = tmp_path / f"{kind}.zip"
        with zipfile.ZipFile(path, "w", kind) as file:
            file.writestr("a.csv", os.urandom(4000))
        data = bytearray(path.read_bytes())
        data[60:600] = struct.pack("B", 0xFF) * 540
        path.write_bytes(data)
        with pytest.raises(RecordError, match="unreadable"):
            Zip(path).read("a.csv")


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be listed \(ENOENT\)"):
        Folder(tmp_path / "gone").files()


def test_a_file_name_that_is_no_text_stops_with_the_name_written_out(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    odd = folder / "CMMD" / "D1-0001" / os.fsdecode(b"1-\xff")
    odd.mkdir(parents=True)
    (odd / "1.dcm").write_bytes(b"")
    rows = [("ID1", "LeftRight", "Age", "abnormality", "classification", "subtype")]
    sheet = to_bytes([*rows, ("D1-0001", "L", 50, "mass", "Benign", "")], "a")
    (folder / "CMMD_clinicaldata_revision.xlsx").write_bytes(sheet)
    with pytest.raises(ConfigError, match=r"D1-0001/1-\\udcff/1.dcm is not UTF-8 text. Rename it"):
        read_inputs("cmmd", folder)


HEADER = "path,patient_id,label"


@pytest.mark.parametrize("pack", [False, True])
def test_where_most_files_are_absent_nothing_is_begun_until_the_user_says_what_that_means(
    pack: bool, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    for name in ("s/a.PNG", "s/b.PNG"):
        picture(raw / name)
    rows = ["s/a.PNG,1,x", "s/b.png,2,x", "s/c.png,3,x"]
    (raw / "table.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    given = packed(raw, tmp_path / "raw.zip") if pack else raw
    with pytest.raises(ConfigError) as caught:
        built(given, tmp_path / "out", missing=None)
    message = str(caught.value)
    assert "2 of 3 images that the table names are not in" in message
    assert "such as s/b.png, s/c.png. In s/ there is a.PNG, b.PNG." in message
    assert "--missing skip builds what is there; --missing fail counts each" in message
    assert not (tmp_path / "out").exists()
    counts = built(given, tmp_path / "fail", missing="fail")
    assert counts["failed"] == {"file_missing": 2}
    counts = built(given, tmp_path / "skip", missing="skip")
    assert (counts["failed"], counts["excluded"]) == ({}, {"no_file": 2})
    with pytest.raises(ConfigError, match="2 of 3 images"):
        built(given, tmp_path / "fail", missing=None)
    assert built(given, tmp_path / "first", missing=None, limit=1)["built"] == 1


@pytest.mark.parametrize("pack", [False, True])
def test_a_file_of_another_case_is_not_opened_and_is_said(pack: bool, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("S/a.PNG", "S/b.png", "S/m.png"):
        picture(raw / name)
    rows = ["S/b.png,1,x,", "s/A.png,2,x,", "S/B.png,3,x,", "S/c.png,4,x,", "S/a.PNG,5,x,S/M.png"]
    (raw / "table.csv").write_text("\n".join([f"{HEADER},mask", *rows]) + "\n")
    given = packed(raw, tmp_path / "raw.zip") if pack else raw
    tree = open_tree(given)
    assert [tree.exists_in_other_case(row.split(",")[0]) for row in rows] == [
        False, True, True, False, False,
    ]  # fmt: skip
    built(given, tmp_path / "out", max_failures="9")
    lines = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    details = {line["input"]: (line["code"], line["detail"]) for line in lines}
    cased = {name for name, (_, detail) in details.items() if detail.endswith(OTHER_CASE)}
    assert cased == {"s/A.png", "S/B.png", "S/a.PNG"}
    assert details["S/a.PNG"][0] == "mask_missing"
    with pytest.raises(ConfigError, match=r"The name of s/A.png differs in case only from a file"):
        built(given, tmp_path / "none", missing=None)


@pytest.mark.parametrize("pack", [False, True])
def test_where_most_masks_are_absent_nothing_is_begun_until_the_user_says_what_that_means(
    pack: bool, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    for name in ("a.png", "b.png", "c.png", "m/c.png"):
        picture(raw / name)
    rows = ["a.png,1,x,m/a.png", "b.png,2,x,m/C.png", "c.png,3,x,m/c.png"]
    (raw / "table.csv").write_text("\n".join([f"{HEADER},mask", *rows]) + "\n")
    given = packed(raw, tmp_path / "raw.zip") if pack else raw
    with pytest.raises(ConfigError) as caught:
        built(given, tmp_path / "out", missing=None)
    message = str(caught.value)
    assert "2 of 3 mask files of images that are there are not in" in message
    assert "such as m/C.png, m/a.png. In m/ there is c.png. The name of m/C.png" in message
    assert "--columns mask= builds without masks, --missing fail counts" in message
    assert not (tmp_path / "out").exists()
    found = built(given, tmp_path / "fail", missing="fail", max_failures="9")["failed"]
    assert found["mask_missing"] == 2
    assert built(given, tmp_path / "bare", missing=None, columns="mask=")["built"] == 3
    (raw / "table.csv").write_text("\n".join([f"{HEADER},mask", *rows[1:]]) + "\n")
    assert built(raw, tmp_path / "half", missing=None, max_failures="9")["failed"]["mask_missing"]


def test_an_archive_with_backslashes_has_folders_and_names_that_clash_stay(tmp_path: Path) -> None:
    def archive(*names: str) -> Tree:
        with zipfile.ZipFile(tmp_path / "raw.zip", "w") as file:
            for name in names:
                info = zipfile.ZipInfo()
                info.filename = name
                file.writestr(info, name)
        return open_tree(tmp_path / "raw.zip")

    tree = archive("set\\", "set\\a\\1.png", "set\\table.csv")
    assert (tree.folders(), tree.files()) == (["set"], [])
    inside = tree.sub("set")
    assert sorted(inside.sizes("a")) == ["a/1.png"]
    assert inside.read("a/1.png") == b"set\\a\\1.png"
    tree = archive("a\\1.png", "a/1.png", "..\\x.png")
    assert tree.read("a/1.png") == b"a/1.png"
    assert tree.read("a\\1.png") == b"a\\1.png"
    with pytest.raises(RecordError, match="unsafe_path"):
        tree.read("../x.png")


def test_where_half_of_the_files_are_there_the_others_are_counted(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    picture(raw / "a.png")
    (raw / "table.csv").write_text(f"{HEADER}\na.png,1,x\ns/b.png,2,x\n")
    asked = {"missing": None, "max_failures": "1"}
    assert built(raw, tmp_path / "out", **asked)["failed"] == {"file_missing": 1}
    # The option that says the same is the same build.
    assert built(raw, tmp_path / "out", missing="fail")["failed"] == {"file_missing": 1}


@pytest.mark.parametrize("option", ["input", "table", "split_file", "out", "key_file", "id_map"])
def test_an_option_that_names_no_possible_place_is_refused(option: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    source = "dicom" if option in ("key_file", "id_map") else "table"
    for path in ("a\0b", f"{tmp_path}/{LONG}", str(tmp_path / "loop")):
        given = {"source": source, "size": "32x64", "input": str(tmp_path), option: path}
        with pytest.raises(ConfigError, match=f"--{option.replace('_', '-')}"):
            options.build_config(given)
