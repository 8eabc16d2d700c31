"""Frames decoded ahead on a device: what is asked of it, what is believed."""

import numpy as np
import pytest
from dicoms import (
    HTJ2K,
    JPEG2000,
    JPEG2000_LOSSY,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    RECORD,
    breast,
    dicom,
)
from fake_gpu import FAULTS, FakeDevice, honest, on_device

from mammoprep.decode import gpu
from mammoprep.decode.ahead import Ahead, kind_of, open_ahead
from mammoprep.decode.codecs import Frame, decode
from mammoprep.decode.dicom import frame_of


def frame(syntax: str, bits: int = 12, seed: int = 0, **attributes: object) -> Frame:
    words = breast(bits)
    noise = np.random.default_rng(seed).integers(0, 3, words.shape).astype(words.dtype)
    return frame_of(dicom(np.maximum(words, 3) - noise, bits, syntax=syntax, **attributes), RECORD)


def test_only_lossless_unsigned_frames_without_overlays_go_to_a_device() -> None:
    for syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1, JPEG2000, HTJ2K):
        assert kind_of(frame(syntax)) is not None
    for syntax in (JPEG2000_LOSSY, JPEG_LS):
        assert kind_of(frame(syntax)) is None


def test_words_are_those_of_the_cpu_and_are_handed_out_once() -> None:
    frames = [frame(JPEG2000, seed=seed) for seed in range(5)]
    ahead = Ahead(FakeDevice())
    ahead.prepare(frames)
    for one in reversed(frames):
        words = ahead.take(one)
        assert words is not None
        np.testing.assert_array_equal(words.host(), decode(one).stored)
        assert ahead.take(one) is None


def test_every_batch_has_one_frame_checked_and_every_new_kind() -> None:
    checked = []
    ahead = Ahead(FakeDevice())
    for batch in range(4):
        ahead.prepare([frame(JPEG2000, seed=8 * batch + place) for place in range(4)])
        checked.append(ahead.report()["device"]["checked"])
    ahead.prepare([frame(JPEG2000), frame(JPEG_LOSSLESS), frame(JPEG2000, bits=8)])
    assert checked == [1, 1, 1, 1]
    assert ahead.report()["device"]["checked"] == 2


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"honest"}))
def test_nothing_of_a_wrong_batch_is_handed_out(fault: str) -> None:
    frames = [frame(JPEG_LOSSLESS, seed=seed) for seed in range(4)]
    ahead = Ahead(FakeDevice(FAULTS[fault]))
    ahead.prepare(frames)
    assert [ahead.take(one) for one in frames] == [None] * 4


def test_a_kind_once_wrong_is_not_asked_for_again() -> None:
    def wrong_jpeg(data: bytes) -> np.ndarray | None:
        return FAULTS["off-by-one"](data) if data.startswith(b"\xff\xd8") else honest(data)

    device = FakeDevice(wrong_jpeg)
    ahead = Ahead(device)
    ahead.prepare([frame(JPEG_LOSSLESS), frame(JPEG2000)])
    assert ahead.take(frame(JPEG2000)) is not None
    ahead.prepare([frame(JPEG_LOSSLESS, seed=1), frame(JPEG2000, seed=1)])
    assert device.batches == [2, 1]
    assert len(ahead.report()["notices"]) == 1


def test_a_device_that_fails_as_a_whole_is_left_alone() -> None:
    device = FakeDevice(FAULTS["broken"])
    ahead = Ahead(device)
    for seed in range(3):
        ahead.prepare([frame(JPEG2000, seed=seed)])
    assert device.batches == [1]
    assert ahead.report()["notices"] == [
        "--device cuda: the bus fell off; the CPU decodes from here on"
    ]


def test_a_frame_that_the_cpu_refuses_says_nothing_about_the_device() -> None:
    good = frame(JPEG2000)
    damaged = Frame(good.data[:-40], good.pixels, good.precision)
    ahead = Ahead(FakeDevice(lambda data: honest(good.data)))
    ahead.prepare([damaged, good])
    assert not ahead.report()["notices"]


def test_missing_packages_are_named_with_the_command_that_installs_them() -> None:
    if None not in gpu.versions().values():
        pytest.skip("the GPU packages are installed")
    (line,) = open_ahead().report()["notices"]
    assert "nvidia-nvimgcodec-cu13" in line
    assert "pip install 'mammoprep[gpu]'" in line


@pytest.mark.parametrize("shape", [(64, 64), (65, 71), (200, 130), (17, 300)])
@pytest.mark.parametrize("step", [2, 4, 16])
@pytest.mark.parametrize("bits", [8, 16])
def test_block_means_on_a_device_are_those_of_the_cpu(
    shape: tuple[int, int], step: int, bits: int
) -> None:
    from mammoprep.decode._levels import block_means

    kind = np.uint8 if bits == 8 else np.uint16
    words = np.random.default_rng(step).integers(0, 1 << bits, shape).astype(kind)
    found = on_device(words).block_means(step)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, block_means(words, step))
