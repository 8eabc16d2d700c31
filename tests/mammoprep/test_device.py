"""``--device cuda`` against a device that is none: the same bytes, whatever the device does."""

import sys
from pathlib import Path

import pytest
from fake_gpu import FAULTS
from helpers import config, run_build, tree_of

from mammoprep.builder import Result, Watcher, build
from mammoprep.core.errors import ConfigError
from mammoprep.phantoms import rsna as rsna_phantom
from mammoprep.worker import MOST_DEVICE_DEATHS

FAKE = Path(__file__).parents[1] / "fake_gpu_child.py"


class Listener(Watcher):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures large enough to have an overview, of all machines."""
    folder = tmp_path_factory.mktemp("phantom") / "rsna"
    rsna_phantom.write(folder, patients=6, seed=3, size_scale=0.25, prevalence=0.3)
    return folder


@pytest.fixture(scope="module")
def by_cpu(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("cpu") / "out"
    run_build(raw, out, shard_size=12)
    return tree_of(out)


def build_on(fault: str, raw: Path, out: Path, *more: str) -> tuple[Result, list[str]]:
    listener = Listener()
    command = (sys.executable, str(FAKE), fault, *more)
    result = build(config(raw, out, shard_size=12, device="cuda"), listener, command)
    return result, [line for line in listener.lines if "cuda" in line]


@pytest.mark.slow
def test_a_device_changes_no_byte_and_is_used(
    raw: Path, by_cpu: dict[str, str], tmp_path: Path
) -> None:
    result, notices = build_on("honest", raw, tmp_path / "out")
    assert tree_of(tmp_path / "out") == by_cpu
    assert not notices
    counts = result.local["device"]
    assert counts["asked"] == "cuda"
    assert counts["device"] > 10
    assert 0 < counts["checked"] < counts["device"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"honest"}))
def test_a_device_that_is_wrong_in_any_way_changes_no_byte(
    fault: str, raw: Path, by_cpu: dict[str, str], tmp_path: Path
) -> None:
    result, _ = build_on(fault, raw, tmp_path / "out")
    assert tree_of(tmp_path / "out") == by_cpu
    assert result.local["device"].get("device", 0) == 0


@pytest.mark.slow
def test_one_wrong_codec_ends_only_its_own_kind_and_is_told_once(
    raw: Path, by_cpu: dict[str, str], tmp_path: Path
) -> None:
    result, notices = build_on("off-by-one", raw, tmp_path / "out", "JPEG")
    assert tree_of(tmp_path / "out") == by_cpu
    assert result.local["device"]["device"] > 0
    (line,) = notices
    assert "GPU and CPU disagree on a JPEG Lossless image of 14 bits" in line


@pytest.mark.slow
def test_without_a_gpu_one_line_says_so_and_the_cpu_builds(
    raw: Path, by_cpu: dict[str, str], tmp_path: Path
) -> None:
    result, notices = build_on("absent", raw, tmp_path / "out")
    assert tree_of(tmp_path / "out") == by_cpu
    assert notices == ["--device cuda: no GPU found; the CPU decodes everything"]
    assert result.exit_code == 0


@pytest.mark.slow
def test_a_device_that_kills_its_process_loses_no_record(
    raw: Path, by_cpu: dict[str, str], tmp_path: Path
) -> None:
    result, notices = build_on("dies", raw, tmp_path / "out")
    assert tree_of(tmp_path / "out") == by_cpu
    assert result.exit_code == 0
    assert notices == [
        f"--device cuda: {MOST_DEVICE_DEATHS} processes died while using it; "
        "the CPU decodes from here on"
    ]


def test_a_machine_without_the_packages_builds_and_says_what_to_install(
    phantom_once: Path, built_once: Path, tmp_path: Path
) -> None:
    listener = Listener()
    build(config(phantom_once, tmp_path / "out", device="cuda"), listener)
    assert tree_of(tmp_path / "out") == tree_of(built_once)
    (line,) = [line for line in listener.lines if "cuda" in line]
    assert "mammoprep[gpu]" in line
    assert "the CPU decodes everything" in line


def test_a_device_and_fast_are_refused_together(phantom_once: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one of the two"):
        config(phantom_once, tmp_path / "out", device="cuda", decode="fast")
