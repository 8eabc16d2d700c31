"""Where a process computes, and who talks."""

import pytest
import torch

from mammoprep.core.errors import ConfigError
from mammotrain import distributed


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_a_device_that_there_is_not_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="--device must be one of auto, cpu, cuda; got 'cud'"):
        distributed.check_device("cud")


@pytest.mark.parametrize(
    ("count", "device", "local"), [(0, "cuda", 0), (1, "cuda", 1), (1, "auto", 1)]
)
def test_fewer_gpus_than_processes_are_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, count: int, device: str, local: int
) -> None:
    gpus(monkeypatch, count)
    monkeypatch.setenv("LOCAL_RANK", str(local))
    with (
        pytest.raises(ConfigError, match=f"needs {local + 1} GPU.* finds {count}"),
        distributed.joined(device),
    ):
        pass


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with distributed.joined("auto") as world:
        assert world.device.type == "cpu"


def test_the_first_process_talks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert distributed.leads()
    monkeypatch.setenv("RANK", "1")
    assert not distributed.leads()
