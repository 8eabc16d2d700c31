"""Damaged and hostile files in a whole build: every one is built or coded, and the run goes on."""

import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers import run_build

sys.path.append(str(Path(__file__).parent / "decode"))  # its files import each other by name

from mutations import damaged

from mammoprep.config import Limits
from mammoprep.core.codes import CODES
from mammoprep.sources.rsna import COLUMNS
from mammoprep.state import read_json_lines
from mammoprep.verify import verify

MUTANTS = 500
BATCH = 250
LONG_BATCH = int(os.environ.get("MAMMO_MUTATIONS", "10000")) // 4
LIMITS = Limits(memory=2 << 30, cpu_seconds=30)
SKIPPED_HEADER = 132  # the preamble and the magic word: damage there is no damage


def dataset_of(files: dict[str, bytes], folder: Path) -> Path:
    """Write files as the images of an rsna table, four a patient."""
    header = list(COLUMNS["train.csv"])
    lines = [",".join(header)]
    for number, content in enumerate(files.values()):
        patient, image = 1000 + number // 4, 5000 + number
        path = folder / "train_images" / str(patient) / f"{image}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        row = {
            "patient_id": patient, "image_id": image, "laterality": "L", "view": "CC",
            "site_id": 1, "age": 50, "cancer": 0, "machine_id": 1, "difficult_negative_case": False,
        }  # fmt: skip
        lines.append(",".join(str(row.get(column, "")) for column in header))
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return folder


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Change 1 to 32 bytes anywhere after the preamble; cut one file in ten."""
    data = bytearray(content)
    # Half of the damage goes to the first 2 KiB: headers are where parsers break.
    last = min(len(data), 2048) if rng.random() < 0.5 else len(data)
    for _ in range(rng.randint(1, 32)):
        data[rng.randrange(SKIPPED_HEADER, last)] = rng.randrange(256)
    if rng.random() < 0.1:
        del data[rng.randrange(SKIPPED_HEADER, len(data)) :]
    return bytes(data)


def check(out: Path, raw: Path, number: int) -> Counter[str]:
    result = run_build(raw, out, max_failures="100%", limits=LIMITS)
    counts = result.summary["counts"]
    assert counts["inputs"] == number
    assert counts["built"] + sum(counts["failed"].values()) == number
    failures = read_json_lines(out / "failures.jsonl")
    assert len(failures) == number - counts["built"]
    codes = Counter(failure["code"] for failure in failures)
    assert not set(codes) - set(CODES)
    assert "internal_error" not in codes
    assert verify(out).damages == ()
    return codes


@pytest.mark.parametrize(
    ("start", "count"),
    [
        (0, BATCH),
        *(pytest.param(n * BATCH, BATCH, marks=pytest.mark.slow) for n in range(1, 4)),
        *(
            pytest.param(100_000 + n * LONG_BATCH, LONG_BATCH, marks=pytest.mark.slow)
            for n in range(4)
        ),
    ],
)
def test_mutated_files_of_every_syntax_are_built_or_coded_and_none_is_lost(
    start: int, count: int, tmp_path: Path
) -> None:
    files = {str(number): data for number, data in damaged(count, start)}
    codes = check(tmp_path / "out", dataset_of(files, tmp_path / "raw"), count)
    sys.stdout.write(f"{count} files from {start}: {dict(codes.most_common())}\n")
    assert len(codes) >= 10, "damage of many kinds"
    assert count * 0.1 < count - sum(codes.values()) < count * 0.7, "some are built, some not"
    # A decoder may die of a damaged file, but no limit was near.
    assert codes["decode_oom"] + codes["decode_timeout"] + codes["decode_crash"] <= count // 100


def test_the_malformed_files_of_other_suites_are_built_or_coded(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "dicom_variety" / "malformed"
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    assert len(files) == 8
    codes = check(tmp_path / "out", dataset_of(files, tmp_path / "raw"), 8)
    assert sum(codes.values()) >= 5


def test_real_files_of_every_kind_are_built_or_coded(real_data: Path, tmp_path: Path) -> None:
    paths = [
        *sorted((real_data / "mg_dicom").iterdir()),
        *sorted((real_data / "dicom_variety").glob("codecs_*/*.dcm")),
        *sorted((real_data / "dicom_variety" / "lut_window").iterdir()),
    ]
    files = {str(path): path.read_bytes() for path in paths}
    check(tmp_path / "out", dataset_of(files, tmp_path / "raw"), len(files))


@pytest.mark.slow
def test_mutated_phantoms_are_built_or_coded_and_none_is_lost(
    phantom_once: Path, tmp_path: Path
) -> None:
    rng = random.Random(6)
    seeds = [path.read_bytes() for path in sorted(phantom_once.glob("*_images/*/*.dcm"))]
    files = {str(n): mutate(rng.choice(seeds), rng) for n in range(MUTANTS)}
    codes = check(tmp_path / "out", dataset_of(files, tmp_path / "raw"), MUTANTS)
    assert len(codes) >= 5
    assert sum(codes.values()) < MUTANTS


def test_things_that_are_no_files_are_coded_and_block_nothing(
    phantom: Path, tmp_path: Path
) -> None:
    paths = sorted(phantom.glob("train_images/*/*.dcm"))
    for path in paths[:5]:
        path.unlink()
    os.mkfifo(paths[0])
    paths[1].symlink_to(tmp_path / "nowhere")
    paths[2].mkdir()
    paths[3].write_bytes(b"")
    paths[4].symlink_to("/dev/zero")
    result = run_build(phantom, tmp_path / "out", max_failures="5")
    assert result.exit_code == 0
    assert sum(result.summary["counts"]["failed"].values()) == 5


def test_a_file_that_changes_after_the_plan_is_coded(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mammoprep import plan

    plain = plan.make
    target = sorted(phantom.glob("train_images/*/*.dcm"))[2]

    def make_then_change(*arguments: object) -> plan.Plan:
        made = plain(*arguments)  # type: ignore[arg-type]
        with target.open("ab") as file:
            file.write(b"late")
        return made

    monkeypatch.setattr(plan, "make", make_then_change)
    result = run_build(phantom, tmp_path / "out")
    assert result.summary["counts"]["failed"] == {"input_changed": 1}


def test_a_table_cannot_reach_outside_its_folder(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom / "train_images", tmp_path / "secret")
    table = phantom / "train.csv"
    lines = table.read_text().splitlines()
    cells = lines[1].split(",")
    cells[1] = "../../secret"
    table.write_text("\n".join([lines[0], ",".join(cells)]) + "\n")
    with pytest.raises(Exception, match="patient_id must be an identifier"):
        run_build(phantom, tmp_path / "out")
