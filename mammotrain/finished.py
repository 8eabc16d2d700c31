"""A finished run's folder -> what is needed to ask its model about other pictures."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mammoprep.core.errors import ConfigError, DamageError
from mammotrain import checkpoint, folder, priors, setup
from mammotrain import config as configs
from mammotrain.checkpoint import Checkpoint
from mammotrain.config import RunConfig
from mammotrain.data.shards import Table
from mammotrain.data.splits import Roles, Side
from mammotrain.distributed import World
from mammotrain.levels import LEVELS
from mammotrain.priors import Prior
from mammotrain.report import assemble
from mammotrain.scores import read as read_scores
from mammotrain.setup import Setup
from mammotrain.thresholds import Fixed, Judged

SIDES = ("fold", "by", "left_out")
REPEATS = "repeats"


@dataclass(frozen=True)
class Reported:
    """Scores with a report, of a run, a cv or an eval.

    Attributes:
        place: Their folder.
        report: The content of report.json.
    """

    place: Path
    report: Mapping[str, Any]

    @property
    def prior(self) -> Prior | None:
        """What its probabilities are corrected by."""
        return assemble.prior_of(self.report)

    @property
    def threshold(self) -> Fixed | None:
        """Its threshold, chosen on its validation samples, of a cv by fold; None without any."""
        return _fixed(self.report["threshold"])

    @property
    def thresholds_above(self) -> dict[str, Fixed]:
        """Those of its breasts, exams and patients, where there are any: level -> threshold."""
        told = self.report["levels"]
        found = {n: _fixed((told.get(n) or {}).get("threshold")) for n in LEVELS[1:]}
        return {level: each for level, each in found.items() if each is not None}

    def judged(self) -> Judged:
        """Return its scores with the thresholds of its report.

        Raises:
            ConfigError: scores.csv cannot be read.
        """
        found = read_scores(self.place / "scores.csv")
        if found.raw is None and self.prior is not None:  # of before both columns were written
            found = priors.corrected(found, self.prior)
        reason = str(self.report.get("threshold_reason", ""))
        return Judged(found, None, self.threshold, self.thresholds_above, reason=reason)


def _fixed(found: Any) -> Fixed | None:
    """Return what a report tells of a threshold: a number, numbers by fold, or nothing."""
    if isinstance(found, Mapping):
        return {str(fold): float(each) for fold, each in found.items()}
    return float(found) if isinstance(found, int | float) else None


@dataclass(frozen=True)
class Finished(Reported):
    """A run that was scored.

    Attributes:
        config: Its recipe.
        side: Which samples it left out of training.
        repeats: How often it is a whole cv; 0 for a run or one cv.
    """

    config: RunConfig
    side: Side
    repeats: int = 0

    @property
    def is_cv(self) -> bool:
        """Whether it is several runs, pooled."""
        return bool(self.side.by) and not self.side.value


def open_report(place: Path) -> Reported:
    """Read a folder of scores, whose recipe is not asked for.

    Raises:
        ConfigError: it holds none, or those of a run that was not finished.
    """
    try:
        return Reported(place, json.loads((place / "report.json").read_bytes()))
    except (OSError, ValueError):
        begun = bool(folder.read_config(place))
        raise ConfigError(f"{place} {_why_none(place, begun=begun)}") from None


def open_run(place: Path) -> Finished:
    """Read a run's folder.

    Raises:
        ConfigError: it holds no run, or one that was not finished.
    """
    report = open_report(place).report
    if not (table := folder.read_config(place)):
        raise ConfigError(f"{place} {_why_none(place, begun=False)}")
    told = {name: table.pop(name) for name in SIDES if name in table}
    side = Side(told.get("fold", 0), told.get("by", ""), told.get("left_out", ""))
    repeats = int(table.pop(REPEATS, 0))
    return Finished(place, report, configs.from_table(table["recipe"], table), side, repeats)


def check_single(run: Finished) -> None:
    """Refuse a folder of several cvs where one is asked for; raises ConfigError with their names.

    Their models scored the same samples with other random numbers: the mean of all would be one
    more scale.
    """
    if run.repeats:
        raise ConfigError(
            f"{run.place} holds {run.repeats} repeats of a cv. Give one of them, such as "
            f"{run.place / 'repeat0'}."
        )


def _why_none(place: Path, *, begun: bool) -> str:
    """Return why a folder is no finished run, and what to give instead."""
    if not place.is_dir():
        return "does not exist. Give the folder of a finished run."
    if (place / "study.db").is_file():
        return "is a study of mammotrain tune, whose trials are not scored. Train its best recipe."
    if begun:
        return "was not finished: go on with --resume (no whole config.toml and report.json)."
    if (place / "ablation.json").is_file():
        names = ", ".join(path.name for path in parts_of(place))
        return f"holds several cv (cv --ablate): {names}. Give one of them, such as {place}/full."
    return "holds no run of mammotrain (no whole config.toml and report.json)."


def parts_of(place: Path) -> list[Path]:
    """Return the folders of the runs in a folder, such as those of a cv, sorted."""
    return sorted(path.parent for path in place.glob(f"*/{folder.CONFIG}"))


def check_masks(run: Finished, about: Mapping[str, Any], table: Table) -> None:
    """Refuse shards whose masks are true where the run saw predicted ones, or the other way.

    Args:
        run: Pictures of which were shown by masks, or not.
        about: What its checkpoint remembers of its data.
        table: The samples.

    Raises:
        ConfigError: the masks are others, with where to find such.
    """
    then = about["preparation"].get(setup.PREDICTED)
    now = bool(table.summary.get(setup.PREDICTED))
    if then is None or then == now:
        return
    if now:
        raise ConfigError(
            f"{run.place} was trained on true masks, and those of these shards are predicted. Give "
            "the shards that they were predicted for, or others with true masks."
        )
    nearest = _predicted_for(run.place)
    such = f"{nearest}, or those" if nearest else "those"
    raise ConfigError(
        f"{run.place} was trained on predicted masks, and these shards have none such. Give shards "
        f"with predicted masks: {such} that mammotrain predict --masks writes with the run that "
        "found the masks."
    )


def _predicted_for(place: Path) -> Path | None:
    """Return the shards with predicted masks that a run of two stages has made, if still there."""
    for each in (place, *place.parents[:2]):
        for stage in (each.with_name(f"{each.name}-first"), each / "first-stage"):
            if (stage / "predicted" / "dataset" / "dataset.json").is_file():
                return stage / "predicted" / "dataset"
    return None


def prepare(run: Finished, table: Table, world: World) -> tuple[Setup, nn.Module]:
    """Return what scores the samples of a table with the run's best weights.

    On the shards that it was trained with it is asked about what it left out; else about every
    sample that has the target.

    Raises:
        ConfigError: it is a cv, has no checkpoint, or the shards were prepared differently.
        DamageError: it was trained on patients of these shards, or its checkpoint is damaged.
    """
    check_single(run)
    if run.is_cv:
        parts = parts_of(run.place)
        one = f", such as {parts[0]}" if parts else ""
        raise ConfigError(
            f"{run.place} is a cv of {len(parts)} models. Score with one of its runs{one}; "
            "mammotrain predict asks all of them and averages what they say."
        )
    saved = checkpoint.best(run.place / folder.CHECKPOINTS)
    about = saved.state["about"]
    check_masks(run, about, table)
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
