"""CBIS-DDSM: four tables of findings, one DICOM a view, a mask and a cut-out a finding.

A row is a finding; a record is a view, made of every row about it. Reads the paths of the tables
themselves, and the folders that the archive's own downloader makes today.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mammoprep.core.cards import Card
from mammoprep.core.errors import ConfigError
from mammoprep.core.schema import MaskFile, Record, Scalar, make_key
from mammoprep.core.tree import Tree
from mammoprep.sources._tables import Row, csv_rows, folder_of, one_of, refuse, value

# Table -> (kind of its findings, whether it is the official test part, its name for the density).
TABLES = {
    "mass_case_description_test_set.csv": ("mass", True, "breast_density"),
    "calc_case_description_test_set.csv": ("calcification", True, "breast density"),
    "mass_case_description_train_set.csv": ("mass", False, "breast_density"),
    "calc_case_description_train_set.csv": ("calcification", False, "breast density"),
}
TRAITS = {
    "mass": {"mass_shape": "mass shape", "mass_margins": "mass margins"},
    "calcification": {"calc_type": "calc type", "calc_distribution": "calc distribution"},
}
PATHS = ("image file path", "cropped image file path", "ROI mask file path")
COLUMNS = (
    "patient_id",
    "left or right breast",
    "image view",
    "abnormality id",
    "abnormality type",
    "assessment",
    "pathology",
    "subtlety",
    *PATHS,
)
DENSITIES: dict[str, Scalar] = {"0": None, "1": "A", "2": "B", "3": "C", "4": "D"}
SUBTLETIES: dict[str, Scalar] = {"0": None, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5}
PATHOLOGIES = ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK")
ASSESSMENTS = ("5", "4", "0", "3", "2", "1")  # the most suspicious first; 0 asks for more pictures
MOST_CANDIDATES = 4
_FOLDER = re.compile(r"(Mass|Calc)-(Training|Test)_P_[0-9]{5}_(LEFT|RIGHT)_(CC|MLO)(_[0-9]{1,2})?")
_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){3}")

Listing = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Finding:
    """One row.

    Attributes:
        participant: ``P_00001``.
        laterality: ``L`` or ``R``.
        view: ``CC`` or ``MLO``.
        number: Of the finding, in its view and table.
        kind: ``mass`` or ``calcification``.
        test: In the official test part.
        labels: ``density``, ``birads``, ``pathology``, ``subtlety`` and the kind's traits.
        image: The view's path in the table.
        mask: The mask's and the cut-out's.
    """

    participant: str
    laterality: str
    view: str
    number: int
    kind: str
    test: bool
    labels: Mapping[str, Scalar]
    image: str
    mask: tuple[str, str]

    @property
    def place(self) -> tuple[str, str, str]:
        """Participant, side and view: what has one picture."""
        return self.participant, self.laterality, self.view

    @property
    def malignant(self) -> bool:
        """Whether it is cancer; benign without callback is benign."""
        return self.labels["pathology"] == "MALIGNANT"


def locate(tree: Tree) -> str | None:
    """Return the folder that holds the tables: ``""`` for the root, or None when there is none."""
    return folder_of(tree, *TABLES)


def read(tree: Tree, card: Card) -> list[Record]:
    """Return one record a view.

    A view with a malignant and a benign finding is malignant. A view of which any finding is in a
    test table is a test view, with all its findings. Other views of a participant who has a test
    view are excluded as ``patient_in_official_test``.

    Raises:
        ConfigError: a table is absent, lacks a column, names a finding twice or holds a value of
            the wrong kind (the message gives table and row; row 1 is the header); or all four are
            empty.
    """
    if missing := [table for table in TABLES if not tree.exists(table)]:
        raise ConfigError(
            f"{missing[0]} is missing. All four tables are needed: a participant of one table's "
            "training part can be in the other's test part."
        )
    views: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for table in TABLES:
        for finding in _findings(tree, table):
            views[finding.place].append(finding)
    if not views:
        raise ConfigError("The four tables have headers but no rows.")
    tested = {f.participant for found in views.values() for f in found if f.test}
    listing = _list(tree)
    return [_record(views[place], tested, listing, card) for place in sorted(views)]


def _findings(tree: Tree, table: str) -> list[Finding]:
    kind, _, density = TABLES[table]
    found: dict[tuple[object, ...], int] = {}
    findings, errors = [], []
    rows = csv_rows(tree, table, [*COLUMNS, density, *TRAITS[kind].values()])
    # A row is two lines where a path ends in one, so rows are counted as a spreadsheet does.
    for number, (_, row) in enumerate(rows, 2):
        try:
            finding = _finding(row, table)
        except ValueError as error:
            errors.append(f"row {number}: {error}")
            continue
        earlier = found.setdefault((*finding.place, finding.number), number)
        if earlier != number:
            errors.append(f"row {number}: the same finding is in row {earlier}")
        findings.append(finding)
    refuse(table, errors)
    return findings


def _finding(row: Row, table: str) -> Finding:
    kind, test, density = TABLES[table]
    _needed(row, "abnormality type", one_of({kind: kind}))
    traits = {label: value(row, column, str, "na") for label, column in TRAITS[kind].items()}
    labels = {
        "density": value(row, density, one_of(DENSITIES)),
        "birads": value(row, "assessment", one_of({name: name for name in ASSESSMENTS})),
        "pathology": _needed(row, "pathology", one_of({name: name for name in PATHOLOGIES})),
        "subtlety": value(row, "subtlety", one_of(SUBTLETIES)),
        **traits,
    }
    image, crop, mask = (_needed(row, column, _path) for column in PATHS)
    return Finding(
        participant=_needed(row, "patient_id", _participant),
        laterality=_needed(row, "left or right breast", one_of({"LEFT": "L", "RIGHT": "R"})),
        view=_needed(row, "image view", one_of({"CC": "CC", "MLO": "MLO"})),
        number=int(_needed(row, "abnormality id", _number)),
        kind=kind,
        test=test,
        labels=labels,
        image=image,
        mask=(mask, crop),
    )


def _needed(row: Row, column: str, parse: Callable[[str], Scalar]) -> str:
    found = value(row, column, parse)
    if found is None:
        raise ValueError(f"{column} is empty")
    return str(found)


def _participant(text: str) -> str:
    if re.fullmatch(r"P_[0-9]{5}", text) is None:
        raise ValueError("a participant such as P_00001")
    return text


def _number(text: str) -> str:
    if re.fullmatch(r"[0-9]{1,2}", text) is None:
        raise ValueError("a number of one or two digits")
    return text


def _path(text: str) -> str:
    """Return a path of the tables; ``value`` has taken off the line end that many of them have."""
    if _PATH.fullmatch(text) is None:
        raise ValueError("a path of four parts")
    return text


def _list(tree: Tree) -> Listing:
    """Return the DICOM files by the folder that names their view or finding, wherever that is."""
    found: dict[str, list[str]] = defaultdict(list)
    for top in tree.folders():
        for path in tree.sizes(top):
            names = [part for part in path.split("/") if _FOLDER.fullmatch(part)]
            if names and path.lower().endswith(".dcm"):
                found[names[0]].append(path)
    return found


def _candidates(listing: Listing, wanted: str) -> list[str]:
    """Return the files that may be the one that a table names, the likeliest first."""
    files = listing.get(wanted.split("/", 1)[0], ())
    return sorted(files, key=partial(_doubt, wanted=wanted))[:MOST_CANDIDATES]


def _doubt(path: str, wanted: str) -> tuple[bool, bool, bool, str]:
    """Return how far a file is from what the table names: series, kind of series, place."""
    series = wanted.split("/")[-2]
    return (
        series not in path.split("/"),
        "mask" not in path.lower(),
        _place(path) != _place(wanted),
        path,
    )


def _place(path: str) -> int | None:
    """Return a file's place in its series: ``000001.dcm`` of the tables is ``1-2.dcm`` today."""
    name = path.rsplit("/", 1)[-1]
    if (counted := re.fullmatch(r"[0-9]+-([0-9]+)\.dcm", name)) is not None:
        return int(counted[1]) - 1
    numbered = re.fullmatch(r"([0-9]+)\.dcm", name)
    return None if numbered is None else int(numbered[1])


def _record(findings: list[Finding], tested: set[str], listing: Listing, card: Card) -> Record:
    first = findings[0]  # of the test tables where there is one
    labels = _labels(findings)
    in_test = any(finding.test for finding in findings)
    return Record(
        key=make_key("cbis-ddsm", *first.place),
        source="cbis-ddsm",
        group=first.participant,
        input=_image(findings, listing),
        patient_id=first.participant,
        image_id=first.image.split("/", 1)[0],
        laterality=first.laterality,
        view=first.view,
        # A split is a participant's: an excluded view has that of her test views.
        split="test" if first.participant in tested else None,
        label=_class(labels, card),
        labels={name: labels[name] for name in card.labels},
        stratum=f"cancer={labels['cancer']} kind={labels['kind']} density={labels['density']}",
        annotation="full",
        masks=tuple(_mask(finding, listing) for finding in findings),
        excluded=None if in_test or first.participant not in tested else "patient_in_official_test",
    )


def _class(labels: Mapping[str, Scalar], card: Card) -> int:
    found = labels[card.target]
    return found if isinstance(found, int) else card.targets[card.target].index(str(found))


def _image(findings: list[Finding], listing: Listing) -> str:
    """Return the view's file; a view in two tables has two copies, of which one may be absent."""
    there = [path for finding in findings for path in _candidates(listing, finding.image)[:1]]
    return there[0] if there else findings[0].image


def _mask(finding: Finding, listing: Listing) -> MaskFile:
    pathology = "malignant" if finding.malignant else "benign"
    found = _candidates(listing, finding.mask[0]) or [finding.mask[0]]
    return MaskFile(finding.kind, pathology, tuple(found))


def _labels(findings: list[Finding]) -> dict[str, Scalar]:
    def of(name: str) -> list[Scalar]:
        values = (finding.labels.get(name) for finding in findings)
        return [found for found in values if found is not None]

    subtleties = [int(found) for found in of("subtlety") if isinstance(found, int)]
    assessments = sorted(map(str, of("birads")), key=ASSESSMENTS.index)
    return {
        "cancer": int(any(finding.malignant for finding in findings)),
        "abnormal": 1,
        "birads": next(iter(assessments), None),
        "density": next(iter(of("density")), None),
        "kind": _joined(finding.kind for finding in findings),
        "pathology": _joined(of("pathology")),
        "subtlety": max(subtleties, default=None),
        "findings": len(findings),
        **{name: _joined(of(name)) for traits in TRAITS.values() for name in traits},
        "tables": _joined("test" if finding.test else "train" for finding in findings),
    }


def _joined(values: Iterable[Scalar]) -> str | None:
    """Return the different values, sorted, with + between; None when there is none."""
    return "+".join(sorted({str(found) for found in values})) or None
