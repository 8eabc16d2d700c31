"""A cv several times with other random numbers: how much of a score is the luck of a training.

The interval of one cv says what other patients would have given these models; it says nothing of
other trainings. So repeats are reported apart and never mixed into it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mammoprep.core.errors import ConfigError
from mammotrain import comparison, cross, distributed, folder, setup
from mammotrain.repeats import FEWEST
from mammotrain.report import assemble, page
from mammotrain.run import Request, find_data
from mammotrain.watching import Watcher

DIGITS = 6

Json = dict[str, Any]


def repeat(request: Request, count: int, watcher: Watcher) -> Json:
    """Cross-validate a recipe several times; return the first report, with ``repeats``.

    The folds are the same each time; ``train.seed`` is the recipe's, then one more each time, and
    decides initial weights, order and augmentation. Each repeat is a whole cv in ``repeatN``.

    Args:
        request: What to run.
        count: How often, at least 3.
        watcher: Is told.

    Raises:
        ConfigError: fewer than 3, or as ``cross`` does.
        MammoError: as ``cross`` does; with ``resume`` what is finished is not done again.
    """
    if count < FEWEST:
        raise ConfigError(f"--repeats must be at least {FEWEST}, got {count}: two have no spread.")
    with distributed.joined(request.device) as world:
        data = find_data(request, watcher) if world.leads else ()
        request = replace(request, data=distributed.gathered(data, world)[0])
        cross.check(request, setup.open_shards(request.config, request.data), world)
        folder.check_free(request.out, resume=request.resume)
        reports = []
        for one in _requests(request, count):
            watcher.warn(f"{one.out.name}, train.seed {one.config.train.seed}: of {count} repeats.")
            reports.append(cross.cross_in(one, watcher, world))
        found = {**reports[0], "repeats": summed_up(reports, request.config.train.seed)}
        if world.leads:
            _write(request, count, found)
        distributed.wait(world)
    return found


def summed_up(reports: Sequence[Json], seed: int) -> Json:
    """Return every metric of every repeat, their mean and their spread."""
    names = list(reports[0]["metrics"])
    values = {name: [each["metrics"][name]["value"] for each in reports] for name in names}
    return {
        "n": len(reports),
        "seeds": [seed + number for number in range(len(reports))],
        "values": values,
        "spread": {name: _spread(each) for name, each in values.items()},
    }


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return what the terminal says of repeats; nothing without any."""
    told = report.get("repeats")
    if not told:
        return []
    found = [f"Over {told['n']} repeats, with other random numbers (spread is no interval):"]
    for name in ("auroc", "macro_auroc", "average_precision", "f1", "macro_f1"):
        spread = told["spread"].get(name)
        if spread and spread["mean"] is not None:
            found.append(
                f"  {name:<17} mean {spread['mean']:.3f}, standard deviation {spread['sd']:.3f}, "
                f"{spread['low']:.3f} to {spread['high']:.3f}"
            )
    return found


def _spread(values: Sequence[float | None]) -> Json:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return dict.fromkeys(("mean", "sd", "low", "high"))
    told = {
        "mean": float(np.mean(known)),
        "sd": float(np.std(known, ddof=1)),
        "low": min(known),
        "high": max(known),
    }
    return {name: round(value, DIGITS) for name, value in told.items()}


def _requests(request: Request, count: int) -> list[Request]:
    found = []
    for number in range(count):
        train = replace(request.config.train, seed=request.config.train.seed + number)
        out = request.out / f"repeat{number}"
        found.append(
            replace(
                request,
                config=replace(request.config, train=train),
                out=out,
                resume=request.resume and out.exists(),
                cache=request.cache or request.out / "cache",
            )
        )
    return found


def _write(request: Request, count: int, found: Json) -> None:
    out, by = request.out, request.side.by or "fold"
    table = {**request.config.to_table(), "by": by, "repeats": count}
    folder.write_config(out, table, resume=request.resume)
    assemble.write(out / "report.json", found)
    compared = comparison.compare([out / f"repeat{number}" for number in range(count)])
    title = f"{request.config.recipe}: {count} repeats with other random numbers"
    page.write(out / "report.html", comparison.page(compared, title))
