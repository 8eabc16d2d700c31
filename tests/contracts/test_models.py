"""Promises of every model, from the day its file exists; ``nn/encoder.py`` has them in words."""

import inspect
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain.contracts import Output

MODELS = "mammotrain.models"
NAMES = plugins.names(MODELS)
TALL, SQUARE = (64, 32), (64, 64)
SETTINGS = (bool, int, float, str, tuple)  # what a recipe can say
EXAMPLE: dict[str, dict[str, Any]] = {  # what makes a model small, or has a part that others lack
    "convnext": {"variant": "pico", "residual": (8,)},
    "deq": {"width": 16},
    "efficientnet": {"residual": (8, 8)},
    "resnext": {"variant": "resnet10t"},
    "vit": {"variant": "tiny_patch16"},
}
# With random weights a rounding of bfloat16 in an EfficientNet grows to a logit's spread.
UNSTEADY = {"efficientnet", "unet"}

every_model = pytest.mark.parametrize("name", NAMES)
pytestmark = pytest.mark.usefixtures("one_thread")


def build(
    name: str,
    *,
    channels: int = 1,
    outputs: int = 3,
    size: tuple[int, int] = TALL,
    seed: int = 0,
    **more: Any,
) -> nn.Module:
    plugin = plugins.load(MODELS, name, needs=("Config", "build"))
    config = plugin.Config(**{**EXAMPLE.get(name, {}), **more})
    torch.manual_seed(seed)
    model = plugin.build(config, channels=channels, outputs=outputs, size=size)
    assert isinstance(model, nn.Module)
    return model


def images(count: int = 4, channels: int = 1, size: tuple[int, int] = TALL) -> Tensor:
    """Return pictures that differ in brightness and texture."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(count, channels, *size, generator=generator)
    return noise * torch.linspace(0.2, 1, count).view(-1, 1, 1, 1)


def settled(name: str, *, size: tuple[int, int] = TALL, **options: Any) -> nn.Module:
    """Return a model for scoring whose norms have seen pictures; fresh ones hide differences."""
    model = build(name, size=size, **options)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model(images(size=size))
    return model.eval()


def backward(found: Output) -> None:
    loss = found.logits.float().square().mean()
    (loss if found.penalty is None else loss + found.penalty).backward()


def test_there_are_the_models_of_the_recipes() -> None:
    assert {"convnext", "densenet", "deq", "efficientnet", "resnext", "vit"} <= set(NAMES)


@every_model
def test_a_model_is_configured_by_plain_values(name: str) -> None:
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
def test_a_model_has_a_page_with_all_of_its_settings(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models" / f"{name}.md").read_text()
    plugin = plugins.load(MODELS, name, needs=("Config",))
    assert not [field.name for field in fields(plugin.Config) if f"`{field.name}`" not in page]


@every_model
@pytest.mark.parametrize(
    ("channels", "outputs", "size"),
    [(1, 1, TALL), (3, 1, SQUARE), (1, 3, SQUARE), (3, 3, TALL), (1, 102, TALL), (3, 102, SQUARE)],
)
def test_a_model_returns_what_the_contract_says(
    name: str, channels: int, outputs: int, size: tuple[int, int]
) -> None:
    model = build(name, channels=channels, outputs=outputs, size=size)
    found = model(images(2, channels, size))
    assert isinstance(found, Output)
    assert found.logits.shape[:2] == (2, outputs)
    assert found.logits.shape[2:] in ((), size)
    assert found.logits.dtype == torch.float32
    assert found.logits.isfinite().all()
    assert found.penalty is None or found.penalty.shape == ()
    for value in found.stats.values():
        assert value.shape in ((), (2,))
        assert not value.requires_grad


@every_model
@pytest.mark.parametrize("mixed", [False, True])
def test_every_parameter_gets_a_finite_gradient(name: str, mixed: bool) -> None:
    model = build(name, size=SQUARE)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        found = model(images(size=SQUARE))
    backward(found)
    without = [key for key, value in model.named_parameters() if value.grad is None]
    assert not without
    assert all(value.grad.isfinite().all() for value in model.parameters())


@every_model
def test_saving_and_loading_reproduces_the_output(name: str, tmp_path: Path) -> None:
    model = settled(name)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, tmp_path / "weights.safetensors")
    other = build(name, seed=5)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(model(images()).logits, other.eval()(images()).logits)


@every_model
def test_a_picture_is_scored_the_same_in_any_batch(name: str) -> None:
    # In double precision: a norm over few values turns the rounding of single into 1e-5.
    model, given = settled(name).double(), images().double()
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        together = model(given).logits
        alone = torch.cat([model(image[None]).logits for image in given])
        mixed = model(given[order]).logits
    assert together.std(0).max() > 1e-3
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)
    torch.testing.assert_close(mixed, together[order], atol=1e-6, rtol=0)


@every_model
def test_a_seed_decides_weights_and_dropout(name: str) -> None:
    def said(seed: int) -> tuple[dict[str, Tensor], Tensor]:
        model = build(name, seed=seed, dropout=0.5).train()
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        return weights, model(images()).logits.detach()

    one, two, other = said(3), said(3), said(4)
    assert all(torch.equal(value, two[0][key]) for key, value in one[0].items())
    assert torch.equal(one[1], two[1])
    assert not torch.allclose(one[1], other[1])


@every_model
def test_dropout_is_for_training_only(name: str) -> None:
    model = build(name, dropout=0.5)
    with torch.no_grad():
        assert not torch.equal(model(images()).logits, model(images()).logits)
        model.eval()
        assert torch.equal(model(images()).logits, model(images()).logits)


@every_model
def test_half_precision_says_nearly_the_same(name: str) -> None:
    # Not at 32 pixels: oneDNN's AMX convolutions of bfloat16 are wrong where stride 2 makes a map
    # of width 2 one of width 1 (seen with oneDNN 3.12: NaN, or values that are off).
    model, given = settled(name, size=SQUARE), images(size=SQUARE)
    with torch.no_grad():
        plain = model(given).logits
        with torch.autocast("cpu", torch.bfloat16):
            half = model(given).logits.float()
    assert half.isfinite().all()
    if name not in UNSTEADY:
        assert (half - plain).abs().max() < 0.25 * plain.std(0).max()


@every_model
def test_either_memory_format_gives_the_same(name: str) -> None:
    model = settled(name, channels=1)
    with torch.no_grad():
        plain = model(images()).logits
        model = model.to(memory_format=torch.channels_last)
        last = model(images().to(memory_format=torch.channels_last)).logits
    torch.testing.assert_close(last, plain, atol=1e-3, rtol=1e-3)


@every_model
def test_a_model_leaves_its_images_alone(name: str) -> None:
    given = images()
    build(name)(given)
    assert torch.equal(given, images())


@every_model
def test_images_that_are_too_small_are_refused_in_the_models_name(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(name)} needs .* pixels"):
        build(name, size=(64, 16))


@every_model
def test_settings_out_of_range_are_refused_by_name(name: str) -> None:
    plugin = plugins.load(MODELS, name, needs=("Config", "build"))
    for field in fields(plugin.Config):
        if type(getattr(plugin.Config(), field.name)) is str:
            with pytest.raises(ConfigError, match=rf"model\.{field.name} "):
                build(name, **{field.name: "no such thing"})


@every_model
def test_grad_cam_finds_a_grid_from_which_all_places_lead_to_the_logits(name: str) -> None:
    model = build(name)
    if not hasattr(model, "cam_layer"):
        pytest.skip("offers no maps")
    kept: list[Tensor] = []
    with model.cam_layer.register_forward_hook(lambda _, __, output: kept.append(output)):
        logits = model.eval()(images()).logits
    gradient = torch.autograd.grad(logits.square().sum(), kept[0])[0]
    grid, map_of = model.cam_grid(kept[0]), model.cam_grid(gradient)
    assert grid.shape == map_of.shape
    assert grid.shape[0] == len(images())
    rows, columns = grid.shape[2:]
    assert rows == 2 * columns
    assert (map_of.abs().amax(1) > 0).all()
