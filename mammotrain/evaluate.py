"""A model and samples -> scores; scores -> report.json and report.html."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mammotrain import (
    baselines,
    collapse,
    distributed,
    folder,
    levels,
    measures,
    priors,
    scores,
    slices,
    trainer,
)
from mammotrain.contracts import Draws, Output, Shown, Weighs
from mammotrain.outlines import Outlines
from mammotrain.priors import Prior, of_labels
from mammotrain.report import assemble as reports
from mammotrain.report import page, written_tables
from mammotrain.report.assemble import Priors
from mammotrain.report.segmentation import Masks
from mammotrain.scores import Scores
from mammotrain.screening import Asked
from mammotrain.setup import Setup, described
from mammotrain.thresholds import Judged

Rows = NDArray[np.int64]
Measured = Mapping[str, NDArray[np.float64]]
LOSS, NATURAL = "loss", "natural"


@dataclass(frozen=True)
class Scored:
    """What a model came to on some samples.

    Attributes:
        scores: One row a sample.
        loss: Mean of all.
        stats: Mean of everything that the model tells of a sample, such as solver steps.
        measures: Name -> (n, 2), a row a sample, in the order of ``scores``; see ``Task.measures``.
        outlines: Key -> what is drawn on the sample's picture, where that was asked for and the
            task has ``outlines``.
    """

    scores: Scores
    loss: float
    stats: Mapping[str, float]
    measures: Measured
    outlines: Mapping[str, Outlines] = field(default_factory=dict)


def score(setup: Setup, model: nn.Module, rows: Rows, *, draw: bool = False) -> Scored:
    """Return what the model says of some samples; every rank gets all of it.

    Args:
        setup: Whose table the samples are of.
        model: On its device.
        rows: Places in the table.
        draw: Whether outlines are wanted; at a validation nobody looks at them.
    """
    names = setup.task.score_names
    places, values = [np.zeros(0, np.int64)], [np.zeros((0, len(names)))]
    sums: defaultdict[str, float] = defaultdict(float)
    found: defaultdict[str, list[NDArray[np.float64]]] = defaultdict(list)
    drawn: dict[str, Outlines] = {}
    for shown, output in trainer.predict(model, setup.plain(rows), setup.autocast):
        places.append(shown.rows)
        values.append(setup.task.scores(output, shown).float().cpu().numpy())
        for name, value in _sums(setup, shown, output).items():
            sums[name] += value
        for name, pair in setup.task.measures(output, shown).items():
            found[name].append(pair.double().cpu().numpy())
        if draw:
            drawn |= _outlines(setup, shown, output)
    measured = {name: np.concatenate(each) for name, each in found.items()}
    mine = np.concatenate(places), np.concatenate(values), dict(sums), measured, drawn
    return _joined(setup, distributed.gathered(mine, setup.world))


def tables_of(setup: Setup, model: nn.Module, prior: Prior | None) -> Iterator[tuple[str, Scored]]:
    """Yield what the model says of every table that is scored, the headline first, corrected."""
    for name, rows in setup.roles.tables.items():
        found = score(setup, model, rows, draw=True)
        yield name, replace(found, scores=priors.corrected(found.scores, prior))


def _joined(setup: Setup, parts: Sequence[tuple[Any, ...]]) -> Scored:
    """Return what all ranks found, in the order of the table."""
    rows = np.concatenate([part[0] for part in parts])
    order = np.argsort(rows, kind="stable")
    rows, values = rows[order], np.concatenate([part[1] for part in parts])[order]
    summed = sorted({name for part in parts for name in part[2]})
    means = {name: sum(part[2].get(name, 0.0) for part in parts) / len(rows) for name in summed}
    measured = measures.join([part[3] for part in parts], order)
    labels, names = setup.task.classes[rows], setup.task.score_names
    made = scores.from_columns(setup.columns, rows, labels, values.astype(np.float64), names)
    drawn = {key: each for part in parts for key, each in part[4].items()}
    return Scored(made, means.pop(LOSS, 0.0), means, measured, drawn)


def _outlines(setup: Setup, shown: Shown, output: Output) -> dict[str, Outlines]:
    """Return key -> what is drawn on a picture; nothing for a task without outlines."""
    if not isinstance(setup.task, Draws):
        return {}
    keys = (str(setup.table.keys[row]) for row in shown.rows)
    return dict(zip(keys, setup.task.outlines(output, shown), strict=True))


def _sums(setup: Setup, shown: Shown, output: Output) -> dict[str, float]:
    """Return the loss and the statistics of a batch, summed over its samples."""
    loss = setup.task.loss(output, setup.task.targets(shown))
    told = {LOSS: loss, **output.stats}
    means = {name: float(value.detach().float().mean()) for name, value in told.items()}
    return {name: mean * len(shown) for name, mean in means.items() if isfinite(mean)}


def none_of(setup: Setup) -> Scores:
    """Return a table of no samples, for what does not validate."""
    names = setup.task.score_names
    nobody, nothing = np.zeros(0, np.int64), np.zeros((0, len(names)))
    return scores.from_columns(setup.columns, nobody, nobody, nothing, names)


def rows_of(setup: Setup, found: Scores) -> Rows:
    """Return the places in the table of scored samples."""
    return np.array([setup.places[key] for key in found.key], np.int64)


def prior_of(setup: Setup) -> Prior | None:
    """Return how often training sees each class, and how often it is in the training split.

    None where the loss gives no probabilities that could be corrected; see ``priors.allowed``.
    """
    if priors.allowed(setup.task):
        return None
    seen = setup.task.classes[setup.loader(setup.taught, training=True).taught(0)]
    copies = np.array([bool(v) for v in setup.columns["augmented"]], bool)
    natural = setup.task.classes[setup.taught[~copies[setup.taught]]]
    counted = setup.task.weights.double().numpy() if isinstance(setup.task, Weighs) else None
    return of_labels(seen, natural, len(setup.task.score_names), counted)


@dataclass(frozen=True)
class Terms:
    """How scores are summed up.

    Attributes:
        split: Which samples these are, in words.
        prior: What probabilities were corrected by; of a cv each fold's own.
        asked: What is asked of operating points and calibration.
    """

    split: str
    prior: Priors = None
    asked: Asked = Asked()  # noqa: RUF009 - frozen


def report(setup: Setup, scored: Scored, validation: Scores, terms: Terms) -> dict[str, Any]:
    """Return the content of report.json: the model beside the baselines.

    Args:
        setup: Whose table the samples are of.
        scored: What is scored, corrected.
        validation: What chooses the threshold, corrected.
        terms: How it is summed up.
    """
    others: dict[str, Judged | str] = {}
    specificity, reason = setup.task.specificity, setup.roles.fixed
    for kind in kinds(setup):
        mine, theirs = (baseline(setup, kind, part) for part in (scored.scores, validation))
        if isinstance(mine, str) or isinstance(theirs, str):
            others[kind] = str(mine if isinstance(mine, str) else theirs)
        else:
            others[kind] = Judged(mine, theirs, specificity=specificity, reason=reason)
    judged = Judged(scored.scores, validation, specificity=specificity, reason=reason)
    return summed_up(setup, judged, scored.measures, others, terms)


def kinds(setup: Setup) -> tuple[str, ...]:
    """Return which baselines a run is beside: that of masks only where these are looked at."""
    return (*baselines.KINDS, baselines.MASK) if setup.masks_shown else baselines.KINDS


def baseline(setup: Setup, kind: str, asked: Scores) -> Scores | str:
    """Return what a baseline says of the same samples, or why there is none."""
    if not len(asked):
        return asked
    classes = len(setup.task.score_names)
    found = baselines.predict(
        kind, setup.columns, setup.task.classes, setup.roles.train, rows_of(setup, asked), classes
    )
    return found.reason if found.values is None else asked.with_values(found.values)


def summed_up(
    setup: Setup,
    judged: Judged,
    measured: Measured,
    others: Mapping[str, Judged | str],
    terms: Terms,
) -> dict[str, Any]:
    """Return the content of report.json: every metric, beside the baselines, by slices.

    Args:
        setup: Whose table the samples are of.
        judged: What is scored, and what chooses the threshold.
        measured: Measures of the same samples, in the same order.
        others: Baseline -> the same, or why there is none.
        terms: How it is summed up.
    """
    sources = [str(summary["source"]) for summary in setup.table.summaries]
    about = reports.About(
        recipe=setup.config.recipe,
        data=_sources(setup),
        split=terms.split,
        first=levels.first_of(sources),
        prior=terms.prior,
        seed=setup.config.train.seed,
        screening=terms.asked,
    )
    parts = slices.of_columns(setup.columns, rows_of(setup, judged.scores))
    folds = judged.scores.fold
    shown = parts if folds is None else {"fold": folds, **parts}
    if judged.scores.source is not None and len(sources) > 1:
        shown = {"source": judged.scores.source, **shown}
    found = reports.assemble(judged, about, others, shown)
    found["trained"] = _trained(setup)
    if setup.config.data.sampling != NATURAL and (reason := priors.allowed(setup.task)):
        found["uncorrected"] = reason
    found["input"] = {"member": setup.config.data.member, "masks": setup.masks_shown}
    extra = measures.estimates(measured, judged.scores.group, about.draws, about.seed)
    found["measures"] = {name: each.to_json() | {"level": "image"} for name, each in extra.items()}
    if (pictures := collapse.of_measures(measures.values(measured))) is not None:
        found["collapsed"] = pictures.to_json()
    return found


def _trained(setup: Setup) -> dict[str, int]:
    """Return how many samples of each class were learned from, copies not counted.

    Nothing where the training samples are not at hand, as in ``eval`` on other shards.
    """
    if not setup.roles.train.size:
        return {}
    copies = np.array([bool(value) for value in setup.columns["augmented"]], bool)
    classes = setup.task.classes[setup.taught[~copies[setup.taught]]]
    counts = np.bincount(classes[classes >= 0], minlength=len(setup.task.score_names))
    return dict(zip(setup.task.score_names, counts.tolist(), strict=True))


def picture(setup: Setup, key: str) -> NDArray[np.uint8] | None:
    """Return a sample's picture for the report, 8 bits."""
    loader = setup.loader(np.array([setup.places[key]], np.int64), training=False)
    images = next(loader.epoch(0)).images[0]
    wide = images.dtype == torch.uint16
    array = (images.to(torch.int32) >> (8 if wide else 0)).to(torch.uint8).numpy()
    shown: NDArray[np.uint8] = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    return shown


def together(
    made: Setup, tables: Mapping[str, dict[str, Any]], prior: Prior | None
) -> dict[str, Any]:
    """Return the content of report.json: that of the first table, and of the others by name.

    Args:
        made: Whose samples they are.
        tables: Name -> the report on one table, the headline first; none where all samples train.
        prior: What probabilities are corrected by.
    """
    roles = described(made)
    if not tables:
        about = reports.About(made.config.recipe, _sources(made), "all", prior)
        names = list(made.task.score_names)
        return {**reports.unscored(about, names, made.roles.fixed), "roles": roles}
    (_, first), *others = tables.items()
    return {**first, "roles": roles, "tables": dict(others)}


def _sources(setup: Setup) -> str:
    return " + ".join(str(summary["source"]) for summary in setup.table.summaries)


def write_all(
    out: Path, found: Mapping[str, Any], tables: Mapping[str, Scored], made: Setup
) -> None:
    """Write report and page, and the scores of every table: the headline's as ``scores.csv``.

    The others are ``scores-left-out.csv`` and ``scores-test-DATASET.csv``.

    Args:
        out: An existing folder.
        found: The content of report.json.
        tables: Name -> what was scored, the headline first.
        made: Lends the pictures.
    """
    log = folder.read_log(out)
    if not tables:
        reports.write(out / "report.json", found)
        page.write(out / "report.html", page.trained(found, log))
        return
    (_, first), *others = tables.items()
    write(out, found, first, log, made)
    for name, each in others:
        scores.write(out / f"scores-{_file_name(name, made)}.csv", each.scores)


def _file_name(name: str, made: Setup) -> str:
    """Return what the scores of a table are called; never a machine's or a site's own name."""
    return "left-out" if name == made.roles.name else re.sub(r"[^a-z0-9]+", "-", name.lower())


def write(
    out: Path,
    found: Mapping[str, Any],
    scored: Scored,
    log: Sequence[Mapping[str, Any]],
    setup: Setup,
) -> None:
    """Write scores.csv, report.json and report.html; measures.csv where the task has measures.

    Args:
        out: An existing folder.
        found: The content of report.json.
        scored: Of which it tells.
        log: Rows of log.jsonl, for the curves of training; may be empty.
        setup: Lends the pictures.
    """
    shown = scored.scores
    scores.write(out / "scores.csv", shown)
    if scored.measures:
        measures.write(out / "measures.csv", shown.key, scored.measures)
    reports.write(out / "report.json", found)
    written_tables.write_run(out, found)
    masks = Masks(scored.measures, scored.outlines)
    html = page.render(found, log, shown, lambda key: picture(setup, key), masks)
    page.write(out / "report.html", html)
