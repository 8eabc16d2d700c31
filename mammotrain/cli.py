"""The command line of the trainer: options in, one call, one printout."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoprep.core.errors import EXIT_OK, ConfigError, MammoError

if TYPE_CHECKING:
    from rich.table import Table

    from mammotrain import live

COMING = {
    "unet": "EfficientNet-B0 U-Net, lesion segmentation",
    "efficientnet": "EfficientNet-B0, normal / benign / cancer",
    "densenet": "DenseNet121, breast ultrasound",
    "resnext": "ResNeXt50 with auxiliary heads, screening",
    "vit": "ViT-S/16 on 2:1 images, screening",
    "convnext": "ConvNeXt-Tiny, screening",
    "cvae": "convolutional VAE, anomaly score",
}
COMMANDS = ("predict", "export")

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
) -> None:
    """Train a recipe, score it, and write a report; with --resume go on bit for bit."""
    from mammotrain import config
    from mammotrain import run as runs
    from mammotrain.data.splits import Side

    found = config.load(recipe, tuple(set or ()))
    place = out or Path("runs") / found.recipe
    request = runs.Request(found, tuple(data or ()), place, Side(fold), resume, device)
    with _screen() as screen:
        report = runs.run(request, screen)
    typer.echo(runs.summary(report, place))


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
        typer.Option("--ablate", help="Also each variant of the recipe's [ablate], in one table."),
    ] = False,
    set: Change = None,
    resume: Resume = False,
    device: Device = "auto",
) -> None:
    """Train once for every fold and pool the scores of what each run left out."""
    from mammotrain import ablation, comparison, config, cross
    from mammotrain import run as runs
    from mammotrain.data.splits import Side

    found = config.load(recipe, tuple(set or ()))
    kind = "ablate" if ablate else "cv"
    place = out or Path("runs") / f"{found.recipe}-{kind}{'-' + by if by else ''}"
    request = runs.Request(found, tuple(data or ()), place, Side(by=by), resume, device)
    with _screen() as screen:
        if ablate:
            asked = ablation.Ablation(recipe, tuple(set or ()), request)
            _print(comparison.table(ablation.ablate(asked, screen)))
            typer.echo(f"Look at: {place / 'report.html'}")
        else:
            typer.echo(runs.summary(cross.cross(request, screen), place))


@app.command(name="eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[list[str], typer.Option(help="Folder of shards, several times for several.")],
    out: Annotated[
        Path | None, typer.Option(help="Where scores and report go. (default: RUN/eval-SOURCE)")
    ] = None,
    device: Device = "auto",
) -> None:
    """Score shards with a finished run, at its own threshold; nothing is trained.

    On the shards that it was trained with, what it left out is scored; else every sample.
    """
    from mammotrain import rescore
    from mammotrain import run as runs

    with _screen() as screen:
        report, place = rescore.rescore(rescore.Request(run, tuple(data), out, device), screen)
    typer.echo(runs.summary(report, place))


@app.command()
def tune(
    recipe: Recipe,
    trials: Annotated[int, typer.Option(help="How many, with those done before.", min=1)] = 20,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="What is tried for a setting: train.lr=1e-4..1e-2,log or model.width=32|48|64; "
            "several times. (default: the recipe's [tune], else learning rate and weight decay)"
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
    from mammotrain import tuning
    from mammotrain.data.splits import Side

    spaces = dict(tuning.parse(text) for text in space or ())
    place = out or Path("runs") / f"{Path(recipe).stem}-tune"
    request = tuning.Request(
        recipe, tuple(set or ()), tuple(data or ()), place, trials, spaces, Side(fold), resume,
        device,
    )  # fmt: skip
    with _screen() as screen:
        found = tuning.tune(request, screen)
    typer.echo(f"best {found['monitor']} {found['value']:.4f}")
    for name, value in found["settings"].items():
        typer.echo(f"  {name} = {value}")
    typer.echo(f"Train it: mammotrain run {place / 'best.toml'}\nLook at: {place / 'report.html'}")


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
    html: Annotated[Path | None, typer.Option(help="Write a page for people here.")] = None,
) -> None:
    """Compare runs on the same samples: differences with paired 95 % intervals."""
    from mammotrain import comparison

    if len(runs) < 2:
        raise ConfigError("Give two or more runs to compare.")
    found = comparison.compare(runs)
    if as_json:
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        _print(comparison.table(found))
    if html is not None:
        html.write_text(comparison.page(found, "Runs compared"), encoding="utf-8")


def _print(table: "Table") -> None:
    from rich.console import Console

    Console().print(table)


@contextmanager
def _screen() -> Iterator["live.Screen"]:
    from rich.console import Console

    from mammotrain import live

    screen = live.Screen(Console(stderr=True))
    try:
        yield screen
    finally:
        screen.stop()


@app.command()
def recipes() -> None:
    """List the recipes, and those that are coming."""
    from mammotrain import config

    for name in config.recipe_names():
        first = config.recipe_text(name).splitlines()[0].removeprefix("# ")
        typer.echo(f"{name:<14}{first}")
    for name, what in COMING.items():
        typer.echo(f"{name:<14}coming: {what}")


@app.command()
def models() -> None:
    """List the models."""
    from mammoprep.core import plugins

    for name in plugins.names("mammotrain.models"):
        typer.echo(name)


def _later(name: str) -> None:
    @app.command(
        name,
        help="Not built yet.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def command() -> None:
        raise ConfigError(
            f"mammotrain {name} is not built yet in this version. mammotrain recipes lists what is "
            "there and what is coming; the shards of mammoprep build are plain WebDataset."
        )


for _name in COMMANDS:
    _later(_name)


def main() -> int:
    """Run the command line; errors made on purpose are one line."""
    try:
        app()
    except MammoError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return EXIT_OK
