"""Shards: reproducible USTAR that tarfile, webdataset and a plain seek all read."""

import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import KEY_LIMIT, make_key
from mammoprep.writers.tar import TarWriter


def write(path: Path) -> str:
    with TarWriter(path) as tar:
        tar.add("a_1", [("png", b"x" * 700), ("json", b"{}")])
        tar.add("a_2", [("png", b""), ("json", b"[1]")])
        return tar.close()


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "1.tar") == write(tmp_path / "2.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_the_hash_returned_is_the_hash_on_disk(tmp_path: Path) -> None:
    assert write(tmp_path / "1.tar") == sha256((tmp_path / "1.tar").read_bytes()).hexdigest()


def test_tarfile_reads_ustar_members_without_times_or_owners(tmp_path: Path) -> None:
    write(tmp_path / "1.tar")
    with tarfile.open(tmp_path / "1.tar") as tar:
        members = tar.getmembers()
        assert [m.name for m in members] == ["a_1.png", "a_1.json", "a_2.png", "a_2.json"]
        assert tar.extractfile(members[3]).read() == b"[1]"  # type: ignore[union-attr]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert (tmp_path / "1.tar").read_bytes()[257:265] == b"ustar\x0000"


def test_offsets_lead_to_the_same_bytes_with_a_plain_seek(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "1.tar") as tar:
        placed = tar.add("k", [("png", b"abc"), ("json", b"defg")])
        tar.close()
    content = (tmp_path / "1.tar").read_bytes()
    assert [content[m.offset : m.offset + m.size] for m in placed] == [b"abc", b"defg"]


def test_an_unfinished_tar_leaves_no_file(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "1.tar") as tar:
        tar.add("k", [("png", b"abc")])
    assert not list(tmp_path.iterdir())


def test_the_longest_key_with_the_longest_suffix_fits_a_ustar_name() -> None:
    key = make_key("rsna", "P" * 300, "Q")
    assert len(key) <= KEY_LIMIT
    assert len(f"{key}_r99_99.intersection.png") <= 100


def test_keys_are_legal_and_long_ones_stay_different() -> None:
    assert make_key("rsna", "Ab.C/ä", "1") == "rsna_ab-c--_1"
    assert make_key("rsna", "x" * 200, "1") != make_key("rsna", "x" * 200, "2")
    with pytest.raises(ConfigError):
        make_key("rsna", "")
