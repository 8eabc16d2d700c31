"""Who is screened: patients, their breasts, labels and exposures; no pixel is made here."""

from dataclasses import dataclass

import numpy as np

from mammoprep.phantoms._anatomy import Breast, both_breasts
from mammoprep.phantoms._lesions import Finding, findings
from mammoprep.phantoms._machines import MACHINES, Machine

_COHORT, _PATIENT = 1, 2
INVASIVE = 0.7
_DENSITIES, _DENSITY_SHARE = ("A", "B", "C", "D"), (0.11, 0.43, 0.41, 0.05)


@dataclass(frozen=True)
class Side:
    """One breast of a patient with what the table says of it.

    Attributes:
        breast: Its shape and pattern.
        findings: What is in it.
        cancer: 0 or 1.
        biopsy: 0 or 1; 1 when ``cancer`` is.
        invasive: 0 or 1; 1 only when ``cancer`` is.
        birads: ``0``, ``1``, ``2`` or empty.
        difficult: Negative although it was recalled or biopsied.
    """

    breast: Breast
    findings: tuple[Finding, ...]
    cancer: int
    biopsy: int
    invasive: int
    birads: str
    difficult: bool


@dataclass(frozen=True)
class Patient:
    """One patient.

    Attributes:
        id: The dataset's identifier.
        test: In the test part.
        machine: The one machine of all her images.
        age: Years.
        density: ``A`` to ``D``, in the table for site 1 only.
        sides: ``L`` and ``R``.
        images: (image id, laterality, view) of each exposure.
    """

    id: int
    test: bool
    machine: Machine
    age: int
    density: str
    sides: dict[str, Side]
    images: tuple[tuple[int, str, str], ...]


def generator(seed: int, stream: int, patient: int = 0, image: int = 0) -> np.random.Generator:
    """Return the random numbers of one thing, which nothing else uses."""
    return np.random.default_rng((seed, stream, patient, image))


def _negative(rng: np.random.Generator, site: int) -> tuple[int, str, bool]:
    """Return (biopsy, BIRADS, difficult) of a breast without cancer, at the real rates."""
    draw = rng.uniform()
    if site == 1:
        return next(
            answer
            for limit, answer in (
                (0.547, (0, "1", False)),
                (0.748, (0, "", False)),
                (0.827, (0, "2", False)),
                (0.942, (0, "0", True)),
                (2.0, (1, "0", True)),
            )
            if draw < limit
        )
    if draw < 0.89:
        return 0, "", False
    return (0, "0", True) if draw < 0.995 else (1, "", True)


def _side(
    rng: np.random.Generator, breast: Breast, site: int, share: float, *, cancer: bool
) -> Side:
    """Return a breast; ``share`` of the cancers are invasive."""
    if cancer:
        invasive = bool(rng.uniform() < share)
        birads = "0" if site == 1 else ""
        found = findings(rng, cancer=True, invasive=invasive)
        return Side(breast, found, 1, 1, int(invasive), birads, difficult=False)
    biopsy, birads, difficult = _negative(rng, site)
    suspicious = difficult or birads == "2"
    benign = rng.uniform() < (0.85 if suspicious else 0.06)
    found = findings(rng, cancer=False, invasive=False) if benign else ()
    return Side(breast, found, 0, biopsy, 0, birads, difficult)


def _views(rng: np.random.Generator) -> list[tuple[str, str]]:
    views = [("L", "CC"), ("L", "MLO"), ("R", "MLO"), ("R", "CC")]
    if rng.uniform() < 0.15:
        views.insert(int(rng.integers(5)), views[int(rng.integers(4))])
    return views


def _unique(rng: np.random.Generator, count: int, highest: int) -> list[int]:
    """Return ``count`` different identifiers from 1 to ``highest``, in random order."""
    seen: dict[int, None] = {}
    while len(seen) < count:
        seen[int(rng.integers(1, highest, endpoint=True))] = None
    return list(seen)


def _sick(rng: np.random.Generator, patients: int, tests: int, prevalence: float) -> set[int]:
    """Return the places of the patients with cancer; in train at least one, and never all."""
    train = patients - tests
    count = round(prevalence * train)
    if train >= 2:
        count = min(max(count, 1), train - 1)
    chosen = {int(place) for place in rng.permutation(train)[:count]}
    return chosen | {place for place in range(train, patients) if rng.uniform() < prevalence}


def _patient(
    rng: np.random.Generator,
    place: tuple[int, bool],
    machine: Machine,
    ids: list[int],
    cancer: tuple[bool, float],
) -> Patient:
    """Return a patient; ``cancer`` is whether she has one, and the share that is invasive."""
    sick, share = cancer
    density = str(rng.choice(_DENSITIES, p=_DENSITY_SHARE))
    breasts = both_breasts(rng, density)
    affected = "LR"[int(rng.integers(2))] if sick else ""
    sides = {
        side: _side(rng, breast, machine.site_id, share, cancer=side == affected)
        for side, breast in breasts.items()
    }
    age = int(np.clip(round(rng.normal(63 if sick else 58, 9)), 38, 89))
    images = tuple((ids[index], *view) for index, view in enumerate(_views(rng)))
    return Patient(place[0], place[1], machine, age, density, sides, images)


def screen(
    patients: int, seed: int, prevalence: float, invasive: float = INVASIVE
) -> list[Patient]:
    """Return the patients, in the table's order: by identifier, read as text.

    One tenth of the patients, at least one of four, is in the test part. Of two or more patients in
    train at least one has cancer and at least one has not.

    Args:
        patients: How many, at least 1.
        seed: Not negative.
        prevalence: Share of patients with cancer, 0 to 1.
        invasive: Share of cancers that are, 0 to 1.
    """
    rng = generator(seed, _COHORT)
    tests = max(1, round(patients / 10)) if patients >= 4 else 0
    people = _unique(rng, patients, max(65534, 4 * patients))
    images = _unique(rng, 5 * patients, 2**31 - 1)
    sick = _sick(rng, patients, tests, prevalence)
    order = rng.permutation(len(MACHINES))
    screened = [
        _patient(
            generator(seed, _PATIENT, place),
            (people[place], place >= patients - tests),
            MACHINES[order[place % len(MACHINES)]],
            images[5 * place : 5 * place + 5],
            (place in sick, invasive),
        )
        for place in range(patients)
    ]
    return sorted(screened, key=lambda patient: str(patient.id))
