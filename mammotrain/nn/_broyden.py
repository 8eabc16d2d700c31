"""Broyden's good method with limited memory, on g(z) = f(z) - z.

C. G. Broyden 1965, doi:10.1090/S0025-5718-1965-0198670-6. The inverse Jacobian is kept as minus the
identity plus products u v'; when the memory is full it starts again from minus the identity.
"""

import torch
from torch import Tensor

from mammotrain.nn._tracker import Function, Layout, Settings, Solution, Tracker, norms


def broyden(f: Function, z0: Tensor, settings: Settings) -> Solution:
    """Look for z = f(z) from ``z0`` (B, ...); each sample has its own inverse Jacobian."""
    tracker, layout = Tracker(z0, settings), Layout(z0)
    batch, window = z0.shape[0], min(settings.memory, settings.max_iter)
    us = z0.new_zeros(batch, window, z0[0].numel())
    vs = torch.zeros_like(us)
    z = layout.flat(z0)
    value = layout.flat(f(z0))
    error = value - z
    for step in range(settings.max_iter):
        if tracker.update(layout.back(z), norms(error), norms(value)):
            break
        if step + 1 == settings.max_iter:
            break
        filled = step % window
        change = -_inverse(us[:, :filled], vs[:, :filled], error)
        z = z + change
        value = layout.flat(f(layout.back(z)))
        error, before = value - z, error
        _learn(us, vs, filled, (change, error - before))
    return tracker.solution()


def _inverse(us: Tensor, vs: Tensor, x: Tensor) -> Tensor:
    """Apply the inverse Jacobian -I + sum u v' to ``x`` (B, N)."""
    if us.shape[1] == 0:
        return -x
    inner = torch.bmm(vs, x[:, :, None])  # (B, m, 1)
    return torch.baddbmm(-x[:, None], inner.transpose(1, 2), us)[:, 0]


def _learn(us: Tensor, vs: Tensor, filled: int, moved: tuple[Tensor, Tensor]) -> None:
    """Put the rank-one correction for (change of z, change of g) after ``filled`` others."""
    change, difference = moved
    left = _inverse(vs[:, :filled], us[:, :filled], change)  # the transpose of the inverse
    right = change - _inverse(us[:, :filled], vs[:, :filled], difference)
    scale = (left * difference).sum(1, keepdim=True)
    usable = scale.abs() > torch.finfo(scale.dtype).tiny
    us[:, filled] = torch.where(usable, right / torch.where(usable, scale, 1), 0)
    vs[:, filled] = left
