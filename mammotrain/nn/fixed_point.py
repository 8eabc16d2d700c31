"""Fixed points z = f(z) as layers: solvers, gradients through them, what their Jacobian is like.

S. Bai, J. Z. Kolter and V. Koltun 2019, "Deep equilibrium models", arXiv:1909.01377. The solver
runs without autograd; one evaluation of f at the fixed point carries the gradient, so memory does
not grow with the number of iterations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mammotrain.nn._anderson import anderson
from mammotrain.nn._broyden import broyden
from mammotrain.nn._tracker import Function, Layout, Settings, Solution, Tracker, norms

__all__ = [
    "BACKWARDS",
    "SOLVERS",
    "Backward",
    "Equilibrium",
    "Report",
    "Settings",
    "Solution",
    "equilibrium",
    "jacobian_penalty",
    "solve",
    "spectral_radius",
]

Solver = Callable[[Function, Tensor, Settings], Solution]
BACKWARDS = ("implicit", "phantom", "one-step")


def picard(f: Function, z0: Tensor, settings: Settings) -> Solution:
    """Iterate z <- f(z) from ``z0`` (B, ...)."""
    tracker = Tracker(z0, settings)
    z = z0
    for _ in range(settings.max_iter):
        value = f(z)
        if tracker.update(z, norms(value - z), norms(value)):
            break
        z = value
    return tracker.solution()


SOLVERS: Mapping[str, Solver] = {"anderson": anderson, "broyden": broyden, "picard": picard}


@dataclass(frozen=True)
class Backward:
    """How gradients pass through a fixed point.

    Attributes:
        kind: ``implicit`` solves u = J'u + g (exact at a converged fixed point), ``phantom``
            differentiates a few damped steps (arXiv:2111.05177), ``one-step`` a single
            evaluation (arXiv:2103.12803).
        settings: Solver of the adjoint equation (implicit).
        steps: Steps that are differentiated (phantom).
        damping: Share of f in each of these steps, in (0, 1] (phantom).
    """

    kind: str = "implicit"
    settings: Settings = field(default_factory=Settings)
    steps: int = 5
    damping: float = 0.5


@dataclass(frozen=True)
class Report:
    """How a solve went, (B,) float32 each; NaN where there was none, or not yet.

    Attributes:
        steps: Evaluations until the sample stopped.
        residual: Relative residual of what was returned; inf where it was never finite.
        unconverged: 1 where that is above the tolerance, else 0.
    """

    steps: Tensor
    residual: Tensor
    unconverged: Tensor

    def note(self, solution: Solution) -> None:
        """Fill the tensors, in place: backward runs after they were handed out."""
        self.steps.copy_(solution.steps)
        self.residual.copy_(solution.residual)
        self.unconverged.copy_(~solution.converged)


@dataclass(frozen=True)
class Equilibrium:
    """A fixed point that gradients pass through.

    Attributes:
        z: (B, ...) f at the solver's result; differentiable.
        forward: How the solve went.
        adjoint: The same of the adjoint equation, from the moment backward has run.
        penalty: Scalar, mean squared entry of J'v for a random v; None when not asked for.
    """

    z: Tensor
    forward: Report
    adjoint: Report
    penalty: Tensor | None = None


def solve(f: Function, z0: Tensor, settings: Settings) -> Solution:
    """Look for z = f(z) without autograd, in float32 or, if ``z0`` is, float64.

    Autocast reaches ``f`` only: the solver's own sums stay in the precision of the state.

    Args:
        f: (B, ...) -> (B, ...), sample by sample; may compute in half precision.
        z0: (B, ...) where to begin.
        settings: Solver, tolerance and limit.
    """
    start, kind = _state(z0.detach()), z0.device.type
    enabled, half = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def quiet(z: Tensor) -> Tensor:
        # A weight's half-precision copy made without gradients must not be used again with them.
        with torch.autocast(kind, half, enabled, cache_enabled=False):
            return f(z).to(z.dtype)

    with torch.no_grad(), torch.autocast(kind, enabled=False):
        return SOLVERS[settings.solver](quiet, start, settings)


def equilibrium(
    f: Function, z0: Tensor, *, forward: Settings, backward: Backward, penalise: bool = False
) -> Equilibrium:
    """Return the fixed point of ``f``, with gradients to everything that ``f`` closes over.

    Args:
        f: (B, ...) -> (B, ...), sample by sample.
        z0: (B, ...) where the solver begins; gets no gradient.
        forward: How to solve.
        backward: How to differentiate.
        penalise: Estimate the Jacobian penalty too (arXiv:2106.14342).
    """
    solution = solve(f, z0, forward)
    found = Equilibrium(solution.z, _empty_report(solution), _empty_report(solution))
    found.forward.note(solution)
    if not torch.is_grad_enabled():
        return replace(found, z=_state(f(solution.z)))
    penalty = None
    if penalise or backward.kind == "implicit":
        point = solution.z.detach().requires_grad_()
        value = _state(f(point))
        penalty = jacobian_penalty(value, point) if penalise else None
    if backward.kind == "implicit":
        adjoint = partial(_adjoint, value, point, backward.settings, found.adjoint)
        z: Tensor = _ThroughAdjoint.apply(value, adjoint)  # type: ignore[no-untyped-call]
    else:
        z = _damped_steps(f, solution.z, backward)
    return replace(found, z=z, penalty=penalty)


def jacobian_penalty(value: Tensor, point: Tensor) -> Tensor:
    """Return an estimate of ||J||^2 / N, the mean over samples; differentiable.

    Hutchinson's estimate with one random vector a sample: the squared norm of J'v has the
    squared Frobenius norm of J as its mean.

    Args:
        value: (B, ...) f(point), with its graph.
        point: (B, ...) that requires a gradient.
    """
    noise = torch.randn_like(value)
    (product,) = torch.autograd.grad(value, point, noise, create_graph=True)
    return product.square().mean()


def spectral_radius(f: Function, z: Tensor, *, iterations: int = 30) -> Tensor:
    """Return (B,) estimates of the largest absolute eigenvalue of the Jacobian of ``f`` at ``z``.

    Power iteration on J', whose eigenvalues are J's; the growth is averaged over the last half of
    the iterations, because a complex pair makes it swing. Below 1, z <- f(z) converges nearby.
    """
    with torch.enable_grad():
        point = _state(z.detach()).requires_grad_()
        value = f(point).to(point.dtype)
    vector = _noise_of_its_own(point)
    growth = []
    for _ in range(max(iterations, 2)):
        vector = vector / _per_sample(norms(vector).clamp_min(1e-30), vector)
        (vector,) = torch.autograd.grad(value, point, vector, retain_graph=True)
        growth.append(norms(vector))
    return torch.stack(growth[len(growth) // 2 :]).log().mean(0).exp().float()


def _adjoint(
    value: Tensor, point: Tensor, settings: Settings, report: Report, gradient: Tensor
) -> Tensor:
    """Solve u = J'u + gradient, J the Jacobian of ``value`` in ``point``, and note how it went."""

    def f(u: Tensor) -> Tensor:
        return torch.autograd.grad(value, point, u, retain_graph=True)[0] + gradient

    if Layout(value).channels_last:
        gradient = gradient.contiguous(memory_format=torch.channels_last)
    solution = solve(f, gradient, settings)
    report.note(solution)
    return solution.z


class _ThroughAdjoint(torch.autograd.Function):
    """Returns ``value`` as it is; on the way back, gradient -> solution of the adjoint equation."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, adjoint: Function) -> Tensor:
        ctx.adjoint = adjoint
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.adjoint(gradient), None


def _damped_steps(f: Function, z: Tensor, backward: Backward) -> Tensor:
    if backward.kind == "one-step":
        return _state(f(z))
    for _ in range(backward.steps):
        z = torch.lerp(z, _state(f(z)), backward.damping)
    return z


def _empty_report(solution: Solution) -> Report:
    return Report(*(torch.full_like(solution.residual, torch.nan) for _ in range(3)))


def _state(z: Tensor) -> Tensor:
    return z if z.dtype in (torch.float32, torch.float64) else z.float()


def _noise_of_its_own(like: Tensor) -> Tensor:
    generator = torch.Generator(like.device).manual_seed(0)  # looking must not change a training
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _per_sample(x: Tensor, like: Tensor) -> Tensor:
    return x.view(-1, *[1] * (like.ndim - 1))
