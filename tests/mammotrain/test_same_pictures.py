"""One picture under two names is in one role, in run, cv, eval and compare, by bytes and looks."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mammoprep
from mammoprep.core.errors import ConfigError, DamageError
from mammotrain import cli, comparison, config, looks, twins
from mammotrain.cross import cross
from mammotrain.rescore import Request as Asked
from mammotrain.rescore import rescore
from mammotrain.run import Request, run
from mammotrain.watching import Watcher

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "model.width=8", "model.groups=4", "train.batch_size=8", "train.epochs=1", "data.workers=1",
    "train.max_steps=1", "task.target=cancer", "data.size=[32, 32]",
)  # fmt: skip
SIZE = 96
Picture = np.ndarray
Change = Callable[[Picture], Picture]


class Telling(Watcher):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counted: set[str] = set()

    def warn(self, message: str) -> None:
        self.lines.append(message)

    def count(self, what: str, done: int, total: int) -> None:
        self.counted.add(what)


def drawn(seed: int) -> Picture:
    """Return a picture unlike those of other seeds: smooth noise within an outline."""
    rng = np.random.default_rng(seed)
    noise = sum(
        cv2.resize(rng.normal(size=(n, n)).astype(np.float32), (SIZE, SIZE), interpolation=2) / k
        for k, n in enumerate((6, 12, 24, 48), 1)
    )
    level = 120 + 40 * np.asarray(noise)
    level[:6], level[:, -10:] = 0, 0
    return np.clip(level, 0, 255).astype(np.uint8)


def built(
    home: Path, pictures: list[tuple[Picture, str]], prefix: str = "p", folds: int = 3
) -> Path:
    """Build pictures with their splits, each of a patient of its own; empty for folds."""
    home.mkdir(parents=True)
    lines = ["path,patient_id,label,cancer,split"]
    for number, (pixels, split) in enumerate(pictures):
        cv2.imwrite(str(home / f"{prefix}{number}.png"), pixels)
        name = ("negative", "cancer")[number % 2]
        lines.append(f"{prefix}{number}.png,{prefix}{number:02},{name},{number % 2},{split}")
    (home / "table.csv").write_text("\n".join(lines) + "\n")
    mammoprep.build(
        source="table", input=home, out=home / "shards", size=f"{SIZE}x{SIZE}", workers=1,
        folds=folds, label_names="negative,cancer", orient="none", crop="none",
    )  # fmt: skip
    return home / "shards"


def official(first: int) -> list[tuple[Picture, str]]:
    """Return pictures with seeds from ``first`` on: six train, two validate, two are scored."""
    return [(drawn(first + n), "train" if n < 6 else "val" if n < 8 else "test") for n in range(10)]


def copied(change: Change, frm: int, to: int, pictures: list[tuple[Picture, str]]) -> None:
    pictures[to] = (change(pictures[frm][0]), pictures[to][1])


CHANGES: dict[str, Change] = {
    "saved as jpeg": lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [1, 80])[1], -1),
    "scaled": lambda p: cv2.resize(p, None, fx=2, fy=2),
    "mirrored": lambda p: np.ascontiguousarray(p[:, ::-1]),
    "brighter": lambda p: np.clip(p * 0.7 + 30, 0, 255).astype(np.uint8),
}


def request(out: Path, *data: Path, change: tuple[str, ...] = ()) -> Request:
    found = config.load("deq", (*SMALL, *change))
    return Request(found, tuple(map(str, data)), out, device="cpu")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("clean") / "a", official(0))


@pytest.fixture(scope="module")
def finished(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    run(request(out, clean), Watcher())
    return out


def keys_of(shards: Path, *places: int) -> list[str]:
    table = pyarrow.parquet.read_table(shards / "samples.parquet", columns=["key", "group"])
    rows = sorted(table.to_pylist(), key=lambda row: row["group"])
    return [rows[place]["key"] for place in places]


def left_in(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} - {".lock"} if out.is_dir() else set()


# ------------------------------------------------------------------------------------------- run


def test_other_pictures_in_every_role_are_no_finding(finished: Path) -> None:
    found = json.loads((finished / "same_pictures.json").read_text())
    assert found == {"look_alikes": "refuse", "looked": True, "pairs": []}
    learned = looks.read_learned(finished / "taught.npz")
    assert learned is not None
    assert sorted(learned.role) == ["train"] * 6 + ["validate"] * 2
    assert all(learned.thumbnails)
    assert set(learned.source) == {"table"}
    assert all(len(digest) == 64 for digest in learned.digest)


@pytest.mark.parametrize("pair", [(0, 8), (6, 8), (0, 6)], ids=["test", "val-test", "val"])
def test_an_equal_file_in_two_roles_ends_a_run_before_anything_is_written(
    pair: tuple[int, int], tmp_path: Path
) -> None:
    pictures = official(0)
    copied(lambda p: p, *pair, pictures)
    shards = built(tmp_path / "a", pictures)
    with pytest.raises(DamageError, match="the same file") as error:
        run(request(tmp_path / "run", shards), Watcher())
    for key in keys_of(shards, *pair):
        assert key in str(error.value)
    assert str(error.value).startswith("1 pairs")
    assert "--split-file" in str(error.value)
    assert "data.look_alikes=say" in str(error.value)
    assert left_in(tmp_path / "run") == set()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_copy_in_two_roles_ends_a_run(change: Change, tmp_path: Path) -> None:
    pictures = official(0)
    copied(change, 1, 9, pictures)
    shards = built(tmp_path / "a", pictures)
    with pytest.raises(DamageError, match=r"likeness 0\.\d\d|likeness 1\.00") as error:
        run(request(tmp_path / "run", shards), Watcher())
    one, other = keys_of(shards, 9, 1)
    assert f"{one} (score) is {other} (train)" in str(error.value)
    assert left_in(tmp_path / "run") == set()


def test_one_picture_of_two_datasets_is_in_two_roles(clean: Path, tmp_path: Path) -> None:
    pictures = [(drawn(100 + n), split) for n, (_, split) in enumerate(official(0))]
    pictures[9] = (drawn(0), "test")  # the other dataset trains on it
    other = built(tmp_path / "b", pictures, prefix="q")
    with pytest.raises(DamageError, match="the same file"):
        run(request(tmp_path / "run", clean, other), Watcher())


def test_copies_within_one_role_do_no_harm(tmp_path: Path) -> None:
    pictures = official(0)
    copied(lambda p: p, 0, 1, pictures)
    copied(CHANGES["mirrored"], 2, 3, pictures)
    shards = built(tmp_path / "a", pictures)
    run(request(tmp_path / "run", shards), Watcher())
    assert json.loads((tmp_path / "run" / "same_pictures.json").read_text())["pairs"] == []


def test_pictures_that_show_nothing_are_equal_and_no_leak(tmp_path: Path) -> None:
    pictures, nothing = official(0), np.zeros((SIZE, SIZE), np.uint8)
    nothing[40:43, 40:43] = 255  # a build refuses a picture of one value
    for place in (0, 8):
        pictures[place] = (nothing, pictures[place][1])
    shards = built(tmp_path / "a", pictures)
    assert len(keys_of(shards, *range(10))) == 10
    run(request(tmp_path / "run", shards), Watcher())
    learned = looks.read_learned(tmp_path / "run" / "taught.npz")
    assert learned is not None
    assert sum(not each for each in learned.thumbnails) == 1


def test_say_goes_on_and_off_looks_for_equal_files_only(tmp_path: Path) -> None:
    pictures = official(0)
    copied(CHANGES["mirrored"], 1, 9, pictures)
    shards, told = built(tmp_path / "a", pictures), Telling()
    run(request(tmp_path / "say", shards, change=("data.look_alikes=say",)), told)
    assert any("1 pairs of pictures are one picture" in line for line in told.lines)
    found = json.loads((tmp_path / "say" / "same_pictures.json").read_text())
    assert [pair["kind"] for pair in found["pairs"]] == ["look_alike"]
    assert found["pairs"][0]["roles"] == ["score", "train"]
    told = Telling()
    run(request(tmp_path / "off", shards, change=("data.look_alikes=off",)), told)
    assert any("equal files only" in line for line in told.lines)
    assert told.counted & {"pictures read"} == set()
    found = json.loads((tmp_path / "off" / "same_pictures.json").read_text())
    assert found == {"look_alikes": "off", "looked": False, "pairs": []}


def test_off_still_refuses_equal_files(tmp_path: Path) -> None:
    pictures = official(0)
    copied(lambda p: p, 0, 8, pictures)
    shards = built(tmp_path / "a", pictures)
    with pytest.raises(DamageError, match="the same file"):
        run(request(tmp_path / "run", shards, change=("data.look_alikes=off",)), Watcher())


def test_another_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.look_alikes must be"):
        request(tmp_path, tmp_path, change=("data.look_alikes=no",))


# -------------------------------------------------------------------------------------------- cv


def test_a_cv_is_refused_before_its_first_fold_and_leaves_nothing(tmp_path: Path) -> None:
    pictures = [(drawn(n), "") for n in range(16)]
    shards = built(tmp_path / "a", pictures, folds=4)
    table = pyarrow.parquet.read_table(shards / "samples.parquet", columns=["group", "split"])
    fold = dict(zip(table["group"].to_pylist(), table["split"].to_pylist(), strict=True))
    # both train in the first run of the cv, which alone would be right
    one, other = (next(n for n in range(16) if fold[f"p{n:02}"] == f"fold{k}") for k in (2, 3))
    copied(CHANGES["saved as jpeg"], one, other, pictures)
    shards = built(tmp_path / "b", pictures, folds=4)
    with pytest.raises(DamageError, match="one picture under two groups"):
        cross(request(tmp_path / "cv", shards), Watcher())
    assert left_in(tmp_path / "cv") == set()


def test_a_cv_looks_once_for_all_of_its_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = built(tmp_path / "a", [(drawn(n), "") for n in range(12)])
    calls = []
    found = looks.find
    monkeypatch.setattr(looks, "find", lambda *given: calls.append(1) or found(*given))
    cross(request(tmp_path / "cv", shards), Watcher())
    assert len(calls) == 1
    assert len(list((tmp_path / "cv" / "cache").glob("look-alikes-*.npz"))) == 1


# ------------------------------------------------------------------------------------------ eval


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, Change, int], Path]:
    """Shards of other patients, of which one shows a picture of ``clean``, changed."""

    def make(frm: int, change: Change, to: int) -> Path:
        pictures = [(drawn(50 + n), split) for n, (_, split) in enumerate(official(0))]
        pictures[to] = (change(drawn(frm)), pictures[to][1])
        return built(tmp_path_factory.mktemp("asked") / "a", pictures, prefix="q")

    return make


@pytest.mark.parametrize(("frm", "role"), [(0, "train"), (7, "validate")])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_eval_on_what_the_run_has_learned_from_is_refused(
    frm: int, role: str, change: Change, asked: Callable, finished: Path, tmp_path: Path
) -> None:
    shards = asked(frm, change, 4)
    with pytest.raises(DamageError, match="likeness") as error:
        rescore(Asked(finished, (str(shards),), tmp_path / "eval", "cpu"), Watcher())
    assert f"(score) is table_p{frm}" in str(error.value)
    assert f"({role})" in str(error.value)
    assert not (tmp_path / "eval").exists()


def test_an_eval_on_the_same_file_is_refused(asked: Callable, finished: Path) -> None:
    shards = asked(3, lambda p: p, 9)
    with pytest.raises(DamageError, match="the same file"):
        rescore(Asked(finished, (str(shards),), None, "cpu"), Watcher())


def test_an_eval_may_be_asked_about_a_picture_that_was_only_scored(
    asked: Callable, finished: Path, tmp_path: Path
) -> None:
    shards = asked(9, CHANGES["mirrored"], 4)
    told = Telling()
    _, out = rescore(Asked(finished, (str(shards),), tmp_path / "eval", "cpu"), told)
    assert json.loads((out / "same_pictures.json").read_text())["looked"] is True
    assert "pictures compared" in told.counted


def test_an_eval_of_an_old_run_says_what_is_not_known(
    asked: Callable, clean: Path, finished: Path, tmp_path: Path
) -> None:
    old, told = tmp_path / "old", Telling()
    shutil.copytree(finished, old)
    (old / "taught.npz").unlink()
    (old / "same_pictures.json").unlink()
    _, out = rescore(Asked(old, (str(asked(3, CHANGES["scaled"], 9)),), None, "cpu"), told)
    assert any("does not say which pictures" in line for line in told.lines)
    assert json.loads((out / "same_pictures.json").read_text())["looked"] is False
    _, own = rescore(Asked(old, (str(clean),), tmp_path / "own", "cpu"), Watcher())
    assert json.loads((own / "same_pictures.json").read_text())["looked"] is True


def test_a_damaged_list_of_what_was_learned_is_damage(
    asked: Callable, finished: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(finished, old)
    content = (old / "taught.npz").read_bytes()
    (old / "taught.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DamageError, match=r"taught\.npz is damaged"):
        rescore(Asked(old, (str(asked(3, CHANGES["scaled"], 9)),), None, "cpu"), Watcher())


def test_an_eval_of_a_run_that_did_not_look_compares_files(
    asked: Callable, clean: Path, tmp_path: Path
) -> None:
    run(request(tmp_path / "run", clean, change=("data.look_alikes=off",)), Watcher())
    told = Telling()
    shards = asked(0, CHANGES["mirrored"], 4)
    rescore(Asked(tmp_path / "run", (str(shards),), tmp_path / "eval", "cpu"), told)
    assert any("equal files only" in line for line in told.lines)
    same = asked(0, lambda p: p, 4)
    with pytest.raises(DamageError, match="the same file"):
        rescore(Asked(tmp_path / "run", (str(same),), tmp_path / "again", "cpu"), Watcher())


# --------------------------------------------------------------------------------------- compare


def recorded(run_folder: Path, **changes: object) -> Path:
    """Return a run's folder whose record of pictures says something else."""
    path = run_folder / "same_pictures.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return run_folder


def test_a_run_that_has_learned_from_scored_pictures_is_not_compared_with_one_that_has_not(
    tmp_path: Path, clean: Path, finished: Path
) -> None:
    leaking = tmp_path / "leaking"
    pictures = official(0)
    pictures[0] = (CHANGES["mirrored"](pictures[9][0]), "train")
    shards = built(tmp_path / "a", pictures)
    run(request(leaking, shards, change=("data.look_alikes=say",)), Watcher())
    with pytest.raises(DamageError, match="has learned from 1 of the pictures") as error:
        comparison.compare([finished, leaking], draws=20)
    assert keys_of(shards, 9)[0] in str(error.value)
    found = comparison.compare([leaking, leaking], draws=20)
    assert "every score is too good" in found["pictures"][0]


def test_runs_that_share_no_picture_are_compared_without_a_word(
    finished: Path, tmp_path: Path
) -> None:
    assert comparison.compare([finished, finished], draws=20)["pictures"] == []
    old = tmp_path / "old"
    shutil.copytree(finished, old)
    recorded(old, looked=False)
    said = comparison.compare([finished, old], draws=20)["pictures"]
    assert any("look-alikes of scored pictures were not looked for" in line for line in said)
    (old / "same_pictures.json").unlink()
    found = comparison.compare([finished, old], draws=20)
    assert any("was not looked at" in line for line in found["pictures"])
    assert comparison.table(found).caption is not None


# --------------------------------------------------------------------------------- command lines


def test_the_command_lines_exit_with_4(
    asked: Callable, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = official(0)
    copied(CHANGES["saved as jpeg"], 1, 9, pictures)
    shards = built(tmp_path / "a", pictures)
    changes = [word for change in SMALL for word in ("--set", change)]
    plain = ["deq", "--data", str(shards), "--device", "cpu", *changes]
    assert exit_status("run", *plain, "--out", str(tmp_path / "run")) == 4
    assert "one picture under two groups" in capsys.readouterr().err
    other = asked(0, CHANGES["scaled"], 4)
    assert exit_status("eval", str(finished), "--data", str(other), "--device", "cpu") == 4


def exit_status(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["mammotrain", *words])
        return cli.main()


# ------------------------------------------------------------------------------------ the arrays


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_pair_in_two_roles_and_two_groups_is_found_and_no_other(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 12))
    few = st.integers(-1, 2)
    role = np.array([data.draw(few) for _ in range(size)])
    groups = [str(data.draw(st.integers(0, 4))) for _ in range(size)]
    names = [data.draw(st.sampled_from(["", "a", "b"])) for _ in range(size)]
    keys = [str(place) for place in range(size)]
    samples = twins.Samples(keys, groups, names, role)
    found = {
        (twin.keys[0], twin.roles[1])
        for twin in twins.equal(samples, names, "same_bytes", lambda _: True)
    }
    expected = {
        (str(one), twins.ROLES[role[other]])
        for one in range(size)
        for other in range(size)
        if role[one] > role[other] >= 0
        and names[one] == names[other] != ""
        and groups[one] != groups[other]
    }
    assert found == expected
    every = [(one, other, 0.9) for one in range(size) for other in range(one)]
    paired = {twin.keys for twin in twins.alike(samples, every)}
    assert paired == {
        (str(one), str(other))
        for one in range(size)
        for other in range(size)
        if role[one] > role[other] >= 0 and groups[one] != groups[other]
    }


def test_what_is_kept_of_a_table_comes_back_and_damage_is_found_again(tmp_path: Path) -> None:
    kept = looks.Looks(
        np.array([0, 2]), np.array([0, -1]), [b"one", b""], [(0, 2, 0.5), (1, 2, 0.75)]
    )
    path = tmp_path / "cache" / "looks.npz"
    looks.saved(kept, "content", path)
    back = looks.known("content", 3, path)
    assert back is not None
    assert list(back.thumbnails) == [b"one", b""]
    assert list(back.pairs) == list(kept.pairs)
    assert looks.known("other", 3, path) is None
    assert looks.known("content", 2, path) is None  # a place that the table does not have
    path.write_bytes(path.read_bytes()[:-40])
    assert looks.known("content", 3, path) is None
    assert looks.known("content", 3, tmp_path / "none.npz") is None
