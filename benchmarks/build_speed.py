"""Full-size phantoms through `mammoprep build` and the plain notebook way, side by side.

    python benchmarks/build_speed.py [--input DIR] [--images 300] [--out FILE.json]

The notebook way follows the description of the public RSNA notebooks (window in float, invert by
the image's maximum, stretch to its maximum, flip by half sums, crop by contour, bilinear resize,
save a PNG): pydicom and cv2, one process, no shards, no checks. JPEG Lossless, which pydicom
decodes only with GPL or aborting plug-ins, goes through dicomsdl there.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import cv2
import dicomsdl
import numpy as np
import psutil
import pydicom

from mammoprep import preparation
from mammoprep.builder import build
from mammoprep.config import BuildConfig, Settings
from mammoprep.decode import dicom
from mammoprep.manifest import versions
from mammoprep.phantoms import rsna
from mammoprep.pipeline import run as run_steps
from mammoprep.writers.sample import assemble

SIZE = (728, 1456)
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
PROFILED = 40


def notebook(path: Path, out: Path) -> None:
    """One image the way a notebook does it."""
    header = pydicom.dcmread(path)
    if header.file_meta.TransferSyntaxUID == JPEG_LOSSLESS:
        stored = dicomsdl.open(str(path)).pixelData(storedvalue=True)
    else:
        stored = header.pixel_array
    image = windowed(stored.astype(np.float64), header)
    inverted = header.PhotometricInterpretation == "MONOCHROME1"
    image = image.max() - image if inverted else image - image.min()
    image = (image / image.max() * 255).astype(np.uint8)
    half = image.shape[1] // 2
    if image[:, :half].sum() < image[:, half:].sum():
        image = np.fliplr(image)
    contours, _ = cv2.findContours(
        (image > 5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    image = cv2.resize(image[y : y + height, x : x + width], SIZE)
    cv2.imwrite(str(out / f"{path.stem}.png"), image)


def windowed(image: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    centre, width = header.WindowCenter, header.WindowWidth
    if isinstance(centre, pydicom.multival.MultiValue):
        centre, width = centre[0], width[0]
    centre, width = float(centre), float(width)
    top = 2.0**header.BitsStored - 1
    if header.get("VOILUTFunction", "LINEAR") == "SIGMOID":
        return top / (1 + np.exp(-4 * (image - centre) / width))
    low = centre - 0.5 - (width - 1) / 2
    return np.clip((image - low) / (width - 1), 0, 1) * top


class MemoryWatch(threading.Thread):
    """Highest resident memory of any child process, from the kernel's own high-water mark."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__(daemon=True)
        self.peak = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Look five times a second until stopped."""
        while not self.stopped.wait(0.2):
            for child in psutil.Process().children(recursive=True):
                try:
                    status = Path(f"/proc/{child.pid}/status").read_text()
                except OSError:
                    continue
                if "VmHWM:" in status:
                    peak = int(status.split("VmHWM:")[1].split()[0]) << 10
                    self.peak = max(self.peak, peak)


def ours(raw: Path, workers: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp())
    watch = MemoryWatch()
    watch.start()
    config = BuildConfig("rsna", Settings(size=SIZE, shard_size=8), raw, folder / "out", workers)
    started = time.perf_counter()
    result = build(config)
    seconds = time.perf_counter() - started
    watch.stopped.set()
    shutil.rmtree(folder)
    images = result.summary["counts"]["built"]
    return {
        "images": images,
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 3),
        "peak_mib_per_worker": watch.peak >> 20,
    }


def theirs(files: list[Path]) -> dict[str, float]:
    cv2.setNumThreads(1)
    folder = Path(tempfile.mkdtemp())
    started = time.perf_counter()
    for path in files:
        notebook(path, folder)
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    return {
        "images": len(files),
        "seconds": round(seconds, 2),
        "images_per_second": round(len(files) / seconds, 3),
    }


def stages(files: list[Path]) -> dict[str, dict[str, float]]:
    """Seconds an image in each stage, one core, by transfer syntax; shares of the total."""
    cv2.setNumThreads(1)
    bound = preparation.steps(Settings(size=SIZE))
    found: dict[str, list[tuple[float, ...]]] = {}
    for path in files:
        marks = [time.perf_counter()]
        data = path.read_bytes()
        marks.append(time.perf_counter())
        image = dicom.read_image(data, preparation.record_of(path))
        marks.append(time.perf_counter())
        image = run_steps(bound, image)
        marks.append(time.perf_counter())
        assemble(image, label_names=["0", "1"], format="png")
        marks.append(time.perf_counter())
        key = f"{image.acquisition.transfer_syntax} {image.geometry.stored_size}"
        found.setdefault(key, []).append(tuple(np.diff(marks)))
    names = ("read", "decode_and_grayscale", "steps", "encode")
    return {
        key: {
            **{
                name: round(statistics.median(row[i] for row in rows), 4)
                for i, name in enumerate(names)
            },
            "decode_share": round(sum(row[1] for row in rows) / sum(map(sum, rows)), 3),
            "images": len(rows),
        }
        for key, rows in sorted(found.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, help="an rsna folder; default: phantoms made now")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/build_speed.json"))
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())
    raw = options.input
    if raw is None:
        raw = scratch / "rsna"
        rsna.write(raw, patients=max(1, options.images // 4), seed=11, workers=os.cpu_count() or 1)
    files = sorted(raw.glob("*_images/*/*.dcm"))
    print(f"{len(files)} images; notebook way, one process ...")
    peer = theirs(files)
    print(peer, "\nmammoprep, 1 worker ...")
    one = ours(raw, 1)
    print(one, "\nmammoprep, 2 workers ...")
    two = ours(raw, 2)
    print(two)
    result = {
        "what": "file to finished 728x1456 PNG (ours: in verified shards), full-size phantoms",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": versions(),
        "notebook_1_process": peer,
        "mammoprep_1_worker": one,
        "mammoprep_2_workers": two,
        "ratio_1_worker_to_notebook": round(
            one["images_per_second"] / peer["images_per_second"], 3
        ),
        "ratio_2_workers_to_1": round(two["images_per_second"] / one["images_per_second"], 3),
        "stages_seconds_one_core": stages(files[:: max(1, len(files) // PROFILED)]),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    shutil.rmtree(scratch)


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
