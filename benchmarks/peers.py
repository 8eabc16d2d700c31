"""What others do to a mammogram, from file to finished PNG, written from public descriptions.

``notebook_dicomsdl`` and ``notebook_pydicom`` follow the RSNA notebooks: read, window in float,
invert by the image's own maximum, stretch to its own maximum, 8 bits by truncation, flip by the
sums of the halves, everything outside the largest contour black, crop with margins that grow with
the position, bilinear stretch to 728x1456, PNG. No shards, no checks, no geometry kept.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import dicomsdl
import numpy as np
import pydicom

SIZE = (728, 1456)
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"


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
