"""Find a dataset, read its table, and see which of its files are there."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mammoprep.core import cards, plugins
from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError
from mammoprep.core.parts import part_of
from mammoprep.core.schema import Record
from mammoprep.core.text import visible
from mammoprep.core.tree import Tree, bytes_of, open_tree

SOURCES = "mammoprep.sources"
SHOWN = 8


@dataclass(frozen=True)
class Inputs:
    """A dataset, found and read.

    Attributes:
        tree: The dataset's own folder.
        card: Its card.
        records: Its table.
        sizes: Input path -> bytes of what is there.
        remarks: What the user should know of the table, one line each.
    """

    tree: Tree
    card: Card
    records: list[Record]
    sizes: Mapping[str, int]
    remarks: tuple[str, ...] = ()


def load_source(name: str) -> tuple[ModuleType, Card]:
    """Return a source's module and card.

    Raises:
        ConfigError: no such source.
    """
    return plugins.load(SOURCES, name, needs=("locate", "read")), cards.load(name)


def read_inputs(
    source: str, path: Path, target: str = "", own: Mapping[str, Any] | None = None
) -> Inputs:
    """Find and read a dataset.

    A source that makes its own data has a function ``provide(path)``, called first.

    Args:
        source: Name of the source.
        path: Folder or zip.
        target: Which of the card's targets becomes ``label``; empty for the default. The source
            finds it as ``target`` of the card that it is given.
        own: Further fields of that card: what the user says about a table of their own. Such a
            source has a function ``complete(card, records)`` that returns the card with the classes
            that the table turned out to have.

    Raises:
        ConfigError: not found (with what was expected, what was found, and how to get the data), or
            the table is damaged.
    """
    module, card = load_source(source)
    card = replace(card, **(own or {}), target=target or card.target)
    if hasattr(module, "provide"):
        module.provide(path)
    expected = f"Expected, in it or one folder below:\n{card.layout.strip()}\n{card.obtain.strip()}"
    if not os.path.exists(path):  # noqa: PTH110 - of any path, without an error
        raise ConfigError(f"Input {path} does not exist. {expected}")
    tree = open_tree(path)
    folder = "" if card.table else module.locate(tree)
    if folder is None:
        found = f"found {_listed(tree)}{_looks_like(tree, source)}"
        raise ConfigError(f"{path} does not look like {source} ({found}). {expected}")
    if folder:
        tree = tree.sub(folder)
    records = module.read(tree, card)
    _check_names(records)
    if hasattr(module, "complete"):
        card = module.complete(card, records)
    sizes = _sizes(tree, [record.input for record in records])
    return Inputs(tree, card, records, sizes, tuple(getattr(records, "remarks", ())))


def _sizes(tree: Tree, names: Sequence[str]) -> dict[str, int]:
    """Return the bytes of every file in the folders of ``names``, and of the parts in ``names``."""
    parts = {name: part_of(name) for name in names}
    files = {part.file if part else name for name, part in parts.items()}
    sizes: dict[str, int] = {}
    beside = set(tree.files())
    for top in sorted({name.split("/", 1)[0] for name in files}):
        sizes |= {top: bytes_of(tree, top)} if top in beside else tree.sizes(top)
    # A name with accents may be there in another form; the tree knows.
    odd = [name for name in files - sizes.keys() if not name.isascii() and tree.exists(name)]
    sizes |= {name: bytes_of(tree, name) for name in odd}
    found = {n: p.length for n, p in parts.items() if p and p.inside(sizes.get(p.file, -1))}
    return sizes | found


def _check_names(records: Sequence[Record]) -> None:
    """Refuse names of files that are no text; what is written about a record must be text."""
    for record in records:
        for name in record.files if record.alias is None else ():
            if not name.isascii() and any("\ud800" <= mark <= "\udfff" for mark in name):
                raise ConfigError(
                    f"The name of the file {visible(name)} is not UTF-8 text. Rename it; "
                    "convmv or the archive's own tool does it for many."
                )


def _listed(tree: Tree) -> str:
    """Return the first folders and files of a tree, for a message."""
    names = [f"{name}/" for name in tree.folders()] + tree.files()
    return _shortened(names)


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(map(visible, names[:SHOWN]))}{more}" if names else "nothing"


def what_is_there(tree: Tree, path: str) -> str:
    """Return a sentence on what lies where ``path`` was looked for, or in the next folder above."""
    folder = path.rpartition("/")[0]
    while folder and not (found := tree.sizes(folder)):
        folder = folder.rpartition("/")[0]
    if not folder:
        return f"There is {_listed(tree)}."
    inside = (name.removeprefix(f"{folder}/").partition("/") for name in found)
    names = sorted({f"{first}{slash}" for first, slash, _ in inside})
    return f"In {folder}/ there is {_shortened(names)}."


def _looks_like(tree: Tree, source: str) -> str:
    """Return a hint at the sources whose layout a tree has, or nothing."""
    fitting = [name for name in plugins.names(SOURCES) if name != source and _fits(name, tree)]
    others = [name for name in fitting if not _takes_anything(name)] or fitting
    return f"; it looks like {' or '.join(others)}: try --source {others[0]}" if others else ""


def _fits(name: str, tree: Tree) -> bool:
    """Return whether a source finds its layout in a tree; one with data of its own never does."""
    module = load_source(name)[0]
    try:
        if _takes_anything(name):
            return bool(module.looks_like(tree))
        return not hasattr(module, "provide") and module.locate(tree) is not None
    except ConfigError:
        return False


def _takes_anything(name: str) -> bool:
    """Return whether a source finds its layout everywhere, and so says itself when to name it."""
    return hasattr(load_source(name)[0], "looks_like")


def count_warnings(source: str, inputs: Inputs) -> list[str]:
    """Return what is to be told of the table, and a line when it is not the full published set."""
    training = [record for record in inputs.records if record.split != "test"]
    found = {"images": len(training), "patients": len({r.group for r in training})}
    odd = [
        f"{found[name]:,} {name} (the full set has {expected:,})"
        for name, expected in inputs.card.expected.items()
        if found.get(name) != expected
    ]
    partial = [f"This is not the full {source} set: {', '.join(odd)}."] if odd else []
    return [*inputs.remarks, *partial]
