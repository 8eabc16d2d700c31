"""A run from shards to report: killed and resumed, on other data, in a folder that is taken."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mammoprep
from mammoprep.core.errors import ConfigError, DamageError, ResourceError
from mammotrain import checkpoint, config, folder
from mammotrain.data.splits import Side
from mammotrain.run import Request, run
from mammotrain.watching import Watcher

SMALL = (
    "model.width=8", "model.groups=4", "data.size=[32, 32]", "train.batch_size=8", "train.epochs=4",
    "data.workers=1", "train.checkpoint_every=1", "data.augmentation={flip_horizontal = 0.5}",
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shards(patches: Path) -> Path:
    return patches


def request(shards: Path, out: Path, *more: str, resume: bool = False, fold: int = 0) -> Request:
    found = config.load("deq", (*SMALL, *more))
    return Request(found, (str(shards),), out, Side(fold), resume=resume, device="cpu")


@pytest.fixture(scope="module")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "deq"
    run(request(shards, out), Watcher())
    return out


def hexes(out: Path) -> list[str]:
    return [line["loss_hex"] for line in folder.read_log(out) if "loss_hex" in line]


def test_a_run_leaves_what_the_contract_says(finished: Path, shards: Path) -> None:
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert {
        "config.toml", "log.jsonl", "checkpoints", "scores.csv", "report.json", "report.html",
        "env.json",
    } <= names  # fmt: skip
    report = json.loads((finished / "report.json").read_text())
    assert {"recipe", "data", "split", "n", "groups", "prevalence", "threshold"} <= set(report)
    assert set(report["baselines"]) == {"majority", "shortcut", "metadata"}
    assert 0 <= report["metrics"]["auroc"]["value"] <= 1
    with (finished / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report["n"]
    assert {"key", "group", "laterality", "view", "label", "score_abnormal"} <= set(rows[0])
    told = [line["validation"] for line in folder.read_log(finished) if "validation" in line]
    assert all(0 < each["spectral_radius"] < 1 for each in told)
    assert all(each["solver_unconverged"] == 0 for each in told)
    for line in folder.read_log(finished):
        assert "validation" in line or float.fromhex(line["loss_hex"]) == line["loss"]


@pytest.mark.slow
def test_the_resolved_recipe_runs_the_same_again(finished: Path, shards: Path, tmp_path) -> None:
    text = (finished / "config.toml").read_text().replace("fold = 0\n", "")
    (tmp_path / "again.toml").write_text(text)
    found = config.load(str(tmp_path / "again.toml"))
    run(Request(found, (str(shards),), tmp_path / "out", device="cpu"), Watcher())
    assert hexes(tmp_path / "out") == hexes(finished)
    assert (tmp_path / "out" / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


class StoppedError(Exception):
    pass


class Stop(Watcher):
    """Ends a run in the middle of a step, as a power cut would."""

    def __init__(self, after: int) -> None:
        self.left = after

    def step(self, line: dict) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoppedError


def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    finished: Path, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deq"
    assert len(hexes(finished)) >= 8
    for after in (1, 0, 2, 1):
        with pytest.raises(StoppedError):
            run(request(shards, out, resume=True), Stop(after))
    run(request(shards, out, resume=True), Watcher())
    assert hexes(out) == hexes(finished)
    assert (out / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()
    one, two = (checkpoint.newest(o / "checkpoints")[0] for o in (out, finished))
    assert all(two.weights[name].equal(value) for name, value in one.weights.items())


@pytest.mark.slow
def test_kill_nine_at_any_moment_loses_nothing(shards: Path, tmp_path: Path) -> None:
    plain = [sys.executable, "-m", "mammotrain", "run", "deq", "--data", str(shards), "--resume"]
    plain += [part for change in SMALL for part in ("--set", change)]
    plain += ["--device", "cpu", "--out"]
    # A process of its own here too: another number of threads would change the last bits.
    subprocess.run([*plain, str(tmp_path / "whole")], capture_output=True, check=True, timeout=300)
    out = tmp_path / "deq"
    command = [*plain, str(out)]
    for seconds in (6, 7, 8):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert hexes(out) == hexes(tmp_path / "whole")


def test_a_folder_with_something_in_it_is_refused(finished: Path, shards: Path) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        run(request(shards, finished), Watcher())


def test_going_on_with_other_settings_is_refused_with_the_difference(
    finished: Path, shards: Path
) -> None:
    with pytest.raises(ConfigError, match=r"train\.lr: 0\.001 -> 0\.01"):
        run(request(shards, finished, "train.lr=0.01", resume=True), Watcher())


@pytest.mark.slow
def test_going_on_with_other_shards_is_refused_with_the_difference(
    finished: Path, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deq"
    shutil.copytree(finished, out)
    other = tmp_path / "other"
    mammoprep.build(
        source="inbreast", input=shards.parent / "raw", out=other, roi="48x48", roi_shrink=2,
        folds=3, workers=1,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="roi_shrink"):
        run(request(other, out, resume=True), Watcher())


def test_a_finished_run_is_scored_again_and_not_trained(finished: Path, shards: Path) -> None:
    before = hexes(finished)
    run(request(shards, finished, resume=True), Watcher())
    assert hexes(finished) == before


def test_a_folder_that_another_run_holds_is_exit_seven(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "deq"
    with folder.held(out, resume=False), pytest.raises(ResourceError) as error:
        run(request(shards, out), Watcher())
    assert error.value.exit_code == 7


def test_a_damaged_shard_stops_with_its_name(shards: Path, tmp_path: Path) -> None:
    broken = tmp_path / "shards"
    shutil.copytree(shards, broken)
    victim = sorted((broken / "shards").glob("fold2-*.tar"))[0]
    data = bytearray(victim.read_bytes())
    data[700:900] = bytes(200)
    victim.write_bytes(data)
    with pytest.raises(DamageError, match=victim.name) as error:
        run(request(broken, tmp_path / "deq"), Watcher())
    assert error.value.exit_code == 4


def test_toml_of_plain_values_reads_back() -> None:
    import tomllib

    table = {"a": 1, "b": [1.5, 2.0], "t": 'x"\n', "s": {"c": True, "d": {"e": 1e-9}}, "z": {}}
    assert tomllib.loads(folder.to_toml(table)) == table


def test_a_log_that_was_cut_off_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    log = folder.Log(tmp_path)
    for step in (1, 2):
        log.add({"step": step})
        assert len(folder.read_log(tmp_path)) == step  # not held back
    log.close()
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 3, "lo')
    assert [line["step"] for line in folder.read_log(tmp_path)] == [1, 2]
    folder.cut_log(tmp_path, 1)
    assert path.read_text() == '{"step": 1}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
