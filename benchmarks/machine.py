"""Where and with what a benchmark ran: what stands in every result beside the figures."""

import datetime
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def described(*packages: str, device: str = "auto") -> dict[str, Any]:
    """Return the date, the machine and the versions of packages, as a result's first entries.

    Call it before measuring: the load is that of the others. Threads and GPU are known when torch
    is loaded.

    Args:
        packages: Names of distributions; one that is not installed is left out.
        device: What is measured on; a GPU is named unless this is ``cpu``.

    Returns:
        ``date`` (ISO), ``machine`` and ``versions``.
    """
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            **_torch(device),
            "load_at_start": [round(value, 2) for value in os.getloadavg()],
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "versions": {name: text for name in packages if (text := _version(name))},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or "unknown"


def _torch(device: str) -> dict[str, Any]:
    torch = sys.modules.get("torch")  # a benchmark of decoders has no need to load it
    if torch is None:
        return {}
    seen = device != "cpu" and torch.cuda.is_available()
    name = torch.cuda.get_device_name(None if device == "auto" else device) if seen else None
    return {"threads": torch.get_num_threads(), "gpu": name}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
