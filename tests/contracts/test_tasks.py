"""Promises of every task, from the day its file exists; ``contracts.Task`` has them in words."""

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError
from mammotrain import priors
from mammotrain.contracts import Corrects, Draws, Output, Shown, Task, Weighs

TASKS = "mammotrain.tasks"
NAMES = plugins.names(TASKS)
COUNT, SIDE = 12, 16
ROWS = np.array([7, 2, 9, 0, 5, 4], np.int64)
SETTINGS = (bool, int, float, str, tuple)  # what a recipe can say
EXAMPLE: dict[str, dict[str, Any]] = {  # what has parts that the defaults lack
    "reconstruct": {"conditions": ("view", "density"), "ssim": 0.3},
    "screen": {"age": 0.1, "density": 0.1, "biopsy": 0.2, "invasive": 0.2, "birads": 0.1},
}
PICTURES = {"reconstruct", "segment"}  # their outputs have rows and columns
PAGES = {"segment": "segmentation.md"}  # the others are in tasks.md

every_task = pytest.mark.parametrize("name", NAMES)


def table() -> dict[str, np.ndarray]:
    """Return columns in which something of everything is unknown."""
    odd = [row % 2 for row in range(COUNT)]
    columns: dict[str, list[Any]] = {
        "label": odd,
        "view": ["CC", "MLO", "ML", None] * 3,
        "annotation": ["full"] * COUNT,
        "rois": [[{"id": 1}] if value else [] for value in odd],
        "labels.cancer": odd,
        "labels.age": [40.0 + row if row % 3 else None for row in range(COUNT)],
        "labels.density": ["A", None, "D"] * 4,
        "labels.biopsy": [1, 0, None, 1] * 3,
        "labels.invasive": [0, 1, None] * 4,
        "labels.birads": ["0", "1", None, "2"] * 3,
        "labels.site_id": [1, 2] * 6,
    }
    found = {}
    for key, values in columns.items():
        found[key] = np.empty(COUNT, object)
        found[key][:] = values
    return found


def build(name: str, training: np.ndarray | None = None, **more: Any) -> Task:
    plugin = plugins.load(TASKS, name, needs=("Config", "build", "known"))
    config = plugin.Config(**{**EXAMPLE.get(name, {}), **more})
    rows = np.arange(COUNT) if training is None else training
    found: Task = plugin.build(config, table(), ("negative", "cancer"), rows)
    return found


def shown(task: Task, rows: np.ndarray = ROWS) -> Shown:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(COUNT, 1, SIDE, SIDE, generator=generator)
    masks = torch.zeros(COUNT, 1, SIDE, SIDE)
    masks[1::2, :, 3:8, 4:9] = 1
    kept = masks[rows] if task.wants_masks else None
    return Shown(images[rows], kept, rows, task.conditions(rows))


def output(name: str, task: Task, rows: np.ndarray = ROWS) -> Output:
    """Return what some model may say, of every sample always the same."""
    generator = torch.Generator().manual_seed(2)
    size = (SIDE, SIDE) if name in PICTURES else ()
    logits = 2 * torch.randn(COUNT, task.outputs, *size, generator=generator)
    stats = {"kl": torch.linspace(0, 9, COUNT)[rows], "kl_cost": torch.linspace(0, 1, COUNT)[rows]}
    return Output(logits[rows].requires_grad_(), stats=stats)


def test_there_are_the_tasks_of_the_recipes() -> None:
    assert {"classify", "reconstruct", "screen", "segment"} <= set(NAMES)


@every_task
def test_a_task_is_configured_by_plain_values_that_are_explained(name: str) -> None:
    config = plugins.load(TASKS, name, needs=("Config",)).Config
    assert is_dataclass(config)
    assert config.__dataclass_params__.frozen
    assert all(isinstance(getattr(config(), field.name), SETTINGS) for field in fields(config))
    documented = config.__doc__ or ""
    assert not [f.name for f in fields(config) if f"        {f.name}: " not in documented]


@every_task
def test_a_tasks_settings_are_in_the_manual(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / PAGES.get(name, "tasks.md")).read_text()
    config = plugins.load(TASKS, name, needs=("Config",)).Config
    assert not [field.name for field in fields(config) if f"`{field.name}`" not in page]


@every_task
def test_a_task_says_what_the_contract_says(name: str) -> None:
    task = build(name)
    assert task.outputs >= 1
    assert len(task.score_names) >= 2
    assert len(set(task.score_names)) == len(task.score_names)
    assert task.classes.shape == (COUNT,)
    assert task.classes.dtype == np.int64
    assert set(task.classes.tolist()) <= {-1, *range(len(task.score_names))}
    assert isinstance(task.wants_masks, bool)
    assert task.specificity is None or 0 < task.specificity < 1


@every_task
def test_who_has_the_target_is_who_has_a_class(name: str) -> None:
    plugin = plugins.load(TASKS, name, needs=("Config", "known"))
    known = plugin.known(table(), plugin.Config(**EXAMPLE.get(name, {})))
    assert known.dtype == bool
    assert np.array_equal(known, build(name).classes >= 0)


@every_task
def test_it_learns_from_some_of_the_rows_in_their_order(name: str) -> None:
    found = build(name).learns_from(np.arange(COUNT))
    assert found.size
    assert np.array_equal(found, np.unique(found))
    assert set(found.tolist()) <= set(range(COUNT))
    assert build(name).learns_from(np.zeros(0, np.int64)).shape == (0,)


@every_task
def test_targets_and_conditions_are_those_of_the_rows(name: str) -> None:
    task = build(name)
    whole, some = (shown(task, rows) for rows in (np.arange(COUNT), ROWS))
    every, own = task.targets(whole), task.targets(some)
    assert len(own) == len(ROWS)
    assert torch.equal(torch.nan_to_num(every[ROWS], -9), torch.nan_to_num(own, -9))
    assert torch.equal(torch.nan_to_num(task.targets(some), -9), torch.nan_to_num(own, -9))
    if some.conditions is not None:
        assert some.conditions.dtype == torch.float32
        assert torch.equal(whole.conditions[ROWS], some.conditions)


@every_task
@pytest.mark.parametrize("half", [False, True])
def test_the_loss_is_finite_and_leads_back_to_every_column(name: str, half: bool) -> None:
    task = build(name)
    found = output(name, task)
    said = replace(found, logits=found.logits.bfloat16()) if half else found
    loss = task.loss(said, task.targets(shown(task)))
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    loss.backward()
    gradient = found.logits.grad
    assert gradient.isfinite().all()
    assert (gradient.abs().amax((0, *range(2, gradient.ndim))) > 0).all()


@every_task
def test_a_step_against_the_gradient_lowers_the_loss(name: str) -> None:
    task = build(name)
    found, wanted = output(name, task), task.targets(shown(task))
    loss = task.loss(found, wanted)
    (gradient,) = torch.autograd.grad(loss, found.logits)
    moved = found.logits.detach() - 0.1 * gradient / gradient.norm()
    assert task.loss(replace(found, logits=moved), wanted) < loss


@every_task
def test_extreme_logits_give_a_finite_loss_and_probabilities(name: str) -> None:
    task = build(name)
    for value in (-1e4, 0.0, 1e4):
        found = output(name, task)
        said = replace(found, logits=torch.full_like(found.logits, value).requires_grad_())
        loss = task.loss(said, task.targets(shown(task)))
        loss.backward()
        assert loss.isfinite()
        assert said.logits.grad.isfinite().all()
        check_probabilities(task, task.scores(said, shown(task)))


@every_task
def test_scores_are_probabilities_that_sum_to_one(name: str) -> None:
    task = build(name)
    check_probabilities(task, task.scores(output(name, task), shown(task)))


def check_probabilities(task: Task, scores: Tensor) -> None:
    assert scores.shape == (len(ROWS), len(task.score_names))
    assert scores.dtype == torch.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    torch.testing.assert_close(scores.sum(1), torch.ones(len(ROWS)))


@every_task
def test_scores_and_measures_of_a_sample_do_not_depend_on_its_neighbours(name: str) -> None:
    task = build(name)
    together = task.scores(output(name, task), shown(task))
    measured = task.measures(output(name, task), shown(task))
    for place in range(len(ROWS)):
        one = ROWS[place : place + 1]
        alone = task.scores(output(name, task, one), shown(task, one))
        torch.testing.assert_close(alone[0], together[place])
        for key, pair in task.measures(output(name, task, one), shown(task, one)).items():
            torch.testing.assert_close(pair[0], measured[key][place])


@every_task
def test_scores_do_not_look_at_labels(name: str) -> None:
    task = build(name)
    given, said = shown(task), output(name, task)
    first = task.scores(said, given)
    bare = replace(given, masks=None, rows=ROWS[::-1].copy())
    assert torch.equal(task.scores(said, bare), first)


@every_task
def test_measures_are_a_sum_and_what_it_is_a_sum_of(name: str) -> None:
    task = build(name)
    for pair in task.measures(output(name, task), shown(task)).values():
        assert pair.shape == (len(ROWS), 2)
        assert pair.dtype == torch.float32
        assert pair.isfinite().all()
        assert (pair[:, 1] >= 0).all()
        assert (pair[pair[:, 1] == 0] == 0).all()


@every_task
def test_what_only_some_tasks_have_is_what_its_name_promises(name: str) -> None:
    task = build(name)
    if isinstance(task, Weighs):
        assert task.weights.dtype == torch.float32
        assert task.weights.shape == (len(task.score_names),)
        assert (task.weights >= 0).all()
    if isinstance(task, Draws):
        drawn = task.outlines(output(name, task), shown(task))
        assert [each.size for each in drawn] == [(SIDE, SIDE)] * len(ROWS)
        lesion = task.classes[ROWS] == 1
        assert [bool(each.true) for each in drawn] == lesion.tolist()
    if isinstance(task, Corrects):
        assert isinstance(task.uncorrected, str)


def test_who_weighs_and_who_draws() -> None:
    assert {name for name in NAMES if isinstance(build(name), Weighs)} >= {"classify", "screen"}
    assert {name for name in NAMES if isinstance(build(name), Draws)} >= {"segment"}


@pytest.mark.parametrize("name", ["classify", "screen"])
def test_the_prevalence_is_corrected_only_of_a_loss_that_makes_probabilities(name: str) -> None:
    assert priors.allowed(build(name)) == ""
    assert priors.allowed(build(name, class_weights="balanced")) == ""
    assert "focal" in priors.allowed(build(name, loss="focal"))
    assert "label smoothing of 0.1" in priors.allowed(build(name, smoothing=0.1))


@pytest.mark.parametrize("name", ["reconstruct", "segment"])
def test_what_is_no_probability_is_not_corrected_for_the_prevalence(name: str) -> None:
    assert "no probability" in priors.allowed(build(name))


def test_a_task_that_does_not_say_it_is_not_corrected_and_the_report_can_say_so() -> None:
    assert priors.allowed(object()) == priors.NOT_SAID != ""


@every_task
def test_tasks_share_no_more_than_what_is_for_all(name: str) -> None:
    """A task can be left out: none imports another one."""
    text = (Path(__file__).parents[2] / "mammotrain" / "tasks" / f"{name}.py").read_text()
    imported = re.findall(r"from mammotrain\.tasks(?:\.(\w+))? import (.+)", text)
    names = {part or each.strip() for part, many in imported for each in many.split(",")}
    assert all(each.startswith("_") for each in names)


@every_task
def test_a_finished_model_is_asked_without_training_samples(name: str) -> None:
    asked, task = build(name, np.zeros(0, np.int64)), build(name)
    assert (asked.outputs, asked.score_names) == (task.outputs, task.score_names)
    assert torch.equal(
        asked.scores(output(name, asked), shown(asked)),
        task.scores(output(name, task), shown(task)),
    )


@every_task
def test_settings_out_of_range_are_refused_by_name(name: str) -> None:
    plugin = plugins.load(TASKS, name, needs=("Config", "build"))
    for field in fields(plugin.Config):
        default = getattr(plugin.Config(), field.name)
        if type(default) in (float, int):
            with pytest.raises(ConfigError, match=rf"task\.{field.name} "):
                build(name, **{field.name: type(default)(-1)})
        elif type(default) is str:
            with pytest.raises(ConfigError, match=rf"task\.{field.name}"):
                build(name, **{field.name: "no such thing"})
