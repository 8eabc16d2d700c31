"""Anderson acceleration: the next iterate mixes the last evaluations so that residuals cancel.

D. G. Anderson 1965, doi:10.1145/321296.321305; H. F. Walker and P. Ni 2011, doi:10.1137/10078356X.
"""

import torch
from torch import Tensor

from mammotrain.nn._tracker import Function, Layout, Settings, Solution, Tracker, norms

RIDGE = {torch.float32: 1e-7, torch.float64: 1e-14}  # close to the rounding of the Gram matrix


def anderson(f: Function, z0: Tensor, settings: Settings) -> Solution:
    """Look for z = f(z) from ``z0`` (B, ...); each sample mixes its own history."""
    tracker, layout = Tracker(z0, settings), Layout(z0)
    batch, window = z0.shape[0], min(settings.memory, settings.max_iter)
    values = z0.new_empty(batch, window, z0[0].numel())
    errors = torch.empty_like(values)
    gram = z0.new_zeros(batch, window, window)
    z = z0
    for step in range(settings.max_iter):
        slot, filled = step % window, min(step + 1, window)
        values[:, slot] = layout.flat(f(z))
        torch.sub(values[:, slot], layout.flat(z), out=errors[:, slot])
        products = torch.bmm(errors[:, :filled], errors[:, slot, :, None]).squeeze(2)
        gram[:, slot, :filled] = products
        gram[:, :filled, slot] = products
        if tracker.update(z, gram[:, slot, slot].sqrt(), norms(values[:, slot])):
            break
        weights = _weights(gram[:, :filled, :filled])
        z = layout.back(torch.bmm(weights[:, None], values[:, :filled]))
    return tracker.solution()


def _weights(gram: Tensor) -> Tensor:
    """Return (B, m) weights of sum 1 that minimise the norm of the mixed residual.

    The ridge is relative to the mean of the diagonal: an absolute one swamps the matrix as the
    residuals shrink, and the acceleration is lost.
    """
    exact = gram.double()
    mean = exact.diagonal(dim1=1, dim2=2).mean(1)
    eye = torch.eye(gram.shape[1], dtype=exact.dtype, device=gram.device)
    ridged = exact + (RIDGE[gram.dtype] * mean)[:, None, None] * eye
    ones = exact.new_ones(gram.shape[0], gram.shape[1])
    solved: Tensor = torch.linalg.solve_ex(ridged, ones)[0]  # one sample's NaN stops no other
    return (solved / solved.sum(1, keepdim=True)).to(gram.dtype)
