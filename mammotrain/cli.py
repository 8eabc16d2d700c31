"""The command line of the trainer: options in, one call, one printout."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mammoprep.core.errors import EXIT_OK, ConfigError, MammoError

COMING = {
    "unet": "EfficientNet-B0 U-Net, lesion segmentation",
    "efficientnet": "EfficientNet-B0, normal / benign / cancer",
    "densenet": "DenseNet121, breast ultrasound",
    "resnext": "ResNeXt50 with auxiliary heads, screening",
    "vit": "ViT-S/16 on 2:1 images, screening",
    "convnext": "ConvNeXt-Tiny, screening",
    "cvae": "convolutional VAE, anomaly score",
}
COMMANDS = ("cv", "eval", "predict", "compare", "tune", "export")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Training on the shards that mammoprep builds. Try it without data: mammotrain run deq "
    "--data demo.",
)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or the path of a .toml file.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Folder of shards, several times for several; or demo, for phantoms."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. (default: runs/RECIPE)")
    ] = None,
    fold: Annotated[int, typer.Option(help="Which fold is scored; the next one validates.")] = 0,
    set: Annotated[
        list[str] | None, typer.Option(help="section.key=value, such as train.lr=1e-4.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in the run's folder.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a recipe, score it, and write a report; with --resume go on bit for bit."""
    from rich.console import Console

    from mammotrain import config, live
    from mammotrain import run as runs

    found = config.load(recipe, tuple(set or ()))
    place = out or Path("runs") / found.recipe
    request = runs.Request(found, tuple(data or ()), place, fold, resume, device)
    screen = live.Screen(Console(stderr=True))
    try:
        report = runs.run(request, screen)
    finally:
        screen.stop()
    typer.echo(runs.summary(report, place))


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
