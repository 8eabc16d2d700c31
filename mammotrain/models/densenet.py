"""DenseNet-121 (Huang et al. 2017, arXiv:1608.06993), timm's."""

from dataclasses import dataclass

from torch import nn

from mammotrain.nn import encoder
from mammotrain.nn.encoder import Classifier, Shape

VARIANTS = {"121": "densenet121.ra_in1k"}


@dataclass(frozen=True)
class Config(encoder.Config):
    """Hyper-parameters.

    Attributes:
        variant: 121.
        dropout: Share of pooled features dropped before the head.
        layer_dropout: Share dropped of what every layer adds.
        pool: avg, max, or avgmax: the mean of both.
    """

    variant: str = "121"
    layer_dropout: float = 0.0


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
    encoder.check_share(dropout=config.dropout, layer_dropout=config.layer_dropout)
    encoder.check_size("densenet", size)
    options = {
        "drop_rate": config.dropout,
        "proj_drop_rate": config.layer_dropout,
        "global_pool": config.pool,
    }
    return Classifier(name, Shape(channels, outputs, size), options)
