"""Golden shard checksums: a change that should not alter results leaves them as they are.

The input is drawn with integers only, so that it is the same everywhere. When a change is meant to
alter results, write them again and say so in the commit:

    python tests/mammoprep/test_golden.py
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.manifest import versions

GOLDEN = Path(__file__).parents[1] / "golden" / "shards.json"
HEADER = (
    "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,"
    "density,machine_id,difficult_negative_case\n"
)
VARIANTS = {"8-bit": {}, "16-bit": {"bits": 16}, "stretched": {"fit": "stretch"}}


def pixels(number: int) -> np.ndarray:
    """A half ellipse of hashed texture on a quiet background, 12 bits, integers only."""
    rows, columns = np.mgrid[0:480, 0:360].astype(np.int64)
    inside = (rows - 240) ** 2 * (220 + 9 * number) ** 2 + columns**2 * 200**2 < (
        (220 + 9 * number) ** 2 * 200**2
    )
    texture = (rows // 7 * 7919 + columns // 5 * 104729 + number * 31) % 900
    noise = (rows * 31 + columns * 17) % 7
    return np.where(inside, 900 + texture + noise, noise).astype(np.uint16)


def write_dicom(path: Path, number: int) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    meta.MediaStorageSOPInstanceUID = f"2.25.{number + 1}"
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    stored = pixels(number)
    inverted = number % 2 == 1
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.WindowCenter, dataset.WindowWidth = "2048", "4096"
    dataset.PixelData = (4095 - stored if inverted else stored).astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def checksums(folder: Path, **settings: object) -> dict[str, str]:
    lines = [HEADER]
    for number in range(6):
        patient = 100 + number // 2
        cancer, side = int(number == 3), "LR"[number % 2]
        write_dicom(folder / "raw" / "train_images" / str(patient) / f"{number}.dcm", number)
        lines.append(f"1,{patient},{number},{side},CC,60,{cancer},{cancer},0,,0,B,49,False\n")
    (folder / "raw" / "train.csv").write_text("".join(lines))
    made = Settings(size=(96, 192), folds=2, **settings)  # type: ignore[arg-type]
    result = build(BuildConfig("rsna", made, folder / "raw", folder / "out"))
    assert result.summary["counts"]["built"] == 6
    return {shard["name"]: shard["sha256"] for shard in result.summary["shards"]}


@pytest.mark.parametrize("name", VARIANTS)
def test_shards_have_the_golden_checksums(name: str, tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())
    if golden["versions"] != versions():
        pytest.skip("golden checksums are for the pinned versions")
    assert checksums(tmp_path, **VARIANTS[name]) == golden["shards"][name]


def main() -> None:
    shards = {}
    for name, settings in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            shards[name] = checksums(Path(folder), **settings)
    GOLDEN.write_text(json.dumps({"versions": versions(), "shards": shards}, indent=2) + "\n")
    sys.stderr.write(f"wrote {GOLDEN}\n")


if __name__ == "__main__":
    main()
