"""Which steps, in which order, with which parameters; and running them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammoprep.core.stages import stage
from mammoprep.image import MammoImage

STEPS = "mammoprep.steps"


@dataclass(frozen=True)
class Step:
    """One step with its parameters bound.

    Attributes:
        name: File name of the step.
        apply: ``(image, **parameters) -> image``.
        parameters: By keyword.
    """

    name: str
    apply: Callable[..., MammoImage]
    parameters: Mapping[str, Any]

    def __call__(self, image: MammoImage) -> MammoImage:
        """Return the image after this step."""
        return self.apply(image, **self.parameters)


def bind(name: str, **parameters: Any) -> Step:
    """Return step ``name`` with parameters checked before any file is opened.

    Raises:
        ConfigError: unknown step or parameter.
    """
    apply = plugins.load(STEPS, name, needs=("apply",)).apply
    known = list(inspect.signature(apply).parameters)[1:]
    if unknown := sorted(set(parameters) - set(known)):
        raise ConfigError(
            f"Step {name!r} has no parameter {unknown[0]!r}. "
            f"Available: {', '.join(known) or 'none'}."
        )
    return Step(name, apply, parameters)


def recipe(
    *,
    resize: Mapping[str, Any] | None,
    bits: int,
    crop: str,
    orient: str,
    blank: bool,
    margin: float = 0.02,
) -> tuple[Step, ...]:
    """Return the steps from presentation values to the finished picture; ``quantise`` is the last.

    Args:
        resize: Parameters of that step; its size may be None for all stored pixels. None to keep
            the grid.
        bits: 8 or 16.
        crop: ``breast``, ``tight`` or ``none``.
        orient: ``left`` or ``none``.
        blank: Whether to black out burned-in labels.
        margin: Around the breast, as a share of its box's side.
    """
    steps = [
        bind("find-breast", cropped=crop != "none"),
        bind("orient", to=orient),
        bind("crop", region=crop, margin=margin),
    ]
    if resize is not None:
        steps.append(bind("resize", **resize))
    if blank:
        steps.append(bind("blank-labels"))
    return (*steps, bind("draw-lesions"), bind("quantise", bits=bits))


def run(steps: tuple[Step, ...], image: MammoImage) -> MammoImage:
    """Return the image after all steps, in order."""
    for step in steps:
        with stage(step.name):
            image = step(image)
    return image
