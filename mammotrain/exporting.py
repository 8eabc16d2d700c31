"""A finished run -> one file that other programs can run, compared with the model itself."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]
from torch.nn import functional

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import config as configs
from mammotrain import folder, setup
from mammotrain.checks import one_of
from mammotrain.contracts import Shown, Task, ask
from mammotrain.data.around import MARGIN
from mammotrain.data.pictures import CROP, IMAGE, INTERSECTION
from mammotrain.distributed import World
from mammotrain.predicting import panel as panels
from mammotrain.predicting import unlabelled
from mammotrain.predicting.panel import Member, Panel
from mammotrain.predicting.unlabelled import Known
from mammotrain.priors import Prior
from mammotrain.run import SHARDS
from mammotrain.setup import PREDICTED

FORMATS = ("onnx", "torchscript")
FORMAT_VERSION = 1
LIMIT = 1e-4  # largest difference from the model
COMPARED = 16  # pictures
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUTS, OUTPUTS = ["images", "conditions"], ["scores", "logits"]
DEPENDS = (
    "How many steps it takes depends on the picture, as in a DEQ's solver, and the file can hold "
    "only a fixed number."
)
# What stands in FILE.json where the model is not shown the whole picture.
HOW = {
    CROP: (
        "Not the whole picture: each must be the part around a {mask} mask. Take the box around "
        "all that the mask sets, add margin x its height above and below and margin x its width "
        "on the left and on the right, and lengthen the shorter side on both ends until width to "
        "height is as proportions. Move this box into the picture, and cut it where it is larger "
        "than the picture; an empty mask gives the whole picture. Resize the part to size, by "
        "area, or linearly where a side grows. Whole pictures give wrong answers. mammotrain "
        "predict does all this to shards that hold {mask} masks."
    ),
    INTERSECTION: (
        "Not the whole picture: each must be 0 everywhere outside of a {mask} mask, and the "
        "prepared picture inside; then it is resized to size by area. Pictures that are not "
        "masked give wrong answers. mammotrain predict does all this to shards that hold {mask} "
        "masks."
    ),
}
CPU = World(0, 1, torch.device("cpu"))
Answers = tuple[Tensor, Tensor]
Batches = list[tuple[Tensor, ...]]
Runner = Callable[[Sequence[Tensor]], Answers]


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
        run: Folder of a finished run.
        format: ``onnx`` or ``torchscript``.
        out: The file; the same name with ``.json`` added tells how to use it.
        data: Shards whose pictures are compared; empty for ``data/shards/NAME`` of the recipe's
            dataset, or, where there are none, drawn pictures.
    """

    run: Path
    format: str
    out: Path
    data: str = ""


@dataclass(frozen=True)
class Checked:
    """How the file compares with the model.

    Attributes:
        pictures: How many were compared.
        difference: The largest of any probability or logit.
        on: What they were, in words.
    """

    pictures: int
    difference: float
    on: str


class Exported(nn.Module):
    """A model with everything that makes its logits probabilities for the natural prevalence."""

    factor: Tensor

    def __init__(self, model: nn.Module, task: Task, prior: Prior | None) -> None:
        """Join them."""
        super().__init__()
        self.model, self.task = model, task
        if prior is None or not prior.changes:
            factor = torch.ones(len(task.score_names))
        else:
            sampled = torch.tensor(prior.sampled, dtype=torch.float64)
            natural = torch.tensor(prior.natural, dtype=torch.float64)
            factor = torch.where(sampled > 0, natural / sampled.clamp_min(1e-300), 0.0)
        self.register_buffer("factor", factor.float())
        self.changes = prior is not None and prior.changes

    def forward(self, images: Tensor, conditions: Tensor | None = None) -> Answers:
        """Return (B, classes) probabilities, and the model's logits."""
        shown = Shown(images, None, np.zeros(0, np.int64), conditions)
        output = ask(self.model, shown)
        scores = self.task.scores(output, shown)
        if self.changes:
            odds = scores * self.factor
            scores = odds / odds.sum(dim=1, keepdim=True)
        return scores, output.logits.float()


def export(request: Request) -> Checked:
    """Write a run's best weights as one file, and beside it how to use them.

    The file is loaded again and asked about pictures, and kept only when it says the same.

    Raises:
        ConfigError: an option or the run is wrong, a file exists, a package is missing, the model
            cannot be exported in this format, or what was exported says something else.
        DamageError: a damaged checkpoint or shard.
    """
    one_of("--format", request.format, FORMATS)
    if request.format == "onnx":
        _check_packages()
    for path in (request.out, _note(request.out)):
        folder.check_new_file("--out", path)
    panel = panels.open_panel(request.run)
    if len(panel.members) > 1:
        raise ConfigError(
            f"{request.run} is a cv of {len(panel.members)} models. Export one of its runs, such "
            f"as {panel.members[0].run.place}."
        )
    member = panel.members[0]
    task = unlabelled.task_of(member, Known({}, 1, ()))
    model, channels = _model(member, task)
    module = Exported(model, task, member.prior).eval()
    batches, on = _batches(request, panel, task, channels)
    checked = _made(request, module, batches, on)
    _describe(request, panel, checked, batches[0])
    return checked


def _check_packages() -> None:
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(
            f"--format onnx needs {', '.join(missing)}: pip install 'mammoprep[onnx]'. "
            "--format torchscript needs nothing more."
        )


def _model(member: Member, task: Task) -> tuple[nn.Module, int]:
    """Return the model with its best weights on the CPU, and the channels of its pictures."""
    config, (width, height) = member.run.config, _size(member)
    module = plugins.load(configs.MODELS, config.model_name, needs=("Config", "build"))
    for channels in (1, 3):
        made: nn.Module = module.build(
            config.model, channels=channels, outputs=task.outputs, size=(height, width)
        )
        try:
            made.load_state_dict(dict(member.weights))
        except RuntimeError:
            continue
        return made.eval(), channels
    raise ConfigError(f"The weights of {member.run.place} do not fit its recipe's model.")


def _size(member: Member) -> tuple[int, int]:
    """Return (width, height) of the model's input."""
    width, height = member.run.config.data.size or member.about["preparation"]["size"]
    return width, height


def _batches(request: Request, panel: Panel, task: Task, channels: int) -> tuple[Batches, str]:
    """Return batches to compare on, of several sizes, and what they are.

    A blank picture is among them: a model whose steps depend on the picture takes few there.
    """
    member = panel.members[0]
    place = request.data or str(SHARDS / panel.config.dataset)
    if request.data or (SHARDS / panel.config.dataset / "dataset.json").is_file():
        real, on = _samples(member, place), "samples of shards"
    else:
        real, on = _drawn(_size(member), channels), "drawn pictures"
    told = task.conditions(np.zeros(1, np.int64))

    def batch(images: Tensor) -> tuple[Tensor, ...]:
        return (images,) if told is None else (images, told.expand(len(images), -1).contiguous())

    parts = [real[:4], real[4:5], real[5:], torch.zeros_like(real[:2])]
    return [batch(part) for part in parts if len(part)], on


def _samples(member: Member, place: str) -> Tensor:
    """Return the first pictures of a dataset, as the model is shown them."""
    table = setup.open_shards(member.run.config, (place,))
    unlabelled.check_prepared(member, table)
    rows = np.arange(min(COMPARED, len(table)), dtype=np.int64)
    made = unlabelled.asking(member, table, rows, CPU)
    found = [made.shown(batch, None).images for batch in made.loader(rows, training=False).epoch(0)]
    return torch.cat(found)


def _drawn(size: tuple[int, int], channels: int) -> Tensor:
    """Return pictures of (width, height) that nobody has seen: noise of several coarsenesses."""
    width, height = size
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(COMPARED, channels, height, width)
    for side in (4, 16, 64):
        coarse = torch.rand(COMPARED, channels, side, side, generator=generator)
        total += functional.interpolate(coarse, (height, width), mode="bilinear")
    return total / 3


def _made(request: Request, module: Exported, batches: Batches, on: str) -> Checked:
    """Write the file under another name, compare it, and only then give it its own."""
    part = request.out.with_name(f".{request.out.name}.part")
    write = _to_onnx if request.format == "onnx" else _to_script
    try:
        runner, doubt = write(module, batches[0], part)
        difference = max(_difference(module, runner, batch) for batch in batches)
        if not difference <= LIMIT:
            raise ConfigError(
                f"As {request.format} the model says something else: it differs by "
                f"{difference:.2g}, and {LIMIT:g} is allowed. {doubt}"
            )
        part.replace(request.out)
    finally:
        part.unlink(missing_ok=True)
    return Checked(sum(len(batch[0]) for batch in batches), difference, on)


def _difference(module: Exported, runner: Runner, batch: tuple[Tensor, ...]) -> float:
    with torch.no_grad():
        expected = module(*batch)
    worst = 0.0
    for mine, theirs in zip(expected, runner(batch), strict=True):
        gap = (mine - theirs).abs()
        worst = max(worst, float(gap.max()) if bool(gap.isfinite().all()) else float("inf"))
    return worst


def _to_script(module: Exported, example: tuple[Tensor, ...], path: Path) -> tuple[Runner, str]:
    """Write what the model does with one batch; return what reads it again, and a doubt."""
    try:
        with _quiet() as said, torch.no_grad():
            traced: Any = torch.jit.trace(module, example, check_trace=False)
            traced.save(str(path))
            loaded: Any = torch.jit.load(str(path), map_location="cpu")
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"The model cannot be written as TorchScript. {_reason(error)}") from None

    def run(batch: Sequence[Tensor]) -> Answers:
        with torch.no_grad(), _quiet():
            scores, logits = loaded(*batch)
        return scores, logits

    depends = any(issubclass(each.category, TracerWarning) for each in said)
    return run, DEPENDS if depends else ""


def _to_onnx(module: Exported, example: tuple[Tensor, ...], path: Path) -> tuple[Runner, str]:
    """Write the model's graph; return what runs it, and no doubt: what depends is refused."""
    import onnxruntime

    names = INPUTS[: len(example)]
    batch = torch.export.Dim("batch")
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                module,
                example,
                str(path),
                dynamo=True,
                input_names=names,
                output_names=OUTPUTS,
                dynamic_shapes=tuple({0: batch} for _ in example),
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ConfigError(f"The model cannot be written as ONNX. {_reason(error)}") from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    if isinstance(fixed := session.get_inputs()[0].shape[0], int):
        raise ConfigError(
            f"As ONNX the model takes batches of {fixed} only: its code asks for their length. "
            "Try --format torchscript."
        )

    def run(given: Sequence[Tensor]) -> Answers:
        values = {name: each.numpy() for name, each in zip(names, given, strict=True)}
        scores, logits = session.run(OUTPUTS, values)
        return torch.from_numpy(scores), torch.from_numpy(logits)

    return run, ""


def _reason(error: BaseException) -> str:
    """Return why there is no graph, in a line."""
    if "data-dependent" in str(error):
        return f"{DEPENDS} Try --format torchscript."
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {(str(cause).strip() or '-').splitlines()[0]}"


@contextlib.contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Keep to itself what the exporters print, and lend their warnings."""
    dull = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as said,
        contextlib.redirect_stderr(dull),
        contextlib.redirect_stdout(dull),
    ):
        warnings.simplefilter("always")
        yield said


def _note(out: Path) -> Path:
    """Return the file that tells how to use ``out``."""
    return out.with_name(f"{out.name}.json")


def _picture(member: Member) -> dict[str, Any]:
    """Return which part of a prepared picture the model is shown, for programs and for people."""
    shown, (width, height) = member.run.config.data.member, _size(member)
    if shown == IMAGE:
        return {"member": shown, "how": "The whole prepared picture, resized to size."}
    mask = "predicted" if member.about["preparation"].get(PREDICTED) else "true"
    found: dict[str, Any] = {"member": shown, "mask": mask, "how": HOW[shown].format(mask=mask)}
    if shown == CROP:
        found |= {"margin": MARGIN, "proportions": [width, height]}
    return found


def _describe(
    request: Request, panel: Panel, checked: Checked, example: tuple[Tensor, ...]
) -> None:
    """Write how to use the file."""
    member, config = panel.members[0], panel.config
    inputs = [
        {"name": name, "shape": ["batch", *each.shape[1:]], "type": "float32"}
        for name, each in zip(INPUTS, example, strict=False)
    ]
    preparation = {k: v for k, v in member.about["preparation"].items() if k != "label_names"}
    found = {
        "format_version": FORMAT_VERSION,
        "format": request.format,
        "recipe": config.recipe,
        "model": config.model_name,
        "task": config.task_name,
        "inputs": inputs,
        "outputs": OUTPUTS,
        "classes": list(panel.classes),
        "threshold": member.threshold,
        "preparation": preparation,
        "size": list(_size(member)),
        "picture": _picture(member),
        "normalise": member.about["normaliser"],
        "weights_sha256": member.weights_sha256,
        "compared": {
            "pictures": checked.pictures,
            "on": checked.on,
            "largest_difference": checked.difference,
        },
    }
    _note(request.out).write_text(
        json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
