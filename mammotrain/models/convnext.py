"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545), timm's."""

from dataclasses import dataclass

from torch import nn

from mammotrain.nn import encoder
from mammotrain.nn.encoder import Classifier, Shape

VARIANTS = {
    "tiny": "convnext_tiny.in12k_ft_in1k",
    "nano": "convnext_nano.in12k_ft_in1k",
    "pico": "convnext_pico.d1_in1k",
}


@dataclass(frozen=True)
class Config(encoder.Config):
    """Hyper-parameters.

    Attributes:
        variant: tiny, or the smaller nano or pico.
        dropout: Share of pooled features dropped before the head.
        drop_path: Share of samples that skip a block, rising to this in the last.
        pool: avg, max, or avgmax: the mean of both.
        residual: Widths of residual blocks between encoder and pooling; empty for none.
    """

    variant: str = "tiny"
    drop_path: float = 0.0
    residual: tuple[int, ...] = ()


def build(config: Config, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return the model.

    Its convolutions that make the grid smaller leave out what does not fill a cell: up to 31
    columns on the right, where the nipple may be. So sides are filled up to whole cells.

    Args:
        config: Hyper-parameters.
        channels: Channels of the images.
        outputs: Logits an image.
        size: (height, width) of the images, pixels.

    Raises:
        ConfigError: a value is out of range, or the image is too small.
    """
    name = encoder.variant(config, VARIANTS)
    encoder.check_pool(config)
    encoder.check_share(dropout=config.dropout, drop_path=config.drop_path)
    encoder.check_residual(config.residual)
    encoder.check_size("convnext", size)
    options = {
        "drop_rate": config.dropout,
        "drop_path_rate": config.drop_path,
        "global_pool": config.pool,
    }
    shape = Shape(channels, outputs, size)
    return Classifier(name, shape, options, residual=config.residual, multiple=encoder.STRIDE)
