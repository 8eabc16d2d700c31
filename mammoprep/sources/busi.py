"""BUSI, 2020: three folders of breast ultrasound pictures, each with its masks; no table.

The names of the files are the table. There are no patients: pictures that show the same frame are
found by a survey of the files and make a group. See ``data_manifests/busi.toml``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from mammoprep.core import plugins
from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import MaskFile, Record, Scalar, make_key
from mammoprep.core.tree import Tree

CLASSES = ("normal", "benign", "malignant")
SHOWN = 5

_NAME = re.compile(
    r"(?P<name>(?P<kind>benign|malignant|normal) \((?P<number>[0-9]{1,6})\))"
    r"(?P<mask>_mask(?:_[0-9]{1,3})?)?\.png"
)


@dataclass
class _Picture:
    """One picture as the names of its files tell it.

    Attributes:
        kind: One of ``CLASSES``.
        number: Its number in its class, as written.
        masks: Endings of its mask files.
    """

    kind: str
    number: str
    masks: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """``benign (12)``."""
        return f"{self.kind} ({self.number})"

    @property
    def order(self) -> tuple[int, int, str]:
        """Place among all pictures; no other file changes it."""
        return CLASSES.index(self.kind), int(self.number), self.number


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the class folders, or None when there is none."""
    for folder in ("", *tree.folders()):
        places = [f"{folder}/{kind}" if folder else kind for kind in CLASSES]
        found = (path.rpartition("/")[2] for place in places for path in tree.sizes(place))
        if any(_NAME.fullmatch(name) for name in found):
            return folder
    return None


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record a picture, each a group of its own; ``settle`` joins them.

    A picture that is absent while its mask is there is listed, and so is the mask of a picture that
    has none: both are failures of the build.

    Raises:
        ConfigError: PNG files are not named as in the dataset.
    """
    pictures: dict[str, _Picture] = {}
    strange = []
    for folder in CLASSES:
        for path in sorted(tree.sizes(folder)):
            name = path.removeprefix(f"{folder}/")
            if not name.lower().endswith(".png") or name.rpartition("/")[2].startswith("."):
                continue  # what systems leave in folders
            match = _NAME.fullmatch(name)
            if match is None or match["kind"] != folder:
                strange.append(path)
                continue
            found = pictures.setdefault(match["name"], _Picture(folder, match["number"]))
            found.masks |= {match["mask"]} if match["mask"] else set()
    if strange:
        more = f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else ""
        raise ConfigError(
            f"Not named as in the dataset: {', '.join(strange[:SHOWN])}{more}. "
            "Expected CLASS/CLASS (N).png, CLASS (N)_mask.png and CLASS (N)_mask_1.png, where "
            "CLASS is benign, malignant or normal. Move other files away."
        )
    return [_record(picture, card) for picture in sorted(pictures.values(), key=lambda p: p.order)]


def _record(picture: _Picture, card: Card) -> Record:
    kind = picture.kind
    malignant = int(kind == "malignant")
    labels: dict[str, Scalar] = {
        "abnormal": int(kind != "normal"),
        "class": kind,
        "malignant": malignant,
    }
    endings = sorted({"_mask", *picture.masks}, key=lambda ending: (len(ending), ending))
    pathology = None if kind == "normal" else kind
    key = make_key("busi", kind, picture.number)
    return Record(
        key=key,
        source="busi",
        group=key.removeprefix("busi_"),
        input=f"{kind}/{picture.name}.png",
        image_id=picture.name,
        label=malignant if card.target == "malignant" else CLASSES.index(kind),
        labels={name: labels.get(name) for name in card.labels},
        stratum=f"class={kind}",
        annotation="full",
        masks=tuple(
            MaskFile(None, pathology, (f"{kind}/{picture.name}{ending}.png",)) for ending in endings
        ),
    )


def survey(data: bytes) -> dict[str, Any]:
    """Return what tells whether a picture shows the same frame as another one.

    Raises:
        RecordError: the picture cannot be read.
    """
    found: dict[str, Any] = _near_duplicates().fingerprint(data)
    return found


def settle(
    records: Sequence[Record], findings: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Record], list[str]]:
    """Return the records with near-duplicates as one group, and what the user should know.

    A group is named after the first of its pictures. One that was not surveyed, because it is
    absent or cannot be read, keeps a group of its own and unknown labels about duplicates.

    Args:
        records: What ``read`` returned.
        findings: Input -> what ``survey`` returned, or ``failure``.
    """
    seen = {
        record.input: findings[record.input]
        for record in records
        if "failure" not in findings.get(record.input, {"failure": "not there"})
    }
    known = {record.input: record for record in records}
    clusters = [[known[name] for name in names] for names in _near_duplicates().clusters(seen)]
    alone = [[known[name]] for name in seen.keys() - {r.input for c in clusters for r in c}]
    settled = {record.key: record for members in [*clusters, *alone] for record in _join(members)}
    lines = _lines(clusters, len(records), len(records) - len(seen))
    return [settled.get(record.key, record) for record in records], lines


def _join(members: Sequence[Record]) -> list[Record]:
    facts = {
        "near_duplicates": len(members) - 1,
        "label_conflict": len({record.labels["class"] for record in members}) > 1,
    }
    labels = [{name: facts.get(name, value) for name, value in r.labels.items()} for r in members]
    group = members[0].group
    return [
        replace(record, group=group, labels=own)
        for record, own in zip(members, labels, strict=True)
    ]


def _lines(clusters: Sequence[Sequence[Record]], images: int, unseen: int) -> list[str]:
    lines = []
    if clusters:
        count = sum(map(len, clusters))
        lines.append(
            f"{count:,} of {images:,} images are near-duplicates in {len(clusters):,} clusters; "
            "each cluster is in one fold."
        )
    mixed = [c for c in clusters if len({record.labels["class"] for record in c}) > 1]
    if mixed:
        named = "; ".join(" = ".join(str(record.image_id) for record in c) for c in mixed)
        lines.append(
            f"Clusters with more than one class: {len(mixed):,} ({named}). Their samples carry "
            "labels.label_conflict."
        )
    if unseen:
        lines.append(f"Not compared: {unseen:,} of {images:,} images; each is a group of its own.")
    return lines


def _near_duplicates() -> ModuleType:
    needs = ("fingerprint", "clusters")
    return plugins.load("mammoprep.decode", "near-duplicates", needs=needs)
