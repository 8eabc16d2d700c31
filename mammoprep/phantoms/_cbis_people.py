"""Who is in a phantom of CBIS-DDSM: participants, findings, and what is wrong with their masks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mammoprep.phantoms._anatomy import Breast, both_breasts
from mammoprep.phantoms._cohort import generator
from mammoprep.phantoms._lesions import Finding

SIDES = {"L": "LEFT", "R": "RIGHT"}
VIEWS = ("CC", "MLO")
DENSITIES = "ABCD"
_PARTICIPANT = 21


@dataclass(frozen=True)
class Roi:
    """One finding of every view of a breast, as the tables tell it.

    Attributes:
        kind: ``mass`` or ``calcification``.
        part: ``Training`` or ``Test``: whose table it is in.
    """

    kind: str
    part: str


@dataclass(frozen=True)
class Person:
    """What is peculiar about a participant.

    Attributes:
        rois: Side -> findings.
        flaws: (side, view) -> what is wrong with the first finding's mask: any of ``swapped``,
            ``scaled``, ``cut``, ``no mask``, ``absent``, ``apart``.
    """

    rois: dict[str, tuple[Roi, ...]]
    flaws: dict[tuple[str, str], tuple[str, ...]]


MASS, CALC = Roi("mass", "Training"), Roi("calcification", "Training")
MASS_TEST, CALC_TEST = Roi("mass", "Test"), Roi("calcification", "Test")
PEOPLE = (
    Person({"L": (MASS,), "R": (CALC,)}, {("L", "CC"): ("swapped",), ("L", "MLO"): ("scaled",)}),
    Person({"L": (MASS, MASS), "R": (CALC, MASS)}, {("L", "CC"): ("apart",)}),
    Person({"L": (MASS, CALC_TEST), "R": (MASS,)}, {}),  # in both parts
    Person({"L": (MASS_TEST, CALC_TEST), "R": (CALC_TEST,)}, {}),
    Person(
        {"L": (MASS,), "R": (CALC,)},
        {
            ("L", "CC"): ("swapped", "scaled"),
            ("L", "MLO"): ("absent",),
            ("R", "CC"): ("no mask",),
            ("R", "MLO"): ("swapped", "cut"),
        },
    ),
)


@dataclass(frozen=True)
class Participant:
    """A participant with her breasts.

    Attributes:
        id: ``P_00001``.
        place: In the order of the tables.
        person: What is peculiar.
        density: ``A`` to ``D``.
        breasts: ``L`` and ``R``.
        findings: Side -> one finding a region of interest.
    """

    id: str
    place: int
    person: Person
    density: str
    breasts: dict[str, Breast]
    findings: dict[str, tuple[Finding, ...]]


@dataclass(frozen=True)
class Region:
    """A finding in a view: one row of a table.

    Attributes:
        participant: Whose.
        side: ``L`` or ``R``.
        view: ``CC`` or ``MLO``.
        place: Of the finding among those of the breast.
        number: Of the finding in its table.
    """

    participant: Participant
    side: str
    view: str
    place: int
    number: int

    @property
    def roi(self) -> Roi:
        """Kind and part."""
        return self.participant.person.rois[self.side][self.place]

    @property
    def finding(self) -> Finding:
        """What it is."""
        return self.participant.findings[self.side][self.place]

    @property
    def flaws(self) -> tuple[str, ...]:
        """What is wrong with its mask."""
        return (
            self.participant.person.flaws.get((self.side, self.view), ()) if not self.place else ()
        )

    @property
    def image_name(self) -> str:
        """The folder of the view."""
        kind = "Mass" if self.roi.kind == "mass" else "Calc"
        return f"{kind}-{self.roi.part}_{self.participant.id}_{SIDES[self.side]}_{self.view}"

    @property
    def name(self) -> str:
        """The folder of the finding."""
        return f"{self.image_name}_{self.number}"


def _finding(rng: np.random.Generator, roi: Roi, place: int, *, cancer: bool) -> Finding:
    """Return a finding; the second of a breast lies on the other side of the nipple."""
    aside = (-1) ** place * rng.uniform(0.55, 0.95)
    return Finding(
        kind=roi.kind,
        pathology="malignant" if cancer and place == 0 else "benign",
        depth=rng.uniform(0.4, 0.6),
        sideways=(aside, aside),
        radius=rng.uniform(5.0, 9.0) if roi.kind == "mass" else rng.uniform(4.0, 8.0),
        seed=int(rng.integers(1 << 31)),
    )


def draw(seed: int, place: int, prevalence: float) -> Participant:
    """Return a participant.

    Args:
        seed: Of the data set.
        place: Among the participants, from 0.
        prevalence: Share of breasts with cancer, 0 to 1.
    """
    rng = generator(seed, _PARTICIPANT, place)
    person = PEOPLE[place % len(PEOPLE)]
    density = str(rng.choice(list(DENSITIES)))
    findings = {}
    for side, rois in person.rois.items():
        cancer = bool(rng.uniform() < prevalence)
        findings[side] = tuple(_finding(rng, roi, at, cancer=cancer) for at, roi in enumerate(rois))
    breasts = both_breasts(rng, density)
    return Participant(f"P_{7 * place + 1:05d}", place, person, density, breasts, findings)


def regions(participant: Participant, side: str, view: str) -> Iterator[Region]:
    """Yield the findings of a view."""
    seen: dict[Roi, int] = {}
    for place, roi in enumerate(participant.person.rois[side]):
        seen[roi] = seen.get(roi, 0) + 1
        yield Region(participant, side, view, place, seen[roi])
