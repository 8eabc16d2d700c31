"""EfficientNet B0 to B4 (Tan and Le 2019, arXiv:1905.11946), timm's."""

from dataclasses import dataclass

from torch import nn

from mammotrain.nn import encoder
from mammotrain.nn.encoder import Classifier, Shape

VARIANTS = {
    "b0": "efficientnet_b0.ra_in1k",
    "b1": "efficientnet_b1.ft_in1k",
    "b2": "efficientnet_b2.ra_in1k",
    "b3": "efficientnet_b3.ra2_in1k",
    "b4": "efficientnet_b4.ra2_in1k",
}


@dataclass(frozen=True)
class Config(encoder.Config):
    """Hyper-parameters.

    Attributes:
        variant: b0, b1, b2, b3 or b4.
        dropout: Share of pooled features dropped before the head.
        drop_path: Share of samples that skip a block, rising to this in the last.
        pool: avg, max, or avgmax: the mean of both.
        residual: Widths of residual blocks between encoder and pooling; empty for none.
    """

    variant: str = "b0"
    drop_path: float = 0.0
    residual: tuple[int, ...] = ()


def build(config: Config, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return the model.

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
    encoder.check_size("efficientnet", size)
    options = {
        "drop_rate": config.dropout,
        "drop_path_rate": config.drop_path,
        "global_pool": config.pool,
    }
    shape = Shape(channels, outputs, size)
    return Classifier(name, shape, options, residual=config.residual)
