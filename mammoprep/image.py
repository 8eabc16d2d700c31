"""MammoImage: pixels that never travel without geometry, record and what was decided."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.device import DeviceArray
from mammoprep.core.geometry import Geometry
from mammoprep.core.schema import Record

MASKS = ("padding", "breast", "mask")  # arrays on the grid of the pixels


@dataclass(frozen=True)
class Acquisition:
    """What the file's header says and how its grey values were read; never free text.

    Attributes:
        photometric: ``MONOCHROME1`` or ``MONOCHROME2``, None where the format has no such thing; a
            TIFF in which 0 is white is ``MONOCHROME1``.
        bits_stored: Significant bits of a stored value; of a picture those of its range, or with
            the warning ``range_unused`` those that its values need.
        transfer_syntax: DICOM UID of the pixel encoding, or None.
        voi: Which transform made the grey values: ``lut:<i>``, ``window:<i>``, ``none``, ``range``,
            ``percentile``, ``fixed``; of a picture ``none`` is all that its file can hold, and
            ``range`` what table, option or file state.
        voi_function: ``LINEAR``, ``LINEAR_EXACT``, ``SIGMOID`` or None.
        window: (centre, width) in modality units, or None; of a picture the middle and the width of
            a range that is not all its file can hold.
        manufacturer: One of a fixed list, ``other``, or None.
        decode: ``exact``, or the reduced resolution that was read: ``level:1`` is half.
        decoder: Name and version of the decoder, for ``inspect``; not part of a sample.
        laterality: ``L`` or ``R`` by the header, or None.
        view: View by the header, or None.
        patient_orientation: First value of Patient Orientation reduced to ``A``, ``P`` or None.
        padding: (lowest, highest) stored padding value, or None.
        column_direction: Second value of Patient Orientation reduced to ``F`` (the feet are at the
            bottom), ``H`` or None.
    """

    photometric: str | None = None
    bits_stored: int | None = None
    transfer_syntax: str | None = None
    voi: str | None = None
    voi_function: str | None = None
    window: tuple[float, float] | None = None
    manufacturer: str | None = None
    decode: str = "exact"
    decoder: str | None = None
    laterality: str | None = None
    view: str | None = None
    patient_orientation: str | None = None
    padding: tuple[int, int] | None = None
    column_direction: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the ``acquisition`` part of a sample's metadata; an allow-list."""
        return {
            "photometric": self.photometric,
            "bits_stored": self.bits_stored,
            "transfer_syntax": self.transfer_syntax,
            "voi": self.voi,
            "voi_function": self.voi_function,
            "window": None if self.window is None else list(self.window),
            "manufacturer": self.manufacturer,
            "decode": self.decode,
        }


@dataclass(frozen=True)
class Samples:
    """Presentation values of a part of the stored image, at its own or a reduced resolution.

    Attributes:
        pixels: float32 (rows, columns) in [0, 1], in main memory or still on a GPU.
        padding: bool (rows, columns), or None.
        step: Stored pixels from one sample to the next: a power of two.
        origin: (y, x) in stored coordinates of the outer corner of the first sample's area; whole
            or half numbers.
        warnings: Codes of what was odd while reading them.
    """

    pixels: NDArray[np.float32] | DeviceArray
    padding: NDArray[np.bool_] | None
    step: int
    origin: tuple[float, float]
    warnings: tuple[str, ...] = ()

    def on_host(self) -> NDArray[np.float32]:
        """Return the pixels in main memory."""
        return self.pixels.host() if isinstance(self.pixels, DeviceArray) else self.pixels


class Detail(Protocol):
    """The stored image behind an overview."""

    def __call__(self, box: tuple[int, int, int, int], size: tuple[int, int]) -> Samples:
        """Return the fewest samples of a box that still cover a size.

        Args:
            box: (x0, y0, x1, y1) in whole stored pixels.
            size: (rows, columns) that the samples of the box should at least have, as far as the
                stored image does.

        Raises:
            RecordError: the pixels cannot be decoded.
        """
        ...


@dataclass(frozen=True)
class MammoImage:
    """An image on its way from file to sample.

    Attributes:
        pixels: (rows, columns), read-only. float32 in [0, 1] from the decoder until the last step,
            where 0 is black and 1 is white as a reader would see it; uint8 or uint16 after
            ``quantise``.
        geometry: The grid of ``pixels`` and how it lies on the stored image.
        record: What the dataset's table says.
        acquisition: What the header says.
        padding: bool (rows, columns), pixels that the device never measured; None when there are
            none.
        breast: bool (rows, columns), breast tissue; None before ``find_breast``.
        mask: uint8 (rows, columns), 0 or 255, union of the lesions; None when not annotated.
        stored_mask: uint8 (rows, columns) **of the stored image**, 0 or 255: lesions whose outline
            came as a picture, to be drawn with those of the record; or None.
        warnings: Codes of what was odd, in the order found.
        notes: Decisions worth showing (``inspect``): name -> number, text or list.
        detail: When ``pixels`` are only an overview: where the rest of the stored image is read.
    """

    pixels: NDArray[Any]
    geometry: Geometry
    record: Record
    acquisition: Acquisition = field(default_factory=Acquisition)
    padding: NDArray[np.bool_] | None = None
    breast: NDArray[np.bool_] | None = None
    mask: NDArray[np.uint8] | None = None
    stored_mask: NDArray[np.uint8] | None = None
    warnings: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    detail: Detail | None = None

    def __post_init__(self) -> None:
        """Make every array read-only and check that all share one grid.

        Raises:
            ValueError: an array's shape differs from ``geometry.size``, or the stored mask's from
                ``geometry.stored_size``.
        """
        if self.stored_mask is not None and self.stored_mask.shape != self.geometry.stored_size:
            raise ValueError(f"the stored mask is {self.stored_mask.shape}")
        for name in ("pixels", *MASKS):
            array = getattr(self, name)
            if array is None:
                continue
            if array.shape[:2] != self.geometry.size:
                raise ValueError(f"{name} is {array.shape}, the grid is {self.geometry.size}")
            array.setflags(write=False)

    def moved(
        self, change: Callable[[NDArray[Any]], NDArray[Any]], geometry: Geometry
    ) -> "MammoImage":
        """Return the image with every array of its grid changed alike, and the geometry with them.

        Args:
            change: What is done to pixels, padding, breast and mask.
            geometry: Of the new grid.
        """
        arrays = {name: getattr(self, name) for name in ("pixels", *MASKS)}
        found: dict[str, Any] = {n: change(a) for n, a in arrays.items() if a is not None}
        return replace(self, geometry=geometry, **found)

    def warn(self, *codes: str) -> "MammoImage":
        """Return the image with warning codes added, each at most once."""
        fresh = tuple(code for code in dict.fromkeys(codes) if code not in self.warnings)
        return replace(self, warnings=self.warnings + fresh)

    def note(self, **facts: Any) -> "MammoImage":
        """Return the image with decisions added to its notes."""
        return replace(self, notes=MappingProxyType({**self.notes, **facts}))
