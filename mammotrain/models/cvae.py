"""Convolutional variational autoencoder: a picture through few numbers, and back.

Pre-activation residual blocks (He et al. 2016, arXiv:1603.05027) down to the mean and variance of a
latent vector, five transposed convolutions up again (Kingma and Welling 2013, arXiv:1312.6114; with
conditions: Sohn et al. 2015).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.nn import functional

from mammoprep.core.errors import ConfigError
from mammotrain.contracts import Output
from mammotrain.nn import encoder
from mammotrain.nn.encoder import Shape

LAYERS = 5
STRIDE = 2**LAYERS  # pixels to a cell of the smallest grid
WIDEST = 10.0  # of the logarithm of the variance: its exponential must not overflow
DARK = -2.0  # logit at the start: most of a mammogram is air


@dataclass(frozen=True)
class Config:
    """Hyper-parameters.

    Attributes:
        latent: Numbers that a picture passes through.
        widths: Channels of the five levels, the finest first.
        beta: Weight of the Kullback-Leibler term: of this many nats a pixel of the picture.
            Twice the variance of the noise that the decoder is believed to have.
        warmup_steps: Training steps in which beta rises from 0, evenly; parts of steps count where
            ``train.accumulate`` makes some.
        conditions: Numbers that the model is told besides the picture, as the task's conditions.
        dropout: Share of the encoder's features that is dropped.
    """

    latent: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 256, 256)
    beta: float = 0.01
    warmup_steps: int = 0
    conditions: int = 0
    dropout: float = 0.0


class Block(nn.Module):
    """A pre-activation residual block that halves the grid."""

    def __init__(self, before: int, after: int) -> None:
        """Lay out two 3x3 convolutions, each after norm and activation, and a shortcut."""
        super().__init__()
        self.norm = nn.BatchNorm2d(before)
        self.down = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(after), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1, bias=False)
        )
        self.shortcut = nn.Conv2d(before, after, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, after, h / 2, w / 2) of (B, before, h, w)."""
        active = functional.relu(self.norm(x))
        found: Tensor = self.shortcut(active) + self.layers(self.down(active))
        return found


class CVAE(nn.Module):
    """Encoder, latent vector, decoder.

    ``Output.logits`` are (B, outputs, H, W): their sigmoid is the reconstruction, 0 to 1.
    ``Output.penalty`` is the mean over the batch of ``beta`` times the Kullback-Leibler term a
    pixel. ``Output.stats`` has, of each sample, (B,): ``kl``, the term in nats, and ``kl_cost``,
    what it adds to a mean squared error. Evaluating, the latent vector is its mean, so that nothing
    is left to chance, and beta is that of the end of the warm-up.
    """

    seen: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        """Lay the parts out for pictures of one size."""
        super().__init__()
        self.config, self.shape = config, shape
        height, width = (-(-side // STRIDE) for side in shape.size)
        self.grid = (config.widths[-1], height, width)
        cells, told = height * width * config.widths[-1], config.conditions
        self.encoder = nn.Sequential(
            nn.Conv2d(shape.channels, config.widths[0], 5, stride=2, padding=2),
            *(Block(a, b) for a, b in pairwise(config.widths)),
            nn.BatchNorm2d(config.widths[-1]),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(config.dropout),
        )
        self.to_latent = nn.Linear(cells + told, 2 * config.latent)
        self.from_latent = nn.Linear(config.latent + told, cells)
        self.decoder = _decoder(config, shape.outputs)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor, told: Tensor | None = None) -> Output:
        """Reconstruct (B, channels, H, W) float32 images, 0 to 1.

        Args:
            images: Of the size that the model was made for.
            told: (B, conditions) float32, or None where the model has no conditions.

        Raises:
            ConfigError: images or conditions are not those that the model was made for.
        """
        if not is_tracing():  # there shapes are tensors, and a look at them is lost
            self.check(images, told)
        mean, spread = self.encode(images, told)
        latent = mean
        if self.training:
            self.seen += 1
            latent = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        kl = divergence(mean, spread)
        cost = self.beta() * kl / (self.shape.channels * images.shape[-2] * images.shape[-1])
        stats = {"kl": kl.detach(), "kl_cost": cost.detach()}
        return Output(self.decode(latent, told), penalty=cost.mean(), stats=stats)

    def encode(self, images: Tensor, told: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of the latent vector, both (B, latent)."""
        height, width = images.shape[-2:]
        images = functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
        found = self.to_latent(_with(self.encoder(images), told))
        exact = torch.promote_types(found.dtype, torch.float32)  # also under autocast
        mean, spread = found.to(exact).chunk(2, dim=1)
        return mean, spread.clamp(-WIDEST, WIDEST)

    def decode(self, latent: Tensor, told: Tensor | None = None) -> Tensor:
        """Return the logits (B, outputs, H, W) of a latent vector (B, latent)."""
        cells = self.from_latent(_with(latent, told)).unflatten(1, self.grid)
        height, width = self.shape.size
        found: Tensor = self.decoder(cells)[..., :height, :width]
        return found

    def beta(self) -> Tensor | float:
        """Return the weight of the Kullback-Leibler term at this step of training."""
        if not self.training or not self.config.warmup_steps:
            return self.config.beta
        return self.config.beta * (self.seen / self.config.warmup_steps).clamp(max=1.0)

    def check(self, images: Tensor, told: Tensor | None) -> None:
        """Refuse what the model was not made for; raises ConfigError."""
        wanted = (self.shape.channels, *self.shape.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
            raise ConfigError(f"The model takes images (B, {wanted}), got {tuple(images.shape)}.")
        columns = 0 if told is None else told.shape[1]
        if columns != self.config.conditions:
            raise ConfigError(
                f"The task tells {columns} numbers besides the picture, model.conditions is "
                f"{self.config.conditions}: --set model.conditions={columns}."
            )


def divergence(mean: Tensor, spread: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from a standard normal, in nats, (B,).

    Args:
        mean: (B, latent).
        spread: (B, latent) logarithms of variances.
    """
    return 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(dim=1)


def build(config: Config, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return the model.

    Args:
        config: Hyper-parameters.
        channels: Channels of the images.
        outputs: Channels of the reconstruction.
        size: (height, width) of the images, pixels.

    Raises:
        ConfigError: a value is out of range, or the image is too small.
    """
    if len(config.widths) != LAYERS or min(config.widths, default=0) < 1:
        raise ConfigError(
            f"model.widths holds {LAYERS} numbers of at least 1, got {list(config.widths)}."
        )
    for name, low in (("latent", 1), ("warmup_steps", 0), ("conditions", 0), ("beta", 0)):
        if getattr(config, name) < low:
            raise ConfigError(
                f"model.{name} must be at least {low}, got {getattr(config, name):g}."
            )
    encoder.check_share(dropout=config.dropout)
    encoder.check_size("cvae", size, STRIDE)
    return CVAE(config, Shape(channels, outputs, size))


def _decoder(config: Config, outputs: int) -> nn.Sequential:
    """Return five transposed convolutions, each of which doubles the grid."""
    layers: list[nn.Module] = []
    for before, after in pairwise(config.widths[::-1]):
        layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    last = nn.ConvTranspose2d(config.widths[0], outputs, 4, stride=2, padding=1)
    nn.init.constant_(last.bias, DARK)  # type: ignore[arg-type]
    return nn.Sequential(*layers, last)


def _with(values: Tensor, told: Tensor | None) -> Tensor:
    return values if told is None else torch.cat([values, told.to(values.dtype)], dim=1)
