"""A child process that thinks it has a GPU.

Usage: python fake_gpu_child.py FAULT [JPEG]. FAULT is one of ``fake_gpu.FAULTS``, ``absent`` or
``dies``; with JPEG only the lossless JPEG frames meet it.
"""

import os
import sys

import fake_gpu
import numpy as np

from mammoprep import child
from mammoprep.decode import gpu


def absent() -> gpu.Device:
    raise gpu.DeviceError("no GPU found")


def dies(_: bytes) -> np.ndarray | None:
    os.abort()


def main() -> None:
    """Serve like the real child, on the fake device."""
    fault = sys.argv[1]
    decode_one = dies if fault == "dies" else fake_gpu.FAULTS.get(fault, fake_gpu.honest)
    only_jpeg = "JPEG" in sys.argv

    def decode(frame: bytes) -> np.ndarray | None:
        met = frame.startswith(b"\xff\xd8") or not only_jpeg
        return decode_one(frame) if met else fake_gpu.honest(frame)

    gpu.open_device = absent if fault == "absent" else lambda: fake_gpu.FakeDevice(decode)
    child.main()


if __name__ == "__main__":
    main()
