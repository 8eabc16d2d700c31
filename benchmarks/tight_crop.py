"""What `--crop tight` cuts off below the fold: rows saved, lesions and tissue lost, people's boxes.

    python benchmarks/tight_crop.py --real DIR [--more DIR] [--patients N] [--sheets DIR]

DIR of --real holds `ddsm_tissue`, `minimias`, `miniddsm`, `rsna` and `mg_dicom`, that of --more a
further `minimias` and `breast_boxes.csv`; what is not there is left out. Phantoms with a torso, and
those of every layout with outlines, are drawn here. --sheets writes a picture of each image with a
fold: red the fold, magenta where the box ends. Writes benchmarks/results/tight_crop.json: figures
only.
"""

import argparse
import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from machine import described
from numpy.typing import NDArray

from mammoprep import preparation, synthesis
from mammoprep.config import Settings
from mammoprep.core.errors import RecordError
from mammoprep.core.schema import Record
from mammoprep.decode import dicom, raster
from mammoprep.image import MammoImage
from mammoprep.inputs import read_inputs
from mammoprep.phantoms._layouts import Wanted
from mammoprep.steps import crop, find_breast, orient
from mammoprep.steps._fold import TRUSTED

RESULT = Path(__file__).parent / "results" / "tight_crop.json"
SETTINGS = Settings(size=(728, 1456))
LAYOUTS = ("inbreast", "vindr", "cbis-ddsm", "mini-ddsm", "mias", "table")
TISSUE = 100  # label maps: 64 background, 128 adipose, 192 fibroglandular, 255 pectoral muscle
Box = tuple[int, int, int, int]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """One image with what is known about it.

    Attributes:
        image: After ``find_breast`` and ``orient``.
        lesions: bool of the stored image, or None where it has none.
        tissue: bool of the stored image, breast tissue, or None where that is not known.
        fold: Row of stored pixels, by the truth of a phantom.
        pitch: Millimetres a stored row of a phantom.
    """

    image: MammoImage
    lesions: Mask | None = None
    tissue: Mask | None = None
    fold: float | None = None
    pitch: float | None = None


def case_of(image: MammoImage, **known: Any) -> Case:
    """Return the case of an opened image; its lesions are those of its record and mask files."""
    if "lesions" not in known:
        known["lesions"] = _drawn(image)
    return Case(orient.apply(find_breast.apply(image)), **known)


def _drawn(image: MammoImage) -> Mask | None:
    if not image.record.lesions and image.stored_mask is None:
        return None
    shape = image.geometry.stored_size
    mask = np.zeros(shape, np.uint8) if image.stored_mask is None else image.stored_mask.copy()
    for lesion in image.record.lesions:
        cv2.fillPoly(mask, [np.rint(np.array(lesion.polygon) - 0.5).astype(np.int32)], 255)
    return mask > 0


def outside(mask: Mask, box: Box) -> int:
    """Return how many pixels of a mask lie outside of a box of stored pixels."""
    x0, y0, x1, y1 = box
    return int(np.count_nonzero(mask)) - int(np.count_nonzero(mask[y0:y1, x0:x1]))


def measured(case: Case) -> dict[str, Any]:
    """Return what the tight crop does to one image, beside today's."""
    today, tight = (crop.apply(case.image, region=region) for region in ("breast", "tight"))
    boxes = today.geometry.crop, tight.geometry.crop
    found = tight.notes["fold"]
    trusted = found is not None and found[1] >= TRUSTED
    result: dict[str, Any] = {
        "trusted": trusted,
        "reason": tight.notes["fold_reason"],
        "view": case.image.acquisition.view or case.image.record.view,
        "rows": [box[3] - box[1] for box in boxes],
        "box": boxes[1],
    }
    result["only_lower_edge"] = boxes[0][:3] == boxes[1][:3] and boxes[1][3] <= boxes[0][3]
    if case.lesions is not None:
        result["lesion_lost"] = [outside(case.lesions, box) for box in boxes]
    if case.tissue is not None:
        whole = np.count_nonzero(case.tissue)
        result["tissue"] = [1 - outside(case.tissue, box) / whole for box in boxes]
    if case.fold is not None and case.pitch is not None and trusted:
        result["fold_mm"] = (found[0] - case.fold) * case.pitch
        result["kept_below_mm"] = (boxes[1][3] - case.fold) * case.pitch
    return result


def source_cases(source: str, folder: Path) -> Iterator[Case]:
    """Yield every image of a dataset that can be opened."""
    inputs = read_inputs(source, folder)
    for record in inputs.records:
        if record.input not in inputs.sizes or record.excluded:
            continue
        try:
            image = preparation.open_image(inputs.tree.read(record.input), record, SETTINGS)
            yield case_of(preparation.annotate(image, inputs.tree.read))
        except RecordError:
            continue  # flaws that a phantom has on purpose


def tissue_cases(folder: Path) -> Iterator[Case]:
    """Yield the labelled films of ddsm_tissue."""
    for path in sorted((folder / "fgt_seg").glob("*.png")):
        (truth,) = (folder / "fgt_seg_labels").glob(f"{path.stem}*.png")
        labels = cv2.imread(str(truth), cv2.IMREAD_GRAYSCALE)
        record = Record(
            key=f"film_{path.stem}", source="film", group="1", input=path.name, view="MLO"
        )
        yield case_of(raster.open_image(path.read_bytes(), record), tissue=labels > TISSUE)


def torso_cases(patients: int, seed: int, *, spacing: bool = False) -> Iterator[Case]:
    """Yield the oblique views of phantoms with a torso; the breast ends where the fold is.

    Their files do not tell how large a pixel is; with ``spacing`` it is as if they did.
    """
    for shot in Wanted(patients, seed, 0.1, 0.5, 1, torso=True).shots():
        exposure = shot.expose()
        if exposure.fold is None:
            continue
        key = f"torso_{shot.number}"
        record = Record(key=key, source="rsna", group="1", input="1.dcm", view="MLO")
        tissue = exposure.tissue > 0
        tissue[int(np.ceil(exposure.fold[1])) :] = False
        lesions = np.zeros(tissue.shape, np.uint8)
        for _, points in exposure.lesions:
            cv2.fillPoly(lesions, [np.rint(points - 0.5).astype(np.int32)], 255)
        image = dicom.open_image(shot.dicom(exposure), record, voi="auto")
        pitch = shot.patient.machine.height_mm / tissue.shape[0]
        if spacing:
            geometry = replace(image.geometry, stored_spacing_mm=(pitch, pitch))
            image = replace(image, geometry=geometry)
        yield case_of(
            image,
            lesions=lesions > 0 if exposure.lesions else None,
            tissue=tissue,
            fold=exposure.fold[1],
            pitch=pitch,
        )


def layout_cases(layout: str, patients: int) -> Iterator[Case]:
    """Yield the phantoms of a layout, read as its dataset is."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / layout
        synthesis.phantom(layout, out, patients=patients, seed=11, size_scale=0.1, prevalence=0.6)
        yield from source_cases(layout, out)


def summed(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one set."""
    shares = [1 - r["rows"][1] / r["rows"][0] for r in results]
    cut = [share for share in shares if share > 0]
    lesions = [r["lesion_lost"] for r in results if "lesion_lost" in r]
    tissue = [r["tissue"] for r in results if "tissue" in r]
    folds = [r for r in results if "fold_mm" in r]
    told: dict[str, Any] = {
        "images": len(results),
        "lateral": sum(r["view"] in crop.LATERAL for r in results),
        "fold_found": sum(r["trusted"] for r in results),
        "cut": len(cut),
        "rows_cut_mean_of_cut": round(float(np.mean(cut)), 4) if cut else 0.0,
        "rows_cut_most": round(max(shares), 4),
        "rows_cut_mean_of_all": round(float(np.mean(shares)), 4),
        "only_lower_edge_moves": all(r["only_lower_edge"] for r in results),
        "no_fold_because": dict(Counter(r["reason"] for r in results if not r["trusted"])),
    }
    if lesions:
        told["images_with_lesions"] = len(lesions)
        told["lesion_pixels_lost_by_tight_alone"] = sum(tight - today for today, tight in lesions)
    if tissue:
        for place, name in enumerate(("breast", "tight")):
            kept = [pair[place] for pair in tissue]
            told[f"tissue_kept_{name}"] = {
                "worst": round(min(kept), 5),
                "mean": round(float(np.mean(kept)), 5),
                "below_0.995": sum(bool(value < 0.995) for value in kept),
            }
    if folds:
        off = [r["fold_mm"] for r in folds]
        told["fold_off_mm"] = {
            "lowest": round(min(off), 2),
            "median": round(float(np.median(off)), 2),
            "highest": round(max(off), 2),
        }
        told["least_kept_below_fold_mm"] = round(min(r["kept_below_mm"] for r in folds), 2)
    return told


def agreement(cases: list[Case], table: Path) -> list[dict[str, Any]]:
    """Return, per image that people drew a box in, how both crops compare with it."""
    rows = {row["image_id"]: row for row in csv.DictReader(table.read_text().splitlines())}
    told = []
    for case in cases:
        row = rows.get(case.image.record.image_id or "")
        if row is None:
            continue
        height, width = case.image.geometry.stored_size
        sides = {"x0": width, "y0": height, "x1": width, "y1": height}
        theirs = [float(row[name]) * side for name, side in sides.items()]
        one: dict[str, Any] = {
            "view": case.image.record.view,
            "rows_people": round(theirs[3] - theirs[1]),
        }
        for region in ("breast", "tight"):
            ours = crop.apply(case.image, region=region).geometry.crop
            one[f"rows_{region}"] = ours[3] - ours[1]
            one[f"iou_{region}"] = round(_iou(ours, theirs), 3)
        told.append(one)
    return told


def _iou(a: Any, b: Any) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0) * max(high, 0)
    return float(common / (sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - common))


def people(boxes: Path, table: Path) -> dict[str, Any]:
    """Return the median shape of people's boxes by view, as shares of the image."""
    views = {row["image_id"]: row["view"] for row in csv.DictReader(table.read_text().splitlines())}
    told = {}
    for view in ("CC", "MLO"):
        drawn = [
            (float(row["y0"]), float(row["y1"]))
            for row in csv.DictReader(boxes.read_text().splitlines())
            if views.get(row["image_id"]) == view
        ]
        if drawn:
            top, bottom = np.array(drawn).T
            told[view] = {
                "boxes": len(drawn),
                "top": round(float(np.median(top)), 3),
                "bottom": round(float(np.median(bottom)), 3),
                "height": round(float(np.median(bottom - top)), 3),
            }
    return told


def sheet(case: Case, path: Path) -> None:
    """Write a picture of an image with its fold and the end of the tight box."""
    tight = crop.apply(case.image, region="tight")
    if tight.notes["fold"] is None or tight.notes["fold"][1] < TRUSTED:
        return
    pixels = case.image.pixels / max(float(np.quantile(case.image.pixels, 0.995)), 1e-6)
    factor = 480 / pixels.shape[0]
    shown = cv2.resize(np.clip(pixels, 0, 1), None, fx=factor, fy=factor)
    picture = np.dstack([shown * 255] * 3).astype(np.uint8)
    stretch = 480 / case.image.geometry.stored_size[0]
    for row, colour in (
        (tight.notes["fold"][0], (0, 0, 255)),
        (tight.geometry.crop[3], (255, 0, 255)),
    ):
        y = round(row * stretch)
        cv2.line(picture, (0, y), (picture.shape[1], y), colour, 1)
    path.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path / f"{case.image.record.key}.png"), picture)


def _sets(real: Path, more: Path | None, patients: int) -> Iterator[tuple[str, list[Case]]]:
    films = real / "ddsm_tissue" / "segmentation_data" / "train_valid"
    if films.is_dir():
        yield "ddsm_tissue", list(tissue_cases(films))
    places = [
        ("mias", real / "minimias"),
        ("mini-ddsm", real / "miniddsm"),
        ("rsna", real / "rsna"),
    ]
    if more is not None:
        places.append(("mias, further films", more / "minimias"))
    for name, folder in places:
        if folder.is_dir():
            yield name, list(source_cases(name.partition(",")[0], folder))
    oblique = real / "mg_dicom" / "ge_senographe_RMLO_sigmoid_3voilut_GH133.dcm"
    if oblique.is_file():
        record = preparation.record_of(oblique)
        yield "ge_mlo", [case_of(dicom.open_image(oblique.read_bytes(), record, voi="auto"))]
    yield "phantoms with a torso", list(torso_cases(patients, 5))
    known = torso_cases(patients, 6, spacing=True)
    yield "phantoms with a torso, spacing known", list(known)
    for layout in LAYOUTS:
        yield f"phantoms {layout}", list(layout_cases(layout, max(4, patients // 10)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, required=True, help="the folder of real files")
    parser.add_argument("--more", type=Path, help="a folder of further ones")
    parser.add_argument("--patients", type=int, default=100, help="phantoms with a torso")
    parser.add_argument("--sheets", type=Path, help="a folder for pictures")
    given = parser.parse_args()
    result: dict[str, Any] = {
        "what": "--crop tight beside --crop breast, margin 0.02: images with a fold, share of the "
        "rows cut, lesion pixels and tissue lost; real files, and phantoms at a tenth of the size",
        **described("mammoprep", "numpy", "opencv-python-headless", device="cpu"),
        "sets": {},
    }
    for name, cases in _sets(given.real, given.more, given.patients):
        result["sets"][name] = summed([measured(case) for case in cases])
        boxes = given.more / "breast_boxes.csv" if given.more else None
        if name == "rsna" and boxes is not None and boxes.is_file():
            result["people_boxes"] = people(boxes, given.real / "rsna" / "train.csv")
            result["people_images"] = agreement(cases, boxes)
        for case in cases if given.sheets else ():
            sheet(case, given.sheets / name)
        print(name, json.dumps(result["sets"][name]), flush=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
