"""Grad-CAM: where in a picture the features lie that speak for a class.

R. R. Selvaraju et al. 2017, arXiv:1610.02391. A model that offers it names its ``cam_layer``; see
``mammotrain.nn.encoder``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mammotrain.contracts import Output, Shown, ask


def offers(model: nn.Module) -> bool:
    """Return whether a model says which layer to look at."""
    return isinstance(getattr(model, "cam_layer", None), nn.Module)


def grad_cam(
    model: nn.Module, shown: Shown, speaks: Callable[[Output], Tensor]
) -> tuple[Output, Tensor]:
    """Return what a model says of a batch, and where the reasons are.

    A channel of ``cam_layer`` weighs as much as the class rises with it, on the mean over its
    places; of the weighted sum what speaks against the class is left out.

    Args:
        model: With ``cam_layer`` and ``cam_grid``, in evaluation mode.
        shown: The batch.
        speaks: The output -> what speaks for the class, such as its logit, (B,); of sample i only
            entry i may depend on it.

    Returns:
        The output, without gradients, and (B, 1, H, W) float32 on the pictures' grid, 0 to 1; each
        sample's highest value is 1, or all are 0 where nothing speaks for the class.
    """
    layer, grid = _parts(model)
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _given, found: seen.append(found))
    try:
        with torch.enable_grad():
            # A model of frozen weights has no gradients but for its input's.
            images = shown.images.detach().requires_grad_()
            told = Shown(images, shown.masks, shown.rows, shown.conditions)
            output = ask(model, told)
            (gradient,) = torch.autograd.grad(speaks(output).sum(), seen[-1])
    finally:
        handle.remove()
    features, slopes = grid(seen[-1].detach()).float(), grid(gradient).float()
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    heat = functional.relu((weights * features).sum(dim=1, keepdim=True))
    size = shown.images.shape[-2:]
    heat = functional.interpolate(heat, size, mode="bilinear", align_corners=False)
    highest = heat.amax(dim=(2, 3), keepdim=True)
    plain = Output(output.logits.detach(), None, {n: v.detach() for n, v in output.stats.items()})
    return plain, torch.where(highest > 0, heat / highest.clamp_min(1e-30), 0.0)


def _parts(model: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    any_model: Any = model
    return any_model.cam_layer, any_model.cam_grid
