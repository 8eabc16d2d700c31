"""A finished run and shards -> scores and a report; nothing is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from mammoprep.core.errors import ConfigError
from mammotrain import (
    distributed,
    evaluate,
    finished,
    folder,
    same_pictures,
    screening,
    setup,
)
from mammotrain.checks import one_of
from mammotrain.evaluate import Scored, Terms
from mammotrain.finished import Finished
from mammotrain.predicting import flips
from mammotrain.predicting.voices import VIEWS
from mammotrain.screening import Asked
from mammotrain.setup import Setup
from mammotrain.thresholds import Judged
from mammotrain.watching import Watcher

PLAIN = "none"  # pictures as they lie
NOT_AT_HAND = "the training samples are not at hand to fit it on"


@dataclass(frozen=True)
class Request:
    """What is to be scored.

    Attributes:
        run: Folder of a finished run.
        data: Datasets.
        out: Where the scores go; None for ``eval-SOURCE`` in the run's folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        tta: Name in ``predicting.voices.VIEWS``: in which positions a picture is shown.
        prevalence: Level -> share of positives among those screened, as somebody stated it.
    """

    run: Path
    data: tuple[str, ...]
    out: Path | None = None
    device: str = "auto"
    tta: str = PLAIN
    prevalence: Mapping[str, float] = field(default_factory=dict)


def rescore(request: Request, watcher: Watcher) -> tuple[dict[str, Any], Path]:
    """Score shards with a finished run; return the content of report.json and where it lies.

    The thresholds are the run's own, one a level, chosen on its validation samples: on pictures
    as they lie, also where others are flipped.

    Raises:
        ConfigError: no finished run, other preparation, or the folder is not empty.
        DamageError: damaged shards or weights, or the run was trained on some of these patients.
    """
    one_of("--tta", request.tta, VIEWS)
    run = finished.open_run(request.run)
    with distributed.joined(request.device) as world:
        table = setup.open_shards(run.config, request.data, watcher.warn)
        made, model = _flipped(*finished.prepare(run, table, world), request.tta)
        if not made.roles.tables:
            raise ConfigError(
                f"{request.run} has learned from all of these samples (--fold all): none is left "
                "to score. Give shards that it has not seen."
            )
        same = same_pictures.guard_eval(run, made, watcher)
        source = str(table.summary["source"])
        out = request.out or request.run / f"eval-{source}"
        folder.check_free(out, resume=None)
        watcher.warn(
            f"{request.run} is asked about {len(made.roles.scored):,} samples of {source} "
            f"({', '.join(made.roles.tables)})."
        )
        tables, told = {}, {}
        for name, scored in evaluate.tables_of(made, model, run.prior):
            tables[name] = scored
            told[name] = _report(made, scored, run, name, request.prevalence)
            if request.tta != PLAIN:
                told[name]["tta"] = _told(request.tta, told[name])
        found = evaluate.together(made, told, run.prior)
        if world.leads:
            with folder.held(out, resume=None):
                evaluate.write_all(out, found, tables, made)
                same_pictures.write(out, same)
    return found, out


def _report(
    made: Setup, scored: Scored, run: Finished, name: str, prevalence: Mapping[str, float]
) -> dict[str, Any]:
    reason = str(run.report.get("threshold_reason", ""))
    judged = Judged(scored.scores, None, run.threshold, run.thresholds_above, reason=reason)
    others: dict[str, Judged | str] = dict.fromkeys(evaluate.kinds(made), NOT_AT_HAND)
    terms = Terms(name, run.prior, Asked(prevalence, screening.chosen_by(run.report)))
    return evaluate.summed_up(made, judged, scored.measures, others, terms)


def _flipped(made: Setup, model: nn.Module, tta: str) -> tuple[Setup, nn.Module]:
    """Return what shows each picture in several positions and takes the mean of what is said."""
    if tta == PLAIN:
        return made, model
    return replace(made, task=flips.mean_scores(made.task)), flips.Flipped(model, tta)


def _told(tta: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report tells of flips, with a sentence for people."""
    many = len(VIEWS[tta])
    said = f"Each score is the mean over {many} positions of the picture (--tta {tta})."
    if found["threshold"] is not None:
        said += (
            " The threshold was chosen on pictures that were not flipped, which is another scale: "
            "figures of decisions are those of a threshold that nobody chose for these scores."
        )
    return {"views": tta, "pictures": many, "threshold_from": PLAIN, "reason": said}
