"""A finished run and shards -> scores and a report; nothing is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammotrain import distributed, evaluate, finished, folder, setup
from mammotrain.thresholds import Judged
from mammotrain.watching import Watcher

NOT_AT_HAND = "the training samples are not at hand to fit it on"


@dataclass(frozen=True)
class Request:
    """What is to be scored.

    Attributes:
        run: Folder of a finished run.
        data: Datasets.
        out: Where the scores go; None for ``eval-SOURCE`` in the run's folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        prevalence: Level -> share of positives among those screened, as somebody stated it.
    """

    run: Path
    data: tuple[str, ...]
    out: Path | None = None
    device: str = "auto"
    prevalence: Mapping[str, float] = field(default_factory=dict)


def rescore(request: Request, watcher: Watcher) -> tuple[dict[str, Any], Path]:
    """Score shards with a finished run; return the content of report.json and where it lies.

    The thresholds are the run's own, one a level, chosen on its validation samples.

    Raises:
        ConfigError: no finished run, other preparation, or the folder is not empty.
        DamageError: damaged shards or weights, or the run was trained on some of these patients.
    """
    run = finished.open_run(request.run)
    with distributed.joined(request.device) as world:
        table = setup.open_shards(run.config, request.data, watcher.warn)
        made, model = finished.prepare(run, table, world)
        source = str(table.summary["source"])
        out = request.out or request.run / f"eval-{source}"
        folder.check_free(out, resume=None)
        watcher.warn(
            f"{request.run} is asked about {len(made.roles.score):,} samples of {source} "
            f"({made.roles.name})."
        )
        scored = evaluate.score(made, model, made.roles.score, draw=True)
        judged = Judged(scored.scores, None, run.threshold, run.thresholds_above)
        others: dict[str, Judged | str] = dict.fromkeys(evaluate.kinds(made), NOT_AT_HAND)
        split = made.roles.name
        found = evaluate.summed_up(made, judged, scored.measures, others, run.prior, split=split)
        if world.leads:
            with folder.held(out, resume=None):
                evaluate.write(out, found, scored, [], made)
    return found, out
