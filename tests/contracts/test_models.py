"""Promises of every model, from the day its file exists."""

import inspect
from dataclasses import fields, is_dataclass

import pytest
import torch
from torch import Tensor, nn

from mammoprep.core import plugins
from mammotrain.contracts import Output

MODELS = "mammotrain.models"
NAMES = plugins.names(MODELS)
SIZE = (64, 48)
EXAMPLE: dict[str, dict[str, object]] = {}  # settings that make a model small enough, by name
SETTINGS = (bool, int, float, str, tuple)  # what a recipe can say

every_model = pytest.mark.parametrize("name", NAMES)


def build(name: str, *, channels: int = 1, outputs: int = 2) -> nn.Module:
    plugin = plugins.load(MODELS, name, needs=("Config", "build"))
    config = plugin.Config(**EXAMPLE.get(name, {}))
    torch.manual_seed(0)
    model = plugin.build(config, channels=channels, outputs=outputs, size=SIZE)
    assert isinstance(model, nn.Module)
    return model


def images(channels: int = 1) -> Tensor:
    return torch.rand(2, channels, *SIZE, generator=torch.Generator().manual_seed(1))


def test_there_is_a_model():
    assert "deq" in NAMES


@every_model
def test_a_model_is_configured_by_plain_values(name):
    plugin = plugins.load(MODELS, name, needs=("Config", "build"))
    assert is_dataclass(plugin.Config)
    assert plugin.Config.__dataclass_params__.frozen
    config = plugin.Config()
    assert all(isinstance(getattr(config, field.name), SETTINGS) for field in fields(config))
    documented = plugin.Config.__doc__ or ""
    assert all(f"        {field.name}: " in documented for field in fields(config))
    assert [*inspect.signature(plugin.build).parameters] == [
        "config",
        "channels",
        "outputs",
        "size",
    ]


@every_model
@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (3, 5)])
def test_a_model_returns_what_the_contract_says(name, channels, outputs):
    found = build(name, channels=channels, outputs=outputs)(images(channels))
    assert isinstance(found, Output)
    assert found.logits.shape[:2] == (2, outputs)
    assert found.logits.shape[2:] in ((), SIZE)
    assert found.logits.dtype == torch.float32
    assert found.logits.isfinite().all()
    assert found.penalty is None or found.penalty.shape == ()
    for value in found.stats.values():
        assert value.shape in ((), (2,))
        assert not value.requires_grad


@every_model
def test_every_parameter_gets_a_gradient(name):
    model = build(name)
    found = model(images())
    loss = found.logits.square().mean()
    (loss if found.penalty is None else loss + found.penalty).backward()
    without = [key for key, value in model.named_parameters() if value.grad is None]
    assert not without
    assert all(value.grad.isfinite().all() for value in model.parameters())


@every_model
def test_saving_and_loading_reproduces_the_output(name, tmp_path):
    model = build(name).train(False)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = build(name)
    with torch.no_grad():
        for value in other.parameters():
            value.add_(1)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(model(images()).logits, other.train(False)(images()).logits)


@every_model
def test_a_picture_is_scored_the_same_in_any_batch(name):
    model = build(name).train(False)
    with torch.no_grad():
        together = model(images()).logits
        alone = torch.cat([model(image[None]).logits for image in images()])
    assert torch.allclose(together, alone, atol=1e-5)


@every_model
def test_a_model_leaves_its_images_alone(name):
    given = images()
    build(name)(given)
    assert torch.equal(given, images())
