"""How near `--decode fast` comes to `exact`: grey levels, places, calcifications, detection.

    python benchmarks/fast_fidelity.py [--phantoms DIR] [--real DIR] [--images 50] [--out FILE.json]

Both pictures of every file are compared at the default size and at half of it, in grey levels of
255 inside the breast, before they are judged against bilinear resizing of the exact pixels. Then
2x2-pixel calcifications are planted into the stored pixels, which are encoded again like the file
(JPEG 2000, 5/3, five levels), and both decodes are asked for them. Needs JPEG 2000 files.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import machine
import numpy as np
import pydicom
from pydicom.encaps import encapsulate, get_frame

from mammoprep import pipeline, preparation
from mammoprep.config import Settings
from mammoprep.core.grey import quantise
from mammoprep.core.schema import Record
from mammoprep.decode import dicom
from mammoprep.image import MammoImage
from mammoprep.manifest import versions
from mammoprep.phantoms import rsna

JPEG_2000 = "1.2.840.10008.1.2.4.90"
SIZES = ((728, 1456), (364, 728))
CONTRASTS = (0.02, 0.03, 0.045, 0.07)  # in presentation values
CLEAR = 0.2  # seen by anybody
EACH = 50  # places an image and contrast
CELL, APART = 64, 32  # stored pixels: one place a cell, that far from the next
REACH = 4  # output pixels around a place that are looked at
GROUND = 1500  # patches an image from which the texture's covariance is estimated
WINDOW = 30  # output pixels around a landmark
RESAMPLES = 2000
FEW_IMAGES = 10  # below, the bootstrap draws places instead of images
WAYS = ("exact", "fast", "bilinear")
RECORD = Record(key="file_1", source="file", group="1", input="a.dcm")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pair:
    """One file decoded both ways, float32 at the output size, before it is quantised."""

    exact: MammoImage
    fast: MammoImage
    seconds: tuple[float, float]

    def grey(self) -> tuple[Array, Array]:
        """Return both in grey levels of 255, as a build would store them."""
        exact, fast = (quantise(image.pixels, 8).astype(int) for image in (self.exact, self.fast))
        return exact, fast


@dataclass(frozen=True)
class Planted:
    """What the three ways of ``WAYS`` show around places of one file; ways come first.

    Attributes:
        contrast: (n,), index into ``CONTRASTS``.
        bare: (3, n, side, side) grey levels of 255 without calcifications.
        faint: The same with calcifications of ``contrast``.
        clear: (3, n, side, side) what a calcification of ``CLEAR`` adds, not rounded.
        ground: (3, m, side, side) grey levels elsewhere in the breast.
        centres: (n, 2) of (x, y), where the calcifications truly lie in their patches.
    """

    contrast: Array
    bare: Array
    faint: Array
    clear: Array
    ground: Array
    centres: Array


def decoded(data: bytes, size: tuple[int, int]) -> Pair:
    steps = preparation.steps(Settings(size=size))[:-1]
    images, seconds = [], []
    for fast in (False, True):
        started = time.process_time()
        images.append(pipeline.run(steps, dicom.open_image(data, RECORD, fast=fast)))
        seconds.append(time.process_time() - started)
    return Pair(images[0], images[1], (seconds[0], seconds[1]))


def content(image: MammoImage) -> tuple[int, int, int, int]:
    """Return the part (x0, y0, x1, y1) of the picture that is no added padding."""
    x0, y0, x1, y1 = (round(edge) for edge in image.geometry.box_from_stored(image.geometry.crop))
    return x0, y0, x1, y1


def bilinear(whole: Array, image: MammoImage) -> Array:
    """Return what peers make of the exact pixels: cv2's bilinear resize of the same crop."""
    x0, y0, x1, y1 = image.geometry.crop
    left, top, right, bottom = content(image)
    part = np.ascontiguousarray(whole[y0:y1, x0:x1])
    small = cv2.resize(part, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    out = np.zeros(image.pixels.shape, np.float32)
    out[top:bottom, left:right] = small[:, ::-1] if image.geometry.flipped else small
    return out


def spread(difference: Array) -> dict[str, float]:
    size = np.abs(difference)
    return {
        "mean": round(float(size.mean()), 4),
        "p999": round(float(np.quantile(size, 0.999)), 2),
        "bias": round(float(difference.mean()), 4),
    }


def shift(exact: Array, other: Array) -> Array:
    """Return how far (x, y) ``other`` lies to the right of and below ``exact``, in pixels.

    Least squares on the gradient (Lucas and Kanade), with one gain and one offset.
    """
    down, across = np.gradient((exact + other) / 2)
    terms = np.stack([-across, -down, exact, np.ones_like(exact)], axis=-1)[1:-1, 1:-1]
    found, *_ = np.linalg.lstsq(
        terms.reshape(-1, 4), (other - exact)[1:-1, 1:-1].ravel(), rcond=None
    )
    return np.asarray(found[:2])


def landmarks(path: Path, image: MammoImage, rng: np.random.Generator) -> Array:
    """Return the truth's landmarks beside a phantom, or nine random places; stored (x, y)."""
    truth = path.parents[2] / "truth" / path.parent.name / f"{path.stem}.json"
    if truth.exists():
        return np.array(json.loads(truth.read_text())["landmarks"])
    return rng.permutation(places(image, rng))[:9]


def landmark_shifts(pair: Pair, points: Array) -> Array:
    """Return how far fast moves the surroundings of stored points, (n, 2) output pixels."""
    out = []
    x0, y0, x1, y1 = content(pair.exact)
    for x, y in np.rint(pair.exact.geometry.from_stored(points)).astype(int):
        down = slice(max(y - WINDOW, y0), min(y + WINDOW, y1))
        across = slice(max(x - WINDOW, x0), min(x + WINDOW, x1))
        exact, fast = pair.exact.pixels[down, across], pair.fast.pixels[down, across]
        if min(exact.shape) > WINDOW and exact.std() > 0:
            out.append(shift(exact.astype(float), fast.astype(float)))
    return np.array(out).reshape(-1, 2)


def fidelity(whole: Array, pair: Pair, points: Array) -> dict[str, Any]:
    """Compare both pictures of a file.

    Args:
        whole: Its exact presentation values on the stored grid.
        pair: The pictures.
        points: Landmarks in stored pixels, (n, 2) of (x, y).
    """
    same = pair.exact.geometry == pair.fast.geometry
    breast = pair.exact.breast
    row: dict[str, Any] = {
        "stored": list(pair.exact.geometry.stored_size),
        "decode": pair.fast.acquisition.decode,
        "scale": round(abs(pair.exact.geometry.matrix[0][0]), 4),
        "same_grid": same and bool(np.array_equal(breast, pair.fast.breast)),
        "seconds": [round(value, 3) for value in pair.seconds],
    }
    exact, fast = pair.grey()
    if row["decode"] == "exact":
        return {**row, "identical": bool(np.array_equal(exact, fast))}
    peer = quantise(bilinear(whole, pair.exact), 8).astype(int)
    sharp = [cv2.Laplacian(image.astype(np.float32), -1)[breast].std() for image in (exact, fast)]
    moved = landmark_shifts(pair, points)
    return {
        **row,
        "fast": spread((fast - exact)[breast]),
        "bilinear": spread((peer - exact)[breast]),
        "landmark": round(float(np.abs(moved).max()), 4),
        "sharpness": round(float(sharp[1] / sharp[0]), 4),
    }


def stored_of(dataset: pydicom.Dataset) -> Array:
    return np.asarray(imagecodecs.jpeg2k_decode(get_frame(dataset.PixelData, 0)))


def encoded(dataset: pydicom.Dataset, stored: Array) -> bytes:
    """Return the file with other pixels, encoded as in the original: JP2, 16 bits, 5/3."""
    stream = imagecodecs.jpeg2k_encode(
        stored, level=0, reversible=True, codecformat="jp2", numthreads=1
    )
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    return buffer.getvalue()


def places(image: MammoImage, rng: np.random.Generator) -> Array:
    """Return one random stored pixel (x, y) in every cell that lies well inside of the breast."""
    rows, columns = image.geometry.stored_size
    y, x = np.mgrid[0 : rows - CELL : CELL, 0 : columns - CELL : CELL].reshape(2, -1)
    points = np.stack([x, y], axis=1) + rng.integers(0, CELL - APART, (x.size, 2))
    at = np.floor(image.geometry.from_stored(points + 1.0)).astype(int)
    inside = (at >= 0).all(axis=1) & (at < image.pixels.shape[::-1]).all(axis=1)
    points, at = points[inside], at[inside]
    fit = inner(image)[at[:, 1], at[:, 0]] & (image.pixels[at[:, 1], at[:, 0]] < 0.7)
    return points[fit]


def inner(image: MammoImage) -> Array:
    """Return the breast without a rim of 12 output pixels."""
    mask = image.breast.view(np.uint8)
    return cv2.erode(mask, np.ones((25, 25), np.uint8), borderValue=0) > 0


def plant(stored: Array, shown: Array, points: Array, contrast: Array) -> Array:
    """Return stored pixels with 2x2 pixels at ``points`` brighter by ``contrast`` as shown."""
    curve = np.full(1 << 16, np.nan)
    curve[stored] = shown
    values = np.flatnonzero(~np.isnan(curve))
    values = values[np.argsort(curve[values], kind="stable")]
    curve = curve[values]
    out = stored.copy()
    for (x, y), rise in zip(points, contrast, strict=True):
        part = (slice(y, y + 2), slice(x, x + 2))
        out[part] = np.rint(np.interp(shown[part] + rise, curve, values))
    return out


def cut(pictures: Array, corners: Array) -> Array:
    """Return the squares of (ways, rows, columns) at (x, y): (ways, n, side, side)."""
    side = 2 * REACH + 1
    return np.stack([pictures[:, y : y + side, x : x + side] for x, y in corners], axis=1)


def three_ways(data: bytes, size: tuple[int, int], whole: Array) -> tuple[Pair, Array]:
    """Return a file decoded both ways, and the pictures in the order of ``WAYS``."""
    pair = decoded(data, size)
    peer = bilinear(whole, pair.exact)
    return pair, np.stack([pair.exact.pixels, pair.fast.pixels, peer])


def calcifications(
    data: bytes, points: Array, size: tuple[int, int], files: list[tuple[bytes, Array]]
) -> Planted | None:
    """Return what is seen at places of a file, of the faint and of the clear; None on other grids.

    Args:
        data: The file.
        points: (n, 2) stored (x, y).
        size: Of the output.
        files: Bare, faint and clear file, each with its exact pixels on the stored grid.
    """
    made = [three_ways(file, size, whole) for file, whole in files]
    geometry = made[0][0].exact.geometry
    if any(pair.exact.geometry != geometry for pair, _ in made):
        return None  # the crop moved by a sample of the overview
    centres = geometry.from_stored(points + 1.0)
    corners = np.floor(centres).astype(int) - REACH
    bare, faint, clear = (pictures for _, pictures in made)
    rng = np.random.default_rng(len(data))
    y, x = np.nonzero(inner(made[0][0].exact))
    drawn = rng.permutation(y.size)[:GROUND]
    return Planted(
        contrast=np.arange(len(points)) % len(CONTRASTS),
        bare=cut(quantise(bare, 8), corners).astype(np.float64),
        faint=cut(quantise(faint, 8), corners).astype(np.float64),
        clear=255 * (cut(clear, corners).astype(np.float64) - cut(bare, corners)),
        ground=cut(quantise(bare, 8), np.stack([x, y], 1)[drawn] - REACH).astype(np.float64),
        centres=centres - corners,
    )


def planted_files(data: bytes, points: Array) -> list[tuple[bytes, Array]]:
    """Return the bare, the faint and the clear file, each with its exact presentation values."""
    dataset = pydicom.dcmread(BytesIO(data))
    stored = stored_of(dataset)
    shown = dicom.render_stored(data, RECORD, bits=16) / 65535
    kind = np.arange(len(points)) % len(CONTRASTS)
    files = [data]
    for contrast in (np.array(CONTRASTS)[kind], np.full(len(points), CLEAR)):
        files.append(encoded(dataset, plant(stored, shown, points, contrast)))
    return [(file, dicom.read_image(file, RECORD).pixels) for file in files]


def contrast_table(found: list[Planted]) -> dict[str, Any]:
    """Compare the clear calcifications of fast and exact: their light, peak and place."""
    rise = np.concatenate([p.clear[:2] for p in found], axis=1)
    centres = np.concatenate([p.centres for p in found])
    light, peak = rise.sum(axis=(2, 3)), rise.max(axis=(2, 3))
    grid = np.arange(rise.shape[-1]) + 0.5
    at = np.stack([rise.sum(axis=2) @ grid, rise.sum(axis=3) @ grid], axis=-1) / light[..., None]
    ratio, peaks = light[1] / light[0], peak[1] / peak[0]
    return {
        "count": int(ratio.size),
        "light_ratio": quantiles(ratio, 0, 0.5, 1),
        "light_beyond_10_percent": int((np.abs(ratio - 1) > 0.1).sum()),
        "median_peak_ratio": round(float(np.median(peak[1]) / np.median(peak[0])), 4),
        "peak_ratio": quantiles(peaks, 0.05, 0.5, 0.95),
        "mean_place_error": {
            way: round(float(np.abs((at[i] - centres).mean(axis=0)).max()), 4)
            for i, way in enumerate(WAYS[:2])
        },
        "place_error_p95": {
            way: round(float(np.quantile(np.abs(at[i] - centres), 0.95)), 4)
            for i, way in enumerate(WAYS[:2])
        },
    }


def quantiles(values: Array, *shares: float) -> list[float]:
    return [round(float(value), 4) for value in np.quantile(values, shares)]


def flat(patches: Array) -> Array:
    """Return patches as rows without their mean: a filter must not see the tissue's level."""
    rows = patches.reshape(len(patches), -1)
    return rows - rows.mean(axis=1, keepdims=True)


def scores(found: list[Planted], way: int, observer: str) -> list[tuple[Array, Array]]:
    """Return the scores of the faint and of the bare places of each image.

    The filters are matched to the calcification and to the texture's covariance, which is taken
    from the other images (Hotelling). ``matched`` knows what a calcification looks like at its
    place; ``fixed`` has one filter, the mean over all places, as a network's layer has; ``plain``
    is that mean itself, without regard to the texture.
    """
    spreads = [np.cov(flat(p.ground[way]).T) for p in found]
    mean = flat(np.concatenate([p.clear[way] for p in found])).mean(axis=0)
    out = []
    for number, p in enumerate(found):
        others = [c for i, c in enumerate(spreads) if i != number] or spreads
        spread = np.mean(others, axis=0) + 0.01 * np.eye(mean.size)
        filters = flat(p.clear[way]) if observer == "matched" else mean[None]
        if observer != "plain":
            filters = np.linalg.solve(spread, filters.T).T
        power = np.sum(filters @ spread * filters, axis=1, keepdims=True)
        filters = filters / np.sqrt(np.where(power > 0, power, 1))  # bilinear loses whole ones
        seen, bare = (np.sum(flat(part[way]) * filters, axis=1) for part in (p.faint, p.bare))
        out.append((seen, bare))
    return out


def wins(found: list[Planted], scored: list[tuple[Array, Array]], kind: int) -> Array:
    """Return how often a faint place of unit i scores above a bare one of unit j, (n, n).

    A unit is an image, or a place where there are few images.
    """
    parts = [
        (seen[p.contrast == kind], bare[p.contrast == kind])
        for p, (seen, bare) in zip(found, scored, strict=True)
    ]
    if len(parts) < FEW_IMAGES:
        seen, bare = (np.concatenate(part) for part in zip(*parts, strict=True))
        return higher(seen, bare)
    return np.array([[higher(seen, bare).mean() for _, bare in parts] for seen, _ in parts])


def higher(seen: Array, bare: Array) -> Array:
    """Return 1 where a score of ``seen`` is above one of ``bare``, 1/2 where both are equal."""
    gap = seen[:, None] - bare
    return (gap > 0) + 0.5 * (gap == 0)


def detection(
    found: list[Planted], observer: str, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the AUROC of an observer by contrast, and a paired bootstrap of the difference."""
    scored = [scores(found, way, observer) for way in range(len(WAYS))]
    out = []
    for kind, contrast in enumerate(CONTRASTS):
        tables = [wins(found, each, kind) for each in scored]
        units = len(tables[0])
        drawn = rng.multinomial(units, np.full(units, 1 / units), RESAMPLES)
        changes = np.sum((drawn @ (tables[1] - tables[0])) * drawn, axis=1) / units**2
        areas = [float(table.mean()) for table in tables]
        out.append(
            {
                "contrast": contrast,
                "places": int(sum((p.contrast == kind).sum() for p in found)),
                **{way: round(area, 4) for way, area in zip(WAYS, areas, strict=True)},
                "difference": round(areas[1] - areas[0], 4),
                "interval_95": quantiles(changes, 0.025, 0.975),
            }
        )
    return out


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the worst and the median of files of one kind and size."""
    reduced = [row for row in rows if "fast" in row]
    out: dict[str, Any] = {
        "files": len(rows),
        "decode": sorted({row["decode"] for row in rows}),
        "same_grid": sum(row["same_grid"] for row in rows),
        "identical": sum(row.get("identical", False) for row in rows),
        "seconds_exact_fast": np.median([r["seconds"] for r in rows], axis=0).round(3).tolist(),
    }
    if not reduced:
        return out
    for name in ("fast", "bilinear"):
        for figure in ("mean", "p999", "bias"):
            values = [row[name][figure] for row in reduced]
            worst = max(values, key=abs)
            out[f"{name}_{figure}"] = {"median": middle(values), "worst": worst}
    closer = [
        row["fast"]["mean"] < row["bilinear"]["mean"]
        and row["fast"]["p999"] <= row["bilinear"]["p999"]
        for row in reduced
    ]
    landmark = [row["landmark"] for row in reduced]
    return {
        **out,
        "closer_than_bilinear": sum(closer),
        "landmark": {"median": middle(landmark), "worst": max(landmark)},
        "sharpness_median": middle([row["sharpness"] for row in reduced]),
    }


def middle(values: list[float]) -> float:
    return round(float(np.median(values)), 4)


def measured(files: list[Path], each: int, most: int) -> dict[str, Any]:
    """Return all figures of files of one machine, by the output's width.

    Args:
        files: Of one machine.
        each: Places an image and contrast.
        most: In how many of the files, evenly picked, calcifications are planted.
    """
    rng = np.random.default_rng(17)
    rows: dict[int, list[dict[str, Any]]] = {size[0]: [] for size in SIZES}
    found: dict[int, list[Planted]] = {size[0]: [] for size in SIZES}
    chosen = set(picked(files, most))
    for number, path in enumerate(files):
        data = path.read_bytes()
        whole = dicom.read_image(data, RECORD).pixels
        for size in SIZES:
            pair = decoded(data, size)
            rows[size[0]].append(fidelity(whole, pair, landmarks(path, pair.exact, rng)))
        if path in chosen:
            points = rng.permutation(places(pair.exact, rng))[: each * len(CONTRASTS)]
            planted = planted_files(data, points)
            for size in SIZES:
                seen = calcifications(data, points, size, planted)
                found[size[0]] += [] if seen is None else [seen]
        print(f"  {number + 1} of {len(files)}", flush=True)
    return {
        str(width): {
            "fidelity": summary(rows[width]),
            "planted_images": len(listed),
            "calcifications": contrast_table(listed),
            "detection": {
                observer: detection(listed, observer, rng)
                for observer in ("matched", "fixed", "plain")
            },
        }
        for width, listed in found.items()
    }


def by_machine(folder: Path, most: int) -> dict[str, list[Path]]:
    """Return the JPEG 2000 files below a folder by (rows x columns), evenly picked."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if header.file_meta.TransferSyntaxUID == JPEG_2000:
            found.setdefault(f"{header.Rows}x{header.Columns}", []).append(path)
    return {name: picked(files, most) for name, files in sorted(found.items())}


def picked(files: list[Path], most: int) -> list[Path]:
    return [files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=Path, help="an rsna folder; default: made now")
    parser.add_argument("--real", type=Path, help="a folder of real files")
    parser.add_argument("--images", type=int, default=50, help="phantoms of each machine")
    parser.add_argument("--planted", type=int, default=20, help="of them with calcifications")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fast_fidelity.json"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    scratch = Path(tempfile.mkdtemp())
    raw = options.phantoms
    if raw is None:
        raw = scratch / "rsna"
        # Half of the machines write JPEG 2000, and a patient has four images.
        rsna.write(raw, patients=options.images, seed=11, workers=os.cpu_count() or 1)
    result = {
        "what": "fast against exact; grey levels of 255 inside the breast, output pixels",
        **machine.described(),
        "versions": versions(),
        "contrasts": CONTRASTS,
        "clear": CLEAR,
    }
    for name, folder, each in (("phantoms", raw, EACH), ("real", options.real, 2 * EACH)):
        kinds = by_machine(folder, options.images) if folder else {}
        result[name] = {}
        for kind, files in kinds.items():
            print(name, kind, len(files))
            result[name][kind] = measured(files, each, options.planted)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
