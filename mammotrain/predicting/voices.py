"""Pictures -> what the models say of them, together; flipped too, where that is asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mammotrain import priors
from mammotrain.checks import one_of
from mammotrain.contracts import Batch, Output, Shown, Task, ask
from mammotrain.data.shards import Table
from mammotrain.distributed import World
from mammotrain.nn import cam
from mammotrain.predicting import unlabelled
from mammotrain.predicting.panel import Panel
from mammotrain.setup import Setup

ACROSS, DOWN = 3, 2  # axes of (B, C, H, W) that a flip turns round
VIEWS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (ACROSS,)),
    "vertical": ((), (DOWN,)),
    "flip": ((), (ACROSS,), (DOWN,), (DOWN, ACROSS)),
}
MASK, HEAT, ERROR = "mask", "grad-cam", "error"
Bools = NDArray[np.bool_]
Grid = tuple[int, int]  # rows, columns


@dataclass(frozen=True)
class Said:
    """What was said of a batch.

    Attributes:
        setup: Whose table the rows are of.
        rows: (n,) places in the table.
        raw: (n, classes) float64 probabilities as the models gave them, the mean of those asked.
        values: The same, each model's corrected for the prevalence before; ``raw`` where none is.
        asked: (n, members) who was asked.
        images: (n, C, h, w) the pictures, integers as stored.
        maps: (n, h, w) float32, 0 or more, on the same grid; None when there are none.
        kind: What the maps are: ``mask``, ``grad-cam``, ``error``, or empty.
        grid: (rows, columns) of cells that a heat map was made of; None for other maps.
    """

    setup: Setup
    rows: NDArray[np.int64]
    raw: NDArray[np.float64]
    values: NDArray[np.float64]
    asked: Bools
    images: Tensor
    maps: NDArray[np.float32] | None
    kind: str
    grid: Grid | None = None


class Voices:
    """A panel that answers; each model is made when it is first asked."""

    def __init__(self, panel: Panel, tta: str, world: World, *, maps: bool) -> None:
        """Take the panel.

        Args:
            panel: Who is asked.
            tta: Name in ``VIEWS``.
            world: Where to compute.
            maps: Whether Grad-CAM is wanted; masks and errors cost nothing.

        Raises:
            ConfigError: another name.
        """
        one_of("--tta", tta, VIEWS)
        self._panel, self._views, self._world, self._wants = panel, VIEWS[tta], world, maps
        self._models: dict[int, nn.Module] = {}

    def answers(self, table: Table, rows: NDArray[np.int64], asked: Bools) -> Iterator[Said]:
        """Yield what is said of samples of a table, batch by batch.

        Args:
            table: The samples.
            rows: Which of them.
            asked: (table, members) who is asked about each; somebody, for all ``rows``.
        """
        members = self._panel.members
        setups = [unlabelled.asking(member, table, rows, self._world) for member in members]
        for batch in setups[0].loader(rows, training=False).epoch(0):
            yield self._answer(setups, batch, asked[batch.rows])

    def _answer(self, setups: Sequence[Setup], batch: Batch, asked: Bools) -> Said:
        count = len(batch.rows)
        raw = np.zeros((count, len(self._panel.classes)))
        values = np.zeros_like(raw)
        maps = np.zeros((count, *_input_grid(setups[0], batch)), np.float32)
        kind, grid = "", None
        for place, setup in enumerate(setups):
            mine = np.flatnonzero(asked[:, place])
            if not mine.size:
                continue
            keys = tuple(batch.keys[i] for i in mine)
            part = Batch(batch.images[torch.from_numpy(mine)], None, batch.rows[mine], keys)
            scores, found, kind, grid = self._one(setup, self._model(place, setup), part)
            raw[mine] += scores
            prior = self._panel.members[place].prior
            values[mine] += scores if prior is None else priors.correct(scores, prior)
            if found is not None:
                maps[mine] += found
        many = asked.sum(axis=1)
        raw, values = raw / many[:, None], values / many[:, None]
        maps /= many[:, None, None].astype(np.float32)
        found_maps = maps if kind else None
        return Said(setups[0], batch.rows, raw, values, asked, batch.images, found_maps, kind, grid)

    def _model(self, place: int, setup: Setup) -> nn.Module:
        if place not in self._models:
            self._models[place] = unlabelled.live(self._panel.members[place], setup)
        return self._models[place]

    def _one(
        self, setup: Setup, model: nn.Module, batch: Batch
    ) -> tuple[NDArray[np.float64], NDArray[np.float32] | None, str, Grid | None]:
        """Return the means over the views: scores, maps turned back, what these are, their grid."""
        shown = setup.shown(batch, None)
        scores, maps, kind, grid = torch.zeros(()), torch.zeros(()), "", None
        for axes in self._views:
            turned = replace(shown, images=shown.images.flip(axes)) if axes else shown
            with setup.autocast():
                output, found, kind, grid = _look(model, setup.task, turned, heat=self._wants)
            scores = scores + setup.task.scores(output, turned).double().cpu()
            if found is not None:
                maps = maps + (found.flip(axes) if axes else found).float().cpu()
        mean = maps / len(self._views)
        return (
            (scores / len(self._views)).numpy(),
            mean[:, 0].numpy().astype(np.float32) if kind else None,
            kind,
            grid,
        )


def _input_grid(setup: Setup, batch: Batch) -> Grid:
    """Return (rows, columns) of the model's input."""
    if setup.size is not None:
        return setup.size[1], setup.size[0]
    rows, columns = batch.images.shape[-2:]
    return rows, columns


def _look(
    model: nn.Module, task: Task, shown: Shown, *, heat: bool
) -> tuple[Output, Tensor | None, str, Grid | None]:
    """Return what a model says of a batch, a map (B, 1, H, W) of it, what that is, and its grid."""
    if heat and cam.offers(model):
        with _grids(model) as seen:
            output, found = cam.grad_cam(model, shown, lambda output: speaks(task, output))
        return output, found, HEAT, seen[-1]
    with torch.no_grad():
        output = ask(model, shown)
        if output.logits.ndim != 4:
            return output, None, "", None
        if (error_map := getattr(task, "error_map", None)) is not None:
            return output, error_map(output, shown), ERROR, None
        return output, _sized(output.logits[:, :1].float().sigmoid(), shown), MASK, None


@contextmanager
def _grids(model: nn.Module) -> Iterator[list[Grid]]:
    """Lend (rows, columns) of the cells that Grad-CAM sees, one entry a look."""
    any_model: Any = model
    seen: list[Grid] = []

    def note(_module: nn.Module, _given: object, found: Tensor) -> None:
        rows, columns = any_model.cam_grid(found.detach()).shape[-2:]
        seen.append((rows, columns))

    handle = any_model.cam_layer.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def _sized(maps: Tensor, shown: Shown) -> Tensor:
    """Return maps on the grid of the pictures."""
    size = shown.images.shape[-2:]
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


def speaks(task: Task, output: Output) -> Tensor:
    """Return what speaks for the class that pictures are searched for, (B,).

    Of two classes that is the second, by the first logit; of more the most probable one.
    """
    logits = output.logits.float()
    if len(task.score_names) == 2:
        return logits[:, 0]
    return logits.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]
