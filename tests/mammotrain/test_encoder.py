"""The classifiers are timm's own between a normalisation and a head, and offer what others ask."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mammoprep.core.errors import ConfigError
from mammotrain import optim, pretrained
from mammotrain._torchvision import ensure_importable
from mammotrain.config import TrainConfig
from mammotrain.models import convnext, densenet, efficientnet, resnext, vit
from mammotrain.nn.encoder import Classifier

ensure_importable()
import timm  # noqa: E402
from timm.models import group_parameters  # noqa: E402

ALL = (convnext, densenet, efficientnet, resnext, vit)
SMALL = {convnext: "pico", resnext: "resnet10t", vit: "tiny_patch16"}
SQUARE = (64, 64)
VARIANTS = [(module, variant) for module in ALL for variant in module.VARIANTS]

pytestmark = pytest.mark.usefixtures("one_thread")
every = pytest.mark.parametrize("module", ALL, ids=lambda m: m.__name__.rpartition(".")[2])
with_residual = pytest.mark.parametrize("module", [convnext, efficientnet])


def build(
    module: ModuleType,
    *,
    channels: int = 1,
    outputs: int = 2,
    size: tuple[int, int] = SQUARE,
    **options: Any,
) -> Classifier:
    if module in SMALL:
        options = {"variant": SMALL[module], **options}
    config = module.Config(**options)
    return module.build(config, channels=channels, outputs=outputs, size=size)


def images(channels: int = 1, size: tuple[int, int] = SQUARE) -> Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))


def published(model: Classifier, **options: Any) -> nn.Module:
    torch.manual_seed(7)
    return timm.create_model(model.timm_name, **options)


def outer(name: str, plain: nn.Module) -> str:
    """Return what a parameter of timm's model is called in the classifier."""
    head = plain.pretrained_cfg["classifier"]
    return f"head.{name.rpartition('.')[2]}" if name.startswith(f"{head}.") else f"encoder.{name}"


@pytest.mark.slow
@pytest.mark.parametrize(("module", "variant"), VARIANTS)
def test_every_variant_has_as_many_parameters_as_timms(module: ModuleType, variant: str) -> None:
    plain_name = module.VARIANTS[variant].partition(".")[0]
    plain = timm.create_model(plain_name, in_chans=3, num_classes=102)
    model = build(module, channels=3, outputs=102, size=(224, 224), variant=variant)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())


@pytest.mark.parametrize(("module", "variant"), VARIANTS)
def test_a_variant_is_the_encoder_of_its_name(module: ModuleType, variant: str) -> None:
    assert variant in module.VARIANTS[variant].partition(".")[0]
    assert build(module, variant=variant).timm_name == module.VARIANTS[variant]


@every
def test_grey_pictures_are_normalised_by_the_means_of_the_colours(module: ModuleType) -> None:
    model, kept = build(module), []
    first = next(part for part in model.encoder.modules() if isinstance(part, nn.Conv2d))
    with first.register_forward_pre_hook(lambda _, given: kept.append(given[0])):
        model(images())
    about = model.encoder.pretrained_cfg
    mean, std = (sum(about[name]) / 3 for name in ("mean", "std"))
    torch.testing.assert_close(kept[0], (images() - mean) / std)


@every
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_the_logits_are_those_of_timms_model_on_normalised_pictures(
    module: ModuleType, pool: str
) -> None:
    model = build(module, channels=3, pool=pool).eval()
    options = {"global_pool": pool, **({"img_size": 64, "fc_norm": False} if module is vit else {})}
    plain = published(model, num_classes=2, **options).eval()
    model.load_state_dict({outer(name, plain): v for name, v in plain.state_dict().items()})
    mean, std = (torch.tensor(plain.pretrained_cfg[n]).view(3, 1, 1) for n in ("mean", "std"))
    with torch.no_grad():
        wanted = plain((images(3) - mean) / std)
        torch.testing.assert_close(model(images(3)).logits, wanted, atol=1e-4, rtol=1e-4)


@every
def test_published_weights_go_in_and_a_grey_picture_is_seen_as_a_colour_picture(
    module: ModuleType, tmp_path: Path
) -> None:
    model, told = build(module, size=(128, 64)).eval(), []
    source = published(model).eval()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    pretrained.load(model, str(tmp_path / "w.safetensors"), told.append)
    assert model.timm_name in told[0]
    if module is vit:
        assert model.encoder.pos_embed.shape == (1, 8 * 4 + 1, 192)
        return
    grey = images(size=(128, 64))
    with torch.no_grad():
        mine = model.encoder.forward_features(grey)
        theirs = source.forward_features(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)


def test_positions_of_a_square_become_those_of_a_tall_picture(tmp_path: Path) -> None:
    model = build(vit, size=(256, 128))
    source = published(model)
    rows = torch.linspace(-1, 1, 14).view(14, 1).expand(14, 14)
    with torch.no_grad():
        source.pos_embed.zero_()[0, 1:, 0] = rows.flatten()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    pretrained.load(model, str(tmp_path / "w.safetensors"), [].append)
    found = model.encoder.pos_embed.detach()[0, 1:, 0].view(16, 8)
    assert (found.std(1) < 1e-5).all()
    assert (found[:, 0].diff() > 0).all()


@every
def test_own_weights_with_another_number_of_outputs_keep_the_new_head(
    module: ModuleType, tmp_path: Path
) -> None:
    options = {"residual": (8,)} if module in (convnext, efficientnet) else {}
    source, model = build(module, outputs=3, **options), build(module, outputs=5, **options)
    before, told = model.head.weight.detach().clone(), []
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    pretrained.load(model, str(tmp_path / "w.safetensors"), told.append)
    assert "head.weight, head.bias: another number of outputs" in told[0]
    assert torch.equal(model.head.weight, before)
    theirs = source.state_dict()
    assert all(
        torch.equal(value, theirs[name])
        for name, value in model.state_dict().items()
        if not name.startswith("head.")
    )


# layer decay, weight decay


@every
def test_layers_are_those_of_timm_and_the_head_is_the_last(module: ModuleType) -> None:
    options = {"residual": (8,)} if module in (convnext, efficientnet) else {}
    model = build(module, **options)
    plain = published(model, in_chans=1, num_classes=2)
    wanted = group_parameters(plain, plain.group_matcher(coarse=False), reverse=True)
    layer = model.group_matcher(coarse=False)
    assert all(layer(outer(name, plain)) == number for name, number in wanted.items())
    last = max(wanted.values())
    assert layer("head.weight") == last
    assert all(layer(name) == last for name, _ in model.named_parameters() if "extra" in name)


@every
def test_layer_decay_slows_what_is_near_the_pixels(module: ModuleType) -> None:
    model = build(module)
    groups = optim.optimiser(model, TrainConfig(layer_decay=0.8, weight_decay=0.1)).param_groups
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert len(scale) == len(list(model.parameters()))
    first = next(model.encoder.parameters())
    assert scale[id(model.head.weight)] == 1
    assert scale[id(first)] == min(scale.values()) < 0.8**4


def test_weight_decay_leaves_positions_norms_and_biases_alone() -> None:
    model = build(vit)
    groups = optim.optimiser(model, TrainConfig(weight_decay=0.1)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    own = dict(model.named_parameters())
    assert decay[id(own["encoder.pos_embed"])] == decay[id(own["encoder.cls_token"])] == 0
    assert decay[id(own["head.bias"])] == decay[id(own["encoder.norm.weight"])] == 0
    assert decay[id(own["head.weight"])] == 0.1


# residual blocks, filling up, dropping


@with_residual
def test_residual_blocks_begin_as_the_identity_and_are_learned(module: ModuleType) -> None:
    torch.manual_seed(0)
    model = build(module, residual=(16, 8)).eval()
    plain = build(module).eval()
    rest = {n: v for n, v in model.state_dict().items() if not n.startswith("extra.")}
    plain.load_state_dict(rest)
    assert torch.equal(model(images()).logits, plain(images()).logits)
    steps = torch.optim.SGD(model.extra.parameters(), lr=0.1)
    for _ in range(2):
        steps.zero_grad()
        model(images()).logits.square().sum().backward()
        steps.step()
    assert all(p.grad.abs().sum() > 0 for p in model.extra.parameters())
    assert not torch.equal(model(images()).logits, plain(images()).logits)


def test_convnext_sees_the_last_columns_of_any_width() -> None:
    model, given = build(convnext, size=(67, 47)).eval(), images(size=(67, 47)).requires_grad_()
    model(given).logits.square().sum().backward()
    assert given.grad[..., -1].abs().sum() > 0
    assert given.grad[:, :, -1].abs().sum() > 0


def test_filling_up_is_with_what_is_black_in_the_shard() -> None:
    model, given = build(convnext, size=(64, 48)).eval(), images(size=(64, 48))
    filled = nn.functional.pad(given, (0, 16))
    with torch.no_grad():
        assert torch.equal(model(given).logits, model(filled).logits)


@every
def test_drop_path_and_dropout_reach_timm(module: ModuleType) -> None:
    dropping = {"layer_dropout": 0.8} if module is densenet else {"drop_path": 0.8}
    model = build(module, **dropping)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.ones_(norm.weight)  # timm lets residual branches begin with nothing
    with torch.no_grad():
        assert not torch.equal(model(images()).logits, model(images()).logits)
    model = build(module, dropout=0.5)
    kept: list[Tensor] = []
    with torch.no_grad(), model.head.register_forward_pre_hook(lambda _, x: kept.append(x[0])):
        model(images())
    assert 0.4 < (kept[0] == 0).float().mean() < 0.6


# Grad-CAM


@pytest.mark.parametrize("module", [convnext, densenet, efficientnet, resnext])
def test_a_cell_of_the_grid_looks_at_its_place(module: ModuleType) -> None:
    torch.manual_seed(0)
    size, cell = (256, 128), (5, 1)
    model = build(module, size=size).eval()
    given, kept = images(size=size).requires_grad_(), []
    with model.cam_layer.register_forward_hook(lambda _, __, output: kept.append(output)):
        model(given)
    grid = model.cam_grid(kept[0])
    weight = torch.autograd.grad(grid[:, :, *cell].square().sum(), given)[0].square().sum((0, 1))
    for axis, place in enumerate(cell):
        line = weight.sum(1 - axis)
        centre = float((line * (torch.arange(len(line)) + 0.5)).sum() / line.sum())
        stretched = (place + 0.5) * size[axis] / grid.shape[2 + axis]
        assert abs(centre - stretched) < 0.6 * size[axis] / grid.shape[2 + axis]


def test_a_patch_of_a_transformer_is_at_its_place() -> None:
    model = build(vit, size=(64, 32))
    with torch.no_grad():
        tokens = model.encoder.patch_embed(images(size=(64, 32)))
        wanted = model.encoder.patch_embed.proj(images(size=(64, 32)))
        with_class = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)
    assert torch.equal(model.cam_grid(with_class), wanted)


@pytest.mark.parametrize("pool", ["token", "avg", "max"])
def test_all_patches_lead_to_the_logits(pool: str) -> None:
    model, kept = build(vit, pool=pool), []
    with model.cam_layer.register_forward_hook(lambda _, __, output: kept.append(output)):
        logits = model(images()).logits
    gradient = torch.autograd.grad(logits.square().sum(), kept[0])[0]
    assert (model.cam_grid(gradient).abs().amax(1) > 0).all()


# formats and compilers


@every
def test_channels_last_stays_channels_last(module: ModuleType) -> None:
    model = build(module, channels=3).to(memory_format=torch.channels_last)
    kept: list[Tensor] = []
    first = next(p for p in model.encoder.modules() if isinstance(p, nn.Conv2d))
    with first.register_forward_pre_hook(lambda _, given: kept.append(given[0])):
        model(images(3).to(memory_format=torch.channels_last))
    assert kept[0].is_contiguous(memory_format=torch.channels_last)


@every
@pytest.mark.slow
def test_the_compiler_finds_one_graph(module: ModuleType) -> None:
    model = build(module).eval()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images()).logits, model(images()).logits)


@pytest.mark.slow
@every
@pytest.mark.filterwarnings("ignore:.*jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # timm's look at a size
def test_a_trace_of_the_logits_says_the_same(module: ModuleType) -> None:
    class Logits(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, given: Tensor) -> Tensor:
            return self.model(given).logits

    model = Logits(build(module)).eval()
    with torch.no_grad():
        traced = torch.jit.trace(model, images(), check_trace=False)
        other = images().flip(0)
        torch.testing.assert_close(traced(other), model(other), atol=1e-5, rtol=1e-4)


# refusals


@every
def test_an_unknown_variant_is_refused_with_the_nearest(module: ModuleType) -> None:
    default = module.Config().variant
    with pytest.raises(ConfigError, match=f"Did you mean '{default}'"):
        build(module, variant=f"{default}x")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1456, 728), "728 x 1456 .* 720 x 1456 and 736 x 1456 are"),
        ((299, 299), "288 x 288 and 304 x 304 are"),
    ],
)
def test_a_size_that_patches_do_not_fill_is_refused_with_those_that_would(
    size: tuple[int, int], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build(vit, size=size)


@every
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dropout": 1.0}, r"model\.dropout must be at least 0 and below 1"),
        ({"drop_path": -0.1}, r"model\.drop_path must be"),
        ({"layer_dropout": 2.0}, r"model\.layer_dropout must be"),
        ({"residual": (16, 0)}, r"model\.residual holds widths of at least 1, got \[16, 0\]"),
        ({"pool": "agv"}, r"model\.pool must be one of .*Did you mean 'avg'"),
    ],
)
def test_a_value_out_of_range_is_refused(
    module: ModuleType, options: dict[str, Any], words: str
) -> None:
    if not hasattr(module.Config(), next(iter(options))):
        pytest.skip("has no such setting")
    with pytest.raises(ConfigError, match=words):
        build(module, **options)


@every
def test_pictures_of_another_kind_are_refused(module: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"takes images \(B, 3, H, W\), got \(2, 1, 64, 64\)"):
        build(module, channels=3)(images(1))


def test_a_transformer_refuses_pictures_of_another_size() -> None:
    with pytest.raises(ConfigError, match=r"built for images of 64 x 64 .* got 32 x 64"):
        build(vit)(images(size=(64, 32)))
