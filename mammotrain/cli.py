"""The command line of the trainer: so far it says what is coming, and refuses the rest."""

import sys

import typer

from mammoprep.core.errors import EXIT_OK, ConfigError, MammoError

COMING = {
    "deq": "multiscale deep equilibrium model, lesion patches",
    "unet": "EfficientNet-B0 U-Net, lesion segmentation",
    "efficientnet": "EfficientNet-B0, normal / benign / cancer",
    "densenet": "DenseNet121, breast ultrasound",
    "resnext": "ResNeXt50 with auxiliary heads, screening",
    "vit": "ViT-S/16 on 2:1 images, screening",
    "convnext": "ConvNeXt-Tiny, screening",
    "cvae": "convolutional VAE, anomaly score",
}
COMMANDS = ("run", "cv", "eval", "predict", "compare", "tune", "export")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Training on the shards that mammoprep builds. Not built yet: so far it lists what is "
    "coming (mammotrain recipes). The shards are plain WebDataset and can be used today.",
)


@app.command()
def recipes() -> None:
    """List the recipes that are coming."""
    for name, what in COMING.items():
        typer.echo(f"{name:<14}coming: {what}")


@app.command()
def models() -> None:
    """List the models that are coming."""
    recipes()


def _later(name: str) -> None:
    @app.command(
        name,
        help="Not built yet.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def command() -> None:
        raise ConfigError(
            f"mammotrain {name} is not built yet in this version. mammotrain recipes lists what is "
            "coming; the shards of mammoprep build are plain WebDataset and can be read today."
        )


for _name in COMMANDS:
    _later(_name)


def run() -> int:
    """Run the command line; errors made on purpose are one line."""
    try:
        app()
    except MammoError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return EXIT_OK
