"""Nothing that identifies a person leaves a header: canaries everywhere, searched everywhere."""

import base64
import json
import random
import re
import string
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pydicom
import pytest
from helpers import run_cli
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from mammoprep.phantoms import rsna as rsna_phantom

TEXT_TAGS = (
    "PatientName", "OtherPatientIDs", "PatientComments", "PatientAddress", "InstitutionName",
    "InstitutionAddress", "ReferringPhysicianName", "OperatorsName", "StudyDescription",
    "SeriesDescription", "ProtocolName", "StationName", "AccessionNumber", "DeviceSerialNumber",
    "ManufacturerModelName", "ImageComments", "DerivationDescription", "StudyID",
    "RequestedProcedureDescription", "PerformedProcedureStepDescription", "SoftwareVersions",
    "Manufacturer", "PatientState", "Occupation", "EthnicGroup", "AcquisitionDeviceProcessingCode",
    "DetectorID", "FilterType", "WindowCenterWidthExplanation", "ViewPosition",
)  # fmt: skip
DATE_TAGS = ("StudyDate", "SeriesDate", "PatientBirthDate", "AcquisitionDate", "ContentDate")
UID_TAGS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


class Planter:
    """Makes unique canaries and remembers them."""

    def __init__(self) -> None:
        self.rng = random.Random(9)
        self.planted: list[str] = []

    def text(self) -> str:
        word = "".join(self.rng.choices(string.ascii_uppercase, k=16))
        self.planted.append(word)
        return word

    def uid(self) -> str:
        value = f"1.2.840.99.{self.rng.randrange(10**20, 10**21)}"
        self.planted.append(value)
        return value

    def date(self) -> str:
        value = f"18{self.rng.randrange(10, 99)}0{self.rng.randrange(1, 9)}1{self.rng.randrange(9)}"
        self.planted.append(value)
        return value


def plant(path: Path, planter: Planter) -> None:
    dataset = pydicom.dcmread(path)
    for keyword in TEXT_TAGS:
        setattr(dataset, keyword, planter.text())
    for keyword in DATE_TAGS:
        setattr(dataset, keyword, planter.date())
    for keyword in UID_TAGS:
        setattr(dataset, keyword, planter.uid())
    dataset.PatientID = planter.text()
    dataset.file_meta.MediaStorageSOPInstanceUID = planter.uid()
    dataset.file_meta.SourceApplicationEntityTitle = planter.text()
    inner = Dataset()
    inner.PatientName = planter.text()
    deeper = Dataset()
    deeper.CodeMeaning = planter.text()
    deeper.ReferencedSOPInstanceUID = planter.uid()
    inner.RequestAttributesSequence = Sequence([deeper])
    dataset.OriginalAttributesSequence = Sequence([inner])
    for group in range(0x0009, 0x0029, 2):
        block = dataset.private_block(group, planter.text(), create=True)
        block.add_new(0x01, "LO", planter.text())
        block.add_new(0x02, "OB", planter.text().encode())
    dataset.add_new(0x60003000, "OW", planter.text().encode())
    dataset.preamble = (planter.text() * 8).encode()
    dataset.save_as(path)


def forms(canary: str) -> list[bytes]:
    plain = canary.encode()
    return [
        plain, plain[::-1], canary.encode("utf-16-le"), canary.encode("utf-16-be"),
        plain.hex().encode(), base64.b64encode(plain)[:-4],
    ]  # fmt: skip


def contents(out: Path) -> list[bytes]:
    """Return every byte of the output, compressed parts inflated."""
    found = []
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        content = path.read_bytes()
        found += [content, str(path).encode()]
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
            found += [repr(table.to_pylist()).encode(), str(table.schema).encode()]
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in tar.getmembers():
                    found += png_chunks(tar.extractfile(member).read())  # type: ignore[union-attr]
        for picture in re.findall(rb"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)", content):
            found += [base64.b64decode(picture), *png_chunks(base64.b64decode(picture))]
    return found


def png_chunks(content: bytes) -> list[bytes]:
    if not content.startswith(b"\x89PNG"):
        return []
    position, pixels, chunks = 8, b"", []
    while position < len(content):
        size = int.from_bytes(content[position : position + 4], "big")
        kind, data = content[position + 4 : position + 8], content[position + 8 :][:size]
        assert kind in (b"IHDR", b"IDAT", b"IEND", b"pHYs"), kind
        if kind == b"IDAT":
            pixels += data
        position += 12 + size
    return [*chunks, zlib.decompress(pixels)]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("canaries") / "rsna"
    rsna_phantom.write(folder, patients=12, seed=3, size_scale=0.04, prevalence=0.3)
    planter = Planter()
    files = sorted(folder.glob("*_images/*/*.dcm"))
    assert len(files) >= 45
    for path in files:
        plant(path, planter)
    # Failures must be silent too: cut, of another kind, with a wrong window, without a syntax.
    files[0].write_bytes(files[0].read_bytes()[:-400])
    for path, keyword, value in (
        (files[1], "SOPClassUID", generate_uid(prefix="1.2.840.99.")),
        (files[2], "VOILUTFunction", planter.text()),
        (files[3], "PhotometricInterpretation", planter.text()),
        (files[4], "WindowCenter", "nonsense"),
        (files[5], "Rows", 3),
    ):
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            setattr(dataset, keyword, value) if keyword != "WindowCenter" else None
            dataset.save_as(path)
    return folder, planter.planted


@pytest.mark.filterwarnings("ignore")
def test_no_canary_reaches_any_output_byte_log_or_report(
    planted: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, canaries = planted
    out = tmp_path / "out"
    options = "--source rsna --size 64x128 --folds 3 --workers 2 --max-failures 100%"
    done = run_cli("build", *options.split(), "--input", folder, "--out", out)
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "dataset.json").read_text())
    assert summary["counts"]["built"] >= 40
    assert sum(summary["counts"]["failed"].values()) >= 3
    haystack = [*contents(out), done.stdout.encode(), done.stderr.encode()]
    assert len(canaries) > 2500
    sought = {form: canary for canary in canaries for form in forms(canary)}
    assert not found_in(b"\n".join(haystack), sought)


def found_in(text: bytes, sought: dict[bytes, str]) -> set[str]:
    """Return what stands in a text, of words of eight bytes or more; all are sought at once."""
    begins = np.array([int.from_bytes(word[:8], "little") for word in sought], np.uint64)
    places = np.concatenate(
        [np.frombuffer(text, "<u8", (len(text) - at) // 8, at) for at in range(8)]
    )
    met = set(begins[np.isin(begins, places)].tolist())
    likely = [word for word in sought if int.from_bytes(word[:8], "little") in met]
    return {sought[word] for word in likely if word in text}


def test_every_form_of_every_canary_would_be_found() -> None:
    planter = Planter()
    canaries = [planter.text(), planter.uid(), planter.date()]
    sought = {form: canary for canary in canaries for form in forms(canary)}
    assert min(map(len, sought)) >= 8
    for form, canary in sought.items():
        for shift in range(8):
            assert found_in(b"\0" * 40 + b"x" * shift + form + b"y", sought) >= {canary}
    assert found_in(b"\0" * 99, sought) == set()


def test_the_search_would_find_a_canary(built: Path) -> None:
    """The check above can fail: the same search finds a word that is known to be there."""
    row = pyarrow.parquet.read_table(built / "samples.parquet").to_pylist()[0]
    assert any(row["key"].encode() in content for content in contents(built))


@pytest.mark.slow
def test_inspect_prints_no_header_text(planted: tuple[Path, list[str]]) -> None:
    folder, canaries = planted
    for path in sorted(folder.glob("*_images/*/*.dcm"))[:8]:
        done = run_cli("inspect", path, "--json")
        shown = done.stdout + done.stderr
        assert not [canary for canary in canaries if canary in shown]


def test_raw_identifiers_of_the_header_do_not_occur(
    planted: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = planted
    out = tmp_path / "out"
    options = "--source rsna --size 64x128 --folds 3 --limit 9 --max-failures 100%"
    assert run_cli("build", *options.split(), "--input", folder, "--out", out).returncode == 0
    syntax = re.compile(rb"1\.2\.840\.10008\.1\.2[0-9.]*")
    for content in contents(out):
        assert not re.search(rb"(\d+\.){5,}\d+", syntax.sub(b"", content))
