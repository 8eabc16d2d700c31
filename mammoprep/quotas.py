"""How many tiles and augmented copies each input is asked for, before any pixel is read."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256

from mammoprep.config import Settings
from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError
from mammoprep.core.plugins import suggest
from mammoprep.core.schema import Record, Scalar


def spread(total: int, keys: Iterable[str], seed: int) -> dict[str, int]:
    """Return key -> its part of ``total``, as even as whole numbers can be.

    Who gets one more is decided by a seeded hash of the key, not by order.
    """
    order = sorted(keys, key=lambda key: sha256(f"{seed}/{key}".encode()).hexdigest())
    if not order:
        return {}
    base, more = divmod(total, len(order))
    return {key: base + (place < more) for place, key in enumerate(order)}


def outlines(record: Record) -> int:
    """Return how many findings of a record have an outline, as far as its tables tell.

    The mask of an image in which nothing was found is empty.
    """
    if record.labels.get("abnormal") == 0:
        return 0
    return len(record.lesions) + len(record.masks)


def may_give_patches(record: Record) -> bool:
    """Return whether there can be a lesion patch, or tissue that is known to be free of lesions."""
    return outlines(record) > 0 or record.annotation == "full"


def tiles(
    records: Sequence[Record], placed: Mapping[str, str], settings: Settings
) -> dict[str, int]:
    """Return key -> number of background tiles, so that each split has ``--roi-ratio``.

    Tiles come from images of which every finding is outlined, with and without lesions alike.
    """
    by_split: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_split[placed[record.group]].append(record)
    positives, negatives = settings.roi_parts
    asked: dict[str, int] = {}
    for inside in by_split.values():
        wanted = Fraction(sum(map(outlines, inside)) * negatives, positives)
        givers = [record.key for record in inside if record.annotation == "full"]
        asked |= spread(round(wanted), givers, settings.seed)
    return asked


def copies(
    records: Sequence[Record], placed: Mapping[str, str], settings: Settings
) -> dict[str, int]:
    """Return key -> number of augmented copies that ``--roi-copies`` or ``--balance`` asks for.

    With ``--balance`` every class of a fold, or of the training set, comes to as many samples as
    its largest one; samples of which the label is unknown get no copy. Neither validation nor test
    sets are augmented.
    """
    training = [record for record in records if placed[record.group] not in ("val", "test")]
    if settings.roi is not None:
        return {record.key: settings.roi_copies for record in training}
    if settings.balance is None:
        return {}
    classes: dict[str, dict[Scalar, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in training:
        if (found := _class_of(record, settings.balance)) is not None:
            classes[placed[record.group]][found].append(record.key)
    asked: dict[str, int] = {}
    for by_class in classes.values():
        most = max(map(len, by_class.values()))
        for keys in by_class.values():
            asked |= spread(most - len(keys), keys, settings.seed)
    return asked


def check_balance(settings: Settings, card: Card, records: Sequence[Record]) -> Settings:
    """Return the settings with ``--balance TARGET`` written as ``label``.

    Raises:
        ConfigError: the dataset has no such label, it is a number on a scale, or no image has it.
    """
    if settings.balance is None:
        return settings
    known = {name: kind for name, kind in card.labels.items() if kind != "float"}
    name = "label" if settings.balance in ("label", settings.target) else settings.balance
    if name != "label" and name not in known:
        hint = suggest(name, list(known))
        listed = ", ".join(["label", *known])
        raise ConfigError(f"--balance {name!r}: no such label.{hint} Known: {listed}.")
    found = Counter(_class_of(record, name) for record in records)
    del found[None]
    if len(found) < 2:
        raise ConfigError(
            f"--balance {name}: needs two classes or more, the table has {len(found)}."
        )
    return replace(settings, balance=name)


def _class_of(record: Record, label: str) -> Scalar:
    """Return a record's class: ``label`` is its target, all else one of its labels."""
    return record.label if label == "label" else record.labels.get(label)
