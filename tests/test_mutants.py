import pytest
from mutation import ROOT, Mutant, copied, is_seen, mutants, planted

ALL = mutants()


@pytest.mark.parametrize("mutant", ALL, ids=lambda each: f"{each.file}: {each.what}")
def test_every_planted_fault_still_fits_its_file(mutant: Mutant) -> None:
    whole = (ROOT / mutant.file).read_text()
    assert planted(whole, mutant) != whole
    assert all(each.startswith("-") or (ROOT / each).exists() for each in mutant.tests[:1])


def test_no_fault_is_planted_twice() -> None:
    assert len({(each.file, each.before, each.after) for each in ALL}) == len(ALL)


@pytest.mark.slow
def test_a_planted_fault_turns_a_test_red_and_a_comment_does_not(tmp_path) -> None:  # type: ignore[no-untyped-def]
    copy = copied(tmp_path / "copy")
    fault = next(each for each in ALL if each.what == "a one-sided p")
    assert is_seen(copy, fault)
    harmless = Mutant("none", fault.file, "DRAWS = 1000", "DRAWS = 1000  # draws", fault.tests)
    assert not is_seen(copy, harmless)
