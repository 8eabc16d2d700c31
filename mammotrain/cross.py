"""Every fold, machine or site left out in turn: one run each, their scores pooled."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import base_split
from mammotrain import (
    distributed,
    evaluate,
    folder,
    interruption,
    levels,
    measures,
    rehearsal,
    same_pictures,
    scores,
    screening,
    setup,
    slices,
)
from mammotrain.data import splits
from mammotrain.data.shards import Table
from mammotrain.data.splits import Side
from mammotrain.distributed import World
from mammotrain.evaluate import Scored, Terms
from mammotrain.report import assemble
from mammotrain.run import SCORING, Outcome, Request, find_data, run_in
from mammotrain.scores import Scores
from mammotrain.screening import Asked
from mammotrain.thresholds import Judged
from mammotrain.watching import Watcher

IMAGE = levels.LEVELS[0]


@dataclass(frozen=True)
class _Part:
    """What one run adds to the pool: its scores, its own thresholds, its own correction."""

    scored: Scored
    others: Mapping[str, Scores | str]
    report: Mapping[str, Any]

    def threshold(self, level: str = IMAGE) -> Any:
        """Return the threshold that this run's own validation samples chose; None without."""
        found = self.report if level == IMAGE else self.report["levels"][level]
        return found.get("threshold")


def cross(request: Request, watcher: Watcher) -> dict[str, Any]:
    """Train and score every part in turn; return the content of the pooled report.json.

    Each sample is scored by the one model that saw neither it nor its patient. Models have no
    common scale: threshold and correction are each fold's own, by its own validation samples, and
    ranks are compared within folds only. An official test set is scored by every run, in its own
    report, and not pooled.

    Args:
        request: What to run; of ``side`` only ``by`` counts.
        watcher: Is told.

    Raises:
        ConfigError: fewer than three folds, or the samples do not tell machines or sites apart.
        MammoError: as ``run`` does; with ``resume`` finished parts are not trained again.
    """
    with distributed.joined(request.device) as world:
        return cross_in(request, watcher, world)


def cross_in(request: Request, watcher: Watcher, world: World) -> dict[str, Any]:
    """Do what ``cross`` does, as one of the processes that train together."""
    if not world.leads:
        return _cross(request, Watcher(), world)
    with folder.held(request.out, resume=request.resume):
        return _cross(request, watcher, world)


def _cross(request: Request, watcher: Watcher, world: World) -> dict[str, Any]:
    data = find_data(request, watcher) if world.leads else ()
    request = replace(request, data=distributed.gathered(data, world)[0])
    by = request.side.by
    table = setup.open_shards(request.config, request.data)
    sides = check(request, table, world)
    each = (setup.prepare(request.config, table, side, world) for side in sides)
    same_pictures.guard_all(each, request.cache or request.out / "cache", watcher)
    if world.leads:
        told = {**request.config.to_table(), "by": by or "fold"}
        folder.write_config(request.out, told, resume=request.resume)
    parts: dict[str, _Part] = {}
    for number, side in enumerate(sides):
        watcher.warn(f"Leaving out {side.name}: {number + 1} of {len(sides)}.")
        outcome = run_in(_one(request, side, number), watcher, world)
        with interruption.ending(SCORING):
            parts[side.name] = _part(outcome, side)
    with interruption.ending(SCORING):
        return _pool(request, parts, outcome, world)


def _pool(
    request: Request, parts: Mapping[str, _Part], outcome: Outcome, world: World
) -> dict[str, Any]:
    """Write what all parts come to; ``outcome`` is that of any of them."""
    by = request.side.by
    pooled = _pooled(parts)
    specificity = outcome.setup.task.specificity
    others = {kind: _baseline(parts, kind) for kind in evaluate.kinds(outcome.setup)}
    prior = {name: assemble.prior_of(part.report) for name, part in parts.items()}
    upper = {level: _thresholds(parts, level) for level in levels.LEVELS[1:]}
    above = {level: found for level, found in upper.items() if found}
    own = _thresholds(parts)
    judged = Judged(pooled.scores, None, own, above, specificity, "" if own else _undecided(parts))
    split = f"cv by {by}" if by else "cv"
    chosen = screening.chosen_by_folds({name: part.report for name, part in parts.items()})
    terms = Terms(split, prior, Asked(request.prevalence, chosen))
    found = evaluate.summed_up(outcome.setup, judged, pooled.measures, others, terms)
    if world.leads:
        evaluate.write(request.out, found, pooled, [], outcome.setup)
    distributed.wait(world)
    return found


def _thresholds(parts: Mapping[str, _Part], level: str = IMAGE) -> dict[str, float] | None:
    """Return each fold's own threshold; None where one has none, so that nothing is decided."""
    found = {name: part.threshold(level) for name, part in parts.items()}
    return None if any(each is None for each in found.values()) else found


def _undecided(parts: Mapping[str, _Part]) -> str:
    """Return why there is no threshold, by the first fold without one."""
    without = [name for name, part in parts.items() if part.threshold() is None]
    reasons = [str(parts[name].report.get("threshold_reason", "")) for name in without]
    return f"{without[0]}: {reasons[0]}" if without else ""


def check(request: Request, table: Table, world: World) -> list[Side]:
    """Look at every part before any is trained; return what is left out in turn.

    Raises:
        ConfigError: as ``cross`` does, with all parts that cannot be left out; or as
            ``rehearsal.rehearse`` does.
        DamageError: a group is on two sides.
    """
    with rehearsal.naming_sources(request.config, table):
        sides = _checked(request, table, world)
    rehearsal.rehearse(request.config, table, sides[0], world)
    return sides


def _checked(request: Request, table: Table, world: World) -> list[Side]:
    """Return what is left out in turn, if all of it can be; raises ConfigError."""
    sides, wrong = list(_sides(request, table)), dict[str, str]()
    for side in sides:
        try:
            rehearsal.samples(request.config, table, side, world)
        except ConfigError as error:
            wrong[side.name] = str(error).removeprefix(f"{side.name}: ")
    if len(wrong) == len(sides) and len(set(wrong.values())) == 1:
        raise ConfigError(wrong[sides[0].name])
    if wrong:
        told = " ".join(f"{name}: {text}" for name, text in wrong.items())
        raise ConfigError(f"{len(wrong)} of {len(sides)} parts cannot be left out. {told}")
    return sides


def _sides(request: Request, table: Table) -> Iterator[Side]:
    """Yield what is left out in turn; a machine of an official test set alone is not."""
    by, columns = request.side.by, table.columns
    if by:
        parts = slices.parts_by(columns, by)
        base = np.array([base_split(str(split)) for split in columns["split"]])
        known = np.flatnonzero((parts != "") & (base != "test"))
        yield from (Side(by=by, value=value) for value in slices.ordered(parts[known]))
        return
    told = setup.known_of(request.config, table)
    # where nobody has the target all folds are looked at, and what is said is that
    folds = splits.folds_of(told) or splits.folds_of({**told, "label": [0] * len(table)})
    if not folds:
        found = sorted({base_split(str(split)) for split in columns["split"]})
        raise ConfigError(
            f"There are no folds, only {', '.join(found)}. mammotrain run scores an "
            "official test set; mammoprep split DIR --folds 5 --out NEW makes folds, without "
            "decoding."
        )
    yield from (Side(fold) for fold in folds)


def _one(request: Request, side: Side, number: int) -> Request:
    """Return the run that leaves out one part; a part's name never becomes a path."""
    out = request.out / (f"{side.by}{number}" if side.by else side.name)
    resume = request.resume and out.exists()
    return replace(
        request, side=side, out=out, resume=resume, cache=request.cache or request.out / "cache"
    )


def _part(outcome: Outcome, side: Side) -> _Part:
    """Return what was left out; official test sets have tables of their own, which no cv pools."""
    made, told = outcome.setup, outcome.tables[side.name]
    kinds = evaluate.kinds(made)
    others = {kind: evaluate.baseline(made, kind, told.scored.scores) for kind in kinds}
    return _Part(told.scored, others, told.report)


def _pooled(parts: Mapping[str, _Part]) -> Scored:
    """Return what all parts say, sorted by key."""
    joined = scores.join({name: part.scored.scores for name, part in parts.items()})
    keys = np.concatenate([part.scored.scores.key for part in parts.values()])
    order = np.argsort(keys, kind="stable")
    measured = measures.join([part.scored.measures for part in parts.values()], order)
    drawn = {k: each for part in parts.values() for k, each in part.scored.outlines.items()}
    return Scored(joined, 0.0, {}, measured, drawn)


def _baseline(parts: Mapping[str, _Part], kind: str) -> Judged | str:
    found = {name: part.others[kind] for name, part in parts.items()}
    for name, each in found.items():
        if isinstance(each, str):
            return f"{name}: {each}"
    joined = scores.join({n: s for n, s in found.items() if isinstance(s, Scores)})
    told = {name: part.report["baselines"].get(kind) or {} for name, part in parts.items()}
    own = {name: each["threshold"] for name, each in told.items() if each.get("threshold")}
    return Judged(joined, fixed=own if len(own) == len(told) else None)
