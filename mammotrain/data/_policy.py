"""What may be done to a training picture, as a recipe's ``[data.augmentation]`` says it."""

from dataclasses import dataclass

from mammoprep.core.errors import ConfigError

_SHARES = ("flip_horizontal", "flip_vertical", "shift", "foreground", "noise")
_MOST_BLUR = 8.0  # a wider kernel would cost more than everything else together


@dataclass(frozen=True)
class Augmentation:
    """How far each change may go; the defaults change nothing.

    All ranges are drawn from evenly, ``scale`` and ``gamma`` in their logarithm. What is exactly 0
    in the shard (padding, air) stays 0 under ``brightness``, ``contrast``, ``gamma`` and ``noise``.

    Attributes:
        flip_horizontal: Probability of exchanging left and right.
        flip_vertical: Probability of exchanging top and bottom.
        rotate_degrees: Turned by up to so much either way.
        shear_degrees: Vertical lines lean by up to so much either way.
        scale: (smallest, largest) magnification, 1 for none.
        shift: Moved by up to this share of width and of height.
        crop: (smallest, largest) share of both sides that is cut out, anywhere, and resized.
        window: (width, height) in pixels of the model's picture that are cut out and not resized:
            training sees what scoring sees, less of it at a time; empty for all of it. A side
            that is longer than the picture's is the picture's.
        foreground: Share of the windows whose centre is put on a lesion where the picture has one;
            the others are anywhere.
        brightness: Grey values times 1 - so much to 1 + so much.
        contrast: Slope at mid-grey, 1 - so much to 1 + so much, at most 0.5; 0, 0.5 and 1 stay.
        gamma: Exponent from 1 / (1 + so much) to 1 + so much.
        blur: Largest standard deviation of a Gaussian, in pixels of the model's input.
        noise: Largest standard deviation of added noise; the grey range is 1.
        cutouts: Most rectangles set to 0; how many is drawn from 0 to this.
        cutout_size: (smallest, largest) side of a rectangle as a share of the picture's side.
    """

    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0
    rotate_degrees: float = 0.0
    shear_degrees: float = 0.0
    scale: tuple[float, ...] = (1.0, 1.0)
    shift: float = 0.0
    crop: tuple[float, ...] = (1.0, 1.0)
    window: tuple[int, ...] = ()
    foreground: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cutouts: int = 0
    cutout_size: tuple[float, ...] = (0.1, 0.25)

    def __post_init__(self) -> None:
        """Check the limits; raises ConfigError."""
        for name in _SHARES:
            _between(name, getattr(self, name), 0.0, 1.0)
        _between("rotate_degrees", self.rotate_degrees, 0.0, 180.0)
        _between("shear_degrees", self.shear_degrees, 0.0, 60.0)
        _between("brightness", self.brightness, 0.0, 0.9)
        _between("contrast", self.contrast, 0.0, 0.5)
        _between("gamma", self.gamma, 0.0, 4.0)
        _between("blur", self.blur, 0.0, _MOST_BLUR)
        _between("cutouts", self.cutouts, 0, 64)
        _range("scale", self.scale, 0.1, 10.0)
        _range("crop", self.crop, 0.05, 1.0)
        _range("cutout_size", self.cutout_size, 0.0, 1.0)
        if self.window and (len(self.window) != 2 or min(self.window) < 1):
            raise ConfigError(
                "data.augmentation.window must be [width, height] in pixels, got "
                f"{list(self.window)}."
            )
        if self.foreground and not self.window:
            raise ConfigError("data.augmentation.foreground is of windows: give window too.")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"data.augmentation.{name} must be {low:g} to {high:g}, got {value:g}.")


def _range(name: str, value: tuple[float, ...], low: float, high: float) -> None:
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ConfigError(
            f"data.augmentation.{name} must be [smallest, largest] within {low:g} to {high:g}, "
            f"got {list(value)}."
        )


NONE = Augmentation()
