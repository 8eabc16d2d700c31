"""Scores as a study of readers and cases: what iMRMC and RJafroc would read is what the runs said.

The reader here holds the file to the rules of both programs; see docs/training.md.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from compared import noisy, recipe, run_of
from hypothesis import given
from hypothesis import strategies as st
from scored import make, small
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from mammoprep.core.errors import ConfigError
from mammotrain import cli, comparison, levels, readers, scores

TABLE = make(120, 60)
COUNTS = ("N0", "N1", "NR", "NM")


@dataclass
class Read:
    """What a program would have in its hands."""

    header: list[str]
    truth: dict[int, int] = field(default_factory=dict)
    said: dict[tuple[int, int], dict[int, float]] = field(default_factory=dict)

    def auc(self, modality: int, reader: int) -> float:
        cases = self.said[modality, reader]
        return float(roc_auc_score([self.truth[case] for case in cases], list(cases.values())))

    @property
    def crossed(self) -> bool:
        pairs = {m for m, _ in self.said}, {r for _, r in self.said}
        whole = len(pairs[0]) * len(pairs[1]) == len(self.said)
        return whole and all(set(cases) == set(self.truth) for cases in self.said.values())


def strict(text: str) -> Read:
    """Read the layout as the stricter of both programs does, and refuse what either would."""
    lines = text.split("\n")
    assert lines.pop() == "", "the last line has no end"
    assert lines.count("BEGIN DATA:") == 1
    begin = lines.index("BEGIN DATA:")
    found = Read(lines[:begin])
    counts = {}
    for line in found.header:
        assert len(line) != 1, "iMRMC stops at a line of one character"
        assert not line.endswith(","), "iMRMC cuts it"
        upper = line.upper()
        assert "BEGIN DATA:" not in upper
        for name in COUNTS:  # iMRMC looks for them anywhere, and takes what follows character 3
            if f"{name}:" in upper:
                assert line.startswith(f"{name}:"), line
                assert name not in counts
                counts[name] = int(line[3:])
    for line in lines[begin + 1 :]:
        cells = line.split(",")
        assert len(cells) == 4, line
        assert cells == [cell.strip() for cell in cells]
        reader, case, modality = map(int, cells[:3])
        if reader == -1:
            assert modality == 0
            assert cells[3] in ("0", "1")
            assert case not in found.truth, "duplicate truth"
            found.truth[case] = int(cells[3])
        else:
            assert reader > 0
            assert modality > 0
            assert case in found.truth, "no truth before"
            cases = found.said.setdefault((modality, reader), {})
            assert case not in cases, "replicate observation"
            cases[case] = float(cells[3])
    positive = sum(found.truth.values())
    assert counts == {
        "N0": len(found.truth) - positive, "N1": positive,
        "NR": len({r for _, r in found.said}), "NM": len({m for m, _ in found.said}),
    }  # fmt: skip
    for cases in found.said.values():  # iMRMC leaves others out
        labels = [found.truth[case] for case in cases]
        assert min(sum(labels), len(labels) - sum(labels)) > 2
    return found


def written(home: Path, places: list[Path], level: str = "image") -> Read:
    made = readers.study(comparison.opened(places), level)
    readers.write(home / "x.imrmc", made)
    found = strict((home / "x.imrmc").read_text())
    assert found.crossed == made.crossed
    return found


def test_single_runs_are_modalities_of_one_reader(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(TABLE))
    tables = [TABLE.take(order), noisy(TABLE, 1)]
    places = [run_of(tmp_path / n, t) for n, t in zip("ab", tables, strict=True)]
    found = written(tmp_path, places)
    assert found.crossed
    for modality, table in enumerate(tables, start=1):
        wanted = roc_auc_score(table.label, table.values[:, 1])
        assert found.auc(modality, 1) == pytest.approx(wanted, abs=1e-12)
    assert "modality 2 is b" in found.header
    with (tmp_path / "x-cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = TABLE.key.tolist()
    assert [row["key"] for row in rows] == sorted(keys)
    for row in rows:
        place = keys.index(row["key"])
        assert int(row["truth"]) == found.truth[int(row["case"])] == TABLE.label[place]
        assert found.said[1, 1][int(row["case"])] == TABLE.values[place, 1]


def test_seeds_of_a_recipe_are_readers_of_one_modality(tmp_path: Path) -> None:
    places = [
        run_of(tmp_path / f"{name}{seed}", noisy(TABLE, 3 * seed + place), recipe(seed, lr=place))
        for place, name in enumerate("ab")
        for seed in range(3)
    ]
    found = written(tmp_path, places)
    assert found.crossed
    assert set(found.said) == {(m, r) for m in (1, 2) for r in (1, 2, 3)}
    for place, folder in enumerate(places):
        table = scores.read(folder / "scores.csv")
        wanted = roc_auc_score(table.label, table.values[:, 1])
        assert found.auc(place // 3 + 1, place % 3 + 1) == pytest.approx(wanted)


def test_a_model_of_a_cv_reads_only_what_it_left_out(tmp_path: Path) -> None:
    folds = np.where(np.arange(len(TABLE)) % 2, "fold0", "fold1")
    places = []
    for name, size in (("a", 0.1), ("b", 2.0)):
        parts = {f: noisy(TABLE, 1, size).take(folds == f) for f in ("fold0", "fold1")}
        parts["fold1"] = parts["fold1"].with_values(
            parts["fold1"].values * [0.01, 0.01] + [0.99, 0]
        )
        places.append(run_of(tmp_path / name, scores.join(parts), recipe(name=name, by="fold")))
    found = written(tmp_path, places)
    assert not found.crossed
    for modality, place in enumerate(places, start=1):
        table = scores.read(place / "scores.csv")
        for reader, fold in enumerate(("fold0", "fold1"), start=1):
            inside = table.take(table.fold == fold)
            wanted = roc_auc_score(inside.label, inside.values[:, 1])
            assert found.auc(modality, reader) == pytest.approx(wanted)
    made = readers.study(comparison.opened(places))
    assert any("RJafroc does not" in warning for warning in made.warnings)
    assert "reader 2 is training 1, fold1" in found.header


def test_repeats_of_a_cv_are_readers_too(tmp_path: Path) -> None:
    for name in "ab":
        for number in range(3):
            run_of(tmp_path / name / f"repeat{number}", noisy(TABLE, number), recipe(name=name))
    found = written(tmp_path, [tmp_path / "a", tmp_path / "b"])
    assert len(found.said) == 6
    assert "modality 1 is a" in found.header


def test_a_case_can_be_a_patient(tmp_path: Path) -> None:
    places = [run_of(tmp_path / n, noisy(TABLE, s)) for s, n in enumerate("ab")]
    found = written(tmp_path, places, "patient")
    upper = levels.aggregate(scores.read(places[0] / "scores.csv"), "patient")
    assert found.auc(1, 1) == pytest.approx(roc_auc_score(upper.label, upper.values[:, 1]))
    assert not readers.study(comparison.opened(places), "patient").warnings
    image = readers.study(comparison.opened(places))
    assert any("independent" in warning for warning in image.warnings)


def test_what_the_programs_cannot_read_is_refused(tmp_path: Path) -> None:
    def refused(message: str, *places: Path, level: str = "image") -> None:
        with pytest.raises(ConfigError, match=message):
            readers.study(comparison.opened(places), level)

    several = [run_of(tmp_path / f"s{n}", make(90, 40, classes=3, seed=n)) for n in (0, 0 + 1)]
    refused("two classes", *several[:1], several[0])
    few = small([1, 1, 0, 0, 0], [0.9, 0.8, 0.2, 0.1, 0.3])
    refused("3 negative and 2 positive", *[run_of(tmp_path / f"f{n}", few) for n in (0, 1)])
    one, other = run_of(tmp_path / "one", TABLE), run_of(tmp_path / "other", make(100, 50))
    refused("same samples", one, other)
    refused("--level must be one of", one, one, level="study")
    for name in ("x.txt", "x"):
        with pytest.raises(ConfigError, match=r"\.imrmc"):
            readers.check_name(tmp_path / name)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=2, unique=True))
def test_no_name_of_a_run_is_taken_for_a_count_or_for_data(names: list[str]) -> None:
    hostile = [
        f"{name}{end}" for name, end in zip(names, ("N0: 3", "\nBEGIN DATA:\n1,1,"), strict=True)
    ]
    observations = tuple(
        sorted((1, case, modality, 0.5) for case in range(1, 7) for modality in (1, 2))
    )
    cases = small([1, 1, 1, 0, 0, 0], [0.5] * 6)
    made = readers.Study("image", tuple(hostile), tuple(names[:1]), cases, observations)
    strict(readers.text(made))


def test_the_command_line_writes_it_beside_its_cases_and_says_what_to_mind(tmp_path: Path) -> None:
    places = [run_of(tmp_path / n, noisy(TABLE, s), recipe(lr=s)) for s, n in enumerate("ab")]
    arguments = ["compare", *map(str, places), "--csv", str(tmp_path / "x.imrmc")]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.exception
    assert "independent" in done.output
    strict((tmp_path / "x.imrmc").read_text())
    (tmp_path / "x.imrmc").unlink()
    done = CliRunner().invoke(cli.app, arguments)
    assert "x-cases.csv exists" in str(done.exception)
    assert not (tmp_path / "x.imrmc").exists()
    done = CliRunner().invoke(
        cli.app, [*arguments[:-1], str(tmp_path / "y.imrmc"), "--level", "patient"]
    )
    assert done.exit_code == 0
    assert "one patient" in (tmp_path / "y.imrmc").read_text()
