"""Trackers show every step once, go on where a run was stopped, and tell numbers only."""

import json
import math
import os
import socket
import sqlite3
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mammoprep.core import plugins
from mammoprep.core.errors import ConfigError, ResourceError
from mammotrain import config, trackers
from mammotrain.trackers import _base
from mammotrain.watching import Watcher

MACHINE = "machine-of-anna"
SECRET = "rsna_10006_462822612"
# of MLflow's own code, with the SQLAlchemy that it asks for
NOLOAD = "ignore:.*loader strategy is deprecated:DeprecationWarning"


def table(**train: Any) -> dict[str, Any]:
    found = {**config.load("deq").to_table(), "fold": 1}
    return {**found, "train": {**found["train"], **train}}


def line(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step, "epoch": 0, "lr": 0.1, "images_per_second": 3.0, "data_wait": 0.5,
        "loss": 1 / step, "loss_hex": (1 / step).hex(), **more,
    }  # fmt: skip


def validation(step: int, **metrics: float) -> dict[str, Any]:
    return {"step": step, "epoch": 1, "validation": {"loss": 0.5, **metrics}, "best": True}


def session(
    name: str, out: Path, steps: range, *, ends: bool = True, settings: Mapping[str, Any] = {}
) -> None:
    """Train these steps; one that does not end is left as SIGKILL would leave it."""
    lent = trackers.opened([name], out, table(**settings))
    told = lent.__enter__()
    told.start(steps.start - 1, 100, 8)
    for step in steps:
        told.step(line(step))
    if ends:
        told.validated(validation(steps.stop - 1, auroc=0.75, f1=math.nan))
        lent.__exit__(None, None, None)
        return
    for tracker in told._trackers.values():  # type: ignore[attr-defined]
        tracker.flush() if hasattr(tracker, "flush") else tracker._writer.flush()
        if hasattr(tracker, "_run"):
            tracker._run.finish()  # its process would outlive the test


class Diary(Watcher):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def start(self, step: int, total: int, batch_size: int) -> None:
        self.told.append((step, total, batch_size))

    def step(self, line: dict[str, Any]) -> None:
        self.told.append(line)

    def validated(self, line: dict[str, Any]) -> None:
        self.told.append(line)

    def count(self, what: str, done: int, total: int) -> None:
        self.told.append((what, done, total))

    def warn(self, message: str) -> None:
        self.told.append(message)


# the mechanism


def test_the_folder_is_the_registry() -> None:
    assert plugins.names(trackers.PACKAGE) == ["mlflow", "tensorboard", "wandb"]


def test_an_unknown_tracker_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'tensorboard'"):
        trackers.check(["tensorbord"])


@pytest.mark.parametrize(
    ("name", "extra"), [("tensorboard", "tb"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_a_missing_package_is_named_before_anything_is_written(
    name: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    with pytest.raises(ConfigError) as caught, trackers.opened([name], tmp_path, table()):
        pass
    assert f"pip install 'mammoprep[{extra}]'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_trackers_everything_is_passed_on(tmp_path: Path) -> None:
    diary = Diary()
    with trackers.opened([], tmp_path, table(), diary) as told:
        told.start(0, 10, 2)
        told.step(line(1))
        told.validated(validation(1))
        told.count("copies", 1, 2)
        told.warn("careful")
    assert diary.told == [(0, 10, 2), line(1), validation(1), ("copies", 1, 2), "careful"]
    assert list(tmp_path.iterdir()) == []


def test_only_finite_numbers_are_told() -> None:
    found = _base.numbers(
        line(4, key=SECRET, best=True, inf=math.inf, nan=math.nan, none=None, steps=7)
    )
    assert found == {
        "epoch": 0, "lr": 0.1, "images_per_second": 3.0, "data_wait": 0.5, "loss": 0.25, "steps": 7,
    }  # fmt: skip


def test_of_settings_only_numbers_and_single_words_are_told() -> None:
    found = _base.settings(
        {
            "data": {"size": (299, 299), "sampling": "positives=1/7", "cache": True},
            "train": {"lr": 1e-3, "pretrained": "/home/someone/w.safetensors", "amp": "bf16"},
            "demo": {"build": {"max-failures": "100%", "input": "patients/anna", "file": "a.csv"}},
            "left_out": "Hospital",
        }
    )
    hidden = "(not shown)"
    assert found == {
        "data.size": "299 299", "data.sampling": "positives=1/7", "data.cache": True,
        "train.lr": 1e-3, "train.pretrained": hidden, "train.amp": "bf16",
        "left_out": hidden, "demo.build.max-failures": "100%",
        "demo.build.input": hidden, "demo.build.file": hidden,
    }  # fmt: skip


class Broken(_base.Tracker):
    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        raise OSError(28, "No space left on device", SECRET)


class Ends(_base.Tracker):
    def __init__(self) -> None:
        self.status = ""
        self.written: list[int] = []

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        self.written.append(step)

    def close(self, status: str) -> None:
        self.status = status


def test_a_tracker_that_fails_is_given_up_with_one_warning_and_the_others_go_on() -> None:
    diary, other = Diary(), Ends()
    told = _base.All({"broken": Broken, "other": lambda: other}, diary)
    told.start(0, 3, 2)
    for step in (1, 2, 3):
        told.step(line(step))
    warnings = [item for item in diary.told if isinstance(item, str)]
    assert len(warnings) == 1
    assert "broken" in warnings[0]
    assert SECRET not in warnings[0]
    assert other.written == [1, 2, 3]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (ResourceError("x"), "stopped"), (KeyError, "failed")]
)
def test_a_tracker_hears_how_a_run_ended(
    error: Any, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Ends()
    monkeypatch.setattr("mammotrain.trackers.tensorboard.open", lambda out, table: ends)
    try:
        with trackers.opened(["tensorboard"], tmp_path, table()) as told:
            told.start(0, 3, 2)
            if error is not None:
                raise error
    except (ResourceError, KeyError):
        pass
    assert ends.status == status


class Sent(_base.Buffered):
    def __init__(self, out: Path) -> None:
        super().__init__(out, "sent")
        self.points: list[tuple[str, int]] = []
        self.began(self.run or "a", again=self.run is not None)

    def send(self, points: list[_base.Point]) -> None:
        self.points += [(point.kind, point.step) for point in points]


def test_lines_are_held_back_sent_in_order_and_never_twice(tmp_path: Path) -> None:
    first = Sent(tmp_path)
    for step in (1, 2, 3):
        first.step(line(step))
    assert first.points == []
    first.validated(validation(3))
    assert first.points == [("train", 1), ("train", 2), ("train", 3), ("validation", 3)]
    first.step(line(4))  # held back, and lost with the process
    second = Sent(tmp_path)
    for step in (3, 4, 5):
        second.step(line(step))
    second.validated(validation(3))
    second.validated(validation(5))
    assert second.points == [("train", 4), ("train", 5), ("validation", 5)]


def test_a_damaged_memory_is_a_new_beginning(tmp_path: Path) -> None:
    (tmp_path / _base.MEMORY).write_text('{"sent": [')
    assert Sent(tmp_path).run == "a"
    assert json.loads((tmp_path / _base.MEMORY).read_text())["sent"]["run"] == "a"


def nothing_private(out: Path, *, but: tuple[str, ...] = ()) -> None:
    words = [word.encode() for word in (SECRET, str(out), MACHINE, Path(sys.argv[0]).name)]
    for path in out.rglob("*"):
        if path.is_file() and path.name not in but:
            content = path.read_bytes()
            assert not [word for word in words if word in content], path


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_run_that_never_trains_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: object())
    with pytest.raises(ConfigError), trackers.opened([name], tmp_path, table()):
        raise ConfigError("no shards")
    assert list(tmp_path.iterdir()) == []


# TensorBoard


def scalars(out: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_shows_every_number(tmp_path: Path) -> None:
    session("tensorboard", tmp_path, range(1, 6), settings={"pretrained": SECRET + ".safetensors"})
    found = scalars(tmp_path)
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4, 5]
    assert [value for _, value in found["train/loss"]] == pytest.approx(
        [1 / n for n in range(1, 6)]
    )
    assert found["validation/auroc"] == [(5, 0.75)]
    assert set(found) == {
        "train/loss", "train/lr", "train/epoch", "train/images_per_second", "train/data_wait",
        "validation/loss", "validation/auroc",
    }  # fmt: skip
    nothing_private(tmp_path)


def test_tensorboard_shows_steps_that_were_done_again_once(tmp_path: Path) -> None:
    session("tensorboard", tmp_path, range(1, 9), ends=False)
    session("tensorboard", tmp_path, range(6, 11))  # the checkpoint was of step 5
    found = scalars(tmp_path)
    assert [step for step, _ in found["train/loss"]] == list(range(1, 11))


def test_tensorboard_shows_a_run_that_begins_anew_once(tmp_path: Path) -> None:
    session("tensorboard", tmp_path, range(1, 4), ends=False)
    session("tensorboard", tmp_path, range(1, 6))
    assert [step for step, _ in scalars(tmp_path)["train/loss"]] == [1, 2, 3, 4, 5]


# MLflow


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    pytest.importorskip("sqlalchemy")
    return pytest.importorskip("mlflow")


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(file)
    found = connection.execute(query).fetchall()
    connection.close()
    return found


@pytest.mark.filterwarnings(NOLOAD)
def test_mlflow_goes_on_with_the_same_run_and_tells_no_step_twice(
    mlflow: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    session("mlflow", out, range(1, 9), ends=False)
    session("mlflow", out, range(6, 11), settings={"epochs": 99})
    file = out / "mlflow" / "mlflow.db"
    assert rows(file, "select name, status from runs") == [("deq-fold1", "FINISHED")]
    steps = "select step from metrics where key = '{}' order by step"
    assert rows(file, steps.format("train/loss")) == [(n,) for n in range(1, 11)]
    assert rows(file, steps.format("validation/auroc")) == [(10,)]
    assert rows(file, "select count(*) from metrics where is_nan") == [(0,)]
    assert rows(file, "select value from params where key = 'train.optimiser'") == [("adam",)]
    assert rows(file, "select value from params where key = 'train.epochs'") == [("3",)]
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.filterwarnings(NOLOAD)
def test_mlflow_tells_the_store_that_the_environment_names(
    mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    out = tmp_path / "out"
    out.mkdir()
    session("mlflow", out, range(1, 3))
    assert rows(tmp_path / "other.db", "select count(*) from runs") == [(1,)]
    assert ("mine",) in rows(tmp_path / "other.db", "select name from experiments")
    assert {path.name for path in out.iterdir()} == {_base.MEMORY}
    nothing_private(out)

    # a server that does not know the remembered run gets another one, with everything
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'third.db'}")
    session("mlflow", out, range(1, 3))
    steps = rows(tmp_path / "third.db", "select step from metrics where key = 'train/loss'")
    assert sorted(steps) == [(1,), (2,)]


def test_an_mlflow_server_that_is_gone_is_an_error_before_training(
    mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:password@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConfigError, match="MLflow cannot use") as caught:
        session("mlflow", tmp_path, range(1, 3))
    assert "password" not in str(caught.value)


# Weights & Biases


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path.parent / "wandb_own"))
    monkeypatch.setattr(socket, "gethostname", lambda: MACHINE)
    monkeypatch.setattr(sys, "argv", ["/somewhere/prog-of-anna.py", SECRET])
    found = pytest.importorskip("wandb")
    yield found
    found.teardown()


KINDS = {"run", "config", "history", "summary", "exit", "header", "footer", "telemetry", "final"}


def records(file: Path) -> Iterator[bytes]:
    """The records of a file of W&B's: a head, then LevelDB's log format in blocks of 32 KiB."""
    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def told_of(out: Path) -> dict[str, list[Any]]:
    """Folder -> records, once its own process has written them."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()

    found: dict[str, list[Any]] = {}
    for file in sorted((out / "wandb").glob("offline-run-*/*.wandb")):
        for data in records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            found.setdefault(file.parent.name, []).append(record)
    return found


def history(found: list[Any]) -> list[tuple[int, dict[str, float]]]:
    """Steps and values."""
    return [
        (
            record.history.step.num,
            {
                i.key or "/".join(i.nested_key): json.loads(i.value_json)
                for i in record.history.item
            },
        )
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]


def test_weights_and_biases_stays_offline_without_a_key_and_goes_on_with_the_same_run(
    wandb: Any, tmp_path: Path
) -> None:
    session("wandb", tmp_path, range(1, 9), ends=False)
    session("wandb", tmp_path, range(6, 11), settings={"epochs": 99})
    found = told_of(tmp_path)
    assert len(found) == 2
    assert all(name.startswith("offline-run-") for name in found)
    identity = json.loads((tmp_path / _base.MEMORY).read_text())["wandb"]["run"]
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))) == 2
    lines = [line for part in found.values() for line in history(part)]
    assert [step for step, values in lines if "train/loss" in values] == list(range(1, 11))
    assert [values["validation/auroc"] for _, values in lines if "validation/auroc" in values] == [
        0.75
    ]


def test_weights_and_biases_gets_no_path_no_output_and_no_name_of_the_machine(
    wandb: Any, tmp_path: Path
) -> None:
    settings = table(pretrained=f"{tmp_path}/{SECRET}.safetensors")
    with trackers.opened(["wandb"], tmp_path, settings) as told:
        told.start(0, 3, 2)
        sys.stdout.write(f"The batch of {SECRET}\n")
        told.step(line(1))
        told.validated(validation(1))
    (found,) = told_of(tmp_path).values()
    kinds = {record.WhichOneof("record_type") for record in found}
    assert kinds <= KINDS, kinds
    nothing_private(tmp_path, but=("debug.log", "debug-internal.log"))


def test_weights_and_biases_is_online_with_a_key_or_as_its_mode_says(
    wandb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mammotrain.trackers.wandb import _has_key

    assert not _has_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert _has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not _has_key()
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert _has_key()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    session("wandb", tmp_path, range(1, 3))
    assert not list((tmp_path / "wandb").glob("*/*.wandb"))


def test_a_version_that_cannot_keep_paths_to_itself_is_refused() -> None:
    from mammotrain.trackers.wandb import _private

    with pytest.raises(ConfigError, match="x_disable_meta"):
        _private(SimpleNamespace(model_fields={"console": None}))
