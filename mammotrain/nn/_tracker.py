"""What every fixed point solver needs: when to stop, and what to say of the result."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.jit import is_tracing  # type: ignore[attr-defined]

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Settings:
    """How a fixed point is looked for.

    Attributes:
        solver: Name in SOLVERS.
        tol: A sample stops at ||f(z) - z|| <= tol * ||f(z)||, norms over the sample.
        max_iter: Most evaluations of f.
        memory: Earlier evaluations that Anderson and Broyden keep; each costs two states.
    """

    solver: str = "anderson"
    tol: float = 1e-3
    max_iter: int = 30
    memory: int = 4


@dataclass(frozen=True)
class Solution:
    """Where a solver stopped.

    Attributes:
        z: (B, ...) the iterate with the lowest residual, of each sample.
        steps: (B,) float32, evaluations of f until the sample stopped.
        residual: (B,) float32, ||f(z) - z|| / ||f(z)|| of ``z``; inf where f(z) was never finite.
        converged: (B,) bool, the residual is within the tolerance.
    """

    z: Tensor
    steps: Tensor
    residual: Tensor
    converged: Tensor


class Tracker:
    """Keeps each sample's best iterate; a sample that converged is frozen.

    So a sample's result does not depend on how long its neighbours take, and an iteration that
    falls apart returns the last point that was still good, with its true residual.
    """

    def __init__(self, z0: Tensor, settings: Settings) -> None:
        batch = z0.shape[0]
        self.best = z0
        self.tol = settings.tol
        self.count = 0
        self.residual = torch.full((batch,), torch.inf, device=z0.device, dtype=z0.dtype)
        self.steps = torch.zeros(batch, device=z0.device)
        self.active = torch.ones(batch, dtype=torch.bool, device=z0.device)

    def update(self, z: Tensor, error: Tensor, size: Tensor) -> bool:
        """Take in an iterate and say whether all samples are finished.

        Args:
            z: (B, ...) iterate; must not be changed afterwards.
            error: (B,) ||f(z) - z||.
            size: (B,) ||f(z)||.
        """
        self.count += 1
        relative = error / size.clamp_min(torch.finfo(size.dtype).tiny)
        finite = relative.isfinite()
        better = self.active & (relative < self.residual) & finite
        self.residual = torch.where(better, relative, self.residual)
        self.steps += self.active
        self.active = self.active & finite & (relative > self.tol)
        if is_tracing():  # a file holds a fixed number of steps: all, for those still active
            self.best = torch.where(better.view(-1, *[1] * (z.ndim - 1)), z, self.best)
            return False
        all_better, some_better, some_active = torch.stack(
            (better.all(), better.any(), self.active.any())
        ).tolist()  # one wait for the device instead of three
        if all_better:
            self.best = z
        elif some_better:
            self.best = torch.where(better.view(-1, *[1] * (z.ndim - 1)), z, self.best)
        return not some_active

    def solution(self) -> Solution:
        """Return the best iterates and how good they are."""
        return Solution(
            z=self.best,
            steps=self.steps,
            residual=self.residual.float(),
            converged=self.residual <= self.tol,
        )


def norms(x: Tensor) -> Tensor:
    """Return the (B,) Euclidean norm of each sample of ``x``."""
    found: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)))
    return found


class Layout:
    """Between a state's shape and a row of numbers a sample, in memory order: no copies."""

    def __init__(self, z0: Tensor) -> None:
        self.shape = z0.shape
        last = torch.channels_last
        self.channels_last = z0.ndim == 4 and z0.is_contiguous(memory_format=last)
        self.channels_last &= not z0.is_contiguous()

    def flat(self, x: Tensor) -> Tensor:
        """Return (B, N) of a state (B, ...)."""
        return (x.permute(0, 2, 3, 1) if self.channels_last else x).flatten(1)

    def back(self, x: Tensor) -> Tensor:
        """Return the state (B, ...) of (B, N) or (B, 1, N), laid out as the start was."""
        if not self.channels_last:
            return x.view(self.shape)
        batch, channels, height, width = self.shape
        return x.view(batch, height, width, channels).permute(0, 3, 1, 2)
