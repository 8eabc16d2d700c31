"""ResNeXt-50 32x4d (Xie et al. 2017, arXiv:1611.05431) and small ResNets, timm's."""

from dataclasses import dataclass

from torch import nn

from mammotrain.nn import encoder
from mammotrain.nn.encoder import Classifier, Shape

VARIANTS = {
    "resnext50_32x4d": "resnext50_32x4d.a1h_in1k",
    "resnet18": "resnet18.a1_in1k",
    "resnet10t": "resnet10t.c3_in1k",
}


@dataclass(frozen=True)
class Config(encoder.Config):
    """Hyper-parameters.

    Attributes:
        variant: resnext50_32x4d, or the smaller resnet18 or resnet10t.
        dropout: Share of pooled features dropped before the head.
        drop_path: Share of samples that skip a block, rising to this in the last.
        pool: avg, max, or avgmax: the mean of both.
    """

    variant: str = "resnext50_32x4d"
    drop_path: float = 0.0


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
    encoder.check_size("resnext", size)
    options = {
        "drop_rate": config.dropout,
        "drop_path_rate": config.drop_path,
        "global_pool": config.pool,
    }
    return Classifier(name, Shape(channels, outputs, size), options)
