"""The command line of the trainer: options in, one call, one printout."""

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoprep.core.errors import EXIT_FAILURES, EXIT_OK, ConfigError, MammoError

if TYPE_CHECKING:
    from rich.table import Table

    from mammotrain import live
    from mammotrain.data.splits import Side


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Training on the shards that mammoprep builds. Try it without data: mammotrain run deq "
    "--data demo.",
)

Recipe = Annotated[str, typer.Argument(help="A recipe's name, or the path of a .toml file.")]
Data = Annotated[
    list[str] | None,
    typer.Option(
        help="Folder of shards, several times for several; or demo, for phantoms. "
        "(default: data/shards/NAME of the recipe's dataset)"
    ),
]
Change = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value, such as train.lr=1e-4; several times."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in the run's folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Prevalence = Annotated[
    str,
    typer.Option(
        help="Share of positives among those screened, for PPV and cancers per 1,000: 0.6% or "
        "0.006, of examinations; of another level breast=0.3%. (default: not stated)"
    ),
]


@app.command()
def run(
    recipe: Recipe,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. (default: runs/RECIPE)")
    ] = None,
    fold: Annotated[
        str,
        typer.Option(
            help="Which fold is left out and scored; a share of the others validates (or, with "
            "train.validate=next-fold, the next one). all: nothing but official test sets is left "
            "out, and nothing validates."
        ),
    ] = "0",
    epochs_from: Annotated[
        str,
        typer.Option(
            help="With --fold all: folder of a cv, whose folds' best epochs it trains for; or "
            "recipe. (default: runs/RECIPE-cv if there is one, else recipe)"
        ),
    ] = "",
    set: Change = None,
    resume: Resume = False,
    device: Device = "auto",
    prevalence: Prevalence = "",
) -> None:
    """Train a recipe, score it, and write a report; with --resume go on bit for bit."""
    from mammotrain import config, first, operating
    from mammotrain import run as runs
    from mammotrain import summary as summaries

    side = _left_out(fold, epochs_from)
    changes = config.changes_for(data or (), recipe, tuple(set or ()))
    found = config.load(recipe, changes)
    place = out or Path("runs") / f"{found.recipe}{'-all' if side.everything else ''}"
    request = runs.Request(
        found,
        tuple(data or ()),
        place,
        side,
        resume,
        device,
        epochs_from=epochs_from,
        prevalence=operating.prevalence_of(prevalence),
    )
    with _screen() as screen:
        report = runs.run(first.ready(request, screen), screen)
    _say(summaries.summary(report, place))


def _left_out(fold: str, epochs_from: str) -> "Side":
    """Return what --fold leaves out; raises ConfigError."""
    from mammotrain.data.splits import ALL, Side

    if fold == ALL:
        return Side(everything=True)
    if epochs_from:
        raise ConfigError("--epochs-from goes with --fold all; else train.epochs says how long.")
    if not fold.isdecimal():
        raise ConfigError(f"--fold must be a number from 0, or {ALL}; got {fold!r}.")
    return Side(int(fold))


@app.command()
def cv(
    recipe: Recipe,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of all runs. (default: runs/RECIPE-cv)")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Leave out one machine or site in turn: machine or site.")
    ] = "",
    ablate: Annotated[
        bool,
        typer.Option(
            "--ablate", help="Also each variant of the recipe's \\[ablate], in one table."
        ),
    ] = False,
    repeats: Annotated[
        int,
        typer.Option(
            help="The whole cv so often, with other random numbers; at least 3 tell how much of a "
            "score is the luck of a training."
        ),
    ] = 1,
    set: Change = None,
    resume: Resume = False,
    device: Device = "auto",
    prevalence: Prevalence = "",
) -> None:
    """Train once for every fold; each sample is scored by the one model that left it out.

    Models of folds have no common scale: samples are ranked within their fold, at their fold's own
    threshold, and the intervals are for other patients, not for other trainings (--repeats).
    """
    from mammotrain import (
        ablation,
        comparison,
        config,
        cross,
        distributed,
        first,
        operating,
        repeated,
    )
    from mammotrain import run as runs
    from mammotrain import summary as summaries
    from mammotrain.data.splits import Side

    changes = config.changes_for(data or (), recipe, tuple(set or ()))
    found = config.load(recipe, changes)
    if ablate and repeats != 1:
        raise ConfigError("--ablate and --repeats are not made together; repeat a variant by name.")
    kind = "ablate" if ablate else "cv"
    place = out or Path("runs") / f"{found.recipe}-{kind}{'-' + by if by else ''}"
    request = runs.Request(
        found, tuple(data or ()), place, Side(by=by), resume, device,
        prevalence=operating.prevalence_of(prevalence),
    )  # fmt: skip
    with _screen() as screen:
        if ablate:
            asked = ablation.Ablation(recipe, changes, request)
            compared = ablation.ablate(asked, screen)
            if distributed.leads():
                _print(comparison.table(compared, compared["changes"]))
            _say(f"Look at: {place / 'report.html'}")
        elif repeats != 1:
            report = repeated.repeat(first.ready(request, screen), repeats, screen)
            _say("\n".join([summaries.summary(report, place), *repeated.lines(report)]))
        else:
            report = cross.cross(first.ready(request, screen), screen)
            _say(summaries.summary(report, place))


@app.command(name="eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[list[str], typer.Option(help="Folder of shards, several times for several.")],
    out: Annotated[
        Path | None, typer.Option(help="Where scores and report go. (default: RUN/eval-SOURCE)")
    ] = None,
    device: Device = "auto",
    tta: Annotated[
        str,
        typer.Option(
            help="Mean over flipped pictures: none, horizontal, vertical, or flip for all four."
        ),
    ] = "none",
    prevalence: Prevalence = "",
) -> None:
    """Score shards with a finished run, at its own threshold; nothing is trained.

    On the shards that it was trained with, what it left out is scored; else every sample.
    """
    from mammotrain import operating, rescore
    from mammotrain import summary as summaries

    stated = operating.prevalence_of(prevalence)
    request = rescore.Request(run, tuple(data), out, device, tta, stated)
    with _screen() as screen:
        report, place = rescore.rescore(request, screen)
    _say(summaries.summary(report, place))


@app.command()
def tune(
    recipe: Recipe,
    trials: Annotated[int, typer.Option(help="How many, with those done before.", min=1)] = 20,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="What is tried for a setting: train.lr=1e-4..1e-2,log or model.width=32|48|64; "
            "several times. (default: the recipe's \\[tune], else learning rate and weight decay)"
        ),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study. (default: runs/RECIPE-tune)")
    ] = None,
    fold: Annotated[int, typer.Option(help="Not looked at; some of the others validate.")] = 0,
    set: Change = None,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """Try settings on the validation samples, and write the best ones as a recipe."""
    from mammotrain import config, tuning
    from mammotrain.data.splits import Side

    changes = config.changes_for(data or (), recipe, tuple(set or ()))
    spaces = dict(tuning.parse(text) for text in space or ())
    place = out or Path("runs") / f"{Path(recipe).stem}-tune"
    request = tuning.Request(
        recipe, changes, tuple(data or ()), place, trials, spaces, Side(fold), resume,
        device,
    )  # fmt: skip
    with _screen() as screen:
        found = tuning.tune(request, screen)
    typer.echo(f"best {found['monitor']} {found['value']:.4f}")
    for name, value in found["settings"].items():
        typer.echo(f"  {name} = {value}")
    if found["importances"]:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in found["importances"].items())
        typer.echo(f"Which settings mattered: {shares}")
    elif found["noise"]["reason"]:
        typer.echo(found["noise"]["reason"])
    again = _training(found["path"], data or (), fold, device)
    typer.echo(f"Train it: {again}\nLook at: {place / 'report.html'}")


def _training(recipe: str, data: Sequence[str], fold: int, device: str) -> str:
    """Return the command that trains a recipe on the same data, to be pasted into a shell."""
    words = ["mammotrain", "run", recipe]
    for each in data:
        words += ["--data", each]
    words += ["--fold", str(fold)] if fold else []
    words += ["--device", device] if device != "auto" else []
    return shlex.join(words)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more folders of run, cv or eval; the first is the "
            "one that the others are compared with."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page for people here; a new file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for comparison.md, .tex, .csv and .html; none is replaced."),
    ] = None,
    as_readers: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            help="Write the scores for iMRMC and RJafroc here, a new file named FILE.imrmc; "
            "FILE-cases.csv beside it says which case is which key.",
        ),
    ] = None,
    level: Annotated[
        str, typer.Option(help="What a case of --csv is: image, breast, exam or patient.")
    ] = "image",
) -> None:
    """Compare runs on the same samples: differences with paired 95 % intervals.

    Of a recipe that was trained at least three times, with other seeds or by cv --repeats, also how
    far it moves when it is trained again.

    mammotrain compare runs/a runs/b --out comparison
    """
    from mammotrain import comparison, readers
    from mammotrain.report import written_tables

    if len(runs) < 2:
        raise ConfigError("Give two or more runs to compare.")
    _check_new(html, out, as_readers)
    sides = comparison.opened(runs)
    study = readers.study(sides, level) if as_readers is not None else None
    found = comparison.compare(sides)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        _print(comparison.table(found))
    if html is not None:
        html.write_text(comparison.page(found, "Runs compared"), encoding="utf-8")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        written_tables.write_comparison(out, found, "Runs compared")
    if as_readers is not None and study is not None:
        readers.write(as_readers, study)
        for warning in study.warnings:
            typer.echo(f"{as_readers}: {warning}", err=True)


def _check_new(html: Path | None, out: Path | None, as_readers: Path | None) -> None:
    """Refuse before any work what cannot be written; raises ConfigError."""
    from mammotrain import folder, readers
    from mammotrain.report import written_tables

    if html is not None:
        folder.check_new_file("--html", html)
    if out is not None:
        written_tables.check_out(out)
    if as_readers is not None:
        readers.check_name(as_readers)
        for path in (as_readers, readers.cases_path(as_readers)):
            folder.check_new_file("--csv", path)


def _say(text: str) -> None:
    """Print, as the one of several processes that talks."""
    from mammotrain import distributed

    if distributed.leads():
        typer.echo(text)


def _print(table: "Table") -> None:
    from rich.console import Console

    Console().print(table)


@contextmanager
def _screen() -> Iterator["live.Screen"]:
    from rich.console import Console

    from mammotrain import distributed, live

    screen = live.Screen(Console(stderr=True, quiet=not distributed.leads()))
    try:
        yield screen
    finally:
        screen.stop()


@app.command()
def recipes() -> None:
    """List the recipes and what each is for."""
    from mammotrain import config

    names = config.recipe_names()
    width = max(map(len, names)) + 2
    for name in names:
        first = config.recipe_text(name).splitlines()[0].removeprefix("# ")
        typer.echo(f"{name:<{width}}{first}")


@app.command()
def models() -> None:
    """List the models."""
    from mammoprep.core import plugins

    for name in plugins.names("mammotrain.models"):
        typer.echo(name)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or of a cv.")],
    input: Annotated[
        str,
        typer.Argument(help="Folder of shards; or a DICOM file, or a folder or a zip of DICOM."),
    ],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    tta: Annotated[
        str,
        typer.Option(
            help="Mean over flipped pictures: none, horizontal, vertical, or flip for all four."
        ),
    ] = "none",
    masks: Annotated[
        bool, typer.Option("--masks", help="Write shards with the predicted masks to OUT/dataset.")
    ] = False,
    overlays: Annotated[bool, typer.Option(help="Draw every picture with what was found.")] = True,
    everything: Annotated[
        bool, typer.Option("--all", help="Also samples that the run has learned from.")
    ] = False,
    share: Annotated[
        float, typer.Option(help="Of a heat map's highest value: from there on it is a box.")
    ] = 0.5,
    id_map: Annotated[
        Path | None,
        typer.Option(help="CSV to write, private: which file each key stands for. DICOM only."),
    ] = None,
    device: Device = "auto",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="From which probability on the second of two classes is said. (default: each "
            "model's own; the mean of several has none)"
        ),
    ] = None,
) -> None:
    """Ask a finished run about pictures whose truth nobody knows.

    DICOM is prepared as the run's shards were, in memory. A cv's folder answers with the mean of
    its models; about the shards it was trained with, with the one that left the sample out. OUT
    gets scores.csv, scores.json, boxes.json (lesions, also in stored pixels), overlays/KEY.png and
    failures.jsonl. Exit status 3: files could not be read; the others, if any, were scored.

    mammotrain predict runs/resnext-cv exam.zip --out predicted --id-map who.csv
    """
    from mammotrain import predict as predicting

    request = predicting.Request(
        run, input, out, tta, masks, overlays, everything, share, id_map, device, threshold
    )
    with _screen() as screen:
        outcome = predicting.predict(request, screen)
    typer.echo(predicting.summary(outcome, out))
    if outcome.failed:
        raise typer.Exit(EXIT_FAILURES)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="The file; FILE.json beside it tells how to use it.")],
    format: Annotated[str, typer.Option(help="onnx or torchscript.")] = "onnx",
    data: Annotated[
        str,
        typer.Option(
            help="Shards whose pictures the file is compared on. (default: data/shards/NAME of the "
            "recipe's dataset; without these, drawn pictures)"
        ),
    ] = "",
) -> None:
    """Write a finished run as one file for other programs, and compare it with the model.

    It takes pictures as the run's preparation makes them, 0 to 1, and gives probabilities. It is
    refused when any of them differs by more than 1e-4.

    mammotrain export runs/resnext --format onnx --out resnext.onnx
    """
    from mammotrain import exporting

    checked = exporting.export(exporting.Request(run, format, out, data))
    typer.echo(
        f"{out}: {checked.pictures} pictures ({checked.on}) differ by {checked.difference:.2g} at "
        f"most. How to use it: {out}.json"
    )


def main() -> int:
    """Run the command line; errors made on purpose are one line."""
    try:
        app()
    except MammoError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return EXIT_OK
