"""Vision transformer with patches of 16 pixels (Dosovitskiy et al. 2021, arXiv:2010.11929), timm's.

Weights as published are for squares; timm interpolates their position embeddings to any grid.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mammoprep.core.errors import ConfigError
from mammotrain.nn import encoder
from mammotrain.nn.encoder import Classifier, Shape

VARIANTS = {
    "small_patch16": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "tiny_patch16": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
}
PATCH = 16
POOLS = ("token", "avg", "max")


@dataclass(frozen=True)
class Config(encoder.Config):
    """Hyper-parameters.

    Attributes:
        variant: small_patch16, or the smaller tiny_patch16.
        dropout: Share of pooled features dropped before the head.
        drop_path: Share of samples that skip a block, rising to this in the last.
        pool: token: the class token; avg or max: over the patches.
    """

    variant: str = "small_patch16"
    drop_path: float = 0.0
    pool: str = "token"


class Transformer(Classifier):
    """Pictures of one size, as a sequence of patches."""

    def check(self, images: Tensor) -> None:
        """Refuse images that the model was not made for; raises ConfigError."""
        super().check(images)
        if tuple(images.shape[-2:]) != self.shape.size:
            raise ConfigError(
                f"This vit was built for images of {_text(self.shape.size)} pixels (width x "
                f"height), got {_text(tuple(images.shape[-2:]))}."
            )

    @property
    def cam_layer(self) -> nn.Module:
        """The last block's first norm: after that block only the class token is read."""
        found: nn.Module = self.encoder.blocks[-1].norm1
        return found

    def cam_grid(self, activation: Tensor) -> Tensor:
        """Return (B, tokens, C) of ``cam_layer``, or its gradient, as (B, C, h, w)."""
        patches = activation[:, self.encoder.num_prefix_tokens :].transpose(1, 2)
        rows, columns = self.encoder.patch_embed.grid_size
        return patches.reshape(*patches.shape[:2], rows, columns)


def build(config: Config, *, channels: int, outputs: int, size: tuple[int, int]) -> nn.Module:
    """Return the model.

    Args:
        config: Hyper-parameters.
        channels: Channels of the images.
        outputs: Logits an image.
        size: (height, width) of the images, pixels: multiples of 16.

    Raises:
        ConfigError: a value is out of range, or the patches do not fill the image.
    """
    name = encoder.variant(config, VARIANTS)
    encoder.check_pool(config, POOLS)
    encoder.check_share(dropout=config.dropout, drop_path=config.drop_path)
    encoder.check_size("vit", size, 2 * PATCH)
    _check_fits(size)
    options = {
        "drop_rate": config.dropout,
        "drop_path_rate": config.drop_path,
        "global_pool": config.pool,
        "fc_norm": False,  # the norm stays where the published weights have it
        "img_size": size,
    }
    return Transformer(name, Shape(channels, outputs, size), options)


def _check_fits(size: tuple[int, int]) -> None:
    """Refuse a size that is no multiple of the patches', with those that would be."""
    if all(side % PATCH == 0 for side in size):
        return
    below = _text(tuple(side - side % PATCH for side in size))
    above = _text(tuple(side + -side % PATCH for side in size))
    raise ConfigError(
        f"vit cuts images into patches of {PATCH} x {PATCH} pixels, and {_text(size)} (width x "
        f"height) is no multiple of that; {below} and {above} are. Set data.size."
    )


def _text(size: tuple[int, ...]) -> str:
    """Return (height, width) as ``width x height``."""
    return f"{size[1]} x {size[0]}"
