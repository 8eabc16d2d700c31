"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) on an EfficientNet of timm's, by smp.

Encoder and decoder are those of segmentation_models_pytorch's ``Unet`` with the encoder
``tu-efficientnet_b0``: timm's own network, so that weights, their normalisation and their names are
timm's, as for every other model here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.nn import functional

from mammoprep.core.errors import ConfigError
from mammotrain._torchvision import ensure_importable
from mammotrain.contracts import Output
from mammotrain.models.efficientnet import VARIANTS
from mammotrain.nn import encoder
from mammotrain.nn.encoder import STRIDE, Shape

SURE = 1e-6  # nearest that a mean of probabilities comes to 0 and 1 before it is a logit again
STEM, TOP = -1, 10_000
_BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.(\d+)\.")


@dataclass(frozen=True)
class Config:
    """Hyper-parameters.

    Attributes:
        variant: b0, b1, b2, b3 or b4.
        dropout: Share of the decoder's channels dropped before the head.
        drop_path: Share of samples that skip a block of the encoder, rising to this in the last.
        tile: (width, height) of what is looked at at a time when scoring, for a model that was
            trained on windows of that size; empty for whole pictures.
    """

    variant: str = "b0"
    dropout: float = 0.0
    drop_path: float = 0.0
    tile: tuple[int, ...] = ()


def build(config: Config, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return the model.

    Args:
        config: Hyper-parameters.
        channels: Channels of the images.
        outputs: Logits a pixel.
        size: (height, width) of the images, pixels.

    Raises:
        ConfigError: a value is out of range, the image is too small, or smp is not installed.
    """
    name = encoder.variant(encoder.Config(config.variant), VARIANTS)
    encoder.check_share(dropout=config.dropout, drop_path=config.drop_path)
    encoder.check_size("unet", size)
    if config.tile and (len(config.tile) != 2 or min(config.tile) < STRIDE):
        raise ConfigError(
            f"model.tile must be [width, height] of at least {STRIDE} pixels each, or [], got "
            f"{list(config.tile)}."
        )
    return UNet(name, Shape(channels, outputs, size), config)


def _smp() -> Any:
    """Return the module of segmentation_models_pytorch; raises ConfigError without it."""
    ensure_importable()
    try:
        import segmentation_models_pytorch
    except ModuleNotFoundError:
        raise ConfigError(
            "unet needs segmentation_models_pytorch: pip install 'mammoprep[train]', or pip "
            "install segmentation-models-pytorch."
        ) from None
    return segmentation_models_pytorch


class UNet(nn.Module):
    """Encoder, decoder and head between normalisation and logits; see ``nn.encoder``.

    Sides are made a multiple of 32 by zeros on the right and at the bottom, which is air, and cut
    off again.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, shape: Shape, config: Config) -> None:
        """Make it with random weights; ``name`` is the encoder's in timm."""
        super().__init__()
        options = {"drop_path_rate": config.drop_path}
        made = _smp().Unet(
            f"tu-{name}",
            encoder_weights=None,
            in_channels=shape.channels,
            classes=shape.outputs,
            **options,
        )
        self.timm_name = name
        self.timm_options = {
            "in_chans": shape.channels,
            "features_only": True,
            "out_indices": tuple(range(5)),
            **options,
        }
        self.shape = shape
        self.tile = (config.tile[1], config.tile[0]) if config.tile else None
        self.encoder = made.encoder.model
        self.decoder = made.decoder
        self.dropout = nn.Dropout2d(config.dropout)
        self.head = made.segmentation_head
        scale, shift = encoder.normalisation(self.encoder.pretrained_cfg, shape.channels)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: Tensor) -> Output:
        """Return logits (B, outputs, H, W) of (B, C, H, W) float32 images.

        Scoring with a ``tile`` they are those of the mean probability over the tiles that show a
        pixel. Of a picture that one tile holds they are the network's own.

        Raises:
            ConfigError: the images have another number of channels.
        """
        if not is_tracing():  # there shapes are tensors, and a look at them is lost
            self.check(images)
        if self.training or self.tile is None:
            return Output(self._of_one(images))
        return Output(self._of_tiles(images, self.tile))

    def check(self, images: Tensor) -> None:
        """Refuse images that the model was not made for; raises ConfigError."""
        if images.ndim != 4 or images.shape[1] != self.shape.channels:
            raise ConfigError(
                f"The model takes images (B, {self.shape.channels}, H, W), got "
                f"{tuple(images.shape)}."
            )

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return which layer a parameter belongs to; decoder and head are the last."""
        return lambda name: _layer(name, coarse)

    def _of_one(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE))
        shown = torch.addcmul(self.shift, padded, self.scale)
        decoded = self.decoder([shown, *self.encoder(shown)])
        logits: Tensor = self.head(self.dropout(decoded))
        return logits[..., :height, :width]

    def _of_tiles(self, images: Tensor, tile: tuple[int, int]) -> Tensor:
        sides = (int(images.shape[-2]), int(images.shape[-1]))  # numbers, when it is traced
        rows, columns = min(tile[0], sides[0]), min(tile[1], sides[1])
        if (rows, columns) == sides:
            return self._of_one(images)
        total = images.new_zeros((images.shape[0], self.shape.outputs, *sides), dtype=torch.float32)
        times = total.new_zeros(sides)
        for y, x in product(starts(sides[0], rows), starts(sides[1], columns)):
            here = (..., slice(y, y + rows), slice(x, x + columns))
            total[here] += self._of_one(images[here]).float().sigmoid()
            times[here] += 1
        return torch.logit(total / times, eps=SURE)


def starts(length: int, tile: int) -> list[int]:
    """Return where tiles begin that cover a length, evenly spaced, and overlap by half or more."""
    room = length - tile
    steps = ceil(2 * room / tile)
    return [round(step * room / steps) for step in range(steps + 1)] if steps else [0]


def _layer(name: str, coarse: bool) -> int:
    """Return a number that rises with the layer: stem, each block (coarse: stage), all above."""
    if found := _BLOCK.match(name):
        stage, block = int(found[1]), int(found[2])
        return stage if coarse else 100 * stage + block
    return STEM if name.startswith("encoder.") else TOP
