"""Multiscale deep equilibrium classifier: its features are the fixed point of one cell.

z* = f(z*, x), x the stem's output: parallel 3x3, 5x5 and 7x7 convolutions of z, concatenated, mixed
with x and normalised. S. Bai, V. Koltun and J. Z. Kolter 2020, arXiv:2006.08656.
"""

from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from math import gcd

import torch
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.nn import functional

from mammoprep.core.errors import ConfigError
from mammotrain.contracts import Output
from mammotrain.nn.fixed_point import (
    BACKWARDS,
    SOLVERS,
    Backward,
    Equilibrium,
    Settings,
    equilibrium,
    spectral_radius,
)

CELL_PRECISIONS = ("float32", "autocast")
PROBED = 4  # pictures of a batch whose spectral radius is estimated
HALF_TOLERANCE = 5e-3  # residuals of a bfloat16 cell end at 4e-4 to 3e-3, by its gain


@dataclass(frozen=True)
class Config:
    """Hyper-parameters.

    Attributes:
        width: Channels of the equilibrium state.
        stem_stride: Pixels to a cell of the state along each side: 1, 2, 4, 8 or 16.
        kernel_sizes: Sides of the parallel convolutions, odd.
        groups: Most groups of the normalisations.
        gain: Length of each filter of the cell at the start; below 1 the cell contracts.
        dropout: Share of pooled features dropped before the head.
        solver: Name of the solver, forward and adjoint: anderson, broyden or picard.
        tol: Relative residual at which a sample stops.
        max_iter: Most evaluations of the cell in a forward pass.
        memory: Earlier evaluations that anderson and broyden keep.
        backward: implicit, phantom or one-step.
        adjoint_tol: Relative residual at which a sample's adjoint equation stops.
        adjoint_max_iter: Most evaluations of the adjoint equation.
        phantom_steps: Steps that phantom gradients differentiate.
        phantom_damping: Share of the cell in each of these steps, in (0, 1].
        jacobian_weight: Weight of the Jacobian penalty; 0 leaves it out.
        jacobian_share: Share of training steps, drawn at random, that have the penalty, there
            divided by the share.
        radius_iterations: Power iterations for the spectral radius, when evaluating, for the first
            few pictures of each batch; 0: none.
        cell_precision: float32, or autocast: the cell in half precision where the stem is, the
            state in float32; needs tolerances of at least 5e-3.
    """

    width: int = 48
    stem_stride: int = 4
    kernel_sizes: tuple[int, ...] = (3, 5, 7)
    groups: int = 8
    gain: float = 0.7
    dropout: float = 0.0
    solver: str = "anderson"
    tol: float = 1e-3
    max_iter: int = 30
    memory: int = 4
    backward: str = "implicit"
    adjoint_tol: float = 1e-3
    adjoint_max_iter: int = 30
    phantom_steps: int = 5
    phantom_damping: float = 0.5
    jacobian_weight: float = 0.0
    jacobian_share: float = 1.0
    radius_iterations: int = 0
    cell_precision: str = "float32"


class Cell(nn.Module):
    """The map whose fixed point is looked for; filters have a learned length (weight norm)."""

    def __init__(self, config: Config) -> None:
        """Draw the filters' directions; their lengths are ``config.gain``."""
        super().__init__()
        width, sizes = config.width, config.kernel_sizes
        bounds = [round(i * width / len(sizes)) for i in range(len(sizes) + 1)]
        shapes = [(b - a, width, k, k) for (a, b), k in zip(pairwise(bounds), sizes, strict=True)]
        shapes.append((width, width, 1, 1))
        self.directions = nn.ParameterList(torch.randn(shape) for shape in shapes)
        self.lengths = nn.ParameterList(torch.full((s[0],), float(config.gain)) for s in shapes)
        self.norm = nn.GroupNorm(gcd(width, config.groups), width)

    def filters(self, dtype: torch.dtype) -> list[Tensor]:
        """Return the convolutions' filters, once for a whole solve."""
        pairs = zip(self.directions, self.lengths, strict=True)
        return [_of_length(direction, length).to(dtype) for direction, length in pairs]

    def forward(self, z: Tensor, injected: Tensor, filters: list[Tensor]) -> Tensor:
        """Apply the map once; all (B, width, H, W). In place where autograd keeps no values."""
        z = z.to(filters[0].dtype)
        scales = [functional.conv2d(z, w, padding=w.shape[-1] // 2) for w in filters[:-1]]
        mixed = functional.conv2d(torch.cat(scales, 1).relu_(), filters[-1])
        return self.start(mixed.to(injected.dtype).add_(injected))

    def start(self, injected: Tensor) -> Tensor:
        """Return the map's value where the convolutions give nothing: the solver's first guess."""
        return functional.relu_(self.norm(injected))


class DEQ(nn.Module):
    """Stem, equilibrium, pooling by mean and maximum, linear head."""

    def __init__(self, config: Config, channels: int, outputs: int) -> None:
        """Lay the parts out; the logits have ``outputs`` columns."""
        super().__init__()
        self.config = config
        self.stem = _stem(config, channels)
        self.cell = Cell(config)
        self.cam_layer = nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.width, outputs)
        same = partial(Settings, solver=config.solver, memory=config.memory)
        self.solving = same(tol=config.tol, max_iter=config.max_iter)
        self.differentiating = Backward(
            kind=config.backward,
            settings=same(tol=config.adjoint_tol, max_iter=config.adjoint_max_iter),
            steps=config.phantom_steps,
            damping=config.phantom_damping,
        )

    def forward(self, images: Tensor) -> Output:
        """Classify (B, channels, H, W) float32 images.

        ``stats`` holds (B,) solver_steps, solver_residual, solver_unconverged (0 or 1), the same of
        the adjoint equation (NaN until backward has run, or without an adjoint equation), and
        spectral_radius of the first few when evaluating and asked for.
        """
        injected = self.stem(images)
        kind, dtype = images.device.type, self._cell_dtype(images.device.type)
        stats: dict[str, Tensor] = {}
        with torch.autocast(kind, enabled=False):
            injected = injected.to(self.head.weight.dtype, memory_format=torch.channels_last)
            filters = self.cell.filters(dtype or injected.dtype)
            f = partial(self.cell, injected=injected, filters=filters)
            start = self.cell.start(injected)
            found = equilibrium(
                f, start, forward=self.solving, backward=self.differentiating,
                penalise=self._penalises(),
            )  # fmt: skip
            looks = not (self.training or is_tracing())
            if self.config.radius_iterations and looks:
                stats["spectral_radius"] = self._radius(found.z, injected, filters)
        logits = self.head(self.dropout(_pool(self.cam_layer(found.z))))
        return Output(logits, self._weighted(found.penalty), _stats(found) | stats)

    def cam_grid(self, activation: Tensor) -> Tensor:
        """Return the output of ``cam_layer``, or its gradient, as (B, C, h, w)."""
        return activation

    def _radius(self, z: Tensor, injected: Tensor, filters: list[Tensor]) -> Tensor:
        f = partial(self.cell, injected=injected[:PROBED], filters=filters)
        return spectral_radius(f, z[:PROBED], iterations=self.config.radius_iterations)

    def _cell_dtype(self, kind: str) -> torch.dtype | None:
        if self.config.cell_precision == "autocast" and torch.is_autocast_enabled(kind):
            return torch.get_autocast_dtype(kind)
        return None

    def _penalises(self) -> bool:
        config = self.config
        if not (self.training and config.jacobian_weight and torch.is_grad_enabled()):
            return False
        return config.jacobian_share >= 1 or torch.rand(()).item() < config.jacobian_share

    def _weighted(self, penalty: Tensor | None) -> Tensor | None:
        if penalty is None:
            return None
        return penalty * (self.config.jacobian_weight / self.config.jacobian_share)


def build(config: Config, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return the model.

    Args:
        config: Hyper-parameters.
        channels: Channels of the images.
        outputs: Logits an image.
        size: (height, width) of the images, pixels.

    Raises:
        ConfigError: a value is out of range, or the image is too small for the stem.
    """
    _check(config, size)
    return DEQ(config, channels, outputs)


def _check(config: Config, size: tuple[int, int]) -> None:
    strides = (1, 2, 4, 8, 16)
    choices = (
        ("solver", config.solver, tuple(SOLVERS)),
        ("backward", config.backward, BACKWARDS),
        ("cell_precision", config.cell_precision, CELL_PRECISIONS),
        ("stem_stride", config.stem_stride, strides),
    )
    for name, value, known in choices:
        if value not in known:
            raise ConfigError(
                f"model.{name} is one of {', '.join(map(str, known))}, got {value!r}."
            )
    shares = (config.jacobian_share, config.phantom_damping)
    counts = (config.width, config.max_iter, config.adjoint_max_iter, config.memory, config.groups)
    if min(counts) < 1 or not all(0 < share <= 1 for share in shares):
        raise ConfigError(
            "model: width, groups, memory and the limits are at least 1; jacobian_share and "
            "phantom_damping are above 0 and at most 1."
        )
    if not config.kernel_sizes or any(k < 1 or k % 2 == 0 for k in config.kernel_sizes):
        raise ConfigError(f"model.kernel_sizes are odd, got {config.kernel_sizes}.")
    if min(size) < max(32, 2 * config.stem_stride):
        raise ConfigError(f"deq needs images of at least 32 pixels a side, got {size}.")
    if config.cell_precision == "autocast" and min(config.tol, config.adjoint_tol) < HALF_TOLERANCE:
        raise ConfigError(
            f"A half-precision cell cannot reach tol {min(config.tol, config.adjoint_tol):g}: use "
            f"at least {HALF_TOLERANCE:g}, or cell_precision = 'float32'."
        )


def _stem(config: Config, channels: int) -> nn.Sequential:
    """Return convolutions that halve the grid until the stride is reached, two at least.

    The first normalisation is by channel: it takes the brightness of the picture out, which would
    otherwise drown a faint contrast.
    """
    halvings = config.stem_stride.bit_length() - 1
    count = max(halvings, 2)
    widths = [channels, *[max(config.width // 2, 1)] * (count - 1), config.width]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths)):
        stride, kernel = (2 if i < halvings else 1), (5 if i == 0 else 3)
        groups = b if i == 0 else gcd(b, config.groups)
        layers.append(
            nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False, padding_mode="replicate")
        )  # with zeros a bright picture would have an edge all around
        layers.append(nn.GroupNorm(groups, b))
        if i < count - 1:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _of_length(direction: Tensor, length: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(direction, dim=(1, 2, 3), keepdim=True)
    filters = direction * (length.view(-1, 1, 1, 1) / norm)
    return filters.contiguous(memory_format=torch.channels_last)


def _pool(z: Tensor) -> Tensor:
    """Return (B, 2C): the mean says how the picture is, the maximum that something is somewhere."""
    return torch.cat((z.mean((2, 3)), z.amax((2, 3))), 1)


def _stats(found: Equilibrium) -> dict[str, Tensor]:
    reports = {"solver": found.forward, "adjoint": found.adjoint}
    return {
        f"{name}_{field.name}": getattr(report, field.name)
        for name, report in reports.items()
        for field in fields(report)
    }
