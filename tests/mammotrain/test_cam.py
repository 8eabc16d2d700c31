"""Grad-CAM: the closed form where there is one, and a lesion that was planted."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mammotrain.contracts import Output, Shown
from mammotrain.models import resnext, vit
from mammotrain.nn import cam

pytestmark = pytest.mark.usefixtures("one_thread")


class Tiny(nn.Module):
    """Convolutions, a pooled grid, a linear head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.cam_layer = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU()
        )
        self.head = nn.Linear(width, 1)

    def cam_grid(self, activation: Tensor) -> Tensor:
        return activation

    def forward(self, images: Tensor) -> Output:
        return Output(self.head(self.cam_layer(images).mean((2, 3))))


def shown_of(images: Tensor) -> Shown:
    import numpy as np

    return Shown(images, None, np.arange(len(images)))


def first(output: Output) -> Tensor:
    return output.logits[:, 0]


def planted(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise; in every second picture a bright disc of radius 4, and where its centre is."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 + 0.1 * torch.randn(count, 1, 48, 48, generator=generator)
    centres = torch.randint(8, 40, (count, 2), generator=generator).float()
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    far = (rows - centres[:, 0, None, None]) ** 2 + (columns - centres[:, 1, None, None]) ** 2
    sick = torch.arange(count) % 2
    return images + 1.5 * (far <= 16)[:, None] * sick[:, None, None, None], sick, centres


def test_under_a_pooled_linear_head_it_is_the_class_activation_map() -> None:
    torch.manual_seed(0)
    model, images = Tiny().eval(), torch.rand(3, 1, 32, 40)
    nn.init.uniform_(model.head.weight)  # so that something speaks for the class everywhere
    output, heat = cam.grad_cam(model, shown_of(images), first)
    features = model.cam_layer(images)
    expected = functional.relu((model.head.weight[0][:, None, None] * features).sum(1))
    expected = functional.interpolate(expected[:, None], (32, 40), mode="bilinear")
    expected = expected / expected.amax((1, 2, 3), keepdim=True)
    assert torch.allclose(heat, expected, atol=1e-5)
    assert torch.equal(output.logits, model(images).logits)
    assert not output.logits.requires_grad
    assert all(value.grad is None for value in model.parameters())


def test_it_localises_a_planted_lesion_in_a_tiny_trained_network() -> None:
    torch.manual_seed(0)
    model = Tiny()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    images, sick, _ = planted(64, seed=1)
    for _ in range(80):
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(first(model(images)), sick.float())
        loss.backward()
        optimiser.step()
    images, sick, centres = planted(64, seed=2)
    output, heat = cam.grad_cam(model.eval(), shown_of(images), first)
    right = ((output.logits[:, 0] > 0).long() == sick).float().mean()
    assert right > 0.9
    places = heat[sick == 1].flatten(1).argmax(1)
    peaks = torch.stack([places // 48, places % 48], 1) + 0.5
    away = (peaks - centres[sick == 1]).norm(dim=1)
    assert (away <= 5).float().mean() > 0.9  # the disc has a radius of 4


def test_where_nothing_speaks_for_the_class_nothing_is_shown() -> None:
    model = Tiny().eval()
    with torch.no_grad():
        model.head.weight.fill_(-1.0)
    _, heat = cam.grad_cam(model, shown_of(torch.rand(2, 1, 32, 32)), first)
    assert not heat.any()


def test_a_sample_has_the_same_map_alone_and_with_frozen_weights() -> None:
    torch.manual_seed(3)
    model, images = Tiny().eval().requires_grad_(False), torch.rand(3, 1, 32, 32)
    _, together = cam.grad_cam(model, shown_of(images), first)
    _, alone = cam.grad_cam(model, shown_of(images[1:2]), first)
    assert torch.allclose(together[1:2], alone, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "variant"), [(resnext, "resnet10t"), (vit, "tiny_patch16")], ids=["cnn", "vit"]
)
def test_maps_of_the_models_lie_on_the_pictures_grid(module, variant: str) -> None:
    torch.manual_seed(0)
    config = module.Config(variant=variant)
    model = module.build(config, channels=1, outputs=1, size=(64, 32)).eval()
    assert cam.offers(model)
    _, heat = cam.grad_cam(model, shown_of(torch.rand(2, 1, 64, 32)), first)
    assert heat.shape == (2, 1, 64, 32)
    assert heat.isfinite().all()
    assert ((heat >= 0) & (heat <= 1)).all()


def test_a_model_without_a_layer_to_look_at_offers_none() -> None:
    assert not cam.offers(nn.Linear(1, 1))
