"""nvImageCodec: batches of JPEG 2000, HTJ2K and lossless JPEG frames, decoded on a GPU.

Only this file knows the library. Whatever it returns is checked by ``ahead``. Written against
nvImageCodec 0.9 and CuPy 14; not measured on a GPU.
"""

import importlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Protocol

from mammoprep.core.device import DeviceArray

PACKAGES = ("nvidia-nvimgcodec-cu13", "nvidia-nvjpeg2k-cu13", "nvidia-nvjpeg", "cupy-cuda13x")
EXTRA = "pip install 'mammoprep[gpu]'"


class DeviceError(Exception):
    """The device cannot be used; the text says why and what to do."""


class Device(Protocol):
    """What decodes batches of frames."""

    name: str

    def decode(self, frames: Sequence[bytes]) -> list[DeviceArray | None]:
        """Return the decoded words (rows, columns) of each frame, None where it cannot.

        Raises:
            DeviceError: the device failed as a whole.
        """
        ...


def versions() -> dict[str, str | None]:
    """Return the version of every package that decoding on a GPU needs, None where it is absent."""
    return {name: _version(name) for name in PACKAGES}


def open_device() -> Device:
    """Return the first GPU.

    Raises:
        DeviceError: no GPU, no driver or a package is missing.
    """
    missing = [name for name, found in versions().items() if found is None]
    if missing:
        raise DeviceError(f"{', '.join(missing)} not installed ({EXTRA})")
    try:
        codec, cupy = _modules()
        count = int(cupy.cuda.runtime.getDeviceCount())
    except (ImportError, OSError) as error:
        raise DeviceError(f"{type(error).__name__} while loading the GPU libraries") from None
    except RuntimeError as error:  # CUDARuntimeError: no driver, or one too old
        raise DeviceError(f"no usable GPU ({type(error).__name__})") from None
    if count < 1:
        raise DeviceError("no GPU found")
    return NvImageCodec(codec, cupy)


class NvImageCodec:
    """The GPU through nvImageCodec, with CuPy for array work."""

    def __init__(self, codec: ModuleType, cupy: ModuleType) -> None:
        """Open the decoder.

        Args:
            codec: ``nvidia.nvimgcodec``.
            cupy: CuPy.

        Raises:
            DeviceError: the library does not start.
        """
        self._codec, self._cupy = codec, cupy
        kinds = (codec.BackendKind.GPU_ONLY, codec.BackendKind.HYBRID_CPU_GPU)
        try:
            # One CPU thread: N workers use N cores.
            self._decoder = codec.Decoder(
                max_num_cpu_threads=1, backends=[codec.Backend(kind) for kind in kinds]
            )
            self._params = codec.DecodeParams(
                allow_any_depth=True,
                apply_exif_orientation=False,
                color_spec=codec.ColorSpec.UNCHANGED,
                sample_format=codec.SampleFormat.P_UNCHANGED,
            )
        except RuntimeError as error:
            raise DeviceError(f"nvImageCodec does not start ({type(error).__name__})") from None
        self.name = f"nvImageCodec {codec.__version__}"

    def decode(self, frames: Sequence[bytes]) -> list[DeviceArray | None]:
        """Return the decoded words of each frame; see ``Device``."""
        try:
            sources = [self._codec.CodeStream(frame) for frame in frames]
            images = self._decoder.decode(sources, params=self._params)
            return [None if image is None else self._words(image) for image in images]
        except (RuntimeError, MemoryError) as error:  # CuPy's errors are RuntimeErrors too
            raise DeviceError(f"{type(error).__name__} in {self.name}") from None

    def _words(self, image: Any) -> DeviceArray | None:
        words = self._cupy.asarray(image)
        words = words.reshape([side for side in words.shape if side != 1] or [1])
        if words.ndim != 2:
            return None
        return DeviceArray(words, self._cupy, self._cupy.asnumpy, self._cupy.asarray)


def _modules() -> tuple[ModuleType, ModuleType]:
    return importlib.import_module("nvidia.nvimgcodec"), importlib.import_module("cupy")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
