"""Compared runs as a study of several readers and cases, for programs that analyse such studies.

The layout is that of iMRMC; RJafroc reads it as ``DfReadDataFile(FILE, format = "iMRMC")``: any
lines, of which four count readers, modalities and cases, ``BEGIN DATA:``, and one line an
observation: reader, case, modality, score. The truth of a case is a line of reader -1.

A modality is a run or a recipe, and a reader is one trained model, whose scores are of one scale.
All of them are numbers, because RJafroc reads no others; what they stand for is in the lines above
the data, and of the cases in a file beside it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoprep.core.errors import ConfigError
from mammoprep.core.text import visible
from mammotrain import bootstrap, comparison, repeats
from mammotrain.comparison import Side
from mammotrain.levels import LEVELS
from mammotrain.report.written_tables import as_csv, short_names
from mammotrain.scores import Scores

BEGIN = "BEGIN DATA:"
TRUTH_READER, TRUTH_MODALITY = -1, 0
FEWEST = 3  # of each class, by each reader: iMRMC leaves a reader with fewer out
SUFFIXES = (".imrmc", ".csv")  # RJafroc takes only the first, iMRMC both
# A line above the data that holds one of these is read as a count, wherever it stands in it.
_COUNTS = re.compile(r"(N0|N1|NR|NM|BEGIN DATA):", re.IGNORECASE)

Observation = tuple[int, int, int, float]


@dataclass(frozen=True)
class Study:
    """Readings of cases.

    Attributes:
        level: What a case is: ``image``, ``breast``...
        modalities: What they are called; number 1 is the first.
        readers: The same of the models.
        cases: The scores of which the cases are, in order; number 1 is the first.
        observations: (reader, case, modality, score), numbers from 1.
    """

    level: str
    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    cases: Scores
    observations: tuple[Observation, ...]

    @property
    def crossed(self) -> bool:
        """Whether every reader has read every case in every modality."""
        whole = len(self.readers) * len(self.cases) * len(self.modalities)
        return len(self.observations) == whole

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an analysis of these readings must not overlook."""
        found = []
        groups = len(np.unique(self.cases.group))
        if groups < len(self.cases):
            found.append(
                f"The {len(self.cases):,} cases are of {groups:,} groups, and these programs take "
                "cases for independent: their intervals are too narrow. --level patient has one "
                "case a group."
            )
        if not self.crossed:
            found.append(
                "Not every reader has read every case (the models of a cv have each their own): "
                "iMRMC takes that, RJafroc does not."
            )
        return tuple(found)


def study(sides: Sequence[Side], level: str = LEVELS[0]) -> Study:
    """Return compared runs as readings of cases.

    Trainings of one recipe that differ only in the seed are readers of one modality, as the repeats
    of a cv are; of a cv each fold's model is a reader of the cases that were left out for it.

    Args:
        sides: As ``comparison.opened`` returns them.
        level: What a case is.

    Raises:
        ConfigError: more than two classes, no such level, other samples, or too few cases.
    """
    if level not in LEVELS:
        raise ConfigError(f"--level must be one of {', '.join(LEVELS)}, got {level!r}.")
    read = list(_readings(sides, level))
    first = read[0][2]
    if len(first.names) > 2:
        raise ConfigError(
            f"--csv is of two classes: negative and positive; these runs have {len(first.names)}."
        )
    for _, _, scores in read[1:]:
        bootstrap.check_same(first, scores)
    cases = first.take(np.argsort(first.key, kind="stable"))
    number = {key: place for place, key in enumerate(cases.key.tolist(), start=1)}
    readers = list(dict.fromkeys(n for _, names, _ in read for n in np.unique(names).tolist()))
    modalities = list(dict.fromkeys(modality for modality, _, _ in read))
    observations = [
        (readers.index(name) + 1, number[key], modalities.index(modality) + 1, float(value))
        for modality, names, scores in read
        for name, key, value in zip(
            names.tolist(), scores.key.tolist(), scores.values[:, 1].tolist(), strict=True
        )
    ]
    made = Study(level, tuple(modalities), tuple(readers), cases, tuple(sorted(observations)))
    _check(made)
    return made


def _readings(sides: Sequence[Side], level: str) -> Iterator[tuple[str, NDArray[np.str_], Scores]]:
    """Yield modality, the reader of each sample, and the scores, a part at a time."""
    trainings = [each for side in sides for each in side.trainings]
    recipes = repeats.by_recipe(trainings)
    place_of = {each.place: (modality, number) for modality, group in enumerate(recipes)
                for number, each in enumerate(group)}  # fmt: skip
    names = _modalities(sides, recipes)
    for side in sides:
        for part, training in zip(side.parts, side.trainings, strict=True):
            if training.place not in place_of:  # the same training, given twice
                continue
            modality, number = place_of.pop(training.place)
            judged = comparison.at_level(part, level)
            if judged is None:
                raise ConfigError(f"{part.place} has no {level} level; give another --level.")
            scores = judged.scores.labelled()
            again = f"training {number + 1}"
            folds = (
                np.full(len(scores), again)
                if scores.fold is None
                else np.char.add(f"{again}, ", scores.fold)
            )
            yield names[modality], folds, scores


def _modalities(sides: Sequence[Side], recipes: Sequence[Sequence[repeats.Training]]) -> list[str]:
    """Return what each recipe is called: by the folder that was given, the first of several."""
    given = {each.place: str(side.place) for side in sides for each in side.trainings}
    names = short_names([given[group[0].place] for group in recipes])
    return [names[given[group[0].place]] for group in recipes]


def _check(made: Study) -> None:
    """Refuse what iMRMC would leave out without a word."""
    label = made.cases.label
    seen: dict[tuple[int, int], list[int]] = {}
    for reader, case, modality, _ in made.observations:
        seen.setdefault((modality, reader), [0, 0])[int(label[case - 1])] += 1
    for (modality, reader), counts in sorted(seen.items()):
        if min(counts) < FEWEST:
            raise ConfigError(
                f"--csv: {made.readers[reader - 1]} of {made.modalities[modality - 1]} has "
                f"{counts[0]} negative and {counts[1]} positive cases; iMRMC needs {FEWEST} of "
                "each. Give runs that scored more."
            )


def text(made: Study) -> str:
    """Return the file."""
    positive = int(np.count_nonzero(made.cases.label == 1))
    lines = [
        f"Models as readers, runs or recipes as modalities; a case is one {made.level}",
        *_legend("modality", made.modalities),
        *_legend("reader", made.readers),
        *(f"note: {_line(warning)}" for warning in made.warnings),
        f"N0: {len(made.cases) - positive}",
        f"N1: {positive}",
        f"NR: {len(made.readers)}",
        f"NM: {len(made.modalities)}",
        "",
        BEGIN,
    ]
    truth = (
        f"{TRUTH_READER},{case},{TRUTH_MODALITY},{label}"
        for case, label in enumerate(made.cases.label.tolist(), start=1)
    )
    read = (f"{reader},{case},{modality},{s!r}" for reader, case, modality, s in made.observations)
    return "\n".join([*lines, *truth, *read]) + "\n"


def cases_text(made: Study) -> str:
    """Return the table that says what each number of a case stands for."""
    columns = (made.cases.key.tolist(), made.cases.group.tolist(), made.cases.label.tolist())
    rows = ((place, *row) for place, row in enumerate(zip(*columns, strict=True), start=1))
    return as_csv(("case", "key", "group", "truth"), rows)


def cases_path(path: Path) -> Path:
    """Return where the table of cases lies, beside the file."""
    return path.with_name(f"{path.stem}-cases.csv")


def check_name(path: Path) -> None:
    """Refuse a file that neither program would open; raises ConfigError."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(
            f"--csv {path} must end in .imrmc (iMRMC and RJafroc read it) or in .csv (iMRMC only)."
        )


def write(path: Path, made: Study) -> None:
    """Write the file and its table of cases, each whole or not at all."""
    for place, content in ((path, text(made)), (cases_path(path), cases_text(made))):
        partial = place.with_name(place.name + ".partial")
        partial.write_text(content, encoding="utf-8", newline="\n")
        partial.replace(place)


def _legend(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what} {place} is {_line(name)}" for place, name in enumerate(names, start=1)]


def _line(name: str) -> str:
    """Return a text that both programs pass over: no count, and no comma at its end."""
    return _COUNTS.sub(r"\1 :", visible(name)).rstrip(",")
