"""Operating points of screening: what a threshold comes to, and what a curve would have allowed.

A point is chosen on the validation samples and then applied to the scored ones, whatever it comes
to there; the same point read off the scored samples' own curve stands beside it, as such. How often
a cancer occurs among those screened is stated by a person: a data set's own share never is it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammoprep.stats.ranking import SLACK, ratio, summed
from mammoprep.stats.resampling import Counts
from mammotrain import metrics, resampled, thresholds
from mammotrain.bootstrap import ONE_CLASS, Estimate
from mammotrain.levels import LEVELS
from mammotrain.resampled import Draws, Sums
from mammotrain.scores import Scores
from mammotrain.thresholds import Fixed, Judged, Threshold

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Json = dict[str, Any]
VALIDATION, CURVE = "validation", "curve"
RULES = (*metrics.SENSITIVITIES, *metrics.RECALLS)
SCREENED = "exam"  # whose share a bare --prevalence states: women are screened, not breasts
STATE = "state --prevalence"
# A share that is written without a percent sign and lies above is taken for a slip: 0.6 for 0.6 %.
HIGHEST_BARE = 0.2
_SHARE = re.compile(r"([0-9]*\.?[0-9]+(?:e-?[0-9]{1,2})?)\s*(%?)")
TRUE = 0  # of the columns of sums: true, all positives, false, all negatives


@dataclass(frozen=True)
class Asked:
    """What is wanted.

    Attributes:
        level: What a row of the scores is; one of ``levels.LEVELS``.
        prevalence: Level -> share of positives among those screened, 0-1, as somebody stated it.
        fixed: Rule -> threshold, chosen before; one by fold for scores of several folds.
        draws: The resamples.
    """

    level: str = "image"
    prevalence: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, Fixed] = field(default_factory=dict)
    draws: Draws = Draws()  # noqa: RUF009 - frozen

    @property
    def share(self) -> float | None:
        """The prevalence at this level, where it is stated."""
        return self.prevalence.get(self.level)

    def figures(self, sums: Floats) -> dict[str, Floats]:
        """Return what (rows, 4) sums come to, (rows,) each."""
        return _figures(sums, self.share)


def prevalence_of(text: str) -> dict[str, float]:
    """Return level -> share by what somebody writes: ``0.6%``, or ``exam=0.6%,breast=0.3%``.

    A share without a level is that of the examinations.

    Raises:
        ConfigError: no such level, or no share between 0 and 1; one above 0.2 needs its percent
            sign.
    """
    found: dict[str, float] = {}
    for part in text.split(",") if text.strip() else ():
        level, _, share = part.rpartition("=")
        level = level.strip() or SCREENED
        if level not in LEVELS or level in found:
            raise ConfigError(
                f"--prevalence {text}: levels are {', '.join(LEVELS)}, each once, got {level!r}."
            )
        found[level] = _share(text, share.strip())
    return found


def _share(text: str, written: str) -> float:
    match = _SHARE.fullmatch(written)
    share = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if match is None or not 0 < share < 1:
        raise ConfigError(
            f"--prevalence {text}: a share above 0 and below 1 is wanted, such as 0.6% or 0.006."
        )
    if share > HIGHEST_BARE and not match[2]:
        raise ConfigError(
            f"--prevalence {text}: that is {100 * share:g} %. Write {100 * share:g}% if it is "
            f"meant, or {share:g}% for {share / 100:g}."
        )
    return share


def points(judged: Judged, asked: Asked) -> list[Json]:
    """Return two rows a rule, by the validation samples and by the curve; none for more classes.

    A row has ``rule``, ``level``, ``by``, ``threshold`` (by fold where every fold has its own; None
    for a curve of several strata), ``sensitivity``, ``specificity``, ``recall_rate``, ``ppv`` and
    ``cancers_per_1000`` (``value``, ``ci95``, ``reason``), ``prevalence`` (None where it is not
    stated; the recall rate is that of these samples then, else that at the prevalence) and
    ``reason``, why there is no threshold.

    Args:
        judged: Scores and validation samples of one level; its own threshold is not looked at.
        asked: What is wanted.
    """
    scores = judged.scores.labelled()
    if len(scores.names) != 2 or not len(scores):
        return []
    each = [_threshold(judged, rule, asked) for rule in RULES]
    tables = zip(RULES, each, _decided(scores, each, asked), _of_curve(scores, asked), strict=True)
    rows = []
    for rule, threshold, decided, curve in tables:
        rows.append(_row(rule, asked, VALIDATION, threshold, decided))
        own = None if scores.strata is not None else choose(rule, scores, asked.share)
        rows.append(_row(rule, asked, CURVE, Threshold(None, own), curve))
    return rows


def chosen(rows: Sequence[Mapping[str, Any]], level: str) -> dict[str, float]:
    """Return rule -> threshold of a run's rows at a level, as it was chosen on its validation."""
    return {
        row["rule"]: float(row["threshold"])
        for row in rows
        if row["by"] == VALIDATION
        and row["level"] == level
        and isinstance(row["threshold"], int | float)
    }


def by_fold(parts: Mapping[str, Sequence[Mapping[str, Any]]], level: str) -> dict[str, Fixed]:
    """Return rule -> fold -> threshold, by the rows of every fold's run."""
    each = {fold: chosen(rows, level) for fold, rows in parts.items()}
    return {
        rule: {fold: found[rule] for fold, found in each.items() if rule in found} for rule in RULES
    }


def choose(rule: str, scores: Scores, prevalence: float | None = None) -> float | None:
    """Return the threshold of a rule by some samples; None where they do not tell.

    It lies midway between two scores. Of a sensitivity it is the highest at which it is reached, of
    a recall rate the lowest at which no more are recalled: of these samples, or of as many positive
    ones as are stated.

    Args:
        rule: One of ``RULES``.
        scores: Two classes.
        prevalence: Share of positives among those screened; None for that of the samples, where it
            is their recall rate that counts.
    """
    scores = scores.labelled()
    drawn = _Curve.of(scores, np.zeros(len(scores), np.intp)).drawn(np.ones((1, 1), np.int32))
    if not drawn.both[0]:
        return None
    score, place = drawn.curve.score, int(drawn.place(rule, prevalence)[0])
    if not place:
        return None
    upper = float(score[place - 1])
    if place == len(score):
        return upper
    return thresholds.between(upper, float(score[place]))


@dataclass(frozen=True)
class _Curve:
    """Samples that may be ranked against each other, the highest first.

    Place 0 of the m + 1 thresholds recalls nobody, place 1 the samples of the highest score.

    Attributes:
        group: (n,) number of each sample's group.
        positive: (p,) places of the positives.
        score: (m,) the distinct scores.
        said: (m + 1,) how many samples each threshold recalls.
        true: (m + 1,) how many positives.
    """

    group: Places
    positive: Places
    score: Floats
    said: Places
    true: Places

    @classmethod
    def of(cls, scores: Scores, group: Places) -> "_Curve":
        order = np.argsort(-scores.values[:, 1], kind="stable")
        falling, positive = scores.values[order, 1], np.flatnonzero(scores.label[order] == 1)
        # ends of runs of the same score
        said = np.concatenate([[0], np.flatnonzero(np.diff(falling) != 0) + 1, [len(falling)]])
        return cls(
            group[order],
            positive,
            falling[said[1:] - 1],
            said,
            np.searchsorted(positive, said),
        )

    def drawn(self, counts: Counts) -> "_Drawn":
        return _Drawn(self, summed(counts, self.group), summed(counts, self.group[self.positive]))


@dataclass(frozen=True)
class _Drawn:
    """A curve in several resamples.

    Attributes:
        curve: The samples.
        said: (draws, n + 1) how much was drawn of the samples before each place.
        true: (draws, p + 1) the same of the positives.
    """

    curve: _Curve
    said: Counts
    true: Counts

    @property
    def both(self) -> NDArray[np.bool_]:
        """In which resamples both classes occur, (draws,)."""
        return np.asarray((self.true[:, -1] > 0) & (self.true[:, -1] < self.said[:, -1]))

    def sums(self, place: Places) -> Floats:
        """Return (draws, 4): true and all positives, false and all negatives, at a threshold."""
        rows = np.arange(len(place))
        true = self.true[rows, self.curve.true[place]]
        false = self.said[rows, self.curve.said[place]] - true
        positive = self.true[:, -1]
        columns = (true, positive, false, self.said[:, -1] - positive)
        return np.stack(columns, axis=1).astype(np.float64)

    def place(self, rule: str, prevalence: float | None) -> Places:
        """Return which threshold a rule takes in every resample, (draws,); 0 recalls nobody."""
        if rule in metrics.RECALLS:
            most = metrics.RECALLS[rule] + SLACK
            return self._last(lambda place: _recall(self.sums(place), prevalence) <= most)
        least = metrics.SENSITIVITIES[rule] * self.true[:, -1] - SLACK
        below = self._last(lambda place: self.sums(place)[:, TRUE] < least)
        return np.minimum(below + 1, len(self.curve.score))

    def _last(self, holds: Callable[[Places], NDArray[np.bool_]]) -> Places:
        """Return the last place where something holds, (draws,); up to there it always does."""
        low = np.zeros(len(self.said), np.intp)
        high = np.full(len(self.said), len(self.curve.score), np.intp)
        while np.any(low < high):
            middle = (low + high + 1) // 2
            found = holds(middle)
            low, high = np.where(found, middle, low), np.where(found, high, middle - 1)
        return low


def _recall(sums: Floats, prevalence: float | None) -> Floats:
    """Return the share that is recalled, of these samples or at a prevalence, (draws,)."""
    return _figures(sums, prevalence)["recall_rate"]


def _threshold(judged: Judged, rule: str, asked: Asked) -> Threshold:
    """Return the threshold for the labelled samples that are scored, chosen on none of them."""
    scores = judged.scores.labelled()
    if asked.fixed:
        fixed = asked.fixed.get(rule, {})
        if isinstance(fixed, Mapping) and not fixed:
            return Threshold(None, None, judged.reason or thresholds.NOBODY)
        return thresholds.of(Judged(scores, fixed=fixed))
    known = None if judged.validation is None else judged.validation.labelled()
    if known is None or not len(known):
        return Threshold(None, None, judged.reason or thresholds.NOBODY)
    found = choose(rule, known, asked.share)
    if found is not None:
        return thresholds.of(Judged(scores, fixed=found))
    if len(np.unique(known.label)) < 2:
        return Threshold(None, None, "the validation samples hold only one class")
    share = f"{100 * metrics.RECALLS[rule]:g} %"
    return Threshold(
        None, None, f"{share} of {len(known):,} validation samples is less than the first one"
    )


def _decided(
    scores: Scores, each: Sequence[Threshold], asked: Asked
) -> list[dict[str, Estimate] | None]:
    """Return what each rule's threshold comes to; None where there is none."""
    positive, columns = scores.label == 1, []
    for threshold in each:
        above = np.inf if threshold.each is None else threshold.each
        said = scores.values[:, 1] >= above
        columns += [said & positive, positive, said & ~positive, ~positive]
    sums = resampled.sums_of(scores, np.stack(columns, axis=1).astype(np.float64), asked.draws)
    return [
        None
        if threshold.each is None
        else sums.take(slice(4 * place, 4 * place + 4)).estimates(asked.figures)
        for place, threshold in enumerate(each)
    ]


def _of_curve(scores: Scores, asked: Asked) -> list[dict[str, Estimate]]:
    """Return what each rule comes to where every stratum and resample takes its own threshold."""
    owners, group = np.unique(scores.group, return_inverse=True)
    apart = np.zeros(len(scores), np.intp) if scores.strata is None else scores.strata
    curves = [_Curve.of(scores.take(apart == n), group[apart == n]) for n in np.unique(apart)]
    whole = _read(curves, np.ones((1, len(owners)), np.int32), asked.share)
    reason = resampled.why_none(scores, asked.draws)
    tables = () if reason else asked.draws.tables(scores)
    blocks = [_read(curves, counts, asked.share) for counts in tables]
    found = []
    for place, each in enumerate(whole):
        drawn = np.concatenate([block[place] for block in blocks]) if blocks else None
        found.append(Sums(each[0], drawn, reason).estimates(asked.figures))
    return found


def _read(curves: Sequence[_Curve], counts: Counts, prevalence: float | None) -> list[Floats]:
    """Return one (draws, 4) a rule; a stratum of one class adds nothing, as of the metrics."""
    found = [np.zeros((len(counts), 4)) for _ in RULES]
    for curve in curves:
        drawn = curve.drawn(counts)
        both = drawn.both[:, None]
        for total, rule in zip(found, RULES, strict=True):
            total += np.where(both, drawn.sums(drawn.place(rule, prevalence)), 0)
    return found


def _figures(sums: Floats, prevalence: float | None) -> dict[str, Floats]:
    true, positive, false, negative = sums.T
    hit, alarm = ratio(true, positive), ratio(false, negative)
    found = {"sensitivity": hit, "specificity": 1 - alarm}
    if prevalence is None:
        return {**found, "recall_rate": ratio(true + false, positive + negative)}
    recalled = prevalence * hit + (1 - prevalence) * alarm
    ppv = ratio(prevalence * hit, recalled)
    return {
        **found,
        "recall_rate": recalled,
        "ppv": ppv,
        "cancers_per_1000": 1000 * prevalence * hit,
    }


FIGURES = ("sensitivity", "specificity", "recall_rate", "ppv", "cancers_per_1000")
OF_SCREENING = ("ppv", "cancers_per_1000")


def _row(
    rule: str,
    asked: Asked,
    by: str,
    threshold: Threshold,
    found: Mapping[str, Estimate] | None,
) -> Json:
    cells = {name: _cell(name, asked, found, threshold.reason) for name in FIGURES}
    told = {"rule": rule, "level": asked.level, "by": by, "threshold": threshold.shown}
    return {**told, **cells, "prevalence": asked.share, "reason": threshold.reason}


def _cell(name: str, asked: Asked, found: Mapping[str, Estimate] | None, reason: str) -> Json:
    if name in OF_SCREENING and asked.share is None:
        level = f" {asked.level}=SHARE" if asked.prevalence or asked.level != SCREENED else ""
        return {"value": None, "ci95": None, "reason": STATE + level}
    if found is None:
        return {"value": None, "ci95": None, "reason": reason}
    estimate = found[name]
    if not np.isfinite(estimate.value):
        nobody = found["recall_rate"].value == 0
        return {
            "value": None,
            "ci95": None,
            "reason": "nobody is recalled" if nobody else ONE_CLASS,
        }
    return resampled.plain(estimate)
