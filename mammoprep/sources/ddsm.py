"""DDSM patches by skooch, 2018: five TFRecord files for training, two pairs of ``.npy`` for test.

Nothing but headers is read here: an image is a part of its file. See ``data_manifests/ddsm.toml``.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from mammoprep.core import plugins
from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError
from mammoprep.core.parts import Part
from mammoprep.core.schema import Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources import _ddsm_order, _npy, _tfrecord
from mammoprep.sources._tables import refuse

SIDE = 299
TRAINING = tuple(f"training10_{number}" for number in range(_ddsm_order.FILES))
HELD_OUT = {"test": "test10", "cv": "cv10"}
CLASSES = (
    "negative",
    "benign calcification",
    "benign mass",
    "malignant calcification",
    "malignant mass",
)
MOST_IMAGES = 1_000_000
BLOCK = 1000  # tiles that make one group
REACH = 6  # records that one is compared with

_KEY = re.compile(r"ddsm_train([0-9])_([0-9]+)")
_FILM = re.compile(r"P_([0-9]{5})(?:_(LEFT|RIGHT)(?:_(CC|MLO))?)?")

Findings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Patch:
    """One image of a file.

    Attributes:
        part: ``train0`` to ``train4``, ``test`` or ``cv``.
        number: Its place there, from 0.
        label: Number of its class.
        pixels: Where they lie.
        film: Name of the film that it was cut from, or nothing.
    """

    part: str
    number: int
    label: int
    pixels: Part
    film: str = ""


def locate(tree: Tree) -> str | None:
    """Return the folder that holds any of the files, or None when there is none."""
    for folder in ("", *tree.folders()):
        prefix = f"{folder}/" if folder else ""
        names = [*(f"{name}.tfrecords" for name in TRAINING)]
        names += [f"{name}_data.npy" for name in HELD_OUT.values()]
        if any(_find(tree, name, prefix) for name in names):
            return folder
    return None


def _find(tree: Tree, file: str, prefix: str = "") -> str | None:
    """Return the path of a file, in a folder of its own name or without, or None."""
    own = f"{prefix}{file.rpartition('.')[0]}/{file}"
    return next((path for path in (own, f"{prefix}{file}") if tree.exists(path)), None)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record a patch; ``settle`` gives those of training their groups.

    Args:
        tree: The dataset's folder.
        card: Its ``target`` is ``abnormal``, ``class`` or ``cancer``.

    Raises:
        ConfigError: a file is damaged or has other values than published, with its records'
            numbers; half of a pair is missing; or the files lie compressed in a zip file.
    """
    patches = [
        patch
        for place, name in enumerate(TRAINING)
        if (file := _find(tree, f"{name}.tfrecords"))
        for patch in _training(tree, file, f"train{place}")
    ]
    patches += [patch for part in HELD_OUT for patch in _held_out(tree, part)]
    return [_record(patch, card) for patch in patches]


def _training(tree: Tree, file: str, part: str) -> Iterator[_Patch]:
    errors = []
    for example in _tfrecord.examples(tree, file):
        try:
            yield _patch(example, part)
        except ValueError as error:
            errors.append(f"record {example.number}: {error}")
    refuse(file, errors)


def _patch(example: _tfrecord.Example, part: str) -> _Patch:
    label, abnormal = (example.integers.get(name) for name in ("label", "label_normal"))
    pixels = example.parts.get("image")
    if label is None or pixels is None:
        raise ValueError("label and image must be there, with one value each")
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"label must be 0 to {len(CLASSES) - 1}, got {label}")
    if abnormal is not None and bool(abnormal) != bool(label):
        raise ValueError(f"label_normal is {abnormal}, label is {label}")
    film = _text(example.texts.get("filename", b""))
    return _Patch(part, example.number, label, pixels, film)


def _text(data: bytes) -> str:
    """Return a name that was written as NumPy keeps it, 4 bytes a character, or as plain text."""
    wide = len(data) % 4 == 0 and b"\0" in data
    return data.decode("utf-32-le" if wide else "utf-8", errors="replace")


def _held_out(tree: Tree, part: str) -> list[_Patch]:
    names = [f"{HELD_OUT[part]}_{kind}.npy" for kind in ("data", "labels")]
    found = [_find(tree, name) for name in names]
    if found == [None, None]:
        return []
    images, classes = found
    if images is None or classes is None:
        missing = names[found.index(None)]
        raise ConfigError(f"{missing} is missing; {' and '.join(names)} belong together.")
    labels = _npy.integers(tree, classes, MOST_IMAGES)
    layout = _npy.layout(tree, images)
    wanted = (len(labels), SIDE, SIDE)
    if layout.dtype != "u1" or layout.shape not in (wanted, (*wanted, 1)):
        raise ConfigError(
            f"{images}: expected uint8 of shape {wanted} for the {len(labels)} numbers of "
            f"{classes}, found {layout.dtype} of shape {layout.shape}."
        )
    wrong = [place for place, label in enumerate(labels) if not 0 <= label < len(CLASSES)]
    refuse(classes, [f"item {n}: label must be 0 to 4, got {labels[n]}" for n in wrong])
    return [_Patch(part, n, int(label), layout.item(n)) for n, label in enumerate(labels)]


def _record(patch: _Patch, card: Card) -> Record:
    label = patch.label
    key = make_key("ddsm", patch.part, f"{patch.number:05d}")
    film = _FILM.search(patch.film)
    patient = f"P_{film[1]}" if film else None
    targets = {"abnormal": int(label > 0), "class": label, "cancer": int(label > 2)}
    labels: dict[str, Scalar] = {
        "cancer": targets["cancer"],
        "abnormal": targets["abnormal"],
        "class": CLASSES[label],
        "kind": CLASSES[label].partition(" ")[2] or None,
        "part": patch.part.rstrip("0123456789"),
        "grouped_by": "patient" if film else None,
    }
    return Record(
        key=key,
        source="ddsm",
        group=patient or key.removeprefix("ddsm_"),
        input=patch.pixels.name,
        patient_id=patient,
        image_id=f"{patch.part} {patch.number}",
        laterality=film[2][0] if film and film[2] else None,
        view=film[3] if film else None,
        split="test" if patch.part in HELD_OUT else None,
        label=targets[card.target],
        labels={name: labels.get(name) for name in card.labels},
        stratum=f"class={CLASSES[label]}",
        raw=(SIDE, SIDE),
    )


def survey(data: bytes) -> dict[str, Any]:
    """Return what tells whether a patch shows the same place as another one.

    Raises:
        RecordError: the patch has another size.
    """
    found: dict[str, Any] = _alignment().fingerprint(data, (SIDE, SIDE))
    return found


def settle(records: Sequence[Record], findings: Findings) -> tuple[list[Record], list[str]]:
    """Return the records with their groups, and what the user should know.

    Patches that show nothing are excluded. Of training, what names its patient keeps that group;
    tiles whose place among the films is known make blocks of neighbours; the rest is compared with
    the next ones in sequence, and what shows the same place becomes one group.

    Args:
        records: What ``read`` returned.
        findings: Input -> what ``survey`` returned, or ``failure``.
    """
    seen = {r.key: found for r in records if "spots" in (found := findings.get(r.input, {}))}
    settled = {
        r.key: replace(r, excluded="blank_image") if seen.get(r.key, {}).get("blank") else r
        for r in records
    }
    blank = sum(record.excluded is not None for record in settled.values())
    loose, sequence = _sequence([r for r in records if r.split is None])
    blocks = _blocks(loose, sequence, seen)
    rest = [r for r in loose if r.key not in blocks]
    for key, (group, how) in {**blocks, **_runs(rest, seen)}.items():
        record = settled[key]
        labels = {**record.labels, "grouped_by": how}
        settled[key] = replace(record, group=group, labels=labels)
    return list(settled.values()), _lines(list(settled.values()), blank)


def _sequence(training: Sequence[Record]) -> tuple[list[Record], Mapping[str, int]]:
    """Return the records without patient as they were cut, and the rows that this rests on.

    Without rows that fit, the order of the files stands.
    """
    places = {
        record.key: (int(match[1]), int(match[2]))
        for record in training
        if (match := _KEY.fullmatch(record.key))
    }
    classes = {r.key: CLASSES.index(str(r.labels["class"])) for r in training}
    found = _ddsm_order.cut_order({places[key]: label for key, label in classes.items()})
    rows = {} if found is None else {key: found[place] for key, place in places.items()}
    loose = [record for record in training if record.patient_id is None]
    return sorted(loose, key=lambda record: rows.get(record.key, 0)), rows


def _blocks(
    loose: Sequence[Record], rows: Mapping[str, int], seen: Findings
) -> dict[str, tuple[str, str]]:
    """Return key -> block of tiles of neighbouring films; empty where no order can be proven."""
    first = _ddsm_order.FINDINGS
    tiles = [r.key for r in loose if rows.get(r.key, -1) >= first and r.key in seen]
    if not tiles:
        return {}
    among = _ddsm_order.tile_places()
    places = {key: int(among[rows[key] - first]) for key in tiles}
    tiles.sort(key=lambda key: places[key])
    if not _ddsm_order.neighbours_alike([float(seen[key]["mean"]) for key in tiles]):
        return {}
    return {key: (f"films_{place // BLOCK:02d}", "film block") for key, place in places.items()}


def _runs(rest: Sequence[Record], seen: Findings) -> dict[str, tuple[str, str]]:
    """Return key -> group of records in sequence that show the same place; others are left out."""
    known = [record for record in rest if record.key in seen]
    leader = {record.key: record.key for record in known}

    def first(key: str) -> str:
        while leader[key] != key:
            key = leader[key]
        return key

    alignment = _alignment()
    for place, one in enumerate(known):
        for other in known[place + 1 : place + 1 + REACH]:
            pair = seen[one.key], seen[other.key]
            same_class = one.labels["class"] == other.labels["class"]
            if not same_class or first(one.key) == first(other.key):
                continue
            if alignment.likeness(*pair, SIDE) >= alignment.SAME:
                leader[first(other.key)] = first(one.key)
    found = {record.key: first(record.key) for record in known}
    sizes = Counter(found.values())
    groups = {record.key: record.group for record in known}
    return {key: (groups[to], "same place") for key, to in found.items() if sizes[to] > 1}


def _lines(records: Sequence[Record], blank: int) -> list[str]:
    training = [record for record in records if record.split is None]
    how = [str(record.labels["grouped_by"] or "alone") for record in training]
    counts = ", ".join(f"{how.count(name):,} {name}" for name in sorted(set(how)))
    lines = [f"{blank:,} patches show nothing and are left out."] if blank else []
    if training:
        groups = len({record.group for record in training})
        lines.append(f"{len(training):,} training patches in {groups:,} groups: {counts}.")
    if "alone" in how:
        lines.append(
            f"{how.count('alone'):,} patches have no known patient, film or copy; those of one "
            "patient can be in different folds."
        )
    return lines


def _alignment() -> ModuleType:
    return plugins.load("mammoprep.decode", "alignment", needs=("fingerprint", "likeness", "SAME"))
