"""Four X-ray machines: their frames, grey scales, encodings and habits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.phantoms._texture import Field

JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
SMALLEST = 64


@dataclass(frozen=True)
class Machine:
    """One machine, as its files show it.

    Attributes:
        name: Name in the truth files.
        site_id: Site of the RSNA table.
        machine_id: Machine of the RSNA table.
        size: (rows, columns) of a full-size image.
        height_mm: Height of the frame.
        photometric: ``MONOCHROME1`` or ``MONOCHROME2``.
        bits_stored: Significant bits of a stored value.
        transfer_syntax: UID of the pixel encoding.
        centres: Window Center, one value or several; the first one applies.
        widths: Window Width, as many.
        function: VOI LUT Function, or None when the header has none.
        paddings: The Pixel Padding Values that occur; empty when the background is exposed air.
        lowest: Smallest stored value of tissue.
        level: Factor on the tissue's presentation values.
        gamma: Power on the tissue's presentation values.
        noise: Standard deviation of the quantum noise in presentation units at full size.
        labelled: The view is burned in.
        strip: The edge of the compression plate shows in the background.
        group_length: The file meta information has its Group Length; the real files lack it.
    """

    name: str
    site_id: int
    machine_id: int
    size: tuple[int, int]
    height_mm: float
    photometric: str
    bits_stored: int
    transfer_syntax: str
    centres: tuple[float, ...]
    widths: tuple[float, ...]
    function: str | None
    paddings: tuple[int, ...]
    lowest: int
    level: float
    gamma: float
    noise: float
    labelled: bool
    strip: bool
    group_length: bool


def frame(machine: Machine, scale: float) -> tuple[int, int]:
    """Return (rows, columns) of the machine's images at ``scale``, at least 64 each."""
    rows, columns = machine.size
    return max(SMALLEST, round(rows * scale)), max(SMALLEST, round(columns * scale))


def tone(machine: Machine, shown: Field) -> Field:
    """Return presentation values in the machine's own rendering, in (0, 1)."""
    rendered = machine.level * np.maximum(shown, 0) ** np.float32(machine.gamma)
    clipped: Field = np.clip(rendered, 0.012, 0.975)
    return clipped


def to_stored(machine: Machine, shown: Field, padding: int | None) -> NDArray[np.uint16]:
    """Return the stored values that the machine's window shows as ``shown`` (PS3.3 C.11.2.1.2-3).

    Args:
        machine: Whose window is inverted.
        shown: Presentation values in (0, 1), 0 is black; any shape.
        padding: The file's Pixel Padding Value, which no returned value equals, or None.
    """
    centre, width = machine.centres[0], machine.widths[0]
    output = 1 - shown if machine.photometric == "MONOCHROME1" else shown
    if machine.function == "SIGMOID":
        values = centre - width / 4 * np.log(1 / output - 1)
    elif machine.function == "LINEAR_EXACT":
        values = (output - 0.5) * width + centre
    else:
        values = (output - 0.5) * (width - 1) + centre - 0.5
    highest = (1 << machine.bits_stored) - 1
    if padding is not None and padding > machine.lowest:
        highest = padding - 1
    stored: NDArray[Any] = np.clip(np.rint(values), machine.lowest, highest)
    return stored.astype(np.uint16)


MACHINES = (
    Machine(
        name="sigmoid-mono1-j2k",
        site_id=2,
        machine_id=29,
        size=(5355, 4915),
        height_mm=268.0,
        photometric="MONOCHROME1",
        bits_stored=16,
        transfer_syntax=JPEG_2000_LOSSLESS,
        centres=(1802.31, 1802.31, 2020.704, 1583.916),
        widths=(1091.97, 1091.97, 1091.97, 1091.97),
        function="SIGMOID",
        paddings=(3044, 3076, 3140, 3204),
        lowest=1400,
        level=0.7,
        gamma=1.1,
        noise=0.018,
        labelled=False,
        strip=True,
        group_length=False,
    ),
    Machine(
        name="linear-mono2-j2k",
        site_id=2,
        machine_id=21,
        size=(2776, 2082),
        height_mm=229.0,
        photometric="MONOCHROME2",
        bits_stored=12,
        transfer_syntax=JPEG_2000_LOSSLESS,
        centres=(2048.0,),
        widths=(4096.0,),
        function=None,
        paddings=(0,),
        lowest=1,
        level=1.0,
        gamma=1.0,
        noise=0.016,
        labelled=True,
        strip=False,
        group_length=False,
    ),
    Machine(
        name="linear-mono2-jpegll",
        site_id=1,
        machine_id=49,
        size=(4096, 3328),
        height_mm=274.0,
        photometric="MONOCHROME2",
        bits_stored=14,
        transfer_syntax=JPEG_LOSSLESS_SV1,
        centres=(6200.0,),
        widths=(8800.0,),
        function="LINEAR",
        paddings=(0,),
        lowest=900,
        level=1.0,
        gamma=1.25,
        noise=0.010,
        labelled=True,
        strip=False,
        group_length=True,
    ),
    Machine(
        name="exact-mono1-raw",
        site_id=2,
        machine_id=48,
        size=(3062, 2394),
        height_mm=288.0,
        photometric="MONOCHROME1",
        bits_stored=12,
        transfer_syntax=EXPLICIT_LITTLE,
        centres=(2000.0,),
        widths=(3600.0,),
        function="LINEAR_EXACT",
        paddings=(),
        lowest=0,
        level=1.0,
        gamma=0.82,
        noise=0.012,
        labelled=True,
        strip=False,
        group_length=True,
    ),
)
