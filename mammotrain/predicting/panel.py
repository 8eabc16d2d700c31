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
class Panel:
    """All that are asked; they share recipe, preparation and classes.

    Attributes:
        place: RUN.
        members: One or several.
        prior: What their probabilities are corrected by.
    """

    place: Path
    members: tuple[Member, ...]
    prior: Prior | None

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

    def may_ask(self, columns: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return which member knows nothing of which sample's group, (samples, members)."""
        sources, groups = columns["source"], columns["group"]
        pairs = [folder.pair(str(s), str(g)) for s, g in zip(sources, groups, strict=True)]
        return np.array([[pair not in m.taught for m in self.members] for pair in pairs], bool)

    def thresholds(self, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the mean threshold of those asked about each sample, (n,); NaN for none.

        Args:
            asked: (n, members) who was asked.
        """
        each = np.array([np.nan if m.threshold is None else m.threshold for m in self.members])
        found = np.where(asked, each, 0.0).sum(axis=1) / np.maximum(asked.sum(axis=1), 1)
        return np.asarray(found, np.float64)


def open_panel(place: Path) -> Panel:
    """Return the models of a run's folder, or of a cv's.

    Raises:
        ConfigError: it holds neither, or is not finished.
        DamageError: a checkpoint is damaged.
    """
    run = finished.open_run(place)
    finished.check_single(run)
    if not run.is_cv:
        alone = None if isinstance(run.threshold, Mapping) else run.threshold
        return Panel(place, (_member(run, alone),), run.prior)
    thresholds = run.report["threshold"] or {}
    runs = [finished.open_run(path) for path in finished.parts_of(place)]
    parts = [
        each for each in runs if each.side.by == ("" if run.side.by == "fold" else run.side.by)
    ]
    if not parts:
        raise ConfigError(f"{place} is a cv without the runs of its parts: none is left to ask.")
    members = tuple(_member(each, thresholds.get(each.side.name)) for each in parts)
    return Panel(place, members, run.prior)


def _member(run: Finished, threshold: float | None) -> Member:
    saved = checkpoint.best(run.place / folder.CHECKPOINTS)
    return Member(run, saved, folder.taught(run.place), threshold)
