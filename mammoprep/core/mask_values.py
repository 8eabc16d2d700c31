"""``--mask-values``: what the numbers and colours of a mask file are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mammoprep.core.errors import ConfigError

MODES = ("binary", "instances", "classes")
NAMED = "named"
NO_FINDING = ("background", "ignore")
PATHOLOGIES = ("malignant", "benign")
MOST_NAMES = 64

Colour = tuple[int, int, int]

_NUMBER = re.compile(r"-?[0-9]{1,5}")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,31}")


@dataclass(frozen=True)
class Meaning:
    """What ``--mask-values`` says.

    Attributes:
        mode: One of ``MODES``, or ``named``.
        numbers: With ``named``: value -> name.
        colours: With ``named``: (red, green, blue) -> name.
    """

    mode: str
    numbers: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[Colour, str] = field(default_factory=dict)

    def name(self, value: int | Colour) -> str | None:
        """Return the name of a value or of a colour; a grey colour is a value too."""
        if isinstance(value, tuple):
            grey = value[0] if len(set(value)) == 1 else None
            return self.colours.get(value, None if grey is None else self.numbers.get(grey))
        return self.numbers.get(value, self.colours.get((value, value, value)))


def parse(text: str) -> Meaning:
    """Return the meaning that ``--mask-values`` states.

    Raises:
        ConfigError: it states none.
    """
    if text in MODES:
        return Meaning(text)
    pairs = [part.partition("=") for part in text.split(",")]
    numbers: dict[int, str] = {}
    colours: dict[Colour, str] = {}
    for written, sign, said in pairs:
        value, name = written.strip(), said.strip()
        if not sign or _NAME.fullmatch(name) is None:
            raise _wrong(text)
        if _NUMBER.fullmatch(value):
            known, numbers = len(numbers), {**numbers, int(value): name}
            again = len(numbers) == known
        elif _COLOUR.fullmatch(value):
            known, colours = len(colours), {**colours, _colour(value): name}
            again = len(colours) == known
        else:
            raise _wrong(text)
        if again:
            raise ConfigError(f"--mask-values names the value {value} twice.")
    if len(pairs) > MOST_NAMES:
        raise ConfigError(f"--mask-values names {len(pairs)} values, the limit is {MOST_NAMES}.")
    return Meaning(NAMED, numbers, colours)


def finding(name: str, kind: str | None, pathology: str | None) -> tuple[str | None, str | None]:
    """Return (kind, pathology) of what a name stands for: ``mass``, ``malignant``, or both.

    Args:
        name: As in ``--mask-values``.
        kind: What the table says, where the name is a pathology only.
        pathology: What the table says, where the name is a kind only.
    """
    first, _, rest = name.partition(" ")
    if first in PATHOLOGIES:
        return rest.strip() or kind, first
    return name, pathology


def _colour(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def _wrong(text: str) -> ConfigError:
    return ConfigError(
        f"--mask-values must be {', '.join(MODES)}, or VALUE=NAME,... such as "
        f"1=mass,2=calcification,3=malignant or '#ff0000=mass' (0 to 65535, or a colour; a name of "
        f"letters; background and ignore are no findings); got {text!r}."
    )
