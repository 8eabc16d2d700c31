"""Weights from elsewhere: a safetensors file, or those that timm knows for a model's encoder.

What a model says about itself, by attributes, none of them needed for a file of its own weights:

* ``timm_name``: the name in timm of what its encoder is, as ``timm.create_model`` takes it, with
  or without a tag: ``resnet18``, ``resnet18.a1_in1k``.
* ``encoder``: the sub-module that ``timm.create_model`` made; without, the model itself is it.
* ``timm_options``: with which other arguments (``features_only``, ``img_size``, ...); default none.
* ``head``: the sub-module that gives the task's outputs; default the last linear layer or
  convolution.

Files are safetensors only: nothing that could run code is opened.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mammoprep.core.errors import ConfigError
from mammotrain import _hub
from mammotrain._hub import UnreachableError
from mammotrain._torchvision import ensure_importable

FALLBACKS = ("stop", "none")
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar")
PICKLE_STARTS = (b"PK", b"\x80")
CONVERT = (
    "python -c \"import torch, safetensors.torch as s; w = torch.load('weights.pth', "
    "map_location='cpu', weights_only=True); w = w.get('state_dict', w); "
    "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, 'weights.safetensors')\""
)
SHOWN = 3  # names in an error
Tell = Callable[[str], None]
Tensors = dict[str, Tensor]


def load(model: nn.Module, where: str, tell: Tell, *, fallback: str = "stop") -> None:
    """Put pretrained weights into a model.

    A first convolution of three input channels becomes one of one by their sum, and one of three by
    a third each, so that a grey picture gives what it gave as a colour picture. A head of
    another number of outputs keeps its initial values.

    Args:
        model: As it was built; see above for what it may say about itself.
        where: ``none``, ``timm``, or the path of a safetensors file: of the whole model, or for
            its encoder as timm publishes it.
        tell: Takes one line: what was loaded and adapted, or that nothing was.
        fallback: ``stop``, or ``none``: go on without when the hub cannot be reached.

    Raises:
        ConfigError: no such weights, they do not fit, or the hub cannot be reached.
    """
    if fallback not in FALLBACKS:
        raise ConfigError(
            f"train.pretrained_fallback must be one of {', '.join(FALLBACKS)}; got {fallback!r}."
        )
    if where == "none":
        return
    if where != "timm":
        told = _from_file(model, where)
    else:
        try:
            told = _from_timm(
                model, _hub.weights(_timm_name(model), _read), f"timm's {_timm_name(model)}"
            )
        except UnreachableError as error:
            if fallback == "stop":
                raise
            first = str(error).partition(" To go on:")[0]
            told = (
                f"WARNING: NO PRETRAINED WEIGHTS, training begins with random ones, because "
                f"train.pretrained_fallback = 'none'. {first}"
            )
    tell(told)


@dataclass(frozen=True)
class _Fit:
    """How tensors of a file go into a module."""

    taken: Tensors = field(default_factory=dict)
    adapted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)


def _from_file(model: nn.Module, where: str) -> str:
    weights, wanted = _read(Path(where)), model.state_dict()
    shared = len(weights.keys() & wanted.keys())
    if 2 * shared < len(wanted) and getattr(model, "timm_name", None):
        return _from_timm(model, weights, where)
    return _put(model, weights, _head_names(model), where, "the model")


def _from_timm(model: nn.Module, weights: Tensors, source: str) -> str:
    """Put weights as timm publishes them into the model's encoder."""
    name, encoder = _timm_name(model), getattr(model, "encoder", model)
    config, donor = _hub.config(name), _donor(model, weights, source)
    heads = config.classifier or ()
    prefixes = tuple(f"{h}." for h in ((heads,) if isinstance(heads, str) else heads))
    wanted = encoder.state_dict()
    found = {n: v for n, v in donor.items() if n in wanted or not n.startswith(prefixes)}
    names = {n for n in wanted if n.startswith(prefixes)}
    return _put(encoder, found, names, source, f"the encoder ({name})")


def _put(module: nn.Module, weights: Tensors, head: set[str], where: str, what: str) -> str:
    """Load what ``where`` holds into a part of the model; return what was done in one line.

    Raises:
        ConfigError: something does not fit.
    """
    fit = _fit(module, weights, head)
    problems = [
        f"{len(names)} tensors {problem}: {', '.join(names[:SHOWN])}"
        f"{', ...' if len(names) > SHOWN else ''}"
        for problem, names in (
            ("are missing", fit.missing),
            ("are not its own", fit.unknown),
            ("have another shape", fit.misshapen),
        )
        if names
    ]
    if problems:
        raise ConfigError(f"train.pretrained: {where} does not fit {what}: {'; '.join(problems)}.")
    if bad := [n for n, v in fit.taken.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise ConfigError(
            f"train.pretrained: {bad[0]} of {where} holds values that are no numbers."
        )
    module.load_state_dict(fit.taken, strict=False)
    told = [f"Pretrained weights for {what} from {where}: {len(fit.taken)} tensors", *fit.adapted]
    if fit.left:
        told.append(f"{', '.join(fit.left)}: another number of outputs, initial values kept")
    return "; ".join(told) + "."


def _fit(module: nn.Module, weights: Tensors, head: set[str]) -> _Fit:
    fit, wanted, first = _Fit(), module.state_dict(), _first_convolution(module)
    fit.unknown.extend(name for name in weights if name not in wanted)
    for name, own in wanted.items():
        if name in weights:
            _place(fit, name, weights[name], own, first=name == first, head=name in head)
    # files from before batch norm counted its batches lack the count
    fit.missing.extend(
        n for n in wanted if n not in weights and not n.endswith("num_batches_tracked")
    )
    if fit.left:  # a head is one thing
        for name in head & fit.taken.keys():
            fit.left.append(name)
            del fit.taken[name]
    return fit


def _place(fit: _Fit, name: str, value: Tensor, own: Tensor, *, first: bool, head: bool) -> None:
    if value.is_floating_point() != own.is_floating_point():
        fit.misshapen.append(f"{name} ({value.dtype}, not {own.dtype})")
    elif value.shape == own.shape:
        fit.taken[name] = value
    elif first and (found := _other_channels(value, own)) is not None:
        fit.taken[name] = found
        fit.adapted.append(f"{name} from {value.shape[1]} to {own.shape[1]} channels")
    elif head and value.shape[1:] == own.shape[1:]:
        fit.left.append(name)
    else:
        fit.misshapen.append(f"{name} ({list(value.shape)}, not {list(own.shape)})")


def _other_channels(weight: Tensor, own: Tensor) -> Tensor | None:
    """Return a colour convolution's weights (O, 3, H, W) for grey pictures, or the reverse."""
    fits = weight.ndim == own.ndim == 4 and weight.shape[2:] == own.shape[2:]
    if not fits or weight.shape[0] != own.shape[0]:
        return None
    match weight.shape[1], own.shape[1]:
        case 3, 1:
            return weight.float().sum(1, keepdim=True)
        case 1, 3:
            return (weight.float() / 3).repeat(1, 3, 1, 1)
    return None


def _first_convolution(module: nn.Module) -> str | None:
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            return f"{name}.weight" if name else "weight"
    return None


def _head_names(model: nn.Module) -> set[str]:
    """Return the names of the tensors of what gives the task's outputs."""
    layers = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d) or (name == "head" and part.state_dict())
    }
    if not layers:
        return set()
    place = "head" if "head" in layers else list(layers)[-1]
    return {f"{place}.{name}" if place else name for name in layers[place].state_dict()}


def _read(path: Path) -> Tensors:
    """Return the tensors of a safetensors file, on the CPU.

    Raises:
        ConfigError: it is none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.is_dir():
        raise ConfigError(f"train.pretrained: {path} is a folder; give the file in it.")
    if path.suffix.lower() in PICKLED:
        raise ConfigError(_refused(path))
    try:
        return load_file(path)
    except OSError as error:
        raise ConfigError(f"train.pretrained: {path} cannot be read ({error.strerror}).") from None
    except SafetensorError as error:
        with path.open("rb") as file:
            if file.read(2).startswith(PICKLE_STARTS):
                raise ConfigError(_refused(path)) from None
        raise ConfigError(f"train.pretrained: {path} is no safetensors file ({error}).") from None


def _refused(path: Path) -> str:
    return (
        f"train.pretrained: {path} is of a kind that can run code when it is opened. If you trust "
        f"it, turn it into safetensors first: {CONVERT}"
    )


def _timm_name(model: nn.Module) -> str:
    name = getattr(model, "timm_name", None)
    if not isinstance(name, str) or not name:
        raise ConfigError(
            "train.pretrained = 'timm': this model has no encoder of timm's. Give the path of a "
            "safetensors file, or 'none'."
        )
    return name


def _donor(model: nn.Module, weights: Tensors, source: str) -> Mapping[str, Tensor]:
    """Return weights under today's names and sizes of timm's model, its head as published.

    Raises:
        ConfigError: they are of another model.
    """
    ensure_importable()
    import timm

    name, options = _timm_name(model), dict(getattr(model, "timm_options", {}))
    options.pop("num_classes", None)
    overlay = {"state_dict": weights, "custom_load": False}
    try:
        with torch.random.fork_rng(devices=[]):
            made = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, **options
            )
    except (RuntimeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"train.pretrained: {source} holds neither this model's weights nor those of timm's "
            f"{name} ({type(error).__name__})."
        ) from None
    return made.state_dict()
