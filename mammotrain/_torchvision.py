"""Let timm be imported beside a CPU build of torch.

timm imports torchvision. torchvision's wheel on PyPI is built against CUDA, its compiled part does
not load beside a CPU-only torch, and without that part ``import torchvision`` fails, because two
operators are registered that nobody defined (pytorch/vision#9077, #9085). Defining their names is
enough for everything that timm needs; the operators themselves, and ``torchvision.io``, stay
unusable.
"""

import importlib.util
from functools import cache
from pathlib import Path

import torch

_KEPT: list[torch.library.Library] = []  # a library lives as long as its object


@cache
def ensure_importable() -> str:
    """Return ``absent``, ``native`` or ``stub``: what ``import torchvision`` will find."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return "absent"
    for compiled in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            continue
        return "native"
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
    return "stub"
