"""The layout of CBIS-DDSM as the archive's downloader writes it, filled with phantoms.

Every fifth participant has the same peculiarities of the real set; see ``_cbis_people.PEOPLE``.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from mammoprep.phantoms import _archive, _truth
from mammoprep.phantoms._anatomy import Points
from mammoprep.phantoms._cbis_people import (
    DENSITIES,
    SIDES,
    VIEWS,
    Participant,
    Region,
    Roi,
    draw,
    regions,
)
from mammoprep.phantoms._cohort import generator
from mammoprep.phantoms._dicom import uid
from mammoprep.phantoms._exposure import Exposure, Subject, expose
from mammoprep.phantoms._layouts import Wanted, write_bytes
from mammoprep.phantoms._machines import EXPLICIT_LITTLE, Machine
from mammoprep.phantoms._tissue import fill

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MASK_SCALE = 0.87
SMALLEST_CROP = 64
_IMAGE = 22

# A film and its scanner: the whole range of 16 bits, and no window in the header.
FILM = Machine(
    name="film-mono2-raw",
    site_id=0,
    machine_id=0,
    size=(4808, 3024),
    height_mm=240.0,
    photometric="MONOCHROME2",
    bits_stored=16,
    transfer_syntax=EXPLICIT_LITTLE,
    centres=(32768.0,),
    widths=(65536.0,),
    function=None,
    paddings=(),
    lowest=0,
    level=1.0,
    gamma=1.0,
    noise=0.012,
    labelled=True,
    strip=False,
    group_length=True,
)


def _paths(region: Region, seed: int) -> tuple[str, str, str]:
    """Return the paths of picture, cut-out and mask as the tables have them, line ends included."""
    image = (
        f"{region.image_name}/{uid(seed, region.image_name, 1)}/{uid(seed, region.image_name, 2)}"
    )
    series = f"{region.name}/{uid(seed, region.name, 1)}/{uid(seed, region.name, 2)}"
    crop, mask = ("000000", "000001") if region.roi.kind == "mass" else ("000001", "000000")
    if "apart" in region.flaws:
        other = f"{region.name}/{uid(seed, region.name, 3)}/{uid(seed, region.name, 4)}"
        return f"{image}/000000.dcm", f"{other}/000000.dcm", f"{series}/000000.dcm\n"
    ends = {"000000": "", "000001": "\n"}
    crop, mask = (f"{series}/{name}.dcm{ends[name]}" for name in (crop, mask))
    return f"{image}/000000.dcm", crop, mask


def _row(region: Region, seed: int) -> list[object]:
    """Return the cells of one row."""
    malignant = region.finding.pathology == "malignant"
    odd = (region.participant.place + region.place) % 2 == 1
    benign = "BENIGN_WITHOUT_CALLBACK" if odd else "BENIGN"
    mass = region.roi.kind == "mass"
    traits = (
        ("IRREGULAR-ARCHITECTURAL_DISTORTION", "SPICULATED")
        if mass and malignant
        else ("OVAL", "CIRCUMSCRIBED")
        if mass
        else ("PLEOMORPHIC", "CLUSTERED")
        if malignant
        else ("PUNCTATE", "NA")
    )
    return [
        region.participant.id,
        1 + DENSITIES.index(region.participant.density),
        SIDES[region.side],
        region.view,
        region.number,
        region.roi.kind,
        *traits,
        5 if malignant else 2 if odd else 3,
        "MALIGNANT" if malignant else benign,
        1 + region.finding.seed % 5,
        *_paths(region, seed),
    ]


def _write_tables(out: Path, people: list[Participant], seed: int) -> None:
    found = [
        region
        for participant in people
        for side in SIDES
        for view in VIEWS
        for region in regions(participant, side, view)
    ]
    for part, name in (("Training", "train"), ("Test", "test")):
        for kind, short in (("mass", "mass"), ("calcification", "calc")):
            mass = kind == "mass"
            header = [
                "patient_id",
                "breast_density" if mass else "breast density",
                "left or right breast",
                "image view",
                "abnormality id",
                "abnormality type",
                *(("mass shape", "mass margins") if mass else ("calc type", "calc distribution")),
                "assessment",
                "pathology",
                "subtlety",
                "image file path",
                "cropped image file path",
                "ROI mask file path",
            ]
            rows = [_row(r, seed) for r in found if r.roi == Roi(kind, part)]
            path = out / f"{short}_case_description_{name}_set.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerows([header, *rows])


def _cut_out(stored: NDArray[np.uint16], polygon: Points) -> NDArray[np.uint16]:
    """Return the part of the picture around a finding, at least 64 pixels a side."""
    rows, columns = stored.shape
    (left, top), (right, bottom) = polygon.min(axis=0), polygon.max(axis=0)
    high, wide = (max(SMALLEST_CROP, round(1.3 * n)) for n in (bottom - top, right - left))
    y = int(np.clip((top + bottom - high) / 2, 0, max(rows - high, 0)))
    x = int(np.clip((left + right - wide) / 2, 0, max(columns - wide, 0)))
    return np.ascontiguousarray(stored[y : y + high, x : x + wide])


def _mask(shape: tuple[int, int], polygon: Points, flaws: tuple[str, ...]) -> NDArray[np.uint8]:
    mask: NDArray[Any] = fill(shape, polygon)
    if "scaled" in flaws:
        rows, columns = (round(MASK_SCALE * side) for side in shape)
        mask = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST_EXACT)
    if "cut" in flaws:
        mask = np.ascontiguousarray(mask[: round(0.85 * shape[0])])
    return mask


def _files(region: Region, exposure: Exposure, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield (path below the finding's study, content) of its cut-out and its mask."""
    flaws = region.flaws
    if "absent" in flaws:
        return
    polygon = exposure.lesions[region.place][1]
    pictures: dict[str, NDArray[Any]] = {
        "crop": _cut_out(exposure.stored, polygon),
        "mask": _mask(exposure.stored.shape, polygon, flaws),
    }
    if "no mask" in flaws:
        pictures["mask"] = pictures["crop"][::-1]
    order = ["crop", "mask"] if region.roi.kind == "mass" else ["mask", "crop"]
    order = order[::-1] if "swapped" in flaws else order
    for place, what in enumerate(order, 1):
        apart = what if "apart" in flaws else "mask"
        series = {"crop": "cropped images", "mask": "ROI mask images"}[apart]
        number = 1 if "apart" in flaws else place
        facts = _facts(region.name, (series, number), region, seed)
        folder = f"1.000000-{series}-{_archive.short(seed, region.name, series)}"
        yield (
            f"{folder}/1-{number}.dcm",
            _archive.to_bytes(pictures[what], SECONDARY_CAPTURE, facts),
        )


def _facts(name: str, place: tuple[str, int], region: Region, seed: int) -> dict[str, Any]:
    series, number = place
    return {
        "SOPInstanceUID": uid(seed, name, series, number),
        "StudyDate": "20161004",
        "Modality": "MG",
        "ConversionType": "WSD",
        "SeriesDescription": series,
        "PatientID": name,
        "BodyPartExamined": "BREAST",
        "StudyInstanceUID": uid(seed, name, 1),
        "SeriesInstanceUID": uid(seed, name, series),
        "SeriesNumber": "1",
        "InstanceNumber": str(number),
        "PatientOrientation": region.view,
        "Laterality": region.side,
    }


def _write_view(
    out: Path, participant: Participant, place: tuple[str, str], seed: int, scale: float
) -> None:
    side, view = place
    number = 2 * list(SIDES).index(side) + VIEWS.index(view)
    subject = Subject(participant.breasts[side], participant.findings[side], side, view)
    exposure = expose(generator(seed, _IMAGE, participant.place, number), subject, FILM, scale)
    for region in regions(participant, side, view):
        study = f"10-04-2016-DDSM-NA-{_archive.short(seed, region.image_name)}"
        what = "full mammogram images"
        series = f"1.000000-{what}-{_archive.short(seed, region.image_name, what)}"
        facts = _facts(region.image_name, (what, 1), region, seed)
        data = _archive.to_bytes(exposure.stored, SECONDARY_CAPTURE, facts)
        write_bytes(out / "CBIS-DDSM" / region.image_name / study / series / "1-1.dcm", data)
        study = f"10-04-2016-DDSM-NA-{_archive.short(seed, region.name)}"
        for path, content in _files(region, exposure, seed):
            write_bytes(out / "CBIS-DDSM" / region.name / study / path, content)
    folder = out / "truth" / participant.id
    folder.mkdir(parents=True, exist_ok=True)
    _truth.write(folder, f"{SIDES[side]}_{view}", exposure, FILM.name)


def write(
    out: Path,
    *,
    patients: int,
    seed: int,
    size_scale: float = 1.0,
    prevalence: float = 0.4,
    workers: int = 1,
) -> None:
    """Write phantoms to ``out`` in the layout of CBIS-DDSM, and the truth beside them.

    The bytes of every file depend on all arguments but ``out`` and ``workers``.

    Args:
        out: New or empty folder; gets the four tables, ``CBIS-DDSM`` and ``truth``.
        patients: How many, at least 1; each has four views, and findings in all of them. From 5 on
            every peculiarity of ``_cbis_people.PEOPLE`` occurs.
        seed: Not negative.
        size_scale: Factor on rows and columns, above 0 and at most 1; no side gets below 64 pixels.
        prevalence: Share of breasts with cancer, 0 to 1.
        workers: Processes, at least 1.

    Raises:
        ConfigError: an argument is out of its range, or ``out`` holds something.
    """
    Wanted(patients, seed, size_scale, prevalence, workers).check(out)
    people = [draw(seed, place, prevalence) for place in range(patients)]
    out.mkdir(parents=True, exist_ok=True)
    _write_tables(out, people, seed)
    tasks = [(person, (side, view)) for person in people for side in SIDES for view in VIEWS]
    Parallel(n_jobs=workers)(
        delayed(_write_view)(out, person, place, seed, size_scale) for person, place in tasks
    )
