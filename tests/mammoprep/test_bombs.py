"""Small files that ask for much: each ends in its code, in a build that stays small itself."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE / "decode"))  # its files import each other by name

from bombs import BOMBS, COMPRESSED, NATIVE, plain  # noqa: E402
from dicoms import DEFLATED, JPEG2000, RECORD, breast, dicom  # noqa: E402
from test_hostile_build import dataset_of  # noqa: E402

from mammoprep.core.codes import CODES  # noqa: E402
from mammoprep.core.errors import RecordError  # noqa: E402
from mammoprep.decode import codecs, openjpeg, partial  # noqa: E402
from mammoprep.decode.dicom import open_image, render_stored  # noqa: E402
from mammoprep.state import read_json_lines  # noqa: E402

MEMORY, CPU_SECONDS = 3 << 30, 30
PARENT_LIMIT = 500 << 20
REFUSED = {name: bomb for name, bomb in BOMBS.items() if bomb.refused}

# A process of its own, so that its peak of memory is that of a build and of nothing before it.
PROGRAM = """
import json, resource, sys
from pathlib import Path
from helpers import config
from mammoprep.builder import build
from mammoprep.config import Limits
from mammoprep.verify import verify

raw, out, memory, seconds = sys.argv[1:]
limits = Limits(memory=int(memory), cpu_seconds=int(seconds))
result = build(config(Path(raw), Path(out), workers=1, max_failures="100%", limits=limits))
# Not getrusage of itself: that starts with the memory of the process that forked this one.
own = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
peaks = [int(own) << 10, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10]
print(json.dumps({"counts": result.summary["counts"], "peaks": peaks,
                  "damages": len(verify(Path(out)).damages)}))
"""


def build_apart(raw: Path, out: Path, memory: int = MEMORY) -> dict[str, object]:
    """Build in another process; return its counts, peaks of memory and damages."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(raw), str(out), str(memory), str(CPU_SECONDS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env={"PYTHONPATH": str(HERE.parent), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_there_are_more_than_forty_and_all_are_small() -> None:
    assert len(BOMBS) >= 120
    assert len(REFUSED) >= 80
    sizes = {name: len(bomb.make()) for name, bomb in BOMBS.items()}
    assert {name for name, size in sizes.items() if size > 17 << 20} == set()
    assert sum(size < 100_000 for size in sizes.values()) >= 100
    assert {code for bomb in BOMBS.values() for code in bomb.codes} <= {*CODES, "built"}


@pytest.mark.slow
def test_every_bomb_of_a_build_ends_in_its_code_and_the_parent_stays_small(tmp_path: Path) -> None:
    files = {name: bomb.make() for name, bomb in BOMBS.items()}
    files["good"] = plain()  # the last one: the run went on until here
    raw = dataset_of(files, tmp_path / "raw")
    found = build_apart(raw, tmp_path / "out")
    ended = {name: "built" for name in files}
    for failure in read_json_lines(tmp_path / "out" / "failures.jsonl"):
        number = int(Path(failure["input"]).stem) - 5000
        ended[list(files)[number]] = failure["code"]
    assert ended.pop("good") == "built"
    wrong = {name: code for name, code in ended.items() if code not in BOMBS[name].codes}
    assert wrong == {}
    # Nothing that the gate refuses came near a limit, and nothing else died of one without a code.
    assert not {"decode_crash", "internal_error"} & set(ended.values())
    assert found["damages"] == 0
    parent, child = found["peaks"]
    assert parent < PARENT_LIMIT
    assert child < MEMORY


@pytest.mark.slow
def test_bombs_in_little_memory_end_in_a_code_and_the_run_goes_on(tmp_path: Path) -> None:
    heavy = {name: bomb.make() for name, bomb in BOMBS.items() if not bomb.refused}
    files = {**heavy, "good": plain()}
    raw = dataset_of(files, tmp_path / "raw")
    found = build_apart(raw, tmp_path / "out", memory=1 << 30)
    codes = {f["input"]: f["code"] for f in read_json_lines(tmp_path / "out" / "failures.jsonl")}
    assert not any(name.endswith(f"/{5000 + len(heavy)}.dcm") for name in codes), "the good file"
    assert "decode_oom" in codes.values()
    assert set(codes.values()) <= set(CODES) - {"internal_error"}
    assert found["peaks"][1] < 1 << 30


# Nothing is decoded that the gate refuses


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the decoders that were called, which still do their work."""
    names: list[str] = []

    def recorded(name: str, function: object) -> object:
        def record(*arguments: object, **options: object) -> object:
            names.append(name)
            return function(*arguments, **options)  # type: ignore[operator]

        return record

    for syntax, decoders in codecs.DECODERS.items():
        watched = [
            dataclasses.replace(decoder, decode=recorded(decoder.name, decoder.decode))
            for decoder in decoders
        ]
        monkeypatch.setitem(codecs.DECODERS, syntax, tuple(watched))
    for module, name in ((partial, "decode_part"), (openjpeg, "decode")):
        monkeypatch.setattr(module, name, recorded(name, getattr(module, name)))
    return names


def refusal(data: bytes) -> str:
    """Return the one code in which every way of reading a file ends."""
    codes = set()
    for fast in (False, True):
        with pytest.raises(RecordError) as caught:
            open_image(data, RECORD, fast=fast)
        codes.add(caught.value.code)
    assert len(codes) == 1
    if codes != {"multiframe"}:  # a rule of the build, not a bound
        with pytest.raises(RecordError) as caught:
            render_stored(data, RECORD)
    return codes.pop()


@pytest.mark.parametrize("name", REFUSED)
def test_no_decoder_is_called_on_a_bomb_that_the_gate_refuses(name: str, called: list[str]) -> None:
    assert refusal(REFUSED[name].make()) in REFUSED[name].codes
    assert called == []


BEYOND = (
    *({"Rows": rows} for rows in (0, 63, 16385, 65535)),
    *({"Columns": columns} for columns in (0, 63, 16385, 65535)),
    {"Rows": 10_001, "Columns": 10_000},
    {"BitsAllocated": 32},
    {"BitsAllocated": 1},
    {"BitsStored": 17},
    {"BitsStored": 0},
    {"BitsStored": 5},
    {"HighBit": 3},
    {"HighBit": 16},
    {"NumberOfFrames": 0},
    {"NumberOfFrames": 2**31 - 1},
    {"SamplesPerPixel": 3},
    {"PhotometricInterpretation": "RGB"},
    {"PhotometricInterpretation": None},
    {"Rows": None},
    {"Rows": 129},
    {"Columns": 95},
)


@pytest.mark.parametrize("name", [*NATIVE, *COMPRESSED])
def test_no_decoder_is_called_on_a_header_out_of_bounds(name: str, called: list[str]) -> None:
    syntax = {**NATIVE, **COMPRESSED}[name]
    for attributes in BEYOND:
        if name == "rle" and attributes.get("Rows", attributes.get("Columns")) in (129, 95):
            continue  # has no size of its own: its decoder is held to the header's
        if name in NATIVE and attributes.get("Columns") == 95:
            continue  # bytes to spare, less than a frame of them: read, and said (excess_bytes)
        assert refusal(plain(syntax, **attributes)) in {
            "bits_unsupported",
            "header_bounds",
            "header_missing",
            "not_monochrome",
            "size_mismatch",
            "pixel_length_mismatch",
        }, attributes
    assert called == []


@pytest.mark.parametrize("name", [*NATIVE, *COMPRESSED])
def test_the_same_watch_sees_the_decoder_of_every_good_file(name: str, called: list[str]) -> None:
    syntax = {**NATIVE, **COMPRESSED}[name]
    open_image(plain(syntax), RECORD)
    assert called == [codecs.DECODERS[syntax][0].name]


@pytest.mark.skipif(openjpeg.library() is None, reason="no OpenJPEG to decode parts with")
def test_the_same_watch_sees_parts_being_decoded(called: list[str]) -> None:
    picture = breast(shape=(1400, 800))
    open_image(dicom(picture, 12, syntax=JPEG2000), RECORD, fast=True)
    assert called == ["decode_part", "decode"]


def test_the_deflated_syntax_is_among_the_watched_ones() -> None:
    assert DEFLATED in codecs.DECODERS
    assert set(NATIVE.values()) | set(COMPRESSED.values()) == set(codecs.DECODERS)
