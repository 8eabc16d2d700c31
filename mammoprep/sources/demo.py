"""A phantom made on the fly, in the layout of rsna, with its lesions annotated.

Nothing to download: the first build writes 12 synthetic patients into its input folder.
"""

import json
from dataclasses import replace
from pathlib import Path

from mammoprep.core import plugins
from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.schema import Lesion, Record, make_key
from mammoprep.core.tree import Tree

PATIENTS, SEED, SIZE_SCALE, PREVALENCE = 12, 2022, 0.25, 0.35


def provide(path: Path) -> None:
    """Write the phantom to ``path`` unless something is there already."""
    if path.exists() and any(path.iterdir()):
        return
    module = plugins.load("mammoprep.phantoms", "rsna", needs=("write",))
    module.write(path, patients=PATIENTS, seed=SEED, size_scale=SIZE_SCALE, prevalence=PREVALENCE)


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the tables, as ``rsna`` does."""
    found: str | None = plugins.load("mammoprep.sources", "rsna", needs=("locate",)).locate(tree)
    return found


def read(tree: Tree, card: Card) -> list[Record]:
    """Return the phantom's records with the true outlines of their lesions.

    Raises:
        ConfigError: as ``rsna`` does, or an outline is damaged.
    """
    rsna = plugins.load("mammoprep.sources", "rsna", needs=("read",))
    return [_annotated(record, tree) for record in rsna.read(tree, card)]


def _annotated(record: Record, tree: Tree) -> Record:
    patient, image = str(record.patient_id), str(record.image_id)
    named = replace(record, key=make_key("demo", patient, image), source="demo")
    name = f"truth/{patient}/{image}.json"
    try:
        truth = json.loads(tree.read(name))
        lesions = tuple(Lesion.from_json(item) for item in truth["lesions"])
    except RecordError:  # somebody's own rsna folder: build it, without annotation
        return named
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{name} is damaged. Remove the folder; the next build writes a new one."
        ) from None
    return replace(named, annotation="full", lesions=lesions)
