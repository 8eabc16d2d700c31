"""Classifiers around timm's encoders; and the contract of models.

``build(config, channels=, outputs=, size=)`` of a file in ``mammotrain/models`` returns an
``nn.Module`` of which this is asked:

* ``model(images)`` takes float32 (B, channels, H, W), 0 to 1 as in the shard, and returns
  ``contracts.Output`` with logits (B, outputs), or (B, outputs, H, W) of a model of pictures. Any
  other scale is the model's own affair.
* It may be called under autocast, in either memory format, on one picture or many. Scoring, a
  picture's logits do not depend on the others in its batch.
* Random numbers come from torch's own generators, which the trainer seeds. What follows from the
  settings alone is not in ``state_dict``.
* Images or settings that it cannot work with are a ``ConfigError``, when it is built.

Attributes that others look for; a model without them does not offer what they are for:

* ``timm_name``, ``encoder``, ``timm_options``, ``head``: for pretrained weights, see
  ``mammotrain.pretrained``.
* ``group_matcher(coarse)``, ``no_weight_decay()``: for layer decay and weight decay, as timm asks.
* ``cam_layer``: the module whose output Grad-CAM looks at: the last one where a place in the
  output is a place in the picture, and from which all places lead to the logits.
* ``cam_grid(activation)``: that output, or its gradient, as (B, C, h, w). Cell (i, j) shows what is
  at that place when the grid is stretched over the picture, to within half a cell.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.nn import functional

from mammoprep.core.errors import ConfigError
from mammotrain._torchvision import ensure_importable
from mammotrain.checks import one_of
from mammotrain.contracts import Output

POOLS = ("avg", "max", "avgmax")
STRIDE = 32  # pixels to a cell of what these convolutional encoders return
ENCODER = "encoder."


@dataclass(frozen=True)
class Config:
    """Hyper-parameters that all have.

    Attributes:
        variant: Which encoder.
        dropout: Share of pooled features dropped before the head.
        pool: How the grid becomes one vector.
    """

    variant: str = ""
    dropout: float = 0.0
    pool: str = "avg"


@dataclass(frozen=True)
class Shape:
    """What goes in and what comes out.

    Attributes:
        channels: Of the images.
        outputs: Logits an image.
        size: (height, width) of the images, pixels.
    """

    channels: int
    outputs: int
    size: tuple[int, int]


def variant(config: Config, known: Mapping[str, str]) -> str:
    """Return timm's name of the encoder.

    Raises:
        ConfigError: no such variant, with the nearest name.
    """
    one_of("model.variant", config.variant, known)
    return known[config.variant]


def check_pool(config: Config, known: Sequence[str] = POOLS) -> None:
    """Check how the grid is pooled; raises ConfigError."""
    one_of("model.pool", config.pool, known)


def check_share(**shares: float) -> None:
    """Check what is a share of something that may be dropped; raises ConfigError."""
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise ConfigError(f"model.{name} must be at least 0 and below 1, got {value:g}.")


def check_residual(widths: Sequence[int]) -> None:
    """Check the widths of residual blocks; raises ConfigError."""
    if any(width < 1 for width in widths):
        raise ConfigError(f"model.residual holds widths of at least 1, got {list(widths)}.")


def check_size(model: str, size: tuple[int, int], least: int = STRIDE) -> None:
    """Check that (height, width) leaves a cell of the encoder's grid; raises ConfigError."""
    if min(size) < least:
        raise ConfigError(
            f"{model} needs images of at least {least} x {least} pixels, got {size[1]} x {size[0]} "
            f"(width x height). Set data.size, or build larger shards."
        )


class Residual(nn.Module):
    """A residual block that begins as the identity, so that pretrained features pass it unchanged.

    Normalised by groups: batches of large pictures are small.
    """

    def __init__(self, channels: int, width: int) -> None:
        """Lay out 1x1, 3x3 and 1x1 convolutions, each after norm and activation."""
        super().__init__()
        layers: list[nn.Module] = []
        for a, b, kernel in ((channels, width, 1), (width, width, 3), (width, channels, 1)):
            convolution = nn.Conv2d(a, b, kernel, padding=kernel // 2)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [nn.GroupNorm(gcd(a, 32), a), nn.ReLU(), convolution]
        nn.init.zeros_(layers[-1].weight)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, h, w) of the same."""
        added: Tensor = self.layers(x)
        return x + added


class Classifier(nn.Module):
    """timm's encoder between normalisation and head; see the module for its attributes."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        name: str,
        shape: Shape,
        options: Mapping[str, Any],
        *,
        residual: Sequence[int] = (),
        multiple: int = 1,
    ) -> None:
        """Make the encoder with random weights.

        Args:
            name: In timm.
            shape: What goes in and what comes out.
            options: Other arguments of ``timm.create_model``.
            residual: Widths of residual blocks before pooling.
            multiple: Sides are made a multiple of it by zeros on the right and at the bottom.
        """
        super().__init__()
        ensure_importable()
        import timm

        self.timm_name = name
        self.timm_options = {"in_chans": shape.channels, **options}
        self.shape, self.multiple = shape, multiple
        made = cast(Any, timm.create_model(name, num_classes=0, **self.timm_options))
        self.encoder: Any = made
        width = made.num_features
        self.extra = nn.Sequential(*(Residual(width, inner) for inner in residual))
        self.head = nn.Linear(made.head_hidden_size, shape.outputs)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        scale, shift = normalisation(made.pretrained_cfg, shape.channels)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: Tensor) -> Output:
        """Classify (B, channels, H, W) float32 images.

        Raises:
            ConfigError: they have another number of channels.
        """
        if not is_tracing():  # there shapes are tensors, and a look at them is lost
            self.check(images)
        features = self.extra(self.encoder.forward_features(self._normalised(images)))
        return Output(self.head(self.encoder.forward_head(features, pre_logits=True)))

    def check(self, images: Tensor) -> None:
        """Refuse images that the model was not made for; raises ConfigError."""
        if images.ndim != 4 or images.shape[1] != self.shape.channels:
            raise ConfigError(
                f"The model takes images (B, {self.shape.channels}, H, W), got "
                f"{tuple(images.shape)}."
            )

    @property
    def cam_layer(self) -> nn.Module:
        """The module whose output Grad-CAM looks at."""
        return self.extra

    def cam_grid(self, activation: Tensor) -> Tensor:
        """Return the output of ``cam_layer``, or its gradient, as (B, C, h, w)."""
        return activation

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return timm's answer to which layer a parameter belongs, from 0; the head is the last."""
        from timm.models import group_parameters

        named = [(_inner(name), value) for name, value in self.named_parameters()]
        as_the_encoder = cast(Any, SimpleNamespace(named_parameters=lambda: named))
        spec = self.encoder.group_matcher(coarse=coarse)
        layers = group_parameters(as_the_encoder, spec, reverse=True)
        return lambda name: int(layers[_inner(name)])

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that weight decay leaves alone, besides norms and biases."""
        own: set[str] = getattr(self.encoder, "no_weight_decay", set)()
        return {ENCODER + name for name in own}

    def _normalised(self, images: Tensor) -> Tensor:
        if self.multiple > 1:
            height, width = images.shape[-2:]
            more = (0, -width % self.multiple, 0, -height % self.multiple)
            images = functional.pad(images, more)
        return torch.addcmul(self.shift, images, self.scale)


def _inner(name: str) -> str:
    """Return a parameter's name in the encoder; outside of it nothing, which no layer's does."""
    return name.removeprefix(ENCODER) if name.startswith(ENCODER) else ""


def normalisation(about: Mapping[str, Any], channels: int) -> tuple[Tensor, Tensor]:
    """Return factor and summand for pictures as the published weights know them.

    Args:
        about: timm's ``pretrained_cfg``: ``mean`` and ``std`` of each of its channels, of 0-1.
        channels: Of the pictures; when there are not as many, the means over the channels count.

    Returns:
        float32 (1, C, 1, 1) both.
    """
    mean, std = torch.tensor(about["mean"]), torch.tensor(about["std"])
    if channels != len(mean):
        mean, std = mean.mean().repeat(channels), std.mean().repeat(channels)
    scale = (1 / std).view(1, -1, 1, 1)
    return scale, -mean.view(1, -1, 1, 1) * scale
