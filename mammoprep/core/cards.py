"""Dataset cards: what ``data_manifests/NAME.toml`` says about a dataset."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mammoprep.core.errors import ConfigError

# Fields that no card has, but the user's options.
GIVEN = {"table", "encoding", "sheet", "header_row", "label_map", "secret"}
LABEL_TYPES = ("bool", "int", "float", "str")


@dataclass(frozen=True)
class Card:
    """One dataset's card.

    Attributes:
        title: Full name.
        home_page: Where it comes from, https.
        licence: Terms in a few words, as far as known.
        citation: How to cite it.
        obtain: How to get the data, shown when the input is not found.
        layout: The files and folders that are expected, shown when the input is not found.
        expected: ``images`` and ``patients`` of the full set.
        labels: Label name -> type, one of ``LABEL_TYPES``.
        targets: Target name -> its class names by code, 0 first.
        target: The default target.
        truth: What the labels rest on and at which level.
        leaks: What is known to give the label away.
        notes: What was decided about the dataset's quirks.
        crop: Default of ``--crop``.
        orient: Default of ``--orient``.
        colour: Whether pictures keep their three channels.
        columns: Only for the user's own table: meaning -> name of the column, as ``--columns`` may
            change it; a name of ``""`` leaves a column out.
        table: Only for the user's own table: its path, when it is not in the dataset's folder.
        encoding: Only for the user's own table: of its text; empty for what it shows itself.
        sheet: Only for the user's own table: name or number of an Excel file's sheet.
        header_row: Only for the user's own table: the row of the column names, or None.
        label_map: Only for the user's own table: label as it stands there -> class; a class of
            ``""`` is unknown.
        keyed: Whether identifiers and paths are replaced by keyed hashes, so that a key is needed.
        secret: That key, in hexadecimal.
    """

    title: str
    home_page: str
    licence: str
    citation: str
    obtain: str
    layout: str
    expected: Mapping[str, int]
    labels: Mapping[str, str]
    targets: Mapping[str, list[str]]
    target: str
    truth: str
    leaks: list[str]
    notes: list[str]
    crop: str = "breast"
    orient: str = "left"
    colour: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    table: str = ""
    encoding: str = ""
    sheet: str = ""
    header_row: int | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = False
    secret: str = field(default="", repr=False)

    def public(self) -> dict[str, Any]:
        """Return what goes into ``dataset.json`` and the report."""
        return {
            "title": self.title,
            "home_page": self.home_page,
            "licence": self.licence,
            "citation": self.citation,
            "truth": self.truth,
            "leaks": list(self.leaks),
            "notes": list(self.notes),
        }


def folder() -> Path:
    """Return the folder of the cards: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "data_manifests"
    return inside if inside.is_dir() else package.parent / "data_manifests"


def load(name: str) -> Card:
    """Read the card of dataset ``name``.

    Raises:
        ConfigError: there is no card, or it lacks a field or has one too many.
    """
    path = folder() / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"Source {name!r} has no card; expected {path}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    known = {item.name for item in fields(Card)} - GIVEN
    if unknown := sorted(set(table) - known):
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}. Known: {', '.join(sorted(known))}.")
    try:
        card = Card(**table)
    except TypeError as error:
        raise ConfigError(f"{path}: {error}.") from None
    bad = [name for name, kind in card.labels.items() if kind not in LABEL_TYPES]
    if bad:
        raise ConfigError(f"{path}: label {bad[0]!r} must be one of {', '.join(LABEL_TYPES)}.")
    return card
