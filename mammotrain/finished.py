"""A finished run's folder -> what is needed to ask its model about other pictures."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mammoprep.core.errors import ConfigError, DamageError
from mammotrain import checkpoint, folder, setup
from mammotrain import config as configs
from mammotrain.checkpoint import Checkpoint
from mammotrain.config import RunConfig
from mammotrain.data.shards import Table
from mammotrain.data.splits import Roles, Side
from mammotrain.distributed import World
from mammotrain.priors import Prior
from mammotrain.report import assemble
from mammotrain.scores import read as read_scores
from mammotrain.setup import Setup
from mammotrain.thresholds import Judged

SIDES = ("fold", "by", "left_out")


@dataclass(frozen=True)
class Finished:
    """A run that was scored.

    Attributes:
        place: Its folder.
        config: Its recipe.
        side: Which samples it left out of training.
        report: The content of report.json.
    """

    place: Path
    config: RunConfig
    side: Side
    report: Mapping[str, Any]

    @property
    def prior(self) -> Prior | None:
        """What its probabilities are corrected by."""
        return assemble.prior_of(self.report)

    @property
    def threshold(self) -> float | None:
        """Its threshold, chosen on its validation samples; None when there is none."""
        found = self.report["threshold"]
        return float(found) if isinstance(found, int | float) else None

    def judged(self) -> Judged:
        """Return its scores with the probabilities and the threshold of its report.

        Raises:
            ConfigError: scores.csv cannot be read.
        """
        judged = Judged(read_scores(self.place / "scores.csv"), None, self.threshold)
        return assemble.corrected(judged, self.prior)


def open_run(place: Path) -> Finished:
    """Read a run's folder.

    Raises:
        ConfigError: it holds no run, or one that was not finished.
    """
    table = folder.read_config(place)
    try:
        report = json.loads((place / "report.json").read_bytes())
    except (OSError, ValueError):
        report = None
    if not table or report is None:
        what = "was not finished: go on with --resume" if table else "holds no run of mammotrain"
        raise ConfigError(f"{place} {what} (no whole config.toml and report.json).")
    told = {name: table.pop(name) for name in SIDES if name in table}
    side = Side(told.get("fold", 0), told.get("by", ""), told.get("left_out", ""))
    return Finished(place, configs.from_table(table["recipe"], table), side, report)


def prepare(run: Finished, table: Table, world: World) -> tuple[Setup, nn.Module]:
    """Return what scores the samples of a table with the run's best weights.

    On the shards that it was trained with it is asked about what it left out; else about every
    sample that has the target.

    Raises:
        ConfigError: it has no checkpoint, or the shards were prepared differently.
        DamageError: it was trained on patients of these shards, or its checkpoint is damaged.
    """
    saved = checkpoint.best(run.place / folder.CHECKPOINTS)
    about = saved.state["about"]
    if about["content"] == table.content:
        roles = setup.prepare(run.config, table, run.side, world).roles
    else:
        roles = setup.labelled(run.config, table)
        _check_new(run, table, roles)
    made = setup.prepare_scoring(run.config, table, roles, about["normaliser"], world)
    setup.check_same_data(about, made)
    return made, _with_weights(made.model(), saved)


def _with_weights(model: nn.Module, saved: Checkpoint) -> nn.Module:
    """Return the model with the weights that are scored: the averaged ones where there are some."""
    model.load_state_dict(dict(saved.weights if saved.average is None else saved.average))
    return model


def _check_new(run: Finished, table: Table, roles: Roles) -> None:
    """Refuse patients that the run has learned from, or chose its threshold on."""
    columns = table.columns
    asked = {
        folder.pair(str(columns["source"][row]), str(columns["group"][row])) for row in roles.score
    }
    if torn := sorted(asked & folder.taught(run.place)):
        source, group = torn[0]
        raise DamageError(
            f"{run.place} was trained or chose its threshold on {len(torn):,} of these groups, "
            f"such as {group!r} of {source}: the scores would be too good. Give the shards that it "
            "was trained with, of which it is asked about the part that it left out, or others."
        )
