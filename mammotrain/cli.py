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
    fold: Annotated[int, typer.Option(help="Which fold is scored; the next one validates.")] = 0,
    set: Change = None,
    resume: Resume = False,
    device: Device = "auto",
    prevalence: Prevalence = "",
) -> None:
    """Train a recipe, score it, and write a report; with --resume go on bit for bit."""
    from mammotrain import config, first, operating
    from mammotrain import run as runs
    from mammotrain import summary as summaries
    from mammotrain.data.splits import Side

    changes = config.changes_for(data or (), recipe, tuple(set or ()))
    found = config.load(recipe, changes)
    place = out or Path("runs") / found.recipe
    request = runs.Request(
        found, tuple(data or ()), place, Side(fold), resume, device,
        prevalence=operating.prevalence_of(prevalence),
    )  # fmt: skip
    with _screen() as screen:
        report = runs.run(first.ready(request, screen), screen)
    _say(summaries.summary(report, place))


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
    set: Change = None,
    resume: Resume = False,
    device: Device = "auto",
    prevalence: Prevalence = "",
) -> None:
    """Train once for every fold and pool the scores of what each run left out."""
    from mammotrain import ablation, comparison, config, cross, distributed, first, operating
    from mammotrain import run as runs
    from mammotrain import summary as summaries
    from mammotrain.data.splits import Side

    changes = config.changes_for(data or (), recipe, tuple(set or ()))
    found = config.load(recipe, changes)
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
    prevalence: Prevalence = "",
) -> None:
    """Score shards with a finished run, at its own threshold; nothing is trained.

    On the shards that it was trained with, what it left out is scored; else every sample.
    """
    from mammotrain import operating, rescore
    from mammotrain import summary as summaries

    stated = operating.prevalence_of(prevalence)
    with _screen() as screen:
        request = rescore.Request(run, tuple(data), out, device, stated)
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
    fold: Annotated[int, typer.Option(help="Not looked at; the next one validates.")] = 0,
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
) -> None:
    """Compare runs on the same samples: differences with paired 95 % intervals."""
    from mammotrain import comparison, folder

    if len(runs) < 2:
        raise ConfigError("Give two or more runs to compare.")
    if html is not None:
        folder.check_new_file("--html", html)
    found = comparison.compare(runs)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        _print(comparison.table(found))
    if html is not None:
        html.write_text(comparison.page(found, "Runs compared"), encoding="utf-8")


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
        run, input, out, tta, masks, overlays, everything, share, id_map, device
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
