"""From images to breasts, exams and patients: several examinations are never averaged."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from mammoprep.core.errors import ConfigError
from mammotrain import exams, levels, scores
from mammotrain.scores import Scores
from tests.scored import small


def with_exams(seed: int = 0, classes: int = 2) -> Scores:
    """40 patients of one to three exams, with repeated views; a label is the exam's side's."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, str, str, int]] = []
    for patient in range(40):
        fixed = int(rng.integers(classes))
        for exam in range(int(rng.integers(1, 4))):
            for side in "LR":
                label = int(rng.random() < 0.2) if classes == 2 else fixed
                for view in ("CC", "MLO", "CC")[: int(rng.integers(1, 4))]:
                    rows.append((f"p{patient}", f"e{exam}", side, view, label))
    rows = [rows[place] for place in rng.permutation(len(rows))]
    values = rng.dirichlet(np.ones(classes), len(rows))
    texts = np.array([row[:4] for row in rows])
    return Scores(
        np.array([f"k{n}" for n in range(len(rows))]), texts[:, 0], texts[:, 2], texts[:, 3],
        np.array([row[4] for row in rows]), values, tuple("abcdefgh"[:classes]), exam=texts[:, 1],
    )  # fmt: skip


PARTS = {
    "breast": ("group", "exam", "laterality"),
    "exam": ("group", "exam"),
    "patient": ("group",),
}


def parts(table: Scores, rows: list[int], names: tuple[str, ...]) -> dict[str, list[int]]:
    """Name -> the rows that share these columns."""
    found = defaultdict(list)
    for row in rows:
        found["/".join(str(getattr(table, name)[row]) for name in names)].append(row)
    return found


def worst(values: list[Any]) -> Any:
    """Of two classes those of the highest second one, of more the mean."""
    return max(values, key=lambda each: each[1]) if len(values[0]) == 2 else np.mean(values, axis=0)


def averaged(table: Scores, rows: list[int], level: str) -> Any:
    if level == "breast":
        views = parts(table, rows, ("view",)).values()
        return np.mean([np.mean([table.values[row] for row in each], axis=0) for each in views], 0)
    lower = "breast" if level == "exam" else "exam"
    return worst([averaged(table, e, lower) for e in parts(table, rows, PARTS[lower]).values()])


def highest(table: Scores, rows: list[int]) -> Any:
    best = np.max([table.values[row] for row in rows], axis=0)
    return np.array([1 - best[1], best[1]]) if len(best) == 2 else best / best.sum()


def plain(table: Scores, level: str, how: str) -> dict[str, tuple[int, Any]]:
    """Key -> label and scores, by loops over rows."""
    return {
        name: (
            max(int(table.label[row]) for row in rows),
            highest(table, rows) if how == "max" else averaged(table, rows, level),
        )
        for name, rows in parts(table, list(range(len(table))), PARTS[level]).items()
    }


@pytest.mark.parametrize("how", levels.HOW)
@pytest.mark.parametrize("level", levels.LEVELS[1:])
@pytest.mark.parametrize("classes", [2, 3])
def test_every_level_is_what_plain_loops_make_of_several_exams(
    level: str, how: str, classes: int
) -> None:
    for seed in range(5):
        table = with_exams(seed, classes)
        found, wanted = levels.aggregate(table, level, how), plain(table, level, how)
        assert sorted(found.key.tolist()) == sorted(wanted)
        for place, key in enumerate(found.key.tolist()):
            assert found.label[place] == wanted[key][0]
            assert found.values[place] == pytest.approx(wanted[key][1])
            assert key.split("/")[0] == found.group[place]


def test_the_normal_exam_of_2013_is_not_averaged_with_the_cancer_of_2018() -> None:
    table = small(
        [0, 0, 1, 1],
        [0.1, 0.1, 0.9, 0.7],
        group=["a"] * 4,
        view=["CC", "MLO"] * 2,
        exam=["2013", "2013", "2018", "2018"],
    )
    breast = levels.aggregate(table, "breast")
    assert breast.key.tolist() == ["a/2013/L", "a/2018/L"]
    assert breast.values[:, 1] == pytest.approx([0.1, 0.8])
    assert breast.label.tolist() == [0, 1]
    assert breast.exam is not None
    assert breast.exam.tolist() == ["2013", "2018"]
    assert levels.aggregate(table, "exam").key.tolist() == ["a/2013", "a/2018"]
    patient = levels.aggregate(table, "patient")
    assert patient.key.tolist() == ["a"]
    assert patient.values[:, 1] == pytest.approx([0.8])
    assert patient.exam is None


def test_a_group_whose_name_holds_a_slash_is_not_taken_for_the_exam_of_another() -> None:
    table = small([0, 1], [0.1, 0.9], group=["a", "a/b"], exam=["b", ""])
    with pytest.raises(ConfigError, match="twice"):
        levels.aggregate(table, "exam")
    assert len(levels.aggregate(table, "patient")) == 2


def test_images_without_a_side_are_one_more_breast_of_their_exam() -> None:
    table = small(
        [0, 0, 0], [0.2, 0.4, 0.1], group=["a"] * 3, laterality=["", "", "R"], exam=["e"] * 3
    )
    assert levels.aggregate(table, "exam").values[:, 1] == pytest.approx([0.3])
    assert "no laterality" in levels.why_not(table, "breast")


@pytest.mark.parametrize("exam", [["e", ""], ["?", "?"], ["e", "?"]])
def test_a_patient_of_several_exams_that_nobody_tells_apart_has_no_level_that_averages_them(
    exam: list[str],
) -> None:
    table = small(
        [0, 1, 0], [0.1, 0.9, 0.2], group=["a", "a", "b"], exam=[*exam, ""],
    )  # fmt: skip
    for level in ("breast", "exam", "patient"):
        assert "1 of 2 groups may have several exams" in levels.why_not(table, level)
        with pytest.raises(ConfigError, match="several exams"):
            levels.aggregate(table, level)
    assert levels.aggregate(table, "patient", "max").values[:, 1] == pytest.approx([0.9, 0.2])
    with pytest.raises(ConfigError, match="several exams"):
        levels.aggregate(table, "breast", "max")


def test_patients_of_whom_no_exam_is_told_are_taken_to_have_one_and_counted() -> None:
    table = small([0, 1, 0], [0.1, 0.9, 0.2], group=["a", "a", "b"], exam=["e", "e", ""])
    assert levels.aggregate(table, "exam").key.tolist() == ["a/e", "b"]
    assert levels.assumed(table) == 1
    assert levels.assumed(small([0, 1], [0.1, 0.9])) == 2


COLUMNS: dict[str, list[Any]] = {
    "key": ["k0", "k1", "k2", "k3"],
    "group": ["a", "a", "b", "b"],
    "laterality": ["L"] * 4,
    "view": ["CC"] * 4,
}


def exam_of(**told: list[Any]) -> list[str] | None:
    found = exams.of_columns(COLUMNS | told, np.arange(4))
    return None if found is None else found.tolist()


def test_an_exam_is_known_by_its_own_number_or_its_study() -> None:
    assert exam_of() is None
    assert exam_of(exam_id=[None] * 4, study_id=[None] * 4) is None
    assert exam_of(study_id=["s", "s", "t", "u"]) == ["s", "s", "t", "u"]
    assert exam_of(exam_id=["x", None, None, None], study_id=["s", "s", "t", "u"]) == [
        "x", "s", "t", "u",
    ]  # fmt: skip


def test_one_image_without_an_exam_beside_others_with_one_is_untold() -> None:
    assert exam_of(study_id=["s", None, None, None]) == ["s", "?", "", ""]


@pytest.mark.parametrize("name", exams.TELLING)
def test_what_differs_within_a_patient_tells_that_there_are_several_exams(name: str) -> None:
    told = {name: ["50", "50", "50", "55"]}
    assert exam_of(**told) == ["", "", "?", "?"]
    assert exam_of(**told, study_id=["s", "s", "t", "u"]) == ["s", "s", "t", "u"]
    assert exam_of(**{name: [None, "50", None, None]}) is None


def test_two_patients_in_one_group_have_an_exam_each() -> None:
    patients = ["x", "y", "z", None]
    assert exam_of(patient_id=patients) == ["x", "y", "", ""]
    assert exam_of(patient_id=patients, **{"labels.age": [50, 60, 70, 80]}) == ["x", "y", "", ""]
    same: dict[str, list[Any]] = {"group": ["a"] * 4, "patient_id": ["x", "x", "y", None]}
    assert exam_of(**same) == ["x", "x", "y", "?"]
    assert exam_of(**same, **{"labels.age": [50, 51, 70, 80]}) == ["?", "?", "y", "?"]
    assert exam_of(**same, study_id=["s", None, None, None]) == ["s", "?", "y", "?"]


def test_sets_that_are_known_to_hold_several_exams_of_a_patient_refuse_breasts() -> None:
    found = scores.from_columns(
        COLUMNS | {"source": ["inbreast"] * 4},
        np.arange(4),
        np.array([0, 1, 0, 1]),
        np.full((4, 2), 0.5),
        ("a", "b"),
    )
    assert "2 of 2 groups may have several exams" in levels.why_not(found, "breast")


def test_what_is_known_of_exams_outlasts_the_file_of_scores(tmp_path: Any) -> None:
    table = small([0, 1, 0], [0.1, 0.9, 0.2], group=["a", "a", "b"], exam=["?", "?", "e"])
    scores.write(tmp_path / "scores.csv", table)
    again = scores.read(tmp_path / "scores.csv")
    assert again.exam is not None
    assert again.exam.tolist() == ["?", "?", "e"]
    assert levels.why_not(again, "breast") == levels.why_not(table, "breast") != ""
