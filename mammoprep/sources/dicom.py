"""Any folder or zip of DICOM files, without a table: the headers are all there is.

Headers and paths of such files name people. So the headers are read in ``survey``, in the child,
and what leaves it are keyed hashes; see ``core.pseudonyms``.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mammoprep.core import plugins
from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError, RecordError
from mammoprep.core.parts import Part
from mammoprep.core.pseudonyms import pseudonym
from mammoprep.core.schema import Record, make_key
from mammoprep.core.tree import FILE_LIMIT, Tree, bytes_of

SOURCE = "dicom"
SUFFIXES = (".dcm", ".dicom", "dicomdir")
MAGIC, MAGIC_AT = b"DICM", 128
TRIED = 64
POINTER = "a Git LFS pointer"
EXAM = {("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")}

Finding = Mapping[str, Any]


def locate(tree: Tree) -> str | None:
    """Return ``""``, the whole tree, when it holds any file at all, else None."""
    return "" if tree.files() or any(tree.sizes(top) for top in tree.folders()) else None


def looks_like(tree: Tree) -> bool:
    """Return whether there are DICOM files: by name, or by the mark in some of the first files."""
    paths = sorted(_sizes(tree))
    return any(path.lower().endswith(SUFFIXES) for path in paths) or any(
        _is_marked(tree, path) for path in paths[:TRIED]
    )


def _is_marked(tree: Tree, path: str) -> bool:
    try:
        return tree.read_part(Part(path, MAGIC_AT, len(MAGIC))) == MAGIC
    except (ConfigError, RecordError):
        return False


def _sizes(tree: Tree) -> dict[str, int]:
    """Return path -> bytes of every regular file, at any depth."""
    inside = {path: size for top in tree.folders() for path, size in tree.sizes(top).items()}
    return {**{path: bytes_of(tree, path) for path in tree.files()}, **inside}


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record a regular file, at any depth, sorted by path; ``survey`` says what it is.

    Raises:
        ConfigError: the card holds no key.
    """
    if not card.secret:
        raise ConfigError(f"Source {SOURCE} needs a key, because paths may name people.")
    records = []
    for path, size in sorted(_sizes(tree).items()):
        # No survey reads a file of this size; an archive or a film beside the pictures is no error.
        foreign = size > FILE_LIMIT and not _is_marked(tree, path)
        records.append(_record(path, card, "not_dicom" if foreign else None))
    return records


def _record(path: str, card: Card, excluded: str | None) -> Record:
    alias = pseudonym(card.secret, "input", path)
    return Record(
        key=make_key(SOURCE, alias),
        source=SOURCE,
        group=alias,
        input=path,
        labels=dict.fromkeys(card.labels),
        excluded=excluded,
        alias=alias,
    )


def survey(data: bytes, secret: str) -> dict[str, Any]:
    """Return what the source is told of a file: enumerations, and keyed hashes of identifiers.

    Raises:
        RecordError: the file is DICOM, and its header cannot be read.
    """
    identity = plugins.load("mammoprep.decode", "identity", needs=("identify",))
    found = identity.identify(data, Record(key=SOURCE, source=SOURCE, group=SOURCE, input=SOURCE))

    def hidden(level: str, *values: str | None) -> str | None:
        stated = [value for value in values if value is not None]
        return pseudonym(secret, level, *stated) if len(stated) == len(values) else None

    return {
        "excluded": found.excluded,
        "image": hidden("image", found.image),
        "study": hidden("study", found.study),
        "patient": hidden("patient", found.patient),
        "issued": hidden("patient", found.patient, found.issuer),
        "pixels": hidden("pixels", found.pixels),
        "laterality": found.laterality,
        "view": found.view,
        "manufacturer": found.manufacturer,
        "what": found.what,
    }


def settle(
    records: Sequence[Record], findings: Mapping[str, Finding]
) -> tuple[list[Record], list[str]]:
    """Return the records with what their headers say, and lines for the user.

    Args:
        records: What ``read`` returned.
        findings: Alias -> what ``survey`` returned, or ``failure`` and ``detail``.
    """
    seen = {name: found for name, found in findings.items() if "failure" not in found}
    taken = {name: found for name, found in seen.items() if found["excluded"] is None}
    first = _first_of_each(taken)
    people = _People(seen.values())
    settled = []
    for record in records:
        found = seen.get(record.name)
        if found is None:
            settled.append(_unseen(record, findings.get(record.name)))
        else:
            again = first.get(found["image"], record.name) != record.name
            settled.append(_described(record, found, people.group(found) or record.name, again))
    images = [found for name, found in taken.items() if first.get(found["image"], name) == name]
    lines = [*_group_lines(images, people), *_copy_lines(taken, first)]
    return _with_exams(settled), [*lines, *_foreign_lines(records, seen)]


def _first_of_each(taken: Mapping[str, Finding]) -> dict[str | None, str]:
    """Return SOP Instance UID -> the first file that has it; files without one are all first."""
    first: dict[str | None, str] = {}
    for name, found in taken.items():
        if found["image"] is not None:
            first.setdefault(found["image"], name)
    return first


class _People:
    """Which files are of one person, as far as identifiers tell."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        """Remember who is named without an issuer, and whose studies there are."""
        seen = list(findings)
        # Some files of a person lack the issuer: then the number alone has to do for all of them,
        # because one person in two groups would be in training and test.
        self._bare = {f["patient"] for f in seen if f["issued"] is None}
        self._of_study: dict[str, str] = {}
        for found in seen:
            patient = self.patient(found)
            if patient is not None and found["study"] is not None:
                self._of_study.setdefault(found["study"], patient)

    def patient(self, found: Finding) -> str | None:
        """Return the patient whom the header names."""
        bare = found["issued"] is None or found["patient"] in self._bare
        name: str | None = found["patient"] if bare else found["issued"]
        return name

    def group(self, found: Finding) -> str | None:
        """Return the patient, else the patient of other files of the study, else the study."""
        study: str | None = found["study"]
        return self.patient(found) or self._of_study.get(study or "") or study


def _unseen(record: Record, found: Finding | None) -> Record:
    if found is None:  # gone since the folder was listed; the plan counts it
        return record
    return replace(record, failed={"code": found["failure"], "detail": found["detail"]})


def _described(record: Record, found: Finding, group: str, again: bool) -> Record:
    code = found["excluded"] or ("duplicate" if again else None)
    image = found["image"] if code is None else None
    return replace(
        record,
        key=record.key if image is None else make_key(SOURCE, image),
        group=group,
        patient_id=None if found["patient"] is None else group,
        study_id=found["study"],
        image_id=found["image"],
        laterality=found["laterality"],
        view=found["view"],
        stratum=f"manufacturer={found['manufacturer']}",
        excluded=code,
    )


def _with_exams(records: list[Record]) -> list[Record]:
    """Name the exam of every study that has all four standard views."""
    views: dict[str | None, set[tuple[str | None, str | None]]] = defaultdict(set)
    for record in records:
        if record.excluded is None:
            views[record.study_id].add((record.laterality, record.view))
    whole = {study for study, found in views.items() if study is not None and found >= EXAM}
    return [
        replace(record, exam_id=record.study_id)
        if record.study_id in whole and record.excluded is None
        else record
        for record in records
    ]


def _group_lines(images: Sequence[Finding], people: _People) -> list[str]:
    """Return a line about images whose patient nobody knows."""
    nameless = [found for found in images if found["patient"] is None]
    if not nameless:
        return []
    joined = sum(people.group(found) not in (None, found["study"]) for found in nameless)
    alone = sum(people.group(found) is None for found in nameless)
    studies = len(nameless) - joined - alone
    return [
        f"{len(nameless):,} of {len(images):,} images have no Patient ID: {joined:,} were put to "
        f"the patient of their study, {studies:,} are grouped by study, {alone:,} stand alone. "
        "A patient with several of these may be on two sides of a split."
    ]


def _foreign_lines(records: Sequence[Record], seen: Mapping[str, Finding]) -> list[str]:
    """Return a line about files that are named as DICOM, or stand for a file, and are none."""
    found = Counter(
        str(seen[record.name]["what"])
        for record in records
        if record.name in seen
        and seen[record.name].get("what") is not None
        and (record.input.lower().endswith(SUFFIXES) or seen[record.name]["what"] == POINTER)
    )
    if not found:
        return []
    told = ", ".join(f"{number:,} x {what}" for what, number in sorted(found.items()))
    hint = " git lfs pull fetches what a pointer stands for." if POINTER in found else ""
    return [f"{found.total():,} files are named as DICOM and are none: {told}.{hint}"]


def _copy_lines(taken: Mapping[str, Finding], first: Mapping[str | None, str]) -> list[str]:
    """Return a line about files with the UID of another, when they are not its copies."""
    others = [
        found
        for name, found in taken.items()
        if (kept := first.get(found["image"], name)) != name
        and found["pixels"] != taken[kept]["pixels"]
    ]
    if not others:
        return []
    return [
        f"{len(others):,} files have the SOP Instance UID of another file and other encoded "
        "pixels: the same picture compressed otherwise, or two pictures under one name. The first "
        "by path was kept; the id map tells which (left_out = duplicate)."
    ]
