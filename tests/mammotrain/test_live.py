"""What a person reads of a validation: what is monitored first, nothing twice, when it was."""

from io import StringIO
from math import nan

import pytest
from rich.console import Console

from mammotrain.live import Screen


def told(monitor: str, position: int = 0, **found: float) -> str:
    """Return the line of a validation after step 7, with two epochs done."""
    output = StringIO()
    line = {"step": 7, "epoch": 2, "position": position, "monitor": monitor, "best": True}
    Screen(Console(file=output)).validated({**line, "validation": found})
    return output.getvalue().strip()


def test_what_is_monitored_stands_first() -> None:
    assert told("dice", auroc=0.75, loss=0.5, dice=0.25) == (
        "epoch 2: dice 0.2500, auroc 0.7500, loss 0.5000  best so far"
    )
    assert told("loss", auroc=0.75, loss=0.5).startswith("epoch 2: loss 0.5000, auroc 0.7500  best")


def test_what_is_monitored_is_shown_even_where_it_is_no_number() -> None:
    assert told("dice", auroc=nan, dice=nan, loss=0.5) == (
        "epoch 2: dice nan, loss 0.5000  best so far"
    )


@pytest.mark.parametrize("monitor", ["auroc", "macro_auroc"])
def test_of_several_classes_one_number_is_not_shown_twice(monitor: str) -> None:
    line = told(monitor, auroc=0.75, macro_auroc=0.75, accuracy=0.5)
    assert line == f"epoch 2: {monitor} 0.7500, accuracy 0.5000  best so far"


def test_in_the_middle_of_an_epoch_its_step_is_named() -> None:
    assert told("auroc", position=3, auroc=0.75) == "step 7: auroc 0.7500  best so far"
