"""The types and names that all parts share: records, keys, members."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from mammoprep.core.errors import ConfigError

FORMAT_VERSION = 1

Scalar = str | int | float | bool | None
Point = tuple[float, float]
Box = tuple[float, float, float, float]

LATERALITIES = ("L", "R")
VIEWS = ("CC", "MLO", "ML", "LM", "LMO", "AT", "FB", "SIO", "ISO", "XCCL", "XCCM")
COMMON_LABELS = ("cancer", "abnormal", "birads", "density")
ANNOTATIONS = ("full", "partial", "none")
UNUSABLE = "unusable"  # annotated, but of no outline is it known where it lies; no table says so
UNOUTLINED = ("none", UNUSABLE)  # of such a sample nothing is known about where lesions are

AUGMENTED = "-aug"  # ends the split of augmented copies, which no score may rest on

# A USTAR member name holds 100 bytes and the longest suffix is ".intersection.png"; what is left
# after that also has room for the "_r12_3" that a patch appends.
KEY_LIMIT = 72
_ILLEGAL = re.compile(r"[^a-z0-9_-]")


def base_split(split: str) -> str:
    """Return the split that a split's augmented copies belong to: ``fold0`` for ``fold0-aug``."""
    return split.removesuffix(AUGMENTED)


@dataclass(frozen=True)
class Lesion:
    """One annotated finding, in stored pixels.

    Attributes:
        id: Number of the finding in its image, from 1.
        kind: ``mass``, ``calcification`` and so on, or None when the dataset does not say.
        pathology: ``malignant``, ``benign`` or None.
        polygon: Outline as (x, y) points, continuous, (0, 0) at the outer corner of the first
            pixel.
        number: Number of the finding in its mask file, where that numbers several; the parts of one
            finding share it.
    """

    id: int
    kind: str | None
    pathology: str | None
    polygon: tuple[Point, ...]
    number: int | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Lesion":
        """Return a lesion from plain JSON values; a key that is no field is left out."""
        polygon = tuple((float(x), float(y)) for x, y in value["polygon"])
        number = value.get("number")
        return cls(int(value["id"]), value["kind"], value["pathology"], polygon, number)


@dataclass(frozen=True)
class MaskFile:
    """A file that holds the outline of one or several findings; it has not been read.

    Attributes:
        kind: As of ``Lesion``.
        pathology: As of ``Lesion``.
        inputs: Paths as ``Record.input``; the first that is a mask of the image counts, because
            datasets exist that swap a mask with another picture.
        outline: The file shows drawn lines, to be closed and filled, and not the findings' area.
    """

    kind: str | None
    pathology: str | None
    inputs: tuple[str, ...]
    outline: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "MaskFile":
        """Return a mask file from plain JSON values."""
        return cls(**{**value, "inputs": tuple(value["inputs"])})


@dataclass(frozen=True)
class Record:
    """One input image as its dataset's own table describes it; no pixel has been read.

    Attributes:
        key: Unique sample name, ``[a-z0-9_-]+``, begins with the source's name.
        source: Name of the source.
        group: What must never be on two sides of a split: the patient, where the dataset has
            patients.
        input: Path relative to the dataset's own folder, with forward slashes;
            ``FILE!OFFSET+LENGTH`` is a part of a file that holds many images.
        patient_id: The dataset's own patient identifier, or None.
        study_id: The dataset's own study identifier, or None.
        image_id: The dataset's own image identifier, or None.
        exam_id: Identifier of the four-view exam, or None.
        laterality: ``L``, ``R`` or None when the table does not say.
        view: ``CC``, ``MLO`` and so on, or None when the table does not say.
        split: ``train``, ``val`` or ``test`` when the dataset has an official one, else None.
        label: Class index of the target, or None when unknown.
        labels: Every label the table has; unknown is None.
        stratum: Records with the same stratum are spread evenly over the folds.
        annotation: ``full``, ``partial`` or ``none``: how much of the image was looked at for
            lesions; ``unusable`` where it was, but its outlines cannot be: only a look at the
            image tells.
        lesions: The annotated findings, as far as the tables have their outlines.
        masks: Files that hold the outlines of more findings.
        excluded: Code of the rule that leaves the record out on purpose, or None.
        range: (lowest, highest) value of a picture as the table states it, shown black and white;
            None where it does not.
        raw: (rows, columns) of headerless 8-bit pixels, or None for a file that tells its own size.
        parent: Key of the sample that this one is a patch or a copy of; no source sets it.
        lesion: Which of the parent's lesions a patch was cut around; no source sets it.
        augmented: Whether chance had a part in the sample's picture; no source sets it.
        alias: Name of the input in everything that is written, where its path may name a person;
            None for the path itself.
        failed: ``code`` and ``detail`` of a look before planning that failed, after which the file
            is not opened again; or None.
    """

    key: str
    source: str
    group: str
    input: str
    patient_id: str | None = None
    study_id: str | None = None
    image_id: str | None = None
    exam_id: str | None = None
    laterality: str | None = None
    view: str | None = None
    split: str | None = None
    label: int | None = None
    labels: Mapping[str, Scalar] = field(default_factory=dict)
    stratum: str = ""
    annotation: str = "none"
    lesions: tuple[Lesion, ...] = ()
    masks: tuple[MaskFile, ...] = ()
    excluded: str | None = None
    parent: str | None = None
    lesion: int | None = None
    augmented: bool = False
    raw: tuple[int, int] | None = None
    range: tuple[float, float] | None = None
    alias: str | None = None
    failed: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """What the input is called in everything that is written."""
        return self.input if self.alias is None else self.alias

    def called(self, file: str) -> str:
        """Return what one of ``files`` is called in everything that is written."""
        return self.name if file == self.input else file

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the sample is made of, the image first."""
        return (self.input, *(name for mask in self.masks for name in mask.inputs))

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, to send through a pipe or to hash."""
        return asdict(self)

    def public(self) -> dict[str, Any]:
        """Return ``to_json`` without what may name a person, to hash."""
        return {**asdict(self), "input": self.name}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Record":
        """Return the record that ``to_json`` wrote."""
        lesions = tuple(Lesion.from_json(item) for item in value["lesions"])
        masks = tuple(MaskFile.from_json(item) for item in value["masks"])
        raw = None if value["raw"] is None else (int(value["raw"][0]), int(value["raw"][1]))
        stated = value.get("range")
        range_ = None if stated is None else (float(stated[0]), float(stated[1]))
        return cls(**{**value, "lesions": lesions, "masks": masks, "raw": raw, "range": range_})


def make_key(source: str, *parts: str) -> str:
    """Return a legal sample key: lower case, ``[a-z0-9_-]+``, at most ``KEY_LIMIT`` characters.

    Other characters become ``-``; a longer name keeps its beginning and ends in 16 hexadecimal
    digits of its SHA-256, because a USTAR member name cannot hold more.

    Raises:
        ConfigError: a part is empty.
    """
    if not all(parts):
        raise ConfigError(f"Source {source!r} made an empty key part from {parts!r}.")
    key = _ILLEGAL.sub("-", "_".join((source, *parts)).lower())
    if len(key) <= KEY_LIMIT:
        return key
    digest = sha256("_".join((source, *parts)).encode()).hexdigest()[:16]
    return f"{key[: KEY_LIMIT - 17]}-{digest}"
