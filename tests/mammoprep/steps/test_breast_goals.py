"""Goals on labelled film and on many phantoms."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoprep.core.schema import Record
from mammoprep.decode.dicom import read_image
from mammoprep.phantoms import rsna
from mammoprep.steps import crop, find_breast, orient

TISSUE = 100  # label maps: 64 background, 128 adipose, 192 fibroglandular, 255 pectoral


def box_iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(area) - common)


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def kept(tissue, box):
    x0, y0, x1, y1 = box
    return tissue[y0:y1, x0:x1].sum() / tissue.sum()


def measure(image, tissue, true_box):
    found = find_breast.apply(image)
    return {
        "kept": kept(tissue, crop.breast_box(found, 0.02)),
        "iou": box_iou(crop.breast_box(found, 0.0), true_box),
        "side": orient.apply(found).notes["chest_wall_stored"],
        "fallback": "crop_fallback" in found.warnings,
    }


def test_labelled_film_keeps_its_tissue_and_its_side(real_data: Path, image_of):
    folder = real_data / "ddsm_tissue" / "segmentation_data" / "train_valid"
    results = {}
    for path in sorted((folder / "fgt_seg").glob("*.png")):
        (truth,) = (folder / "fgt_seg_labels").glob(f"{path.stem}*.png")
        tissue = cv2.imread(str(truth), cv2.IMREAD_GRAYSCALE) > TISSUE
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
        result = measure(image_of(grey), tissue, box_of(tissue))
        result["true_side"] = "left" if tissue[:, 0].sum() > tissue[:, -1].sum() else "right"
        results[path.stem] = result
    assert len(results) == 60
    assert not [name for name, r in results.items() if r["kept"] < 0.99]
    assert not [name for name, r in results.items() if r["side"] != r["true_side"]]
    assert sum(r["fallback"] for r in results.values()) <= 1
    assert np.median([r["iou"] for r in results.values()]) > 0.94


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "rsna"
    workers = min(2, os.cpu_count() or 1)
    rsna.write(folder, patients=50, seed=23, size_scale=0.1, workers=workers)
    return folder


@pytest.mark.slow
def test_phantoms_keep_their_tissue_their_box_and_their_side(phantoms: Path):
    results = []
    for path in sorted(phantoms.glob("*_images/*/*.dcm")):
        truth = phantoms / "truth" / path.parent.name / path.stem
        facts = json.loads(truth.with_suffix(".json").read_text())
        tissue = cv2.imread(f"{truth}.breast.png", cv2.IMREAD_GRAYSCALE) > 0
        record = Record(key="rsna_1", source="rsna", group="1", input=path.name)
        image = read_image(path.read_bytes(), record)
        result = measure(image, tissue, facts["breast_box"])
        results.append({**result, "true_side": facts["chest_wall"]})
    assert len(results) >= 200
    assert min(r["kept"] for r in results) >= 0.995
    assert np.median([r["iou"] for r in results]) >= 0.95
    assert all(r["side"] == r["true_side"] for r in results)
    assert not any(r["fallback"] for r in results)
