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
    measures,
    rehearsal,
    scores,
    setup,
    slices,
)
from mammotrain.data.shards import Table
from mammotrain.data.splits import Side
from mammotrain.distributed import World
from mammotrain.evaluate import Scored
from mammotrain.priors import Prior
from mammotrain.run import SCORING, Outcome, Request, find_data, run_in
from mammotrain.scores import Scores
from mammotrain.thresholds import Judged
from mammotrain.watching import Watcher


@dataclass(frozen=True)
class _Part:
    """What one run adds to the pool."""

    scored: Scored
    others: Mapping[str, Scores | str]
    prior: Prior


def cross(request: Request, watcher: Watcher) -> dict[str, Any]:
    """Train and score every part in turn; return the content of the pooled report.json.

    Each sample is scored by the one model that saw neither it nor its patient; the threshold for a
    part is chosen on the scores of the others. Samples of an official test set are left to ``run``.

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
    sides = check(request, setup.open_shards(request.config, request.data), world)
    if world.leads:
        table = {**request.config.to_table(), "by": by or "fold"}
        folder.write_config(request.out, table, resume=request.resume)
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
    others = {kind: _baseline(parts, kind, specificity) for kind in evaluate.kinds(outcome.setup)}
    prior = _mean([part.prior for part in parts.values()])
    judged = Judged(pooled.scores, specificity=specificity)
    split = f"cv by {by}" if by else "cv"
    found = evaluate.summed_up(outcome.setup, judged, pooled.measures, others, prior, split=split)
    if world.leads:
        evaluate.write(request.out, found, pooled, [], outcome.setup)
    distributed.wait(world)
    return found


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
    """Yield what is left out in turn."""
    by, columns = request.side.by, table.columns
    if by:
        parts = slices.parts_by(columns, by)
        known = np.flatnonzero(parts != "")
        yield from (Side(by=by, value=value) for value in slices.ordered(parts[known]))
        return
    folds = {base_split(str(split)) for split in columns["split"]}
    count = sum(split.startswith("fold") for split in folds)
    if not count:
        raise ConfigError(
            f"There are no folds, only {', '.join(sorted(folds))}. mammotrain run scores an "
            "official test set; mammoprep split DIR --folds 5 --out NEW makes folds, without "
            "decoding."
        )
    yield from (Side(fold) for fold in range(count))


def _one(request: Request, side: Side, number: int) -> Request:
    """Return the run that leaves out one part; a part's name never becomes a path."""
    out = request.out / (f"{side.by}{number}" if side.by else side.name)
    resume = request.resume and out.exists()
    return replace(
        request, side=side, out=out, resume=resume, cache=request.cache or request.out / "cache"
    )


def _part(outcome: Outcome, side: Side) -> _Part:
    made, scored = outcome.setup, outcome.scored
    if not side.by:  # official test samples are scored by every fold's run, and pooled by none
        rows = evaluate.rows_of(made, scored.scores)
        kept = np.array([made.columns["split"][row] != "test" for row in rows], bool)
        measured = {name: pair[kept] for name, pair in scored.measures.items()}
        scored = replace(scored, scores=scored.scores.take(kept), measures=measured)
    others = {kind: evaluate.baseline(made, kind, scored.scores) for kind in evaluate.kinds(made)}
    return _Part(scored, others, evaluate.prior_of(made))


def _pooled(parts: Mapping[str, _Part]) -> Scored:
    """Return what all parts say, sorted by key."""
    joined = scores.join({name: part.scored.scores for name, part in parts.items()})
    keys = np.concatenate([part.scored.scores.key for part in parts.values()])
    order = np.argsort(keys, kind="stable")
    measured = measures.join([part.scored.measures for part in parts.values()], order)
    drawn = {k: each for part in parts.values() for k, each in part.scored.outlines.items()}
    return Scored(joined, 0.0, {}, measured, drawn)


def _baseline(parts: Mapping[str, _Part], kind: str, specificity: float | None) -> Judged | str:
    found = {name: part.others[kind] for name, part in parts.items()}
    for name, each in found.items():
        if isinstance(each, str):
            return f"{name}: {each}"
    joined = scores.join({n: s for n, s in found.items() if isinstance(s, Scores)})
    return Judged(joined, specificity=specificity)


def _mean(priors: list[Prior]) -> Prior:
    """Return the mean prevalences: folds are stratified, so that theirs hardly differ."""
    sampled = np.mean([prior.sampled for prior in priors], axis=0)
    natural = np.mean([prior.natural for prior in priors], axis=0)
    return Prior(tuple(sampled.tolist()), tuple(natural.tolist()))
