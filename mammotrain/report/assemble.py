"""``report.json``: every figure of a run, with its interval, level and what it is compared to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammotrain import bootstrap, collapse, folds, levels, metrics, resampled, screening, slices
from mammotrain.bootstrap import Drawn, Estimate
from mammotrain.priors import Prior
from mammotrain.resampled import Draws
from mammotrain.scores import Scores
from mammotrain.screening import Asked
from mammotrain.thresholds import Judged, Threshold, of

FORMAT_VERSION = 1
OF_SLICES = ("auroc", "average_precision", "f1", "sensitivity", "specificity")
OF_SLICES_MULTICLASS = ("macro_auroc", "macro_f1", "accuracy", "balanced_accuracy")
GAIN = ("auroc", "macro_auroc")
MAJORITY_THRESHOLD = 0.5

IMAGE = levels.LEVELS[0]
Json = dict[str, Any]
Priors = Prior | Mapping[str, Prior | None] | None


@dataclass(frozen=True)
class About:
    """What was run, and how it is summed up.

    Attributes:
        recipe: Its name.
        data: What it was scored on, in words.
        split: ``fold0``, ``test``, ``fold0+test``, or ``cv``.
        prior: What the probabilities were corrected by, of a cv each fold's own; None where they
            were not.
        combine: ``mean`` or ``max``: from images to breasts and patients.
        first: The level that the report begins with, where there is it; see ``levels.first_of``.
        draws: Resamples of the bootstrap; 0 for no intervals.
        seed: Decides them.
        screening: What is asked of operating points and calibration; see ``screening``.
    """

    recipe: str
    data: str
    split: str
    prior: Priors = None
    combine: str = "mean"
    first: str = "image"
    draws: int = bootstrap.DRAWS
    seed: int = 0
    screening: Asked = Asked()  # noqa: RUF009 - frozen


def assemble(
    judged: Judged,
    about: About,
    baselines: Mapping[str, Judged | str] | None = None,
    parts: Mapping[str, NDArray[np.str_]] | None = None,
) -> Json:
    """Return the content of ``report.json``: plain JSON values, no NaN.

    Args:
        judged: Scores, corrected where they are to be, and the validation samples' or thresholds.
        about: What was run.
        baselines: Name -> the same for a baseline, on the same samples; or why there is none.
            ``majority`` says the most frequent class and needs no threshold.
        parts: Slice name -> which part each of ``judged.scores`` belongs to, (n,); see
            ``slices.of_columns``.

    Raises:
        ConfigError: no sample has a label, or a baseline was asked about other samples.
    """
    threshold = of(judged)
    drawn = bootstrap.draw(judged.scores, threshold, about.draws, about.seed)
    above = {level: _at(judged, level, about) for level in levels.LEVELS[1:]}
    upper = {level: _level(each, level, about) for level, each in above.items()}
    there = {n: each for n, each in above.items() if isinstance(each, Judged)}
    asked = replace(about.screening, draws=Draws(about.draws, about.seed))
    first = about.first if (upper.get(about.first) or {}).get("n") else "image"
    said = metrics.decide(judged.scores.values, threshold.each)
    return {
        "format_version": FORMAT_VERSION,
        "recipe": about.recipe,
        "data": about.data,
        "split": about.split,
        "classes": list(judged.scores.names),
        **_counts(judged.scores),
        **_threshold(threshold, judged),
        "prior": _prior(about.prior),
        "metrics": _metrics(drawn.estimates(), "image"),
        "levels": {"combine": about.combine, "first": first, **upper},
        "collapsed": collapse.of_scores(judged.scores, said).to_json(),
        "confusion": _confusion(judged.scores, said),
        "baselines": {
            name: _baseline(drawn, name, other, about)
            for name, other in sorted((baselines or {}).items())
        },
        "slices": {
            name: _slice(judged, threshold, texts, about)
            for name, texts in sorted((parts or {}).items())
        },
        **screening.figures({IMAGE: judged, **there}, asked),
        "bootstrap": _bootstrap(judged.scores, about),
        **folds.described(drawn),
    }


def unscored(about: About, names: Sequence[str], reason: str) -> Json:
    """Return the content of ``report.json`` where every sample trains and none is scored."""
    return {
        "format_version": FORMAT_VERSION,
        "recipe": about.recipe,
        "data": about.data,
        "split": about.split,
        "classes": list(names),
        "n": 0,
        "groups": 0,
        "prevalence": None,
        "threshold": None,
        "threshold_reason": reason,
        "prior": _prior(about.prior),
        "metrics": {},
        "levels": {"combine": about.combine, "first": "image"},
        "baselines": {},
        "slices": {},
    }


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json``, strict JSON, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def prior_of(report: Mapping[str, Any]) -> Prior | None:
    """Return what the probabilities of a run's report were corrected by; of a cv None."""
    found = report["prior"]
    told = found is not None and "sampled" in found
    return Prior(tuple(found["sampled"]), tuple(found["natural"])) if told else None


def _prior(prior: Priors) -> Json | None:
    if isinstance(prior, Mapping):
        each = {name: _prior(one) for name, one in prior.items()}
        return {"folds": each} if any(each.values()) else None
    if prior is None or not prior.changes:
        return None
    return {"sampled": list(prior.sampled), "natural": list(prior.natural)}


def _bootstrap(scores: Scores, about: About) -> Json:
    """Return how resamples were drawn, and what intervals made of them do not cover."""
    apart = scores.strata is not None
    return {
        "draws": about.draws,
        "seed": about.seed,
        "unit": "group",
        "strata": ["fold" if scores.fold is not None else "source", "class"] if apart else [],
        "covers": folds.covers(scores),
    }


def _counts(scores: Scores) -> Json:
    labelled = scores.labelled()
    found = {"n": len(labelled), "groups": len(np.unique(labelled.group))}
    unlabelled = {"unlabelled": len(scores) - len(labelled)} if len(scores) > len(labelled) else {}
    return {**found, **unlabelled, "prevalence": _prevalence(labelled)}


def _prevalence(scores: Scores) -> float | dict[str, float]:
    """Share of the second of two classes, or of each of more."""
    shares = np.bincount(scores.label, minlength=len(scores.names)) / len(scores)
    if len(scores.names) == 2:
        return _number(shares[1]) or 0.0
    return {
        name: round(float(share), resampled.DIGITS)
        for name, share in zip(scores.names, shares, strict=True)
    }


def _threshold(threshold: Threshold, judged: Judged) -> Json:
    found: Json = {"threshold": threshold.shown}
    if threshold.shown is None:
        return {**found, "threshold_reason": threshold.reason}
    return {**found, "threshold_rule": _rule(judged)}


def _rule(judged: Judged) -> str:
    """Return how a threshold was chosen, in words."""
    if judged.fixed is not None and not isinstance(judged.fixed, Mapping):
        return "as it was chosen by the run"
    if judged.specificity is None:
        return "the highest F1"
    return f"a specificity of {100 * judged.specificity:g} %"


def _at(judged: Judged, level: str, about: About) -> Judged | str:
    """Return the same at a level above images, or why there is none."""
    scores = judged.scores.labelled()
    validation = None if judged.validation is None else judged.validation.labelled()
    tables = [scores] if validation is None else [scores, validation]
    reasons = [levels.why_not(table, level, about.combine) for table in tables if len(table)]
    if any(reasons):
        return next(filter(None, reasons))
    return replace(
        judged,
        fixed=judged.fixed_above.get(level),
        scores=levels.aggregate(scores, level, about.combine),
        validation=validation
        if validation is None or not len(validation)
        else levels.aggregate(validation, level, about.combine),
    )


def _level(judged: Judged | str, level: str, about: About) -> Json:
    if isinstance(judged, str):
        return {"n": None, "reason": judged}
    found = bootstrap.evaluate(judged, about.draws, about.seed)
    return {
        **_counts(judged.scores),
        **_threshold(of(judged), judged),
        "metrics": _metrics(found, level),
    }


def _confusion(scores: Scores, said: NDArray[np.int64] | None) -> list[list[int]] | None:
    if said is None:
        return None
    known = scores.label >= 0
    table: list[list[int]] = metrics.confusion(
        scores.label[known], said[known], len(scores.names)
    ).tolist()
    return table


def _baseline(drawn: Drawn, name: str, other: Judged | str, about: About) -> Json:
    if isinstance(other, str):
        return {"metrics": None, "reason": other}
    if name == "majority" and len(other.scores.names) == 2:
        other = replace(other, fixed=MAJORITY_THRESHOLD)
    chosen = of(other)
    baseline = bootstrap.draw(other.scores, chosen, about.draws, about.seed)
    found = bootstrap.differences(drawn, baseline, GAIN)
    return {
        "threshold": chosen.shown,
        "metrics": _metrics(baseline.estimates(), "image"),
        "gain": {metric: _plain(difference) for metric, difference in found.items()},
    }


def _slice(
    judged: Judged, threshold: Threshold, texts: NDArray[np.str_], about: About
) -> dict[str, Json]:
    scores = judged.scores
    only = OF_SLICES if len(scores.names) == 2 else OF_SLICES_MULTICLASS
    found = {}
    for part in slices.ordered(texts):
        inside = (texts == part) & (scores.label >= 0)
        if not inside.any():
            continue
        each = None if threshold.each is None else threshold.each[inside]
        chosen = scores.take(inside)
        drawn = bootstrap.draw(chosen, replace(threshold, each=each), about.draws, about.seed)
        found[part] = {**_counts(chosen), "metrics": _metrics(drawn.estimates(only), "image")}
    return found


def _metrics(found: Mapping[str, Estimate], level: str) -> dict[str, Json]:
    return {name: _estimate(estimate, level) for name, estimate in found.items()}


def _estimate(estimate: Estimate, level: str) -> Json:
    told = resampled.plain(estimate)
    return {"value": told["value"], "ci95": told["ci95"], "level": level} | told


def _plain(difference: Mapping[str, Any]) -> Json:
    ends = difference["ci95"]
    return {
        **difference,
        "difference": _number(difference["difference"]),
        "ci95": None if ends is None else [_number(end) for end in ends],
        "p": _number(difference["p"]),
    }


def _number(value: float | None) -> float | None:
    return None if value is None else resampled.number(value)
