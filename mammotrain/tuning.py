"""Settings of a recipe tried in turn, on validation samples only: what ``mammotrain tune`` does.

Optuna proposes settings (TPE), stops what falls behind the median, and keeps the study in SQLite,
so that it goes on after an interruption. What is scored at the end of a run is never looked at.
"""

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mammoprep.core.errors import ConfigError, DivergedError
from mammotrain import config as configs
from mammotrain import distributed, first, folder, rehearsal, setup, trial_noise
from mammotrain.config import RunConfig, Space
from mammotrain.data.splits import Side
from mammotrain.metrics import lower_is_better
from mammotrain.report import tuned
from mammotrain.run import Request as RunRequest
from mammotrain.run import check_validates, find_data, train
from mammotrain.watching import Line, Watcher

if TYPE_CHECKING:
    import optuna

STUDY = "study.db"
TEN = 10.0
TRIED_BEFORE_PRUNING = 5


@dataclass(frozen=True)
class Request:
    """What is to be tried.

    Attributes:
        recipe: Its name, or the path of a .toml file.
        changes: ``section.key=value`` for all trials.
        data: Datasets, or ``demo``.
        out: Folder of the study.
        trials: How many, in all, with those that were done before.
        spaces: Setting -> what is tried; empty for the recipe's ``[tune]``, else learning rate and
            weight decay around the recipe's own.
        side: Which samples are not looked at; the next fold validates.
        resume: Go on in ``out``.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    recipe: str
    changes: tuple[str, ...]
    data: tuple[str, ...]
    out: Path
    trials: int
    spaces: Mapping[str, Space]
    side: Side = Side()  # noqa: RUF009 - frozen
    resume: bool = False
    device: str = "auto"


def tune(request: Request, watcher: Watcher) -> dict[str, Any]:
    """Try settings, and write the best ones as a recipe.

    Returns:
        ``value`` of the monitored validation metric, ``settings``, ``importances`` (empty where the
        trials do not tell), ``noise`` (see ``trial_noise.Verdict``), and the ``path`` of the recipe
        with the best settings.

    Raises:
        ConfigError: Optuna is not installed, a space is wrong, or no trial came to an end.
        MammoError: as ``run`` does; with ``resume`` the study goes on.
    """
    optuna = _optuna()
    base = configs.load(request.recipe, request.changes)
    spaces = dict(request.spaces or base.tune or _around(base))
    _try_out(request, spaces)
    on_demo = request.data == configs.DEMO
    whole = RunRequest(base, request.data, request.out, request.side, device=request.device)
    folder.check_free(request.out, resume=request.resume)
    whole = replace(whole, data=find_data(whole, watcher))
    _rehearse(whole)
    with folder.held(request.out, resume=request.resume):
        folder.write_config(request.out, base.to_table(), resume=request.resume)
        study = optuna.create_study(
            storage=f"sqlite:///{request.out / STUDY}",
            study_name=base.recipe,
            direction="minimize" if lower_is_better(base.train.monitor) else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=TRIED_BEFORE_PRUNING),
            load_if_exists=True,
        )
        _take_up(study)
        request = replace(request, data=first.ready(whole, watcher, request.out / first.STAGE).data)
        while (done := len(_ended(study))) < request.trials:
            # anew for every trial, so that a study that goes on proposes what it would have
            study.sampler = optuna.samplers.TPESampler(seed=_seed(base.train.seed, done))
            trial = study.ask()
            watcher.warn(f"Trial {done + 1} of {request.trials}.")
            _one(study, trial, spaces, request, watcher)
        return _finish(study, base, request, on_demo=on_demo)


def parse(text: str) -> tuple[str, Space]:
    """Return the setting and the space of ``train.lr=1e-4..1e-2,log`` or ``model.width=32|48``.

    Raises:
        ConfigError: it is neither.
    """
    name, sign, values = text.partition("=")
    numbers, _, log = values.partition(",")
    low, dots, high = numbers.partition("..")
    try:
        if not sign or log not in ("", "log"):
            raise ValueError
        if dots:
            return name, Space(float(low), float(high), log == "log")
        if "|" in values:
            return name, Space(choices=tuple(configs.value_of(each) for each in values.split("|")))
    except ValueError:
        pass
    raise ConfigError(
        f"--space must be such as train.lr=1e-4..1e-2,log or model.width=32|48|64, got {text!r}."
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError("mammotrain tune needs Optuna: pip install 'mammoprep[tune]'") from None
    if distributed.processes() > 1:
        raise ConfigError("mammotrain tune runs as one process; start several studies instead.")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _seed(seed: int, done: int) -> int:
    """Return the seed of what is proposed after so many trials."""
    return int.from_bytes(sha256(f"trial/{seed}/{done}".encode()).digest()[:4], "big")


def _rehearse(request: RunRequest) -> None:
    """Refuse before any work what the first trial would be refused for; raises ConfigError."""
    if first.check(request):
        return
    with distributed.joined(request.device) as world:
        table = setup.open_shards(request.config, request.data)
        made, _ = rehearsal.rehearse(request.config, table, request.side, world)
        check_validates(made)


def _around(base: RunConfig) -> dict[str, Space]:
    decay = base.train.weight_decay
    return {
        "train.lr": Space(base.train.lr / TEN, base.train.lr * TEN, log=True),
        "train.weight_decay": Space(decay / TEN or 1e-6, decay * TEN or 1e-2, log=True),
    }


def _try_out(request: Request, spaces: Mapping[str, Space]) -> None:
    """Check before any work that every setting exists and takes both ends; raises ConfigError."""
    for name, space in spaces.items():
        if name.startswith("first."):
            raise ConfigError(
                f"{name} cannot be tried: all trials see the masks of one first stage."
            )
        for value in space.choices or (space.low, space.high):
            configs.load(request.recipe, (*request.changes, _change(name, value)))


def _change(name: str, value: Any) -> str:
    return f"{name}={folder.toml_value(value)}"


def _take_up(study: "optuna.Study") -> None:
    """Give up the trial that an interruption left behind, and put its settings first in line."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _ended(study: "optuna.Study") -> list[Any]:
    """Return the trials that need not be done again."""
    from optuna.trial import TrialState

    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    trials: list[Any] = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state in ended or t.user_attrs.get("diverged")]


class _Reporting(Watcher):
    """Tells a study how a trial does, and ends it when it falls behind."""

    def __init__(self, trial: "optuna.Trial", monitor: str, inner: Watcher) -> None:
        self._trial, self._monitor, self._inner = trial, monitor, inner

    def step(self, line: Line) -> None:
        self._inner.step(line)

    def start(self, step: int, total: int, batch_size: int) -> None:
        self._inner.start(step, total, batch_size)

    def validated(self, line: Line) -> None:
        from optuna import TrialPruned

        self._inner.validated(line)
        if self._monitor in line["validation"]:
            self._trial.report(line["validation"][self._monitor], line["step"])
        if self._trial.should_prune():
            raise TrialPruned

    def count(self, what: str, done: int, total: int) -> None:
        self._inner.count(what, done, total)

    def warn(self, message: str) -> None:
        self._inner.warn(message)


def _one(
    study: "optuna.Study",
    trial: "optuna.Trial",
    spaces: Mapping[str, Space],
    request: Request,
    watcher: Watcher,
) -> None:
    """Train with the settings that a trial proposes, and tell the study what came of it."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    proposed = {name: _proposed(trial, name, space) for name, space in spaces.items()}
    changes = tuple(_change(name, value) for name, value in proposed.items())
    watcher.warn(f"  {', '.join(changes)}")
    found = configs.load(request.recipe, (*request.changes, *changes))
    out = request.out / f"trial{trial.number:04d}"
    asked = RunRequest(
        found, request.data, out, request.side, device=request.device, cache=request.out / "cache"
    )
    try:
        progress = train(asked, _Reporting(trial, found.train.monitor, watcher))
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        shutil.rmtree(out / folder.CHECKPOINTS, ignore_errors=True)
    except DivergedError as error:
        watcher.warn(f"  {error}")
        trial.set_user_attr("diverged", value=True)
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, progress.best)
        _keep_best(study, request.out)


def _proposed(trial: "optuna.Trial", name: str, space: Space) -> Any:
    if space.choices:
        return trial.suggest_categorical(name, list(space.choices))
    if float(space.low).is_integer() and float(space.high).is_integer() and not space.log:
        return trial.suggest_int(name, int(space.low), int(space.high))
    return trial.suggest_float(name, space.low, space.high, log=space.log)


def _keep_best(study: "optuna.Study", out: Path) -> None:
    """Remove the weights of all trials but the best one."""
    for place in out.glob(f"trial*/{folder.CHECKPOINTS}"):
        if place.parent.name != f"trial{study.best_trial.number:04d}":
            shutil.rmtree(place)


def _finish(
    study: "optuna.Study", base: RunConfig, request: Request, *, on_demo: bool
) -> dict[str, Any]:
    """Write trials.csv, best.toml and report.html."""
    from optuna.trial import TrialState

    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        raise ConfigError("No trial came to an end: all were pruned or diverged. Try other spaces.")
    _write_trials(study, request.out / "trials.csv")
    changes = tuple(_change(name, value) for name, value in study.best_params.items())
    best = configs.load(request.recipe, (*request.changes, *changes))
    # by another name, so that its run lies beside that of the recipe
    table = {**best.to_table(), "recipe": f"{base.recipe}-best"}
    if on_demo:  # these changes are made already, and would undo what was found
        table["demo"] = {**table["demo"], "set": []}
    path = request.out / "best.toml"
    path.write_text(folder.to_toml(table), encoding="utf-8")
    noise = _noise(study, complete, best, request)
    found = {
        "recipe": base.recipe,
        "monitor": base.train.monitor,
        "value": study.best_value,
        "settings": dict(study.best_params),
        "importances": _importances(study, complete) if noise.tells else {},
        "noise": noise.to_json(),
        "path": str(path),
    }
    rows = [(t.number, t.state.name.lower(), t.value, t.params) for t in study.trials]
    tuned.write(request.out / "report.html", found, rows)
    return found


def _noise(
    study: "optuna.Study", complete: Sequence[Any], best: RunConfig, request: Request
) -> trial_noise.Verdict:
    """Return whether the finished trials differ by more than noise."""
    error = None
    if len(complete) >= trial_noise.FEWEST:
        place = request.out / f"trial{study.best_trial.number:04d}"
        error = trial_noise.error_of_trial(
            RunRequest(best, request.data, place, request.side, device=request.device)
        )
    return trial_noise.judge([trial.value for trial in complete], error, best.train.monitor)


def _importances(study: "optuna.Study", complete: Sequence[Any]) -> dict[str, float]:
    """Return how much of the differences each setting explains, the same for the same trials."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if len({tuple(trial.params.items()) for trial in complete}) < 2:
        return {}
    weights = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: round(float(weight), 4) for name, weight in weights.items()}


def _write_trials(study: "optuna.Study", path: Path) -> None:
    names = sorted({name for trial in study.trials for name in trial.params})
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", "state", "value", *names])
        for trial in study.trials:
            values = [trial.params.get(name, "") for name in names]
            value = "" if trial.value is None else repr(trial.value)
            writer.writerow([trial.number, trial.state.name.lower(), value, *values])
