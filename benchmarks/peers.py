"""What others do to a mammogram, from file to finished PNG, written from public descriptions.

``notebook_dicomsdl`` and ``notebook_pydicom`` follow the RSNA notebooks: read, window in float,
invert by the image's own maximum, stretch to its own maximum, 8 bits by truncation, flip by the
sums of the halves, everything outside the largest contour black, crop with margins that grow with
the position, bilinear stretch to 728x1456, PNG. No shards, no checks, no geometry kept. ``medip``
is the package of that name, run as its users run it, in a virtual environment of its own.
"""

import resource
import shutil
import subprocess
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import dicomsdl
import numpy as np
import pydicom

SIZE = (728, 1456)
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
MEDIP = ("medip[jpeg]==0.2.0",)


def notebook_dicomsdl(path: Path, out: Path) -> None:
    """One image by dicomsdl, whose ``pixelData`` applies the rescale and returns float32."""
    file = dicomsdl.open(str(path))
    header = file.getPixelDataInfo()
    image = file.pixelData()
    centre, width = _first(file.WindowCenter), _first(file.WindowWidth)
    finish(image, centre, width, file.VOILUTFunction, header, out / f"{path.stem}.png")


def notebook_pydicom(path: Path, out: Path) -> None:
    """The same by pydicom and pylibjpeg; JPEG Lossless by dicomsdl, as pylibjpeg needs GPL code."""
    file = pydicom.dcmread(path)
    if file.file_meta.TransferSyntaxUID == JPEG_LOSSLESS:
        stored = dicomsdl.open(str(path)).pixelData(storedvalue=True)
    else:
        stored = file.pixel_array
    slope, intercept = file.get("RescaleSlope", 1), file.get("RescaleIntercept", 0)
    image = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    header = {
        "BitsStored": file.BitsStored,
        "PhotometricInterpretation": file.PhotometricInterpretation,
    }
    centre, width = _first(file.WindowCenter), _first(file.WindowWidth)
    function = file.get("VOILUTFunction")
    finish(image, centre, width, function, header, out / f"{path.stem}.png")


def _first(value: object) -> float:
    values = value if isinstance(value, list | tuple | pydicom.multival.MultiValue) else [value]
    return float(values[0])


def finish(
    image: np.ndarray, centre: float, width: float, function: str | None, header: dict, out: Path
) -> None:
    """Float image -> PNG, the notebook's steps in its order."""
    top = 2.0 ** header["BitsStored"] - 1
    if function == "SIGMOID":
        image = top / (1 + np.exp(-4 * (image - centre) / width))
    else:
        image = linear(image, centre - 0.5, width - 1, top)
    inverted = header["PhotometricInterpretation"].strip() == "MONOCHROME1"
    image = image.max() - image if inverted else image - image.min()
    image = (image / image.max() * 255).astype(np.uint8)
    half = image.shape[1] // 2
    if image[:, :half].sum() < image[:, half:].sum():
        image = np.fliplr(image)
    image = cropped(np.ascontiguousarray(image))
    cv2.imwrite(str(out), cv2.resize(image, SIZE))


def linear(image: np.ndarray, centre: float, width: float, top: float) -> np.ndarray:
    below, above = image <= centre - width / 2, image > centre + width / 2
    between = ~below & ~above
    image[below] = 0
    image[above] = top
    image[between] = ((image[between] - centre) / width + 0.5) * top
    return image


def cropped(image: np.ndarray) -> np.ndarray:
    binary = (image > 5).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    mask = cv2.drawContours(np.zeros(image.shape, np.uint8), [contour], -1, 255, cv2.FILLED)
    image = cv2.bitwise_and(image, mask)
    ys, xs = contour[:, 0, 1], contour[:, 0, 0]
    x0, x1 = int(0.99 * xs.min()), int(1.01 * xs.max())
    y0, y1 = int(0.99 * ys.min()), int(1.01 * ys.max())
    return image[y0:y1, x0:x1]


NOTEBOOKS: dict[str, Callable[[Path, Path], None]] = {
    "notebook_dicomsdl": notebook_dicomsdl,
    "notebook_pydicom_pylibjpeg": notebook_pydicom,
}


def install_medip(folder: Path) -> Path | None:
    """Return ``medip`` in a virtual environment of its own, made when absent; None when offline."""
    program = folder / "bin" / "medip"
    if program.exists():
        return program
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *MEDIP]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    return program if done.returncode == 0 and program.exists() else None


def medip_seconds(program: Path, files: Sequence[Path], scratch: Path) -> dict[str, float]:
    """Return processor and wall seconds that one more image takes ``medip run``.

    With its own defaults: min-max window, Otsu mask, 16-bit PNG of the stored size. The time of a
    run on one image is subtracted from a run on all, so that starting Python is not counted.
    """
    one = _medip_run(program, files[:1], scratch / "one")
    more = _medip_run(program, files, scratch / "all")
    return {name: (more[name] - one[name]) / (len(files) - 1) for name in one}


def _medip_run(program: Path, files: Sequence[Path], folder: Path) -> dict[str, float]:
    raw, out = folder / "in", folder / "out"
    shutil.rmtree(folder, ignore_errors=True)
    raw.mkdir(parents=True)
    for number, path in enumerate(files):
        (raw / f"{number}.dcm").symlink_to(path.resolve())
    command = [str(program), "--log-level", "ERROR", "run", "-i", str(raw), "-o", str(out)]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, "-j", "1"], check=True, capture_output=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if len(list(out.rglob("*.png"))) != len(files):
        raise RuntimeError("medip did not write every picture")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": wall}
