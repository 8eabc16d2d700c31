"""What a search for leaks found, in words: each finding, and what to do about it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

IDS = ("group", "patient_id", "study_id", "exam_id")
WHOLE_GROUPS = (
    "Put every group into one split: `mammoprep split DIR --out NEW`, which keeps groups whole. "
    "When it is the patient that is torn, build again with the patient as the group."
)
ONE_GROUP = (
    "Keep one: `mammoprep split DIR --out NEW --where \"key not in ['KEY', ...]\"`. Or keep both "
    "on one side: build again with one group for both, or with `--split-file` and a line "
    "GROUP,SPLIT for each of their groups, all with one SPLIT."
)
IN_TWO = (
    "Train and score on one of the datasets, or leave the samples out of one: `mammoprep split DIR "
    "--out NEW --where \"key not in ['KEY', ...]\"`. A folder on its own: `mammoprep split DIR "
    "--check`."
)
WITH_ORIGINAL = (
    "`mammoprep split DIR --out NEW` puts augmented copies beside their originals, and leaves out "
    "those of val and test and those without an original."
)
REMEDIES = {
    **dict.fromkeys(IDS, WHOLE_GROUPS),
    "same_bytes": ONE_GROUP,
    "same_pixels": ONE_GROUP,
    "look_alike": ONE_GROUP,
    "augmented_outside": WITH_ORIGINAL,
    "augmented_scored": WITH_ORIGINAL,
    "augmented_apart": WITH_ORIGINAL,
    "augmented_orphan": WITH_ORIGINAL,
}


@dataclass(frozen=True)
class Finding:
    """One thing on both sides of a split, or one to know about.

    Attributes:
        kind: A leak: ``group``, ``patient_id``, ``study_id``, ``exam_id`` (one value in several
            splits), ``same_pixels``, ``look_alike``, ``same_bytes`` (of two datasets: equal files),
            ``augmented_outside`` (of an -aug shard),
            ``augmented_scored`` (in val or test), ``augmented_apart`` (from its original) or
            ``augmented_orphan``. A note: ``repeated`` (the same pixels twice in one split),
            ``two_labels`` (one picture, two labels) or ``flat`` (shows nothing to compare).
        keys: The samples, sorted.
        splits: Where they are, in the order of ``keys``.
        what: What was found.
        likeness: Correlation of a ``look_alike``, else None.
        datasets: Their folders, in the order of ``keys``, where several were compared.
    """

    kind: str
    keys: tuple[str, ...]
    splits: tuple[str, ...]
    what: str
    likeness: float | None = None
    datasets: tuple[str, ...] = ()

    @property
    def is_leak(self) -> bool:
        """Whether a score of this dataset would be wrong."""
        return self.kind in REMEDIES

    @property
    def remedy(self) -> str:
        """What to do about a leak."""
        return IN_TWO if self.datasets else REMEDIES[self.kind]

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints of it."""
        found = {**asdict(self), "leak": self.is_leak}
        if not self.datasets:
            del found["datasets"]
        return {**found, "remedy": self.remedy if self.is_leak else None}


@dataclass(frozen=True)
class Leaks:
    """What was compared, and what was found.

    Attributes:
        samples: How many samples the dataset has.
        groups: How many groups.
        splits: Names of the splits, augmented copies counted with their originals.
        columns: The columns of which one value must be in one split, as far as there are values.
        pictures: How many pictures were looked at.
        pairs: Pairs of pictures of different groups in different splits.
        candidates: How many pairs were laid upon each other.
        findings: Leaks and notes, leaks first.
        datasets: The folders, where several were compared with each other.
    """

    samples: int
    groups: int
    splits: tuple[str, ...]
    columns: tuple[str, ...]
    pictures: int
    pairs: int
    candidates: int
    findings: tuple[Finding, ...]
    datasets: tuple[str, ...] = ()

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that make a score wrong."""
        return tuple(finding for finding in self.findings if finding.is_leak)

    def to_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        told = {**asdict(self), "leaks": len(self.leaks)}
        if not self.datasets:
            del told["datasets"]
        return {**told, "findings": [item.to_json() for item in self.findings]}


def lines(found: Leaks, most: int = 20) -> list[str]:
    """Return what a person reads: what was compared, each finding, what to do next.

    Args:
        found: What ``find_leaks`` returned.
        most: Findings of one kind that are listed one by one.
    """
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in found.findings:
        by_kind[finding.kind].append(finding)
    told = [_compared(found)]
    for kind, inside in by_kind.items():
        word = "LEAK" if inside[0].is_leak else "note"
        told += [_line(word, finding) for finding in inside[:most]]
        if len(inside) > most:
            told.append(f"{word}  {kind}: and {len(inside) - most:,} more (--json lists all)")
    advice: Mapping[str, None] = dict.fromkeys(leak.remedy for leak in found.leaks)
    return [*told, *(f"What to do: {text}" for text in advice), _verdict(found)]


def _compared(found: Leaks) -> str:
    if found.datasets:
        return (
            f"Compared {found.samples:,} samples of {found.groups:,} groups in "
            f"{len(found.datasets)} datasets ({', '.join(found.datasets)}): "
            f"{', '.join(found.columns)} under one source; bytes and pixels of "
            f"{found.pictures:,} pictures; {found.pairs:,} pairs of pictures of different groups "
            f"in different datasets by looks, {found.candidates:,} of them laid upon each other."
        )
    return (
        f"Compared {found.samples:,} samples of {found.groups:,} groups in {len(found.splits)} "
        f"splits ({', '.join(found.splits)}): {', '.join(found.columns)} of each; the pixels of "
        f"{found.pictures:,} pictures; {found.pairs:,} pairs of pictures of different groups in "
        f"different splits by looks, {found.candidates:,} of them laid upon each other."
    )


def _verdict(found: Leaks) -> str:
    if found.datasets:
        return _verdict_across(found)
    if found.leaks:
        return f"{len(found.leaks):,} leaks: a score of this dataset would be too good."
    return (
        "No leak: no id, no picture (saved again, scaled, cropped, brightened, mirrored, a little "
        "turned) and no augmented copy is on two sides of a split."
    )


def _verdict_across(found: Leaks) -> str:
    if found.leaks:
        return (
            f"{len(found.leaks):,} leaks: what one dataset teaches would be scored in another, and "
            "the score would be too good."
        )
    return (
        "No leak between the datasets: no id of one source and no picture (saved again, scaled, "
        "cropped, brightened, mirrored, a little turned) is in two of them. Each on its own: "
        "mammoprep split DIR --check."
    )


def _line(word: str, finding: Finding) -> str:
    places = finding.splits
    if finding.datasets:
        places = tuple(f"{d} {s}" for d, s in zip(finding.datasets, finding.splits, strict=True))
    named = [f"{key} ({place})" for key, place in zip(finding.keys, places, strict=True)]
    more = f" and {len(named) - 4:,} more" if len(named) > 4 else ""
    return f"{word}  {finding.kind}: {finding.what}: {', '.join(named[:4])}{more}"
