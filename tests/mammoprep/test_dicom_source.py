"""The dicom source: sorted by rule, grouped by person, and nothing that names anybody gets out."""

import base64
import csv
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pyarrow.parquet
import pydicom
import pytest
from helpers import run_cli, tree_of

from mammoprep import plan, private
from mammoprep.builder import COMMAND, Result, Watcher, build
from mammoprep.config import BuildConfig, Settings
from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.pseudonyms import pseudonym
from mammoprep.core.schema import Record
from mammoprep.core.tree import open_tree
from mammoprep.decode import gate, identity
from mammoprep.inputs import read_inputs
from mammoprep.phantoms import dicom as phantom
from mammoprep.plan import Planned, Shard
from mammoprep.run import stamp_of
from mammoprep.sources import dicom

SECRET = bytes(range(32)).hex()
TINY = Settings(size=(32, 64), folds=2)


class Listening(Watcher):
    """Remembers the lines for the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom") / "made"
    phantom.write(folder, patients=4, seed=5, size_scale=0.04)
    return folder


@pytest.fixture
def raw(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made / phantom.EXPORT, tmp_path / "raw"))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("key") / "my.key", bytes.fromhex(SECRET))


def write_key(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def run(raw: Path, out: Path, key: Path | None, watcher: Watcher | None = None, **places) -> Result:
    command = places.pop("command", COMMAND)
    config = BuildConfig("dicom", TINY, raw, out, key_file=key, **{"workers": 2, **places})
    return build(config, watcher, command)


def id_map(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def truth(made: Path) -> dict[str, dict[str, str]]:
    with (made / "truth" / "files.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def change(path: Path, **facts: object) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in facts.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


# Sorting and grouping


@pytest.fixture(scope="module")
def whole(made: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """The phantom, built: (folder of everything, result, lines for the user)."""
    folder, watcher = tmp_path_factory.mktemp("whole"), Listening()
    place = {"id_map": folder / "ids.csv"}
    result = run(made / phantom.EXPORT, folder / "out", key, watcher, **place)
    return folder, result, watcher.lines


def test_every_file_is_built_or_left_out_by_the_rule_that_the_truth_names(
    made: Path, whole: tuple
) -> None:
    folder, result, _ = whole
    expected = truth(made)
    found = {row["path"]: row["left_out"] for row in id_map(folder / "ids.csv")}
    assert found == {path: row["code"] for path, row in expected.items()}
    codes = Counter(row["code"] for row in expected.values())
    counts = result.summary["counts"]
    assert counts["excluded"] == {code: n for code, n in sorted(codes.items()) if code}
    assert set(counts["excluded"]) == {
        "not_dicom", "not_an_image", "not_a_mammogram", "for_processing", "multiframe",
        "view_excluded", "duplicate",
    }  # fmt: skip
    assert (counts["failed"], counts["samples"], result.exit_code) == ({}, codes[""], 0)


def test_groups_are_patients_and_a_nameless_file_joins_its_study(made: Path, whole: tuple) -> None:
    folder, _, lines = whole
    expected = truth(made)
    rows = [row for row in id_map(folder / "ids.csv") if not row["left_out"]]
    pairs = {(expected[row["path"]]["patient"], row["group"]) for row in rows}
    assert len(pairs) == len({group for _, group in pairs}) == 4
    assert sum("1 were put to the patient of their study" in line for line in lines) == 1


def test_files_of_one_uid_that_differ_are_told(whole: tuple) -> None:
    assert sum(line.startswith("1 files have the SOP Instance UID of another") for line in whole[2])


def test_samples_have_side_view_exam_and_no_label(whole: tuple) -> None:
    table = pyarrow.parquet.read_table(whole[0] / "out" / "samples.parquet").to_pylist()
    assert Counter(row["view"] for row in table)[None] == 1
    assert {row["laterality"] for row in table} == {"L", "R"}
    assert {row["label"] for row in table} == {row["labels.cancer"] for row in table} == {None}
    assert {row["annotation"] for row in table} == {"none"}
    exams = {row["exam_id"] for row in table}
    assert len(exams - {None}) == 3
    stripped = [row for row in table if row["view"] is None]
    assert "kind_assumed" in stripped[0]["warnings"]
    assert sum("kind_assumed" in row["warnings"] for row in table) == 1
    assert re.fullmatch("dicom_[0-9a-f]{32}", table[0]["key"])


def finding(**facts: str | None) -> dict:
    names = ("excluded", "image", "study", "patient", "issued", "pixels", "laterality", "view",
             "manufacturer")  # fmt: skip
    return {**dict.fromkeys(names), **facts}


def groups(*findings: dict) -> list[str]:
    records = [
        Record(key=f"dicom_{n}", source="dicom", group=f"{n}", input=f"{n}", alias=f"{n}")
        for n in range(len(findings))
    ]
    found = dict(zip("0123456789", findings, strict=False))
    return [record.group for record in dicom.settle(records, found)[0]]


def test_a_number_is_a_persons_only_together_with_its_issuer() -> None:
    here, there = finding(patient="7", issued="7a"), finding(patient="7", issued="7b")
    assert groups(here, there, here) == ["7a", "7b", "7a"]


def test_a_number_without_issuer_somewhere_is_one_person_everywhere() -> None:
    here, there = finding(patient="7", issued="7a"), finding(patient="7", issued="7b")
    assert groups(here, finding(patient="7"), there) == ["7", "7", "7"]


def test_without_a_number_the_study_is_the_group_and_without_it_the_file() -> None:
    assert groups(finding(study="s"), finding(study="s"), finding(), finding()) == [
        "s", "s", "2", "3",
    ]  # fmt: skip


def test_the_first_by_path_that_is_taken_is_kept() -> None:
    raw = finding(image="u", excluded="for_processing", pixels="1")
    records = [Record(key=f"dicom_{n}", source="dicom", group=n, input=n, alias=n) for n in "abcd"]
    found = {"a": raw, "b": finding(image="u", pixels="2"), "c": finding(image="u", pixels="2")}
    settled, lines = dicom.settle(records, {**found, "d": finding(image="u", pixels="3")})
    codes = [record.excluded for record in settled]
    assert codes == ["for_processing", None, "duplicate", "duplicate"]
    assert len({record.key for record in settled}) == 4
    assert lines[-1].startswith("1 files")


def test_files_that_are_named_as_dicom_and_are_none_are_told_apart() -> None:
    names = ("a.dcm", "b.DCM", "c", "page.html", "d.dcm")
    records = [Record(key=n, source="dicom", group=n, input=n, alias=n) for n in names]
    kinds = ("a Git LFS pointer", "an HTML page", "a Git LFS pointer", "an HTML page")
    found = {
        name: {**finding(excluded="not_dicom"), "what": what}
        for name, what in zip(names, kinds, strict=False)
    }
    settled, lines = dicom.settle(records, {**found, "d.dcm": finding(study="s", patient="p")})
    assert [record.excluded for record in settled] == ["not_dicom"] * 4 + [None]
    assert lines[-1].startswith("3 files are named as DICOM and are none")
    assert "2 x a Git LFS pointer, 1 x an HTML page" in lines[-1]
    assert "git lfs pull" in lines[-1]
    assert "page.html" not in lines[-1]


@pytest.mark.slow
def test_files_of_no_interest_move_no_patient_to_another_fold(
    made: Path, raw: Path, key: Path, tmp_path: Path
) -> None:
    for number in range(40):
        (raw / f"{number}.tmp").write_bytes(b"x" * number)
    run(made / phantom.EXPORT, tmp_path / "plain", key)
    run(raw, tmp_path / "more", key)
    rows = [
        {(r["key"], r["split"]) for r in pyarrow.parquet.read_table(out).to_pylist()}
        for out in sorted(tmp_path.glob("*/samples.parquet"))
    ]
    assert rows[0] == rows[1]


def test_what_is_left_out_of_a_patients_images_has_no_weight_in_the_folds() -> None:
    def placed(left_out: dict[str, int]) -> dict[str, str]:
        records = [
            Record(f"dicom_{g}{n}", "dicom", g, f"{g}{n}", excluded=None if n < 4 else "duplicate")
            for g in "abcdefg"
            for n in range(4 + left_out.get(g, 0))
        ]
        planned = plan.make(records, {record.input: 9 for record in records}, TINY)
        return {i.record.key: shard.split for shard in planned.shards for i in shard.inputs}

    assert placed({}) == placed({"c": 40}) == placed({"e": 3, "f": 9})


def test_what_cannot_be_read_fails_with_its_code_and_is_not_left_out(
    raw: Path, key: Path, tmp_path: Path
) -> None:
    names = sorted(path for path in raw.rglob("* of *-*") if path.is_file())
    names[4].write_bytes(names[4].read_bytes()[:700])
    names[5].write_bytes(names[5].read_bytes()[-400:])
    bare = names[6].read_bytes()
    names[6].write_bytes(bare[bare.index(b"\x08\x00\x05\x00CS") :])
    displaced = sorted(raw.rglob("*LMLO*"))[0]
    displaced.write_bytes(bytes(128) + displaced.read_bytes()[132:])
    result = run(raw, tmp_path / "out", key, id_map=tmp_path / "ids.csv")
    counts = result.summary["counts"]
    assert counts["failed"] == {"prefix_missing": 1, "unreadable": 1}
    assert counts["excluded"]["not_dicom"] == 2
    failures = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    paths = {row["id"]: raw / row["path"] for row in id_map(tmp_path / "ids.csv")}
    assert {paths[json.loads(line)["input"]] for line in failures} == {names[4], displaced}
    assert result.exit_code == 3


def test_a_folder_that_cannot_be_read_is_a_failure_and_no_silence(
    raw: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = next(path for path in sorted(raw.rglob("*")) if path.is_dir() and path.parent != raw)
    look = os.scandir

    def scandir(path: Path) -> object:
        if Path(path) == locked:
            raise PermissionError
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    counts = run(raw, tmp_path / "out", key).summary["counts"]
    assert counts["failed"]["unreadable"] == 1


@pytest.mark.slow
def test_a_huge_file_is_left_out_unless_it_is_dicom(raw: Path, key: Path, tmp_path: Path) -> None:
    for name, start in (("disc.iso", b""), ("volume", bytes(128) + b"DICM")):
        (raw / name).write_bytes(start)
        os.truncate(raw / name, (1 << 30) + 1)
    counts = run(raw, tmp_path / "out", key).summary["counts"]
    assert counts["failed"] == {"header_bounds": 1}
    assert counts["excluded"]["not_dicom"] == 2


# A child whose survey dies at a file: python -c FAULTY SHA256.
FAULTY = """
import os, signal, sys
from hashlib import sha256
from mammoprep import child
from mammoprep.decode import identity
plain = identity.identify
def identify(data, record):
    if sha256(data).hexdigest() == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGSEGV)
    return plain(data, record)
identity.identify = identify
child.main()
"""


@pytest.mark.slow
def test_a_file_that_crashes_the_survey_is_a_failure_until_it_is_tried_again(
    raw: Path, key: Path, tmp_path: Path
) -> None:
    victim = sorted(raw.rglob("*LMLO*"))[0]
    command = (sys.executable, "-c", FAULTY, sha256(victim.read_bytes()).hexdigest())
    result = run(raw, tmp_path / "out", key, command=command)
    assert result.summary["counts"]["failed"] == {"decode_crash": 1}
    shutil.copytree(raw, tmp_path / "moved", copy_function=shutil.copyfile)
    again = run(raw, tmp_path / "out", key)
    assert (again.exit_code, again.local["shards_built"]) == (3, [])
    mended = run(raw, tmp_path / "out", key, retry_failed=True)
    assert mended.exit_code == 0
    assert len(mended.local["shards_built"]) >= 1


def test_a_data_set_without_prefix_is_told_from_other_files(made: Path) -> None:
    path = next((made / phantom.EXPORT).rglob("*.dcm"))
    data = path.read_bytes()
    start = data.index(b"\x08\x00\x05\x00CS")
    record = Record(key="dicom", source="dicom", group="g", input="i")
    assert identity.identify(data[start:], record) == identity.identify(data, record)
    with pytest.raises(RecordError) as caught:
        identity.identify(bytes(128) + data[start:], record)
    assert caught.value.code == "prefix_missing"
    implicit = BytesIO()
    pydicom.dcmwrite(implicit, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[
        "SOPClassUID", "SOPInstanceUID", "StudyDate", "Modality"]), implicit_vr=True,
        little_endian=True, force_encoding=True)  # fmt: skip
    data = implicit.getvalue()
    assert gate.is_dicom(data[data.index(b"\x08\x00\x16\x00") :])
    for other in (b"", bytes(4096), b"\x89PNG\r\n\x1a\n" + bytes(500), b"PK\x03\x04" + bytes(90)):
        assert not gate.is_dicom(other)
        assert identity.identify(other, record).excluded == "not_dicom"


def test_blanks_around_an_identifier_make_no_other_person(made: Path, tmp_path: Path) -> None:
    path = shutil.copy(next((made / phantom.EXPORT).rglob("LCC*")), tmp_path / "a")
    found = []
    for number in ("Ä 1", " Ä 1 ", "Ä 1\0", "ä 1"):
        change(path, PatientID=number)
        found.append(dicom.survey(Path(path).read_bytes(), SECRET)["patient"])
    assert found[0] == found[1] == found[2] != found[3]


# Nothing gets out


def contents(out: Path) -> list[bytes]:
    """Return every byte of a dataset, and what compressed parts hold."""
    found = []
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        content = path.read_bytes()
        found += [content, os.fsencode(path.relative_to(out))]
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
            found += [repr(table.to_pylist()).encode(), repr(table.schema.metadata).encode()]
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in tar.getmembers():
                    file = tar.extractfile(member)
                    found += inflated(b"" if file is None else file.read())
        for picture in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
            found += [base64.b64decode(picture), *inflated(base64.b64decode(picture))]
    return found


def inflated(png: bytes) -> list[bytes]:
    if not png.startswith(b"\x89PNG"):
        return [png]
    at, pixels = 8, b""
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            pixels += png[at + 8 :][:size]
        at += 12 + size
    return [png, zlib.decompress(pixels)]


def forms(secret: str) -> list[bytes]:
    plain = secret.encode("utf-8", "surrogateescape")
    return [
        plain, plain[::-1], plain.hex().encode(), base64.b64encode(plain)[:-4],
        json.dumps(secret)[1:-1].encode(), secret.encode("utf-16-le", "surrogatepass"),
        sha256(plain).hexdigest()[:16].encode(),
    ]  # fmt: skip


def leaks(out: Path, secrets: list[str], *more: bytes) -> list[str]:
    text = b"\n".join([*contents(out), *more])
    return [secret for secret in secrets if any(form in text for form in forms(secret))]


def test_no_name_number_date_uid_path_or_time_is_in_any_byte_of_the_output(
    made: Path, raw: Path, key: Path, tmp_path: Path
) -> None:
    secrets = (made / "truth" / "private.txt").read_text("utf-8").splitlines()
    assert len(secrets) > 60
    victim = sorted(raw.rglob("*RMLO*"))[0]
    victim.write_bytes(victim.read_bytes()[:700])  # failures are silent too
    broken = sorted(raw.rglob("*RCC*"))[0]
    change(broken, Rows=3)
    # Names of folders alone, hashes of contents, keys, and when a file was written.
    parts = {part for path in raw.rglob("*") for part in path.relative_to(raw).parts}
    secrets += sorted(parts - {"raw", "spot", "tomo"})
    files = [path for path in raw.rglob("*") if path.is_file()]
    secrets += [sha256(path.read_bytes()).hexdigest()[:32] for path in files]
    for number, path in enumerate(files):
        os.utime(path, ns=(0, 1_234_567_890_000_000_000 + number))
    secrets += ["1234567890", SECRET, str(raw), str(key), "ids.csv", "Nordbruch", "NORDBRUCH"]
    out, ids = tmp_path / "out", tmp_path / "ids.csv"
    options = ["--source", "dicom", "--size", "32x64", "--folds", "3", "--workers", "2",
               "--max-failures", "100%"]  # fmt: skip
    places = ["--input", raw, "--out", out, "--key-file", key, "--id-map", ids]
    done = run_cli("build", *options, *places)
    assert done.returncode == 0, done.stderr
    counts = json.loads((out / "dataset.json").read_text())["counts"]
    assert set(counts["failed"]) == {"header_bounds", "unreadable"}
    assert leaks(out, secrets, done.stdout.encode(), done.stderr.encode()) == []
    again = run_cli("build", *options, *places)
    assert leaks(out, secrets, again.stdout.encode(), again.stderr.encode()) == []
    refused = run_cli("build", *options, *places[:4])
    assert refused.returncode == 2
    raw_uid = re.compile(rb"(\d+\.){3,}\d{5,}|2\.25\.\d+")
    assert not [found for found in contents(out) if raw_uid.search(_without_syntax(found))]


def _without_syntax(content: bytes) -> bytes:
    return re.sub(rb"1\.2\.840\.10008\.1\.2[0-9.]*", b"", content)


def test_the_search_would_find_what_is_there(whole: tuple) -> None:
    out = whole[0] / "out"
    row = pyarrow.parquet.read_table(out / "samples.parquet").to_pylist()[0]
    assert leaks(out, [row["key"], row["group"], "dicom"]) == [row["key"], row["group"], "dicom"]


def test_what_is_planned_is_hashed_without_the_path() -> None:
    def digest(path: str) -> str:
        record = Record(key="dicom_1", source="dicom", group="1", input=path, alias="f" * 32)
        return Shard("fold0-00000", "fold0", (Planned(record, 9),)).sha256

    assert digest("Jane Doe/1.dcm") == digest("John Doe/2.dcm")


def test_a_stamp_is_a_hash_without_the_path(tmp_path: Path) -> None:
    for name in ("Jane Doe", "John Doe"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, ns=(0, 0))
    records = [
        Record(key="dicom_1", source="dicom", group="1", input=path, alias="f" * 32)
        for path in ("Jane Doe", "John Doe")
    ]
    shards = [Shard("fold0-00000", "fold0", (Planned(record, 1),)) for record in records]
    first, second = (stamp_of(shard, open_tree(tmp_path)) for shard in shards)
    assert first == second


# The key and the table of who is who


def test_levels_parts_and_keys_make_other_pseudonyms() -> None:
    other = bytes(32).hex()
    asked = [("a", "b"), ("b", "a"), ("a", "b", "c"), ("a", "bc"), ("ab", "c"), ("a", "")]
    made = {pseudonym(key, *parts) for key in (SECRET, other) for parts in asked}
    assert len(made) == 2 * len(asked)
    assert all(re.fullmatch("[0-9a-f]{32}", found) for found in made)
    # printf '["patient", "41"]' | openssl dgst -sha256 -hmac Jefe
    assert pseudonym(b"Jefe".hex(), "patient", "41") == "1efee429be0dc687344bc888b8d2244e"


@pytest.mark.slow
def test_one_and_two_workers_a_copy_and_a_zip_make_the_same_bytes(
    made: Path, key: Path, tmp_path: Path
) -> None:
    folder = made / phantom.EXPORT
    run(folder, tmp_path / "one", key, workers=1)
    run(folder, tmp_path / "two", key, workers=2)
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    run(archive, tmp_path / "zip", key)
    assert tree_of(tmp_path / "one") == tree_of(tmp_path / "two") == tree_of(tmp_path / "zip")
    assert run(folder, tmp_path / "one", key).local["shards_built"] == []


@pytest.mark.slow
def test_another_key_gives_other_ids_and_is_refused_in_the_same_folder(
    made: Path, key: Path, whole: tuple, tmp_path: Path
) -> None:
    other = write_key(tmp_path / "other.key", b"another secret of 16 bytes and more")
    place = {"id_map": tmp_path / "ids.csv"}
    run(made / phantom.EXPORT, tmp_path / "out", other, **place)
    mine, theirs = id_map(whole[0] / "ids.csv"), id_map(tmp_path / "ids.csv")
    for column in ("id", "key", "group", "study_id"):
        assert not {r[column] for r in mine if r[column]} & {r[column] for r in theirs}
    assert [row["path"] for row in mine] == [row["path"] for row in theirs]
    with pytest.raises(ConfigError, match=r"key_file: [0-9a-f]{32} -> [0-9a-f]{32}"):
        run(made / phantom.EXPORT, tmp_path / "out", key)


def test_the_id_map_maps_every_id_back(made: Path, whole: tuple) -> None:
    folder, result, _ = whole
    rows = {row["key"]: row for row in id_map(folder / "ids.csv")}
    table = pyarrow.parquet.read_table(folder / "out" / "samples.parquet").to_pylist()
    assert len(table) == result.summary["counts"]["samples"]
    for sample in table:
        row = rows[sample["key"]]
        assert (row["group"], row["study_id"]) == (sample["group"], sample["study_id"])
        header = pydicom.dcmread(made / phantom.EXPORT / row["path"], stop_before_pixels=True)
        assert header.ImageLaterality == sample["laterality"]
        uid = pseudonym(SECRET, "image", str(header.SOPInstanceUID).encode().hex())
        assert sample["key"] == f"dicom_{uid}"
        assert row["id"] == pseudonym(SECRET, "input", row["path"])
    assert stat.S_IMODE((folder / "ids.csv").stat().st_mode) == 0o600
    assert [p.name for p in folder.iterdir() if p.name.endswith(".part")] == []


def test_a_moved_file_keeps_its_key(raw: Path, key: Path, whole: tuple, tmp_path: Path) -> None:
    shutil.move(next(raw.rglob("LCC*")), raw / "1")
    run(raw, tmp_path / "out", key)
    keys = [
        {r["key"] for r in pyarrow.parquet.read_table(out / "samples.parquet").to_pylist()}
        for out in (whole[0] / "out", tmp_path / "out")
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no regular file"),
        (b"", "16 to 65536 bytes, found 0"),
        (b"x" * 15, "found 15"),
        (b"x" * 65537, "found more"),
    ],
)
def test_a_file_that_is_no_key_is_refused(
    content: bytes | None, expected: str, raw: Path, tmp_path: Path
) -> None:
    path = tmp_path / "my.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        run(raw, tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_a_pipe_is_no_key(raw: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "my.key")
    with pytest.raises(ConfigError, match="no regular file"):
        run(raw, tmp_path / "out", tmp_path / "my.key")


def test_without_a_key_the_message_says_how_to_make_one(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("head -c 32 /dev/urandom > my.key")):
        run(raw, tmp_path / "out", None)
    with pytest.raises(ConfigError, match="needs a key"):
        read_inputs("dicom", raw)


def test_private_files_lie_outside_of_what_is_shared(raw: Path, key: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".state").mkdir(parents=True)
    inside = write_key(out / "my.key", b"x" * 32)
    (tmp_path / "link").symlink_to(out)
    for path in (inside, tmp_path / "link" / "my.key"):
        with pytest.raises(ConfigError, match="lies in --out"):
            run(raw, out, path)
    for path in (out / "ids.csv", tmp_path / "link" / "ids.csv", raw / "ids.csv"):
        with pytest.raises(ConfigError, match=r"lies in --(out|input)"):
            run(raw, out, key, id_map=path)
    with pytest.raises(ConfigError, match="next run would read what this one writes"):
        run(raw, raw / "out", key)


@pytest.mark.slow
def test_only_an_id_map_is_overwritten(raw: Path, key: Path, tmp_path: Path) -> None:
    mine = tmp_path / "thesis.csv"
    mine.write_text("id,path\n1,2\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "nowhere.csv")
    for path in (mine, tmp_path / "link.csv", tmp_path):
        with pytest.raises(ConfigError, match=r"not overwritten|lies in"):
            run(raw, tmp_path / "out", key, id_map=path)
    assert mine.read_text() == "id,path\n1,2\n"
    with pytest.raises(ConfigError, match="no folder"):
        run(raw, tmp_path / "out", key, id_map=tmp_path / "none" / "ids.csv")
    record = Record(key="dicom_1", source="dicom", group="1", input="=cmd.dcm", alias="1")
    private.write_id_map(tmp_path / "ids.csv", [record])
    assert id_map(tmp_path / "ids.csv")[0]["path"] == "./=cmd.dcm"
    (tmp_path / "to-a-map.csv").symlink_to(tmp_path / "ids.csv")
    with pytest.raises(ConfigError, match="not overwritten"):
        run(raw, tmp_path / "out", key, id_map=tmp_path / "to-a-map.csv")
    run(raw, tmp_path / "out", key, id_map=tmp_path / "ids.csv")
    assert len(id_map(tmp_path / "ids.csv")) == sum(path.is_file() for path in raw.rglob("*"))


def test_a_key_that_others_can_read_is_told(raw: Path, tmp_path: Path) -> None:
    path, watcher = write_key(tmp_path / "my.key", b"x" * 32), Listening()
    path.chmod(0o644)
    run(raw, tmp_path / "out", path, watcher)
    assert any("chmod 600" in line for line in watcher.lines)


def test_the_options_are_refused_by_other_sources(phantom_once: Path, key: Path) -> None:
    for places in ({"key_file": key}, {"id_map": key.parent / "ids.csv"}):
        config = BuildConfig("rsna", TINY, phantom_once, key.parent / "out", **places)
        with pytest.raises(ConfigError, match="for --source dicom"):
            build(config)


def test_a_name_of_any_bytes_is_an_input_like_others(raw: Path, key: Path, tmp_path: Path) -> None:
    name = b"M\xfcller, \xc4nne\n1.dcm"
    next(raw.rglob("LCC*")).rename(raw / os.fsdecode(name))
    run(raw, tmp_path / "out", key, id_map=tmp_path / "ids.csv")
    paths = {os.fsencode(row["path"]): row["left_out"] for row in id_map(tmp_path / "ids.csv")}
    assert paths[name] == ""


# Where it is suggested


def test_any_folder_with_a_file_is_taken_and_an_empty_one_is_not(tmp_path: Path) -> None:
    assert dicom.locate(open_tree(tmp_path)) is None
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert dicom.locate(open_tree(tmp_path)) is None
    (tmp_path / "a" / "b" / "c").write_bytes(b"x")
    assert dicom.locate(open_tree(tmp_path)) == ""


def test_it_is_suggested_for_dicom_files_only_and_after_every_other(
    made: Path, phantom_once: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_bytes(bytes(200))
    assert not dicom.looks_like(open_tree(tmp_path))
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    assert dicom.looks_like(open_tree(tmp_path))
    with pytest.raises(ConfigError, match="it looks like dicom: try --source dicom"):
        read_inputs("rsna", made / phantom.EXPORT)
    with pytest.raises(ConfigError, match="it looks like rsna: try"):
        read_inputs("busi", phantom_once)
    with pytest.raises(ConfigError) as caught:
        read_inputs("rsna", made / "truth")
    assert "looks like dicom" not in str(caught.value)


def test_the_survey_returns_enumerations_and_hashes_only(made: Path) -> None:
    path = next((made / phantom.EXPORT).rglob("LMLO*"))
    for name, value in dicom.survey(path.read_bytes(), SECRET).items():
        known = value in (None, "L", "R", "MLO", "Hologic")
        assert known or re.fullmatch("[0-9a-f]{32}", value), name
    with pytest.raises(RecordError):
        dicom.survey(path.read_bytes()[:700], SECRET)


def test_the_layout_is_the_same_for_one_and_two_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        layout = plugins.load("mammoprep.phantoms", "dicom", needs=("write",))
        out = tmp_path / str(workers)
        layout.write(out, patients=1, seed=3, size_scale=0.02, workers=workers)
    assert tree_of(tmp_path / "1") == tree_of(tmp_path / "2")


# Real files


@pytest.mark.slow
def test_a_folder_of_everything_is_sorted_as_its_headers_say(
    real_data: Path, key: Path, tmp_path: Path
) -> None:
    result = run(real_data, tmp_path / "out", key, id_map=tmp_path / "ids.csv")
    counts = result.summary["counts"]
    assert counts["failed"] == {"no_transfer_syntax": 1}
    assert counts["samples"] == 5
    left_out = {row["path"]: row["left_out"] for row in id_map(tmp_path / "ids.csv")}
    built = {path for path, code in left_out.items() if not code}
    assert {path.split("/")[0] for path in built} == {"rsna", "mg_dicom"}
    kinds = {path: left_out[path] for path in left_out if path.startswith("mg_dicom/")}
    assert sorted(kinds.values()) == ["", "multiframe", "view_excluded"]
    ct_to_extremity = {code for path, code in left_out.items() if "/codecs_" in path}
    assert ct_to_extremity == {"not_a_mammogram"}
