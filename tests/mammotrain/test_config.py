"""Recipes are strict: an unknown key, a wrong type or a wrong name is one line before any work."""

import pytest

from mammoprep.core.errors import ConfigError
from mammotrain import config


def test_every_recipe_is_read_and_says_what_it_is_for() -> None:
    for name in config.recipe_names():
        found = config.load(name)
        assert found.recipe == name
        head = config.recipe_text(name).split("\n\n")[0]
        for word in ("Data:", "Takes:", "Expect:", "mammotrain run"):
            assert word in head, (name, word)


def test_a_resolved_recipe_reads_back_as_itself() -> None:
    found = config.load("deq", ("train.lr=0.01", "data.size=[64, 48]"))
    assert config.from_table("deq", found.to_table()) == found
    assert (found.train.lr, found.data.size) == (0.01, (64, 48))


def test_set_reaches_every_section_and_reads_toml_values() -> None:
    changes = ("train.seed=3", "train.amp=bf16", "task.target=cancer", "data.sampling=balanced")
    found = config.load("deq", changes)
    assert (found.train.seed, found.train.amp) == (3, "bf16")
    assert (found.task.target, found.data.sampling) == ("cancer", "balanced")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.epohcs=3", "Did you mean 'epochs'"),
        ("train.epochs=many", "train.epochs must be int, got 'many'"),
        ("train.epochs=0", "at least 1"),
        ("train.lr=0", "above 0"),
        ("train.optimiser=adamm", "Did you mean 'adam'"),
        ("model.name=dqe", "Did you mean 'deq'"),
        ("model.widht=3", "model.widht: unknown key"),
        ("task.loss=focall", "Did you mean 'focal'"),
        ("trian.lr=1", "Did you mean 'train'"),
        ("epochs", "section.key=value"),
        ("epochs=3", "section.key=value"),
        ("train.epochs.x=3", "no section"),
        ("train.channels_last=1", "must be bool"),
        ("train.epochs=true", "must be int"),
        ("data.size=64", "data.size must be a list such as [364, 728], got 64."),
        ("train.track=wandb", 'train.track must be a list such as ["one", "another"], got'),
        ("data.augmentation=3", "data.augmentation must be a table such as { key = 1 }, got 3."),
    ],
)
def test_a_wrong_setting_says_what_was_expected(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config.load("deq", (change,))
    assert message in str(error.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'deq'"):
        config.load("dqe")


def test_a_recipe_may_be_a_file(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(config.recipe_text("deq").replace("epochs = 3", "epochs = 7"))
    assert config.load(str(path)).train.epochs == 7
    assert config.load(str(path)).recipe == "mine"
    path.write_text('recipe = "other"\n' + config.recipe_text("deq"))
    assert config.load(str(path)).recipe == "other"
    for wrong in ("'../other'", "'..'", "''", "3"):  # it becomes a folder's name
        path.write_text(f"recipe = {wrong}\n" + config.recipe_text("deq"))
        with pytest.raises(ConfigError, match="a name that a folder can have"):
            config.load(str(path))
    path.write_text("not toml")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load(str(path))
