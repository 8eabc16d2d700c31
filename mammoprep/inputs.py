"""Find a dataset, read its table, and see which of its files are there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mammoprep.core import cards, plugins
from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import Record
from mammoprep.core.tree import Tree, open_tree

SOURCES = "mammoprep.sources"


@dataclass(frozen=True)
class Inputs:
    """A dataset, found and read.

    Attributes:
        tree: The dataset's own folder.
        card: Its card.
        records: Its table.
        sizes: Input path -> bytes of what is there.
    """

    tree: Tree
    card: Card
    records: list[Record]
    sizes: Mapping[str, int]


def load_source(name: str) -> tuple[ModuleType, Card]:
    """Return a source's module and card.

    Raises:
        ConfigError: no such source.
    """
    return plugins.load(SOURCES, name, needs=("locate", "read")), cards.load(name)


def read_inputs(source: str, path: Path) -> Inputs:
    """Find and read a dataset.

    A source that makes its own data has a function ``provide(path)``, called first.

    Raises:
        ConfigError: not found (with what was expected, what was found, and how to get the data), or
            the table is damaged.
    """
    module, card = load_source(source)
    if hasattr(module, "provide"):
        module.provide(path)
    expected = f"Expected, in it or one folder below:\n{card.layout.strip()}\n{card.obtain.strip()}"
    if not path.exists():
        raise ConfigError(f"Input {path} does not exist. {expected}")
    tree = open_tree(path)
    folder = module.locate(tree)
    if folder is None:
        found = ", ".join(tree.folders()[:8]) or "no folders"
        raise ConfigError(f"{path} does not look like {source} (found {found}). {expected}")
    if folder:
        tree = tree.sub(folder)
    records = module.read(tree, card)
    sizes: dict[str, int] = {}
    for top in sorted({record.input.split("/", 1)[0] for record in records}):
        sizes |= tree.sizes(top)
    return Inputs(tree, card, records, sizes)


def count_warnings(source: str, inputs: Inputs) -> list[str]:
    """Return a line when the table is not the full published set."""
    training = [record for record in inputs.records if record.split != "test"]
    found = {"images": len(training), "patients": len({r.group for r in training})}
    odd = [
        f"{found[name]:,} {name} (the full set has {expected:,})"
        for name, expected in inputs.card.expected.items()
        if found.get(name) != expected
    ]
    return [f"This is not the full {source} set: {', '.join(odd)}."] if odd else []
