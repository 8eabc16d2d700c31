"""RUN -> the models that are asked: one of a run, or one a fold of a cv, and who may be asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammotrain import checkpoint, finished, folder
from mammotrain.checkpoint import Checkpoint, Tensors
from mammotrain.config import RunConfig
from mammotrain.finished import Finished
from mammotrain.folder import Group
from mammotrain.priors import Prior
from mammotrain.thresholds import NOBODY

MEAN_OF = "the mean of {} models is a scale of its own, on which no threshold was chosen"
HOW_TO_CHOOSE = (
    "Choose one on scores.csv of labelled samples that none of them has learned from, and give it "
    "with --threshold"
)


@dataclass(frozen=True)
class Member:
    """One model.

    Attributes:
        run: Its run.
        saved: Its best checkpoint.
        taught: Groups that it has learned from, or chose its threshold on.
        threshold: Where its probability becomes a decision; None when there is none.
    """

    run: Finished
    saved: Checkpoint
    taught: frozenset[Group]
    threshold: float | None

    @property
    def name(self) -> str:
        """What it left out, such as ``fold0``."""
        return self.run.side.name

    @property
    def prior(self) -> Prior | None:
        """What its probabilities are corrected by; None where sampling changed no prevalence."""
        found = self.run.prior
        return found if found is not None and found.changes else None

    @property
    def why_undecided(self) -> str:
        """Why it has no threshold."""
        return str(self.run.report.get("threshold_reason") or NOBODY)

    @property
    def weights(self) -> Tensors:
        """What is scored: the averaged weights where there are some."""
        return self.saved.weights if self.saved.average is None else self.saved.average

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of ``weights``."""
        digest = sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.contiguous().view(-1).numpy().tobytes())
        return digest.hexdigest()

    @property
    def about(self) -> Mapping[str, Any]:
        """What its checkpoint remembers of its data."""
        found: Mapping[str, Any] = self.saved.state["about"]
        return found


@dataclass(frozen=True)
class Decides:
    """How a sample of two classes is decided; of more the most probable is said.

    Attributes:
        threshold: From which probability on the second class is said; None where none is needed,
            or there is none.
        reason: Why there is none, or an empty text.
    """

    threshold: float | None
    reason: str = ""


@dataclass(frozen=True)
class Panel:
    """All that are asked; they share recipe, preparation and classes.

    Attributes:
        place: RUN.
        members: One or several.
    """

    place: Path
    members: tuple[Member, ...]

    @property
    def config(self) -> RunConfig:
        """The recipe."""
        return self.members[0].run.config

    @property
    def about(self) -> Mapping[str, Any]:
        """What the first checkpoint remembers of its data; the others remember the same."""
        return self.members[0].about

    @property
    def classes(self) -> tuple[str, ...]:
        """What scores are given for."""
        return tuple(self.about["score_names"])

    @property
    def corrects(self) -> bool:
        """Whether any of them is corrected for the prevalence."""
        return any(member.prior is not None for member in self.members)

    def may_ask(self, columns: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return which member knows nothing of which sample's group, (samples, members)."""
        pairs = folder.pairs(columns)
        return np.array([[pair not in m.taught for m in self.members] for pair in pairs], bool)

    def decides(self, asked: NDArray[np.bool_], stated: float | None) -> Decides:
        """Return how a sample is decided, by who was asked about it, bool (members,).

        A model has its own threshold. The mean of several is a scale of its own: the mean of their
        thresholds is none that anybody chose on it.

        Args:
            asked: Somebody.
            stated: A threshold that the user gives; None for the models' own.
        """
        if len(self.classes) > 2:
            return Decides(None)
        if stated is not None:
            return Decides(stated)
        if asked.sum() > 1:
            return Decides(None, f"{MEAN_OF.format(int(asked.sum()))}. {HOW_TO_CHOOSE}")
        (one,) = (member for member, yes in zip(self.members, asked, strict=True) if yes)
        if one.threshold is not None:
            return Decides(one.threshold)
        name = f"{one.name}: " if len(self.members) > 1 else ""
        return Decides(None, f"{name}the run has no threshold ({one.why_undecided})")


def open_panel(place: Path) -> Panel:
    """Return the models of a run's folder, or of a cv's.

    Raises:
        ConfigError: it holds neither, or is not finished.
        DamageError: a checkpoint is damaged.
    """
    run = finished.open_run(place)
    finished.check_single(run)
    if not run.is_cv:
        return Panel(place, (_member(run),))
    runs = [finished.open_run(path) for path in finished.parts_of(place)]
    parts = [
        each for each in runs if each.side.by == ("" if run.side.by == "fold" else run.side.by)
    ]
    if not parts:
        raise ConfigError(f"{place} is a cv without the runs of its parts: none is left to ask.")
    return Panel(place, tuple(_member(each) for each in parts))


def _member(run: Finished) -> Member:
    """Return a run's model: its threshold and its prior are those of its own validation."""
    threshold = None if isinstance(run.threshold, Mapping) else run.threshold
    saved = checkpoint.best(run.place / folder.CHECKPOINTS)
    return Member(run, saved, folder.taught(run.place), threshold)
